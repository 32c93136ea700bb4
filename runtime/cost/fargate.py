"""What services on ECS Fargate cost: the processors and memory of their tasks, by the second."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from runtime.cost.amounts import Band, Entry, Free
from runtime.cost.billing import by_use, priced, unpriced
from runtime.cost.inventory import Inventory, NotKnownError, number_at, objects_at, value_at
from runtime.pricing import (
    ARM_FARGATE_GB,
    ARM_FARGATE_VCPU,
    CUSTOM_METRIC,
    FARGATE_GB,
    FARGATE_VCPU,
    price_of,
)
from runtime.stack_resources import StackResource

CLUSTER: Final = "aws:ecs/cluster:Cluster"
SERVICE: Final = "aws:ecs/service:Service"
TASK_DEFINITION: Final = "aws:ecs/taskDefinition:TaskDefinition"
SCALING_TARGET: Final = "aws:appautoscaling/target:Target"

_UNITS_PER_VCPU: Final = 1024
_MIB_PER_GB: Final = 1024
# What CreateService gives a service that says nothing of it, in percent of the tasks that are wished for.
_USUAL_MOST_PERCENT: Final = 200


def service(resource: StackResource, stack: Inventory) -> Iterator[Entry]:
    """A service on Fargate, from its least to its most tasks, with those that an update runs beside them."""
    if value_at(resource.inputs, "launchType") != "FARGATE":
        yield Free("what its tasks run on is billed")
        return
    definition = _definition(resource, stack)
    if definition is None:
        yield unpriced(resource, "AWS", "Fargate", "its task definition is not among the resources")
        return
    tasks, notes = _tasks(resource, stack)
    on_arm = value_at(definition.inputs, "runtimePlatform.cpuArchitecture") == "ARM64"
    region = stack.region_of(resource)
    for item, key, units in (
        (ARM_FARGATE_VCPU if on_arm else FARGATE_VCPU, "cpu", _UNITS_PER_VCPU),
        (ARM_FARGATE_GB if on_arm else FARGATE_GB, "memory", _MIB_PER_GB),
    ):
        each = Band.same(number_at(definition.inputs, key) / units)
        yield priced(resource, "AWS", price_of(item, region), tasks * each, notes=notes)


def cluster(resource: StackResource, stack: Inventory) -> Iterator[Entry]:
    """A cluster: its services are billed, and beside them the metrics of Container Insights."""
    insights = [
        one for one in objects_at(resource.inputs, "settings") if one.get("name") == "containerInsights"
    ]
    if any(one.get("value") not in (None, "disabled") for one in insights):
        yield by_use(resource, CUSTOM_METRIC, stack.region_of(resource))
    else:
        yield Free("what runs in it is billed")


def _definition(resource: StackResource, stack: Inventory) -> StackResource | None:
    """The task definition that a service means: by its family, or the one beside it in a preview."""
    try:
        meant = str(value_at(resource.inputs, "taskDefinition") or "")
    except NotKnownError:
        return stack.named_by(TASK_DEFINITION, None, resource)
    family = meant.rpartition("/")[2].partition(":")[0]
    return next((one for one in stack.of(TASK_DEFINITION) if one.inputs.get("family") == family), None)


def _tasks(resource: StackResource, stack: Inventory) -> tuple[Band, list[str]]:
    inputs = resource.inputs
    desired = number_at(inputs, "desiredCount", default=1)
    least = most = desired
    for target in stack.of(SCALING_TARGET):
        if value_at(target.inputs, "serviceNamespace") == "ecs" and _scales(target, resource):
            least = min(least, number_at(target.inputs, "minCapacity"))
            most = max(most, number_at(target.inputs, "maxCapacity"))
    percent = number_at(inputs, "deploymentMaximumPercent", default=_USUAL_MOST_PERCENT)
    notes = [f"an update runs up to {percent} % of the tasks"] if percent > 100 else []
    return Band(least, desired, most * max(percent, Decimal(100)) / 100), notes


def _scales(target: StackResource, resource: StackResource) -> bool:
    """Whether a target is of a service. A preview may not know its name yet, so that the place decides."""
    try:
        meant = str(value_at(target.inputs, "resourceId") or "")
    except NotKnownError:
        return target.parent == resource.parent
    return meant.rpartition("/")[2] == str(resource.inputs.get("name") or resource.name)
