"""What a stack may cost in the cloud: by the hour at most, by the month, until it expires, and beside GPUs.

The figures are those of `runtime.cost`: list prices, every autoscaler at its most, upgrade surge included.
What runs on-prem has no bill that a cap could lower, and is not in them.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final, cast

from policies.enforcement import ADVISORY, ONLY_IN_DEV
from policies.gpu_cost.tags import AWS_PROVIDER, EXPIRY_TAG, default_tags
from policies.node_pools import ENDPOINT, NODE_POOL_TYPES, read_node_pools
from policies.reading import Node, Unreadable, read
from policies.rule import (
    Answer,
    ConfigKey,
    Found,
    NotApplicable,
    Problem,
    Resource,
    Rule,
    Severity,
    Stack,
    StackRule,
)
from runtime.cost.amounts import Charge
from runtime.cost.estimate import Estimate, estimate
from runtime.pricing import GP3_GIB, HOURS_PER_MONTH
from runtime.stack_resources import StackResource
from runtime.tenure import expiry

# Pools of small GPU nodes fit. A server with eight of the dearest GPUs, which may run twice while it is
# upgraded, is a decision that somebody writes down.
DEFAULT_USD_PER_HOUR: Final = 100
_MONTHLY_USD: Final = 5000
_EXPOSURE_USD: Final = 5000
_EXTRAS_USD_PER_HOUR: Final = 1
# From which part of a monthly budget on it is said.
_NEARLY: Final = Decimal("0.8")
_REGION: Final = "us-east-1"

_EXTRAS: Final = frozenset(
    {
        "aws:ec2/natGateway:NatGateway",
        "aws:ec2/vpcEndpoint:VpcEndpoint",
        "aws:ec2/eip:Eip",
        "aws:ec2/vpnConnection:VpnConnection",
    }
)
_ENDPOINT: Final = "aws:sagemaker/endpoint:Endpoint"
_NO_CLOUD: Final = NotApplicable("It starts nothing in the cloud that is paid for by the hour.")


def _as_priced(resource: Resource) -> StackResource:
    root = read(resource.props)
    identity = root.child("id").value
    return StackResource(
        urn=resource.urn,
        type=resource.type,
        name=resource.name,
        parent=resource.parent,
        provider=resource.provider,
        id=identity if isinstance(identity, str) else "",
        inputs=cast("dict[str, object]", root.plain()),
    )


@dataclass(frozen=True)
class Priced:
    """What resources cost in the cloud, and what about it cannot be told.

    Attributes:
        estimate: The figures.
        unreadable: Values that they depend on and that cannot be read, by the resource's URN.
    """

    estimate: Estimate
    unreadable: dict[str, Unreadable]

    def not_priced(self) -> Found:
        """What no cap can be compared with, because its price or its number is not known."""
        yield from self.unreadable.values()
        for charge in self.estimate.charges:
            if charge.urn in self.unreadable or not _is_machine(charge):
                continue
            if charge.usd_per_hour is None:
                yield Problem(
                    f"{charge.item} of {charge.name} has no price: {charge.why_unpriced}.",
                    "Refresh the prices with `python -m runtime.ops prices refresh`.",
                    charge.urn,
                )
            elif charge.count.ceiling is None:
                yield Problem(
                    f"{charge.item} of {charge.name} may grow without bound.",
                    "Give it a largest number.",
                    charge.urn,
                )


def _priced(resources: Sequence[Resource], region: str = "", today: date | None = None) -> Priced:
    found = estimate([_as_priced(one) for one in resources], region=region, today=today)
    charges = tuple(charge for charge in found.charges if charge.place != "on-prem")
    unreadable: dict[str, Unreadable] = {}
    for resource in resources:
        try:
            for pool in read_node_pools(resource) or []:
                pool.instances()
                if pool.most is not None:
                    pool.most.value()
        except Unreadable as problem:
            unreadable[resource.urn] = problem
    return Priced(Estimate(charges=charges, resources=found.resources), unreadable)


class _Last(threading.local):
    """What was priced last: all rules of this module in turn ask about the same stack."""

    resources: object = None
    priced: "Priced | None" = None


_last = _Last()


def priced_stack(stack: Stack) -> Priced:
    """What a whole stack costs in the cloud; made once for all rules that ask in turn."""
    if not isinstance(stack.resources, tuple):
        return _priced(stack.resources, today=stack.now.date())
    if _last.priced is None or _last.resources is not stack.resources:
        _last.priced = _priced(stack.resources, today=stack.now.date())
        _last.resources = stack.resources
    return _last.priced


def _is_machine(charge: Charge) -> bool:
    # The volumes beside machines are small change, and the size of some is in another resource.
    return bool(charge.accelerator) or (charge.type in NODE_POOL_TYPES and charge.item != GP3_GIB)


def _check_pool(resource: Resource, config: Node) -> Found:
    limit = config.child("maxUsdPerHour").integer(default=DEFAULT_USD_PER_HOUR)
    region = config.child("region").text(default=_REGION)
    priced = _priced(_with_endpoint(resource), resource.region or region)
    yield from priced.not_priced()
    ceiling = priced.estimate.hourly.ceiling
    if ceiling is not None and ceiling > limit:
        yield Problem(
            f"{resource.name} may cost ${_cents(ceiling)} an hour. Allowed for one pool: ${limit}.",
            "Lower its largest number of machines or take cheaper ones, or raise maxUsdPerHour of "
            "gpu-pool-hourly-ceiling in the file given to --policy-pack-config.",
        )


def _with_endpoint(resource: Resource) -> list[Resource]:
    """An endpoint's configuration is billed as the endpoint that has it, and so judged as one."""
    if resource.type != ENDPOINT:
        return [resource]
    endpoint = Resource(_ENDPOINT, resource.name, {}, urn=f"{resource.urn}-endpoint", parent=resource.parent)
    return [resource, endpoint]


