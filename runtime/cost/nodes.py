"""What nodes of the EKS side cost: groups, managed ones with their surge, Karpenter's pools, their disks."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Final

from runtime.cost.amounts import NOTHING, Band, Charge, Entry, total
from runtime.cost.billing import no_price, priced, unpriced
from runtime.cost.inventory import (
    Inventory,
    NotKnownError,
    items_at,
    mapping_at,
    number_at,
    objects_at,
    texts_at,
    value_at,
)
from runtime.pricing import GP3_GIB, HOURS_PER_MONTH, Price, devices_of, price_of
from runtime.quantities import GIB, memory_bytes
from runtime.stack_resources import StackResource

NODE_GROUP: Final = "aws:eks/nodeGroup:NodeGroup"
AUTO_SCALING_GROUP: Final = "aws:autoscaling/group:Group"
NODE_POOL: Final = "kubernetes:karpenter.sh/v1:NodePool"
NODE_CLASS: Final = "kubernetes:karpenter.k8s.aws/v1:EC2NodeClass"
LAUNCH_TEMPLATE: Final = "aws:ec2/launchTemplate:LaunchTemplate"
BURST_CONTROLLER: Final = "spillway:kubernetes:BurstController"

# What an update of a managed node group adds while it goes on, unless its strategy is MINIMAL: the larger of
# its maximum of unavailable nodes and twice its zones
# (docs.aws.amazon.com/eks/latest/userguide/managed-node-update-behavior.html, scale up phase).
_SURGE_PER_ZONE: Final = 2
# A node group without a disk size gets this much (docs.aws.amazon.com, CreateNodegroup, diskSize).
_DEFAULT_DISK_GIB: Final = 20


def node_group(resource: StackResource, stack: Inventory) -> Iterator[Entry]:
    """Nodes of a managed node group, on demand also where they are spot, and their disks."""
    inputs = resource.inputs
    least = number_at(inputs, "scalingConfig.minSize")
    most = number_at(inputs, "scalingConfig.maxSize")
    desired = number_at(inputs, "scalingConfig.desiredSize", default=int(least))
    types = texts_at(inputs, "instanceTypes") or ["t3.medium"]
    surge, notes = _surge(inputs)
    expected, duty = _expected(resource, stack, least, desired, most, types)
    capacity = str(value_at(inputs, "capacityType") or "ON_DEMAND")
    if capacity == "SPOT":
        notes.append("spot, priced on demand: a spot node may cost as much")
    if capacity == "CAPACITY_BLOCK":
        notes.append("a capacity block is bought up front, and paid whether nodes use it or not")
    count = Band(least, expected, most + surge)
    yield _nodes(resource, stack, types, count, [*duty, *notes])
    yield _disk(resource, stack, count)


def auto_scaling_group(resource: StackResource, stack: Inventory) -> Iterator[Entry]:
    """Machines of an Auto Scaling group of the stack's own, on demand also where they are spot."""
    inputs = resource.inputs
    least = number_at(inputs, "minSize")
    desired = number_at(inputs, "desiredCapacity", default=int(least))
    count = Band(least, desired, number_at(inputs, "maxSize"))
    mixed = mapping_at(inputs, "mixedInstancesPolicy.launchTemplate")
    specified = mapping_at(mixed, "launchTemplateSpecification") or mapping_at(inputs, "launchTemplate")
    template = _template(resource, stack, specified, "launchTemplateId" if mixed else "id")
    types = [name for one in objects_at(mixed, "overrides") if (name := str(one.get("instanceType") or ""))]
    if not types and template is not None and template.inputs.get("instanceType"):
        types = [str(value_at(template.inputs, "instanceType"))]
    if not types:
        why = "neither overrides nor a launch template of the stack name its instance types"
        yield unpriced(resource, "EKS", "machines of any type", why, count)
        return
    yield _nodes(resource, stack, types, count, [])
    yield _template_disk(resource, stack, template, count)


