"""What is rendered for `vllm serve` without Ray: the keys mean what they mean under Ray."""

from typing import Any

import pytest

from runtime.model import ModelSpec
from runtime.serving.endpoint import ModelEndpoint, endpoint_of
from runtime.serving.plain_vllm import command_line, deployment_spec
from runtime.surroundings import Surroundings

IMAGE = "registry/vllm-gaudi:0.29.0"


def model(**changes: Any) -> ModelSpec:
    base: dict[str, Any] = {
        "name": "llama",
        "servedName": "meta/llama",
        "source": {"path": "/models/llama"},
        "accelerator": "intel-gaudi3",
        "image": IMAGE,
        "tensorParallel": 4,
    }
    return ModelSpec.model_validate({**base, **changes})


def rendered(spec: ModelSpec) -> dict[str, Any]:
    return dict(deployment_spec(spec, IMAGE, 1805, Surroundings()))


def pod(spec: ModelSpec) -> dict[str, Any]:
    return rendered(spec)["template"]["spec"]


def container(spec: ModelSpec) -> dict[str, Any]:
    return pod(spec)["containers"][0]


def test_gaudi_is_served_without_ray_unless_told_otherwise() -> None:
    assert model().serving_kind == "PlainVLLM"
    assert model(accelerator="nvidia-h100").serving_kind == "RayServeLLM"
    assert model(accelerator="nvidia-h100", serving="PlainVLLM").is_plain


def test_the_command_line_says_what_the_keys_say() -> None:
    command = command_line(model(contextLength=8192, maxSequences=32, maxQueuedRequests=10))
    assert command[:3] == ["vllm", "serve", "/models/llama"]
    assert set(command[3:]) == {
        "--served-model-name=meta/llama",
        "--host=0.0.0.0",
        "--port=8000",
        "--max-model-len=8192",
        "--max-num-seqs=32",
        "--max-num-queued-reqs=42",
        "--shutdown-timeout=60",
        "--tensor-parallel-size=4",
        "--dtype=bfloat16",
        "--block-size=128",
    }


def test_engine_arguments_become_flags_and_win_over_the_hardwares_defaults() -> None:
    command = command_line(
        model(engineArguments={"block_size": 256, "enforce_eager": True, "enable_prefix_caching": False})
    )
    assert "--block-size=256" in command
    assert "--block-size=128" not in command
    assert "--enforce-eager" in command
    assert "--no-enable-prefix-caching" in command


def test_a_hugging_face_model_keeps_its_revision_and_token() -> None:
    spec = model(source={"huggingFace": "Qwen/Qwen3-8B", "revision": "abc"}, huggingFaceTokenSecret="hub")
    assert command_line(spec)[2] == "Qwen/Qwen3-8B"
    assert "--revision=abc" in command_line(spec)
    environment = {entry["name"]: entry for entry in container(spec)["env"]}
    assert environment["HF_TOKEN_PATH"]["value"] == "/run/spillway/hub/token"
    assert "HF_HUB_OFFLINE" not in environment
    assert {"name": "hub-cache", "emptyDir": {}} in pod(spec)["volumes"]
    [token] = [volume for volume in pod(spec)["volumes"] if volume["name"] == "hub-token"]
    assert token["secret"] == {"secretName": "hub", "items": [{"key": "token", "path": "token"}]}


def test_gaudi_pods_ask_for_devices_and_huge_pages_on_gaudi_nodes() -> None:
    resources = container(model())["resources"]
    for side in (resources["limits"], resources["requests"]):
        assert side["habana.ai/gaudi"] == "4"
        assert side["hugepages-2Mi"] == "95000Mi"
    assert pod(model())["nodeSelector"] == {"intel.feature.node.kubernetes.io/gaudi": "true"}
    assert pod(model())["tolerations"] == [
        {"key": "habana.ai/gaudi", "operator": "Exists", "effect": "NoSchedule"}
    ]
    fewer = model(worker={"cpu": "8", "memory": "64Gi", "hugePages": "20000Mi"})
    assert container(fewer)["resources"]["limits"]["hugepages-2Mi"] == "20000Mi"


def test_a_pod_may_take_the_whole_ready_timeout_to_load() -> None:
    startup = container(model())["startupProbe"]
    assert startup["httpGet"] == {"path": "/health", "port": "http"}
    assert startup["periodSeconds"] * startup["failureThreshold"] == 1810
    assert rendered(model())["progressDeadlineSeconds"] == 1805
    for probe in ("readinessProbe", "livenessProbe"):
        assert container(model())[probe]["httpGet"]["path"] == "/health"


@pytest.mark.parametrize(
    ("upgrade", "strategy"),
    [
        ("NewCluster", {"maxSurge": 1, "maxUnavailable": 0}),
        ("None", {"maxSurge": 0, "maxUnavailable": 1}),
    ],
)
def test_an_upgrade_takes_one_copy_more_or_one_copy_less(upgrade: str, strategy: dict[str, int]) -> None:
    spec = model(upgrade=upgrade, replicas={"min": 2, "max": 2})
    assert rendered(spec)["strategy"]["rollingUpdate"] == strategy
    assert rendered(spec)["replicas"] == 2
    assert spec.peak_accelerators == 4 * (2 + strategy["maxSurge"])


def test_a_leaving_pod_has_time_to_end_its_requests() -> None:
    leave = container(model())["lifecycle"]["preStop"]["sleep"]["seconds"]
    (drain,) = (int(flag.split("=")[1]) for flag in command_line(model()) if "shutdown-timeout" in flag)
    assert pod(model())["terminationGracePeriodSeconds"] > leave + drain


def test_pods_carry_the_models_label_and_one_that_tells_them_from_rays() -> None:
    labels = {"spillway.dev/model": "llama", "spillway.dev/serving": "PlainVLLM"}
    assert rendered(model())["selector"] == {"matchLabels": labels}
    assert rendered(model())["template"]["metadata"]["labels"] == labels


def test_pods_fit_restricted_pod_security_and_can_write_their_home_and_shared_memory() -> None:
    assert pod(model())["securityContext"]["runAsNonRoot"] is True
    assert pod(model())["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(model())["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = {mount["mountPath"] for mount in container(model())["volumeMounts"]}
    assert mounts == {"/home/vllm", "/dev/shm"}
    assert {"name": "shared-memory", "emptyDir": {"medium": "Memory"}} in pod(model())["volumes"]


def test_device_groups_are_added_to_the_pods_user() -> None:
    spec = model(accelerator="amd-mi300x", serving="PlainVLLM", worker={"supplementalGroups": (44, 992)})
    assert pod(spec)["securityContext"]["supplementalGroups"] == [44, 992]


def test_each_serving_kind_has_its_service() -> None:
    assert endpoint_of(model()) == ModelEndpoint("llama-vllm", 8000)
    assert endpoint_of(model(accelerator="nvidia-h100")) == ModelEndpoint("llama-serve-svc", 8000)
