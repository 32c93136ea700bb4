"""Renders Clarify's published schema as JSON Schema: `tests/unit/clarify_analysis_config.schema.json`.

Amazon publishes it as an object of the library `schema` in sagemaker-core (Apache-2.0), with 50 packages. The
tests need only what it says. To write it anew, where the package registry is in reach:

    uv run --no-project --with sagemaker-core==2.27.0 python tests/support/clarify_schema.py
"""

import importlib
import inspect
import json
from pathlib import Path
from typing import Any

VERSION = "2.27.0"
FILE = Path(__file__).parents[1] / "unit" / "clarify_analysis_config.schema.json"
_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", object: None}


def main() -> None:
    """Writes the file."""
    published = importlib.import_module("sagemaker.core.clarify").ANALYSIS_CONFIG_SCHEMA_V1_0
    content = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": f"ANALYSIS_CONFIG_SCHEMA_V1_0 of sagemaker-core {VERSION}, Apache-2.0, rendered by "
        "tests/support/clarify_schema.py",
        **rendered(published.schema),
    }
    FILE.write_text(json.dumps(content, indent=2) + "\n")


def rendered(node: Any) -> dict[str, Any]:
    """JSON Schema of a part of a `schema.Schema`."""
    if node is None:
        return {"type": "null"}
    if isinstance(node, dict):
        return _object(node)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(node, list):
        (each,) = node  # pyright: ignore[reportUnknownVariableType]
        return {"type": "array", "items": rendered(each)}
    if isinstance(node, type):
        name = _TYPES[node]
        return {"type": name} if name else {}
    kind = type(node).__name__
    if kind == "Or":
        return {"anyOf": [rendered(one) for one in node.args]}
    if kind == "Regex":
        return {"pattern": node.pattern_str}
    if kind == "And":
        parts: dict[str, Any] = {}
        for one in node.args:
            # `Use(str.lower)` makes the values of any case; ours are lower case.
            if type(one).__name__ != "Use":
                parts |= _choice(one) if inspect.isfunction(one) else rendered(one)
        return parts
    raise TypeError(f"{node!r} is of no kind that this renders")


def _object(node: dict[Any, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required: list[str] = []
    further: Any = False
    for key, value in node.items():
        name = getattr(key, "schema", key)
        if isinstance(name, str):
            properties[name] = rendered(value)
            if type(key).__name__ != "Optional":
                required.append(name)
        else:
            further = rendered(value)
    found: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": further}
    return {**found, "required": required} if required else found


def _choice(function: Any) -> dict[str, Any]:
    # `lambda s: s in ("a", "b")`: the values are the function's one constant.
    constants: tuple[Any, ...] = function.__code__.co_consts
    return {"enum": next(sorted(one) for one in constants if type(one) in (tuple, frozenset))}


if __name__ == "__main__":
    main()
