"""An estimate as text for a terminal."""

import datetime as dt
from collections.abc import Iterator

from runtime.cost import summary
from runtime.cost.amounts import Band
from runtime.cost.estimate import EXCLUDED, Estimate
from runtime.cost.summary import money, number

_WIDTH = 46


def as_text(estimate: Estimate, title: str, now: dt.datetime, expires: dt.datetime | None) -> str:
    """The report: per hour first, then the month, accelerators, every item, and what is in no figure.

    Args:
        estimate: What to show.
        title: What it is of, such as `stack hybrid`.
        now: When it was made.
        expires: Until when the stack lives, if that is known.
    """
    return "\n".join(_lines(estimate, title, now, expires)) + "\n"


def _lines(estimate: Estimate, title: str, now: dt.datetime, expires: dt.datetime | None) -> Iterator[str]:
    yield f"Cost of {title}, list prices"
    yield ""
    yield _head("USD per hour")
    for place, amount in summary.by_place(estimate):
        yield _columns(f"  {place}", "unpriced") if amount is None else _amounts(f"  {place}", amount)
    missing = f", without {len(estimate.unpriced)} unpriced" if estimate.unpriced else ""
    yield _amounts(f"  together{missing}", estimate.hourly)
    yield _amounts("  a month of 730 hours", estimate.monthly)
    if expires is not None:
        exposure = money(estimate.exposure(now, expires))
        yield f"  at most until it expires on {expires:%Y-%m-%d %H:%M %Z}: {exposure}"
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
        yield _amounts(f"  {summary.span(row.count)} x {row.item}", row.amount, cents=False)
        yield f"      {row.place}: {summary.listed(row.names)}"
        yield from (f"      {note}" for note in row.notes)
    yield ""
    yield from _section("Unpriced, and in no sum:", summary.unpriced_lines(estimate))
    yield from _section("Paid by use, and in no sum:", summary.by_use_lines(estimate))
    yield from _section("In no figure at all:", list(EXCLUDED))
    yield from _section("Beware:", list(estimate.warnings))
    yield f"{estimate.resources} resources looked at; oldest price from {estimate.prices_from or '(none)'}"


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
