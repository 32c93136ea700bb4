"""Says what is wrong with a stack file, in a second and without Pulumi: `python -m stacks.check FILE`."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from runtime.stack_file import StackFileError, list_mistakes, parse_stack_file, read_stack_file
from stacks.mistakes import ENCRYPTED, FULL_KEY, nearest, unknown_key
from stacks.settings import read

# What Pulumi itself keeps in a stack file beside the config (ProjectStack in its Go SDK).
_TOP = ("config", "encryptedkey", "encryptionsalt", "environment", "secretsprovider")


def mistakes(text: str) -> list[str]:
    """Every mistake in the text of a stack file, a line each."""
    try:
        return _mistakes(*parse_stack_file(text))
    except StackFileError as error:
        return [str(error)]


def main(arguments: Sequence[str]) -> int:
    """Checks one file; prints a line per mistake and returns 1 if there are any."""
    path = Path(arguments[0])
    try:
        lines = _mistakes(*read_stack_file(path))
    except StackFileError as error:
        lines = [str(error)]
    if lines:
        print(list_mistakes(path, lines), file=sys.stderr)
        return 1
    print(f"{path}: no mistakes")
    return 0


def _mistakes(document: object, repeated: Sequence[str]) -> list[str]:
    if document is None:
        return [f"the file is empty; add config: and below it {FULL_KEY}:"]
    if not isinstance(document, dict):
        return [f"the file must be an object with the key config; write config: and below it {FULL_KEY}:"]
    config, lines = _config(cast("dict[str, object]", document))
    lines = [*repeated, *lines]
    if not isinstance(config, dict):
        return [*lines, f"config must be an object; write {FULL_KEY}: below it, indented"]
    values = cast("dict[str, object]", config)
    return [*lines, ENCRYPTED] if _encrypted(values) else lines + read(values)[1]


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


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m stacks.check FILE")
    sys.exit(main(sys.argv[1:]))
