"""What stands for SageMaker's containers, for Fargate and for scaling in a rehearsal of endpoints."""

import socket
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import yaml

from rehearsal.aws.account import AwsDouble
from rehearsal.cloud import RehearsedCloud
from rehearsal.endpoints.containers import Containers, engine_flags
from rehearsal.endpoints.cycle import canary_of
from rehearsal.endpoints.processes import ServerError
from rehearsal.endpoints.scaling import ComponentScaling, NotDeclaredError
from rehearsal.places import EmbeddedSite, Place, RehearsedAccount
from rehearsal.platform import Platform
from rehearsal.rehearsed_stack import as_rehearsed
from rehearsal.site import Site
from rehearsal.site.teardown import Leftovers
from rehearsal.staging import (
    BETTER_REVISION,
    WORSE_REVISION,
    RehearsedRegistry,
    folder_of,
    rehearsed_weights,
)
from rehearsal.workspace import PROJECT, Workspace
from runtime.ops.progress import Progress
from runtime.ops.stage import ImagePlan, ModelPlan
from runtime.sagemaker.containers import container_environment
from runtime.sagemaker.hosted import HostedRevision
from stacks.settings import parse_sagemaker
from tests.support.aws import RunningDouble
from tests.support.hosted import ENDPOINT, hosted

STACK = PROJECT / "stacks" / "Pulumi.sagemaker.yaml"
COMPONENT = "llm-small-tiny"
RESOURCE = f"inference-component/{COMPONENT}"
DIMENSION = "sagemaker:inference-component:DesiredCopyCount"
PINNED = "123456789012.dkr.ecr.us-east-1.amazonaws.com/llm/vllm:1@sha256:" + "a" * 64


def committed() -> dict[str, Any]:
    return yaml.safe_load(STACK.read_text())


def rehearsed(canary: str | None = None) -> dict[str, Any]:
    return as_rehearsed(committed(), None, canary)["config"]["spillway:platform"]


# Containers


def test_every_variable_that_the_committed_stack_declares_is_an_argument_of_vllm_here() -> None:
    flags = {
        model.name: engine_flags(container_environment(model))
        for model in parse_sagemaker(rehearsed()).models
    }
    assert flags["qwen3-8b"] == (
        "--max-model-len=2048",
        "--max-num-queued-reqs=128",
        "--max-num-seqs=64",
        "--served-model-name=Qwen/Qwen3-8B",
    )
    # DJL's own names of the same things.
    assert flags["qwen3-1-7b"] == (
        "--max-model-len=2048",
        "--max-num-seqs=32",
        "--served-model-name=Qwen/Qwen3-1.7B",
    )


def test_the_flags_of_the_server_for_neuron_devices_are_vllms_own_here() -> None:
    assert engine_flags(
        {
            "SM_ON_MODEL": "/opt/ml/model",
            "SM_ON_SERVED_MODEL_NAME": "Qwen/Qwen3-8B",
            "SM_ON_TENSOR_PARALLEL_SIZE": "24",
            "SM_ON_BATCH_SIZE": "8",
            "SM_ON_SEQUENCE_LENGTH": "2048",
            "SM_ON_NO_ENABLE_PREFIX_CACHING": "",
        }
    ) == (
        "--max-num-seqs=8",
        "--no-enable-prefix-caching",
        "--max-model-len=2048",
        "--served-model-name=Qwen/Qwen3-8B",
    )


def test_a_rehearsal_stages_what_a_compiled_model_would_have(tmp_path: Path) -> None:
    compiled = {"batch_size": 8, "sequence_length": 2048, "tp_degree": 24}
    image = ImagePlan("i", "i")
    plan = ModelPlan("m", "t", "models/m/r1/", None, "r1", None, image, compiled)
    plan.check(folder_of(None, tmp_path)(plan))


def test_a_bare_flag_stays_bare_and_what_is_not_known_is_refused() -> None:
    assert engine_flags({"SM_VLLM_ENABLE_LORA": "true"}) == ("--enable-lora",)
    with pytest.raises(ServerError, match="SAGEMAKER_PROGRAM = x: a rehearsal does not know"):
        engine_flags({"SAGEMAKER_PROGRAM": "x"})


def test_a_container_without_network_must_load_what_sagemaker_lays_down() -> None:
    with pytest.raises(ServerError, match=r"SM_VLLM_MODEL = Qwen/Qwen3-8B: .* loads from /opt/ml/model"):
        engine_flags({"SM_VLLM_MODEL": "Qwen/Qwen3-8B"})


