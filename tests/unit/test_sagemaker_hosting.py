"""What follows from a SageMaker stack file, against the services' own models in the installed SDK."""

import inspect
import json
import re
from functools import cache
from typing import Any, get_args

import botocore.session  # pyright: ignore[reportMissingTypeStubs]
import pytest
from botocore.validate import ParamValidator  # pyright: ignore[reportMissingTypeStubs]
from pulumi_aws.sagemaker import EndpointDeploymentConfigRollingUpdatePolicyArgs

from runtime.sagemaker.alarms import Limits, alarms
from runtime.sagemaker.containers import container_environment, weights_uri
from runtime.sagemaker.dashboard import Shown, dashboard
from runtime.sagemaker.endpoints import (
    MAX_TIMEOUT_S,
    PROVIDER_WAIT_S,
    Deployment,
    EndpointSpec,
    Variant,
)
from runtime.sagemaker.hosted import HostedRevision
from runtime.sagemaker.inference_component import desired_state
from runtime.sagemaker.instances import CUDA_13_AMI, ENDPOINT_TYPES, NEURON_AMI, InferenceAmi, has_local_disks
from runtime.sagemaker.metrics import TOKENS_PATTERN
from runtime.sagemaker.models import EndpointModel
from stacks.sagemaker_settings import SageMakerSettings, is_private_ecr
from tests.support.stack_files import platform_object, stack_settings

LIMITS = Limits(
    error_percent=5, latency_s=30, first_token_s=5, gpu_memory_percent=98, idle_minutes=60, quiet_hours=6
)


@cache
def shape(name: str) -> Any:
    return botocore.session.get_session().get_service_model("sagemaker").shape_for(name)  # pyright: ignore


@pytest.fixture
def settings() -> SageMakerSettings:
    found = stack_settings("sagemaker")
    assert isinstance(found, SageMakerSettings)
    return found


def model(**changes: Any) -> EndpointModel:
    given = platform_object("sagemaker")["models"][0]
    return EndpointModel.model_validate_json(json.dumps({**given, **changes}), by_alias=True, by_name=False)


def neuron_model(**changes: Any) -> EndpointModel:
    """A model on AWS' own devices, of which each has two cores."""
    image = (
        f"763104351884.dkr.ecr.us-east-1.amazonaws.com/huggingface-vllm-inference-neuronx@sha256:{'0' * 64}"
    )
    return model(
        **{
            "accelerator": "aws-inferentia2",
            "container": "neuron",
            "image": image,
            "tensorParallel": 24,
            "contextLength": 4096,
            "maxSequences": 8,
            **changes,
        }
    )


def test_every_type_that_a_variant_may_have_is_one_of_sagemaker() -> None:
    assert set(ENDPOINT_TYPES) <= set(shape("ProductionVariantInstanceType").enum)


def test_the_operating_systems_are_those_of_sagemaker_and_the_default_has_cuda_13() -> None:
    known = set(shape("ProductionVariantInferenceAmiVersion").enum)
    assert set(get_args(InferenceAmi)) == known
    assert {CUDA_13_AMI, NEURON_AMI} <= known
    systems = {
        kind: Variant(name="a", model="m", instance_type=kind).operating_system
        for kind in ("ml.g6e.2xlarge", "ml.m7i.2xlarge", "ml.inf2.xlarge", "ml.trn1.32xlarge")
    }
    assert list(systems.values()) == [CUDA_13_AMI, None, NEURON_AMI, NEURON_AMI]


@pytest.mark.parametrize(
    ("name", "local"), [("ml.g6e.2xlarge", True), ("ml.p5.48xlarge", True), ("ml.m7i.2xlarge", False)]
)
def test_local_disks_are_told_by_the_table_of_instances(name: str, local: bool) -> None:
    assert has_local_disks(name) is local


