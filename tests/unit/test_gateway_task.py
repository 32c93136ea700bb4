"""The gateway's task on Fargate: its sizes, what its containers are told, and the files that they get."""

import json
import os
from itertools import pairwise
from pathlib import Path

import pytest

from runtime.gateway import GatewayConfig, ModelRoute, Upstream, render, render_api_keys
from runtime.sagemaker_gateway.config import MAX_BODY_BYTES, AdapterConfig, SageMakerModel, read_config
from runtime.sagemaker_gateway.fargate import (
    ENVOY_MIB,
    MEMORY_MIB,
    READING_MIB,
    held_bytes,
    least_memory_mib,
)
from runtime.sagemaker_gateway.files import FilesError, main, write_files
from runtime.sagemaker_gateway.task import ADAPTER, ENVOY, FILES, MAX_DEFINITION_BYTES, GatewayTask

MIB = 1024 * 1024
KEYS = json.dumps({"alice": "sk-" + "a" * 40, "bob": "sk-" + "b" * 40})


def task(models: int, folder: str = "/etc/envoy") -> GatewayTask:
    names = [f"org/model-number-{number}" for number in range(models)]
    upstream = Upstream(host="127.0.0.1", port=8081)
    return GatewayTask(
        gateway=GatewayConfig(
            models=tuple(ModelRoute(name=name, upstream=upstream) for name in names),
            config_folder=f"{folder}/config",
            keys_folder=f"{folder}/keys",
        ),
        adapter=AdapterConfig(
            region="us-east-1",
            models=tuple(SageMakerModel(name=name, endpoint="llm-chat") for name in names),
        ),
        gateway_image="registry.example.com/envoy:1",
        adapter_image="registry.example.com/adapter:1",
        region="us-east-1",
        logs={ENVOY: "/e", ADAPTER: "/a", FILES: "/a"},
    )


# Sizes


@pytest.mark.parametrize("memory", [4096, 8192, 122880])
def test_twice_what_is_held_and_the_worst_body_as_objects_fit_beside_envoy(memory: int) -> None:
    held = held_bytes(memory)
    assert held >= MAX_BODY_BYTES
    assert (ENVOY_MIB + READING_MIB) * MIB + 2 * held <= memory * MIB
    assert least_memory_mib(held) <= memory


def test_a_small_task_holds_nothing() -> None:
    assert held_bytes(2048) == 0
    assert held_bytes(512) == 0


def test_envoys_heap_has_room_for_the_worst_body() -> None:
    assert 65 * MAX_BODY_BYTES <= ENVOY_MIB * MIB * 4 // 5


def test_more_cpu_never_has_less_memory_to_choose_from() -> None:
    sizes = list(MEMORY_MIB.values())
    for smaller, larger in pairwise(sizes):
        assert smaller[0] < larger[0]
        assert smaller[-1] < larger[-1]
    assert MEMORY_MIB[1024] == (2048, 3072, 4096, 5120, 6144, 7168, 8192)


def test_a_dozen_models_fit_a_task_definition_and_two_dozen_do_not() -> None:
    assert task(12).definition_bytes < MAX_DEFINITION_BYTES < task(24).definition_bytes


def test_the_size_counts_every_byte_of_the_containers() -> None:
    one = task(3)
    longest = (
        "arn:aws:secretsmanager:ap-southeast-2:123456789012:secret:" + "n" * 64 + "-abcdef:::" + "v" * 64
    )
    assert len(one.containers(longest).encode()) <= one.definition_bytes


# Files


def run_files(definition: GatewayTask, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs the first container's command as the task would, with a folder in place of the root."""
    (files,) = [one for one in json.loads(definition.containers("arn")) if one["name"] == FILES]
    for one in files["environment"]:
        monkeypatch.setenv(one["name"], one["value"])
    (secret,) = files["secrets"]
    monkeypatch.setenv(secret["name"], KEYS)
    assert files["entryPoint"][-1] == "runtime.sagemaker_gateway.files"
    assert main([part.replace("=/", f"={folder}/") for part in files["command"]]) == 0
    return folder


def test_the_files_are_those_that_envoy_and_adapter_are_told_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = task(2)
    root = run_files(definition, tmp_path, monkeypatch)
    config = root / "etc/envoy/config"
    assert {one.name: one.read_text() for one in config.iterdir()} == render(definition.gateway)
    keys = {one.name: one.read_text() for one in (root / "etc/envoy/keys").iterdir()}
    assert keys == render_api_keys(json.loads(KEYS))
    (adapter,) = [one for one in json.loads(definition.containers("arn")) if one["name"] == ADAPTER]
    assert read_config(root / adapter["command"][0].lstrip("/")) == definition.adapter
    (envoy,) = [one for one in json.loads(definition.containers("arn")) if one["name"] == ENVOY]
    assert (root / envoy["command"][1].lstrip("/")).is_file()


def test_files_can_be_read_by_the_other_users_of_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.umask(0o077)
    try:
        root = run_files(task(1), tmp_path, monkeypatch)
    finally:
        os.umask(before)
    written = [one for one in root.rglob("*") if one.is_file()]
    assert len(written) == 6
    assert {one.stat().st_mode & 0o777 for one in written} == {0o644}


def test_files_can_be_written_again_by_a_container_that_was_started_again(tmp_path: Path) -> None:
    for text in ("old", "new"):
        write_files({"A": text}, {"A": tmp_path / "a.yaml"})
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("a.yaml", "new")]


@pytest.mark.parametrize(
    "keys", ["", "sk-secret-of-alice-0123456789", "[]", "{}", '{"alice": 7}', '{"alice": "short-secret"}']
)
def test_keys_that_are_none_are_refused_without_being_shown(tmp_path: Path, keys: str) -> None:
    with pytest.raises(FilesError) as refused:
        write_files({"API_KEYS": keys}, {}, {"API_KEYS": tmp_path})
    assert "API_KEYS" in str(refused.value)
    assert "secret-" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_variable_that_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"NO_SUCH_VARIABLE={tmp_path / 'a'}"]) == 1
    assert "NO_SUCH_VARIABLE is missing" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FilesError, match="mount a volume at"):
        write_files({"A": "text"}, {"A": tmp_path / "file" / "a.yaml"})
