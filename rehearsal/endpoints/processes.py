"""Servers that live as long as a rehearsal: they end with it, also when it is killed."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_END_S = 20.0
_LOOK_S = 0.2
_LAST_LINES = 12


class ServerError(Exception):
    """A server of a rehearsal does not come up; the text has the end of what it said."""


class Server:
    """A process with a log, and everything that it starts.

    Args:
        command: Program and arguments.
        environment: The whole environment.
        log: Where its output goes.
        cwd: Folder that it runs in.
    """

    def __init__(
        self, command: Sequence[str | Path], environment: Mapping[str, str], log: Path, cwd: Path
    ) -> None:
        self.name = log.stem
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                # The kernel ends it with this process, whatever ends that.
                ["setpriv", "--pdeathsig", "TERM", "--", *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd=cwd,
                start_new_session=True,
            )

    def until_ready(self, port: int, path: str, patience_s: float) -> None:
        """Waits until a GET of the path is answered with 200.

        Raises:
            ServerError: It ended, or is not ready in time.
        """
        deadline = time.monotonic() + patience_s
        while not answers(port, path):
            if self._process.poll() is not None:
                raise ServerError(f"{self.name} ended with {self._process.returncode}: {self._last_words()}")
            if time.monotonic() > deadline:
                raise ServerError(f"{self.name} is not ready after {patience_s:.0f} s: {self._last_words()}")
            time.sleep(_LOOK_S)

    def end(self) -> None:
        """Ends it and all that it started."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
        # Workers may outlive the leader for a moment; the group is ours alone.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
        return "\n".join([f"its log, {self._log}, ends with", *lines])


def answers(port: int, path: str) -> bool:
    """Whether a server on loopback answers a GET of the path with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def free_port() -> int:
    """A port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
