"""What `make up` costs, phase by phase, and how much memory the machine has in use meanwhile.

A run brings stack `local` up on a site of its own and takes it down again. With `--log FILE` nothing is
run: the file is what an earlier `make up` printed, such as a cold one that had to build the tools.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.machine import describe, memory_watched
from benchmarks.measures import Spread
from benchmarks.processes import BenchmarkError, output
from benchmarks.results import Result, table
from rehearsal.workspace import PROJECT
from runtime.ops.progress import Progress

_DONE = re.compile(r"  done    (?P<name>.+) \((?P<seconds>[\d.]+) s\)")
_TOOK = re.compile(r" +create (?P<name>\w+ \S+) took (?P<seconds>[\d.]+) s")
_REAL = re.compile(r"real\s+(?P<minutes>\d+)m(?P<seconds>[\d.]+)s")
_FIRST_OF_THE_SITE = "machine, network, certificates"
_UPDATE = "pulumi up"
_ANSWER = "a streamed chat completion through the gateway"


@dataclass(frozen=True)
class Phases:
    """How long each part of one `make up` took, in seconds; None where the log does not tell.

    Attributes:
        tools: Until every tool was there.
        site: Until the embedded site was ready.
        update: `pulumi up`; the next two are parts of it.
        ray_service: Until KubeRay called the RayService ready.
        serving_check: Then, until the Job had its answer through the gateway.
        answer: The streamed answer at the end.
        total: All of it.
    """

    tools: float | None
    site: float | None
    update: float | None
    ray_service: float | None
    serving_check: float | None
    answer: float | None
    total: float | None


@dataclass(frozen=True)
class Line:
    """A line of the progress output; `at` is when it came, in seconds since the start, where known."""

    text: str
    at: float | None = None


def phases(lines: Sequence[Line]) -> Phases:
    """Reads the phases from the progress output of `make up`."""
    done = {
        match["name"].partition(":")[0]: (match, line) for line in lines if (match := _DONE.match(line.text))
    }
    took = {
        match["name"].partition(" ")[0]: float(match["seconds"])
        for line in lines
        if (match := _TOOK.match(line.text))
    }
    real = [match for line in lines if (match := _REAL.match(line.text))]
    seconds = {name: float(match["seconds"]) for name, (match, _) in done.items()}
    ended = {name: line.at for name, (_, line) in done.items()}
    site_began = _began(_FIRST_OF_THE_SITE, seconds, ended)
    update_began = _began(_UPDATE, seconds, ended)
    before_the_site = list(seconds)[: list(seconds).index(_FIRST_OF_THE_SITE)] if site_began is None else []
    total = int(real[-1]["minutes"]) * 60 + float(real[-1]["seconds"]) if real else ended.get(_ANSWER)
    # Without times: tools are made one after another, and the rest of the whole is the site.
    tools = site_began if site_began is not None else sum(seconds[name] for name in before_the_site)
    known = tools + seconds.get(_UPDATE, 0.0) + seconds.get(_ANSWER, 0.0)
    if site_began is not None and update_began is not None:
        site = update_began - site_began
    else:
        site = total - known if total is not None else None
    return Phases(
        tools=tools,
        site=site,
        update=seconds.get(_UPDATE),
        ray_service=took.get("RayService"),
        serving_check=took.get("Job"),
        answer=seconds.get(_ANSWER),
        total=total,
    )


def _began(name: str, seconds: Mapping[str, float], ended: Mapping[str, float | None]) -> float | None:
    end = ended.get(name)
    return None if end is None else end - seconds[name]


def tools_of(lines: Iterable[Line]) -> list[tuple[str, float]]:
    """The steps before the site, with their seconds: what a cold run spends on tools."""
    steps: list[tuple[str, float]] = []
    for line in lines:
        match = _DONE.match(line.text)
        if match and match["name"] == _FIRST_OF_THE_SITE:
            break
        if match:
            steps.append((match["name"].partition(":")[0], float(match["seconds"])))
    return steps


def bring_up(site: str, home: Path) -> list[Line]:
    """Runs `make up` with a state of its own and returns its output with times.

    Raises:
        BenchmarkError: It failed.
    """
    started = time.monotonic()
    lines: list[Line] = []
    with subprocess.Popen(
        _command("up", site),
        cwd=PROJECT,
        env=_environment(home),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for text in process.stderr or ():
            lines.append(Line(text.rstrip("\n"), time.monotonic() - started))
    if process.returncode != 0:
        raise BenchmarkError("make up failed:\n" + "\n".join(line.text for line in lines[-15:]))
    return lines


def take_down(site: str, home: Path) -> None:
    """Runs `make down`.

    Raises:
        BenchmarkError: It failed, or something is left.
    """
    output(_command("down", site), folder=PROJECT, environment=_environment(home))


def _command(command: str, site: str) -> list[str]:
    return [sys.executable, "-m", "rehearsal", command, "--stack", "local", "--site", site]


def _environment(home: Path) -> dict[str, str]:
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PULUMI_") and name not in {"KUBECONFIG", "CONTEXT"}
    }
    return {**own, "SPILLWAY_HOME": str(home)}


def result(
    runs: Sequence[Phases],
    machine: Mapping[str, object],
    memory: Sequence[tuple[float, float]],
    tools: Sequence[tuple[str, float]],
    name: str,
) -> Result:
    """The page and the JSON.

    Args:
        runs: The runs.
        machine: Where.
        memory: For each run, GiB in use before it and at most.
        tools: What was spent on tools, step by step.
        name: Name of the result.
    """
    rows = [
        [label, _spread(runs, key)]
        for key, label in {
            "tools": "tools",
            "site": "site, from nothing to ready",
            "update": "`pulumi up`",
            "ray_service": "  of it RayService ready",
            "serving_check": "  of it the serving check",
            "answer": "streamed answer",
            "total": "all",
        }.items()
    ]
    tables = [
        f"{len(runs)} run(s); medians in seconds, with the range in brackets."
        if memory
        else "Read from what an earlier run printed: commit, time and load above are those of the reading.",
        table(["phase", "s"], rows),
    ]
    if memory:
        before = Spread(tuple(pair[0] for pair in memory))
        peak = Spread(tuple(pair[1] for pair in memory))
        tables.append(
            f"Memory of the whole machine: at most {peak.shown(1)} GiB in use, {before.shown(1)} GiB before."
        )
    if tools:
        tables.append(table(["tool", "s"], [[tool, f"{seconds:,.1f}"] for tool, seconds in tools]))
    return Result(
        name=name,
        title="`make up`, phase by phase",
        machine=machine,
        data={
            "runs": [asdict(run) for run in runs],
            "memory_gib": [{"before": before, "peak": peak} for before, peak in memory],
            "tools": dict(tools),
        },
        tables=tables,
    )


def _spread(runs: Sequence[Phases], key: str) -> str:
    values = [value for run in runs if (value := getattr(run, key)) is not None]
    return Spread(tuple(values)).shown(1) if values else "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--log", type=Path, help="read the output of an earlier `make up` instead")
    parser.add_argument("--runs", type=int, help="repetitions (default: 3, quick: 1)")


def main(options: argparse.Namespace, folder: Path, progress: Progress) -> Result:
    """Measures, or reads a log, and returns what was found."""
    machine = describe()
    if options.log:
        lines = [Line(text) for text in options.log.read_text().splitlines()]
        return result([phases(lines)], machine, [], tools_of(lines), "up-cold")
    found: list[Phases] = []
    memory: list[tuple[float, float]] = []
    count = options.runs or (1 if options.quick else 3)
    for number in range(count):
        home = folder / str(number)
        with progress.step(f"make up, run {number + 1} of {count}"):
            try:
                with memory_watched() as watch:
                    found.append(phases(bring_up(options.site, home)))
            finally:
                take_down(options.site, home)
        memory.append((watch.before_gib, watch.peak_gib))
    return result(found, machine, memory, [], "up-warm")
