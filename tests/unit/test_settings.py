"""Wrong stack files: each mistake is one message with key, value, what is allowed and the fix."""

from collections.abc import Callable
from typing import Any

import pytest

from stacks.sagemaker_settings import SageMakerSettings
from stacks.settings import PlatformSettings, SettingsError, parse
from tests.support.stack_files import STACKS, platform_object, stack_settings

Change = Callable[[dict[str, Any]], object]


def mistakes(change: Change, stack: str = "onprem") -> list[str]:
    value = platform_object(stack)
    change(value)
    with pytest.raises(SettingsError) as error:
        parse(value)
    return str(error.value).splitlines()[1:]


@pytest.mark.parametrize("stack", STACKS)
def test_every_committed_stack_file_is_valid(stack: str) -> None:
    assert isinstance(stack_settings(stack), PlatformSettings | SageMakerSettings)


# Each row: what is done to a good file, and the words that the one message must have:
# the key, the value, what is allowed, the fix.
WRONG: list[tuple[str, Change, list[str]]] = [
    (
        "unknown scenario",
        lambda p: p.update(scenario="onprm"),
        [
            "spillway:platform.scenario",
            '"onprm"',
            "must be one of onprem, hybrid, sagemaker",
            "did you mean onprem?",
        ],
    ),
    (
        "misspelt key",
        lambda p: p["gateway"].update(replica=2),
        ["spillway:platform.gateway.replica", "is not a setting", "allowed here:", "did you mean replicas?"],
    ),
    (
        "unknown key without a near one",
        lambda p: p.update(zzz=1),
        ["spillway:platform.zzz", "is not a setting", "scenario", "remove it"],
    ),
    (
        "missing key",
        lambda p: p["models"][0].pop("source"),
        ["spillway:platform.models[0].source", "is missing", "add it"],
    ),
    (
        "number as text",
        lambda p: p["gateway"].update(replicas="2"),
        ["spillway:platform.gateway.replicas", '"2"', "a whole number from 1 to 50", "remove the quotes: 2"],
    ),
    (
        "number out of range",
        lambda p: p["gateway"].update(replicas=0),
        ["spillway:platform.gateway.replicas", "0", "a whole number from 1 to 50", "raise it to 1"],
    ),
    (
        "name in upper case",
        lambda p: p["models"][0].update(name="Qwen"),
        ["spillway:platform.models[0].name", '"Qwen"', "lower-case letters"],
    ),
    (
        "name longer than KubeRay allows",
        lambda p: p["models"][0].update(name="q" * 48),
        ["spillway:platform.models[0].name", "48 characters", "KubeRay allows 47", "servedName"],
    ),
    (
        "unknown accelerator",
        lambda p: p["models"][0].update(accelerator="nvidia-h10"),
        [
            "spillway:platform.models[0].accelerator",
            '"nvidia-h10"',
            "must be one of cpu",
            "did you mean nvidia-h100?",
        ],
    ),
    (
        "two sources",
        lambda p: p["models"][0].update(source={"huggingFace": "a/b", "volumeClaim": "c"}),
        ["spillway:platform.models[0].source", "huggingFace and volumeClaim", "exactly one of"],
    ),
    (
        "no source",
        lambda p: p["models"][0].update(source={}),
        ["spillway:platform.models[0].source", "no source", "exactly one of"],
    ),
    (
        "relative path",
        lambda p: p["models"][0].update(source={"path": "models/x"}),
        ["spillway:platform.models[0].source.path", '"models/x"', "absolute path"],
    ),
    (
        "revision of something that has none",
        lambda p: p["models"][0].update(source={"path": "/models/x", "revision": "main"}),
        ["spillway:platform.models[0].source", "goes only with huggingFace", "remove it"],
    ),
    (
        "min above max",
        lambda p: p["models"][0].update(replicas={"min": 3, "max": 1}),
        ["spillway:platform.models[0].replicas", ".min = 3", "is above max 1", "lower min or raise max"],
    ),
    (
        "memory with a blank",
        lambda p: p["models"][0]["worker"].update(memory="64 GB"),
        ["spillway:platform.models[0].worker.memory", '"64 GB"', "16Gi"],
    ),
    (
        "CPU in bytes",
        lambda p: p["models"][0]["worker"].update(cpu="2Ki"),
        ["spillway:platform.models[0].worker.cpu", '"2Ki"', '"1.5" or 500m'],
    ),
    (
        "a platform name that is no Service name",
        lambda p: p.update(name="9llm"),
        ["spillway:platform.name", '"9llm"', "starting with a letter"],
    ),
    (
        "random weights in place of real ones",
        lambda p: p["models"][0].update(engineArguments={"load_format": "dummy"}),
        ["spillway:platform.models[0]", "load_format", "ignores the weights", "remove it"],
    ),
    (
        "tensor parallel on CPU",
        lambda p: p["models"][0].update(accelerator="cpu", tensorParallel=2),
        ["spillway:platform.models[0]", "tensorParallel = 2", "it must be 1"],
    ),
    (
        "scale to zero on CPU",
        lambda p: p["models"][0].update(accelerator="cpu", replicas={"min": 0, "max": 1}),
        ["spillway:platform.models[0]", "replicas.min = 0", "set it to 1"],
    ),
    (
        "an engine argument that another key decides",
        lambda p: p["models"][0].update(engineArguments={"tensor_parallel_size": 4}),
        ["spillway:platform.models[0].engineArguments", "tensorParallel decides", "use that key"],
    ),
    (
        "an engine argument in the wrong spelling",
        lambda p: p["models"][0].update(engineArguments={"--max-num-seqs": 4}),
        ["spillway:platform.models[0].engineArguments", ".--max-num-seqs = 4", "lower case with '_'"],
    ),
    (
        "an accelerator of another vendor without an image",
        lambda p: p["models"][0].update(accelerator="amd-mi300x"),
        ["spillway:platform.models[0].image", "not for amd-mi300x", "vllm/vllm-openai-rocm", "ray[serve"],
    ),
    (
        "Gaudi under Ray",
        lambda p: p["models"][0].update(accelerator="intel-gaudi3", image="r/gaudi:1", serving="RayServeLLM"),
        ["spillway:platform.models[0].serving", '"RayServeLLM"', "intel-gaudi3", "allowed: PlainVLLM"],
    ),
    (
        "PlainVLLM that scales",
        lambda p: p["models"][0].update(serving="PlainVLLM"),
        ["spillway:platform.models[0].replicas", "min 1 and max 2", "set both to one number"],
    ),
    (
        "PlainVLLM over several hosts",
        lambda p: p["models"][0].update(
            serving="PlainVLLM", pipelineParallel=2, replicas={"min": 1, "max": 1}
        ),
        ["spillway:platform.models[0].pipelineParallel = 2", "allowed: 1", "tensorParallel"],
    ),
    (
        "a node label that is none",
        lambda p: p["models"][0].update(nodeSelector={"pool": "two words"}),
        ['spillway:platform.models[0].nodeSelector.pool = "two words"', "a label value", "63 letters"],
    ),
    (
        "a node label with a key that is none",
        lambda p: p["models"][0].update(nodeSelector={"a b": "c"}),
        ["spillway:platform.models[0].nodeSelector", "a b", "a label key: [PREFIX/]NAME"],
    ),
    (
        "a toleration with a value that is not compared",
        lambda p: p["ray"].update(tolerations=[{"key": "a", "value": "b"}]),
        ["spillway:platform.ray.tolerations[0]", "operator Exists with value 'b'", "give a value with Equal"],
    ),
    (
        "weights larger than the devices",
        lambda p: p["models"][0].update(
            size={"parametersBillion": 70.6, "layers": 80, "keyValueHeads": 8, "headSize": 128}
        ),
        ["spillway:platform.models[0].size", "131.5 GiB", "73.6 GiB", "at least 2 devices"],
    ),
    (
        "a quota below what an upgrade needs",
        lambda p: p.update(quota={"accelerators": 3}),
        ["spillway:platform.quota.accelerators = 3", "up to 4 nvidia.com/gpu", "raise it to 4"],
    ),
    (
        "more devices than the nodes have",
        lambda p: p.update(
            capacity=[
                {
                    "accelerator": "nvidia-h100",
                    "nodes": 1,
                    "devicesPerNode": 2,
                    "cpu": "64",
                    "memory": "512Gi",
                }
            ]
        ),
        ["spillway:platform.capacity", "up to 4 nvidia-h100", "there are 2 (1 nodes with 2)", "add nodes"],
    ),
    (
        "two models of one name",
        lambda p: p["models"].append({**p["models"][0], "servedName": "other"}),
        ["spillway:platform.models", "[1].name", "is the name of models[0] too", "give each model its own"],
    ),
    (
        "two models of one id",
        lambda p: p["models"].append({**p["models"][0], "name": "other"}),
        [
            "spillway:platform.models",
            "[1].servedName",
            "is the servedName of models[0] too",
            "give each model its own",
        ],
    ),
    (
        "no models",
        lambda p: p.update(models=[]),
        ["spillway:platform.models", "[]", "a list with at least 1 member"],
    ),
    (
        "a floating image tag",
        lambda p: p["gateway"].update(image="envoyproxy/envoy:latest"),
        ["spillway:platform.gateway.image", "envoyproxy/envoy:latest", "no fixed version", "digest"],
    ),
    (
        "Ray without its vLLM",
        lambda p: p["ray"].update(version="2.55.0", image="rayproject/ray-llm:2.55.0"),
        ["spillway:platform.ray", "2.55.0", "allowed: Ray 2.60.0 with vLLM 0.29.0"],
    ),
    (
        "image and version disagree",
        lambda p: p["ray"].update(image="rayproject/ray-llm:2.59.0"),
        ["spillway:platform.ray", "is Ray 2.59.0 but version says 2.60.0", "make the two agree"],
    ),
    (
        "a chart path beside a repository",
        lambda p: p.update(kuberay={"chart": "./charts/kuberay"}),
        ["spillway:platform.kuberay", "./charts/kuberay", "set repository to null"],
    ),
    (
        "a chart name without a repository",
        lambda p: p.update(kuberay={"repository": None}),
        ["spillway:platform.kuberay", "kuberay-operator", "name a repository"],
    ),
    (
        "operator in the platform's namespace",
        lambda p: p.update(kuberay={"namespace": "llm"}),
        ["spillway:platform", 'namespace = "llm": is also kuberay.namespace', "use two"],
    ),
    (
        "a client twice",
        lambda p: p["gateway"].update(clients=["a", "b", "a"]),
        ["spillway:platform.gateway", "names a more than once", "each client once"],
    ),
    (
        "a service type that Kubernetes has not",
        lambda p: p["gateway"].update(service="LoadBalancr"),
        [
            "spillway:platform.gateway.service",
            "LoadBalancr",
            "one of ClusterIP",
            "did you mean LoadBalancer?",
        ],
    ),
]


