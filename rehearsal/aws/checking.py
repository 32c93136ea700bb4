"""Compares values with a contract: one message for each mistake, with key, value and what is allowed."""

import difflib
import json
from collections.abc import Mapping, Sequence

from rehearsal.aws.contract import ListOf, MapOf, ObjectOf, OneOf, Property, Shape
from rehearsal.plugins.property_values import Value, is_secret, is_unknown, plain

_WORDS = {
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "anything": "anything",
}

Mistake = tuple[str, str]
"""The property's path and the message."""


def check(inputs: Mapping[str, Value], properties: Mapping[str, Property], of: str) -> list[Mistake]:
    """What is wrong with the properties of a resource, of a function's call or of the provider.

    Unknown values are taken for right. Unlike the real provider, which turns `"16"` into 16, a value of
    another type is a mistake.

    Args:
        inputs: As the engine sent them, with marks.
        properties: The contract.
        of: What they are the properties of, for messages.
    """
    return _object("", inputs, properties, of)


def _object(
    path: str, given: Mapping[str, Value], properties: Mapping[str, Property], of: str
) -> list[Mistake]:
    found: list[Mistake] = []
    for key, value in given.items():
        if key.startswith("__"):
            continue  # The engine's and the provider's own.
        place = f"{path}.{key}" if path else key
        if key not in properties:
            found.append((place, f"{place}: not a property of {of}; {_allowed(key, properties)}"))
        elif value is not None:
            found += _value(place, value, properties[key].shape)
    for key, declared in properties.items():
        if declared.required and given.get(key) is None:
            place = f"{path}.{key}" if path else key
            found.append((place, f"{place}: missing in {of}; write {_described(declared.shape)}"))
    return found


def _value(place: str, value: Value, shape: Shape) -> list[Mistake]:
    if value is None or is_unknown(value):
        return []
    if is_secret(value):
        inside = _value(place, plain(value), shape)
        return [(path, f"{path}: the secret value is not {_described(shape)}") for path, _ in inside]
    if isinstance(shape, OneOf):
        tries = [_value(place, value, option) for option in shape.shapes]
        # The deepest complaint is about the form that was meant.
        return [] if [] in tries else max(tries, key=lambda found: len(found[0][0]))
    if isinstance(shape, ObjectOf) and isinstance(value, dict):
        return _object(place, value, shape.properties, shape.name)
    if isinstance(shape, MapOf) and isinstance(value, dict):
        return [wrong for key, item in value.items() for wrong in _value(f"{place}.{key}", item, shape.item)]
    if isinstance(shape, ListOf) and isinstance(value, list):
        return [
            wrong
            for index, item in enumerate(value)
            for wrong in _value(f"{place}[{index}]", item, shape.item)
        ]
    if _is_scalar(value, shape):
        return []
    return [(place, f"{place}: {_shown(value)} is not {_described(shape)}")]


def _is_scalar(value: Value, shape: Shape) -> bool:
    match shape:
        case "anything":
            return True
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "number" | "integer":
            if isinstance(value, bool) or not isinstance(value, int | float):
                return False
            return shape == "number" or float(value).is_integer()
        case _:
            return False


def _described(shape: Shape) -> str:
    match shape:
        case ListOf():
            return f"a list of {_described(shape.item)}"
        case MapOf():
            return f"a map from string to {_described(shape.item)}"
        case OneOf():
            return " or ".join(_described(option) for option in shape.shapes)
        case ObjectOf():
            return f"an object {shape.name}"
        case _:
            return _WORDS[shape]


def _shown(value: Value) -> str:
    # Every number comes as a float; the user wrote 16, not 16.0.
    written = int(value) if isinstance(value, float) and value.is_integer() else plain(value)
    text = json.dumps(written)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _allowed(key: str, properties: Mapping[str, Property]) -> str:
    close: Sequence[str] = difflib.get_close_matches(key, properties, n=3)
    if len(properties) > 15 and close:
        return f"did you mean {' or '.join(close)}?"
    return f"allowed: {', '.join(sorted(properties)) or 'none'}"
