"""What the AWS side costs besides nodes: control plane, network, keys, storage."""

import dataclasses
from collections.abc import Iterator
from decimal import Decimal

from runtime.cost.amounts import Band, Entry, Free
from runtime.cost.billing import by_use, priced, unpriced
from runtime.cost.inventory import Inventory, items_at, number_at, objects_at, value_at
from runtime.pricing import (
    COMPOSITE_ALARM,
    CONTROL_PLANE,
    CUSTOM_METRIC,
    DASHBOARD,
    ECR_STORAGE,
    ENDPOINT_TRAFFIC,
    EXTENDED_SUPPORT,
    INTERFACE_ENDPOINT,
    KMS_KEY,
    LOAD_BALANCER,
    LOAD_BALANCER_UNIT,
    LOGS,
    METRIC_ALARM,
    NAT_GATEWAY,
    NAT_TRAFFIC,
    PUBLIC_ADDRESS,
    QUEUE_REQUESTS,
    S3_STORAGE,
    SECRETS_MANAGER,
    TOPIC_REQUESTS,
    VPN_CONNECTION,
    price_of,
)
from runtime.stack_resources import StackResource

_ONE = Band.same(1)
# The first and the second rotation of a key's material add as much as the key, and no further one does
# (aws.amazon.com/kms/pricing).
_MATERIALS_AT_MOST = 3
_USUAL_PERIOD_S = 60
_EXTENDED = "upgradePolicy.supportType is not STANDARD, so an old version goes into extended support"


def control_plane(resource: StackResource, stack: Inventory) -> Iterator[Entry]:
    """An EKS cluster. Unless it says STANDARD, extended support begins by itself, for six times as much."""
    region = stack.region_of(resource)
    standard, extended = price_of(CONTROL_PLANE, region), price_of(EXTENDED_SUPPORT, region)
    charge = priced(resource, "EKS", standard, _ONE)
    low, high = standard.usd_per_hour, extended.usd_per_hour
    if value_at(resource.inputs, "upgradePolicy.supportType") == "STANDARD" or low is None:
        yield charge
    elif high is None:
        yield priced(resource, "EKS", extended, _ONE, notes=[_EXTENDED])
    else:
        yield dataclasses.replace(
            charge,
            usd_per_hour=Band(low, low, high),
            prices=(standard, extended),
            notes=(_EXTENDED,),
        )


def nat_gateway(resource: StackResource, stack: Inventory) -> Iterator[Entry]:
    """A NAT gateway, by the hour and by what goes through it."""
    region = stack.region_of(resource)
    yield priced(resource, "AWS", price_of(NAT_GATEWAY, region), _ONE)
    yield by_use(resource, NAT_TRAFFIC, region)


def public_address(resource: StackResource, stack: Inventory) -> Iterator[Entry]:
    """A public IPv4 address, which is paid for whether it is in use or not."""
    yield priced(resource, "AWS", price_of(PUBLIC_ADDRESS, stack.region_of(resource)), _ONE)


def vpc_endpoint(resource: StackResource, stack: Inventory) -> Iterator[Entry]:
    """An interface endpoint in each of its subnets; a gateway endpoint costs nothing."""
    if value_at(resource.inputs, "vpcEndpointType") in (None, "Gateway"):
        yield Free("a gateway endpoint costs nothing")
        return
    region = stack.region_of(resource)
    zones = len(items_at(resource.inputs, "subnetIds"))
    yield priced(resource, "AWS", price_of(INTERFACE_ENDPOINT, region), Band.same(zones))
    yield by_use(resource, ENDPOINT_TRAFFIC, region)


def load_balancer(resource: StackResource, stack: Inventory) -> Iterator[Entry]:
    """A load balancer: a network one costs as much by the hour as an application one."""
    region = stack.region_of(resource)
    yield priced(resource, "AWS", price_of(LOAD_BALANCER, region), _ONE)
    yield by_use(resource, LOAD_BALANCER_UNIT, region)


def vpn_connection(resource: StackResource, stack: Inventory) -> Iterator[Entry]:
    """A site-to-site VPN connection, from the moment that it is there."""
    yield priced(resource, "AWS", price_of(VPN_CONNECTION, stack.region_of(resource)), _ONE)


