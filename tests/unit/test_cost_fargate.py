"""What a service on Fargate costs: by its task definition, its sizes and what an update runs beside it."""

from decimal import Decimal
from typing import Any

from runtime.cost.amounts import Band, Charge, UsePrice
from runtime.cost.estimate import Estimate, estimate
from runtime.stack_resources import UNKNOWN, StackResource

PARENT = "urn:pulumi:dev::llm::spillway:aws:EndpointGateway::gateway"
ARN = "arn:aws:ecs:us-east-1:123456789012:task-definition/gateway:3"


def resource(kind: str, own: str, /, **inputs: Any) -> StackResource:
    urn = f"urn:pulumi:dev::llm::{kind}::{own}"
    given = {"region": "us-east-1", **inputs}
    return StackResource(urn=urn, type=kind, name=own, inputs=given, parent=PARENT)


def definition(**changes: Any) -> StackResource:
    given = {"family": "gateway", "cpu": "512", "memory": "3072", **changes}
    return resource("aws:ecs/taskDefinition:TaskDefinition", "gateway", **given)


def service(**changes: Any) -> StackResource:
    given = {"name": "gateway", "launchType": "FARGATE", "desiredCount": 2, "taskDefinition": ARN, **changes}
    return resource("aws:ecs/service:Service", "gateway", **given)


def target(least: int, most: int, of: object = "service/c/gateway") -> StackResource:
    kind = "aws:appautoscaling/target:Target"
    sizes = {"minCapacity": least, "maxCapacity": most}
    return resource(kind, "gateway", serviceNamespace="ecs", resourceId=of, **sizes)


def counts(*resources: StackResource) -> dict[str, Band]:
    found: Estimate = estimate(resources)
    assert found.unpriced == ()
    return {one.item: one.count for one in found.charges}


def band(least: str, desired: str, most: str) -> Band:
    return Band(Decimal(least), Decimal(desired), Decimal(most))


def test_an_update_runs_twice_the_tasks_where_nothing_says_otherwise() -> None:
    assert counts(service(), definition()) == {
        "vCPU of Fargate tasks": band("1", "1", "2"),
        "GB of Fargate tasks": band("6", "6", "12"),
    }


def test_scaling_says_how_few_and_how_many_there_may_be() -> None:
    found = counts(service(), definition(), target(1, 6), target(9, 9, "service/c/other"))
    assert found["vCPU of Fargate tasks"] == band("0.5", "1", "6")


def test_an_update_in_place_adds_nothing() -> None:
    found = counts(service(deploymentMaximumPercent=100), definition())
    assert found["GB of Fargate tasks"] == band("6", "6", "6")


def test_arm_has_prices_of_its_own() -> None:
    made = estimate([service(), definition(runtimePlatform={"cpuArchitecture": "ARM64"})])
    assert {one.item for one in made.charges} == {
        "vCPU of Fargate tasks on ARM",
        "GB of Fargate tasks on ARM",
    }
    assert made.hourly.floor == 1 * Decimal("0.03238") + 6 * Decimal("0.00356")


def test_a_preview_that_knows_no_names_goes_by_what_is_beside_it() -> None:
    found = counts(service(taskDefinition=UNKNOWN), definition(), target(1, 3, UNKNOWN))
    assert found["vCPU of Fargate tasks"] == band("0.5", "1", "3")


def test_a_service_without_its_task_definition_is_unpriced_and_named() -> None:
    (charge,) = estimate([service()]).unpriced
    assert "task definition is not among the resources" in charge.why_unpriced


def test_tasks_on_machines_of_your_own_are_paid_with_the_machines() -> None:
    made = estimate([service(launchType="EC2"), definition()])
    assert made.charges == ()
    assert "what its tasks run on is billed" in made.free.values()


def test_container_insights_are_named_with_their_price_and_in_no_sum() -> None:
    settings = [{"name": "containerInsights", "value": "enabled"}]
    made = estimate([resource("aws:ecs/cluster:Cluster", "c", settings=settings)])
    assert made.hourly.is_zero
    (used,) = made.by_use
    assert isinstance(used, UsePrice)
    assert used.item == "CloudWatch custom metric"
    off = estimate([resource("aws:ecs/cluster:Cluster", "c")])
    assert off.by_use == ()


def test_a_secret_is_paid_by_the_month() -> None:
    made = estimate([resource("aws:secretsmanager/secret:Secret", "keys")])
    (charge,) = made.charges
    assert isinstance(charge, Charge)
    assert made.monthly.expected == Decimal("0.40")
