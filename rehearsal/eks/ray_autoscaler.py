"""A stand-in for Ray's autoscaler: the copies that Serve wants become worker pods of the Ray cluster.

The real one is a container of the head pod, which on a simulated node does not run. Like it, this one sets
only `replicas` of the worker groups, within their bounds, and lets an idle worker go after a while.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rehearsal.site.api import Json

# autoscalerOptions.idleTimeoutSeconds where it is not set (KubeRay 1.6.2).
IDLE_S = 60.0


@dataclass(frozen=True)
class Wish:
    """What one Ray cluster should have.

    Attributes:
        replicas: Pods of each worker group, in the order of the groups.
        idle_since: When fewer pods were wanted than there are, for the first time; None if they are not.
    """

    replicas: tuple[int, ...]
    idle_since: float | None


def wish(cluster: Json, workers: int, idle_since: float | None, now: float, hurry: float = 1.0) -> Wish:
    """Decides once for one Ray cluster, whose copies all run in its first worker group.

    Args:
        cluster: The RayCluster.
        workers: Pods that the copies take which Serve wants.
        idle_since: What the last decision said.
        now: Seconds of any steady clock.
        hurry: How many times faster than its settings say it lets go.
    """
    groups: list[Json] = cluster["spec"]["workerGroupSpecs"]
    now_set = tuple(int(group.get("replicas") or 0) for group in groups)
    wanted = tuple(
        min(max(workers if place == 0 else 0, int(group["minReplicas"])), int(group["maxReplicas"]))
        for place, group in enumerate(groups)
    )
    if wanted >= now_set:
        return Wish(wanted, None)
    since = now if idle_since is None else idle_since
    options: Mapping[str, float] = cluster["spec"].get("autoscalerOptions") or {}
    if now - since >= float(options.get("idleTimeoutSeconds") or IDLE_S) / hurry:
        return Wish(wanted, None)
    return Wish(now_set, since)
