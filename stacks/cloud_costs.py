"""What the AWS side of a stack costs at rest and at most, from list prices and the declared sizes."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from components.aws.account import ENDPOINTS
from runtime.pricing import (
    CONTROL_PLANE,
    GP3_GIB,
    INTERFACE_ENDPOINT,
    KMS_KEY,
    LOAD_BALANCER,
    NAT_GATEWAY,
    VPN_CONNECTION,
    price_of,
)
from stacks.cloud_settings import CloudSettings

_KEYS = 3


@dataclass(frozen=True, kw_only=True)
class CostLine:
    """One thing that is paid by the hour.

    Attributes:
        what: Its name.
        least: How many there are at rest.
        most: How many there can be.
        usd_per_hour: Price of one; None if unpriced.
    """

    what: str
    least: Decimal
    most: Decimal
    usd_per_hour: Decimal | None


@dataclass(frozen=True)
class Cost:
    """Floor and ceiling of a stack's AWS side, without what is paid by traffic, requests and storage.

    Attributes:
        lines: What it is made of.
    """

    lines: Sequence[CostLine]

    @property
    def floor(self) -> Decimal:
        """USD per hour at rest, of all that is priced."""
        return _cents(sum((line.least * (line.usd_per_hour or 0) for line in self.lines), Decimal(0)))

    @property
    def ceiling(self) -> Decimal:
        """USD per hour with every node group at its most, of all that is priced."""
        return _cents(sum((line.most * (line.usd_per_hour or 0) for line in self.lines), Decimal(0)))

    @property
    def unpriced(self) -> list[str]:
        """What is paid and has no price here."""
        return [line.what for line in self.lines if line.usd_per_hour is None and line.most]

    @property
    def words(self) -> str:
        """One line for a preview's reader."""
        missing = f"; without {', '.join(self.unpriced)}, unpriced here" if self.unpriced else ""
        return (
            f"the AWS side costs ${self.floor}/h at rest and ${self.ceiling}/h with all node groups at their "
            f"most{missing}; the burst's own ceiling is burst.ceilingUsdPerHour. List prices, without "
            "traffic and storage"
        )


def cost_of(cloud: CloudSettings) -> Cost:
    """Everything of the AWS side that is paid by the hour."""
    region, new, system = cloud.region, cloud.network.new, cloud.system_nodes
    endpoints = len(ENDPOINTS) * len(new.zones) if new is not None and new.egress == "endpoints" else 0
    lines = [
        _fixed(KMS_KEY, _KEYS, region),
        _fixed(INTERFACE_ENDPOINT, endpoints, region),
        _fixed(NAT_GATEWAY, 1 if new is not None and new.egress == "nat" else 0, region),
        _fixed(VPN_CONNECTION, 1 if cloud.link is not None and cloud.link.vpn is not None else 0, region),
    ]
    if cloud.declare == "foundation":
        return Cost([line for line in lines if line.most])
    lines += [
        _fixed(CONTROL_PLANE, 1, region),
        _fixed(LOAD_BALANCER, 1, region),
        CostLine(
            what=f"{system.instance_type} (system nodes)",
            least=Decimal(system.min),
            most=Decimal(system.max),
            usd_per_hour=price_of(system.instance_type, region).usd_per_hour,
        ),
        CostLine(
            what=GP3_GIB,
            least=Decimal(
                system.min * system.disk_gib + sum(group.min * group.disk_gib for group in cloud.node_groups)
            ),
            most=Decimal(
                system.max * system.disk_gib + sum(group.max * group.disk_gib for group in cloud.node_groups)
            ),
            usd_per_hour=price_of(GP3_GIB, region).usd_per_hour,
        ),
    ]
    lines += [
        CostLine(
            what=f"{' or '.join(group.instance_types)} (node group {group.name})",
            least=Decimal(group.min),
            most=Decimal(group.max),
            usd_per_hour=group.node_price(region),
        )
        for group in cloud.node_groups
    ]
    return Cost([line for line in lines if line.most])


def _fixed(item: str, count: int, region: str) -> CostLine:
    return CostLine(
        what=item,
        least=Decimal(count),
        most=Decimal(count),
        usd_per_hour=price_of(item, region).usd_per_hour,
    )


def _cents(amount: Decimal) -> Decimal:
    return amount.quantize(Decimal("0.01"))
