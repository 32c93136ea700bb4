"""Event streams of previews as the engine prints them, made of a few steps and policy results."""

import json
from collections.abc import Mapping
from typing import Any, Final

STACK_URN: Final = "urn:pulumi:dev::demo::pulumi:pulumi:Stack::demo-dev"
PREFIX: Final = "urn:pulumi:dev::demo::"
SECRET: Final = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270"}


def urn_of(kind: str, name: str) -> str:
    """The URN of a resource of the stack."""
    return f"{PREFIX}{kind}::{name}"


def state(kind: str, name: str, inputs: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A resource as an event shows it."""
    return {
        "urn": urn_of(kind, name),
        "type": kind,
        "custom": True,
        "inputs": dict(inputs),
        "outputs": {},
        **more,
    }


def step(
    operation: str,
    kind: str,
    name: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    *,
    keys: tuple[str, ...] = (),
    diffs: tuple[str, ...] = (),
    **kept: Any,
) -> dict[str, Any]:
    """What a preview would do to a resource, by its inputs before and after."""
    metadata = {
        "op": operation,
        "urn": urn_of(kind, name),
        "type": kind,
        "keys": list(keys) or None,
        "diffs": list(diffs) or None,
        "old": None if before is None else state(kind, name, before, **kept),
        "new": None if after is None else state(kind, name, after, **kept),
    }
    return {"resourcePreEvent": {"metadata": metadata, "planning": True}}


def policy(name: str, message: str, *, urn: str = STACK_URN, level: str = "mandatory") -> dict[str, Any]:
    """What a policy says; the SDK puts its description first."""
    event = {"policyName": name, "resourceUrn": urn, "enforcementLevel": level}
    return {"policyEvent": {**event, "message": f"What {name} requires.\n{message}\n"}}


def passed(*names: str) -> dict[str, Any]:
    """Policies that found nothing on the stack."""
    return {"policyAnalyzeStackSummaryEvent": {"policyPackName": "spillway-all", "passed": list(names)}}


def error(message: str) -> dict[str, Any]:
    """What the preview failed on."""
    return {"diagnosticEvent": {"severity": "error", "message": message}}


def stream(*events: Mapping[str, Any], ended: bool = True) -> list[str]:
    """The lines of a preview of stack `dev` of project `demo`."""
    begin = step("same", "pulumi:pulumi:Stack", "demo-dev", {}, {})
    end: list[Mapping[str, Any]] = [{"summaryEvent": {"isPreview": True}}] if ended else []
    return [json.dumps({"sequence": at, **event}) for at, event in enumerate([begin, *events, *end])]
