"""Fleet: what the burst can use, fixed until the next `pulumi up`: node groups, their prices, and models."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, kw_only=True)
class NodeGroup:
    """One managed node group of GPU nodes.

    Attributes:
        name: Its name, the key in `Observation.groups`.
        max_nodes: The group's own maximum, which Pulumi owns.
        usd_per_hour: On-demand price of one node.
        devices: Accelerators of one node.
    """

    name: str
    max_nodes: int
    usd_per_hour: Decimal
    devices: int

    def __post_init__(self) -> None:
        if self.usd_per_hour <= 0:
            raise ValueError(f"node group {self.name} has the price {self.usd_per_hour}; it must be above 0")
        if self.devices < 1 or self.max_nodes < 0:
            raise ValueError(f"node group {self.name} needs at least 1 device a node and 0 nodes or more")


@dataclass(frozen=True, kw_only=True)
class BurstModel:
    """One model that may spill.

    Attributes:
        name: Its name, the key in `Observation.models`.
        group: Name of the node group that its replicas run on.
        max_replicas: Replicas at most (`models[].spill.maxReplicas`).
        slots: Requests that one replica works on at a time (`maxSequences`).
        queue: Requests that wait on either side when all its copies are full (`maxQueuedRequests`).
        devices_per_pod: Accelerators of one of its pods (`tensorParallel`).
        pods_per_replica: Pods of one replica (`pipelineParallel`).
        surge: 2 where an upgrade of the EKS side may run every replica twice without asking the
            controller: nodes for both are then always paid from the ceiling. 1 elsewhere.
    """

    name: str
    group: str
    max_replicas: int
    slots: int
    queue: int = 0
    devices_per_pod: int = 1
    pods_per_replica: int = 1
    surge: int = 1


@dataclass(frozen=True)
class Fleet:
    """All node groups and models of the burst, by name.

    Raises:
        ValueError: A model names a group that is not there, or one whose nodes cannot hold its pod.
    """

    groups: Mapping[str, NodeGroup]
    models: Mapping[str, BurstModel]

    def __post_init__(self) -> None:
        for model in self.models.values():
            group = self.groups.get(model.group)
            if group is None:
                raise ValueError(
                    f"model {model.name} names the node group {model.group}; there are: "
                    f"{', '.join(sorted(self.groups)) or 'none'}"
                )
            if model.devices_per_pod > group.devices:
                raise ValueError(
                    f"a pod of model {model.name} needs {model.devices_per_pod} devices, and a node of "
                    f"{group.name} has {group.devices}"
                )

    def pods_per_node(self, model: BurstModel) -> int:
        """Pods of a model that fit one node of its group."""
        return self.groups[model.group].devices // model.devices_per_pod
