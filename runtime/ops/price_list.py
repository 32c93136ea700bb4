"""Reads AWS' public price list into a price file: `python -m runtime.ops prices refresh --region REGION`.

The list has one CSV file for each service and region, without credentials; that of EC2 has hundreds of
megabytes. A download that was cut off goes on where it was, the files are read line by line, and nothing is
replaced before the new table was compared with the old one.
"""

import argparse
import csv
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from importlib.resources import files
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from runtime import pricing
from runtime.ops.command import Command
from runtime.pricing import COLUMNS, Price, PriceTableError, Unit, devices_of, prices, read_prices

LIST: Final = "https://pricing.us-east-1.amazonaws.com"
# The region whose file names the instance types that are kept; it has all of them.
_TEMPLATE: Final = "us-east-1"
_HEAD_ROWS: Final = 5
_CHUNK: Final = 1 << 20
_ATTEMPTS: Final = 4
# More than this is no change of prices but a change of what the list means.
_MOST_GONE: Final = Decimal("0.05")
_MOST_CHANGED: Final = Decimal("0.5")


class PriceListError(Exception):
    """The price list cannot be had, or is not what it was; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One item of the list that is billed by something else than an instance.

    Attributes:
        item: What price files call it.
        unit: What it is paid by.
        family: The list's product family.
        usage: What the usage type must match after the region's prefix.
        where: Further columns and what they must be.
    """

    item: str
    unit: Unit
    family: str
    usage: str
    where: Mapping[str, str] = field(default_factory=dict[str, str])


# Offers and what of them is wanted. Families and usage types are those that infracost's queries use
# (infracost/infracost, internal/resources/aws).
OFFERS: Final[Mapping[str, tuple[Wanted, ...]]] = {
    "AmazonEKS": (
        Wanted(item=pricing.CONTROL_PLANE, unit="hour", family="Compute", usage="AmazonEKS-Hours:perCluster"),
        Wanted(
            item=pricing.EXTENDED_SUPPORT,
            unit="hour",
            family="Compute",
            usage="AmazonEKS-Hours:extendedSupport",
        ),
    ),
    "AmazonEC2": (
        Wanted(item=pricing.NAT_GATEWAY, unit="hour", family="NAT Gateway", usage="NatGateway-Hours"),
        Wanted(item=pricing.NAT_TRAFFIC, unit="GB", family="NAT Gateway", usage="NatGateway-Bytes"),
        Wanted(item=pricing.GP3_GIB, unit="month", family="Storage", usage="EBS:VolumeUsage.gp3"),
    ),
    "AmazonVPC": (
        Wanted(item=pricing.INTERFACE_ENDPOINT, unit="hour", family="VpcEndpoint", usage="VpcEndpoint-Hours"),
        Wanted(item=pricing.ENDPOINT_TRAFFIC, unit="GB", family="VpcEndpoint", usage="VpcEndpoint-Bytes"),
        Wanted(
            item=pricing.VPN_CONNECTION,
            unit="hour",
            family="Cloud Connectivity",
            usage="VPN-Usage-Hours:ipsec.1",
        ),
        Wanted(item=pricing.PUBLIC_ADDRESS, unit="hour", family="", usage="PublicIPv4:InUseAddress"),
    ),
    "AWSELB": (
        Wanted(
            item=pricing.LOAD_BALANCER, unit="hour", family="Load Balancer-Network", usage="LoadBalancerUsage"
        ),
        Wanted(
            item=pricing.LOAD_BALANCER_UNIT, unit="hour", family="Load Balancer-Network", usage="LCUUsage"
        ),
        Wanted(
            item=pricing.CLASSIC_LOAD_BALANCER, unit="hour", family="Load Balancer", usage="LoadBalancerUsage"
        ),
    ),
    "awskms": (Wanted(item=pricing.KMS_KEY, unit="month", family="Encryption Key", usage="KMS-Keys"),),
    "AmazonCloudWatch": (
        Wanted(item=pricing.LOGS, unit="GB", family="Data Payload", usage="DataProcessing-Bytes"),
        Wanted(
            item=pricing.METRIC_ALARM,
            unit="month",
            family="Alarm",
            usage="CW:AlarmMonitorUsage",
            where={"Alarm Type": "Standard"},
        ),
    ),
    "AmazonS3": (
        Wanted(item=pricing.S3_STORAGE, unit="GB-month", family="Storage", usage="TimedStorage-ByteHrs"),
    ),
    "AmazonECR": (
        Wanted(
            item=pricing.ECR_STORAGE,
            unit="GB-month",
            family="EC2 Container Registry",
            usage="TimedStorage-ByteHrs",
        ),
    ),
    "AmazonECS": (
        Wanted(item=pricing.FARGATE_VCPU, unit="hour", family="Compute", usage="Fargate-vCPU-Hours:perCPU"),
        Wanted(item=pricing.FARGATE_GB, unit="hour", family="Compute", usage="Fargate-GB-Hours"),
        Wanted(
            item=pricing.ARM_FARGATE_VCPU,
            unit="hour",
            family="Compute",
            usage="Fargate-ARM-vCPU-Hours:perCPU",
        ),
        Wanted(item=pricing.ARM_FARGATE_GB, unit="hour", family="Compute", usage="Fargate-ARM-GB-Hours"),
    ),
    "AWSSecretsManager": (
        Wanted(
            item=pricing.SECRETS_MANAGER, unit="month", family="Secret", usage="AWSSecretsManager-Secrets"
        ),
    ),
    "AmazonSageMaker": (),
}
# What an instance's row must be to be an ordinary one: Linux, shared, on demand.
_ORDINARY: Final = {
    "Operating System": {"Linux"},
    "Tenancy": {"Shared"},
    "CapacityStatus": {"Used"},
    "Pre Installed S/W": {"NA"},
    "MarketOption": {"", "OnDemand"},
}
_PREFIX: Final = r"(?:[A-Z]{2,3}[0-9]?-|Global-|EU-)?"
# Usage types of instances: of EC2, and of SageMaker's real-time endpoints.
_INSTANCES: Final = {
    "AmazonEC2": re.compile(rf"{_PREFIX}BoxUsage:([a-z0-9.-]+)"),
    "AmazonSageMaker": re.compile(rf"{_PREFIX}Host:(ml\.[a-z0-9.-]+)"),
}


