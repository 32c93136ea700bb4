"""Writes the files that the engine looks for on PATH.

They are real files, not links: the language host looks for its script beside itself, links resolved.
"""

import os
import shlex
import tempfile
from collections.abc import Iterable
from pathlib import Path

from rehearsal.plugins import EXEC_SCRIPT, MODULES

_LANGUAGE_HOST = "pulumi-language-python"


def write_launchers(into: Path, python: Path, exec_script: Path, names: Iterable[str]) -> list[Path]:
    """Writes a launcher for each plugin, and beside the language host the SDK's script that it runs.

    A file that is right already is left alone. Each is written under another name first and then
    renamed, so that an engine that starts meanwhile finds the old one or the new one.

    Args:
        into: The folder, to be put on PATH; made if it is not there.
        python: The interpreter to run the plugins with, for one with this package and `pulumi`
            installed; taken as it is (a virtual environment's `python` is a link that must stay one).
        exec_script: `pulumi-language-python-exec` of the same SDK version.
        names: File names of plugins: keys of `rehearsal.plugins.MODULES`.

    Returns:
        The files, written now or before.

    Raises:
        ValueError: A name is not one of a plugin here.
        OSError: `exec_script` cannot be read or the folder cannot be written.
    """
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        if name not in MODULES:
            raise ValueError(f"plugin {name!r} is not one of ours; allowed: {', '.join(MODULES)}")
    files = {name: _launcher(python, name) for name in wanted}
    if _LANGUAGE_HOST in wanted:
        files[EXEC_SCRIPT] = exec_script.read_bytes()
    into.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        _write(into / name, content)
    return [into / name for name in files]


def _launcher(python: Path, name: str) -> bytes:
    """A launcher's text. `-P`: a program's folder must not be able to replace modules of the plugin."""
    interpreter = shlex.quote(str(python.absolute()))
    beside = ' --beside "$0"' if name == _LANGUAGE_HOST else ""
    return f'#!/bin/sh\nexec {interpreter} -P -m rehearsal.plugins {name}{beside} "$@"\n'.encode()


def _write(path: Path, content: bytes) -> None:
    if path.is_file() and not path.is_symlink() and os.access(path, os.X_OK) and path.read_bytes() == content:
        return
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).chmod(0o755)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
