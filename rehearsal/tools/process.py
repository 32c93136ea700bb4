"""Runs a tool's installer as a child process: log file, progress line by line, a readable failure."""

import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rehearsal.tools.errors import ToolError

TAIL_LINES = 20


def run_logged(
    command: Sequence[str | Path],
    *,
    title: str,
    log: Path,
    cwd: Path,
    environment: Mapping[str, str],
    on_line: Callable[[str], None] | None = None,
) -> None:
    """Runs a command to its end and keeps its output in a log.

    Args:
        command: Program and arguments.
        title: What it does, for the error.
        log: File that its output is appended to.
        cwd: Folder to run in.
        environment: The whole environment of the child.
        on_line: Called with each line as it comes.

    Raises:
        ToolError: It failed; the message has the last lines and the log's path.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    with log.open("a") as out:
        print("$", *command, file=out, flush=True)
        try:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise ToolError(f"{title} failed: {command[0]} cannot be run: {error}") from error
        with process:
            try:
                for line in process.stdout or ():
                    out.write(line)
                    out.flush()
                    tail.append(line.rstrip())
                    if on_line:
                        on_line(line.rstrip())
                code = process.wait()
            except BaseException:
                # Nobody would read its pipe any more; Go and uv keep what they have finished.
                process.terminate()
                raise
    if code:
        raise ToolError("\n".join([f"{title} failed with exit status {code}; log: {log}", *tail]))


def output_of(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float = 60.0,
) -> str:
    """Everything a command prints, whatever its exit status; empty when it cannot be run."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
