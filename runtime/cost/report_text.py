"""An estimate as text for a terminal."""

from collections.abc import Iterator

from runtime.cost import summary
from runtime.cost.amounts import Band
from runtime.cost.difference import Difference
from runtime.cost.estimate import EXCLUDED
from runtime.cost.summary import Report, money, number, signed, span

_WIDTH = 46


def as_text(report: Report) -> str:
    """The report: per hour first, then the month, accelerators, every item, and what is in no figure."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    estimate = report.estimate
    yield f"Cost of {report.title}, list prices"
    yield ""
    if report.before is not None:
        yield from _changes(Difference(before=report.before, after=estimate))
        yield ""
    yield _head("USD per hour")
    for place, amount in summary.by_place(estimate):
        yield _columns(f"  {place}", "unpriced") if amount is None else _amounts(f"  {place}", amount)
    missing = f", without {len(estimate.unpriced)} unpriced" if estimate.unpriced else ""
    yield _amounts(f"  together{missing}", estimate.hourly)
    yield _amounts("  a month of 730 hours", estimate.monthly)
    if report.exposure:
        yield f"  {report.exposure}"
    yield ""
    if estimate.devices:
        yield _head("Accelerators")
        for one in estimate.devices:
            ends = (one.count.floor, one.count.expected, one.count.ceiling)
            yield _columns(f"  {one.place} {one.accelerator}", *(number(end) for end in ends))
        yield ""
    yield _head("What it is made of, USD per hour")
    for row in summary.rows(estimate):
        if row.amount is None:
            continue
        yield _amounts(f"  {span(row.count)} x {row.item}", row.amount, cents=False)
        yield f"      {row.place}: {summary.listed(row.names)}"
        yield from (f"      {note}" for note in row.notes)
    yield ""
    yield from _section("Unpriced, and in no sum:", summary.unpriced_lines(estimate))
    yield from _section("Paid by use, and in no sum:", summary.by_use_lines(estimate))
    yield from _section("In no figure at all:", list(EXCLUDED))
    yield from _section("Beware:", list(estimate.warnings))
    yield f"{estimate.resources} resources looked at; oldest price from {estimate.prices_from or '(none)'}"


def _changes(change: Difference) -> Iterator[str]:
    yield _columns("Change, USD per hour", "floor", "expected", "ceiling")
    yield _columns("  together", *(signed(amount) for amount in change.hourly))
    for one in change.items:
        if one.before is None or one.after is None:
            yield f"  {one.place} {one.item}: unpriced before or after"
        else:
            yield f"  {one.place} {one.item}: {_ends(one.before)} -> {_ends(one.after)}"
    for one in change.devices:
        if one.before is not None and one.after is not None:
            yield f"  {one.place} {one.item} accelerators: {span(one.before)} -> {span(one.after)}"


def _ends(amount: Band) -> str:
    return f"{money(amount.floor)} to {money(amount.ceiling)}"


def _head(title: str) -> str:
    return _columns(title, "floor", "expected", "ceiling")


def _amounts(label: str, amount: Band, *, cents: bool = True) -> str:
    ends = (amount.floor, amount.expected, amount.ceiling)
    return _columns(label, *(money(end, cents=cents) for end in ends))


def _columns(label: str, *values: str) -> str:
    return f"{label:<{_WIDTH}}" + "".join(f"{value:>14}" for value in values)


def _section(title: str, lines: list[str]) -> Iterator[str]:
    if lines:
        yield title
        yield from (f"  {line}" for line in lines)
        yield ""
