"""What every report of an estimate shows, in order: places, equal things put together, amounts as text."""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from runtime.cost.amounts import PLACES, Band, Charge, Place, total
from runtime.cost.estimate import Estimate

UNBOUNDED = "unbounded"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a report is made of.

    Attributes:
        title: What it is of, such as `stack hybrid`.
        estimate: What it costs.
        made: When the report was made.
        expires: Until when the stack lives, if that is known.
        before: What it costs now, where the report is of a change.
    """

    title: str
    estimate: Estimate
    made: dt.datetime
    expires: dt.datetime | None = None
    before: Estimate | None = None

    @property
    def exposure(self) -> str:
        """What is spent at most until the stack expires, in words; empty where no end is known."""
        if self.expires is None:
            return ""
        amount = money(self.estimate.exposure(self.made, self.expires))
        return f"at most until it expires on {self.expires:%Y-%m-%d %H:%M %Z}: {amount}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """Charges for the same thing at the same price, put together.

    Attributes:
        place: Where it is.
        item: What is paid for.
        names: The resources.
        count: How many there are of all of them together.
        amount: USD per hour; None if unpriced.
        why_unpriced: Why; empty if priced.
        notes: What a reader must know.
    """

    place: Place
    item: str
    names: tuple[str, ...]
    count: Band
    amount: Band | None
    why_unpriced: str
    notes: tuple[str, ...]


def rows(estimate: Estimate) -> list[Row]:
    """All charges by place, what may cost most first; things without any number or price at the end."""
    groups: dict[tuple[object, ...], list[Charge]] = {}
    for charge in estimate.charges:
        key = (charge.place, charge.item, charge.usd_per_hour, charge.why_unpriced, charge.notes)
        groups.setdefault(key, []).append(charge)
    return sorted((_row(charges) for charges in groups.values()), key=_order)


def by_place(estimate: Estimate) -> list[tuple[Place, Band | None]]:
    """USD per hour of each place where something is paid for; None where all of it is unpriced."""
    found: list[tuple[Place, Band | None]] = []
    for place in PLACES:
        charges = [one for one in estimate.charges if one.place == place and not one.count.is_zero]
        if charges:
            found.append((place, _sum(one.amount for one in charges)))
    return found


def money(amount: Decimal | None, *, cents: bool = True) -> str:
    """An amount such as `$1,234.50`; four places after the point where it is not to be rounded to cents."""
    if amount is None:
        return UNBOUNDED
    rounded = amount.quantize(Decimal("0.01" if cents else "0.0001"), ROUND_HALF_UP)
    sign = "-" if rounded < 0 else ""
    return f"{sign}${abs(rounded):,}"


def number(count: Decimal | None) -> str:
    """A count such as `4` or `0.125`."""
    if count is None:
        return UNBOUNDED
    text = f"{count.quantize(Decimal('0.001'), ROUND_HALF_UP):,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def signed(amount: Decimal | None) -> str:
    """A difference such as `+$1.50`, `-$1.50` or `$0.00`."""
    text = money(amount)
    return f"+{text}" if amount is not None and amount > 0 and text != "$0.00" else text


def sentence(words: str) -> str:
    """The words with a capital at their beginning, and the rest as it is."""
    return words[:1].upper() + words[1:]


def span(count: Band) -> str:
    """A count from floor to ceiling, such as `0 to 4`, or `2` where it does not change."""
    if count.floor == count.ceiling:
        return number(count.floor)
    return f"{number(count.floor)} to {number(count.ceiling)}"


def listed(names: Sequence[str], most: int = 3) -> str:
    """Names as text, the first ones and how many more."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def by_use_lines(estimate: Estimate) -> list[str]:
    """What is paid by use: each item once, with its price and the resources."""
    groups: dict[tuple[str, str], list[str]] = {}
    for one in estimate.by_use:
        price = "unpriced" if one.usd is None else f"${one.usd.normalize():f}/{one.unit}"
        groups.setdefault((one.item, price), []).append(one.name)
    return [f"{item}: {price} ({listed(names)})" for (item, price), names in groups.items()]


def unpriced_lines(estimate: Estimate) -> list[str]:
    """What is unpriced: how many of what, whose, and why."""
    return [
        f"{span(row.count)} x {row.item} ({listed(row.names)}): {row.why_unpriced}"
        for row in rows(estimate)
        if row.amount is None and not row.count.is_zero
    ]


def _row(charges: Sequence[Charge]) -> Row:
    first = charges[0]
    return Row(
        place=first.place,
        item=first.item,
        names=tuple(one.name for one in charges),
        count=total(one.count for one in charges),
        amount=_sum(one.amount for one in charges),
        why_unpriced=first.why_unpriced,
        notes=first.notes,
    )


def _sum(amounts: Iterable[Band | None]) -> Band | None:
    known = [amount for amount in amounts if amount is not None]
    return total(known) if known else None


def _order(row: Row) -> tuple[int, bool, Decimal, str]:
    ceiling = row.amount.ceiling if row.amount is not None else Decimal(0)
    return PLACES.index(row.place), row.amount is None, -(ceiling or Decimal("Infinity")), row.item
