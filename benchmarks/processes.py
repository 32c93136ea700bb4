"""Commands that a benchmark runs, and servers that it starts and ends again."""

import contextlib
import ctypes
import http.client
import os
import resource
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_END_S = 20.0
_LOG_LINES = 15
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


class BenchmarkError(Exception):
    """Something that is measured does not work; the message has the end of what it said."""


def output(
    command: Sequence[str | Path],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Runs a command in a folder and an environment (default: our own) and returns what it printed.

    Raises:
        BenchmarkError: It failed.
    """
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-_LOG_LINES:])
        raise BenchmarkError(f"{shlex.join(map(str, command))} ended with {done.returncode}:\n{said}")
    return done.stdout


@dataclass(frozen=True)
class Cost:
    """What a command cost.

    Attributes:
        cpu_s: CPU seconds of it and of every process that it started, user and system.
        wall_s: Seconds on the clock until it ended.
    """

    cpu_s: float
    wall_s: float


def cost(command: Sequence[str | Path], *, folder: Path, environment: Mapping[str, str]) -> Cost:
    """Runs a command and all that it starts to their ends, and returns what that cost.

    Raises:
        BenchmarkError: It failed.
    """
    # Whoever is left behind becomes our child, so that its CPU is counted as well.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    output(command, folder=folder, environment=environment)
    wall_s = time.perf_counter() - started
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, wall_s)


def free_port() -> int:
    """A port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def served(
    command: Sequence[str | Path],
    ready: Callable[[], bool],
    *,
    log: Path,
    patience_s: float,
    environment: Mapping[str, str] | None = None,
) -> Generator[None]:
    """Runs a server while the body runs; its whole process group ends with it.

    Raises:
        BenchmarkError: It ended, or was not ready in time.
    """
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            cwd=log.parent,
            start_new_session=True,
        )
    try:
        _wait(process, ready, log, patience_s)
        yield
    finally:
        _end(process)


def answers(port: int, path: str, headers: Mapping[str, str] | None = None) -> bool:
    """Whether a server of this machine answers a GET with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _wait(process: subprocess.Popen[bytes], ready: Callable[[], bool], log: Path, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while not ready():
        if process.poll() is not None:
            raise BenchmarkError(f"{process.args!r} ended with {process.returncode}:\n{_end_of(log)}")
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{process.args!r} not ready in {patience_s:.0f} s:\n{_end_of(log)}")
        time.sleep(0.2)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
    # Workers may outlive the leader for a moment; the group is ours alone.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
