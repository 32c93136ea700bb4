"""Which fault strikes when: drawn from a seed, so that a run can be repeated."""

import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tests.faults.matrix import FAULTS, STAGES, Fault

# A platform is brought up, lives through some faults and is taken down; then the next one.
_CHAIN = ("up", "change", "idle", "change", "idle", "change", "idle", "down")
MOST_DELAY_S = 3.0
Card = TypeVar("Card")


@dataclass(frozen=True)
class PlannedRun:
    """One fault at one moment.

    Attributes:
        number: Its place in the plan, from 0.
        seed: Decides all that is by chance in it.
        phase: What is under way.
        stage: The progress line after which it strikes.
        delay_s: How long after that line.
        fault: The fault.
    """

    number: int
    seed: int
    phase: str
    stage: str
    delay_s: float
    fault: Fault

    @property
    def title(self) -> str:
        """Names the run for people."""
        moment = f" after '{self.stage}'" if self.stage else ""
        return f"{self.number:03d} {self.fault.name}, {self.phase}{moment} +{self.delay_s:.1f} s"


def plan(seed: int, runs: int, *, simulated: bool) -> list[PlannedRun]:
    """Draws the runs. Each fault and each stage comes before one comes again, in every phase."""
    chance = random.Random(seed)
    engine = "simulated" if simulated else "real"
    faults = {
        phase: _dealt(chance, [fault for fault in _weighted(phase) if fault.engine in ("", engine)])
        for phase in STAGES
    }
    stages = {phase: _dealt(chance, STAGES[phase]) for phase in STAGES}
    return [
        PlannedRun(
            number,
            chance.randrange(1 << 32),
            phase,
            next(stages[phase]),
            round(chance.uniform(0.0, MOST_DELAY_S), 2),
            next(faults[phase]),
        )
        for number in range(runs)
        for phase in (_CHAIN[number % len(_CHAIN)],)
    ]


def _weighted(phase: str) -> list[Fault]:
    return [fault for fault in FAULTS if phase in fault.phases for _ in range(fault.weight)]


def _dealt(chance: random.Random, cards: Sequence[Card]) -> Generator[Card]:
    while True:
        yield from chance.sample(cards, len(cards))
