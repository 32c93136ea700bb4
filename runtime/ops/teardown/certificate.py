"""The certificate of a teardown: what was looked at, what is left and what could not be looked at."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from runtime.ops.teardown.findings import Finding, Look, Sweep
from runtime.ops.teardown.journal import write_durably
from runtime.ops.teardown.ledger import Ledger


@dataclass(frozen=True)
class Certificate:
    """What a teardown and the looks after it showed.

    Attributes:
        ledger: What the stack was.
        begun: When its teardown began, as ISO 8601 in UTC.
        sweeps: Every look at everything, the newest last.
    """

    ledger: Ledger
    begun: str
    sweeps: tuple[Sweep, ...]

    @property
    def clean(self) -> bool:
        """Whether the newest look looked at everything and found nothing."""
        return bool(self.sweeps) and self.sweeps[-1].clean

    def and_again(self, sweep: Sweep) -> "Certificate":
        """The same with one more look."""
        return replace(self, sweeps=(*self.sweeps, sweep))

    def document(self) -> dict[str, Any]:
        """What is written as JSON."""
        return {
            "stack": self.ledger.stack,
            "clean": self.clean,
            "begun": self.begun,
            "ledger": json.loads(self.ledger.to_json()),
            "sweeps": [_document(sweep) for sweep in self.sweeps],
        }

    def text(self) -> str:
        """The newest look for a reader: the verdict first, then what it stands on."""
        sweep = self.sweeps[-1]
        lines = [f"Teardown of stack {self.ledger.stack}, looked at {sweep.at}", "", verdict(sweep), ""]
        state = sweep.resources_in_state
        held = "could not be read" if state is None else f"{state} resources" if state else "nothing"
        lines.append(f"Pulumi's state: {held}")
        lines += [f"  begun and not finished: {one}" for one in sweep.pending]
        for title, found in (
            ("Not done:", list(sweep.problems)),
            ("Left:", [one.words for one in sweep.left]),
            ("Could not be checked, so nothing is proven of it:", [look.words for look in sweep.unproven]),
            ("Goes by itself, nothing is paid for it:", [one.words for one in sweep.ending]),
        ):
            if found:
                lines += ["", title, *(f"  {line}" for one in found for line in one.splitlines())]
        lines += ["", f"Looked at ({len(sweep.looks)}):"]
        lines += [f"  {look.words}" for look in sweep.looks if not look.problem]
        if len(self.sweeps) > 1:
            lines += ["", f"Earlier looks: {', '.join(_short(one) for one in self.sweeps[:-1])}"]
        return "\n".join(lines) + "\n"

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Writes JSON and text into a folder, named by stack and beginning, and returns where."""
        name = f"{self.ledger.stack}-{self.begun.replace(':', '').replace('-', '')}"
        document, text = folder / f"{name}.json", folder / f"{name}.txt"
        write_durably(document, (json.dumps(self.document(), indent=1) + "\n").encode())
        write_durably(text, self.text().encode())
        return document, text


def verdict(sweep: Sweep) -> str:
    """The first sentence: whether anything is left, what it costs, and what is not known."""
    if sweep.clean:
        return "CLEAN: everything was looked at and nothing is left."
    parts: list[str] = []
    if sweep.left:
        unpriced = sum(one.usd_per_hour is None for one in sweep.left)
        more = f" and {unpriced} without a price" if unpriced else ""
        cents = sweep.usd_per_hour.quantize(Decimal("0.0001")).normalize()
        parts.append(f"{len(sweep.left)} left, ${cents:f}/h{more}")
    if sweep.unproven:
        parts.append(f"{len(sweep.unproven)} could not be checked")
    if sweep.resources_in_state is None or sweep.resources_in_state:
        parts.append("Pulumi's state is not empty")
    if sweep.pending:
        parts.append(f"{len(sweep.pending)} operations begun and not finished")
    if sweep.problems:
        parts.append(f"{len(sweep.problems)} not done")
    return f"NOT CLEAN: {'; '.join(parts)}. Run the same command again; it goes on from here."


def newest(folder: Path, stack: str) -> tuple[Path, Certificate] | None:
    """The certificate of a stack's last teardown; None where there is none.

    Raises:
        ValueError: It is none.
    """
    # Stack dev-3 has certificates beside those of stack dev.
    digits = "[0-9]"
    for file in sorted(folder.glob(f"{stack}-{digits * 8}T{digits * 6}Z.json"), reverse=True):
        document = json.loads(file.read_text())
        ledger = Ledger.from_json(json.dumps(document["ledger"]))
        if ledger.stack == stack:
            sweeps = tuple(_sweep(one) for one in document["sweeps"])
            return file, Certificate(ledger, str(document["begun"]), sweeps)
    return None


def _short(sweep: Sweep) -> str:
    return f"{sweep.at} {'clean' if sweep.clean else 'not clean'}"


def _document(sweep: Sweep) -> dict[str, Any]:
    return {
        "at": sweep.at,
        "clean": sweep.clean,
        "residualUsdPerHour": str(sweep.usd_per_hour),
        "resourcesInState": sweep.resources_in_state,
        "pendingOperations": list(sweep.pending),
        "problems": list(sweep.problems),
        "checks": [
            {
                "service": look.service,
                "where": look.where,
                "query": look.query,
                "proven": not look.problem,
                "problem": look.problem,
                "said": look.said,
                "found": [_found(one) for one in look.findings],
            }
            for look in sweep.looks
        ],
    }


def _found(one: Finding) -> dict[str, Any]:
    usd = one.usd_per_hour
    return {
        "kind": one.kind,
        "id": one.id,
        "where": one.where,
        "detail": one.detail,
        "state": one.state,
        "billed": one.billed and one.state == "left",
        "usdPerHour": None if usd is None else str(usd),
    }


def _sweep(document: dict[str, Any]) -> Sweep:
    checks: Sequence[dict[str, Any]] = document["checks"]
    looks = tuple(
        Look(
            service=one["service"],
            where=one["where"],
            query=one["query"],
            problem=one["problem"],
            said=one["said"],
            findings=tuple(
                Finding(
                    kind=found["kind"],
                    id=found["id"],
                    where=found["where"],
                    detail=found["detail"],
                    state=found["state"],
                    billed=found["billed"],
                )
                for found in one["found"]
            ),
        )
        for one in checks
    )
    return Sweep(
        document["at"],
        looks,
        document["resourcesInState"],
        tuple(document["pendingOperations"]),
        tuple(document["problems"]),
    )