@pytest.mark.parametrize(("change", "words"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_a_mistake_is_one_message_with_key_value_allowed_and_fix(change: Change, words: list[str]) -> None:
    lines = mistakes(change)
    assert len(lines) == 1, lines
    for word in words:
        assert word in lines[0]


def test_several_mistakes_are_reported_together() -> None:
    def change(platform: dict[str, Any]) -> None:
        platform["scenario"] = "cloud"
        platform["models"][0]["name"] = "Upper"
        platform["gateway"]["replicas"] = -1

    lines = mistakes(change)
    assert len(lines) == 3
    assert {line.split(" = ")[0] for line in lines} == {
        "  - spillway:platform.scenario",
        "  - spillway:platform.models[0].name",
        "  - spillway:platform.gateway.replicas",
    }


def test_several_mistakes_of_one_model_and_of_the_capacity_are_reported_together() -> None:
    def one_model(platform: dict[str, Any]) -> None:
        platform["models"][0].update(accelerator="intel-gaudi3", pipelineParallel=2)

    assert len(mistakes(one_model)) == 3, "no image, two pods a copy, and a range of copies"

    def capacity(platform: dict[str, Any]) -> None:
        platform["quota"] = {"accelerators": 1}
        platform["capacity"] = [{"accelerator": "cpu", "nodes": 1, "cpu": "8", "memory": "32Gi"}]

    assert [line.split(" = ")[0] for line in mistakes(capacity)] == [
        "  - spillway:platform.quota.accelerators",
        "  - spillway:platform.models[0].accelerator",
    ]


def test_a_platform_that_is_no_object_is_one_message() -> None:
    with pytest.raises(SettingsError, match="must be an object"):
        parse("onprem")


def test_an_expiry_without_quotes_is_the_day_that_was_written_though_pulumi_makes_a_time_of_it() -> None:
    platform = {**platform_object("local"), "expires": "2026-12-31 00:00:00 +0000 UTC"}
    assert parse(platform).expires == "2026-12-31"
