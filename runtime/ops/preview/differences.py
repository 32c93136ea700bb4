"""What differs between a resource's inputs before and after, without noise or secrets."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, cast

from runtime.ops.preview.events import Step
from runtime.stack_resources import MASKED, UNKNOWN

_WIDTH: Final = 160
# Changes with every run or build, and tells a reviewer nothing.
_CHURN: Final = re.compile(
    r"(^|\.)(kubeconfig|resourceVersion|creationTimestamp|managedFields|__[a-zA-Z]+)(\.|\[|$)"
)
_DIGEST: Final = re.compile(r"@sha256:[0-9a-f]{64}|\b[0-9a-f]{64}\b")
# Properties that hold a secret even where nobody marked them as one.
_SECRET_NAME: Final = re.compile(
    r"(passw(or)?d|secret|token|api[-_]?key|private[-_]?key|access[-_]?key)$", re.I
)


@dataclass(frozen=True, kw_only=True)
class PropertyChange:
    """One property that differs.

    Attributes:
        path: Where, as `spec.replicas`.
        before: What it is; None where it is not there.
        after: What it would be; None where it would not be there.
    """

    path: str
    before: str | None
    after: str | None


def property_changes(step: Step) -> list[PropertyChange]:
    """What differs in the inputs of a resource that is there before and after.

    Digests, versions of objects and the like are left out, and secrets are masked; a secret that differs is
    named where the provider says so.
    """
    if step.before is None or step.after is None:
        return []
    old, new = dict(_leaves(step.before.inputs)), dict(_leaves(step.after.inputs))
    changes = [
        PropertyChange(path=path, before=old.get(path), after=new.get(path))
        for path in dict.fromkeys([*old, *new])
        if old.get(path) != new.get(path) and not _CHURN.search(path)
    ]
    named = {one.path.split(".")[0].split("[")[0] for one in changes}
    hidden = [key for key in step.differing if key.split(".")[0].split("[")[0] not in named]
    return changes + [
        PropertyChange(path=key, before=MASKED, after=MASKED)
        for key in hidden
        if MASKED in {text for path, text in new.items() if path.startswith(key.split("[")[0])}
    ]


def _leaves(value: object, path: str = "", *, secret: bool = False) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        mapping = cast("Mapping[str, object]", value)
        # An environment variable has its name beside its value.
        named = _is_secret(str(mapping.get("name", "")))
        for key, item in mapping.items():
            below = secret or _is_secret(key) or (named and key == "value")
            yield from _leaves(item, f"{path}.{key}" if path else key, secret=below)
    elif isinstance(value, list):
        for index, item in enumerate(cast("list[object]", value)):
            yield from _leaves(item, f"{path}[{index}]", secret=secret)
    else:
        yield path, _text(value, secret=secret)


def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def _text(value: object, *, secret: bool) -> str:
    if value is UNKNOWN:
        return "(known after up)"
    if secret and isinstance(value, str):
        return MASKED
    text = _DIGEST.sub("(digest)", " ".join(str(value).split()))
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}… ({len(text)} characters)"
