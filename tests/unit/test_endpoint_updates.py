"""What an update of an endpoint would undo: counts that autoscaling set, weights that a promotion set."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pulumi
import pytest

from runtime.model import Replicas
from runtime.ops.aws_account import Boto3Account
from runtime.ops.live_endpoint import (
    DECLARED_TAG,
    InTheWayError,
    LiveEndpoint,
    LiveVariant,
    clear_failed,
    moved_traffic,
    not_taken,
    read_live,
)
from runtime.sagemaker.endpoints import EndpointSpec
from runtime.tenure import STACK_TAG
from stacks import endpoint_updates
from stacks.endpoint_updates import KeptCounts, warn_of_lost_configurations, warn_of_moved_traffic
from stacks.sagemaker_settings import SageMakerSettings
from tests.support.aws import RunningDouble
from tests.support.stack_files import stack_settings

MODEL = "aws:sagemaker/model:Model"
CONFIGURATION = "aws:sagemaker/endpointConfiguration:EndpointConfiguration"
ROLE = "arn:aws:iam::123456789012:role/r"


@pytest.fixture
def hosted() -> SageMakerSettings:
    found = stack_settings("sagemaker")
    assert isinstance(found, SageMakerSettings)
    return found


def live(
    declared: str | None, stable: int = 2, canary: int = 1, weights: tuple[float, float] = (9, 1)
) -> LiveEndpoint:
    runs = {"stable": (stable, weights[0]), "canary": (canary, weights[1])}
    return LiveEndpoint(
        declared=declared,
        variants={
            name: LiveVariant(desired=count, initial=1, weight=weight)
            for name, (count, weight) in runs.items()
        },
    )


def transformed(
    kept: KeptCounts, type_: str, name: str, props: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    args = pulumi.ResourceTransformationArgs(
        resource=None,  # pyright: ignore[reportArgumentType]
        type_=type_,
        name=name,
        props=props,
        opts=pulumi.ResourceOptions(),
    )
    result = kept(args)
    return None if result is None else result.props


def configuration(
    hosted: SageMakerSettings, runs: LiveEndpoint | None, image: str = "one", **changes: Any
) -> tuple[dict[str, int], str]:
    """The counts and the digest of endpoint `chat`, whose stable variant has 1 to 2 instances."""
    kept = KeptCounts(hosted, {} if runs is None else {"chat": runs})
    for model in ("qwen3-8b", "qwen3-8b-next"):
        transformed(kept, MODEL, f"llm-{model}", {"image": image})
    variants = [
        {"variant_name": name, "instance_type": "ml.g6e.2xlarge", "initial_instance_count": 1, **changes}
        for name in ("stable", "canary")
    ]
    props = transformed(
        kept, CONFIGURATION, "llm-chat", {"production_variants": variants, "kms_key_arn": None}
    )
    assert props is not None
    counts = {one["variant_name"]: one["initial_instance_count"] for one in props["production_variants"]}
    return counts, props["tags"][DECLARED_TAG]


def test_retain_all_variant_properties_is_missing_so_a_changed_configuration_begins_with_what_runs(
    hosted: SageMakerSettings,
) -> None:
    _, before = configuration(hosted, None)
    counts, after = configuration(hosted, live(before), image="another")
    assert after != before
    assert counts == {"stable": 2, "canary": 1}


def test_a_change_of_a_variant_counts_too(hosted: SageMakerSettings) -> None:
    _, before = configuration(hosted, None)
    counts, _ = configuration(hosted, live(before), inference_ami_version="another")
    assert counts["stable"] == 2


def test_where_nothing_changes_the_count_alone_makes_no_update(hosted: SageMakerSettings) -> None:
    _, before = configuration(hosted, None)
    assert configuration(hosted, live(before)) == ({"stable": 1, "canary": 1}, before)


def test_what_runs_is_held_between_the_least_and_the_most(hosted: SageMakerSettings) -> None:
    assert configuration(hosted, live("another", stable=9))[0]["stable"] == 2
    assert configuration(hosted, live("another", stable=0))[0]["stable"] == 1


def test_a_fleet_of_a_fixed_size_has_the_size_of_the_stack_file(hosted: SageMakerSettings) -> None:
    assert configuration(hosted, live("another", canary=3))[0]["canary"] == 1


def test_a_new_variant_begins_with_its_least(hosted: SageMakerSettings) -> None:
    runs = live("another")
    alone = LiveEndpoint(declared="another", variants={"canary": runs.variants["canary"]})
    assert configuration(hosted, alone)[0]["stable"] == 1


def test_models_of_other_endpoints_change_nothing(hosted: SageMakerSettings) -> None:
    digests: set[str] = set()
    for image in ("one", "another"):
        kept = KeptCounts(hosted, {})
        transformed(kept, MODEL, "llm-qwen3-1-7b", {"image": image})
        variants = [{"variant_name": "stable", "initial_instance_count": 1}]
        props = transformed(kept, CONFIGURATION, "llm-chat", {"production_variants": variants})
        assert props is not None
        digests.add(props["tags"][DECLARED_TAG])
    assert len(digests) == 1


def test_the_digest_does_not_depend_on_what_is_not_known_yet(hosted: SageMakerSettings) -> None:
    async def digest(name: str) -> str:  # an output needs a running loop
        return configuration(hosted, None, model_name=pulumi.Output.from_input(name))[1]

    assert asyncio.run(digest("a")) == asyncio.run(digest("b"))


def test_traffic_that_a_promotion_moved_is_warned_of_with_the_lines_to_write(
    hosted: SageMakerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    monkeypatch.setattr("pulumi.log.warn", warned.append)
    warn_of_moved_traffic(hosted.endpoints, {"chat": live("d", weights=(2.5, 7.5))})
    assert warned == [
        "endpoint chat: its traffic was moved since the last update, by `evaluate` or by hand, and the next "
        "update puts it back to the stack file's weights. To keep it, write\n"
        "  endpoints[0].variants[0].weight: 1  # stable: 9\n"
        "  endpoints[0].variants[1].weight: 3  # canary: 1"
    ]


def test_the_same_shares_in_other_numbers_are_no_moved_traffic(
    hosted: SageMakerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    monkeypatch.setattr("pulumi.log.warn", warned.append)
    warn_of_moved_traffic(hosted.endpoints, {"chat": live("d", weights=(0.90000004, 0.1))})
    assert warned == []


@pytest.mark.parametrize("weights", [{"a": 1}, {"a": 0, "b": 0}])
def test_other_variants_or_no_traffic_are_no_moved_traffic(weights: dict[str, int]) -> None:
    runs = LiveEndpoint(
        declared=None,
        variants={name: LiveVariant(desired=1, initial=1, weight=0.0) for name in ("a", "b")},
    )
    assert moved_traffic(runs, weights) is None


def test_an_endpoint_is_read_as_it_runs_and_one_that_is_not_there_is_none(double: RunningDouble) -> None:
    sagemaker = double.client("sagemaker")
    sagemaker.create_model(ModelName="m", ExecutionRoleArn=ROLE)
    variant = {"VariantName": "stable", "ModelName": "m", "InstanceType": "ml.g6e.2xlarge"}
    sagemaker.create_endpoint_config(
        EndpointConfigName="c",
        ProductionVariants=[{**variant, "InitialInstanceCount": 1, "InitialVariantWeight": 9}],
        Tags=[{"Key": DECLARED_TAG, "Value": "digest"}],
    )
    sagemaker.create_endpoint(EndpointName="llm-chat", EndpointConfigName="c")
    sagemaker.update_endpoint_weights_and_capacities(
        EndpointName="llm-chat",
        DesiredWeightsAndCapacities=[
            {"VariantName": "stable", "DesiredWeight": 4, "DesiredInstanceCount": 3}
        ],
    )

    assert read_live(double, "llm-chat") == LiveEndpoint(
        declared="digest", variants={"stable": LiveVariant(desired=3, initial=1, weight=4.0)}
    )
    assert read_live(double, "llm-other") is None
    # An endpoint without its configuration is there, and is not taken for one that is not.
    sagemaker.delete_endpoint_config(EndpointConfigName="c")
    lost = read_live(double, "llm-chat")
    assert lost is not None
    assert (lost.lost, lost.variants["stable"].desired) == ("c", 3)


def test_an_endpoint_whose_configuration_is_gone_is_warned_of_with_two_ways_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warned: list[str] = []
    monkeypatch.setattr("pulumi.log.warn", warned.append)
    gone = LiveEndpoint(declared=None, variants={}, lost="llm-chat-1")
    warn_of_lost_configurations("llm", {"chat": gone, "other": live("d")})
    (said,) = warned
    assert "endpoint chat: its configuration llm-chat-1 is gone" in said
    assert "pulumi up --replace '**aws:sagemaker/endpoint:Endpoint::llm-chat'" in said


def test_an_update_that_was_taken_back_is_told_with_reason_alarms_and_log(double: RunningDouble) -> None:
    sagemaker = double.client("sagemaker")
    sagemaker.create_model(ModelName="m", ExecutionRoleArn=ROLE)
    variant = {"VariantName": "a", "ModelName": "m", "InstanceType": "ml.g6e.2xlarge"}
    for name in ("old", "new"):
        sagemaker.create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=[{**variant, "InitialInstanceCount": 1}]
        )
    sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="old")
    double.script(takenBack={"e": "an alarm went off"})
    deployment = {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors"}]}}
    sagemaker.update_endpoint(EndpointName="e", EndpointConfigName="new", DeploymentConfig=deployment)
    assert not_taken(double, "e", "old") is None
    said = not_taken(double, "e", "new") or ""
    assert said.startswith(
        "endpoint e runs old, and was given new; SageMaker took the update back: an alarm went off\n"
        "  alarms that take updates back: errors\n"
        "  its log: /aws/sagemaker/Endpoints/e\n"
    )
    # Traffic that moves is the one thing that the double takes time for.
    weights = [{"VariantName": "a", "DesiredWeight": 2}]
    sagemaker.update_endpoint_weights_and_capacities(EndpointName="e", DesiredWeightsAndCapacities=weights)
    assert "it is Updating; run again when it is InService" in (not_taken(double, "e", "new") or "")
    double.script()
    sagemaker.update_endpoint(EndpointName="e", EndpointConfigName="new", DeploymentConfig=deployment)
    assert not_taken(double, "e", "new") is None


def test_only_a_failed_endpoint_of_the_stacks_own_is_cleared_away(double: RunningDouble) -> None:
    sagemaker = double.client("sagemaker")
    sagemaker.create_model(ModelName="m", ExecutionRoleArn=ROLE)
    variant = {"VariantName": "a", "ModelName": "m", "InstanceType": "ml.g6e.2xlarge"}
    sagemaker.create_endpoint_config(
        EndpointConfigName="c", ProductionVariants=[{**variant, "InitialInstanceCount": 1}]
    )
    double.script(failing={"failed": "no image", "others": "no image"})
    for name, stack in (("failed", "o/p/dev"), ("others", "o/p/prod"), ("late", "o/p/dev")):
        tags = [{"Key": STACK_TAG, "Value": stack}]
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName="c", Tags=tags)
    assert clear_failed(double, "failed", "o/p/dev") is True
    assert clear_failed(double, "failed", "o/p/dev") is False
    with pytest.raises(InTheWayError, match="not of this stack"):
        clear_failed(double, "others", "o/p/dev")
    with pytest.raises(InTheWayError, match="is there, InService, and Pulumi's state does not have it"):
        clear_failed(double, "late", "o/p/dev")
    assert len(sagemaker.list_endpoints()["Endpoints"]) == 2


def test_who_frees_a_variant_says_what_puts_its_scaling_back_after_a_failure(
    hosted: SageMakerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks: list[Any] = []
    said: list[str] = []

    def hook(name: str, function: Any) -> None:
        hooks.append(function)

    def freed(*_: Any) -> list[str]:
        return ["stable"]

    def registered(_: Any) -> None: ...

    monkeypatch.setattr(pulumi, "ResourceHook", hook)
    monkeypatch.setattr(pulumi.runtime, "register_stack_transformation", registered)
    monkeypatch.setattr(pulumi.log, "info", said.append)
    monkeypatch.setattr(endpoint_updates, "deregister_changed", freed)
    endpoint_updates.free_changed_variants(hosted, Boto3Account("us-east-1", None, None))
    asyncio.run(hooks[0](pulumi.ResourceHookArgs("urn", "id", "llm-chat", "aws:sagemaker/endpoint:Endpoint")))
    assert said[0].startswith("llm-chat: no scaling of stable until the update is through. If it fails")
    assert "`pulumi up --refresh`" in said[0]


def test_shared_instances_begin_with_what_runs_too(hosted: SageMakerSettings) -> None:
    small: EndpointSpec = hosted.endpoints[1]
    assert small.shared is not None
    shared = small.shared.model_copy(update={"instances": Replicas(min=0, max=4)})
    settings = hosted.model_copy(update={"endpoints": (small.model_copy(update={"shared": shared}),)})
    runs = LiveEndpoint(
        declared="another", variants={"shared": LiveVariant(desired=3, initial=1, weight=1.0)}
    )
    kept = KeptCounts(settings, {"small": runs})
    variants = [{"variant_name": "shared", "initial_instance_count": 1}]
    props = transformed(kept, CONFIGURATION, "llm-small", {"production_variants": variants})
    assert props is not None
    assert props["production_variants"][0]["initial_instance_count"] == 3
