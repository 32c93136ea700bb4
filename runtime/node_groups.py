"""Node groups of the EKS side: what a stack file says of one, what nodes hold, and which models go there."""

import math
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from runtime.capacity import PodSize, memory_fit, pod_size
from runtime.instances import INSTANCES, RECORDED, Capacity, InstanceType, known_instance
from runtime.model import ContradictionError, Mistake, ModelSpec, Spec, written_as
from runtime.pricing import price_of
from runtime.quantities import gib

# Label of a group's nodes, by which the pods of a model find their group and no other.
NODE_GROUP_LABEL = "spillway.dev/node-group"
# Kubernetes resource of Elastic Fabric Adapters, as AWS' device plugin calls it.
EFA_RESOURCE = "vpc.amazonaws.com/efa"

_GROUP_NAME = r"^[a-z]([-a-z0-9]{0,28}[a-z0-9])?$"
_ZONE = r"^[a-z]{2}(-[a-z]+)+-[0-9][a-z]$"
_RESERVATION = r"^cr-[0-9a-f]{8,17}$"

InstanceTypeName = Annotated[str, AfterValidator(known_instance)]
ZoneName = Annotated[
    str,
    StringConstraints(pattern=_ZONE),
    written_as(_ZONE, "an availability zone", "us-east-1a"),
]
GroupName = Annotated[
    str,
    StringConstraints(pattern=_GROUP_NAME),
    written_as(_GROUP_NAME, "1 to 30 lower-case letters, digits and '-', starting with a letter"),
]
ReservationId = Annotated[
    str,
    StringConstraints(pattern=_RESERVATION),
    written_as(_RESERVATION, "the id of a capacity reservation", "cr-0123456789abcdef0"),
]