def test_a_component_is_what_the_api_takes_name_by_name(settings: SageMakerSettings) -> None:
    shared = settings.endpoints[1].shared
    assert shared is not None
    state = json.loads(
        desired_state(
            name="llm-small-it",
            endpoint_name="llm-small",
            model_name="llm-it-0000000",
            component=shared.components[0],
            shared=shared,
            model=settings.models[2],
            tags={"b": "2", "a": "1"},
        )
    )
    report: Any = ParamValidator().validate(state, shape("CreateInferenceComponentInput"))  # pyright: ignore
    assert not report.has_errors(), report.generate_report()
    assert state["Specification"]["ComputeResourceRequirements"]["NumberOfAcceleratorDevicesRequired"] == 1
    assert [one["Key"] for one in state["Tags"]] == ["a", "b"]


@pytest.mark.parametrize("strategy", ["canary", "linear", "allAtOnce", "rolling"])
@pytest.mark.parametrize("percent", [10, 33, 50])
def test_the_time_of_an_update_is_above_its_waits_and_within_what_sagemaker_takes(
    strategy: Any, percent: int
) -> None:
    deployment = Deployment(strategy=strategy, percent=percent, bake_seconds=600, keep_old_seconds=300)
    bounds = shape("BlueGreenUpdatePolicy").members["MaximumExecutionTimeoutInSeconds"].metadata
    # The provider takes half of what SageMaker takes.
    assert bounds["min"] <= deployment.timeout_s <= MAX_TIMEOUT_S <= bounds["max"]
    assert f"between `600` and `{MAX_TIMEOUT_S}`" in inspect.getsource(
        EndpointDeploymentConfigRollingUpdatePolicyArgs
    )
    assert deployment.waits_s < deployment.timeout_s


@pytest.mark.parametrize("strategy", ["canary", "linear", "allAtOnce", "rolling"])
def test_an_update_by_the_defaults_ends_while_the_provider_waits(strategy: Any) -> None:
    endpoint = EndpointSpec(
        name="e",
        variants=(Variant(name="a", model="m", instance_type="ml.g6e.2xlarge"),),
        deployment=Deployment(strategy=strategy),
    )
    (variant,) = endpoint.variants
    starts = endpoint.deployment.starts * (variant.download_seconds + variant.startup_seconds)
    assert endpoint.deployment.waits_s + starts <= PROVIDER_WAIT_S


def test_the_same_keys_tell_both_images_the_same() -> None:
    vllm = container_environment(model(engineArguments={"enable_prefix_caching": False, "dtype": "bfloat16"}))
    lmi = container_environment(
        model(container="lmi", engineArguments={"enable_prefix_caching": False, "dtype": "bfloat16"})
    )
    assert vllm["SM_VLLM_MAX_MODEL_LEN"] == lmi["OPTION_MAX_MODEL_LEN"] == "32768"
    assert vllm["SM_VLLM_MAX_NUM_SEQS"] == lmi["OPTION_MAX_ROLLING_BATCH_SIZE"] == "64"
    assert vllm["SM_VLLM_TENSOR_PARALLEL_SIZE"] == lmi["TENSOR_PARALLEL_DEGREE"] == "1"
    # Requests that run and as many that wait; without a bound no client would ever hear that it is full.
    assert vllm["SM_VLLM_MAX_NUM_QUEUED_REQS"] == lmi["SERVING_JOB_QUEUE_SIZE"] == "128"
    assert vllm["SM_VLLM_SERVED_MODEL_NAME"] == lmi["OPTION_SERVED_MODEL_NAME"] == "Qwen/Qwen3-8B"
    assert vllm["SM_VLLM_DTYPE"] == lmi["OPTION_DTYPE"] == "bfloat16"
    # A flag is there or not; there is no value that turns one off.
    assert vllm["SM_VLLM_NO_ENABLE_PREFIX_CACHING"] == "true"
    assert "SM_VLLM_ENABLE_PREFIX_CACHING" not in vllm
    assert lmi["OPTION_ENABLE_PREFIX_CACHING"] == "false"
    assert vllm["VLLM_NO_USAGE_STATS"] == lmi["DO_NOT_TRACK"] == "1"