@dataclass(frozen=True, kw_only=True)
class _Found:
    usd: Decimal
    start: Decimal
    unit: Unit


def read_offer(lines: Iterator[str], offer: str, region: str, types: frozenset[str]) -> list[Price]:
    """The prices of one offer file that are wanted.

    Args:
        lines: The file's lines.
        offer: The service's code, a key of OFFERS.
        region: The region that the file is of.
        types: Instance types that are wanted, those of SageMaker with `ml.` before them.

    Raises:
        PriceListError: The file is none, or has two prices for one thing.
    """
    rows = csv.reader(lines)
    head = {row[0]: row[1] for _, row in zip(range(_HEAD_ROWS), rows, strict=False) if len(row) > 1}
    published = head.get("Publication Date", "")[:10]
    columns = next(rows, list[str]())
    if head.get("OfferCode") != offer or "PricePerUnit" not in columns or len(published) != len("2026-01-01"):
        raise PriceListError(
            f"the file of {offer} does not begin as AWS' price lists do; get it anew, without the cached one"
        )
    found: dict[str, _Found] = {}
    for values in rows:
        row = dict(zip(columns, values, strict=False))
        item, unit = _wanted(row, offer, types)
        if item is None or row.get("TermType") != "OnDemand":
            continue
        usd = _decimal(row["PricePerUnit"])
        if not usd:
            continue  # a free tier, or a reservation's own row
        new = _Found(usd=usd, start=_decimal(row.get("StartingRange") or "0"), unit=unit)
        old = found.get(item)
        if old is not None and old.start == new.start and old.usd != new.usd:
            raise PriceListError(
                f"{offer} has two prices of {item} in {region}, {old.usd} and {new.usd}; the list says more "
                "than this reader knows of, so nothing was replaced"
            )
        if old is None or new.start < old.start:
            found[item] = new
    source = f"AWS' price list, offer {offer}"
    return [
        Price(item=item, region=region, usd=one.usd, unit=one.unit, source=source, date=published)
        for item, one in found.items()
    ]


def _wanted(row: Mapping[str, str], offer: str, types: frozenset[str]) -> tuple[str | None, Unit]:
    usage, family = row.get("usageType", ""), row.get("Product Family", "")
    for one in OFFERS[offer]:
        same = one.family in ("", family) and re.fullmatch(_PREFIX + re.escape(one.usage), usage)
        if same and all(row.get(column) == value for column, value in one.where.items()):
            return one.item, one.unit
    found = _INSTANCES[offer].fullmatch(usage) if offer in _INSTANCES else None
    ordinary = offer != "AmazonEC2" or all(row.get(key, "") in values for key, values in _ORDINARY.items())
    return (found[1] if found and ordinary and found[1] in types else None), "hour"


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise PriceListError(f"the price list has {text!r} where a number belongs") from None


def wanted_types() -> frozenset[str]:
    """Instance types that price files have: those of us-east-1's, and all that have devices."""
    return frozenset(item for item in prices(_TEMPLATE) if "." in item and " " not in item) | frozenset(
        f"ml.{item}" for item in prices(_TEMPLATE) if devices_of(item) and not item.startswith("ml.")
    )


def compared(old: Mapping[str, Price], new: Sequence[Price]) -> list[str]:
    """What is wrong with a new table, in words; empty where it may replace the old one."""
    fresh = {price.item: price for price in new}
    fixed = {one.item for offer in OFFERS.values() for one in offer}
    found = [f"{item} is not in it" for item in sorted(fixed - fresh.keys())]
    if not any(devices_of(item) for item in fresh):
        found.append("no instance type with accelerators is in it")
    types = {item for item in old if item not in fixed and not item.startswith("ml.")}
    gone = sorted(types - fresh.keys())
    if types and Decimal(len(gone)) / len(types) > _MOST_GONE:
        found.append(f"{len(gone)} of {len(types)} instance types are gone: {', '.join(gone[:5])} ...")
    for item, price in fresh.items():
        before = old.get(item)
        if before is None or before.usd is None or price.usd is None:
            continue
        if abs(price.usd - before.usd) / before.usd > _MOST_CHANGED:
            found.append(f"{item} was ${before.usd} and is ${price.usd} per {price.unit}")
    return found