class NodeGroupSpec(Spec):
    """GPU nodes of one kind, none at rest. The node autoscaler starts and stops them, up to `max`."""

    name: GroupName = Field(description="Name of the group.")
    instance_types: tuple[InstanceTypeName, ...] = Field(
        min_length=1,
        description="EC2 types of its nodes, with the same accelerator and number of devices. Several help "
        "spot nodes to be found.",
    )
    min: int = Field(
        default=0, ge=0, le=1000, description="Nodes that always run, and are always paid; 0 is the point."
    )
    max: int = Field(
        ge=1, le=1000, description="Nodes at most. Times their price, this is the hard limit of the spending."
    )
    capacity: Capacity = Field(
        default="onDemand",
        description="How nodes are bought. `capacityBlock` uses a block that was bought before; Spillway "
        "buys none.",
    )
    reservation_id: ReservationId | None = Field(
        default=None, description="The capacity block's reservation, with `capacity: capacityBlock`."
    )
    zones: tuple[ZoneName, ...] = Field(
        default=(), description="Availability zones of its nodes; without it all of the network's."
    )
    disk_gib: int = Field(
        default=200, ge=50, le=16_000, description="Encrypted gp3 volume of a node, for images and caches."
    )
    efa: bool = Field(
        default=False,
        description="Elastic Fabric Adapters and a placement group, for copies that span nodes. NCCL uses "
        "them only if the serving image has AWS' OFI plugin (`aws-ofi-nccl`); rayproject/ray-llm has none.",
    )
    usd_per_hour: float | None = Field(
        default=None,
        gt=0,
        le=10_000,
        description="What one node costs you per hour, where there is no list price or yours is another.",
    )

    @field_validator("instance_types")
    @classmethod
    def _no_processors(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name in INSTANCES and not INSTANCES[name].gpus:
                raise ValueError(f"{name} has no GPU, and nodeGroups are for models; name a type with GPUs")
        return value

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ContradictionError("min", f"is above max {self.max}; lower min or raise max")
        return self

    @model_validator(mode="after")
    def _alike(self) -> Self:
        first, *others = (INSTANCES[name] for name in self.instance_types)
        for index, other in enumerate(others, 1):
            if (other.accelerator, other.gpus) != (first.accelerator, first.gpus):
                raise ContradictionError(
                    f"instanceTypes.{index}",
                    f"has {other.gpus} x {other.accelerator}, and {first.name} has {first.gpus} x "
                    f"{first.accelerator}; give each kind a group of its own",
                )
        return self

    @model_validator(mode="after")
    def _reserved(self) -> Self:
        block = self.capacity == "capacityBlock"
        if block and self.reservation_id is None:
            raise ContradictionError(
                "reservationId",
                "is missing, and capacity is capacityBlock; buy the block first (it is paid up front) and "
                "name its reservation",
            )
        if not block and self.reservation_id is not None:
            raise ContradictionError(
                "reservationId", f"goes with capacity capacityBlock, not with {self.capacity}; remove it"
            )
        return self

    @model_validator(mode="after")
    def _one_type_of_a_block(self) -> Self:
        if self.capacity == "capacityBlock" and len(self.instance_types) > 1:
            raise ContradictionError(
                "instanceTypes", "are several, and a capacity block has one; name that one"
            )
        return self

    @model_validator(mode="after")
    def _fabric(self) -> Self:
        if self.efa:
            for index, name in enumerate(self.instance_types):
                if not INSTANCES[name].efa_cards:
                    raise ContradictionError(
                        f"instanceTypes.{index}",
                        "has no Elastic Fabric Adapter, and efa is true; take a larger size or remove efa",
                    )
        return self

    @model_validator(mode="after")
    def _close_together(self) -> Self:
        if (self.efa or self.capacity == "capacityBlock") and len(self.zones) != 1:
            why = "efa is true" if self.efa else "a capacity block is in one zone"
            raise ContradictionError(
                "zones", f"names {len(self.zones) or 'no'} zones, and {why}; name exactly one"
            )
        return self

    @property
    def instances(self) -> tuple[InstanceType, ...]:
        """The rows of its instance types."""
        return tuple(INSTANCES[name] for name in self.instance_types)

    @property
    def accelerator(self) -> str:
        """Row of `runtime.accelerators` of its devices."""
        return self.instances[0].accelerator

    @property
    def gpus(self) -> int:
        """Devices of one node."""
        return self.instances[0].gpus

    @property
    def efa_cards(self) -> int:
        """Elastic Fabric Adapters of each of its nodes; 0 without a fabric."""
        return min(instance.efa_cards for instance in self.instances) if self.efa else 0

    def adapters_per_pod(self, model: ModelSpec) -> int:
        """Adapters that one pod of a model takes: its share of a node's, if its copies span nodes."""
        if model.pipeline_parallel == 1 or not self.efa:
            return 0
        return max(1, self.efa_cards * model.tensor_parallel // self.gpus)

    @property
    def room(self) -> PodSize:
        """What pods may ask for on the smallest of its nodes."""
        return PodSize(
            self.gpus,
            min(instance.allocatable_bytes for instance in self.instances),
            min(instance.allocatable_milli_cpus for instance in self.instances),
        )

    def node_price(self, region: str) -> Decimal | None:
        """USD per hour of the dearest of its nodes, on demand also where they are spot; None if unpriced."""
        if self.usd_per_hour is not None:
            return Decimal(str(self.usd_per_hour))
        prices = [price_of(name, region).usd_per_hour for name in self.instance_types]
        known = [price for price in prices if price is not None]
        return max(known) if len(known) == len(prices) else None

    def nodes_for(self, model: ModelSpec, copies: int) -> int | None:
        """Nodes that so many copies of a model fill, or None where a node cannot hold one of its pods.

        A model's pods share nodes with each other, and copies over several pods need a fabric.
        """
        each = self.pods_per_node(model)
        if each is None or (model.pipeline_parallel > 1 and not self.efa):
            return None
        return math.ceil(copies * model.pipeline_parallel / each)

    def pods_per_node(self, model: ModelSpec) -> int | None:
        """Pods of a model that fit one node, by devices, memory and CPU; None if not even one does."""
        pod = pod_size(model)
        if model.accelerator != self.accelerator or not pod.fits(self.room):
            return None
        adapters = self.adapters_per_pod(model)
        return min(
            self.room.devices // pod.devices,
            self.room.memory // pod.memory,
            self.room.milli_cpus // pod.milli_cpus,
            *([self.efa_cards // adapters] if adapters else []),
        )


def group_of(model: ModelSpec, groups: Iterable[NodeGroupSpec], region: str) -> NodeGroupSpec | None:
    """The group that serves a model of the cloud side: of those that hold it, the one with the cheapest copy.

    Args:
        model: `ModelSpec.in_cloud` of a model.
        groups: All groups; the first of equals wins.
        region: Where they are, for the price.
    """
    fitting = [
        (group, nodes)
        for group in groups
        if (nodes := group.nodes_for(model, model.replicas.max)) is not None and nodes <= group.max
    ]
    # Unpriced groups come last.
    return min(
        (group for group, _ in fitting),
        key=lambda group: _share_price(group, model, region),
        default=None,
    )


def _share_price(group: NodeGroupSpec, model: ModelSpec, region: str) -> Decimal:
    price = group.node_price(region)
    if price is None:
        return Decimal("Infinity")
    return price * (group.nodes_for(model, model.replicas.max) or 0)


def region_mistakes(groups: Sequence[NodeGroupSpec], region: str) -> Iterator[Mistake]:
    """Types that the region does not offer, and prices that are not known; paths start at the groups."""
    for index, group in enumerate(groups):
        for place, instance in enumerate(group.instances):
            yield from instance_mistakes((index, "instanceTypes", place), instance, region)
        if group.node_price(region) is None and all(region in one.regions for one in group.instances):
            yield Mistake(
                (index, "usdPerHour"),
                f"is missing, and there is no list price of {' and '.join(group.instance_types)} in "
                f"{region}, so no ceiling could be kept; give what one node costs per hour",
            )


def instance_mistakes(path: tuple[str | int, ...], instance: InstanceType, region: str) -> Iterator[Mistake]:
    """Whether a region offers an instance type."""
    if region not in instance.regions:
        yield Mistake(
            path,
            f"is not offered in {region} by the table that Spillway has ({RECORDED}), but in "
            f"{', '.join(sorted(instance.regions))}; take another type or another region",
        )


def placement_mistakes(
    models: Sequence[ModelSpec], groups: Sequence[NodeGroupSpec], region: str
) -> Iterator[Mistake]:
    """Models that no node group can hold, with the nearest reason; paths start at the platform's settings."""
    for index, model in enumerate(models):
        there = model.in_cloud
        if there is None or there.profile.kubernetes_resource != "nvidia.com/gpu":
            continue  # what is no NVIDIA device is told by the model itself
        path = ("models", index, "spill")
        yield from _memory_mistakes(path, there)
        if group_of(there, groups, region) is None:
            yield _unplaced(path, there, groups)


def _memory_mistakes(path: tuple[str | int, ...], model: ModelSpec) -> Iterator[Mistake]:
    fit = memory_fit(model)
    if fit is None or fit.sequences > 0:
        return
    devices = f"{model.accelerators_per_copy} x {model.accelerator} ({model.profile.memory_gib} GiB each)"
    yield Mistake(
        path,
        f"weights of {gib(fit.weights)} and one request of contextLength {model.context_length} "
        f"({gib(fit.sequence)}) do not fit {gib(fit.usable)} of {devices}; raise spill.tensorParallel, or "
        "take a larger spill.accelerator",
    )


def _unplaced(path: tuple[str | int, ...], model: ModelSpec, groups: Sequence[NodeGroupSpec]) -> Mistake:
    """Why no group holds a model: the first requirement that none of them meets."""
    alike = [group for group in groups if group.accelerator == model.accelerator]
    if not alike:
        listed = ", ".join(dict.fromkeys(group.accelerator for group in groups))
        return Mistake(
            (*path, "accelerator"),
            f"no node group has {model.accelerator}, and there are some with {listed}; name one of those, or "
            "add a group with it to cloud.nodeGroups",
        )
    most = max(group.gpus for group in alike)
    if model.tensor_parallel > most:
        return Mistake(
            (*path, "tensorParallel"),
            f"a pod takes {model.tensor_parallel} devices, and a node with {model.accelerator} has {most} at "
            "most; lower it, or name a larger instance type in cloud.nodeGroups",
        )
    pod = pod_size(model)
    roomy = [group for group in alike if pod.fits(group.room)]
    if not roomy:
        rooms = "; or ".join(group.room.words() for group in alike)
        return Mistake(
            (*path, "worker"),
            f"a pod takes {pod.words()}, and the nodes with {model.accelerator} have {rooms}; lower it, or "
            "name a larger instance type in cloud.nodeGroups",
        )
    if model.pipeline_parallel > 1 and not any(group.efa for group in roomy):
        names = ", ".join(group.name for group in roomy)
        return Mistake(
            (*path, "pipelineParallel"),
            f"spreads a copy over {model.pipeline_parallel} nodes, and node group {names} has no "
            "fabric; set efa there, or set pipelineParallel to 1",
        )
    needs = {
        group: nodes for group in roomy if (nodes := group.nodes_for(model, model.replicas.max)) is not None
    }
    group, nodes = min(needs.items(), key=lambda item: item[1] - item[0].max)
    return Mistake(
        (*path, "maxReplicas"),
        f"needs {nodes} nodes of node group {group.name}, of which there are {group.max} at most; lower it, "
        f"or raise max of {group.name} to {nodes}",
    )
