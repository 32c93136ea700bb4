"""Runs a command in a terminal of its own, as a user has it, and reads along."""

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

# Wide enough that no line of progress wraps.
_SIZE = struct.pack("HHHH", 50, 240, 0, 0)
_CTRL_C = b"\x03"
_LIVE_LINE = re.compile(r"\r(?:\x1b\[K)?|\x1b\[K")


class Terminal:
    """One command as the leader of a terminal: typing there and closing it reach it as signals."""

    def __init__(self, command: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> None:
        self.started = time.monotonic()
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, _SIZE)

        def own_the_terminal() -> None:
            os.setsid()
            fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(environment),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            preexec_fn=own_the_terminal,
        )
        os.close(theirs)
        self._text = ""
        self._closed = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def text(self) -> str:
        """What was shown so far; each state of a live line is a line of its own."""
        return _LIVE_LINE.sub("\n", self._text.replace("\r\n", "\n"))

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def ended(self) -> bool:
        """Whether the command is over."""
        return self.process.poll() is not None

    def until(self, pattern: str, timeout_s: float) -> bool:
        """Waits until a text was shown; false if the command or the time ended first."""
        deadline = time.monotonic() + timeout_s
        while not re.search(pattern, self.text):
            if self.ended() or time.monotonic() > deadline:
                return bool(re.search(pattern, self.text))
            time.sleep(0.05)
        return True

    def wait(self, timeout_s: float) -> bool:
        """Waits for the end of the command; false if it still runs."""
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        self._reader.join(2.0)
        return True

    def ctrl_c(self) -> None:
        """Types Ctrl-C: the terminal sends SIGINT to its foreground process group."""
        with contextlib.suppress(OSError):
            os.write(self._ours, _CTRL_C)

    def close(self) -> None:
        """Closes the terminal: the kernel sends SIGHUP, and nothing can be written any more."""
        if not self._closed:
            self._closed = True
            os.close(self._ours)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the command itself."""
        self.process.send_signal(number)

    def tree(self) -> list[psutil.Process]:
        """The command and all that it has started."""
        try:
            leader = psutil.Process(self.process.pid)
            return [leader, *leader.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._ours, 65536)
            except OSError:
                return
            if not data:
                return
            self._text += data.decode(errors="replace")
