"""Bootstrap intervals of a metric, and of what two models' metrics differ by on the same records."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtime.evaluation.job import Confidence

# A metric over the records with these positions; one may be there several times.
Statistic = Callable[[Sequence[int]], float]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value, and between which bounds it would lie with other records of the same kind.

    Attributes:
        value: Over all records.
        low: Lower bound.
        high: Upper bound.
    """

    value: float
    low: float
    high: float


def mean_of(scores: Sequence[float]) -> Statistic:
    """The mean as a statistic."""
    numbers = np.asarray(scores, dtype=float)
    return lambda chosen: float(numbers[np.asarray(chosen)].mean())


def difference(one: Statistic, other: Statistic) -> Statistic:
    """What `one` has more than `other` on the same records, so that hard records do not count as noise."""
    return lambda chosen: one(chosen) - other(chosen)


def interval(statistic: Statistic, records: int, confidence: Confidence) -> Interval:
    """The percentile bootstrap over records, drawn with the job's seed.

    One record says nothing of the others: its bounds are infinite.
    """
    positions = np.arange(records)
    value = statistic(range(records))
    if records < 2:
        return Interval(value=value, low=-np.inf, high=np.inf)
    stats: Any = importlib.import_module("scipy.stats")
    found = stats.bootstrap(
        (positions,),
        statistic,
        vectorized=False,
        n_resamples=confidence.resamples,
        confidence_level=confidence.level,
        method="percentile",
        rng=np.random.default_rng(confidence.seed),
    ).confidence_interval
    return Interval(value=value, low=float(found.low), high=float(found.high))
