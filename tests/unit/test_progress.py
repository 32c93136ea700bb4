"""Progress output: what is shown, when, and what a failure looks like."""

import io
import threading

import pytest

from runtime.ops import progress as module
from runtime.ops.progress import Progress


class Shown(io.StringIO):
    """What was shown; knows when a running step was shown for the second time."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = threading.Event()

    def write(self, text: str) -> int:
        written = super().write(text)
        if self.getvalue().count("  ...  ") == 2:
            self.twice.set()
        return written


def test_a_short_step_prints_one_line_with_its_time() -> None:
    out = io.StringIO()
    with Progress(out).step("certificates") as step:
        step.update("7 made")
    lines = out.getvalue().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("  done    certificates: 7 made (0.")


def test_a_long_step_shows_what_runs_and_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET_S", 0.01)
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.02)
    out = Shown()
    with Progress(out).step("build kubelet") as step:
        step.update("3 of 9 packages")
        assert out.twice.wait(60)
    lines = out.getvalue().splitlines()
    assert len(lines) > 2
    assert lines[0].startswith("  ...     build kubelet: 3 of 9 packages (")
    assert lines[-1].startswith("  done    build kubelet: 3 of 9 packages (")


def test_a_followed_step_asks_anew_each_time_it_is_shown() -> None:
    out = io.StringIO()
    counts = iter(range(10))
    with Progress(out).step("waiting") as step:
        step.follow(lambda: f"asked {next(counts)}")
        assert (step.detail, step.detail) == ("asked 0", "asked 1")


def test_a_failed_step_says_so_and_raises_on() -> None:
    out = io.StringIO()
    with pytest.raises(ValueError, match="broken"), Progress(out).step("start etcd"):
        raise ValueError("broken")
    assert out.getvalue().startswith("  failed  start etcd (")


def test_an_interrupted_step_is_stopped_and_not_failed() -> None:
    out = io.StringIO()
    with pytest.raises(KeyboardInterrupt), Progress(out).step("start etcd"):
        raise KeyboardInterrupt
    assert out.getvalue().startswith("  stopped  start etcd (")
