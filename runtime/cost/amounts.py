"""Amounts of an estimate: bands of floor, expected and ceiling, and what one resource is charged for."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import reduce
from typing import Final, Literal, Self

from runtime.pricing import Price, Unit

# Where something is that is paid for. `AWS` is what neither runs a model nor belongs to a cluster.
Place = Literal["on-prem", "EKS", "SageMaker", "AWS"]
PLACES: Final[tuple[Place, ...]] = ("on-prem", "EKS", "SageMaker", "AWS")


@dataclass(frozen=True)
class Band:
    """An amount at rest, as declared, and at its most.

    Attributes:
        floor: With every autoscaler at its least.
        expected: With the declared duty, or the desired sizes where none is declared.
        ceiling: With every autoscaler at its most and an upgrade going on; None where nothing bounds it.
    """

    floor: Decimal
    expected: Decimal
    ceiling: Decimal | None

    @classmethod
    def same(cls, value: Decimal | int) -> Self:
        """An amount that does not change."""
        return cls(Decimal(value), Decimal(value), Decimal(value))

    def __add__(self, other: "Band") -> "Band":
        ceiling = None if self.ceiling is None or other.ceiling is None else self.ceiling + other.ceiling
        return Band(self.floor + other.floor, self.expected + other.expected, ceiling)

    def __mul__(self, other: "Band") -> "Band":
        """End by end: so many units at such a price. Nothing times an unbounded number is nothing."""
        ceiling: Decimal | None
        if Decimal(0) in (self.ceiling, other.ceiling):
            ceiling = Decimal(0)
        elif self.ceiling is None or other.ceiling is None:
            ceiling = None
        else:
            ceiling = self.ceiling * other.ceiling
        return Band(self.floor * other.floor, self.expected * other.expected, ceiling)

    @property
    def is_zero(self) -> bool:
        """Whether it is nothing even at its most."""
        return self.ceiling == 0 and not self.floor and not self.expected


NOTHING: Final = Band.same(0)


def total(bands: Iterable[Band]) -> Band:
    """The sum; unbounded if one of them is."""
    return reduce(Band.__add__, bands, NOTHING)


@dataclass(frozen=True, kw_only=True)
class Charge:
    """One thing that a resource is charged for by the time that it is there.

    Attributes:
        urn: The resource.
        name: Its name in the program.
        type: Its type token.
        place: Where it runs.
        item: What is paid for: an item of the price list, or several that it may be.
        count: How many of it there are.
        usd_per_hour: Price of one, as far apart as the types that it may be; None if unpriced.
        why_unpriced: Why there is no price or no count, and what to do; empty if there is one.
        prices: The rows that the price is from.
        accelerator: Kind of its accelerators; empty for none.
        devices: Accelerators of one; a fraction where machines share a device.
        notes: What a reader must know to check the figures.
    """

    urn: str
    name: str
    type: str
    place: Place
    item: str
    count: Band
    usd_per_hour: Band | None
    why_unpriced: str = ""
    prices: tuple[Price, ...] = ()
    accelerator: str = ""
    devices: Band = NOTHING
    notes: tuple[str, ...] = ()

    @property
    def amount(self) -> Band | None:
        """USD per hour; None if unpriced."""
        return None if self.usd_per_hour is None else self.count * self.usd_per_hour

    @property
    def all_devices(self) -> Band:
        """Accelerators of all of it together."""
        return self.count * self.devices


@dataclass(frozen=True, kw_only=True)
class UsePrice:
    """What a resource is paid for by use, which nobody can know before: named with its price, not summed up.

    Attributes:
        urn: The resource.
        name: Its name in the program.
        type: Its type token.
        item: What is used.
        usd: Price of one unit; None if unpriced.
        unit: The unit.
    """

    urn: str
    name: str
    type: str
    item: str
    usd: Decimal | None
    unit: Unit


@dataclass(frozen=True)
class Free:
    """A resource that is not paid for.

    Attributes:
        reason: Why not.
    """

    reason: str


Entry = Charge | UsePrice | Free