def _check_ceiling(stack: Stack, config: Node) -> Answer:
    priced = priced_stack(stack)
    return _over_ceiling(priced, config) if priced.estimate.charges else _NO_CLOUD


def _over_ceiling(priced: Priced, config: Node) -> Found:
    limit = config.child("maxUsdPerHour").integer(default=DEFAULT_USD_PER_HOUR)
    yield from priced.not_priced()
    ceiling = priced.estimate.hourly.ceiling
    if ceiling is not None and ceiling > limit:
        dearest = max(priced.estimate.charges, key=lambda one: (one.amount.ceiling or 0) if one.amount else 0)
        yield Problem(
            f"The stack may cost ${_cents(ceiling)} an hour, most of it {dearest.name} ({dearest.item}). "
            f"Allowed: ${limit}.",
            "Lower the largest numbers of machines, or raise maxUsdPerHour of gpu-hourly-ceiling in the file "
            "given to --policy-pack-config.",
        )


def _check_monthly(stack: Stack, config: Node) -> Answer:
    priced = priced_stack(stack)
    return _over_month(priced, config) if priced.estimate.charges else _NO_CLOUD


def _over_month(priced: Priced, config: Node) -> Found:
    limit = config.child("maxUsdPerMonth").integer(default=_MONTHLY_USD)
    yield from priced.not_priced()
    expected = priced.estimate.hourly.expected * HOURS_PER_MONTH
    if expected > limit * _NEARLY:
        over = "is over" if expected > limit else "is near"
        yield Problem(
            f"The stack is expected to cost ${_cents(expected)} a month, which {over} ${limit}.",
            "Look at make cost, or raise maxUsdPerMonth of gpu-monthly-expected in the file given to "
            "--policy-pack-config.",
        )


def _check_exposure(stack: Stack, config: Node) -> Answer:
    priced = priced_stack(stack)
    if not priced.estimate.charges:
        return _NO_CLOUD
    expires = [tag for one in stack.of(AWS_PROVIDER) if (tag := default_tags(one).get(EXPIRY_TAG))]
    return _over_exposure(stack, priced, expires, config)


def _over_exposure(stack: Stack, priced: Priced, expires: list[str], config: Node) -> Found:
    limit = config.child("maxUsd").integer(default=_EXPOSURE_USD)
    yield from priced.not_priced()
    if not expires:
        yield Problem(f"The stack has no end, so nothing bounds what it costs. Allowed: ${limit}.", _SET_END)
        return
    try:
        ends = min(expiry(one, stack.now) for one in expires)
    except ValueError:
        raise Unreadable(
            "defaultTags", f"has a {EXPIRY_TAG} that is no day and no duration", _SET_END
        ) from None
    exposed = priced.estimate.exposure(stack.now, ends)
    if exposed is not None and exposed > limit:
        yield Problem(
            f"Until it expires, the stack may cost ${_cents(exposed)}. Allowed: ${limit}.",
            "Let it expire sooner or lower its largest sizes, or raise maxUsd of gpu-exposure-to-ttl in the "
            "file given to --policy-pack-config.",
        )


def _check_extras(stack: Stack, config: Node) -> Answer:
    charges = [one for one in priced_stack(stack).estimate.charges if one.type in _EXTRAS]
    return _too_many_extras(charges, config) if charges else NotApplicable("It has no such parts.")


