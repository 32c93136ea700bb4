"""How engine events are shown: what is waited for, what failed, and nothing twice."""

import io
from typing import Any

from runtime.ops.progress import Progress
from runtime.ops.pulumi_cli import EventFollower

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
    event = {"policyName": "max-gpus-per-pool", "resourceUrn": URN, "message": "64 GPUs, allowed 8"}
    follower.take({"policyEvent": {**event, "enforcementLevel": "mandatory"}})
    follower.take({"policyEvent": {**event, "enforcementLevel": "advisory"}})
    assert follower.errors == ["policy max-gpus-per-pool on RayService tiny: 64 GPUs, allowed 8"]
    assert "policy max-gpus-per-pool on RayService tiny: 64 GPUs, allowed 8" in out.getvalue()
