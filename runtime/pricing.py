"""What the EKS side costs: list prices in USD, with region, source and date on every row.

A price that is not here is unpriced, and says so; it is never 0. Amounts are Decimal.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Final

HOURS_PER_MONTH: Final = Decimal(730)

CONTROL_PLANE: Final = "EKS control plane"
NAT_GATEWAY: Final = "NAT gateway"
INTERFACE_ENDPOINT: Final = "VPC interface endpoint in one zone"
LOAD_BALANCER: Final = "network load balancer"
VPN_CONNECTION: Final = "site-to-site VPN connection"
GP3_GIB: Final = "GiB of gp3 volume"
KMS_KEY: Final = "KMS key"


@dataclass(frozen=True, kw_only=True)
class Price:
    """The price of one thing for one hour.

    Attributes:
        item: What it is of: an instance type, or one of the constants of this module.
        region: Where.
        usd_per_hour: The list price, without what is paid by traffic; None where it is not known here.
        source: Where the figure is from; empty where there is none.
        date: When the source said so, as YYYY-MM-DD; empty where there is none.
    """

    item: str
    region: str
    usd_per_hour: Decimal | None
    source: str = ""
    date: str = ""

    @property
    def words(self) -> str:
        """The price for a reader, such as `$1.861/h`, or `unpriced`."""
        return "unpriced" if self.usd_per_hour is None else f"${self.usd_per_hour.normalize():f}/h"


# Generated from AWS' price list for us-east-1, Linux on demand.
_KARPENTER: Final = (
    "github.com/aws/karpenter-provider-aws pkg/providers/pricing/zz_generated.pricing_aws.go",
    "2026-01-19",
)

_US_EAST_1: Final = {
    "m6i.large": "0.096",
    "m6i.xlarge": "0.192",
    "m6i.2xlarge": "0.384",
    "m6i.4xlarge": "0.768",
    "m6i.8xlarge": "1.536",
    "m7i.large": "0.1008",
    "m7i.xlarge": "0.2016",
    "m7i.2xlarge": "0.4032",
    "m7i.4xlarge": "0.8064",
    "m7i.8xlarge": "1.6128",
    "g5.xlarge": "1.006",
    "g5.2xlarge": "1.212",
    "g5.4xlarge": "1.624",
    "g5.8xlarge": "2.448",
    "g5.12xlarge": "5.672",
    "g5.16xlarge": "4.096",
    "g5.24xlarge": "8.144",
    "g5.48xlarge": "16.288",
    "g6.xlarge": "0.8048",
    "g6.2xlarge": "0.9776",
    "g6.4xlarge": "1.3232",
    "g6.8xlarge": "2.0144",
    "g6.12xlarge": "4.6016",
    "g6.16xlarge": "3.3968",
    "g6.24xlarge": "6.6752",
    "g6.48xlarge": "13.3504",
    "g6e.xlarge": "1.861",
    "g6e.2xlarge": "2.24208",
    "g6e.4xlarge": "3.00424",
    "g6e.8xlarge": "4.52856",
    "g6e.12xlarge": "10.49264",
    "g6e.16xlarge": "7.57719",
    "g6e.24xlarge": "15.06559",
    "g6e.48xlarge": "30.13118",
    "p4d.24xlarge": "21.957642",
    "p4de.24xlarge": "27.44705",
    "p5.4xlarge": "6.88",
    "p5.48xlarge": "55.04",
    "p5en.48xlarge": "63.296",
    "p6-b200.48xlarge": "113.9328",
}

# Written down without a look at the price list: check before you rely on one.
_UNCHECKED: Final = ("from memory, not looked up", "2026-11-21")
# Fixed parts in us-east-1: per hour, or per month over 730 hours.
_FIXED: Final = (
    (CONTROL_PLANE, Decimal("0.10"), "aws.amazon.com/eks/pricing, standard support", "2026-07-20"),
    (NAT_GATEWAY, Decimal("0.045"), *_UNCHECKED),
    (INTERFACE_ENDPOINT, Decimal("0.01"), *_UNCHECKED),
    (LOAD_BALANCER, Decimal("0.0225"), *_UNCHECKED),
    (VPN_CONNECTION, Decimal("0.05"), *_UNCHECKED),
    (GP3_GIB, Decimal("0.08") / HOURS_PER_MONTH, *_UNCHECKED),
    (KMS_KEY, Decimal(1) / HOURS_PER_MONTH, *_UNCHECKED),
)

PRICES: Final[Mapping[tuple[str, str], Price]] = MappingProxyType(
    {
        (price.item, price.region): price
        for price in (
            *(
                Price(
                    item=name,
                    region="us-east-1",
                    usd_per_hour=Decimal(usd),
                    source=_KARPENTER[0],
                    date=_KARPENTER[1],
                )
                for name, usd in _US_EAST_1.items()
            ),
            *(
                Price(item=item, region="us-east-1", usd_per_hour=usd, source=source, date=date)
                for item, usd, source, date in _FIXED
            ),
        )
    }
)


def price_of(item: str, region: str) -> Price:
    """The list price of an item in a region; an unpriced one where there is no row."""
    return PRICES.get((item, region)) or Price(item=item, region=region, usd_per_hour=None)
