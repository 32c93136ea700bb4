"""Says what is wrong with a stack file, in a second and without Pulumi: `python -m stacks.check FILE`.

It reads YAML as Pulumi does (gopkg.in/yaml.v3, which is YAML 1.2 with the octals of 1.1), and not as
PyYAML does: `yes` is text, `1e3` is a number, a key that is there twice is a mistake.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import yaml

from stacks.mistakes import ENCRYPTED, FULL_KEY, nearest, unknown_key
from stacks.settings import read

# What Pulumi itself keeps in a stack file beside the config (ProjectStack in its Go SDK).
_TOP = ("config", "encryptedkey", "encryptionsalt", "environment", "secretsprovider")
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


def mistakes(text: str) -> list[str]:
    """Every mistake in a whole stack file, a line each."""
    try:
        loader = _Loader(text)
        document: object = loader.get_single_data()
    except yaml.reader.ReaderError as error:
        return [f"the file has a character that YAML does not allow: #x{error.character:04x}; remove it"]
    except yaml.MarkedYAMLError as error:
        return [_broken(error, text)]
    if document is None:
        return [f"the file is empty; add config: and below it {FULL_KEY}:"]
    if not isinstance(document, dict):
        return [f"the file must be an object with the key config; write config: and below it {FULL_KEY}:"]
    config, lines = _config(cast("dict[str, object]", document))
    lines = [*loader.repeated, *lines]
    if not isinstance(config, dict):
        return [*lines, f"config must be an object; write {FULL_KEY}: below it, indented"]
    values = cast("dict[str, object]", config)
    return [*lines, ENCRYPTED] if _encrypted(values) else lines + read(values)[1]


def main(arguments: Sequence[str]) -> int:
    """Checks one file; prints a line per mistake and returns 1 if there are any."""
    path = Path(arguments[0])
    try:
        lines = mistakes(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        lines = [f"cannot be read: {error}; name a stack file"]
    if lines:
        count = f"{len(lines)} mistake{'s' if len(lines) > 1 else ''} in {path}:"
        print("\n".join([count, *(f"  - {line}" for line in lines)]), file=sys.stderr)
        return 1
    print(f"{path}: no mistakes")
    return 0


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


def _config(document: Mapping[str, object]) -> tuple[object, list[str]]:
    """What stands under `config:`, or was meant to, and a line for each key that Pulumi does not know."""
    lines: list[str] = []
    config = document.get("config")
    for name in document:
        if name in _TOP:
            continue
        if name == FULL_KEY and config is None:
            config = {FULL_KEY: document[name]}
            lines.append(f"{name} is not a setting here; move it below config:, indented")
            continue
        near = nearest(name, [one for one in _TOP if one not in document])
        if near == "config":
            config = document[name]
        lines.append(unknown_key(name, _TOP, near))
    return ({} if config is None else config), lines


def _encrypted(value: object) -> bool:
    """Whether Pulumi's form of a secret, `{secure: …}`, is anywhere in a value."""
    if isinstance(value, list):
        return any(_encrypted(one) for one in cast("list[object]", value))
    if not isinstance(value, dict):
        return False
    inner = cast("dict[str, object]", value)
    return list(inner) == ["secure"] or any(_encrypted(one) for one in inner.values())


def _key_text(key: object) -> str:
    if isinstance(key, bool):
        return str(key).lower()
    return "null" if key is None else str(key)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m stacks.check FILE")
    sys.exit(main(sys.argv[1:]))
