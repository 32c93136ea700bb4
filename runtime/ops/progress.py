"""Shows long work as it happens: what runs, how far it is, how long it took."""

import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TextIO

HEARTBEAT_S = 10.0
QUIET_S = 2.0


class Step:
    """One running piece of work; `update` says how far it is."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.started = time.monotonic()
        self._detail: Callable[[], str] = str

    @property
    def seconds(self) -> float:
        """Seconds since the step began."""
        return time.monotonic() - self.started

    @property
    def detail(self) -> str:
        """How far the step is."""
        return self._detail()

    def update(self, detail: str) -> None:
        """Replaces the text that says how far the step is, for example `3 of 7` or `41 MB`."""
        self._detail = lambda: detail

    def follow(self, detail: Callable[[], str]) -> None:
        """Asks for that text whenever the step is shown, for what moves between two updates."""
        self._detail = detail


class Progress:
    """Prints steps to a terminal as one live line each, elsewhere as plain lines.

    Steps shorter than two seconds print only their result. Longer ones show themselves after two
    seconds and then, outside a terminal, again every ten. Several steps may run at once.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._live = self._out.isatty()
        self._lock = threading.Lock()
        self._live_line = False

    def line(self, text: str) -> None:
        """Prints one finished line."""
        with self._lock:
            self._clear()
            print(text, file=self._out, flush=True)

    @contextmanager
    def step(self, name: str) -> Generator[Step]:
        """Runs the body as a step; a failure is shown as failed and raised on."""
        step = Step(name)
        done = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(step, done), daemon=True)
        watcher.start()
        try:
            yield step
        except BaseException as error:
            self._finish(done, watcher)
            stopped = isinstance(error, KeyboardInterrupt)
            self.line(f"  {'stopped' if stopped else 'failed'}  {self._text(step)}")
            raise
        self._finish(done, watcher)
        self.line(f"  done    {self._text(step)}")

    def _finish(self, done: threading.Event, watcher: threading.Thread) -> None:
        done.set()
        watcher.join()

    def _watch(self, step: Step, done: threading.Event) -> None:
        wait = QUIET_S
        while not done.wait(wait):
            if self._live:
                with self._lock:
                    self._clear()
                    self._out.write(f"  ...     {self._text(step)}")
                    self._out.flush()
                    self._live_line = True
                wait = 0.5
            else:
                self.line(f"  ...     {self._text(step)}")
                wait = HEARTBEAT_S

    def _text(self, step: Step) -> str:
        detail = f": {step.detail}" if step.detail else ""
        return f"{step.name}{detail} ({step.seconds:.1f} s)"

    def _clear(self) -> None:
        if self._live_line:
            self._out.write("\r\033[K")
            self._live_line = False
