"""The parts of a teardown by themselves: what is read from a state, the journal, and explained finalizers."""

from pathlib import Path

import pytest

from runtime.ops.deletions import ObjectReference
from runtime.ops.teardown import finalizers
from runtime.ops.teardown.journal import Journal, JournalError
from runtime.ops.teardown.ledger import Ledger, access_of, merged, pending_of, read_ledger, resources_of
from tests.support.torn_down import MARK, STACK, aws_resource, kubernetes_object, state_of

SIGNATURE = "4dabf18193072939515e22adb298388d"
HYBRID = state_of(
    aws_resource("aws:eks/cluster:Cluster", "c"),
    aws_resource("aws:s3/bucket:Bucket", "weights"),
    {
        "urn": "urn:pulumi:dev::spillway::pulumi:providers:kubernetes::eks",
        "type": "pulumi:providers:kubernetes",
        "custom": True,
        "id": "id",
        "inputs": {
            "kubeconfig": {SIGNATURE: "1b47061264138c4ac30d75fd1eb44270", "plaintext": '"{\\"kind\\": 1}"'}
        },
        "propertyDependencies": {"kubeconfig": ["urn:pulumi:dev::spillway::aws:eks/cluster:Cluster::c"]},
    },
    aws=True,
)


def ledger_of(state: dict[str, object]) -> Ledger:
    return read_ledger("dev", resources_of(state))


def test_a_ledger_says_where_the_stack_was_from_the_state_alone() -> None:
    ledger = ledger_of(HYBRID)
    (cloud,) = ledger.clouds
    assert (cloud.account, cloud.region, cloud.stack, cloud.platform) == (
        "123456789012",
        "us-east-1",
        STACK,
        "c",
    )
    assert cloud.clusters == ("c",)
    assert cloud.ids("aws:s3/bucket:Bucket") == ("weights",)
    here, there = ledger.sites
    assert (here.kubeconfig, here.context, here.eks) == ("/lab/kubeconfig", "lab", None)
    assert (here.claims, here.own) == ({"llm": MARK}, ("llm",))
    assert (there.name, there.kubeconfig, there.eks) == ("eks", None, "c")
    assert ledger.tenure is not None
    assert ledger.tenure.owner == "ml"


def test_a_kubeconfig_that_the_state_has_is_used_and_never_written_down() -> None:
    provider = next(one for one in resources_of(HYBRID) if one.name == "eks")
    assert access_of(provider) == (None, '{"kind": 1}', None)
    assert "kind" not in ledger_of(HYBRID).sites[1].__repr__().replace("kind=", "")


def test_a_ledger_survives_a_file() -> None:
    ledger = ledger_of(HYBRID)
    assert Ledger.from_json(ledger.to_json()) == ledger


def test_what_a_half_done_teardown_has_forgotten_is_still_known() -> None:
    before = ledger_of(HYBRID)
    assert merged(before, ledger_of({"deployment": {}})) == before
    both = merged(before, ledger_of(state_of(kubernetes_object("v1", "Secret", "llm", "new"))))
    assert {one.name for one in both.sites[0].objects} == {"llm", "tiny", "new"}
    assert both.clouds == before.clouds


def test_pending_operations_are_named() -> None:
    begun = {"type": "deleting", "resource": {"urn": "u::p::aws:ec2/vpc:Vpc::net", "type": "aws:ec2/vpc:Vpc"}}
    assert pending_of({"deployment": {"pending_operations": [begun]}}) == ["deleting Vpc net"]


def test_a_journal_is_taken_up_where_it_was(tmp_path: Path) -> None:
    file = tmp_path / "dev.journal.json"
    first = Journal(file)
    assert first.load() is None
    first.begin(ledger_of(HYBRID), [], "2026-11-21T18:00:00Z")
    first.note("models")
    second = Journal(file)
    entry = second.load()
    assert entry is not None
    assert entry.done == ("models",)
    before, since = "2026-11-21T17:59:59.5Z", "2026-11-21T18:00:00.5Z"
    now = "2026-11-21T19:00:00Z"
    assert second.begin(entry.ledger, [before, ""], now).done == ("models",)
    assert second.begin(entry.ledger, [before, since], now).done == ()
    second.close()
    assert not file.exists()


def test_a_journal_is_private_and_a_broken_one_is_not_thrown_away(tmp_path: Path) -> None:
    file = tmp_path / "dev.journal.json"
    Journal(file).begin(ledger_of(HYBRID), [], "now")
    assert file.stat().st_mode & 0o077 == 0
    file.write_text("{")
    with pytest.raises(JournalError, match="look into it before you remove it"):
        Journal(file).load()
    assert file.exists()


@pytest.mark.parametrize(
    ("kind", "finalizer", "who"),
    [
        ("RayService", "ray.io/rayservice-finalizer", "the KubeRay operator"),
        ("PersistentVolumeClaim", "kubernetes.io/pvc-protection", "once no pod uses the claim"),
        ("Service", "service.k8s.aws/resources", "the AWS Load Balancer Controller"),
        ("NodePool", "karpenter.sh/termination", "Karpenter"),
        ("Widget", "widgets.example.com/clean-up", "the controller of widgets.example.com"),
    ],
)
def test_a_finalizer_is_explained_with_who_removes_it_and_the_last_resort(
    kind: str, finalizer: str, who: str
) -> None:
    one = ObjectReference("v1", kind, "llm", "it")
    said = finalizers.explain(one, {"finalizers": [finalizer], "deletionTimestamp": "now"})
    assert f"finalizer {finalizer} is removed by" in said
    assert who in said
    assert said.index("Bring that back") < said.index("patch")


def test_the_patch_names_the_group_so_that_it_hits_the_right_kind() -> None:
    one = ObjectReference("ray.io/v1", "RayService", "llm", "tiny")
    said = finalizers.explain(one, {"finalizers": ["ray.io/rayservice-finalizer"]})
    assert "kubectl -n llm patch rayservices.ray.io tiny --type=merge" in said


def test_a_namespace_is_explained_by_what_remains_in_it() -> None:
    one = ObjectReference("v1", "Namespace", None, "llm")
    said = finalizers.explain(one, {}, ["Some resources are remaining: rayservices.ray.io has 1 instances"])
    assert "rayservices.ray.io has 1 instances" in said
    assert "not the namespace's finalizer" in said