def merged(old: Mapping[str, Price], new: Sequence[Price]) -> list[Price]:
    """The new table. What it has no row of keeps its old one, with its old source and day."""
    fresh = {price.item: price for price in new}
    kept = [fresh.pop(item, price) for item, price in old.items()]
    return [*kept, *fresh.values()]


def write(table: Sequence[Price], path: Path) -> None:
    """Writes a price file in one step: it is the old one, or the new one as a whole."""
    part = path.with_suffix(".part")
    with part.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for one in table:
            rows.writerow([one.item, one.region, one.unit, f"{one.usd:f}", one.source, one.date])
    read_prices(part.read_text().splitlines(), path.name)
    part.replace(path)


def download(url: str, path: Path) -> None:
    """Fetches a file; goes on with what a download that was cut off left, if it is the same file still.

    Raises:
        PriceListError: It cannot be had after some tries; what came is kept for the next.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "::1"):
        raise PriceListError(f"{url} is neither https nor on this machine; give --from an https address")
    path.parent.mkdir(parents=True, exist_ok=True)
    last = ""
    for _ in range(_ATTEMPTS):
        try:
            _fetch(url, path)
        except (OSError, urllib.error.URLError) as error:
            last = str(error)
        else:
            return
    raise PriceListError(f"{url} cannot be had: {last}; run this again, it goes on from what has come")


def _fetch(url: str, path: Path) -> None:
    part, mark = path.with_suffix(".part"), path.with_suffix(".etag")
    have = part.stat().st_size if part.is_file() and mark.is_file() else 0
    request = urllib.request.Request(url)  # noqa: S310 - https, or this machine, by `download`
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", mark.read_text())
    try:
        answer = urllib.request.urlopen(request, timeout=60)  # noqa: S310 - likewise
    except urllib.error.HTTPError as error:
        if error.code == 416:  # all of it has come already, or it is another file now
            part.unlink()
        raise
    with answer:
        goes_on = answer.status == 206
        expected = int(answer.headers.get("Content-Length") or 0) + (have if goes_on else 0)
        if etag := answer.headers.get("ETag"):
            mark.write_text(etag)
        else:
            mark.unlink(missing_ok=True)
        with part.open("ab" if goes_on else "wb") as file:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
    if expected and part.stat().st_size != expected:
        raise OSError(f"{part.stat().st_size} of {expected} bytes came")
    part.replace(path)


def refresh(region: str, source: str, cache: Path, *, anyway: bool = False) -> tuple[list[Price], list[str]]:
    """A new price table of a region, from the list at an address.

    Args:
        region: The region.
        source: Address of the list, such as LIST.
        cache: Folder for what is downloaded.
        anyway: Whether a table that differs too much is taken all the same.

    Returns:
        The table, and what differs too much.

    Raises:
        PriceListError: The list cannot be had or read, or differs too much.
    """
    new: list[Price] = []
    for offer in OFFERS:
        path = cache / region / f"{offer}.csv"
        download(f"{source}/offers/v1.0/aws/{offer}/current/{region}/index.csv", path)
        with path.open(newline="", encoding="utf-8") as lines:
            new += read_offer(lines, offer, region, wanted_types())
        path.unlink()
    old = prices(region)
    differing = compared(old, new)
    if differing and not anyway:
        raise PriceListError(
            "\n  - ".join([f"the new table of {region} differs too much, and replaces nothing:", *differing])
            + "\nIf all of this is so, run it again with --anyway."
        )
    return merged(old, new), differing


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["refresh"])
    parser.add_argument("--region", required=True, help="AWS region, such as us-east-1")
    parser.add_argument(
        "--from", dest="source", default=LIST, help="address of the price list, or of a mirror"
    )
    parser.add_argument(
        "--anyway", action="store_true", help="take a table that differs much from the old one"
    )
    parser.add_argument("--out", type=Path, help="file to write, instead of the one that estimates read")


def _run(given: argparse.Namespace) -> int:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    out: Path = given.out or Path(str(files("runtime") / "prices" / f"{given.region}.csv"))
    try:
        table, differing = refresh(
            given.region, given.source.rstrip("/"), home / "spillway" / "prices", anyway=given.anyway
        )
        write(table, out)
    except (PriceListError, PriceTableError, OSError) as error:
        print(f"no new prices: {error}", file=sys.stderr)
        return 1
    for line in differing:
        print(f"taken all the same: {line}")
    print(f"{out}: {len(table)} prices of {given.region}")
    return 0


COMMAND: Final = Command(
    name="prices",
    summary="Writes a region's price file anew from AWS' public price list.",
    arguments=_arguments,
    run=_run,
)
main: Final = COMMAND.main
