"""Node groups: what their nodes hold, what they cost, and which model goes to which group."""

from decimal import Decimal
from typing import Any

import pytest

from runtime.model import ModelSpec
from runtime.node_groups import NodeGroupSpec, group_of, placement_mistakes, region_mistakes
from stacks.settings import parse
from tests.support.stack_files import platform_object

REGION = "us-east-1"


def model(**spill: Any) -> ModelSpec:
    platform = platform_object("hybrid")
    platform["models"][0]["spill"] |= spill
    platform["cloud"]["nodeGroups"] = [{"name": "any", "instanceTypes": ["g6e.48xlarge"], "max": 50}]
    platform["cloud"]["nodeGroups"].append({"name": "h", "instanceTypes": ["p5.48xlarge"], "max": 50})
    platform["burst"]["ceilingUsdPerHour"] = 10_000
    (only,) = parse(platform).models
    return only


def there(**spill: Any) -> ModelSpec:
    found = model(**spill).in_cloud
    assert found is not None
    return found


def group(name: str, *types: str, maximum: int = 4, **more: Any) -> NodeGroupSpec:
    return NodeGroupSpec(name=name, instance_types=types, max=maximum, **more)


def test_copies_share_a_node_as_far_as_devices_memory_and_cpus_go() -> None:
    small = there(worker={"cpu": "4", "memory": "32Gi"})
    assert group("a", "g6e.48xlarge").nodes_for(small, 8) == 1
    assert group("a", "g6e.48xlarge").nodes_for(small, 9) == 2
    large = there(worker={"cpu": "4", "memory": "700Gi"})
    assert group("a", "g6e.48xlarge").nodes_for(large, 8) == 4, "memory allows two on a node"
    many = there(worker={"cpu": "90", "memory": "32Gi"})
    assert group("a", "g6e.48xlarge").nodes_for(many, 8) == 4, "processors allow two on a node"


def test_a_group_of_several_types_has_the_room_of_the_smallest_and_the_price_of_the_dearest() -> None:
    mixed = group("a", "g6e.xlarge", "g6e.4xlarge")
    assert mixed.room == group("b", "g6e.xlarge").room
    assert mixed.node_price(REGION) == Decimal("3.00424")


def test_a_price_of_ones_own_wins_and_without_any_the_group_is_unpriced() -> None:
    assert group("a", "g6e.xlarge", usd_per_hour=1.25).node_price("eu-north-1") == Decimal("1.25")
    assert group("a", "g6e.xlarge").node_price("eu-north-1") is None


def test_a_model_goes_to_the_group_where_its_copies_cost_least() -> None:
    groups = [group("dear", "g6e.16xlarge"), group("cheap", "g6e.4xlarge"), group("h100", "p5.4xlarge")]
    found = group_of(there(worker={"cpu": "8", "memory": "64Gi"}), groups, REGION)
    assert found is not None
    assert found.name == "cheap"


def test_a_group_with_too_few_nodes_is_passed_over() -> None:
    groups = [group("few", "g6e.4xlarge", maximum=1), group("enough", "g6e.16xlarge")]
    found = group_of(there(worker={"cpu": "8", "memory": "64Gi"}), groups, REGION)
    assert found is not None
    assert found.name == "enough"


def test_an_unpriced_group_is_the_last_choice() -> None:
    groups = [group("unpriced", "g6e.4xlarge"), group("priced", "g6e.16xlarge", usd_per_hour=50.0)]
    found = group_of(there(worker={"cpu": "8", "memory": "64Gi"}), groups, "eu-north-1")
    assert found is not None
    assert found.name == "priced"


def test_a_copy_over_nodes_goes_only_where_there_is_a_fabric() -> None:
    wide = there(accelerator="nvidia-h100", tensorParallel=8, worker={"cpu": "16", "memory": "256Gi"})
    over_two = wide.model_copy(update={"pipeline_parallel": 2})
    assert group("a", "p5.48xlarge").nodes_for(over_two, 1) is None
    assert group("a", "p5.48xlarge", efa=True, zones=("us-east-1a",)).nodes_for(over_two, 1) == 2


def test_a_node_holds_no_more_pods_of_a_copy_over_nodes_than_it_has_adapters() -> None:
    half = there(accelerator="nvidia-l40s", tensorParallel=2, worker={"cpu": "4", "memory": "64Gi"})
    over_two = half.model_copy(update={"pipeline_parallel": 2})
    one_card = group("a", "g6e.12xlarge", efa=True, zones=("us-east-1a",))
    assert (one_card.adapters_per_pod(over_two), one_card.nodes_for(over_two, 1)) == (1, 2)
    four_cards = group("a", "g6e.48xlarge", efa=True, zones=("us-east-1a",))
    assert (four_cards.adapters_per_pod(over_two), four_cards.nodes_for(over_two, 2)) == (1, 1)
    assert four_cards.adapters_per_pod(half) == 0, "a copy within a node needs no fabric"


@pytest.mark.parametrize(
    ("types", "region", "keys"),
    [
        (("g6e.xlarge",), "us-east-1", []),
        (("g6e.xlarge",), "sa-east-1", ["instanceTypes"]),
        (("g6e.xlarge",), "eu-north-1", ["usdPerHour"]),
        (("p6-b200.48xlarge",), "us-east-2", ["usdPerHour"]),
    ],
)
def test_a_region_without_the_type_or_without_a_price_is_one_mistake(
    types: tuple[str, ...], region: str, keys: list[str]
) -> None:
    assert [one.path[1] for one in region_mistakes([group("a", *types)], region)] == keys


def test_models_that_do_not_spill_are_placed_nowhere() -> None:
    stays = model().model_copy(update={"spill": None})
    assert list(placement_mistakes([stays], [group("a", "g6e.xlarge")], REGION)) == []
