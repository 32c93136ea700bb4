"""The counts, every run in JSON and one line a fault in Markdown: `python -m tests.faults.ledger FILE…`."""

import datetime
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from tests.faults.drill import Outcome

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def machine() -> str:
    """The machine in words."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = psutil.virtual_memory().total / (1 << 30)
    return f"{len(os.sched_getaffinity(0))} cores of {model}, {memory:.0f} GiB, Linux {platform.release()}"


class Ledger:
    """Writes what was seen after every run, so that nothing is lost when the runs are stopped."""

    def __init__(self, file: Path, *, seed: int, engine: str) -> None:
        self._file = file
        self._facts = {"machine": machine(), "batches": [{"seed": seed, "engine": engine}]}
        self._runs: list[dict[str, Any]] = []

    def add(self, outcome: Outcome) -> None:
        """Adds one run and writes the file."""
        self._runs.append(asdict(outcome) | {"batch": 0})
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps({**self._facts, "runs": self._runs}, indent=1) + "\n")


def merged(documents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Joins the runs of several batches."""
    batches: list[dict[str, Any]] = []
    runs: list[dict[str, Any]] = []
    for document in documents:
        for run in document["runs"]:
            # What was shown helps to find a mistake, and is of no use when there is none.
            kept = {key: value for key, value in run.items() if key != "output"}
            runs.append(kept | {"batch": len(batches) + run["batch"]})
        batches += document["batches"]
    return {"machine": documents[0]["machine"], "batches": batches, "runs": runs}


def table(document: dict[str, Any]) -> str:
    """Renders the counts: a sentence, and one line for each fault."""
    runs = [run for run in document["runs"] if run["struck"]]
    batches = ", ".join(f"{one['seed']} ({one['engine']})" for one in document["batches"])
    lines = [
        "# Faults",
        "",
        f"{len(runs)} faults on {document['machine']}; seeds and engines: {batches}. "
        "Made by `make test-faults`; each run is in the JSON file beside this one.",
        "",
        "| fault | phases | runs | said what is wrong | recovered | states lost | leftovers "
        "| recovery, median / longest s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    names = list(dict.fromkeys(run["fault"] for run in runs))
    lines += [_row(name, [run for run in runs if run["fault"] == name]) for name in names]
    lines.append(_row("**all**", runs))
    return "\n".join(lines) + "\n"


def _row(name: str, runs: list[dict[str, Any]]) -> str:
    seconds = [run["recovery_s"] for run in runs if run["recovery_s"]] or [0.0]
    phases = ", ".join(sorted({run["phase"] for run in runs}))
    cells = [
        name,
        phases,
        len(runs),
        sum(run["told"] and run["readable"] for run in runs),
        sum(run["recovered"] for run in runs),
        sum(bool(run["lost"]) for run in runs),
        sum(bool(run["leftovers"]) for run in runs),
        f"{statistics.median(seconds):.0f} / {max(seconds):.0f}",
    ]
    return f"| {' | '.join(map(str, cells))} |"


def main(files: Sequence[str]) -> None:
    """Joins batches into the committed result of today."""
    document = merged([json.loads(Path(file).read_text()) for file in files])
    target = RESULTS / f"faults-{datetime.datetime.now(datetime.UTC).date()}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(document, indent=1) + "\n")
    target.with_suffix(".md").write_text(table(document))
    print(table(document))


if __name__ == "__main__":
    main(sys.argv[1:])
