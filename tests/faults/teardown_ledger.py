"""The counts of teardowns under faults: every run in JSON, one line a stack and fault in Markdown."""

import datetime
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from runtime.ops.teardown.journal import write_durably
from tests.faults.ledger import RESULTS, machine

Ending = Literal["clean", "named", "refused", "killed", "falsely clean", "unnamed", "never ended"]
GOOD: tuple[Ending, ...] = ("clean", "named", "refused", "killed")
BAD: tuple[Ending, ...] = ("falsely clean", "unnamed", "never ended")


@dataclass(kw_only=True)
class Run:
    """One teardown.

    Attributes:
        stack: Which stack.
        fault: What was wrong while it ran.
        ending: `clean`: certified, and the witness found nothing. `named`: not certified, with names of what
            is left, was not done or could not be looked at. `refused`: nothing was touched, and why.
            `killed`: before its end, so that the next run answers for it. The other ones are failures.
        seconds: How long it took.
        named: What the certificate named, at most ten lines.
        witness: What the witness found where the certificate was clean.
    """

    stack: str
    fault: str
    ending: Ending
    seconds: float
    named: list[str] = field(default_factory=list[str])
    witness: list[str] = field(default_factory=list[str])


class TeardownLedger:
    """Writes what was seen after every run, so that nothing is lost when the runs are stopped.

    Args:
        file: JSON file; the Markdown is beside it. What it has of other stacks is kept.
    """

    def __init__(self, file: Path | None = None) -> None:
        today = datetime.datetime.now(datetime.UTC).date()
        self._file = file or RESULTS / f"teardown-faults-{today}.json"

    def begin(self, stack: str) -> None:
        """Forgets earlier runs of a stack."""
        self._write([run for run in self._runs() if run["stack"] != stack])

    def add(self, run: Run) -> None:
        """Adds one run and writes the files."""
        self._write([*self._runs(), asdict(run)])

    def _runs(self) -> list[dict[str, Any]]:
        # Read each time: the stacks may be taken down side by side, by several processes.
        return json.loads(self._file.read_text())["runs"] if self._file.is_file() else []

    def _write(self, runs: list[dict[str, Any]]) -> None:
        document = {"machine": machine(), "runs": runs}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        write_durably(self._file, (json.dumps(document, indent=1) + "\n").encode())
        if runs:
            self._file.with_suffix(".md").write_text(table(document))


def table(document: dict[str, Any]) -> str:
    """Renders the counts: a sentence, and one line for each stack and fault."""
    runs: list[dict[str, Any]] = document["runs"]
    lines = [
        "# Teardowns under faults",
        "",
        f"{len(runs)} teardowns of rehearsed stacks on {document['machine']}: embedded sites, the AWS double "
        "and stand-in engines. Made by `make test-faults`; each run is in the JSON file beside this one. A "
        "clean certificate is compared with a look that shares no code with it (`tests/faults/witness.py`).",
        "",
        "| stack | fault | runs | killed | clean | named | refused | falsely clean | unnamed | never ended "
        "| longest s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for stack, fault in dict.fromkeys((run["stack"], run["fault"]) for run in runs):
        some = [run for run in runs if (run["stack"], run["fault"]) == (stack, fault)]
        lines.append(_row(stack, fault, some))
    lines.append(_row("**all**", "", runs))
    return "\n".join(lines) + "\n"


def _row(stack: str, fault: str, runs: Sequence[dict[str, Any]]) -> str:
    endings: tuple[Ending, ...] = ("killed", "clean", "named", "refused", *BAD)
    counts = [sum(run["ending"] == ending for run in runs) for ending in endings]
    longest = max(run["seconds"] for run in runs)
    return f"| {' | '.join(map(str, [stack, fault, len(runs), *counts, f'{longest:.0f}']))} |"
