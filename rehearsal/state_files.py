"""Pulumi's state on disk: keeps the last whole one, and puts it back where a new one is half-written."""

import contextlib
import json
import os
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_LOOK_S = 0.1


class StateFileError(Exception):
    """No whole copy of a stack's state is left; the text is the whole message."""


def mend_state(backend: Path, project: str) -> list[str]:
    """Puts back the last whole copy of each stack's state that is half-written.

    One such file is enough for the CLI to refuse every command on every stack of the backend, with words
    like `unexpected end of JSON input`. A power cut leaves one, and so does Pulumi itself on a full disk;
    there its own copy (`saveCheckpoint` in pkg/backend/diy/state.go) is as empty as the state, and only the
    one of `kept_whole` is left.

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


@contextmanager
def kept_whole(backend: Path, project: str, stack: str) -> Generator[None]:
    """Keeps the last whole state of a stack while Pulumi works on it.

    Pulumi replaces the file with each step. A second name for the one before it costs no space, so it is
    there when the disk is full too.

    Args:
        backend: The folder of a self-managed backend.
        project: Name of the Pulumi project.
        stack: Name of the stack.
    """
    file = backend / ".pulumi" / "stacks" / project / f"{stack}.json"
    over = threading.Event()

    def keep() -> None:
        while not over.wait(_LOOK_S):
            # Not every file system has second names; Pulumi's own copy is left then.
            with contextlib.suppress(OSError):
                _keep(file)

    keeper = threading.Thread(target=keep, daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()


def _kept(file: Path) -> Path:
    return file.with_name(f"{file.stem}.kept")


def _keep(file: Path) -> None:
    kept = _kept(file)
    if kept.exists() and kept.samefile(file):
        return
    temporary = file.with_name(f".{kept.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.hardlink_to(file)
    # The name that was linked may stand for another file by now; what is under this one does not change.
    if _is_whole(temporary):
        temporary.replace(kept)
    else:
        temporary.unlink()


def _copies(backend: Path, project: str, file: Path) -> list[Path]:
    """Copies of a state, the newest first: from before the last write, and one for each update."""
    copies = [
        _kept(file),
        file.with_name(f"{file.name}.bak"),
        *(backend / ".pulumi" / "backups" / project / file.stem).glob("*.json"),
        *(backend / ".pulumi" / "history" / project / file.stem).glob("*.checkpoint.json"),
    ]
    there = [copy for copy in copies if copy.exists()]
    return sorted(there, key=lambda path: path.stat().st_mtime, reverse=True)


def _is_whole(file: Path) -> bool:
    try:
        return isinstance(json.loads(file.read_bytes()), dict)
    except (OSError, ValueError):
        return False
