"""`python -m runtime.sagemaker_gateway.files VARIABLE=PATH …`: writes what a gateway task is told into files.

Envoy and the adapter read files, and a Fargate task has none but those of its images. So the first container
of the task writes them from its environment into volumes that the others mount.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from runtime.gateway import render_api_keys

# Written by one user of the task and read by others, and nobody but the task's containers sees the volumes.
_READABLE = 0o644


class FilesError(Exception):
    """A file cannot be written; the text says which, why, and what to do, and holds no key."""


def write_files(
    environment: Mapping[str, str], files: Mapping[str, Path], keys: Mapping[str, Path] | None = None
) -> list[Path]:
    """Writes variables of an environment into files.

    Args:
        environment: Where the texts are.
        files: Variable to the file that gets its text as it is.
        keys: Variable with a JSON object of client and API key, to the folder that gets them as Envoy reads
            them.

    Returns:
        The files, in order.

    Raises:
        FilesError: A variable is missing, is no such object, or a file cannot be written.
    """
    wanted = {path: _text(environment, variable) for variable, path in files.items()}
    for variable, folder in (keys or {}).items():
        rendered = _rendered(variable, _text(environment, variable))
        wanted |= {folder / name: text for name, text in rendered.items()}
    for path, text in wanted.items():
        _write(path, text)
    return list(wanted)


def _text(environment: Mapping[str, str], variable: str) -> str:
    if variable not in environment:
        raise FilesError(
            f"environment variable {variable} is missing; allowed: any text; fix: the task definition sets it"
        )
    return environment[variable]


def _rendered(variable: str, text: str) -> dict[str, str]:
    try:
        keys: object = json.loads(text)
    except ValueError:
        keys = None
    given = cast("dict[str, object]", keys) if isinstance(keys, dict) else {}
    if not given or not all(isinstance(key, str) for key in given.values()):
        raise FilesError(
            f"{variable} is not usable (value hidden); allowed: an object of client and API key as JSON; "
            "fix: write such a text into the secret"
        )
    try:
        return render_api_keys(cast("dict[str, str]", given))
    except ValueError as error:
        raise FilesError(f"{variable}: {error}") from None


def _write(path: Path, text: str) -> None:
    # Whole or not at all: a container that is started again must not read half a file.
    unfinished = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(text)
        unfinished.chmod(_READABLE)
        unfinished.replace(path)
    except OSError as error:
        raise FilesError(
            f"cannot write {path}: {error.strerror}; fix: mount a volume at {path.parent} that user "
            f"{os.geteuid()} may write to"
        ) from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m runtime.sagemaker_gateway.files", description=__doc__)
    parser.add_argument("files", nargs="*", type=_pair, metavar="VARIABLE=PATH", help="text, and its file")
    parser.add_argument(
        "--keys",
        nargs=1,
        action="extend",
        default=[],
        type=_pair,
        metavar="VARIABLE=FOLDER",
        help="API keys as JSON, and the folder for Envoy's file of them",
    )
    given = parser.parse_args(arguments)
    try:
        written = write_files(os.environ, dict(given.files), dict(given.keys))
    except FilesError as error:
        print(f"files of the gateway: {error}", file=sys.stderr)
        return 1
    print(f"files of the gateway: {', '.join(map(str, written))}", flush=True)
    return 0


def _pair(text: str) -> tuple[str, Path]:
    variable, mark, path = text.partition("=")
    if not (variable and mark and path):
        raise argparse.ArgumentTypeError(f"{text!r} must be VARIABLE=PATH")
    return variable, Path(path)


if __name__ == "__main__":
    raise SystemExit(main())
