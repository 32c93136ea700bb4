"""What exists and is not this stack's is refused; what an interrupted `up` left is not."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pulumi
import pytest

from runtime.cluster import UnreachableError
from stacks.takeover import IN_NO_NAMESPACE, TakeoverCheck, TakeoverError, asking, is_asked_for
from tests.support.stack_files import CLUSTER_STACKS, CLUSTERED, EXAMPLES, golden_resources

STACK = "organization/spillway/lab"
CLAIM = f"{STACK}:aaaa"
KINDS = (
    "kubernetes:core/v1:Namespace",
    "kubernetes:core/v1:ConfigMap",
    "kubernetes:ray.io/v1:RayService",
    "kubernetes:helm.sh/v3:Release",
    "random:index/randomPassword:RandomPassword",
)
UNKNOWN = object()  # what a preview has for a claim that is not generated yet


class FakeCluster:
    def __init__(self, **objects: dict[str, Any]) -> None:
        self.objects = objects
        self.asked: list[str] = []
        self.unreachable = False

    def metadata(
        self, api_version: str, kind: str, namespace: str | None, name: str
    ) -> dict[str, Any] | None:
        self.asked.append(f"{api_version} {kind} {namespace}/{name}")
        if self.unreachable:
            raise UnreachableError("no answer")
        return self.objects.get(kind)


def namespace(claim: object = CLAIM) -> dict[str, Any]:
    annotations = {"spillway.dev/claim": claim}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm", "annotations": annotations}}


def policy() -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "default-deny", "namespace": "llm", "annotations": {}}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata}


def check(cluster: FakeCluster, *, is_preview: bool = False) -> TakeoverCheck:
    return TakeoverCheck(cluster, "llm", STACK, is_preview)


def test_what_goes_to_the_clusters_own_eks_side_is_not_asked_of_this_one() -> None:
    cluster = FakeCluster(Namespace={"name": "llm"})
    elsewhere = namespace()
    elsewhere["metadata"]["labels"] = {"spillway.dev/platform": "llm-burst"}
    check(cluster).check(elsewhere)
    assert cluster.asked == []


def test_a_name_that_is_free_may_be_taken() -> None:
    cluster = FakeCluster()
    check(cluster).check(policy())
    assert cluster.asked == ["networking.k8s.io/v1 NetworkPolicy llm/default-deny"]


def test_a_namespace_of_nobodys_is_refused_with_the_object_and_both_ways_out() -> None:
    with pytest.raises(TakeoverError) as error:
        check(FakeCluster(Namespace={"name": "llm", "labels": {}})).check(namespace())
    message = str(error.value)
    assert message.startswith("Namespace llm exists and is not this stack's; `up` would overwrite it")
    assert "Choose another namespace or name in the stack file" in message
    assert message.endswith(f"kubectl annotate namespace llm spillway.dev/adopt={STACK}")


def test_the_label_alone_does_not_make_a_namespace_this_stacks() -> None:
    found = {"name": "llm", "labels": {"spillway.dev/platform": "llm"}}
    with pytest.raises(TakeoverError):
        check(FakeCluster(Namespace=found)).check(namespace())


def test_a_stack_of_the_same_name_with_another_state_is_refused_by_its_name() -> None:
    found = {"name": "llm", "annotations": {"spillway.dev/claim": f"{STACK}:bbbb"}}
    with pytest.raises(TakeoverError, match=f"It is of stack {STACK}, with a state of its own"):
        check(FakeCluster(Namespace=found)).check(namespace())


def test_before_a_stack_has_a_claim_nothing_that_exists_is_its_own() -> None:
    found = {"name": "llm", "annotations": {"spillway.dev/claim": CLAIM}}
    with pytest.raises(TakeoverError):
        check(FakeCluster(Namespace=found), is_preview=True).check(namespace(UNKNOWN))


def test_what_an_interrupted_up_left_is_taken_up_again() -> None:
    found = {"name": "llm", "annotations": {"spillway.dev/claim": CLAIM}}
    takeover = check(FakeCluster(Namespace=found))
    takeover.check(namespace())
    labelled = {"name": "default-deny", "namespace": "llm", "labels": {"spillway.dev/platform": "llm"}}
    check(FakeCluster(NetworkPolicy=labelled)).check(policy())


def test_an_object_of_others_in_a_shared_namespace_is_refused() -> None:
    for labels in ({}, {"spillway.dev/platform": "other"}):
        found = {"name": "default-deny", "namespace": "llm", "labels": labels}
        with pytest.raises(
            TakeoverError, match=r"NetworkPolicy llm/default-deny exists.*kubectl -n llm annotate"
        ):
            check(FakeCluster(NetworkPolicy=found)).check(policy())


def test_what_is_annotated_for_this_stack_may_become_its_own() -> None:
    found = {"name": "llm", "annotations": {"spillway.dev/adopt": STACK}}
    check(FakeCluster(Namespace=found)).check(namespace())
    found = {"name": "llm", "annotations": {"spillway.dev/adopt": "organization/spillway/other"}}
    with pytest.raises(TakeoverError):
        check(FakeCluster(Namespace=found)).check(namespace())


def test_a_cluster_that_does_not_answer_is_no_matter_for_a_preview_but_for_an_up() -> None:
    cluster = FakeCluster()
    cluster.unreachable = True
    check(cluster, is_preview=True).check(policy())
    with pytest.raises(UnreachableError):
        check(cluster).check(policy())


def test_it_is_asked_although_all_threads_of_the_loop_wait_for_registrations() -> None:
    # Else a preview with many models stands still: the registrations wait for the engine, it for the hook.
    cluster, asked = FakeCluster(), threading.Event()

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(max_workers=1))
        registration = loop.run_in_executor(None, asked.wait, 60)
        arguments = pulumi.ResourceHookArgs("urn", "id", "llm", "kubernetes:core/v1:Namespace", namespace())
        await asyncio.wait_for(asking(check(cluster))(arguments), 30)
        asked.set()
        assert await registration

    asyncio.run(ask())
    assert cluster.asked == ["v1 Namespace None/llm"]


def test_in_a_namespace_of_its_own_a_stack_asks_for_the_namespace_and_not_for_what_is_in_it() -> None:
    asked = {kind for kind in KINDS if is_asked_for(kind, shared_namespace=False)}
    assert asked == {"kubernetes:core/v1:Namespace"}


def test_in_a_namespace_of_others_a_stack_asks_for_every_object_but_a_helm_release() -> None:
    asked = {kind for kind in KINDS if is_asked_for(kind, shared_namespace=True)}
    assert asked == set(KINDS[:3])


@pytest.mark.parametrize("stack", [*CLUSTERED, *CLUSTER_STACKS, *EXAMPLES])
def test_no_stack_declares_an_object_without_namespace_that_is_not_asked_for(stack: str) -> None:
    outside = {
        one["type"]
        for one in golden_resources(stack)
        if (metadata := one.get("inputs", {}).get("metadata"))
        and "namespace" not in metadata
        # The EKS cluster is the stack's own, so there is nobody to ask.
        and one["provider"] != "kubernetes (eks)"
    }
    assert outside <= set(IN_NO_NAMESPACE)
