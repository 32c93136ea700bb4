"""Reads resource properties of which some values may not be known yet.

During a preview a property may be *missing*, *known*, or *unknown* because it depends on something that
`pulumi up` has yet to create. A rule that passed over an unknown value would make a cap stop to be one. So
every value is a `Node` that carries its own path and state. Asking a node for a typed value that cannot be
had raises `Unreadable`, which `policies.rule.Rule` reports as a violation: a rule that forgets about unknown
values fails closed.

Nothing here imports Pulumi: an unknown is the engine's placeholder for it, or UNKNOWN.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import cast

from runtime.stack_resources import UNKNOWN, UNKNOWN_SENTINELS, plain

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


class Presence(Enum):
    """Whether a property is there, and whether its value can be read now."""

    MISSING = "missing"
    UNKNOWN = "unknown"
    KNOWN = "known"


class Unreadable(Exception):  # noqa: N818 - a state of the input, not a fault of the program
    """A property that a rule needs cannot be read.

    Attributes:
        path: The property, written as in `spec.containers[0].image`.
        reason: What is wrong with it, as the rest of a sentence that begins with the path. It never holds
            the value: the engine hands secrets to policies in plain text.
        fix: What to do about it, as an instruction.
        unknown: Whether it is only not known yet, and neither missing nor wrong.
    """

    def __init__(self, path: str, reason: str, fix: str | None = None, *, unknown: bool = False) -> None:
        super().__init__(f"{path} {reason}")
        self.path = path
        self.reason = reason
        self.unknown = unknown
        self.fix = fix or f"Give {path} a plain value in the program or in the stack's configuration."


@dataclass(frozen=True, slots=True)
class Node:
    """One property: where it is, whether it is known, and its value if so.

    Attributes:
        path: The property's path from the resource's inputs. Below an unknown value it is the path of that
            value, because that is the one to make known.
        presence: Whether the value is missing, unknown or known. An explicit null counts as missing, as it
            does for Kubernetes.
        value: The raw value if known, else None.
    """

    path: str
    presence: Presence
    value: object = None

    def child(self, *keys: str) -> "Node":
        """Follows object keys.

        Returns:
            The node at the end. It is missing if any step is missing, unknown if any step is unknown.

        Raises:
            Unreadable: A value on the way is known and is not an object.
        """
        node = self
        for key in keys:
            node = node._step(key)
        return node

    def entries(self) -> dict[str, "Node"]:
        """Returns the object's properties by key; an empty dict if it is missing.

        Raises:
            Unreadable: The value is unknown or not an object.
        """
        self._refuse_unknown()
        if self.presence is Presence.MISSING:
            return {}
        mapping = self._mapping()
        return {key: self._step(key) for key in mapping}

    def items(self) -> list["Node"]:
        """Returns the list's elements; an empty list if it is missing.

        Raises:
            Unreadable: The value is unknown or not a list. An unknown element raises only when it is read.
        """
        self._refuse_unknown()
        if self.presence is Presence.MISSING:
            return []
        sequence = _as_sequence(self.value)
        if sequence is None:
            raise Unreadable(self.path, "is not a list")
        return [_fetch(sequence, index, f"{self.path}[{index}]") for index in range(len(sequence))]

    def integer(self, default: int | None = None, minimum: int = 0) -> int:
        """Returns a whole number; the engine sends every number as a float.

        Args:
            default: What a missing value means. None: a missing value is unreadable.
            minimum: The smallest value that makes sense.

        Raises:
            Unreadable: The value is unknown, not a whole number, below the minimum, or missing without
                default.
        """
        value = self._known(default)
        # bool is an int for Python, and True would pass for one GPU.
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
            raise Unreadable(self.path, "is not a whole number")
        if value < minimum:
            raise Unreadable(self.path, f"is below {minimum}")
        return int(value)

    def text(self, default: str | None = None) -> str:
        """Returns a string.

        Args:
            default: What a missing value means. None: a missing value is unreadable.

        Raises:
            Unreadable: The value is unknown, not a string, or missing without default.
        """
        value = self._known(default)
        if not isinstance(value, str):
            raise Unreadable(self.path, "is not a string")
        return value

    def boolean(self, default: bool | None = None) -> bool:
        """Returns whether it is true; some providers write `"true"`.

        Args:
            default: What a missing value means. None: a missing value is unreadable.

        Raises:
            Unreadable: The value is unknown, not a truth value, or missing without default.
        """
        value = self._known(default)
        if isinstance(value, str) and value in {"true", "false"}:
            return value == "true"
        if not isinstance(value, bool):
            raise Unreadable(self.path, "is neither true nor false")
        return value

    def texts(self) -> list[str]:
        """Returns the strings of a list, none if it is missing; raises Unreadable as `items` and `text`."""
        return [item.text() for item in self.items()]

    def parsed(self) -> "Node":
        """Returns the node of what is in a text that is JSON, at the path of the text.

        Raises:
            Unreadable: The value is unknown, missing, not a string, or no JSON.
        """
        try:
            return Node(self.path, Presence.KNOWN, json.loads(self.text()))
        except ValueError:
            raise Unreadable(self.path, "is not JSON") from None

    @property
    def is_missing(self) -> bool:
        """Whether there is no such property."""
        return self.presence is Presence.MISSING

    def plain(self) -> object:
        """Returns the value and all in it as plain dicts and lists, UNKNOWN for what is unknown."""
        return UNKNOWN if self.presence is Presence.UNKNOWN else plain(self.value)

    def descend(self) -> Iterator[tuple[str, "Node"]]:
        """Yields every property below this one with its key, parents first; nothing below unknown values.

        The key of a list element is empty. For searches through objects of unknown shape.
        """
        for key, node in self._below():
            yield key, node
            yield from node.descend()

    def _below(self) -> Iterator[tuple[str, "Node"]]:
        mapping = _as_mapping(self.value)
        if mapping is not None:
            for key in mapping:
                yield key, self._step(key)
            return
        sequence = _as_sequence(self.value)
        if sequence is not None:
            for index in range(len(sequence)):
                yield "", _fetch(sequence, index, f"{self.path}[{index}]")

    def _step(self, key: str) -> "Node":
        if self.presence is Presence.UNKNOWN:
            return self
        path = _join(self.path, key)
        if self.presence is Presence.MISSING:
            return Node(path, Presence.MISSING)
        return _fetch(self._mapping(), key, path)

    def _mapping(self) -> Mapping[str, object]:
        mapping = _as_mapping(self.value)
        if mapping is None:
            raise Unreadable(self.path, "is not an object")
        return mapping

    def _known(self, default: object) -> object:
        self._refuse_unknown()
        if self.presence is Presence.KNOWN:
            return self.value
        if default is None:
            raise Unreadable(self.path, "is missing")
        return default

    def _refuse_unknown(self) -> None:
        if self.presence is Presence.UNKNOWN:
            raise Unreadable(
                self.path, "is not known until `pulumi up` has created what it depends on", unknown=True
            )


def read(props: Mapping[str, object], path: str = "") -> Node:
    """Wraps a resource's inputs, or a policy's configuration, for reading.

    Args:
        props: Its properties.
        path: What to put before every path, for input that is not the resource itself.
    """
    return Node(path, Presence.KNOWN, props)


def _join(path: str, key: str) -> str:
    step = f".{key}" if _PLAIN_KEY.fullmatch(key) else f'["{key}"]'
    return (path + step).removeprefix(".")


def _as_mapping(value: object) -> Mapping[str, object] | None:
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else None


def _as_sequence(value: object) -> Sequence[object] | None:
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return cast("Sequence[object]", value)
    return None


def _fetch(container: Mapping[str, object] | Sequence[object], key: str | int, path: str) -> Node:
    try:
        value = cast("Mapping[str | int, object]", container)[key]
    except KeyError:
        return Node(path, Presence.MISSING)
    if value is None:
        return Node(path, Presence.MISSING)
    if value is UNKNOWN:
        return Node(path, Presence.UNKNOWN)
    # An unknown inside a longer string arrives as a known string that contains the sentinel.
    if isinstance(value, str) and any(sentinel in value for sentinel in UNKNOWN_SENTINELS):
        return Node(path, Presence.UNKNOWN)
    return Node(path, Presence.KNOWN, value)