def test_weights_that_were_not_staged_start_no_container(double: RunningDouble, tmp_path: Path) -> None:
    double.client("s3").create_bucket(Bucket="weights")
    source = {"S3Uri": "s3://weights/models/m/r1/"}
    one = {"Environment": {}, "Image": "i", "ModelDataSource": {"S3DataSource": source}}
    model = HostedRevision(model="m", revision="r1", at_once=1, containers=(one,))
    containers = Containers(Path("/nowhere"), double.client("s3"), tmp_path, Progress())
    with pytest.raises(ServerError, match="there is nothing below s3://weights/models/m/r1/; stage it first"):
        containers.url(model)
    pipeline = HostedRevision(model="m", revision="r1", at_once=1, containers=(one, one))
    with pytest.raises(ServerError, match="is a pipeline"):
        containers.url(pipeline)


def test_the_worse_revision_has_other_weights_than_the_better_one(tmp_path: Path) -> None:
    bytes_of = {
        revision: (rehearsed_weights(tmp_path, "m", revision) / "model.safetensors").read_bytes()
        for revision in ("r1", BETTER_REVISION, WORSE_REVISION)
    }
    assert bytes_of["r1"] == bytes_of[BETTER_REVISION] != bytes_of[WORSE_REVISION]


# The stack file


def test_a_rehearsed_platform_of_endpoints_keeps_its_machines_weights_and_schedules() -> None:
    before, after = committed()["config"]["spillway:platform"], rehearsed()
    assert after["endpoints"] == before["endpoints"]
    assert {model["contextLength"] for model in after["models"]} == {2048}
    parse_sagemaker(after)


def test_a_canary_is_the_model_of_a_name_that_was_there_before() -> None:
    revisions = [one["source"]["revision"] for one in rehearsed(BETTER_REVISION)["models"]]
    before = [one["source"]["revision"] for one in rehearsed()["models"]]
    assert revisions == [before[0], BETTER_REVISION, before[2]]
    # A revision that is all digits would be read as a number.
    assert yaml.safe_load(yaml.safe_dump([BETTER_REVISION, WORSE_REVISION])) == [
        BETTER_REVISION,
        WORSE_REVISION,
    ]
    parse_sagemaker(rehearsed(BETTER_REVISION))


def test_the_canary_of_the_committed_stack_has_a_tenth() -> None:
    found = canary_of(rehearsed())
    assert found is not None
    assert (found.endpoint, found.stable, found.canary) == ("llm-chat", "stable", "canary")
    assert found.share == pytest.approx(0.1)
    assert found.captured
    platform = rehearsed()
    platform["endpoints"] = platform["endpoints"][1:]
    assert canary_of(platform) is None


# Where it runs


def test_a_stack_of_endpoints_needs_no_cluster_and_no_kubeconfig(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPILLWAY_HOME", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", "/nowhere")  # of another stack's shell
    real = Platform("sagemaker", "local", Progress())
    assert "KUBECONFIG" not in real.workspace.variables()
    assert real.workspace.cloud is None
    rehearsal = Platform("sagemaker", "local", Progress(), simulated=True)
    assert "KUBECONFIG" not in rehearsal.workspace.variables()
    assert rehearsal.workspace.variables()["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:")


def test_an_endpoint_is_asked_only_where_this_machine_reaches_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert Place().reach(url) == url
    assert Place().reach(url) is None


def test_the_first_copy_declares_what_endpoints_stand_on_and_the_next_one_all(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, "sagemaker", None)

    def declared(*, foundation: bool) -> str | None:
        copy = yaml.safe_load(workspace.copy_stack_file(foundation=foundation).read_text())
        return copy["config"]["spillway:platform"].get("declare")

    assert declared(foundation=True) == "foundation"
    assert declared(foundation=False) is None


