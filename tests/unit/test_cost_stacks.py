"""What the committed stacks cost, against tables that were computed by hand from the prices of us-east-1."""

from decimal import Decimal
from functools import cache

import pytest

from runtime.cost.amounts import Band
from runtime.cost.estimate import Estimate, estimate
from runtime.cost.inventory import EKS_PROVIDER, Inventory
from runtime.cost.summary import money
from runtime.stack_resources import StackResource
from stacks.declared import declared
from stacks.settings import SettingsError, parse
from tests.support.stack_files import EXAMPLES, STACKS, platform_object, stack_settings

# Item, USD per hour of one, and how many there are at rest, expected and at most.
Line = tuple[str, Decimal, int, int, int]
Ends = tuple[str, str, str]

_MONTH = Decimal(730)
HYBRID: list[Line] = [
    ("EKS control plane", Decimal("0.10"), 1, 1, 1),
    # Two system nodes, three at most, and four more while they are updated: twice the two zones.
    ("m6i.2xlarge", Decimal("0.384"), 2, 2, 7),
    # No GPU node at rest; an update of these starts none beside the four.
    ("g6e.4xlarge", Decimal("3.00424"), 0, 0, 4),
    # 100 GiB for a system node, 200 GiB for a GPU node: 2 x 100, and 7 x 100 + 4 x 200.
    ("GiB of gp3 volume", Decimal("0.08") / _MONTH, 200, 200, 1500),
    # Nine services in two zones.
    ("VPC interface endpoint in one zone", Decimal("0.01"), 18, 18, 18),
    ("site-to-site VPN connection", Decimal("0.05"), 1, 1, 1),
    ("network load balancer", Decimal("0.0225"), 1, 1, 1),
    # Three keys; each of two rotations adds a key's price.
    ("KMS key", Decimal(1) / _MONTH, 3, 3, 9),
]
# 0.10 + 0.768 + 0.02192 + 0.18 + 0.05 + 0.0225 + 0.00411 = 1.14653
# 0.10 + 2.688 + 12.01696 + 0.16438 + 0.18 + 0.05 + 0.0225 + 0.01233 = 15.23417
SAGEMAKER: list[Line] = [
    # A stable variant of 1 to 2 machines and a canary of 1; an update starts all of them a second time.
    ("ml.g6e.2xlarge", Decimal("2.8026"), 2, 2, 6),
    # None at rest, one while somebody asks, and a second one while it is updated.
    ("ml.g6.2xlarge", Decimal("1.222"), 0, 1, 2),
    # The gateway: 2 to 4 tasks of 1 vCPU and 4 GB, and as many again while it is updated.
    ("vCPU of Fargate tasks", Decimal("0.04048"), 2, 2, 8),
    ("GB of Fargate tasks", Decimal("0.004445"), 8, 8, 32),
    ("network load balancer", Decimal("0.0225"), 1, 1, 1),
    ("secret in Secrets Manager", Decimal("0.40") / _MONTH, 1, 1, 1),
    # Seven services in two zones.
    ("VPC interface endpoint in one zone", Decimal("0.01"), 14, 14, 14),
    # For logs, weights, prompts and API keys; the machines have local disks. Each of two rotations adds a
    # key's price.
    ("KMS key", Decimal(1) / _MONTH, 4, 4, 12),
    ("CloudWatch dashboard", Decimal(3) / _MONTH, 1, 1, 1),
    # chat: errors of two variants, 4; latency and first token of each, with their counts, 8; idle and memory
    # of each, 4. small: errors 2; latency and first token 4; idle, memory and no capacity, 3.
    # The gateway: no task 1, errors of requests 2, lost copies 1.
    ("CloudWatch alarm on one metric", Decimal("0.10") / _MONTH, 29, 29, 29),
    ("CloudWatch composite alarm", Decimal("0.50") / _MONTH, 2, 2, 2),
    # Out of memory on chat and on small's component, prompt and generated tokens of the one with vLLM's
    # image; requests and errors of the gateway, the latter from two logs, its copies kept and lost, and how
    # busy its tasks are.
    ("CloudWatch custom metric", Decimal("0.30") / _MONTH, 0, 9, 9),
]
# A month. Fargate: 59.1008 + 25.9588 = 85.0596, at most four times as much, 340.2384; the network 118.625:
# keys 4 and 12; dashboard 3, alarms 2.90 and 1, secret 0.40.
# 4091.796 + 85.0596 + 118.625 + 4 + 7.30 = 4306.7806
# 4091.796 + 892.06 + 85.0596 + 118.625 + 4 + 7.30 + 2.70 = 5201.5406
# 12275.388 + 1784.12 + 340.2384 + 118.625 + 12 + 7.30 + 2.70 = 14540.3714
TABLES: dict[str, tuple[list[Line], Ends, Ends]] = {
    "local": ([], ("$0.00", "$0.00", "$0.00"), ("$0.00", "$0.00", "$0.00")),
    "onprem": ([], ("$0.00", "$0.00", "$0.00"), ("$0.00", "$0.00", "$0.00")),
    "sagemaker": (SAGEMAKER, ("$5.90", "$7.13", "$19.92"), ("$4,306.78", "$5,201.54", "$14,540.37")),
    "hybrid": (HYBRID, ("$1.15", "$1.15", "$15.23"), ("$836.97", "$836.97", "$11,120.95")),
}


