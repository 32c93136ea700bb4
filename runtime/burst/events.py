"""Tells Kubernetes what the burst controller did, as Events beside its ConfigMap."""

from datetime import UTC, datetime
from uuid import uuid4

from runtime.burst.leader import Cluster
from runtime.cluster import ClusterError, object_path

_COMPONENT = "burst-controller"
# What Kubernetes allows an Event's message.
_MOST = 1024


class Events:
    """Writes Events about one ConfigMap. Nothing depends on them, so a failure is only counted.

    Args:
        cluster: Where.
        namespace: Namespace of the ConfigMap.
        name: Its name.
        identity: Who writes.
    """

    def __init__(self, cluster: Cluster, namespace: str, name: str, identity: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self.lost = 0

    def tell(self, reason: str, message: str, *, bad: bool = False) -> None:
        """Writes one Event.

        Args:
            reason: One word in camel case.
            message: One sentence.
            bad: Whether somebody should look.
        """
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{self._name}.{uuid4().hex[:16]}", "namespace": self._namespace},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "name": self._name,
                "namespace": self._namespace,
            },
            "type": "Warning" if bad else "Normal",
            "reason": reason,
            "message": message[:_MOST],
            "source": {"component": _COMPONENT, "host": self._identity},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            self._cluster.write("POST", object_path("v1", "Event", self._namespace), event)
        except ClusterError:
            self.lost += 1
