"""The machine that is measured: what it is, and how much of its memory was in use meanwhile."""

import os
import platform
import subprocess
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_SAMPLE_S = 0.25
_GIB = 2**30


def describe() -> dict[str, object]:
    """The machine, the load on it and the commit, as results name them."""
    memory = _meminfo()
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory["MemTotal"] / _GIB, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_1min_before": round(os.getloadavg()[0], 2),
        "commit": _commit(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def sentence(machine: Mapping[str, object]) -> str:
    """One sentence that names the machine, for a result's head."""
    return (
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']} GiB, Linux "
        f"{machine['kernel']}, Python {machine['python']}; commit {machine['commit']}, {machine['at']}, "
        f"load before {machine['load_1min_before']}."
    )


@dataclass
class MemoryWatch:
    """Memory in use on the whole machine while it was watched, in bytes.

    Used is what `MemAvailable` does not count as free: the page cache that can be dropped is not in it.
    """

    before: int
    peak: int

    @property
    def peak_gib(self) -> float:
        """The most that was in use, in GiB."""
        return self.peak / _GIB

    @property
    def before_gib(self) -> float:
        """What was in use when the watch began, in GiB; other work on the machine is in it."""
        return self.before / _GIB

    def sample(self) -> None:
        """Looks once more."""
        self.peak = max(self.peak, _used())


@contextmanager
def memory_watched() -> Generator[MemoryWatch]:
    """Samples the memory in use, four times a second, while the body runs."""
    used = _used()
    watch = MemoryWatch(before=used, peak=used)
    done = threading.Event()

    def look() -> None:
        while not done.wait(_SAMPLE_S):
            watch.sample()

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield watch
    finally:
        done.set()
        watcher.join()
        watch.sample()


def _used() -> int:
    memory = _meminfo()
    return memory["MemTotal"] - memory["MemAvailable"]


def _meminfo() -> dict[str, int]:
    """Bytes by name; the kernel writes kB (proc_meminfo(5))."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    parts = (line.replace(":", " ").split() for line in lines)
    return {part[0]: int(part[1]) * 1024 for part in parts}


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _commit() -> str:
    # The results of one benchmark are no change of what the next one measures.
    changes = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude)results")
    commit = _git("rev-parse", "--short", "HEAD") or "unknown"
    return f"{commit}, with changes that are not committed" if changes else commit


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