def key(resource: StackResource, stack: Inventory) -> Iterator[Entry]:
    """A KMS key; each of its first two rotations adds as much again."""
    rotates = value_at(resource.inputs, "enableKeyRotation") is True
    most = Decimal(_MATERIALS_AT_MOST if rotates else 1)
    notes = ["its first two yearly rotations add as much as the key each"] if rotates else []
    price = price_of(KMS_KEY, stack.region_of(resource))
    yield priced(resource, "AWS", price, Band(Decimal(1), Decimal(1), most), notes=notes)


def secret(resource: StackResource, stack: Inventory) -> Iterator[Entry]:
    """A secret, by the month; one that waits for its deletion costs nothing."""
    yield priced(resource, "AWS", price_of(SECRETS_MANAGER, stack.region_of(resource)), _ONE)


def log_group(resource: StackResource, stack: Inventory) -> Iterator[Entry]:
    """A log group, by what it takes in."""
    yield by_use(resource, LOGS, stack.region_of(resource))


def alarm(resource: StackResource, stack: Inventory) -> Iterator[Entry]:
    """An alarm at the usual resolution, by the metrics that it looks at; faster ones are unpriced."""
    queries = objects_at(resource.inputs, "metricQueries")
    measured = [one for one in queries if value_at(one, "metric") is not None]
    periods = [number_at(one, "metric.period", default=_USUAL_PERIOD_S) for one in measured]
    periods = periods or [number_at(resource.inputs, "period", default=_USUAL_PERIOD_S)]
    if min(periods) >= _USUAL_PERIOD_S:
        price = price_of(METRIC_ALARM, stack.region_of(resource))
        yield priced(resource, "AWS", price, Band.same(len(periods)))
    else:
        why = "an alarm that looks more often than once a minute has no price here"
        yield unpriced(resource, "AWS", METRIC_ALARM, why)


def composite_alarm(resource: StackResource, stack: Inventory) -> Iterator[Entry]:
    """An alarm over alarms, which are paid by themselves."""
    yield priced(resource, "AWS", price_of(COMPOSITE_ALARM, stack.region_of(resource)), _ONE)


def dashboard(resource: StackResource, stack: Inventory) -> Iterator[Entry]:
    """A dashboard. An account has three without charge, of which nobody here knows whether they are taken."""
    yield priced(resource, "AWS", price_of(DASHBOARD, stack.region_of(resource)), _ONE)


def log_metric(resource: StackResource, stack: Inventory) -> Iterator[Entry]:
    """A metric that is read out of logs, paid for the hours in which there is one, however many filters."""
    meant = _metric_of(resource)
    first = next(one for one in stack.of(resource.type) if _metric_of(one) == meant)
    if first is not resource:
        yield Free(f"it counts into the metric of {first.name}")
        return
    price = price_of(CUSTOM_METRIC, stack.region_of(resource))
    yield priced(resource, "AWS", price, Band(Decimal(0), Decimal(1), Decimal(1)))


def _metric_of(log_filter: StackResource) -> tuple[object, ...]:
    return tuple(value_at(log_filter.inputs, f"metricTransformation.{key}") for key in ("namespace", "name"))


def topic(resource: StackResource, stack: Inventory) -> Iterator[Entry]:
    """A topic, by the requests to it."""
    yield by_use(resource, TOPIC_REQUESTS, stack.region_of(resource))


def bucket(resource: StackResource, stack: Inventory) -> Iterator[Entry]:
    """A bucket, by what lies in it."""
    yield by_use(resource, S3_STORAGE, stack.region_of(resource))


def repository(resource: StackResource, stack: Inventory) -> Iterator[Entry]:
    """A registry's repository, by what lies in it."""
    yield by_use(resource, ECR_STORAGE, stack.region_of(resource))


def queue(resource: StackResource, stack: Inventory) -> Iterator[Entry]:
    """A queue, by the requests to it."""
    yield by_use(resource, QUEUE_REQUESTS, stack.region_of(resource))
