"""Writes what a benchmark found: JSON with every run, and a Markdown page with the table."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.machine import sentence

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one benchmark found.

    Attributes:
        name: Name of the benchmark and of its files.
        title: Headline of the page.
        machine: Where it was measured, from `machine.describe`.
        data: Everything that was measured.
        tables: Markdown, one text a table or paragraph.
        files: Further files beside the page, by their names, such as a picture that it shows.
    """

    name: str
    title: str
    machine: Mapping[str, object]
    data: Mapping[str, object]
    tables: Sequence[str]
    files: Mapping[str, str] = field(default_factory=dict[str, str])

    def page(self) -> str:
        """The Markdown page."""
        parts = [f"# {self.title}", sentence(self.machine), *self.tables]
        return "\n\n".join(parts) + "\n"

    def write(self, folder: Path) -> None:
        """Writes `NAME.json` and `NAME.md`, and the further files."""
        folder.mkdir(parents=True, exist_ok=True)
        document = {"benchmark": self.name, "machine": self.machine, **self.data}
        (folder / f"{self.name}.json").write_text(json.dumps(document, indent=1) + "\n")
        (folder / f"{self.name}.md").write_text(self.page())
        for name, text in self.files.items():
            (folder / name).write_text(text)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
