"""What Kubernetes objects cost: accelerators on-prem by the hour; on EKS, load balancers and volumes.

Pods on EKS cost nothing beside their nodes, which are billed as node groups. On-prem a machine costs its
owner by the accelerator: the rate is `cost.onPremUsdPerGpuHour` of the stack file.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Final

from runtime.accelerators import ACCELERATORS
from runtime.cost.amounts import NOTHING, Band, Charge, Entry, Free
from runtime.cost.billing import priced
from runtime.cost.inventory import Inventory, mapping_at, number_at, objects_at, value_at
from runtime.pricing import CLASSIC_LOAD_BALANCER, GP3_GIB, LOAD_BALANCER, price_of
from runtime.quantities import GIB, memory_bytes
from runtime.stack_resources import StackResource

_RESOURCES: Final = frozenset(
    row.kubernetes_resource for row in ACCELERATORS.values() if row.kubernetes_resource is not None
)
# Upgrade strategies of a RayService that start no second cluster (KubeRay 1.6, RayServiceUpgradeType).
_IN_PLACE: Final = frozenset({"None"})
_KIND_ANNOTATION: Final = "service.beta.kubernetes.io/aws-load-balancer-type"
_ON_NODES: Final = "runs on nodes, which are billed"


def ray_service(resource: StackResource, stack: Inventory) -> Iterator[Entry]:
    """Accelerators of a RayService's workers; an upgrade starts a second cluster beside the first."""
    strategy = value_at(resource.inputs, "spec.upgradeStrategy.type")
    yield from _ray(resource, stack, "spec.rayClusterConfig", twice=strategy not in _IN_PLACE)


def ray_cluster(resource: StackResource, stack: Inventory) -> Iterator[Entry]:
    """Accelerators of a RayCluster's workers."""
    yield from _ray(resource, stack, "spec", twice=False)


def deployment(resource: StackResource, stack: Inventory) -> Iterator[Entry]:
    """Accelerators of a Deployment's pods, with those that a rolling update adds."""
    template = mapping_at(resource.inputs, "spec.template")
    pods = number_at(resource.inputs, "spec.replicas", default=1)
    most = pods + _surge(resource.inputs, pods)
    yield from _accelerators(
        resource, stack, [(template, Band(pods, pods, most))], "a rolling update adds pods"
    )


def other_workload(resource: StackResource, stack: Inventory) -> Iterator[Entry]:
    """Pods of a kind whose number is not counted here: free without accelerators, unpriced with any."""
    spec = mapping_at(resource.inputs, "spec")
    template = mapping_at(spec, "template") or {"spec": spec}
    for entry in _accelerators(resource, stack, [(template, Band.same(1))], ""):
        if isinstance(entry, Charge):
            kind = resource.type.rpartition(":")[2]
            why = f"the pods of a {kind} are not counted here; serve models by other kinds"
            yield dataclasses.replace(entry, usd_per_hour=None, why_unpriced=why)
        else:
            yield entry


def service(resource: StackResource, stack: Inventory) -> Iterator[Entry]:
    """A Service: on EKS, type LoadBalancer makes AWS start a load balancer outside of Pulumi's state."""
    if value_at(resource.inputs, "spec.type") != "LoadBalancer":
        yield Free("an address inside the cluster")
    elif stack.place_of(resource) == "on-prem":
        yield Free("the site's own load balancer")
    else:
        annotations = mapping_at(resource.inputs, "metadata.annotations")
        network = annotations.get(_KIND_ANNOTATION) in ("nlb", "nlb-ip", "external")
        item = LOAD_BALANCER if network else CLASSIC_LOAD_BALANCER
        yield priced(resource, "EKS", price_of(item, stack.region_of(resource)), Band.same(1))


def volume_claim(resource: StackResource, stack: Inventory) -> Iterator[Entry]:
    """A claim: on EKS, one that names no volume makes the storage class start a disk."""
    if stack.place_of(resource) == "on-prem":
        yield Free("the site's own storage")
    elif value_at(resource.inputs, "spec.volumeName"):
        yield Free("takes a volume that is there")
    else:
        size = memory_bytes(str(value_at(resource.inputs, "spec.resources.requests.storage") or "0"))
        price = price_of(GP3_GIB, stack.region_of(resource))
        yield priced(
            resource,
            "EKS",
            price,
            Band.same(Decimal(size) / GIB),
            notes=["priced as gp3, whatever its storage class"],
        )


