"""Reads a stack file as Pulumi does, and says in words what is wrong with its YAML.

Pulumi reads by gopkg.in/yaml.v3, which is YAML 1.2 with the octals of 1.1, and PyYAML reads otherwise: here
`yes` is text, `1e3` is a number, and a key that is there twice is a mistake.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

_RESOLVERS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "null": (r"~|null|Null|NULL|", "~nN\0"),
    "int": (r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0o[0-7_]+|[0-9][0-9_]*)", "-+0123456789"),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|nan)",
        "-+.0123456789",
    ),
    "merge": (r"<<", "<"),
}


class StackFileError(Exception):
    """A file that is no YAML; the text is one line that says where, why and what to do."""


def read_stack_file(path: Path) -> tuple[object, list[str]]:
    """Returns the content of a stack file, and a line for each key that is there twice.

    Raises:
        StackFileError: It cannot be read, or is no YAML.
    """
    try:
        return parse_stack_file(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise StackFileError(f"cannot be read: {error}; name a stack file") from None


def parse_stack_file(text: str) -> tuple[object, list[str]]:
    """The same for a text. Raises StackFileError if it is no YAML."""
    try:
        loader = _Loader(text)
        return loader.get_single_data(), loader.repeated
    except yaml.reader.ReaderError as error:
        raise StackFileError(
            f"the file has a character that YAML does not allow: #x{error.character:04x}; remove it"
        ) from None
    except yaml.MarkedYAMLError as error:
        raise StackFileError(_broken(error, text)) from None


def list_mistakes(place: str | Path, lines: Sequence[str]) -> str:
    """All mistakes of a place as one message, a line each, with their number before them."""
    count = f"{len(lines)} mistake{'s' if len(lines) > 1 else ''} in {place}:"
    return "\n".join([count, *(f"  - {line}" for line in lines)])


class _Loader(yaml.SafeLoader):
    """PyYAML's parser with Go's idea of what a plain word means."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own name, filled below

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.repeated: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for pair in list(node.value):
            key = pair[0]
            if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
                continue
            line, first = key.start_mark.line + 1, lines.setdefault(key.value, key.start_mark.line + 1)
            if line != first:
                self.repeated.append(
                    f"line {line}: {key.value} is there already, on line {first}; remove one"
                )
                node.value.remove(pair)
        return {
            _key_text(key): value
            for key, value in super().construct_mapping(node, deep).items()  # pyright: ignore
        }

    def construct_int(self, node: yaml.ScalarNode) -> int:
        digits = str(self.construct_scalar(node)).replace("_", "")  # pyright: ignore
        if re.fullmatch(r"[-+]?0[0-7]+", digits):
            return int(digits, 8)
        return int(digits, 10) if re.fullmatch(r"[-+]?\d+", digits) else int(digits, 0)

    def construct_float(self, node: yaml.ScalarNode) -> float | int:
        text = str(self.construct_scalar(node)).replace("_", "").lower()  # pyright: ignore
        number = float(re.sub(r"\.(inf|nan)$", r"\1", text))
        # Pulumi hands config over as JSON, in which 2.0 is 2.
        return int(number) if number.is_integer() else number


for _kind, (_pattern, _first) in _RESOLVERS.items():
    _Loader.add_implicit_resolver(  # pyright: ignore[reportUnknownMemberType]
        f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), [*_first.replace("\0", ""), ""]
    )
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_float)


def _broken(error: yaml.MarkedYAMLError, text: str) -> str:
    mark = error.problem_mark or error.context_mark
    number = mark.line + 1 if mark else 1
    line = (text.splitlines() or [""])[min(number, len(text.splitlines())) - 1]
    if line.lstrip(" ").startswith("\t"):
        return f"line {number}: a tab stands before the key; YAML allows spaces only, so indent with spaces"
    # PyYAML cuts some of its sentences in two.
    problem = (
        " ".join(part for part in (error.context, error.problem) if part)
        if (error.problem or "").startswith("but ")
        else error.problem
    )
    return f"line {number}: is no YAML: {problem}; mend it, or quote a value that holds any of : # * @"


def _key_text(key: object) -> str:
    if isinstance(key, bool):
        return str(key).lower()
    return "null" if key is None else str(key)
