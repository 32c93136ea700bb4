"""List prices in USD of what a platform is billed for: one CSV file per region in `prices/`, read on demand.

A price that is not there is unpriced, and says so; it is never 0. Amounts are Decimal. Every row has its
region, its source and the day of which the source speaks; `runtime.ops.price_list` writes the files anew.
"""

import csv
import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final, Literal, get_args

# What AWS' own monthly figures divide by.
HOURS_PER_MONTH: Final = Decimal(730)

CONTROL_PLANE: Final = "EKS control plane"
EXTENDED_SUPPORT: Final = "EKS control plane in extended support"
NAT_GATEWAY: Final = "NAT gateway"
NAT_TRAFFIC: Final = "GB through a NAT gateway"
INTERFACE_ENDPOINT: Final = "VPC interface endpoint in one zone"
ENDPOINT_TRAFFIC: Final = "GB through an interface endpoint"
LOAD_BALANCER: Final = "network load balancer"
LOAD_BALANCER_UNIT: Final = "capacity unit of a network load balancer"
CLASSIC_LOAD_BALANCER: Final = "classic load balancer"
VPN_CONNECTION: Final = "site-to-site VPN connection"
PUBLIC_ADDRESS: Final = "public IPv4 address"
GP3_GIB: Final = "GiB of gp3 volume"
KMS_KEY: Final = "KMS key"
LOGS: Final = "GB of logs taken in"
S3_STORAGE: Final = "GB stored in S3"
ECR_STORAGE: Final = "GB of images stored in ECR"
METRIC_ALARM: Final = "CloudWatch alarm on one metric"
COMPOSITE_ALARM: Final = "CloudWatch composite alarm"
DASHBOARD: Final = "CloudWatch dashboard"
CUSTOM_METRIC: Final = "CloudWatch custom metric"
TOPIC_REQUESTS: Final = "million requests to an SNS topic"
FARGATE_VCPU: Final = "vCPU of Fargate tasks"
FARGATE_GB: Final = "GB of Fargate tasks"
ARM_FARGATE_VCPU: Final = "vCPU of Fargate tasks on ARM"
ARM_FARGATE_GB: Final = "GB of Fargate tasks on ARM"
SECRETS_MANAGER: Final = "secret in Secrets Manager"
QUEUE_REQUESTS: Final = "million requests to an SQS queue"

# What a price is for: one thing for an hour or a month, or so much of something that is used.
Unit = Literal["hour", "month", "GB", "GB-month", "million"]

# A table older than this is warned of: AWS changes prices a few times a year.
STALE: Final = dt.timedelta(days=30)

_FOLDER: Final = files("runtime") / "prices"
COLUMNS: Final = ("item", "region", "unit", "usd", "source", "date")


class PriceTableError(Exception):
    """A price file cannot be used; the message names file, line and what is wrong."""


@dataclass(frozen=True, kw_only=True)
class Price:
    """What one thing costs.

    Attributes:
        item: What it is of: an instance type, `ml.` before it for SageMaker, or a constant of this module.
        region: Where.
        usd: The list price per unit; None where it is not known here.
        unit: What is paid for.
        source: Where the figure is from; empty where there is none.
        date: The day of which the source speaks, as YYYY-MM-DD; empty where there is none.
    """

    item: str
    region: str
    usd: Decimal | None = None
    unit: Unit = "hour"
    source: str = ""
    date: str = ""

    @property
    def usd_per_hour(self) -> Decimal | None:
        """What it costs while it is there; None where it is unpriced, or paid by what is used of it."""
        if self.usd is None or self.unit not in ("hour", "month"):
            return None
        return self.usd if self.unit == "hour" else self.usd / HOURS_PER_MONTH

    @property
    def words(self) -> str:
        """The price for a reader, such as `$1.861/h`, or `unpriced`."""
        if self.usd is None:
            return "unpriced"
        return f"${self.usd.normalize():f}/{'h' if self.unit == 'hour' else self.unit}"


@cache
def prices(region: str) -> Mapping[str, Price]:
    """All prices of a region by item; empty where there is no file of it."""
    file = _FOLDER / f"{region}.csv"
    if not file.is_file():
        return MappingProxyType({})
    lines = file.read_text().splitlines()
    return MappingProxyType({price.item: price for price in read_prices(lines, file.name)})


def price_of(item: str, region: str) -> Price:
    """The list price of an item in a region; an unpriced one where there is no row."""
    return prices(region).get(item) or Price(item=item, region=region)


def oldest(used: Iterable[Price]) -> str:
    """The earliest date of the prices that have one; empty where none has."""
    return min((price.date for price in used if price.date), default="")


def read_prices(lines: Iterable[str], name: str) -> list[Price]:
    """Reads one price file.

    Args:
        lines: Its lines, the first of which names the columns.
        name: What the file is called in messages.

    Raises:
        PriceTableError: A row is not what a price is.
    """
    reader = csv.DictReader(lines)
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise PriceTableError(f"{name}: the first line must be {','.join(COLUMNS)}; refresh the file")
    found: dict[str, Price] = {}
    for row in reader:
        place = f"{name}, line {reader.line_num}"
        try:
            usd = Decimal(row["usd"])
            dt.date.fromisoformat(row["date"])
        except (ArithmeticError, TypeError, ValueError):
            raise PriceTableError(
                f"{place}: usd and date are {row['usd']!r} and {row['date']!r}; they must be a number and "
                "YYYY-MM-DD"
            ) from None
        unit = next((one for one in get_args(Unit) if one == row["unit"]), None)
        if unit is None or not usd.is_finite() or usd <= 0 or not row["source"]:
            raise PriceTableError(
                f"{place}: {row['item']} has the price {row['usd']} per {row['unit']} from "
                f"{row['source']!r}; a price is above 0, has a source, and its unit is one of "
                f"{', '.join(get_args(Unit))}"
            )
        if row["item"] in found:
            raise PriceTableError(f"{place}: {row['item']} is there twice; remove one")
        found[row["item"]] = Price(
            item=row["item"],
            region=row["region"],
            usd=usd,
            unit=unit,
            source=row["source"],
            date=row["date"],
        )
    return list(found.values())


@dataclass(frozen=True, kw_only=True)
class Devices:
    """What accelerators an instance type has.

    Attributes:
        accelerator: Their name, of `runtime.accelerators` where it is there.
        count: How many; a fraction where several machines share a device, as with `g6f`.
    """

    accelerator: str
    count: Decimal


@cache
def _devices() -> Mapping[str, Devices]:
    rows = csv.DictReader((_FOLDER / "devices.csv").read_text().splitlines())
    return MappingProxyType(
        {row["type"]: Devices(accelerator=row["accelerator"], count=Decimal(row["devices"])) for row in rows}
    )


def devices_of(instance_type: str) -> Devices | None:
    """The accelerators of an instance type, of EC2 or SageMaker (`ml.`); None where none are known."""
    return _devices().get(instance_type.removeprefix("ml."))
