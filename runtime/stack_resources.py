"""A stack's resources as plain data, from an exported state or a preview's events, with secrets masked.

Cost estimates, the preview's comment and the teardown's plan all read a stack through this one type, so that
what an unknown, a secret or a replaced resource looks like is settled in one place.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, cast

# What the engine writes in the place of a value that it does not know: boolean, number, string, array, asset,
# archive, object (sdk/go/common/resource/plugin/rpc.go; the same seven strings in every Pulumi SDK).
UNKNOWN_SENTINELS: Final = (
    "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
    "3eeb2bf0-c639-47a8-9e75-3b44932eb421",
    "04da6b54-80e4-46f7-96ec-b56ff0331ba9",
    "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
    "030794c1-ac77-496b-92df-f27374a8bd58",
    "e48ece36-62e2-4504-bad9-02848725956a",
    "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
)
# The key by which Pulumi marks an object that stands for something else, and what it stands for
# (sdk/go/common/resource/sig/sig.go).
SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
SECRET_SIGNATURE: Final = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - names a kind, and is no secret
_OUTPUT_SIGNATURE: Final = "d0e6a833031e9bbcd3f4e8bde6ca49a4"

MASKED: Final = "[secret]"


class Unknown(Enum):
    """The type of UNKNOWN, its only value."""

    UNKNOWN = "unknown"

    def __repr__(self) -> str:
        return "UNKNOWN"


# A value that is known only after `pulumi up` has made what it depends on.
UNKNOWN: Final = Unknown.UNKNOWN


class ResourcesError(Exception):
    """What was given is no exported state and no events of a preview; the message says what to give."""


def _empty() -> Mapping[str, object]:
    return {}


@dataclass(frozen=True, kw_only=True)
class StackResource:
    """One resource of a stack.

    Attributes:
        urn: Its URN.
        type: Its type token, such as `aws:eks/nodeGroup:NodeGroup`.
        name: Its name in the program.
        parent: URN of its parent; empty for the stack itself.
        provider: URN of its provider, without the provider's id; empty for components.
        id: What the provider calls it; empty where there is none or it is not known yet.
        custom: Whether a provider manages it. A component is a grouping of others.
        inputs: What the program asked for. Unknown values are UNKNOWN, secrets are MASKED.
        outputs: What the provider answered, likewise; may be empty in a preview.
        protect: Whether Pulumi refuses to delete it.
        retain_on_delete: Whether a destroy leaves it where it is.
        dependencies: URNs of what it waits for, without its parent.
        pending_delete: Whether it was replaced, and is still there until Pulumi deletes it.
    """

    urn: str
    type: str
    name: str
    parent: str = ""
    provider: str = ""
    id: str = ""
    custom: bool = True
    inputs: Mapping[str, object] = field(default_factory=_empty)
    outputs: Mapping[str, object] = field(default_factory=_empty)
    protect: bool = False
    retain_on_delete: bool = False
    dependencies: tuple[str, ...] = ()
    pending_delete: bool = False


@dataclass(frozen=True, kw_only=True)
class PreviewedStack:
    """A stack as a preview sees it: what is there, and what there would be.

    Attributes:
        before: What the state holds, as far as the preview looked at it.
        after: What there would be after an `up`.
        errors: What the preview failed on. If there are any, `after` may lack resources.
    """

    before: tuple[StackResource, ...]
    after: tuple[StackResource, ...]
    errors: tuple[str, ...] = ()


def from_state(exported: Mapping[str, object]) -> tuple[StackResource, ...]:
    """The resources of what `pulumi stack export` printed, or of a checkpoint file.

    A resource that was replaced and is not deleted yet is there twice, once with `pending_delete`, for it is
    still paid for. What is only read from elsewhere is left out, because it is not the stack's.

    Raises:
        ResourcesError: It is neither.
    """
    checkpoint = _mapping(exported.get("checkpoint"))
    deployment = _mapping(exported.get("deployment")) or _mapping((checkpoint or {}).get("latest"))
    if deployment is None:
        # The checkpoint of a stack that was never deployed to has no `latest`.
        if checkpoint is not None:
            return ()
        raise ResourcesError(
            f"has the keys {', '.join(map(str, exported)) or '(none)'} and no deployment; give the output of "
            "`pulumi stack export`"
        )
    found = [_mapping(one) for one in _sequence(deployment.get("resources"))]
    return tuple(_resource(one) for one in found if one is not None and not one.get("external"))


def from_preview_events(lines: Iterable[str]) -> PreviewedStack:
    """The stack before and after, from the events that a streaming preview prints, one JSON object a line.

    The command is `PULUMI_ENABLE_STREAMING_JSON_PREVIEW=true pulumi preview --json`. Lines that are no object
    are left out: providers and programs may write to the same stream.

    Raises:
        ResourcesError: There is no event among the lines.
    """
    before: dict[tuple[str, bool], StackResource] = {}
    after: dict[str, StackResource] = {}
    errors: list[str] = []
    seen = False
    for event in _events(lines):
        seen = seen or "sequence" in event or "resourcePreEvent" in event
        step = _mapping(event.get("resourcePreEvent")) or _mapping(event.get("resOutputsEvent"))
        if step is not None:
            _take(_mapping(step.get("metadata")) or {}, before, after)
        diagnostic = _mapping(event.get("diagnosticEvent")) or {}
        if diagnostic.get("severity") == "error":
            errors.append(str(diagnostic.get("message", "")).strip())
    if not seen:
        raise ResourcesError(
            "holds no event of Pulumi's engine; give what "
            "`PULUMI_ENABLE_STREAMING_JSON_PREVIEW=true pulumi preview --json` printed"
        )
    return PreviewedStack(
        before=tuple(before.values()), after=tuple(after.values()), errors=tuple(filter(None, errors))
    )


def plain(value: object) -> object:
    """A property's value without Pulumi's marks: UNKNOWN for what is not known, MASKED for a secret.

    A text of which only a part is not known is UNKNOWN as a whole.
    """
    if isinstance(value, str):
        return UNKNOWN if any(sentinel in value for sentinel in UNKNOWN_SENTINELS) else value
    mapping = _mapping(value)
    if mapping is not None:
        match mapping.get(SIGNATURE):
            case None:
                return {key: plain(item) for key, item in mapping.items()}
            case str() as kind if kind == SECRET_SIGNATURE:
                return MASKED
            case str() as kind if kind == _OUTPUT_SIGNATURE:
                # An output with its dependencies: the value if it is known, and nothing if it is not.
                if mapping.get("secret"):
                    return MASKED
                return plain(mapping["value"]) if "value" in mapping else UNKNOWN
            case _:
                return {key: plain(item) for key, item in mapping.items() if key != SIGNATURE}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [plain(item) for item in cast("Sequence[object]", value)]
    return value


def _events(lines: Iterable[str]) -> Iterable[Mapping[str, object]]:
    for line in lines:
        if not line.startswith("{"):
            continue
        try:
            event = _mapping(json.loads(line))
        except json.JSONDecodeError:
            continue
        if event is not None:
            yield event


# Steps that leave nothing of the stack behind, and those that only look at what is another's.
_GONE = frozenset({"delete", "delete-replaced", "discard", "discard-replaced", "remove-pending-replace"})
_READ = frozenset({"read", "read-replacement", "read-discard"})


def _take(
    metadata: Mapping[str, object],
    before: dict[tuple[str, bool], StackResource],
    after: dict[str, StackResource],
) -> None:
    operation = str(metadata.get("op"))
    old, new = _mapping(metadata.get("old")), _mapping(metadata.get("new"))
    if operation in _READ:
        return
    if old is not None:
        found = _resource(old)
        before.setdefault((found.urn, found.pending_delete), found)
    if new is not None and operation not in _GONE:
        found = _resource(new)
        earlier = after.get(found.urn)
        # The event of the outputs comes after that of the inputs; a replacement's own has none of them yet.
        if earlier is None or found.outputs or not earlier.outputs:
            after[found.urn] = found


def _resource(state: Mapping[str, object]) -> StackResource:
    urn = str(state.get("urn") or "")
    identity = plain(state.get("id"))
    return StackResource(
        urn=urn,
        type=str(state.get("type") or ""),
        name=urn.rsplit("::", 1)[-1],
        parent=str(state.get("parent") or ""),
        provider=str(state.get("provider") or "").rpartition("::")[0],
        id=identity if isinstance(identity, str) else "",
        custom=bool(state.get("custom")),
        inputs=_properties(state.get("inputs")),
        outputs=_properties(state.get("outputs")),
        protect=bool(state.get("protect")),
        retain_on_delete=bool(state.get("retainOnDelete")),
        dependencies=tuple(str(urn) for urn in _sequence(state.get("dependencies"))),
        pending_delete=bool(state.get("delete")),
    )


def _properties(value: object) -> Mapping[str, object]:
    return {key: plain(item) for key, item in (_mapping(value) or {}).items()}


def _mapping(value: object) -> Mapping[str, object] | None:
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else None


def _sequence(value: object) -> Sequence[object]:
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    return cast("Sequence[object]", value) if listed else ()