def node_pool(resource: StackResource, stack: Inventory) -> Iterator[Entry]:
    """Nodes that Karpenter may start: none at rest, and as many as its limits let it."""
    spec = resource.inputs
    types = _allowed_types(spec)
    if not types:
        yield unpriced(
            resource,
            "EKS",
            "nodes of any type",
            "its requirements name no instance types, so any may start; name them in "
            "node.kubernetes.io/instance-type",
            Band(Decimal(0), Decimal(0), None),
        )
        return
    most, why = _limit(spec, types)
    expected, duty = _expected(resource, stack, Decimal(0), Decimal(0), most, types)
    notes = [*duty, *([why] if why else [])]
    count = Band(Decimal(0), expected, most)
    yield _nodes(resource, stack, types, count, notes)
    node_class = str(value_at(spec, "spec.template.spec.nodeClassRef.name") or "")
    found = next((one for one in stack.of(NODE_CLASS) if _object_name(one) == node_class), None)
    gib = NOTHING
    if found is not None:
        for block in objects_at(found.inputs, "spec.blockDeviceMappings"):
            gib += Band.same(Decimal(memory_bytes(str(value_at(block, "ebs.volumeSize")))) / GIB)
    if gib.is_zero:
        why = "no EC2NodeClass of the stack says how large its disks are"
        yield unpriced(resource, "EKS", GP3_GIB, why, count)
    else:
        yield priced(resource, "EKS", price_of(GP3_GIB, stack.region_of(resource)), count * gib)


def _nodes(
    resource: StackResource, stack: Inventory, types: Sequence[str], count: Band, notes: Sequence[str]
) -> Charge:
    """The nodes themselves. At rest they may be of the cheapest type, at most of the dearest."""
    region = stack.region_of(resource)
    prices = [price_of(name, region) for name in types]
    own = _own_price(resource, stack, prices)
    item = " or ".join(types)
    kinds = [found for name in types if (found := devices_of(name)) is not None]
    counts = [found.count for found in kinds] or [Decimal(0)]
    return Charge(
        urn=resource.urn,
        name=resource.name,
        type=resource.type,
        place="EKS",
        item=item,
        count=count,
        usd_per_hour=own or _between(prices),
        why_unpriced="" if own or _between(prices) else _unpriced_types(prices),
        prices=() if own else tuple(one for one in prices if one.usd is not None),
        accelerator=" or ".join(dict.fromkeys(found.accelerator for found in kinds)),
        devices=Band(min(counts), counts[0], max(counts)),
        notes=(*notes, *(("priced by the stack's own usdPerHour",) if own else ())),
    )


def _between(prices: Sequence[Price]) -> Band | None:
    """The cheapest at rest, the first expected, the dearest at most; None if one is not known."""
    known = [usd for price in prices if (usd := price.usd_per_hour) is not None]
    return Band(min(known), known[0], max(known)) if len(known) == len(prices) else None


def _own_price(resource: StackResource, stack: Inventory, prices: Sequence[Price]) -> Band | None:
    """What the stack file says that a node costs, where that is not the list price of one of its types."""
    parent = stack.parent_of(resource)
    given = None if parent is None else parent.inputs.get("usdPerHour")
    if not isinstance(given, str) or Decimal(given) in [price.usd for price in prices]:
        return None
    return Band.same(Decimal(given))


def _unpriced_types(prices: Sequence[Price]) -> str:
    missing = [price for price in prices if price.usd_per_hour is None]
    return no_price(" and ".join(price.item for price in missing), missing[0].region)


def _surge(inputs: Mapping[str, object]) -> tuple[Decimal, list[str]]:
    """Nodes above the maximum while an update goes on."""
    if value_at(inputs, "updateConfig.updateStrategy") == "MINIMAL":
        return Decimal(0), ["an update starts no further nodes (MINIMAL)"]
    zones = len(items_at(inputs, "subnetIds"))
    surge = max(number_at(inputs, "updateConfig.maxUnavailable", default=1), Decimal(_SURGE_PER_ZONE * zones))
    return surge, [f"an update starts up to {surge:f} nodes above the maximum"]