def test_a_model_for_neuron_devices_is_told_by_the_flags_of_its_own_server() -> None:
    told = container_environment(
        neuron_model(engineArguments={"enable_prefix_caching": False, "enable_auto_tool_choice": True})
    )
    # As the image's entry point takes them apart: `--flag value`, or the bare flag where there is no value.
    flags = {
        f"--{key.removeprefix('SM_ON_').lower()}": value
        for key, value in told.items()
        if key.startswith("SM_ON_")
    }
    assert flags == {
        "--model": "/opt/ml/model",
        "--served_model_name": "Qwen/Qwen3-8B",
        "--tensor_parallel_size": "24",
        "--batch_size": "8",
        "--sequence_length": "4096",
        "--no_enable_prefix_caching": "",
        "--enable_auto_tool_choice": "",
    }
    assert told["HF_HUB_OFFLINE"] == "1"


def test_a_copy_holds_whole_neuron_devices_and_none_of_their_metrics_is_watched(
    settings: SageMakerSettings,
) -> None:
    there = neuron_model()
    assert (there.tensor_parallel, there.devices) == (24, 12)
    spec = endpoint(1, "ml.inf2.48xlarge")
    watched = {one.key for one in alarms(spec, "llm-chat", {"qwen3-8b": there}, LIMITS)}
    assert watched == {"errors", "quiet", "v0-latency", "v0-first-token"}
    text = dashboard("llm", "us-east-1", [Shown(name="llm-chat", spec=spec)])
    assert "GPU" not in text
    assert "n0*15.58" in text


@pytest.mark.parametrize("declared", [model(), model(container="lmi"), neuron_model(maxSequences=64)])
def test_what_a_model_serves_is_read_back_from_what_it_was_made_with(declared: EndpointModel) -> None:
    own = {
        "Image": declared.image,
        "Environment": container_environment(declared),
        "ModelDataSource": {"S3DataSource": {"S3Uri": weights_uri(declared, "b")}},
    }
    guard = {"Image": "guard@sha256:1", "Environment": {"LEVEL": "high"}, "ContainerHostname": "guard"}
    for described in ({"PrimaryContainer": own}, {"Containers": [guard, own, guard]}):
        hosted = HostedRevision.read(described)
        assert (hosted.model, hosted.at_once) == ("Qwen/Qwen3-8B", 64)
        assert hosted.revision == "b968826d9c46dd6066d109eabc6255188de91218"
    assert len(hosted.containers) == 3


def test_weights_in_the_image_are_of_the_revision_that_its_digest_is() -> None:
    hosted = HostedRevision.read({"PrimaryContainer": {"Image": "vllm:1@sha256:abc", "Environment": {}}})
    assert (hosted.model, hosted.revision, hosted.at_once) == ("", "sha256:abc", None)


def test_another_revision_of_a_model_is_another_folder() -> None:
    assert weights_uri(model(), "b") != weights_uri(
        model(source={"huggingFace": "Qwen/Qwen3-8B", "revision": "other"}), "b"
    )
    in_image = model(source={"path": "/models/qwen3"})
    assert weights_uri(in_image, "b") is None
    assert container_environment(in_image)["SM_VLLM_MODEL"] == "/models/qwen3"


def endpoint(variants: int, instance_type: str = "ml.g6e.12xlarge") -> EndpointSpec:
    return EndpointSpec.model_validate(
        {
            "name": "chat",
            "variants": tuple(
                {"name": f"v{number}", "model": "qwen3-8b", "instance_type": instance_type}
                for number in range(variants)
            ),
        }
    )


@pytest.mark.parametrize("variants", [1, 2, 4])
def test_no_alarm_looks_at_more_metrics_than_cloudwatch_takes(variants: int) -> None:
    for alarm in alarms(endpoint(variants), "llm-chat", {"qwen3-8b": model()}, LIMITS):
        assert len(alarm.metrics) <= 10, alarm.key
        assert bool(alarm.expression) or len(alarm.metrics) == 1, alarm.key
        used = set(re.findall(r"\b[a-z]\w*", alarm.expression))
        assert used == (set(alarm.metrics) if alarm.expression else set())


def test_devices_are_counted_by_hundred_percent_each_and_latencies_in_microseconds() -> None:
    found = {one.key: one for one in alarms(endpoint(1), "llm-chat", {"qwen3-8b": model()}, LIMITS)}
    assert found["v0-idle"].threshold == 5 * 4
    assert found["v0-gpu-memory"].threshold == 98 * 4
    assert found["v0-latency"].threshold == 30_000_000
    # SageMaker reports nothing where nothing happens.
    assert (found["quiet"].missing, found["quiet"].periods * found["quiet"].period_s) == (
        "breaching",
        6 * 3600,
    )


