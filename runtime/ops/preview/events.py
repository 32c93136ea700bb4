"""What a preview said: steps, policy results and errors, from the events that a streaming preview prints."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast

from runtime.stack_resources import (
    MASKED,
    SECRET_SIGNATURE,
    SIGNATURE,
    PreviewedStack,
    StackResource,
    from_preview_events,
)

Operation = Literal["create", "update", "replace", "delete", "import", "forget"]

# The engine's words for steps that change something (pkg/resource/deploy/step.go). A replacement comes as
# several steps of one resource, and is one thing for a reader.
_OPERATIONS: Final[Mapping[str, Operation]] = {
    "create": "create",
    "update": "update",
    "delete": "delete",
    "replace": "replace",
    "create-replacement": "replace",
    "delete-replaced": "replace",
    "discard-replaced": "replace",
    "import": "import",
    "import-replacement": "replace",
    "remove-pending-replace": "forget",
}
# What the engine says of a resource, and of the stack, when policies have looked at it.
_JUDGED: Final = frozenset({"policyAnalyzeSummaryEvent", "policyAnalyzeStackSummaryEvent"})
_BLOCKING: Final = frozenset({"mandatory", "remediate"})
# How Pulumi closes every preview that failed; the reason is an event of its own.
_CLOSING: Final = "preview failed"
# A shorter one would be found in every word.
_SHORTEST_SECRET: Final = 6
_FIX: Final = "\nFix: "


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a preview would do to one resource.

    Attributes:
        operation: What; a replacement is one step.
        urn: The resource.
        type: Its type token.
        name: Its name in the program.
        causes: Properties for which it is replaced; empty otherwise.
        differing: Properties that the provider says differ.
        deletes_first: Whether the old one goes before the new one is there.
        before: What there is; None where there is nothing yet.
        after: What there would be; None where nothing would.
    """

    operation: Operation
    urn: str
    type: str
    name: str
    causes: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()
    deletes_first: bool = False
    before: StackResource | None = None
    after: StackResource | None = None

    @property
    def protected(self) -> bool:
        """Whether Pulumi refuses to delete what there is."""
        return self.before is not None and self.before.protect

    @property
    def retained(self) -> bool:
        """Whether what there is stays where it is when Pulumi lets go of it."""
        return self.before is not None and self.before.retain_on_delete


@dataclass(frozen=True, kw_only=True)
class PolicyResult:
    """One thing that a policy said.

    Attributes:
        policy: Its name.
        urn: The resource; the stack's own for the stack as a whole.
        message: What is wrong, without the policy's own description.
        fix: What to do about it; empty where the policy does not say.
        blocks: Whether it stops an update.
    """

    policy: str
    urn: str
    message: str
    fix: str
    blocks: bool


@dataclass(frozen=True, kw_only=True)
class Preview:
    """One run of a preview.

    Attributes:
        stack: The stack's name, as in its resources; empty where the preview ended before the first.
        project: Its project, likewise.
        resources: What there is and what there would be.
        steps: What it would change, in the engine's order.
        results: What policies said, each thing once.
        passed: Names of policies that found nothing on at least one resource or the stack.
        judged: Whether any policy ran at all.
        errors: What it failed on, policies aside.
        finished: Whether it came to its end.
    """

    stack: str
    project: str
    resources: PreviewedStack
    steps: tuple[Step, ...]
    results: tuple[PolicyResult, ...] = ()
    passed: frozenset[str] = frozenset()
    judged: bool = False
    errors: tuple[str, ...] = ()
    finished: bool = True


def read_preview(lines: Sequence[str]) -> Preview:
    """Reads what `PULUMI_ENABLE_STREAMING_JSON_PREVIEW=true pulumi preview --json` printed.

    Raises:
        ResourcesError: There is no event among the lines.
    """
    lines = _without_secrets(lines)
    resources = from_preview_events(lines)
    events = list(_events(lines))
    urns = [str(step.get("urn")) for event in events if (step := _step_of(event))]
    _, stack, project = _names(urns[0]) if urns else ("", "", "")
    results = tuple(_results(events))
    errors = tuple(error for error in resources.errors if error != _CLOSING)
    ended = any("summaryEvent" in event for event in events)
    blocked = any(result.blocks for result in results)
    return Preview(
        stack=stack,
        project=project,
        resources=resources,
        steps=tuple(_steps(events, resources)),
        results=results,
        passed=frozenset(_passed(events)),
        judged=any(not _JUDGED.isdisjoint(event) for event in events),
        errors=errors or (() if blocked else resources.errors),
        finished=ended,
    )


