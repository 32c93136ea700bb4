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

    def remove(self, reference: str) -> None:
        del self.there[reference]


def nowhere(model: ModelPlan) -> Path:
    raise AssertionError(model)


def run(registry: Registry) -> tuple[str, ...]:
    # Without a controller nothing is asked of the cluster on-prem.
    cluster: Any = None
    return staging.run(StagingPlan.read(PLAN), None, registry, nowhere, cluster, Progress()).lines


def test_without_a_controller_everything_is_staged_and_nothing_armed() -> None:
    assert run(Registry()) == (
        "registry.example/llm/envoyproxy/envoy:v1 sha256:envoyproxy/envoy:v1",
        "the burst is not armed: cloud.declare is foundation",
    )


def test_what_aws_refuses_is_one_message_that_says_that_it_goes_on_from_there() -> None:
    class ClientError(Exception):
        response: dict[str, Any] = {"Error": {"Code": "ExpiredToken"}}  # noqa: RUF012 - as botocore has it

    with pytest.raises(StagingError, match=r"AWS refused: it has expired; .* it goes on from here"):
        run(Registry(ClientError("it has expired")))


def test_a_mistake_of_ours_stays_one() -> None:
    with pytest.raises(KeyError):
        run(Registry(KeyError("ours")))
