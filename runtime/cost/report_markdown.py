"""An estimate as Markdown, for a comment on a pull request: figures first, the rest folded away."""

from collections.abc import Iterator, Sequence

from runtime.cost import summary
from runtime.cost.amounts import Band
from runtime.cost.difference import Difference
from runtime.cost.estimate import EXCLUDED
from runtime.cost.summary import Report, money, number, sentence, signed, span


def as_markdown(report: Report) -> str:
    """The report as a section of a document or comment."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    estimate = report.estimate
    yield f"### Cost of {report.title}"
    yield ""
    yield "| USD per hour | floor | expected | ceiling |"
    yield "|---|---:|---:|---:|"
    for place, amount in summary.by_place(estimate):
        yield _row(place, ("unpriced", "", "")) if amount is None else _row(place, _ends(amount))
    missing = f" (without {len(estimate.unpriced)} unpriced)" if estimate.unpriced else ""
    yield _row(f"**together**{missing}", [f"**{end}**" for end in _ends(estimate.hourly)])
    if report.before is not None:
        yield _row("before", _ends(report.before.hourly))
        change = Difference(before=report.before, after=estimate)
        yield _row("change", [signed(amount) for amount in change.hourly])
    yield _row("a month of 730 hours", _ends(estimate.monthly))
    yield ""
    if report.exposure:
        yield f"{sentence(report.exposure)}."
        yield ""
    yield from _devices(report)
    yield from _section("Unpriced, and in no sum", summary.unpriced_lines(estimate))
    yield from _section("Beware", estimate.warnings)
    yield "<details><summary>What it is made of</summary>"
    yield ""
    yield "| place | what | how many | floor | expected | ceiling |"
    yield "|---|---|---:|---:|---:|---:|"
    for row in summary.rows(estimate):
        if row.amount is not None:
            notes = "".join(f"<br><sub>{_text(note)}</sub>" for note in row.notes)
            what = f"{_text(row.item)}: {_text(summary.listed(row.names))}{notes}"
            yield _row(row.place, [what, span(row.count), *_ends(row.amount, cents=False)])
    yield ""
    yield from _section("Paid by use, and in no sum", summary.by_use_lines(estimate))
    yield from _section("In no figure at all", EXCLUDED)
    yield "</details>"


def _devices(report: Report) -> Iterator[str]:
    if not report.estimate.devices:
        return
    yield "| accelerators | floor | expected | ceiling |"
    yield "|---|---:|---:|---:|"
    for one in report.estimate.devices:
        ends = (one.count.floor, one.count.expected, one.count.ceiling)
        yield _row(f"{one.place} {_text(one.accelerator)}", [number(end) for end in ends])
    if report.before is not None:
        for one in Difference(before=report.before, after=report.estimate).devices:
            if one.before is not None and one.after is not None:
                change = f"{span(one.before)} → {span(one.after)}"
                yield _row(f"{one.place} {_text(one.item)}, change", ["", "", change])
    yield ""


def _row(head: str, cells: Sequence[str]) -> str:
    return f"| {' | '.join([head, *cells])} |"


def _ends(amount: Band, *, cents: bool = True) -> list[str]:
    return [money(end, cents=cents) for end in (amount.floor, amount.expected, amount.ceiling)]


def _section(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield f"**{title}**"
        yield ""
        yield from (f"- {_text(line)}" for line in lines)
        yield ""


def _text(text: str) -> str:
    """Text that neither ends a table's cell nor starts a tag."""
    return text.replace("|", "\\|").replace("<", "&lt;")
