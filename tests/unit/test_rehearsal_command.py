"""What the command line says when the machine fails it, and how it stops."""

import errno
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rehearsal import __main__ as command
from rehearsal.platform import Platform
from tests.support.stack_files import ROOT

# Stops as the command does, and writes about it where a terminal may be gone.
SCRIPT = """
import signal, sys, time
from pathlib import Path
from rehearsal.__main__ import stop_on_signals
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever the tests themselves were started by
stop_on_signals()
try:
    print("ready", flush=True)
    for _ in range(1200):
        time.sleep(0.05)  # Python does not see a signal that comes just before a sleep until its end
except KeyboardInterrupt:
    print("Pulumi finishes what it has begun", file=sys.stderr, flush=True)
    Path(sys.argv[1]).write_text("stopped in order")
"""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/s/x"), "/s/x: the disk is full; free some space"),
        (PermissionError(errno.EACCES, "Permission denied", "/s/x"), "/s/x: Permission denied"),
    ],
)
def test_a_machine_that_fails_is_one_message(
    error: OSError, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: Platform, __: Path | None) -> None:
        raise error

    monkeypatch.setattr(Platform, "up", fail)
    monkeypatch.setattr(sys, "argv", ["rehearsal", "up"])
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert command.main() == 1
    shown = capsys.readouterr().err
    assert words in shown
    assert "Traceback" not in shown


def test_a_closed_terminal_stops_the_command_in_order(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    told = tmp_path / "told"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, told],
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    assert b"ready" in os.read(ours, 100)
    os.close(ours)
    process.send_signal(signal.SIGHUP)  # the kernel's, for the leader of a session with a terminal
    process.wait(60)
    assert told.read_text() == "stopped in order"


def test_nohup_keeps_the_command_going_when_its_terminal_is_closed() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        command.stop_on_signals()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