def _too_many_extras(charges: list[Charge], config: Node) -> Found:
    limit = config.child("maxUsdPerHour").integer(default=_EXTRAS_USD_PER_HOUR)
    amount = sum((one.amount.floor for one in charges if one.amount is not None), Decimal(0))
    if amount > limit:
        yield Problem(
            f"{len(charges)} NAT gateways, endpoints, addresses and links cost ${_cents(amount)} an hour. "
            f"Allowed: ${limit}.",
            "Use one NAT gateway and fewer zones, or raise maxUsdPerHour of expensive-extras in the file "
            "given to --policy-pack-config.",
        )


def _cents(amount: Decimal) -> str:
    return f"{amount.quantize(Decimal('0.01')):,}"


_SET_END: Final = "Set expires in the stack file."


def _usd(default: int, description: str) -> ConfigKey:
    return ConfigKey(
        schema={"type": "integer", "minimum": 0, "default": default, "description": description},
        example=default * 3,
    )


_P5EN: Final = Resource(
    "aws:eks/nodeGroup:NodeGroup",
    "p5en",
    {
        "instanceTypes": ["p5en.48xlarge"],
        "capacityType": "ON_DEMAND",
        "scalingConfig": {"minSize": 0, "maxSize": 4, "desiredSize": 0},
    },
    region=_REGION,
)
_AWS: Final = Resource(
    AWS_PROVIDER, "aws", {"region": _REGION, "defaultTags": f'{{"tags": {{"{EXPIRY_TAG}": "30d"}}}}'}
)
_ALWAYS_ON: Final = Resource(
    "aws:eks/nodeGroup:NodeGroup",
    "always",
    {
        "instanceTypes": ["p5en.48xlarge"],
        "scalingConfig": {"minSize": 1, "maxSize": 4, "desiredSize": 1},
    },
)

GPU_POOL_HOURLY_CEILING: Final = Rule(
    name="gpu-pool-hourly-ceiling",
    description="No pool of machines may cost more an hour than its cap, with all that it may start.",
    severity=Severity.CRITICAL,
    remediation="Lower its largest number of machines, or raise maxUsdPerHour.",
    check=_check_pool,
    types=NODE_POOL_TYPES,
    example=_P5EN,
    config={
        "maxUsdPerHour": _usd(DEFAULT_USD_PER_HOUR, "Most USD an hour that one pool may cost."),
        "region": ConfigKey(
            schema={
                "type": "string",
                "default": _REGION,
                "description": "AWS region whose prices hold where a pool's provider names none.",
            },
            example="eu-central-1",
        ),
    },
)

GPU_HOURLY_CEILING: Final = StackRule(
    name="gpu-hourly-ceiling",
    description="What the stack starts in the cloud may cost no more an hour than its cap, all at its most.",
    severity=Severity.CRITICAL,
    remediation="Lower the largest numbers of machines, or raise maxUsdPerHour.",
    check=_check_ceiling,
    example=Stack((_AWS, _P5EN)),
    config={"maxUsdPerHour": _usd(DEFAULT_USD_PER_HOUR, "Most USD an hour that the stack may cost.")},
)

GPU_MONTHLY_EXPECTED: Final = StackRule(
    name="gpu-monthly-expected",
    description="The stack is expected to cost less a month than its budget; from 80 % on it is said.",
    severity=Severity.MEDIUM,
    remediation="Look at make cost, or raise maxUsdPerMonth.",
    enforcement=ADVISORY,
    check=_check_monthly,
    example=Stack((_AWS, _ALWAYS_ON)),
    config={"maxUsdPerMonth": _usd(_MONTHLY_USD, "USD that are expected to be spent a month.")},
)

GPU_EXPOSURE_TO_TTL: Final = StackRule(
    name="gpu-exposure-to-ttl",
    description="In development a stack can cost no more until it expires than its cap, all at its most.",
    severity=Severity.HIGH,
    remediation="Let the stack expire sooner, lower its largest sizes, or raise maxUsd.",
    enforcement=ONLY_IN_DEV,
    check=_check_exposure,
    example=Stack((_AWS, _P5EN)),
    config={"maxUsd": _usd(_EXPOSURE_USD, "Most USD that the stack may cost until it expires.")},
)

EXPENSIVE_EXTRAS: Final = StackRule(
    name="expensive-extras",
    description="Network parts that are paid for by the hour, used or not, stay small beside the machines.",
    severity=Severity.LOW,
    remediation="Use one NAT gateway and fewer zones, or raise maxUsdPerHour.",
    enforcement=ADVISORY,
    check=_check_extras,
    example=Stack(
        (
            _AWS,
            *(
                Resource("aws:ec2/natGateway:NatGateway", f"nat-{number}", {}, urn=f"nat-{number}")
                for number in range(30)
            ),
        )
    ),
    config={
        "maxUsdPerHour": _usd(
            _EXTRAS_USD_PER_HOUR, "Most USD an hour for NAT, endpoints, addresses and links."
        )
    },
)
