"""How long the embedded site takes from nothing to ready, and what it holds of memory when idle."""

import argparse
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.machine import MemoryWatch, describe, memory_watched
from benchmarks.measures import Spread
from benchmarks.results import Result, table
from rehearsal.site import Site
from rehearsal.site.__main__ import TOOL_GROUPS
from rehearsal.tools import Toolbox
from runtime.ops.progress import Progress

_SETTLE_S = 5.0


@contextmanager
def running_site(name: str, home: Path, progress: Progress) -> Generator[Site]:
    """A site that runs while the body does; nothing of it is left afterwards.

    Raises:
        SiteError: It did not become ready.
        ToolError: A tool of the site is missing.
    """
    site = Site(name, home)
    try:
        site.start(Toolbox.load(TOOL_GROUPS), progress)
        yield site
    finally:
        site.stop(progress)


def measure(name: str, home: Path, runs: int, progress: Progress) -> tuple[Spread, list[MemoryWatch]]:
    """Starts and stops the site again and again; returns seconds to ready and the memory meanwhile."""
    seconds: list[float] = []
    memory: list[MemoryWatch] = []
    for _ in range(runs):
        with memory_watched() as watch:
            started = time.perf_counter()
            with running_site(name, home, progress):
                seconds.append(time.perf_counter() - started)
                time.sleep(_SETTLE_S)
        memory.append(watch)
    return Spread(tuple(seconds)), memory


def result(seconds: Spread, memory: Sequence[MemoryWatch], machine: Mapping[str, object]) -> Result:
    """The page and the JSON."""
    peak = Spread(tuple(watch.peak_gib for watch in memory))
    before = Spread(tuple(watch.before_gib for watch in memory))
    rows = [
        ["ready after, s", seconds.shown(1)],
        ["memory of the machine at most, GiB", peak.shown(1)],
        ["before, GiB", before.shown(1)],
    ]
    return Result(
        name="site",
        title="Start of the embedded site",
        machine=machine,
        data={
            "seconds": seconds.as_json(),
            "peak_gib": peak.as_json(),
            "before_gib": before.as_json(),
        },
        tables=[
            f"{len(seconds.runs)} starts from nothing, tools there; medians, with the range in brackets.",
            table(["", ""], rows),
        ],
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--runs", type=int, help="repetitions (default: 5, quick: 1)")


def main(options: argparse.Namespace, folder: Path, progress: Progress) -> Result:
    """Measures and returns what was found."""
    machine = describe()
    runs = options.runs or (1 if options.quick else 5)
    seconds, memory = measure(options.site, folder, runs, progress)
    return result(seconds, memory, machine)
