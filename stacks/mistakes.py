"""What a rejected stack file is told: one line per mistake, with key, value, what is allowed and the fix."""

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

CONFIG_KEY = "platform"


def explain(root: type[BaseModel], value: object, error: ValidationError) -> list[str]:
    """One line per mistake that `root` found in `value`."""
    # Members that failed on their own do not count, so pydantic also calls their list too short.
    problems = [
        problem
        for problem in error.errors()
        if not (problem["type"] == "too_short" and _at(value, problem["loc"]))
    ]
    return [_line(root, value, problem["loc"], problem) for problem in problems]


def _line(
    root: type[BaseModel], value: object, location: tuple[int | str, ...], problem: Mapping[str, Any]
) -> str:
    """One mistake as: key, value, what is allowed, the fix."""
    kind = str(problem["type"])
    context: Mapping[str, Any] = problem.get("ctx") or {}
    if kind == "extra_forbidden":
        known = sorted(_keys_at(root, location[:-1]))
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        fix = f"did you mean {near[0]}?" if near else "remove it"
        return f"{full_key(location)} is not a setting; allowed here: {', '.join(known)}; {fix}"
    if kind == "missing":
        described = _description(root, location)
        return f"{full_key(location)} is missing; add it{f': {described}' if described else ''}"
    shown = _shown(_at(value, location))
    if kind == "value_error":
        # A long object says nothing that the message does not say better.
        subject = f"{full_key(location)} = {shown}" if not shown.endswith("...") else full_key(location)
        return f"{subject}: {context['error']}"
    if kind == "literal_error":
        allowed = [word.strip(" '") for word in re.split(r",|\bor\b", str(context["expected"]))]
        near = difflib.get_close_matches(str(_at(value, location)), allowed, n=1)
        fix = f"; did you mean {near[0]}?" if near else ""
        return f"{full_key(location)} = {shown}: allowed: {', '.join(allowed)}{fix}"
    if kind == "string_pattern_mismatch":
        example = (
            "CPUs such as 500m, 4 or 1.5" if "cpu" in str(location[-1]).lower() else "bytes such as 16Gi"
        )
        return f"{full_key(location)} = {shown}: allowed: {example}; write it so"
    expected = str(problem["msg"]).removeprefix("Input should be ")
    return f"{full_key(location)} = {shown}: must be {expected}; change it"


def full_key(location: Sequence[int | str]) -> str:
    """A place in the object, as messages name it: `spillway:platform.models[0].name`."""
    text = f"spillway:{CONFIG_KEY}"
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text


def _at(value: object, location: Sequence[int | str]) -> object:
    here: Any = value
    for part in location:
        try:
            here = here[part]
        except (KeyError, IndexError, TypeError):
            return None
    return here


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _models_at(root: type[BaseModel], location: Sequence[int | str]) -> Iterator[type[BaseModel]]:
    """The settings classes that can stand at a place in the file."""
    here: list[type[BaseModel]] = [root]
    for part in location:
        if isinstance(part, int):
            continue
        here = [
            child
            for model in here
            for field in model.model_fields.values()
            if field.alias == part
            for child in _settings_in(field.annotation)
        ]
    yield from here


def _settings_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _settings_in(argument)


def _keys_at(root: type[BaseModel], location: Sequence[int | str]) -> set[str]:
    return {
        field.alias or name
        for model in _models_at(root, location)
        for name, field in model.model_fields.items()
    }


def _description(root: type[BaseModel], location: Sequence[int | str]) -> str | None:
    for model in _models_at(root, location[:-1]):
        for field in model.model_fields.values():
            if field.alias == location[-1]:
                return field.description
    return None
