"""Pulumi's state on disk: finds what a power cut left half-written, and puts a whole copy back."""

import json
import os
import time
from pathlib import Path


class StateFileError(Exception):
    """No whole copy of a stack's state is left; the text is the whole message."""


def mend_state(backend: Path, project: str) -> list[str]:
    """Puts back the last whole copy of each stack's state that is half-written.

    One such file is enough for the CLI to refuse every command on every stack of the backend, with words like
    `unexpected end of JSON input`. Pulumi keeps the state from before each of its writes beside it
    (`saveCheckpoint` in pkg/backend/diy/state.go), so that no more than one step is forgotten.

    Args:
        backend: The folder of a self-managed backend.
        project: Name of the Pulumi project.

    Returns:
        What was done, one line a stack; empty where all was whole.

    Raises:
        StateFileError: A state is half-written and so are its copies.
    """
    done: list[str] = []
    stacks = backend / ".pulumi" / "stacks" / project
    for attributes in stacks.glob("*.attrs"):
        # Facts about the file beside, which the CLI does without, but not when they are cut off.
        if not _is_whole(attributes):
            attributes.unlink(missing_ok=True)
    for file in stacks.glob("*.json"):
        if _is_whole(file):
            continue
        copy = next((copy for copy in _copies(backend, project, file) if _is_whole(copy)), None)
        if copy is None:
            raise StateFileError(
                f"the state of stack {file.stem} cannot be read: {file} is half-written, and there is no "
                "whole copy beside it; put one of yours there. Without one: remove the file and run "
                "`make up`, which takes over what is in the cluster and makes new keys"
            )
        broken = file.with_name(f"{file.stem}.broken-{int(time.time())}")
        file.rename(broken)
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        temporary.write_bytes(copy.read_bytes())
        temporary.replace(file)
        done.append(
            f"the state of stack {file.stem} was half-written: put back {copy.name}, kept it as {broken.name}"
        )
    return done


def _copies(backend: Path, project: str, file: Path) -> list[Path]:
    """Copies of a state, the newest first: from before the last write, and one for each update."""
    earlier = [
        *(backend / ".pulumi" / "backups" / project / file.stem).glob("*.json"),
        *(backend / ".pulumi" / "history" / project / file.stem).glob("*.checkpoint.json"),
    ]
    return [
        file.with_name(f"{file.name}.bak"),
        *sorted(earlier, key=lambda path: path.stat().st_mtime, reverse=True),
    ]


def _is_whole(file: Path) -> bool:
    try:
        return isinstance(json.loads(file.read_bytes()), dict)
    except (OSError, ValueError):
        return False