def test_an_update_is_taken_back_by_a_late_first_token_and_not_by_the_length_of_a_stream() -> None:
    piped = model(after=[{"name": "guard", "image": model().image}])
    for hosted, expected in ((model(), "v0-first-token"), (piped, "v0-latency")):
        found = {one.key: one for one in alarms(endpoint(1), "llm-chat", {"qwen3-8b": hosted}, LIMITS)}
        assert {one.key for one in found.values() if one.takes_back} == {"errors", expected}


def test_a_percentile_of_few_requests_sets_off_no_alarm() -> None:
    found = {one.key: one for one in alarms(endpoint(1), "llm-chat", {"qwen3-8b": model()}, LIMITS)}
    for key, statistic in (("v0-latency", "p99"), ("v0-first-token", "p95")):
        slow = found[key]
        assert slow.expression == "IF(count >= 20, slow, 0)"
        assert slow.metrics["count"] == slow.metrics["slow"]
        assert (slow.statistic, slow.statistics) == (statistic, {"count": "SampleCount"})


def test_the_dashboard_shows_each_endpoint_with_its_price_and_no_two_charts_overlap(
    settings: SageMakerSettings,
) -> None:
    shown = [Shown(name=f"llm-{one.name}", spec=one) for one in settings.endpoints]
    widgets = json.loads(dashboard("llm", "us-east-1", shown, "llm-gateway"))["widgets"]
    places = {
        (one["x"] + x, one["y"] + y)
        for one in widgets
        for x in range(one["width"])
        for y in range(one["height"])
    }
    assert len(places) == sum(one["width"] * one["height"] for one in widgets)
    assert all(one["x"] + one["width"] <= 24 for one in widgets)
    text = json.dumps(widgets)
    for words in ("FirstChunkLatency", "OverheadLatency", "GPUMemoryUtilization", "Invocation5XXErrors"):
        assert words in text
    # As the gateway's components name them: the golden file has both.
    for words in ("gateway-errors", '"ServiceName", "llm-gateway"'):
        assert words in text
    assert "gateway" not in dashboard("llm", "us-east-1", shown)
    assert "n0*2.8026" in text
    assert "1 to 2 x ml.g6e.2xlarge, $2.8026/h each" in text


def test_vllms_own_line_gives_both_numbers_of_tokens() -> None:
    line = (
        "(APIServer pid=7) INFO 11-22 02:35:00 [loggers.py:257] Engine 000: Avg prompt throughput: "
        "51.2 tokens/s, Avg generation throughput: 103.4 tokens/s, Running: 3 reqs, Waiting: 0 reqs, "
        "GPU KV cache usage: 1.1%, Prefix cache hit rate: 0.0%"
    )
    # As CloudWatch takes it apart: by blanks, and what is in brackets is one word.
    words = re.findall(r"\[[^\]]*\]|\S+", line)
    fields = [one.strip() for one in TOKENS_PATTERN.strip("[]").split(",")]
    read = dict(zip((one.partition("=")[0] for one in fields), words, strict=False))
    for field in fields:
        name, _, wanted = field.partition("=")
        assert not wanted or read[name].startswith(wanted.rstrip("*")), field
    assert (read["prompt"], read["generation"]) == ("51.2", "103.4")


@pytest.mark.parametrize(
    ("image", "allowed"),
    [
        ("763104351884.dkr.ecr.us-east-1.amazonaws.com/vllm@sha256:0", True),
        ("763104351884.dkr.ecr.us-west-2.amazonaws.com/vllm@sha256:0", False),
        ("public.ecr.aws/vllm/vllm@sha256:0", False),
        ("vllm/vllm-openai:v1", False),
    ],
)
def test_endpoints_pull_from_private_registries_of_their_region_only(image: str, allowed: bool) -> None:
    assert is_private_ecr(image, "us-east-1") is allowed
