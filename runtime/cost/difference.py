"""What changes between two estimates of a stack: sums, accelerators, and items that cost another amount."""

from dataclasses import dataclass
from decimal import Decimal

from runtime.cost.amounts import NOTHING, Band, Place
from runtime.cost.estimate import Estimate
from runtime.cost.summary import rows


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing before and after.

    Attributes:
        place: Where it is.
        item: What it is.
        before: USD per hour, or how many; None where that is not known.
        after: The same afterwards.
    """

    place: Place
    item: str
    before: Band | None
    after: Band | None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Two estimates side by side.

    Attributes:
        before: What the stack costs now.
        after: What it would cost.
    """

    before: Estimate
    after: Estimate

    @property
    def hourly(self) -> tuple[Decimal, Decimal, Decimal | None]:
        """USD per hour more or less at floor, expected and ceiling; no ceiling where one of them has none."""
        old, new = self.before.hourly, self.after.hourly
        unbounded = old.ceiling is None or new.ceiling is None
        ceiling = None if unbounded else (new.ceiling or Decimal(0)) - (old.ceiling or Decimal(0))
        return new.floor - old.floor, new.expected - old.expected, ceiling

    @property
    def items(self) -> list[Change]:
        """Items whose amount or number is another, USD per hour; None where one is unpriced."""
        old, new = _amounts(self.before), _amounts(self.after)
        return [
            Change(
                place=place,
                item=item,
                before=old.get((place, item), NOTHING),
                after=new.get((place, item), NOTHING),
            )
            for place, item in dict.fromkeys([*new, *old])
            if old.get((place, item), NOTHING) != new.get((place, item), NOTHING)
        ]

    @property
    def devices(self) -> list[Change]:
        """Accelerators by place and kind whose number is another."""
        old, new = _devices(self.before), _devices(self.after)
        return [
            Change(place=place, item=kind, before=old.get((place, kind), NOTHING), after=count)
            for place, kind in {**new, **old}
            if old.get((place, kind), NOTHING) != (count := new.get((place, kind), NOTHING))
        ]

    @property
    def is_empty(self) -> bool:
        """Whether nothing changes that an estimate knows of."""
        return not self.items and not self.devices


def _devices(estimate: Estimate) -> dict[tuple[Place, str], Band]:
    return {(one.place, one.accelerator): one.count for one in estimate.devices}


def _amounts(estimate: Estimate) -> dict[tuple[Place, str], Band | None]:
    """USD per hour by place and item; None as soon as one of an item's rows is unpriced."""
    found: dict[tuple[Place, str], Band | None] = {}
    for row in rows(estimate):
        key = (row.place, row.item)
        so_far = found.get(key, NOTHING)
        found[key] = None if so_far is None or row.amount is None else so_far + row.amount
    return found