def _events(lines: Iterable[str]) -> Iterator[Mapping[str, object]]:
    for line in lines:
        if not line.startswith("{"):
            continue
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(event, dict):
            yield cast("Mapping[str, object]", event)


def _names(urn: str) -> tuple[str, str, str]:
    """The parts of a URN that name its stack: prefix, stack and project."""
    parts = urn.split("::")
    return parts[0], parts[0].rpartition(":")[2], parts[1] if len(parts) > 1 else ""


def _step_of(event: Mapping[str, object]) -> Mapping[str, object] | None:
    return _mapping(_mapping(event.get("resourcePreEvent")).get("metadata")) or None


def _steps(events: Sequence[Mapping[str, object]], resources: PreviewedStack) -> Iterator[Step]:
    before = {one.urn: one for one in resources.before}
    after = {one.urn: one for one in resources.after}
    found: dict[str, list[Mapping[str, object]]] = {}
    for event in events:
        step = _step_of(event)
        if step is not None and str(step.get("op")) in _OPERATIONS:
            found.setdefault(str(step.get("urn")), []).append(step)
    for urn, steps in found.items():
        words = [str(one["op"]) for one in steps]
        operations: list[Operation] = [_OPERATIONS[word] for word in words]
        operation: Operation = "replace" if "replace" in operations else operations[-1]
        first = next((word for word in words if word in {"create-replacement", "delete-replaced"}), "")
        yield Step(
            operation=operation,
            urn=urn,
            type=str(steps[0].get("type") or ""),
            name=urn.rpartition("::")[2],
            causes=_texts(steps, "keys"),
            differing=_texts(steps, "diffs"),
            deletes_first=operation == "replace" and first == "delete-replaced",
            before=before.get(urn),
            after=after.get(urn),
        )


def _texts(steps: Sequence[Mapping[str, object]], key: str) -> tuple[str, ...]:
    listed = (one.get(key) for one in steps)
    texts = (text for texts in listed if isinstance(texts, list) for text in cast("list[object]", texts))
    return tuple(dict.fromkeys(str(text) for text in texts))


def _results(events: Sequence[Mapping[str, object]]) -> Iterable[PolicyResult]:
    said: dict[PolicyResult, None] = {}
    for event in events:
        policy = _mapping(event.get("policyEvent"))
        if policy:
            said[_result(policy)] = None
    return said


def _result(policy: Mapping[str, object]) -> PolicyResult:
    message, _, fix = str(policy.get("message") or "").strip().partition(_FIX)
    # The SDK puts the policy's description before what it reports.
    _, _, said = message.partition("\n")
    return PolicyResult(
        policy=str(policy.get("policyName")),
        urn=str(policy.get("resourceUrn") or ""),
        message=said or message,
        fix=fix,
        blocks=policy.get("enforcementLevel") in _BLOCKING,
    )


def _passed(events: Sequence[Mapping[str, object]]) -> Iterator[str]:
    for event in events:
        for key in _JUDGED:
            passed = _mapping(event.get(key)).get("passed")
            if isinstance(passed, list):
                yield from map(str, cast("list[object]", passed))


def _without_secrets(lines: Sequence[str]) -> Sequence[str]:
    """The lines without any plain text that one of them marks as secret, wherever else it stands."""
    secrets = {secret for secret in _secrets(list(_events(lines))) if len(secret) >= _SHORTEST_SECRET}
    text = "\n".join(lines)
    # The longest first, for one may be a part of another. In a text of JSON within JSON it is escaped twice.
    for secret in sorted(secrets, key=len, reverse=True):
        once = json.dumps(secret)[1:-1]
        for written in (json.dumps(once)[1:-1], once):
            text = text.replace(written, MASKED)
    return text.split("\n")


def _secrets(value: object) -> Iterator[str]:
    """Every plain text below a value that is marked as secret."""
    if isinstance(value, Mapping):
        mapping = cast("Mapping[str, object]", value)
        if mapping.get(SIGNATURE) == SECRET_SIGNATURE or mapping.get("secret") is True:
            yield from _plain_texts(mapping)
            return
        for item in mapping.values():
            yield from _secrets(item)
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            yield from _secrets(item)


def _plain_texts(secret: Mapping[str, object]) -> Iterator[str]:
    for text in (secret.get("plaintext"), secret.get("value")):
        if not isinstance(text, str):
            continue
        yield text
        try:
            # An export holds the value as JSON.
            inner = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(inner, str):
            yield inner


def _mapping(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}
