"""Percentiles, and how far repetitions of one measurement lie apart."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` percent of the values lie, interpolated as NumPy does by default.

    Raises:
        ValueError: If there are no values, or `percent` is not from 0 to 100.
    """
    if not values:
        raise ValueError("no values to take a percentile of")
    if not 0 <= percent <= 100:
        raise ValueError(f"percent is {percent}; allowed: 0 to 100")
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


@dataclass(frozen=True)
class Spread:
    """Repetitions of one measurement, in the unit of what was measured.

    Attributes:
        runs: Every value, in the order in which they were measured.
    """

    runs: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("a measurement has at least one run")

    @property
    def median(self) -> float:
        """The middle run, which one disturbed run does not move."""
        return statistics.median(self.runs)

    @property
    def low(self) -> float:
        """The smallest run."""
        return min(self.runs)

    @property
    def high(self) -> float:
        """The largest run."""
        return max(self.runs)

    def shown(self, digits: int = 2) -> str:
        """The median and the range, for a table."""
        if len(self.runs) == 1:
            return f"{self.median:,.{digits}f}"
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f} to {self.high:,.{digits}f})"

    def as_json(self) -> dict[str, object]:
        """All runs, and what is read from them."""
        return {"median": self.median, "low": self.low, "high": self.high, "runs": list(self.runs)}


def ratio(of: Spread, to: Spread) -> Spread:
    """The ratios of runs that were measured next to each other, so that a slow minute slows both.

    Raises:
        ValueError: If the two were not measured equally often.
    """
    return Spread(tuple(one / other for one, other in zip(of.runs, to.runs, strict=True)))