@cache
def resources_of(stack: str) -> tuple[StackResource, ...]:
    return declared(stack_settings(stack))


@cache
def of_stack(stack: str) -> Estimate:
    return estimate(resources_of(stack))


def ends(band: Band) -> Ends:
    return money(band.floor), money(band.expected), money(band.ceiling)


def test_every_committed_stack_has_a_table() -> None:
    assert sorted(TABLES) == STACKS


@pytest.mark.parametrize("stack", TABLES)
def test_a_stack_costs_to_the_cent_what_its_table_says(stack: str) -> None:
    lines, hourly, monthly = TABLES[stack]
    found = of_stack(stack)
    by_hand = [
        sum((usd * floor for _, usd, floor, _, _ in lines), Decimal(0)),
        sum((usd * expected for _, usd, _, expected, _ in lines), Decimal(0)),
        sum((usd * ceiling for _, usd, _, _, ceiling in lines), Decimal(0)),
    ]
    assert ends(found.hourly) == hourly == tuple(money(amount) for amount in by_hand)
    assert ends(found.monthly) == monthly == tuple(money(amount * _MONTH) for amount in by_hand)


@pytest.mark.parametrize("stack", TABLES)
def test_a_stack_is_charged_for_the_items_of_its_table_and_no_others(stack: str) -> None:
    counts: dict[str, Band] = {}
    for charge in of_stack(stack).charges:
        if charge.usd_per_hour is not None:
            counts[charge.item] = counts.get(charge.item, Band.same(0)) + charge.count
    assert counts == {
        item: Band(Decimal(floor), Decimal(expected), Decimal(ceiling))
        for item, _, floor, expected, ceiling in TABLES[stack][0]
    }


@pytest.mark.parametrize("stack", [*STACKS, *EXAMPLES])
def test_no_resource_of_a_stack_is_of_a_type_without_a_rule(stack: str) -> None:
    assert [one.why_unpriced for one in of_stack(stack).unpriced if "no rule" in one.why_unpriced] == []


@pytest.mark.parametrize(
    ("stack", "expected"),
    [
        ("local", []),
        # One copy with one device, two at most, and a second cluster while it is upgraded.
        ("onprem", [("on-prem", "nvidia-h100", 1, 1, 4)]),
        ("hybrid", [("on-prem", "nvidia-h100", 1, 1, 4), ("EKS", "nvidia-l40s", 0, 0, 4)]),
    ],
)
def test_accelerators_are_counted_by_place_and_kind(
    stack: str, expected: list[tuple[str, str, int, int, int]]
) -> None:
    assert [
        (one.place, one.accelerator, one.count.floor, one.count.expected, one.count.ceiling)
        for one in of_stack(stack).devices
    ] == expected


def test_gpus_on_prem_without_a_rate_are_unpriced_and_say_which_key_sets_one() -> None:
    (charge,) = of_stack("onprem").unpriced
    assert charge.amount is None
    assert "cost.onPremUsdPerGpuHour.nvidia-h100" in charge.why_unpriced


def test_a_rate_of_ones_own_prices_gpus_on_prem() -> None:
    platform = platform_object("onprem")
    found = estimate(declared(parse({**platform, "cost": {"onPremUsdPerGpuHour": {"nvidia-h100": 2.25}}})))
    # One device at rest, and with an upgrade's second cluster four at most.
    assert ends(found.hourly) == ("$2.25", "$2.25", "$9.00")
    assert found.unpriced == ()


def test_the_hours_of_bursting_of_a_stack_file_are_what_is_expected_of_its_node_group() -> None:
    platform = platform_object("hybrid")
    found = estimate(declared(parse({**platform, "burst": {**platform["burst"], "burstHoursPerMonth": 146}})))
    # 146 of 730 hours are 0.2 nodes: 0.2 x 3.00424 and 0.2 x 200 GiB, above the floor of 1.14653.
    assert ends(found.hourly) == ("$1.15", "$1.75", "$15.23")


def test_the_foundation_alone_costs_its_endpoints_link_and_keys() -> None:
    platform = platform_object("hybrid")
    found = estimate(declared(parse({**platform, "cloud": {**platform["cloud"], "declare": "foundation"}})))
    # 18 x 0.01 + 0.05 + 3 / 730 at rest, and 9 / 730 for rotated keys at most.
    assert ends(found.hourly) == ("$0.23", "$0.23", "$0.24")


def test_a_rate_for_processors_is_refused() -> None:
    platform = platform_object("onprem")
    with pytest.raises(SettingsError, match=r"cost\.onPremUsdPerGpuHour\.cpu .*remove it"):
        parse({**platform, "cost": {"onPremUsdPerGpuHour": {"cpu": 1}}})


def test_objects_of_both_clusters_of_a_hybrid_stack_are_told_apart() -> None:
    resources = resources_of("hybrid")
    stack = Inventory(resources)
    providers = [one.name for one in resources if one.type == "pulumi:providers:kubernetes"]
    assert sorted(providers) == ["cluster", EKS_PROVIDER]
    services = {one.name: stack.place_of(one) for one in resources if one.type.endswith(":RayService")}
    assert services == {"qwen3-8b": "on-prem", "qwen3-8b-burst": "EKS"}
