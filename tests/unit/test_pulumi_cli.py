"""The CLI as it is driven: what is shown of its events, and what is done about one that was killed."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from runtime.ops.progress import Progress
from runtime.ops.pulumi_cli import EventFollower, PulumiCli, PulumiError

URN = "urn:pulumi:local::spillway::spillway:kubernetes:ModelService$kubernetes:ray.io/v1:RayService::tiny"


def pre(urn: str = URN, op: str = "create", custom: bool = True, planning: bool = False) -> dict[str, Any]:
    metadata = {"urn": urn, "op": op, "new": {"custom": custom}}
    return {"resourcePreEvent": {"metadata": metadata, "planning": planning}}


def done(urn: str = URN, op: str = "create") -> dict[str, Any]:
    return {"resOutputsEvent": {"metadata": {"urn": urn, "op": op}}}


def said(message: str, severity: str, urn: str = "") -> dict[str, Any]:
    return {"diagnosticEvent": {"message": message, "severity": severity, "urn": urn}}


def test_what_is_waited_for_is_named_with_its_last_message() -> None:
    follower = EventFollower(Progress(io.StringIO()))
    follower.take(pre())
    follower.take(said("Generation 1\nZeroServeEndpoints: no endpoints yet", "info", URN))
    assert "create RayService tiny since 0 s (ZeroServeEndpoints: no endpoints yet)" in follower.detail()
    follower.take(done())
    assert follower.detail() == "1 resources"


def test_components_are_not_waited_for_because_their_slowest_child_is() -> None:
    follower = EventFollower(Progress(io.StringIO()))
    follower.take(pre(custom=False))
    assert "since" not in follower.detail()


def test_unchanged_resources_are_not_counted() -> None:
    follower = EventFollower(Progress(io.StringIO()))
    follower.take(pre(op="same"))
    follower.take(done(op="same"))
    assert follower.detail() == "0 resources"


def test_the_preview_says_that_it_is_one() -> None:
    follower = EventFollower(Progress(io.StringIO()))
    follower.take(pre(planning=True))
    assert follower.detail() == "preview, 0 resources"


def test_errors_are_kept_with_the_resource_that_they_are_about() -> None:
    follower = EventFollower(Progress(io.StringIO()))
    follower.take(said("quota exceeded", "error", URN))
    follower.take(said("update failed", "error"))
    assert follower.errors == ["RayService tiny: quota exceeded", "update failed"]


def test_a_mandatory_policy_is_an_error_and_an_advisory_one_a_line() -> None:
    out = io.StringIO()
    follower = EventFollower(Progress(out))
    event = {"policyName": "gpu-max-per-pool", "resourceUrn": URN, "message": "64 GPUs, allowed 8"}
    follower.take({"policyEvent": {**event, "enforcementLevel": "mandatory"}})
    follower.take({"policyEvent": {**event, "enforcementLevel": "advisory"}})
    assert follower.errors == ["policy gpu-max-per-pool on RayService tiny: 64 GPUs, allowed 8"]
    assert "policy gpu-max-per-pool on RayService tiny: 64 GPUs, allowed 8" in out.getvalue()


def scripted(folder: Path, script: str) -> PulumiCli:
    """The driver with a CLI that is a shell script; `$1` is the command, and it can write to `asked`."""
    program = folder / "pulumi"
    program.write_text(f'#!/bin/sh\ncd {folder}\necho "$@" >> asked\n{script}\n')
    program.chmod(0o755)
    return PulumiCli(folder, "local", {"PATH": f"{folder}:/usr/bin:/bin"})


@pytest.fixture
def progress() -> Progress:
    return Progress(io.StringIO())


def test_a_killed_cli_is_reported_with_the_signal_and_what_to_do(tmp_path: Path, progress: Progress) -> None:
    cli = scripted(tmp_path, "echo 'warning: of no interest' >&2; kill -9 $$")
    with pytest.raises(PulumiError) as raised:
        cli.update("up", progress)
    assert str(raised.value).startswith(
        "pulumi up was ended by SIGKILL\nA process of Pulumi ended in the middle"
    )
    assert "run the same command again" in str(raised.value)
    with pytest.raises(PulumiError, match="pulumi stack was ended by SIGKILL"):
        cli.output("stack", "ls")


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("rpc error: code = Unavailable desc = error reading from server: EOF", "ended in the middle"),
        ("Detected that random exited prematurely.", "ended in the middle"),
        ("an unhandled error occurred: Program was ended by SIGKILL", "ended in the middle"),
        ("write /x/state.json: no space left on device", "The disk is full. Free some space"),
        ("cannot re-use a name that is still in use", "delete secret -l 'owner=helm,name=kuberay-operator"),
    ],
)
def test_words_that_tell_a_user_nothing_are_followed_by_what_to_do(
    words: str, remedy: str, tmp_path: Path, progress: Progress
) -> None:
    event = json.dumps({"diagnosticEvent": {"message": words, "severity": "error"}})
    cli = scripted(tmp_path, f"cat <<'EOF'\n{event}\nEOF\nexit 1")
    with pytest.raises(PulumiError) as raised:
        cli.update("up", progress)
    assert str(raised.value).startswith(words)
    assert remedy in str(raised.value)


def pending(kind: str, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
    resource = {"urn": f"urn:pulumi:local::spillway::{kind}::{name}", "type": kind, "inputs": inputs}
    return {"type": "creating", "resource": resource}


def test_what_a_killed_cli_was_making_is_looked_up_by_name_or_forgotten(
    tmp_path: Path, progress: Progress
) -> None:
    operations = [
        pending("kubernetes:core/v1:Namespace", "llm", {"metadata": {"name": "llm"}}),
        pending(
            "kubernetes:ray.io/v1:RayService", "tiny", {"metadata": {"name": "tiny", "namespace": "llm"}}
        ),
        pending("kubernetes:helm.sh/v3:Release", "ray", {"name": "operator", "namespace": "kuberay-system"}),
        pending("random:index/randomPassword:RandomPassword", "key", {"length": 40}),
        {**pending("kubernetes:core/v1:Secret", "old", {}), "type": "deleting"},
    ]
    (tmp_path / "state").write_text(json.dumps({"deployment": {"pending_operations": operations}}))
    cli = scripted(tmp_path, '[ "$1" = stack ] && cat state; exit 0')
    cli.settle_creations(progress, tmp_path / "Pulumi.local.yaml")
    asked = (tmp_path / "asked").read_text()
    assert "--clear-pending-creates" in asked
    for name in ("llm", "llm/tiny", "kuberay-system/operator"):
        assert f"--import-pending-creates {name}" in asked
    assert asked.count("--import-pending-creates") == 6
    assert "--target" not in asked, "the CLI refuses a target that is not in the cluster"
    assert "randomPassword" not in asked
    assert "Secret::old" not in asked


def test_without_pending_creations_nothing_is_refreshed(tmp_path: Path, progress: Progress) -> None:
    (tmp_path / "state").write_text(json.dumps({"deployment": {}}))
    scripted(tmp_path, "cat state").settle_creations(progress, tmp_path / "Pulumi.local.yaml")
    assert "refresh" not in (tmp_path / "asked").read_text()


def test_a_reason_why_the_update_may_never_end_is_shown_beside_what_is_waited_for(tmp_path: Path) -> None:
    out = io.StringIO()
    scripted(tmp_path, "sleep 0.1").update("up", Progress(out), trouble=lambda: "kubelet of the site ended")
    assert "pulumi up: preview, 0 resources; kubelet of the site ended" in out.getvalue()


def test_a_shell_without_pulumi_is_told_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(PulumiError, match="source the file that `make env` names"):
        PulumiCli(tmp_path, "local", {"PATH": str(tmp_path)}).output("stack", "ls")
