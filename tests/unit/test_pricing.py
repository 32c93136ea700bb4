"""The price files, and the devices of instance types against moto's record of what AWS says."""

import datetime as dt
import gzip
import json
from decimal import Decimal
from importlib.resources import files
from typing import Any

import pytest

from runtime.instances import INSTANCES
from runtime.pricing import (
    CONTROL_PLANE,
    GP3_GIB,
    S3_STORAGE,
    Devices,
    Price,
    PriceTableError,
    devices_of,
    oldest,
    price_of,
    prices,
    read_prices,
)

REGIONS = [
    file.name.removesuffix(".csv")
    for file in (files("runtime") / "prices").iterdir()
    if file.name != "devices.csv"
]
HEAD = "item,region,unit,usd,source,date\n"


@pytest.mark.parametrize("region", REGIONS)
def test_every_price_is_above_zero_and_has_its_region_source_and_day(region: str) -> None:
    for item, price in prices(region).items():
        assert price.usd is not None, item
        assert price.usd > 0, item
        assert price.region == region, item
        assert price.source, item
        assert dt.date.fromisoformat(price.date) <= dt.date.today(), item


@pytest.mark.parametrize(
    "item",
    ["p5en.48xlarge", "g6f.large", "inf2.xlarge", "trn1.32xlarge", "m6i.2xlarge", "ml.g6e.12xlarge"],
)
def test_gpu_neuron_and_common_types_of_ec2_and_sagemaker_are_priced(item: str) -> None:
    assert price_of(item, "us-east-1").usd_per_hour is not None


def test_what_has_no_price_is_unpriced_and_never_free() -> None:
    unknown = price_of("g6e.xlarge", "eu-central-1")
    assert unknown == Price(item="g6e.xlarge", region="eu-central-1", usd=None)
    assert unknown.usd_per_hour is None
    assert unknown.words == "unpriced"


def test_a_price_by_the_month_is_paid_by_the_hour_too_and_one_by_use_is_not() -> None:
    assert price_of(GP3_GIB, "us-east-1").usd_per_hour == Decimal("0.08") / 730
    assert price_of(S3_STORAGE, "us-east-1").usd_per_hour is None
    assert price_of(S3_STORAGE, "us-east-1").words == "$0.023/GB-month"
    assert price_of(CONTROL_PLANE, "us-east-1").words == "$0.1/h"


def test_the_age_of_a_table_is_that_of_its_oldest_price() -> None:
    old, new = (Price(item="x", region="r", date=date) for date in ("2024-07-01", "2026-07-20"))
    assert oldest([new, old, Price(item="y", region="r")]) == "2024-07-01"
    assert oldest([Price(item="y", region="r")]) == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("item,usd\n", "first line must be item,region,unit,usd,source,date"),
        (f"{HEAD}x,r,hour,0,here,2026-01-01\n", "x has the price 0"),
        (f"{HEAD}x,r,hour,NaN,here,2026-01-01\n", "x has the price NaN"),
        (f"{HEAD}x,r,hour,1.00,,2026-01-01\n", "from ''"),
        (f"{HEAD}x,r,day,1.00,here,2026-01-01\n", "per day"),
        (f"{HEAD}x,r,hour,one,here,2026-01-01\n", "'one'"),
        (f"{HEAD}x,r,hour,1.00,here,yesterday\n", "'yesterday'"),
        (f"{HEAD}x,r,hour,1,here,2026-01-01\nx,r,hour,2,here,2026-01-01\n", "line 3: x is there twice"),
    ],
)
def test_a_row_that_is_no_price_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises(PriceTableError, match=said):
        read_prices(text.splitlines(keepends=True), "prices.csv")


def test_devices_are_those_of_the_node_table_where_it_has_the_type() -> None:
    for name, row in INSTANCES.items():
        there = devices_of(name)
        expected = Devices(accelerator=row.accelerator, count=Decimal(row.gpus)) if row.gpus else None
        assert there == expected, name


def test_a_share_of_a_device_is_a_fraction() -> None:
    assert devices_of("g6f.large") == Devices(accelerator="nvidia-l4", count=Decimal("0.125"))
    assert devices_of("ml.g6e.12xlarge") == Devices(accelerator="nvidia-l40s", count=Decimal(4))


def test_every_count_is_what_aws_says() -> None:
    moto = pytest.importorskip("moto")
    path = files(moto.__name__) / "ec2" / "resources" / "instance_types.json.gz"
    recorded: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    lines = (files("runtime") / "prices" / "devices.csv").read_text().splitlines()
    for name in [line.partition(",")[0] for line in lines][1:]:
        there = recorded[name]
        gpus: list[dict[str, Any]] = there.get("GpuInfo", {}).get("Gpus", [])
        neurons: list[dict[str, Any]] = there.get("NeuronInfo", {}).get("NeuronDevices", [])
        count = sum(one["LogicalGpuCount"] * one["GpuPartitionSize"] for one in gpus) + sum(
            one["Count"] for one in neurons
        )
        found = devices_of(name)
        assert found is not None
        assert float(found.count) == count, name
