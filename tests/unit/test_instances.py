"""The tables of instance types and prices against botocore's and moto's own records."""

import gzip
import json
from collections.abc import Mapping
from importlib.resources import files
from itertools import pairwise
from typing import Any

import pytest

from runtime.accelerators import ACCELERATORS, ENDPOINT_ACCELERATORS
from runtime.instances import INSTANCES, RECORDED, REGIONS, known_instance, known_region
from runtime.pricing import price_of
from runtime.sagemaker.instances import ENDPOINT_TYPES, PREFIX, facts_of

moto = pytest.importorskip("moto")
RESOURCES = files("moto") / "ec2" / "resources"


def _read(*path: str) -> Any:
    file = RESOURCES.joinpath(*path)
    return json.loads(gzip.decompress(file.read_bytes()))


@pytest.fixture(scope="module")
def recorded() -> Mapping[str, Any]:
    return _read("instance_types.json.gz")


def test_the_tables_name_the_record_that_they_are_compared_with() -> None:
    assert f"moto {moto.__version__}" == RECORDED


ROWS = {name.removeprefix(PREFIX): facts_of(name) for name in ENDPOINT_TYPES}


def test_node_groups_have_no_types_that_endpoints_have_not() -> None:
    assert INSTANCES.items() <= ROWS.items()


@pytest.mark.parametrize("name", ROWS)
def test_a_row_says_what_aws_says_of_the_type(name: str, recorded: Mapping[str, Any]) -> None:
    row, there = ROWS[name], recorded[name]
    neuron = there.get("NeuronInfo", {}).get("NeuronDevices", [{}])
    gpu = there.get("GpuInfo", {}).get("Gpus", neuron)[0]
    assert row.vcpus == there["VCpuInfo"]["DefaultVCpus"]
    assert row.memory_gib * 1024 == there["MemoryInfo"]["SizeInMiB"]
    assert row.gpus == gpu.get("Count", 0)
    assert row.nvme_gb == there.get("InstanceStorageInfo", {}).get("TotalSizeInGB", 0)
    assert row.efa_cards == there["NetworkInfo"].get("EfaInfo", {}).get("MaximumEfaInterfaces", 0)


@pytest.mark.parametrize("name", [name for name, row in INSTANCES.items() if row.gpus])
def test_a_types_accelerator_is_its_gpu(name: str, recorded: Mapping[str, Any]) -> None:
    gpu = recorded[name]["GpuInfo"]["Gpus"][0]
    profile = ACCELERATORS[INSTANCES[name].accelerator]
    assert gpu["Name"] == profile.ray_accelerator_type
    # Drivers keep a little of a device's memory, and makers round it up.
    assert gpu["MemoryInfo"]["SizeInMiB"] / 1024 == pytest.approx(profile.memory_gib, rel=0.08)


@pytest.mark.parametrize("name", [name for name in ROWS if name not in INSTANCES])
def test_a_types_neuron_devices_are_those_of_its_accelerator(name: str, recorded: Mapping[str, Any]) -> None:
    (device,) = recorded[name]["NeuronInfo"]["NeuronDevices"]
    profile = ENDPOINT_ACCELERATORS[ROWS[name].accelerator]
    assert f"aws-{device['Name'].lower()}" == profile.name
    assert device["CoreInfo"]["Count"] == profile.cores
    assert device["MemoryInfo"]["SizeInMiB"] == profile.memory_gib * 1024


def test_a_type_is_in_the_regions_that_offer_it() -> None:
    offered: dict[str, set[str]] = {name: set() for name in ROWS}
    for file in (RESOURCES / "instance_type_offerings" / "region").iterdir():
        for row in json.loads(gzip.decompress(file.read_bytes())):
            offered.get(row["InstanceType"], set[str]()).add(file.name.removesuffix(".json.gz"))
    assert {name: set(row.regions) for name, row in ROWS.items()} == offered


def test_pods_get_less_than_the_machine_has_and_more_than_four_fifths_of_a_large_one() -> None:
    for row in INSTANCES.values():
        assert row.allocatable_milli_cpus < row.vcpus * 1000
        assert row.allocatable_bytes < row.memory_gib * 1024**3
        if row.memory_gib >= 64:
            assert row.allocatable_bytes > 0.8 * row.memory_gib * 1024**3


@pytest.mark.parametrize(
    ("name", "capacity", "code"),
    [
        ("g6e.4xlarge", "onDemand", "L-DB2E81BA"),
        ("g6e.4xlarge", "spot", "L-3819A6DF"),
        ("p5.48xlarge", "onDemand", "L-417A185B"),
        ("p5.48xlarge", "spot", "L-C4BD4855"),
        ("p4d.24xlarge", "spot", "L-7212CCBC"),
        ("m6i.large", "onDemand", "L-1216C47A"),
    ],
)
def test_a_type_counts_against_the_quota_of_its_family(name: str, capacity: Any, code: str) -> None:
    quota = INSTANCES[name].quota(capacity)
    assert quota is not None
    assert quota[0] == code


def test_a_capacity_block_counts_against_no_quota() -> None:
    assert INSTANCES["p5.48xlarge"].quota("capacityBlock") is None


def test_an_unknown_type_or_region_is_told_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"did you mean g6e\.12xlarge\?"):
        known_instance("g6e.12xlrge")
    with pytest.raises(ValueError, match=r"did you mean eu-west-1\?"):
        known_region("eu-wst-1")
    assert known_region("us-east-1") in REGIONS


def test_every_type_has_a_list_price_in_us_east_1() -> None:
    for name in INSTANCES:
        price = price_of(name, "us-east-1")
        assert price.usd_per_hour is not None
        assert price.usd_per_hour > 0


def test_a_larger_size_of_a_family_with_as_many_gpus_costs_more() -> None:
    rows = sorted(INSTANCES.values(), key=lambda row: (row.family, row.gpus, row.vcpus))
    for small, large in pairwise(rows):
        if (small.family, small.gpus) == (large.family, large.gpus):
            prices = [price_of(row.name, "us-east-1").usd_per_hour for row in (small, large)]
            assert None not in prices
            assert prices[0] < prices[1]  # pyright: ignore[reportOperatorIssue]
