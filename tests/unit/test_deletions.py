"""What an interrupted destroy left to finalizers is waited for, and not taken for alive."""

from typing import Any

import pytest

from runtime.ops import deletions
from runtime.ops.deletions import DeletionError, ObjectReference, await_deletions
from runtime.ops.progress import Progress

NAMESPACE = ObjectReference("v1", "Namespace", None, "llm")
RAY_SERVICE = ObjectReference("ray.io/v1", "RayService", "llm", "tiny")
LEAVING = {"deletionTimestamp": "2026-11-21T16:11:48Z", "finalizers": ["ray.io/rayservice-finalizer"]}


class Vanishing:
    """A cluster in which objects that are being deleted are gone after some looks."""

    def __init__(self, found: dict[ObjectReference, dict[str, Any]], looks: int) -> None:
        self.found, self.looks = found, looks
        self.asked: list[ObjectReference] = []

    def metadata(
        self, api_version: str, kind: str, namespace: str | None, name: str
    ) -> dict[str, Any] | None:
        one = ObjectReference(api_version, kind, namespace, name)
        self.asked.append(one)
        found = self.found.get(one)
        if found and "deletionTimestamp" in found and self.asked.count(one) > self.looks:
            return None
        return found


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletions, "_LOOK_S", 0.0)


def test_it_returns_when_what_is_being_deleted_is_gone() -> None:
    cluster = Vanishing({NAMESPACE: {}, RAY_SERVICE: LEAVING}, looks=3)
    await_deletions([NAMESPACE, RAY_SERVICE], cluster, Progress())
    assert cluster.asked.count(RAY_SERVICE) == 4


def test_what_is_there_or_gone_is_looked_at_once() -> None:
    cluster = Vanishing({NAMESPACE: {}}, looks=0)
    await_deletions([NAMESPACE, RAY_SERVICE], cluster, Progress())
    assert cluster.asked == [NAMESPACE, RAY_SERVICE]


def test_a_finalizer_that_nobody_removes_is_named_with_the_command_that_shows_more() -> None:
    cluster = Vanishing({RAY_SERVICE: LEAVING}, looks=1_000_000)
    with pytest.raises(DeletionError) as caught:
        await_deletions([RAY_SERVICE], cluster, Progress(), patience_s=0.0)
    assert str(caught.value) == (
        "RayService llm/tiny is being deleted for more than 0 s: it waits for ray.io/rayservice-finalizer; "
        "see what `kubectl describe rayservice tiny -n llm` says, then run the same command again"
    )