def _expected(
    resource: StackResource,
    stack: Inventory,
    least: Decimal,
    desired: Decimal,
    most: Decimal | None,
    types: Sequence[str],
) -> tuple[Decimal, list[str]]:
    """Nodes on average: the declared hours of bursting, shared by size, or else the desired size."""
    if not any(devices_of(name) for name in types):
        return desired, []
    hours = [
        number_at(one.inputs, "burstHoursPerMonth")
        for one in stack.of(BURST_CONTROLLER)
        if one.inputs.get("burstHoursPerMonth") is not None
    ]
    if not hours or most is None:
        return desired, []
    all_rooms = total(Band.same(_room(one)) for one in (*stack.of(NODE_GROUP), *stack.of(NODE_POOL)))
    room = _room(resource)
    if not room or not all_rooms.expected:
        return desired, []
    average = hours[0] / HOURS_PER_MONTH * room / all_rooms.expected
    return min(most, least + average), [f"expected: {hours[0]:f} node-hours a month, as declared"]


def _room(resource: StackResource) -> Decimal:
    """Nodes with accelerators that a group may start beyond its least."""
    try:
        if resource.type == NODE_POOL:
            return _limit(resource.inputs, _allowed_types(resource.inputs))[0] or Decimal(0)
        if not any(devices_of(name) for name in texts_at(resource.inputs, "instanceTypes")):
            return Decimal(0)
        least = number_at(resource.inputs, "scalingConfig.minSize")
        return number_at(resource.inputs, "scalingConfig.maxSize") - least
    except NotKnownError:
        return Decimal(0)


def _allowed_types(inputs: Mapping[str, object]) -> list[str]:
    for requirement in objects_at(inputs, "spec.template.spec.requirements"):
        named = requirement.get("key") == "node.kubernetes.io/instance-type"
        if named and requirement.get("operator") == "In":
            return texts_at(requirement, "values")
    return []


def _limit(inputs: Mapping[str, object], types: Sequence[str]) -> tuple[Decimal | None, str]:
    """Nodes at most, by the limit on nodes or on devices; None and why where there is neither."""
    given = mapping_at(inputs, "spec.limits")
    found: list[Decimal] = []
    if "nodes" in given:
        found.append(number_at(given, "nodes"))
    each = [counted.count for name in types if (counted := devices_of(name)) is not None]
    devices = {key: value for key, value in given.items() if key.endswith("/gpu") or "neuron" in key}
    if devices and len(each) == len(types):
        found += [number_at({"limit": value}, "limit") // min(each) for value in devices.values()]
    if not found:
        return None, (
            "unbounded: its limits name neither nodes nor devices; set spec.limits, or only the account's "
            "quota ends it"
        )
    return min(found), ""


def _disk(resource: StackResource, stack: Inventory, count: Band) -> Charge:
    """Root volumes: those of the launch template, or else of the group itself."""
    inputs = resource.inputs
    price = price_of(GP3_GIB, stack.region_of(resource))
    if inputs.get("launchTemplate") is None:
        try:
            gib = number_at(inputs, "diskSize", default=_DEFAULT_DISK_GIB)
        except NotKnownError as error:
            # The engine shows stack policies what AWS will fill in as unknown: the nodes are priced anyway.
            return unpriced(resource, "EKS", GP3_GIB, str(error), count)
        return priced(resource, "EKS", price, count * Band.same(gib))
    template = _template(resource, stack, mapping_at(inputs, "launchTemplate"), "id")
    return _template_disk(resource, stack, template, count)


def _template(
    resource: StackResource, stack: Inventory, specified: Mapping[str, object], key: str
) -> StackResource | None:
    """The launch template of the stack that is meant by id or name; None if it is not among the resources."""
    try:
        meant = value_at(specified, key) or value_at(specified, "name")
    except NotKnownError:
        meant = None
    return stack.named_by(LAUNCH_TEMPLATE, meant, resource)


def _template_disk(
    resource: StackResource, stack: Inventory, template: StackResource | None, count: Band
) -> Charge:
    if template is None:
        return unpriced(resource, "EKS", GP3_GIB, "its launch template is not among the resources", count)
    each = total(
        Band.same(number_at(block, "ebs.volumeSize"))
        for block in objects_at(template.inputs, "blockDeviceMappings")
    )
    return priced(resource, "EKS", price_of(GP3_GIB, stack.region_of(resource)), count * each)


def _object_name(resource: StackResource) -> str:
    return str(value_at(resource.inputs, "metadata.name") or "")
