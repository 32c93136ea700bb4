"""What the stand-in for the cluster autoscaler says of its groups, as the real one does in its ConfigMap.

`cluster-autoscaler-status` of cluster-autoscaler 1.30 and newer holds YAML; here are the keys of it that say
how many nodes the cloud was asked for, and whether launches fail.
"""

from collections.abc import Collection, Sequence

import yaml

from rehearsal.eks.node_autoscaler import Group
from rehearsal.site.api import Json

# The real one waits five minutes after the first failure, and up to thirty.
BACK_OFF_S = 5.0


class BackOff:
    """Which groups are left alone for a while because a launch failed."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._until: dict[str, float] = {}

    def groups(self, groups: Sequence[Group], now: float) -> frozenset[str]:
        """Names of the groups that are left alone now.

        Args:
            groups: All groups, with the launches that failed.
            now: Seconds of a steady clock.
        """
        for group in groups:
            if group.failed - self._seen:
                self._until[group.name] = now + BACK_OFF_S
            self._seen |= group.failed
        return frozenset(name for name, until in self._until.items() if now < until)


def status(groups: Sequence[Group], backed_off: Collection[str]) -> Json:
    """The ConfigMap.

    Args:
        groups: All groups that the autoscaler may touch.
        backed_off: Names of those that are left alone.
    """
    told = [
        {
            "name": group.name,
            "health": {
                "status": "Healthy",
                "nodeCounts": {"registered": {"total": len(group.existing), "ready": len(group.existing)}},
                "cloudProviderTarget": group.desired,
                "minSize": group.least,
                "maxSize": group.most,
            },
            "scaleUp": {"status": _activity(group, backed_off)},
        }
        for group in groups
        if group.enabled
    ]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "cluster-autoscaler-status", "namespace": "kube-system"},
        "data": {"status": yaml.safe_dump({"autoscalerStatus": "Running", "nodeGroups": told})},
    }


def _activity(group: Group, backed_off: Collection[str]) -> str:
    if group.name in backed_off:
        return "Backoff"
    return "InProgress" if group.desired > len(group.existing) else "NoActivity"
