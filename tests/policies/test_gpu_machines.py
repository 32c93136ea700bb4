"""Machines with accelerators: Auto Scaling groups are counted, and their subnets are private."""

import pytest

from policies.gpu_cost.money import GPU_HOURLY_CEILING
from policies.gpu_cost.pools import GPU_INSTANCE_ALLOWLIST, GPU_MAX_PER_POOL
from policies.llm_security.network import (
    GPU_SUBNETS_PRIVATE,
    INTERNET_GATEWAY,
    ROUTE,
    ROUTE_TABLE,
    ROUTE_TABLE_ASSOCIATION,
    SUBNET,
)
from policies.node_pools import AUTO_SCALING_GROUP, ENDPOINT, NODE_GROUP
from policies.rule import Finding, NotApplicable, Resource, Stack, Verdict
from tests.policies.kubernetes_objects import UNKNOWN_STRING

PROVIDER = Resource("pulumi:providers:aws", "aws", {"region": "us-east-1"}, urn="aws")


def auto_scaling_group(most: object = 4, *types: str) -> Resource:
    overrides = [{"instanceType": one} for one in types or ("p5.48xlarge",)]
    policy = {"launchTemplate": {"overrides": overrides}}
    props = {"minSize": 0, "maxSize": most, "mixedInstancesPolicy": policy}
    return Resource(AUTO_SCALING_GROUP, "own", props, urn="group", provider="aws", dependencies=("subnet",))


def only_finding(verdict: Verdict) -> Finding:
    assert isinstance(verdict, list), verdict
    [finding] = verdict
    return finding


def test_the_accelerators_of_an_auto_scaling_group_are_on_the_allow_list_or_refused() -> None:
    finding = only_finding(GPU_INSTANCE_ALLOWLIST.evaluate(auto_scaling_group(), {}))
    assert "mixedInstancesPolicy.launchTemplate.overrides[0].instanceType" in finding.message
    allowed = {"allowedAccelerators": ["nvidia-h100"]}
    assert GPU_INSTANCE_ALLOWLIST.evaluate(auto_scaling_group(), allowed) == []


def test_an_auto_scaling_group_without_instance_types_is_not_passed() -> None:
    nameless = Resource(
        AUTO_SCALING_GROUP, "own", {"minSize": 0, "maxSize": 4, "launchTemplate": {"id": "lt-1"}}
    )
    finding = only_finding(GPU_INSTANCE_ALLOWLIST.evaluate(nameless, {}))
    assert "mixedInstancesPolicy.launchTemplate.overrides names no instance type" in finding.message


def test_the_accelerators_of_an_auto_scaling_group_are_counted_at_its_largest() -> None:
    config = {"maxGpusPerPool": 32}
    assert GPU_MAX_PER_POOL.evaluate(auto_scaling_group(4), config) == []
    assert "40" in only_finding(GPU_MAX_PER_POOL.evaluate(auto_scaling_group(5), config)).message


def test_an_auto_scaling_group_of_cpus_is_no_matter_of_accelerators() -> None:
    assert GPU_INSTANCE_ALLOWLIST.evaluate(auto_scaling_group(9, "m7i.xlarge"), {}) == []


def test_an_auto_scaling_group_counts_for_the_hourly_ceiling_of_the_stack() -> None:
    few, many = (Stack((PROVIDER, auto_scaling_group(most))) for most in (1, 4))
    assert GPU_HOURLY_CEILING.evaluate(few, {"maxUsdPerHour": 100}) == []
    finding = only_finding(GPU_HOURLY_CEILING.evaluate(many, {"maxUsdPerHour": 100}))
    assert "own (p5.48xlarge)" in finding.message


GATEWAY = Resource(INTERNET_GATEWAY, "out", {}, urn="gateway")
PRIVATE = Resource(SUBNET, "a", {"mapPublicIpOnLaunch": False}, urn="subnet")
ASSOCIATED = Resource(ROUTE_TABLE_ASSOCIATION, "a", {}, urn="association", dependencies=("subnet", "table"))
TABLE = Resource(ROUTE_TABLE, "t", {}, urn="table")
TO_GATEWAY = Resource(ROUTE, "r", {}, urn="route", dependencies=("table", "gateway"))


