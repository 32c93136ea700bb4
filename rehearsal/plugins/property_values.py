"""Property values as the engine sends them: plain JSON, with marks for secrets and for unknown values.

Source of the marks: sdk/go/common/resource/sig and sdk/go/common/resource/plugin/rpc.go.
"""

from collections.abc import Mapping
from typing import Any, TypeGuard, cast

from google.protobuf import json_format, struct_pb2

Value = None | bool | float | str | list["Value"] | dict[str, "Value"]

SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105  (the mark of a secret, not one)
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
_UNKNOWNS = frozenset(
    {
        UNKNOWN,
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",  # bool
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",  # number
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",  # array
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",  # object
    }
)


def read(struct: struct_pb2.Struct) -> dict[str, Value]:
    """The properties in `struct`, marks included. Every number is a float."""
    return cast("dict[str, Value]", json_format.MessageToDict(struct))


def write(properties: Mapping[str, Any]) -> struct_pb2.Struct:
    """The reverse of `read`."""
    struct = struct_pb2.Struct()
    struct.update(dict(properties))
    return struct


def secret(value: Value) -> Value:
    """Marks `value` as secret; a value that is marked already stays as it is."""
    return value if is_secret(value) else {SIGNATURE: SECRET, "value": value}


def is_secret(value: Value) -> TypeGuard[dict[str, Value]]:
    """Whether `value` itself (not something in it) carries the mark of a secret."""
    return isinstance(value, dict) and value.get(SIGNATURE) == SECRET


def plain(value: Value) -> Value:
    """`value` without the marks of secrets, at any depth."""
    if is_secret(value):
        return plain(value.get("value"))
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def is_unknown(value: Value) -> bool:
    """Whether `value` is not known yet, as at preview for an output of a resource to come."""
    value = plain(value)
    return isinstance(value, str) and value in _UNKNOWNS
