"""Finds the machines that a resource may start: node groups of all kinds, endpoints, instances.

Pods ask for accelerators (`policies.workloads`); these are the machines that have them, and the bill.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from policies.reading import Node, Unreadable, read
from policies.rule import Resource
from policies.workloads import Factor, quantity
from runtime.instances import INSTANCES, InstanceType
from runtime.sagemaker.instances import ENDPOINT_TYPES, facts_of

NODE_GROUP: Final = "aws:eks/nodeGroup:NodeGroup"
AUTO_SCALING_GROUP: Final = "aws:autoscaling/group:Group"
INSTANCE: Final = "aws:ec2/instance:Instance"
ENDPOINT: Final = "aws:sagemaker/endpointConfiguration:EndpointConfiguration"
KARPENTER_POOL: Final = "kubernetes:karpenter.sh/v1:NodePool"

_INSTANCE_TYPE: Final = "node.kubernetes.io/instance-type"
_CAPACITY_TYPE: Final = "karpenter.sh/capacity-type"


@dataclass(frozen=True, slots=True)
class NodePool:
    """Machines of one declaration.

    Attributes:
        path: The property that declares them, for messages.
        types: The instance types that they may be, as AWS names them.
        least: How many there are at rest.
        most: How many there can be; None where the bound is on accelerators, or there is none.
        accelerator_limits: The bound on accelerators, by Kubernetes resource name.
        bounded: Whether anything bounds them.
        spot: Whether all of them are Spot instances; None where it cannot be Spot.
        taints: What keeps pods off; None where pods do not come here at all.
    """

    path: str
    types: tuple[Node, ...]
    least: Factor
    most: Factor | None
    accelerator_limits: tuple[Node, ...] = ()
    bounded: bool = True
    spot: Node | None = None
    taints: Node | None = None

    def instances(self) -> list[InstanceType]:
        """The instance types that they may be.

        Raises:
            Unreadable: One is unknown, or is none of which the accelerators are known here.
        """
        if not self.types:
            raise Unreadable(
                self.path,
                "names no instance type",
                f"Name the instance types in {self.path}, so that accelerators and price are known.",
            )
        return [_instance(one) for one in self.types]

    def has_accelerators(self) -> bool:
        """Whether any of them may have accelerators; raises Unreadable as `instances`."""
        return any(instance.gpus for instance in self.instances())

    def accelerators_at_most(self) -> int:
        """Accelerators at most, of the type with the most.

        Raises:
            Unreadable: The bound is unknown, missing or no number.
        """
        each = max(instance.gpus for instance in self.instances())
        if each == 0:
            return 0
        if self.most is not None:
            return self.most.value() * each
        if not self.accelerator_limits:
            raise Unreadable(
                self.path,
                "has no limit on its accelerators",
                f'Set {self.path}.limits["nvidia.com/gpu"], which bounds how many nodes Karpenter starts.',
            )
        return int(sum(quantity(limit) for limit in self.accelerator_limits))

    def nodes_at_most(self) -> int:
        """Machines at most; raises Unreadable as `accelerators_at_most`."""
        if self.most is not None:
            return self.most.value()
        fewest = min(instance.gpus for instance in self.instances())
        if fewest == 0:
            raise Unreadable(self.path, "may start nodes without accelerators, which nothing bounds")
        return -(-self.accelerators_at_most() // fewest)


_Reader: TypeAlias = Callable[[Node], Iterator[NodePool]]


def read_node_pools(resource: Resource) -> list[NodePool] | None:
    """The machines that a resource may start; None for one that starts none.

    Raises:
        Unreadable: A property without which they cannot be listed is unknown.
    """
    reader = _READERS.get(resource.type)
    return None if reader is None else list(reader(read(resource.props)))


def _instance(node: Node) -> InstanceType:
    name = node.text()
    found = facts_of(name) if name in ENDPOINT_TYPES else INSTANCES.get(name)
    if found is None:
        raise Unreadable(
            node.path,
            "is an instance type of which Spillway knows neither accelerators nor price",
            "Take a type of the table in docs/configuration.md, or add its row to runtime/instances.py.",
        )
    return found


def _node_group(root: Node) -> Iterator[NodePool]:
    scaling = root.child("scalingConfig")
    yield NodePool(
        path=scaling.path,
        types=tuple(root.child("instanceTypes").items()),
        least=Factor(scaling.child("minSize"), None),
        most=Factor(scaling.child("maxSize"), None),
        spot=root.child("capacityType"),
        taints=root.child("taints"),
    )


def _auto_scaling_group(root: Node) -> Iterator[NodePool]:
    # A launch template is another resource, of which a rule on this one sees nothing; overrides are here.
    overrides = root.child("mixedInstancesPolicy", "launchTemplate", "overrides")
    yield NodePool(
        path=overrides.path,
        types=tuple(one.child("instanceType") for one in overrides.items()),
        least=Factor(root.child("minSize"), None),
        most=Factor(root.child("maxSize"), None),
    )


def _single(root: Node) -> Iterator[NodePool]:
    kind = root.child("instanceType")
    nothing = root.child("count")
    yield NodePool(path=kind.path, types=(kind,), least=Factor(nothing, 1), most=Factor(nothing, 1))


def _karpenter(root: Node) -> Iterator[NodePool]:
    spec = root.child("spec")
    template = spec.child("template", "spec")
    limits = spec.child("limits").entries()
    accelerators = tuple(limit for name, limit in limits.items() if "/" in name)
    yield NodePool(
        path=spec.path,
        types=_required(template, _INSTANCE_TYPE),
        least=Factor(spec.child("replicas"), 0),
        most=Factor(limits["nodes"], None) if "nodes" in limits else None,
        accelerator_limits=accelerators,
        bounded=bool(accelerators) or "nodes" in limits,
        spot=next(iter(_required(template, _CAPACITY_TYPE)), template.child("capacityType")),
        taints=template.child("taints"),
    )


def _required(template: Node, key: str) -> tuple[Node, ...]:
    return tuple(
        value
        for requirement in template.child("requirements").items()
        if requirement.child("key").text() == key and requirement.child("operator").text() == "In"
        for value in requirement.child("values").items()
    )


def _endpoint(root: Node) -> Iterator[NodePool]:
    for key in ("productionVariants", "shadowProductionVariants"):
        for variant in root.child(key).items():
            if not variant.child("serverlessConfig").is_missing:
                continue
            count, scaling = variant.child("initialInstanceCount"), variant.child("managedInstanceScaling")
            scaled = not scaling.is_missing
            yield NodePool(
                path=variant.path,
                types=(variant.child("instanceType"),),
                least=Factor(scaling.child("minInstanceCount") if scaled else count, 1),
                most=Factor(scaling.child("maxInstanceCount"), None) if scaled else Factor(count, 1),
                bounded=not scaled or not scaling.child("maxInstanceCount").is_missing,
            )


_READERS: Final[dict[str, _Reader]] = {
    NODE_GROUP: _node_group,
    AUTO_SCALING_GROUP: _auto_scaling_group,
    INSTANCE: _single,
    KARPENTER_POOL: _karpenter,
    ENDPOINT: _endpoint,
}
NODE_POOL_TYPES: Final = frozenset(_READERS)