def test_what_another_stack_is_in_too_goes_on_and_the_rest_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site("local", tmp_path)
    workspace = Workspace.rehearsing(tmp_path, "hybrid", site.kubeconfig)
    api = Mock(**{"get.return_value": {"metadata": {"uid": "0123"}}})
    monkeypatch.setattr(Site, "api", Mock(return_value=api))
    ended: list[str] = []

    def stop(stopped: Site, _: Progress) -> Leftovers:
        ended.append(stopped.layout.name)
        return Leftovers()

    monkeypatch.setattr(Site, "stop", stop)
    monkeypatch.setattr(AwsDouble, "stop", lambda _: ended.append("aws-double"))  # pyright: ignore
    on_prem = EmbeddedSite(workspace, site)
    hybrid = EmbeddedSite(workspace, site, RehearsedCloud(tmp_path, site, "us-east-1"))
    account = RehearsedAccount(tmp_path, "us-east-1", "llm")

    def ends(place: Place, *others: Place) -> list[str]:
        """What ends with `place` while the `others` are up."""
        ended.clear()
        kept = frozenset[str]().union(*(place.shared(str(other.identity())) for other in others))
        assert place.stop(Progress(StringIO()), None, kept).clean
        return ended.copy()

    assert ends(on_prem) == ["local"]
    assert ends(on_prem, hybrid) == []
    assert ends(on_prem, account) == ["local"], "an account keeps no site"
    assert ends(hybrid) == ["local-eks", "aws-double", "local"]
    assert ends(hybrid, hybrid) == []
    assert ends(hybrid, on_prem) == ["local-eks", "aws-double"], "a stack without an AWS side keeps none"
    assert ends(hybrid, account) == ["local-eks", "local"]
    assert ends(hybrid, on_prem, account) == ["local-eks"]
    assert ends(account) == ["aws-double"]
    assert ends(account, hybrid) == []
    assert ends(account, on_prem) == ["aws-double"]
    assert not Place().shared(str(hybrid.identity()))


def test_an_image_that_is_pinned_has_the_digest_of_its_source_in_a_rehearsals_registry(
    double: RunningDouble,
) -> None:
    client = double.client("ecr")
    client.create_repository(repositoryName="llm/vllm")
    registry = RehearsedRegistry(client)
    assert registry.digest(PINNED) is None
    registry.copy("docker.io/vllm:1@sha256:" + "a" * 64, PINNED, lambda _: None)
    assert registry.digest(PINNED) == "sha256:" + "a" * 64


# Scaling


def component(double: RunningDouble, monkeypatch: pytest.MonkeyPatch) -> ComponentScaling:
    """A component with one copy, as SageMaker has it before anything scales it."""
    made = hosted(double, monkeypatch)
    made.sagemaker.create_inference_component(
        InferenceComponentName=COMPONENT,
        EndpointName=ENDPOINT,
        VariantName="stable",
        Specification={"ModelName": "llm-r1", "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 1024}},
        RuntimeConfig={"CopyCount": 1},
    )
    return ComponentScaling(double.client, COMPONENT)


def declare(double: RunningDouble, *, most: int = 1) -> Mapping[str, Any]:
    """Target, both policies, and the alarm that calls the second."""
    scaling = double.client("application-autoscaling")
    where = {"ServiceNamespace": "sagemaker", "ResourceId": RESOURCE, "ScalableDimension": DIMENSION}
    scaling.register_scalable_target(**where, MinCapacity=0, MaxCapacity=most)
    metric = {"PredefinedMetricType": "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution"}
    scaling.put_scaling_policy(
        **where,
        PolicyName="requests",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 8,
            "PredefinedMetricSpecification": metric,
        },
    )
    return scaling.put_scaling_policy(
        **where,
        PolicyName="from-zero",
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration={
            "AdjustmentType": "ChangeInCapacity",
            "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
        },
    )


def watch(double: RunningDouble, *actions: str) -> None:
    double.client("cloudwatch").put_metric_alarm(
        AlarmName=f"{COMPONENT}-no-capacity",
        Namespace="AWS/SageMaker",
        MetricName="NoCapacityInvocationFailures",
        Dimensions=[{"Name": "InferenceComponentName", "Value": COMPONENT}],
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        AlarmActions=list(actions),
    )


def test_a_component_goes_to_nothing_and_back_within_the_bounds_that_are_declared(
    double: RunningDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaling = component(double, monkeypatch)
    watch(double, declare(double)["PolicyARN"])
    assert scaling.idle() == 0
    assert scaling.refused() == 1
    assert scaling.refused() == 1, "one is the most"
    assert scaling.copies == 1


def test_an_alarm_that_is_missing_or_calls_nothing_leaves_a_component_at_rest(
    double: RunningDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaling = component(double, monkeypatch)
    with pytest.raises(NotDeclaredError, match="no policy tracks a target"):
        scaling.idle()
    declare(double)
    with pytest.raises(NotDeclaredError, match="no alarm watches NoCapacityInvocationFailures"):
        scaling.refused()
    watch(double, "arn:aws:sns:us-east-1:123456789012:alerts")
    with pytest.raises(NotDeclaredError, match="no-capacity calls no step policy"):
        scaling.refused()
