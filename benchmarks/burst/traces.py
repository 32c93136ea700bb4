"""Traces: when requests come and how long they are; generated from a seed, or read from a CSV file."""

from __future__ import annotations

import csv
import math
import random
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from benchmarks.processes import BenchmarkError

DAY_S = 86400.0
_STEP_S = 10.0
# Token counts as in the Azure trace of conversations (2023): means of about 1150 and 210, long tails.
_CONTEXT, _GENERATED = (6.6, 0.95), (4.95, 0.9)
_LONGEST_CONTEXT, _LONGEST_ANSWER = 8192, 1024


@dataclass(frozen=True)
class Trace:
    """Requests in the order of their arrival.

    Attributes:
        name: What it is called in the results.
        times: Seconds from the trace's begin.
        context: Tokens of each prompt.
        generated: Tokens of each answer.
    """

    name: str
    times: array[float]
    context: array[int]
    generated: array[int]

    def __len__(self) -> int:
        return len(self.times)

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.times[-1] if self.times else 0.0


def diurnal(seed: int, days: int, rate: float) -> Trace:
    """Office hours: a daily hill, lower at weekends, with days and minutes that differ."""
    return _generated("diurnal", seed, days * DAY_S, _hills(random.Random(seed), days, rate))


def spikes(seed: int, days: int, rate: float) -> Trace:
    """A level load with sudden bursts: about five a day, each minutes to most of an hour long."""
    return _generated("spikes", seed, days * DAY_S, _bursts(random.Random(seed), days, rate, rate))


def mixed(seed: int, days: int, rate: float) -> Trace:
    """The daily hills with the bursts on top."""
    source = random.Random(seed)
    hills, bursts = _hills(source, days, rate), _bursts(source, days, 0.0, rate)
    return _generated("diurnal and spikes", seed, days * DAY_S, lambda time: hills(time) + bursts(time))


def from_csv(path: Path) -> Trace:
    """Reads TIMESTAMP, ContextTokens, GeneratedTokens, as the Azure traces have them.

    Raises:
        BenchmarkError: A column is missing, a value is no number, or there are no rows.
    """
    rows: list[tuple[float, int, int]] = []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        try:
            for row in reader:
                # Python reads at most microseconds; the trace has one digit more.
                stamp = datetime.fromisoformat(row["TIMESTAMP"][:26])
                rows.append((stamp.timestamp(), int(row["ContextTokens"]), int(row["GeneratedTokens"])))
        except (KeyError, TypeError, ValueError) as error:
            raise BenchmarkError(
                f"{path}, line {reader.line_num}: {error}; it needs the columns TIMESTAMP, ContextTokens and "
                "GeneratedTokens"
            ) from None
    if not rows:
        raise BenchmarkError(f"{path} has no rows")
    rows.sort()
    begin = rows[0][0]
    return Trace(
        path.stem,
        array("d", (time - begin for time, _, _ in rows)),
        array("i", (context for _, context, _ in rows)),
        array("i", (max(1, generated) for _, _, generated in rows)),
    )


def _hills(source: random.Random, days: int, rate: float) -> Callable[[float], float]:
    heights = [
        source.lognormvariate(0, 0.08) * (0.45 if day % 7 in {5, 6} else 1.0) for day in range(days + 1)
    ]
    shifts = [source.gauss(0, 0.2) for _ in range(days + 1)]
    wobble = _wobble(source, days * DAY_S, 0.05)

    def at(time: float) -> float:
        day = int(time // DAY_S)
        hour = time % DAY_S / 3600 + shifts[day]
        morning = math.exp(-(((hour - 11) / 2.6) ** 2))
        afternoon = 0.9 * math.exp(-(((hour - 16) / 2.4) ** 2))
        evening = 0.35 * math.exp(-(((hour - 21) / 2.0) ** 2))
        return rate * (0.35 + 1.4 * heights[day] * (morning + afternoon + evening)) * wobble(time)

    return at


def _bursts(source: random.Random, days: int, level: float, height: float) -> Callable[[float], float]:
    found: list[tuple[float, float, float, float]] = []
    time = 0.0
    while (time := time + source.expovariate(5 / DAY_S)) < days * DAY_S:
        ramp, plateau = source.uniform(60, 420), source.lognormvariate(math.log(900), 0.7)
        found.append((time, ramp, plateau, height * source.uniform(0.5, 1.8)))
    wobble = _wobble(source, days * DAY_S, 0.04)
    of_hour: dict[int, list[tuple[float, float, float, float]]] = {}
    for burst in found:
        start, ramp, plateau, _ = burst
        for hour in range(int(start // 3600), int((start + 2 * ramp + plateau) // 3600) + 1):
            of_hour.setdefault(hour, []).append(burst)

    def at(time: float) -> float:
        value = level * wobble(time)
        for start, ramp, plateau, top in of_hour.get(int(time // 3600), ()):
            since = time - start
            share = min(since / ramp, (2 * ramp + plateau - since) / ramp, 1.0)
            value += top * max(0.0, share)
        return value

    return at


def _wobble(source: random.Random, seconds: float, size: float) -> Callable[[float], float]:
    """A slow random walk around 1, with a memory of about ten minutes."""
    values: list[float] = []
    value = 0.0
    for _ in range(int(seconds // 60) + 2):
        value = 0.9 * value + source.gauss(0, size * math.sqrt(1 - 0.9**2))
        values.append(math.exp(value))
    return lambda time: values[int(time // 60)]


def _generated(name: str, seed: int, seconds: float, rate: Callable[[float], float]) -> Trace:
    source = random.Random(seed * 7919 + 1)
    times, context, generated = array("d"), array("i"), array("i")
    due, begin = source.expovariate(1), 0.0
    while begin < seconds:
        current = max(1e-9, rate(begin))
        # Poisson arrivals at a rate that is constant within a step: `due` is what is left of the next gap.
        offset = due / current
        while offset < _STEP_S:
            times.append(begin + offset)
            context.append(min(_LONGEST_CONTEXT, 1 + int(source.lognormvariate(*_CONTEXT))))
            generated.append(min(_LONGEST_ANSWER, 1 + int(source.lognormvariate(*_GENERATED))))
            offset += source.expovariate(1) / current
        due = (offset - _STEP_S) * current
        begin += _STEP_S
    return Trace(name, times, context, generated)


def per_minute(times: Sequence[float], values: Sequence[float]) -> list[float]:
    """Sums of values by minute of their times."""
    sums = [0.0] * (int(times[-1] // 60) + 1) if times else []
    for time, value in zip(times, values, strict=True):
        sums[int(time // 60)] += value
    return sums
