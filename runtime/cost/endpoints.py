"""What SageMaker endpoints cost: instances of all variants, with the second fleet of an update."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Final

from runtime.cost.amounts import NOTHING, Band, Entry
from runtime.cost.billing import priced, unpriced
from runtime.cost.inventory import Inventory, NotKnownError, number_at, objects_at, value_at
from runtime.pricing import devices_of, price_of
from runtime.stack_resources import StackResource

ENDPOINT: Final = "aws:sagemaker/endpoint:Endpoint"
ENDPOINT_CONFIGURATION: Final = "aws:sagemaker/endpointConfiguration:EndpointConfiguration"
SCALING_TARGET: Final = "aws:appautoscaling/target:Target"


def endpoint(resource: StackResource, stack: Inventory) -> Iterator[Entry]:
    """An endpoint: every variant of its configuration, shadows too, from its least to its most instances.

    An update is blue-green unless a rolling policy says otherwise: the new fleet is there beside the old one.
    """
    inputs = resource.inputs
    try:
        meant = value_at(inputs, "endpointConfigName")
    except NotKnownError:
        meant = None
    configuration = stack.named_by(ENDPOINT_CONFIGURATION, meant, resource)
    if configuration is None:
        why = "its configuration is not among the resources"
        yield unpriced(resource, "SageMaker", "endpoint instances", why)
        return
    rolling = value_at(inputs, "deploymentConfig.rollingUpdatePolicy") is not None
    for group in ("productionVariants", "shadowProductionVariants"):
        for variant in objects_at(configuration.inputs, group):
            yield _variant(resource, stack, variant, rolling=rolling)


def _variant(
    resource: StackResource, stack: Inventory, variant: Mapping[str, object], *, rolling: bool
) -> Entry:
    name = str(variant.get("variantName") or "AllTraffic")
    kind = value_at(variant, "instanceType")
    if not isinstance(kind, str):
        why = "serverless variants are paid by use; no price of them is here"
        return unpriced(resource, "SageMaker", f"variant {name}", why)
    initial = number_at(variant, "initialInstanceCount", default=1)
    least = most = initial
    scaling = "managedInstanceScaling"
    if value_at(variant, scaling) is not None and value_at(variant, f"{scaling}.status") != "DISABLED":
        least = min(least, number_at(variant, f"{scaling}.minInstanceCount", default=int(initial)))
        most = max(most, number_at(variant, f"{scaling}.maxInstanceCount", default=int(initial)))
    for target in _targets(resource, stack, name):
        least = min(least, number_at(target.inputs, "minCapacity"))
        most = max(most, number_at(target.inputs, "maxCapacity"))
    devices = devices_of(kind)
    note = (
        "a rolling update adds a part of the fleet, counted as all of it"
        if rolling
        else ("a blue-green update starts a second fleet")
    )
    return priced(
        resource,
        "SageMaker",
        price_of(kind, stack.region_of(resource)),
        Band(least, initial, most * Decimal(2)),
        notes=[f"variant {name}", note],
        accelerator="" if devices is None else devices.accelerator,
        devices=NOTHING if devices is None else Band.same(devices.count),
    )


def _targets(resource: StackResource, stack: Inventory, variant: str) -> list[StackResource]:
    """What scales a variant. A preview may not know its endpoint yet, so that the variant's name decides."""
    found: list[StackResource] = []
    for target in stack.of(SCALING_TARGET):
        if value_at(target.inputs, "serviceNamespace") != "sagemaker":
            continue
        try:
            meant = str(value_at(target.inputs, "resourceId") or "")
        except NotKnownError:
            if target.parent == resource.parent:
                found.append(target)
            continue
        endpoint_name = resource.inputs.get("name") or resource.id or resource.name
        if meant == f"endpoint/{endpoint_name}/variant/{variant}":
            found.append(target)
    return found