def _ray(resource: StackResource, stack: Inventory, config: str, *, twice: bool) -> Iterator[Entry]:
    cluster = mapping_at(resource.inputs, config)
    head = mapping_at(cluster, "headGroupSpec.template")
    surge = Decimal(2 if twice else 1)
    groups = [(head, Band(Decimal(1), Decimal(1), surge))]
    for group in objects_at(cluster, "workerGroupSpecs"):
        hosts = number_at(group, "numOfHosts", default=1)
        least = number_at(group, "minReplicas", default=0)
        desired = number_at(group, "replicas", default=int(least))
        most = None if group.get("maxReplicas") is None else number_at(group, "maxReplicas") * hosts * surge
        groups.append((mapping_at(group, "template"), Band(least * hosts, max(least, desired) * hosts, most)))
    note = "an upgrade starts a second cluster beside the first" if twice else ""
    yield from _accelerators(resource, stack, groups, note)


def _accelerators(
    resource: StackResource,
    stack: Inventory,
    groups: list[tuple[Mapping[str, object], Band]],
    note: str,
) -> Iterator[Entry]:
    """Accelerators that groups of pods ask for, by kind."""
    if stack.place_of(resource) == "EKS":
        yield Free(_ON_NODES)
        return
    counts: dict[str, Band] = {}
    for template, pods in groups:
        for name, each in _devices(template).items():
            kind = _kind(template, name, resource, stack)
            counts[kind] = counts.get(kind, NOTHING) + pods * Band.same(each)
    if not counts:
        yield Free("asks for no accelerator; on-prem processors have no rate")
    for kind, count in counts.items():
        notes = [note] if note and count.floor != count.ceiling else []
        yield _on_prem(resource, stack, kind, count, notes)


def _on_prem(resource: StackResource, stack: Inventory, kind: str, count: Band, notes: list[str]) -> Charge:
    parent = stack.parent_of(resource)
    rate = None if parent is None else parent.inputs.get("usdPerGpuHour")
    known = isinstance(rate, str)
    return Charge(
        urn=resource.urn,
        name=resource.name,
        type=resource.type,
        place="on-prem",
        item=kind,
        count=count,
        usd_per_hour=Band.same(Decimal(str(rate))) if known else None,
        why_unpriced=""
        if known
        else f"the stack file has no rate of it; set cost.onPremUsdPerGpuHour.{kind}",
        accelerator=kind,
        devices=Band.same(1),
        notes=(*notes, *(["internal rate of the stack file"] if known else [])),
    )


def _devices(template: Mapping[str, object]) -> dict[str, Decimal]:
    """Extended resource to how many of it one pod asks for; limits and requests of it must be equal."""
    found: dict[str, Decimal] = {}
    for kind in ("containers", "initContainers"):
        for container in objects_at(template, f"spec.{kind}"):
            limits = mapping_at(container, "resources.limits")
            for name in _RESOURCES & limits.keys():
                count = number_at({"limit": limits[name]}, "limit")
                # Init containers run before the others, so that the larger of the two counts.
                found[name] = (
                    max(found.get(name, Decimal(0)), count)
                    if "init" in kind
                    else (found.get(name, Decimal(0)) + count)
                )
    return found


def _kind(template: Mapping[str, object], device: str, resource: StackResource, stack: Inventory) -> str:
    """The accelerator that pods mean: by their node selector, else as their component declares it."""
    selector = mapping_at(template, "spec.nodeSelector")
    for row in ACCELERATORS.values():
        labels = row.node_labels.items()
        if row.kubernetes_resource == device and labels and labels <= selector.items():
            return row.name
    parent = stack.parent_of(resource)
    declared = None if parent is None else parent.inputs.get("accelerator")
    return declared if isinstance(declared, str) else device


def _surge(inputs: Mapping[str, object], pods: Decimal) -> Decimal:
    """Pods above the number while a rolling update goes on; Kubernetes' default is a quarter, rounded up."""
    if value_at(inputs, "spec.strategy.type") == "Recreate":
        return Decimal(0)
    given = value_at(inputs, "spec.strategy.rollingUpdate.maxSurge")
    text = "25%" if given is None else str(given)
    if text.endswith("%"):
        return Decimal(math.ceil(pods * Decimal(text[:-1]) / 100))
    return Decimal(text)
