"""A whole teardown: its order, what it refuses, what a kill leaves, and what is called clean."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime.ops.teardown import run
from runtime.ops.teardown.certificate import Certificate, newest
from runtime.ops.teardown.journal import Journal
from runtime.ops.teardown.run import RefusedError
from tests.support.draining_cluster import DrainingCluster
from tests.support.stack_files import namespace_role
from tests.support.torn_down import LABELS, MARK, TornDown, kubernetes_object, state_of

STEPS = [
    "what a killed Pulumi was making",
    "no more GPU nodes",
    "staged copies",
    "models",
    "GPU nodes",
    "load balancers",
    "volumes",
    "buckets",
    "pulumi destroy",
    "network",
]


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture(name="stack")
def fixture_stack(tmp_path: Path) -> TornDown:
    return TornDown(tmp_path)


def certificate_of(stack: TornDown, **wishes: Any) -> Certificate:
    certificate = stack.teardown(**wishes).run()
    assert certificate is not None
    return certificate


def test_a_stack_goes_models_first_and_ends_with_a_clean_certificate_in_both_forms(stack: TornDown) -> None:
    certificate = certificate_of(stack)
    assert certificate.clean, certificate.text()
    assert stack.cluster.deleted[:2] == ["tiny", "llm"]
    assert stack.cluster.names() == []
    (document,) = stack.folder.glob("dev-*.json")
    (text,) = stack.folder.glob("dev-*.txt")
    written = json.loads(document.read_text())
    assert written["clean"] is True
    assert written["sweeps"][0]["resourcesInState"] == 0
    assert "CLEAN: everything was looked at and nothing is left." in text.read_text()
    assert not list(stack.folder.glob("*.journal.json"))


def test_the_certificate_is_private_and_holds_nothing_secret(stack: TornDown) -> None:
    certificate_of(stack)
    for file in stack.folder.iterdir():
        assert file.stat().st_mode & 0o077 == 0
        assert "client-key" not in file.read_text()


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("moment", ["in the middle", "before the note"])
def test_a_run_that_is_killed_at_any_step_is_finished_by_the_next_one(
    stack: TornDown, step: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = Journal.note

    def killed(self: Journal, name: str) -> None:
        if name == step:
            raise Killed
        note(self, name)

    with monkeypatch.context() as patch:
        if moment == "before the note":
            patch.setattr(Journal, "note", killed)
        else:
            patch.setattr(run.Teardown, "_steps", killing(run.Teardown._steps, step))  # pyright: ignore[reportPrivateUsage]
        with pytest.raises(Killed):
            stack.teardown().run()
    assert list(stack.folder.glob("*.journal.json"))
    certificate = certificate_of(stack)
    assert certificate.clean, certificate.text()
    assert stack.cluster.names() == []


def killing(steps: Any, name: str) -> Any:
    def changed(self: run.Teardown) -> Any:
        for one, work in steps(self):

            def killed(step: Any) -> None:
                raise Killed

            yield one, killed if one == name else work

    return changed


def test_a_run_that_was_killed_after_the_destroy_still_knows_where_to_look(
    stack: TornDown, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: run.Teardown, ledger: object) -> Any:
        raise Killed

    stack.cluster.put(
        "v1",
        "PersistentVolume",
        None,
        "pv-1",
        body={"spec": {"claimRef": {"namespace": "llm"}, "persistentVolumeReclaimPolicy": "Retain"}},
    )
    with monkeypatch.context() as patch:
        patch.setattr(run.Teardown, "look", killed)
        with pytest.raises(Killed):
            stack.teardown().run()
    assert stack.exported["deployment"]["resources"] == []
    certificate = certificate_of(stack)
    assert [one.id for one in certificate.sweeps[-1].left] == ["pv-1"]


def test_an_earlier_run_does_not_count_when_something_was_made_since(
    stack: TornDown, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(run.Teardown, "_steps", killing(run.Teardown._steps, "GPU nodes"))  # pyright: ignore[reportPrivateUsage]
        with pytest.raises(Killed):
            stack.teardown().run()
    made = kubernetes_object("ray.io/v1", "RayService", "llm", "second")
    stack.exported["deployment"]["resources"].append({**made, "modified": "2999-01-01T00:00:00Z"})
    stack.cluster.put("ray.io/v1", "RayService", "llm", "second")
    assert certificate_of(stack).clean
    assert "by an earlier run" not in stack.out.getvalue()


def test_a_stuck_finalizer_ends_in_a_named_leak_with_who_removes_it_and_nothing_is_stripped(
    stack: TornDown,
) -> None:
    stack.cluster.controllers.clear()
    certificate = certificate_of(stack)
    assert not certificate.clean
    (line, blocked) = certificate.sweeps[-1].problems
    assert line.startswith(
        "models: cluster cluster: RayService llm/tiny is held: finalizer ray.io/rayservice-finalizer is "
        "removed by the KubeRay operator"
    )
    assert "Only if it cannot be had" in line
    assert blocked.startswith("pulumi destroy: not run")
    assert {one.id for one in certificate.sweeps[-1].left} == {"llm", "llm/tiny"}
    finalizers = stack.cluster.objects["/apis/ray.io/v1/namespaces/llm/rayservices/tiny"]["metadata"][
        "finalizers"
    ]
    assert finalizers == ["ray.io/rayservice-finalizer"]
    assert stack.destroys == 0
    stack.cluster.controllers.add("ray.io/rayservice-finalizer")
    stack.cluster.controllers.add("kubernetes")
    stack.cluster.settle()
    second = certificate_of(stack)
    assert [sweep.clean for sweep in second.sweeps] == [False, True], "one teardown, one certificate"


def test_a_cluster_that_does_not_answer_is_not_proven_and_nothing_is_destroyed(stack: TornDown) -> None:
    stack.cluster.down = True
    certificate = certificate_of(stack)
    assert not certificate.clean
    assert [look.problem for look in certificate.sweeps[-1].unproven] == [
        "no answer from https://cluster (context 'c'): connection refused"
    ]
    assert stack.destroys == 0
    stack.cluster.down = False
    assert certificate_of(stack).clean


def test_another_stacks_namespace_is_refused_and_nothing_is_touched(stack: TornDown) -> None:
    claimed = {"spillway.dev/claim": "organization/spillway/dev:another"}
    stack.cluster.put("v1", "Namespace", None, "llm", annotations=claimed)
    with pytest.raises(
        RefusedError, match=r"bears the claim of organization/spillway/dev, with a state of its own"
    ):
        stack.teardown().run()
    assert stack.cluster.deleted == []
    assert stack.destroys == 0


def test_a_cluster_without_anything_of_the_stack_is_refused_because_it_may_be_the_wrong_one(
    stack: TornDown,
) -> None:
    stack.cluster = DrainingCluster("uid-of-another")
    with pytest.raises(RefusedError, match="name the right kubeconfig, or, if that cluster is gone for good"):
        stack.teardown().run()
    (text,) = stack.folder.glob("dev-*.txt")
    assert "NOT CLEAN" in text.read_text()


def test_a_cluster_that_is_only_said_to_be_gone_is_not_proven(stack: TornDown) -> None:
    stack.cluster = DrainingCluster("uid-of-another")
    certificate = certificate_of(stack, gone={"cluster": ""})
    assert not certificate.clean
    assert "it is said to be gone, and nobody looked" in certificate.text()
    certificate = certificate_of(stack, gone={"cluster": "the site is gone with all its processes"})
    assert certificate.clean


def test_a_kubeconfig_that_leads_to_another_cluster_in_the_middle_is_refused(stack: TornDown) -> None:
    stack.cluster.controllers.clear()
    certificate_of(stack)
    stack.cluster = DrainingCluster("uid-of-another")
    with pytest.raises(RefusedError, match="is not the one that the stack was on"):
        stack.teardown().run()


def test_data_is_not_deleted_unless_somebody_says_so(stack: TornDown) -> None:
    stack.cluster.put(
        "v1",
        "PersistentVolumeClaim",
        "llm",
        "weights",
        body={"spec": {"volumeName": "pv-1"}, "status": {"capacity": {"storage": "100Gi"}}},
    )
    volume = {"claimRef": {"namespace": "llm"}, "persistentVolumeReclaimPolicy": "Delete"}
    stack.cluster.put("v1", "PersistentVolume", None, "pv-1", body={"spec": volume})
    with pytest.raises(RefusedError) as refused:
        stack.teardown().run()
    assert str(refused.value) == (
        "volume claim llm/weights (100Gi) on cluster cluster would be lost; move the data, or say "
        "--delete-data"
    )
    assert stack.cluster.deleted == []
    assert certificate_of(stack, delete_data=True).clean
    assert stack.cluster.names() == []


def test_a_volume_that_is_kept_is_a_named_leak(stack: TornDown) -> None:
    volume = {"claimRef": {"namespace": "llm"}, "persistentVolumeReclaimPolicy": "Retain"}
    stack.cluster.put("v1", "PersistentVolume", None, "pv-1", body={"spec": volume})
    certificate = certificate_of(stack)
    assert [one.words for one in certificate.sweeps[-1].left] == ["volume pv-1 in cluster cluster: unpriced"]
    assert "1 left" in certificate.text()


def test_protected_resources_are_named_before_anything_is_touched(tmp_path: Path) -> None:
    kept = {**kubernetes_object("v1", "Secret", "llm", "keys"), "protect": True}
    stack = TornDown(tmp_path, state_of(kept))
    with pytest.raises(RefusedError, match=r"Secret keys .* is protected, and a destroy stops at it"):
        stack.teardown().run()
    assert stack.cluster.deleted == []


def test_a_destroy_is_tried_again_and_its_last_words_are_kept(stack: TornDown) -> None:
    stack.failures = ["DependencyViolation: vpc-1"]
    assert certificate_of(stack).clean
    assert stack.destroys == 2


def test_a_destroy_that_never_works_is_no_clean_teardown(stack: TornDown) -> None:
    stack.failures = ["it does not go"] * 9
    certificate = certificate_of(stack)
    assert certificate.sweeps[-1].problems == ("pulumi destroy: it does not go",)
    assert certificate.sweeps[-1].resources_in_state == 5
    assert stack.destroys == 2


def test_what_a_destroy_waited_for_in_vain_is_explained_with_the_object_and_who_holds_it(
    stack: TornDown,
) -> None:
    condition = {
        "type": "NamespaceFinalizersRemaining",
        "status": "True",
        "message": "Some content in the namespace has finalizers remaining: of/somebody in 1 instance",
    }
    stack.cluster.put("v1", "ConfigMap", "llm", "theirs", finalizers=["of/somebody"])
    namespace = stack.cluster.objects["/api/v1/namespaces/llm"]
    namespace |= {"metadata": {**namespace["metadata"], "deletionTimestamp": "now"}}
    namespace |= {"status": {"conditions": [condition]}}
    stack.failures = ["timed out"] * 9
    certificate = certificate_of(stack)
    (said, why) = certificate.sweeps[-1].problems
    assert said == "pulumi destroy: timed out"
    assert why.startswith("pulumi destroy: cluster cluster: Namespace llm stays Terminating: Some content in")
    assert "of/somebody" in why


def test_operations_that_were_begun_and_not_finished_are_not_clean(
    stack: TornDown, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = {"type": "creating", "resource": {"urn": "a::b::aws:ec2/vpc:Vpc::net", "type": "aws:ec2/vpc:Vpc"}}
    monkeypatch.setattr(stack, "settle", lambda: None)
    stack.exported["deployment"]["pending_operations"] = [begun]
    certificate = certificate_of(stack)
    assert not certificate.clean
    assert "begun and not finished: creating Vpc net" in certificate.text()


def test_a_service_with_a_load_balancer_goes_before_the_controller_that_has_to_see_it(
    stack: TornDown,
) -> None:
    stack.cluster.put("v1", "Service", "llm", "extra", body={"spec": {"type": "LoadBalancer"}})
    assert certificate_of(stack).clean
    assert stack.cluster.deleted.index("extra") < stack.cluster.deleted.index("llm")


@pytest.fixture
def guest(tmp_path: Path) -> TornDown:
    """A stack in a namespace of others, by an identity that has the documented Role there and no more."""
    claim = kubernetes_object(
        "v1", "ConfigMap", "team", "llm-claim", annotations={"spillway.dev/claim": MARK}
    )
    state = state_of(claim)
    resources = state["deployment"]["resources"]
    state["deployment"]["resources"] = [
        one for one in resources if one["urn"].rpartition("::")[2] not in ("llm", "tiny")
    ]
    stack = TornDown(tmp_path, state)
    stack.cluster = DrainingCluster()
    stack.cluster.put("v1", "Namespace", None, "team")
    stack.cluster.put("v1", "ConfigMap", "team", "llm-claim", annotations={"spillway.dev/claim": MARK})
    stack.cluster.put("ray.io/v1", "RayService", "team", "theirs")
    stack.cluster.put("ray.io/v1", "RayService", "team", "ours", labels=LABELS)
    stack.cluster.put("v1", "PersistentVolumeClaim", "team", "their-data")
    stack.cluster.put("v1", "ConfigMap", "team", "kube-root-ca.crt", body={"data": {"ca.crt": "a CA"}})
    made_by: dict[str, Any] = {"labels": LABELS, "ownerReferences": [{"kind": "RayService", "name": "ours"}]}
    stack.cluster.put("ray.io/v1", "RayCluster", "team", "ours-x", **made_by)
    stack.cluster.role = namespace_role()
    return stack


def test_in_a_namespace_of_others_only_what_bears_the_platforms_label_is_touched(guest: TornDown) -> None:
    certificate = certificate_of(guest)
    assert certificate.clean, certificate.text()
    assert guest.cluster.names() == ["kube-root-ca.crt", "team", "their-data", "theirs"]


def test_a_cluster_of_others_is_known_again_by_its_ca(guest: TornDown) -> None:
    held: dict[str, Any] = {"labels": LABELS, "finalizers": ["of/somebody"]}
    guest.cluster.put("ray.io/v1", "RayService", "team", "ours", **held)
    assert not certificate_of(guest).clean
    guest.cluster.put("v1", "ConfigMap", "team", "kube-root-ca.crt", body={"data": {"ca.crt": "another"}})
    with pytest.raises(
        RefusedError, match=r"is not the one that the stack was on \(the digest of its CA is sha"
    ):
        guest.teardown().run()


def test_a_stack_without_resources_and_without_a_journal_has_no_certificate(stack: TornDown) -> None:
    stack.exported["deployment"]["resources"] = []
    assert stack.teardown().run() is None
    assert list(stack.folder.iterdir()) == []


def test_a_later_look_is_added_to_the_certificate_and_finds_what_came_since(stack: TornDown) -> None:
    certificate_of(stack)
    found = newest(stack.folder, "dev")
    assert found is not None
    volume = {"claimRef": {"namespace": "llm"}, "persistentVolumeReclaimPolicy": "Retain"}
    stack.cluster.put("v1", "PersistentVolume", None, "late", body={"spec": volume})
    again = found[1].and_again(stack.teardown().look(found[1].ledger))
    again.write(stack.folder)
    assert not again.clean
    assert "Earlier looks: " in again.text()
    reread = newest(stack.folder, "dev")
    assert reread is not None
    assert [sweep.clean for sweep in reread[1].sweeps] == [True, False]
    assert reread[1].clean is False


def test_the_certificate_of_a_stack_whose_name_begins_alike_is_another_one(stack: TornDown) -> None:
    certificate_of(stack)
    own = newest(stack.folder, "dev")
    assert own is not None
    theirs = replace(own[1], ledger=replace(own[1].ledger, stack="dev-3"), begun="2099-01-01T00:00:00Z")
    document, _ = theirs.write(stack.folder)
    assert newest(stack.folder, "dev") == own
    found = newest(stack.folder, "dev-3")
    assert found is not None
    assert found[0] == document
    document.rename(stack.folder / "dev-20990101T000000Z.json")
    assert newest(stack.folder, "dev") == own, "what a file is called says nothing of what is in it"


def test_the_plan_says_what_would_go_and_touches_nothing(stack: TornDown) -> None:
    lines = stack.teardown().plan().lines
    assert "owner ml, environment dev, expires 7d" in lines
    assert "cluster cluster: 2 objects go, with namespace llm" in lines
    assert stack.cluster.deleted == []
    assert list(stack.folder.iterdir()) == []