@pytest.mark.parametrize(
    "declared",
    [
        pytest.param([GATEWAY, TABLE, TO_GATEWAY], id="a route of its own"),
        pytest.param(
            [GATEWAY, Resource(ROUTE_TABLE, "t", {}, urn="table", dependencies=("gateway",))],
            id="a route in its table",
        ),
        pytest.param(
            [Resource(ROUTE_TABLE, "t", {"routes": [{"gatewayId": "igw-0a"}]}, urn="table")],
            id="a gateway that is not the stack's",
        ),
    ],
)
def test_a_route_to_an_internet_gateway_makes_a_subnet_public(declared: list[Resource]) -> None:
    stack = Stack((*declared, PRIVATE, ASSOCIATED, auto_scaling_group()))
    finding = only_finding(GPU_SUBNETS_PRIVATE.evaluate(stack, {}))
    assert finding.message == (
        "own may start machines with accelerators in subnet a, which has a route to an internet gateway."
    )
    assert finding.urn == "group"


def test_a_subnet_whose_table_leads_nowhere_is_private() -> None:
    stack = Stack((GATEWAY, TABLE, PRIVATE, ASSOCIATED, auto_scaling_group()))
    assert GPU_SUBNETS_PRIVATE.evaluate(stack, {}) == []


def test_a_table_whose_routes_are_not_known_yet_is_judged_by_what_it_depends_on() -> None:
    table = Resource(ROUTE_TABLE, "t", {"routes": UNKNOWN_STRING}, urn="table")
    assert (
        GPU_SUBNETS_PRIVATE.evaluate(Stack((GATEWAY, table, PRIVATE, ASSOCIATED, auto_scaling_group())), {})
        == []
    )
    stack = Stack((GATEWAY, table, TO_GATEWAY, PRIVATE, ASSOCIATED, auto_scaling_group()))
    assert (
        "has a route to an internet gateway" in only_finding(GPU_SUBNETS_PRIVATE.evaluate(stack, {})).message
    )


def test_machines_without_accelerators_may_be_in_a_public_subnet() -> None:
    stack = Stack((GATEWAY, TABLE, TO_GATEWAY, PRIVATE, ASSOCIATED, auto_scaling_group(4, "m7i.xlarge")))
    assert GPU_SUBNETS_PRIVATE.evaluate(stack, {}) == []


def test_a_stack_without_machines_is_not_judged() -> None:
    assert isinstance(GPU_SUBNETS_PRIVATE.evaluate(Stack((PRIVATE,)), {}), NotApplicable)


def test_machines_of_unknown_type_in_subnets_are_named() -> None:
    unknown = Resource(NODE_GROUP, "g", {"instanceTypes": []}, urn="group", dependencies=("subnet",))
    assert (
        "names no instance type"
        in only_finding(GPU_SUBNETS_PRIVATE.evaluate(Stack((PRIVATE, unknown)), {})).message
    )


def test_neuron_devices_of_endpoints_are_judged_and_counted_as_all_others() -> None:
    variant = {"variantName": "a", "instanceType": "ml.inf2.48xlarge", "initialInstanceCount": 2}
    endpoint = Resource(ENDPOINT, "llm-chat", {"productionVariants": [variant]})
    assert "aws-inferentia2" in only_finding(GPU_INSTANCE_ALLOWLIST.evaluate(endpoint, {})).message
    assert GPU_INSTANCE_ALLOWLIST.evaluate(endpoint, {"allowedAccelerators": ["aws-inferentia2"]}) == []
    assert GPU_MAX_PER_POOL.evaluate(endpoint, {"maxGpusPerPool": 24}) == []
    assert "24" in only_finding(GPU_MAX_PER_POOL.evaluate(endpoint, {"maxGpusPerPool": 23})).message
