"""Staging as a whole: what is said where there is no controller yet, and where AWS refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rehearsal import staging
from runtime.ops.progress import Progress
from runtime.ops.stage import ModelPlan, StagingPlan
from runtime.ops.staged_weights import StagingError

PLAN: dict[str, Any] = {
    "account": "123456789012",
    "region": "us-east-1",
    "bucket": "llm-burst-models",
    "models": [],
    "images": [{"source": "envoyproxy/envoy:v1", "target": "registry.example/llm/envoyproxy/envoy:v1"}],
    "state": None,
}


class Registry:
    """Keeps what was copied; refuses as told."""

    def __init__(self, refusal: Exception | None = None) -> None:
        self.refusal = refusal
        self.there: dict[str, str] = {}

    def digest(self, reference: str) -> str | None:
        return self.there.get(reference)

    def copy(self, source: str, target: str, told: Callable[[str], None]) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.there[target] = f"sha256:{source}"


def nowhere(model: ModelPlan) -> Path:
    raise AssertionError(model)


def run(registry: Registry) -> tuple[str, ...]:
    # Without a controller nothing is asked of the cluster on-prem.
    cluster: Any = None
    return staging.run(StagingPlan.read(PLAN), None, registry, nowhere, lambda: cluster, Progress()).lines


def test_without_a_controller_everything_is_staged_and_nothing_armed() -> None:
    assert run(Registry()) == (
        "registry.example/llm/envoyproxy/envoy:v1 sha256:envoyproxy/envoy:v1",
        "nothing is armed: no burst controller is declared",
    )


def test_what_aws_refuses_is_one_message_that_says_that_it_goes_on_from_there() -> None:
    class ClientError(Exception):
        response: dict[str, Any] = {"Error": {"Code": "ExpiredToken"}}  # noqa: RUF012 - as botocore has it

    with pytest.raises(StagingError, match=r"AWS refused: it has expired; .* it goes on from here"):
        run(Registry(ClientError("it has expired")))


def test_a_mistake_of_ours_stays_one() -> None:
    with pytest.raises(KeyError):
        run(Registry(KeyError("ours")))


def compiled_model(folder: Path) -> tuple[StagingPlan, Callable[[ModelPlan], Path]]:
    model = {
        "name": "qwen3-8b",
        "token": "t",
        "prefix": "models/qwen3-8b/r1/",
        "image": {"source": "i", "target": "i"},
        "compiled": {"batch_size": 8, "sequence_length": 4096, "tp_degree": 24},
    }
    return StagingPlan.read({**PLAN, "models": [model]}), lambda _: folder


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (None, "has no neuron_config.json, so it is not compiled for Neuron devices"),
        ("{", "neuron_config.json is not JSON"),
        ("[]", "says batch_size None, and the stack file's is 8; sequence_length None"),
        (
            '{"batch_size": 8, "sequence_length": 2048, "tp_degree": 24}',
            r"says sequence_length 2048, and the stack file's is 4096\. Change the stack file, or compile",
        ),
    ],
)
def test_weights_that_were_compiled_for_something_else_are_not_sent(
    config: str | None, says: str, tmp_path: Path
) -> None:
    if config is not None:
        (tmp_path / "neuron_config.json").write_text(config)
    plan, folder = compiled_model(tmp_path)
    cluster: Any = None
    s3: Any = None  # nothing is asked of it
    with pytest.raises(StagingError, match=says) as error:
        staging.run(plan, s3, Registry(), folder, lambda: cluster, Progress())
    assert str(error.value).startswith("model qwen3-8b: ")
    assert str(error.value).endswith("name its folder: make stage FROM=FOLDER")
