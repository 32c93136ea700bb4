"""Forecast: where load goes in the next minutes, and what the same hour needed on past days."""

from dataclasses import replace
from datetime import datetime

from runtime.burst.policy import BurstPolicy
from runtime.burst.state import ModelState

QUARTER_S = 900
QUARTERS_A_DAY = 86400 // QUARTER_S
QUARTERS_A_WEEK = 7 * QUARTERS_A_DAY

_UNKNOWN = -1.0
_FEWEST_LOADS = 4
_LOADS = 12


def trend(
    loads: tuple[tuple[float, float], ...], now: float, load: float, seconds: float
) -> tuple[tuple[tuple[float, float], ...], float]:
    """Adds a sample of the load and fits a line through those of the last `seconds`.

    Returns:
        The samples, at most a dozen, and the slope per second; 0 as long as there are too few.
    """
    spacing = seconds / _LOADS
    if loads and now - loads[-1][0] < spacing:
        kept = loads
    else:
        kept = (*(sample for sample in loads if sample[0] >= now - seconds), (now, load))
    if len(kept) < _FEWEST_LOADS:
        return kept, 0.0
    middle = sum(time for time, _ in kept) / len(kept)
    mean = sum(value for _, value in kept) / len(kept)
    spread = sum((time - middle) ** 2 for time, _ in kept)
    slope = sum((time - middle) * (value - mean) for time, value in kept) / spread if spread else 0.0
    return kept, slope


def remember(policy: BurstPolicy, state: ModelState, keep: int, now: float) -> ModelState:
    """Notes what was needed, by quarter of an hour of the week in the policy's zone."""
    quarter = int(now // QUARTER_S)
    if state.quarter == quarter:
        return (
            replace(state, quarter_peak=max(state.quarter_peak, keep)) if keep > state.quarter_peak else state
        )
    days = list(state.days or (_UNKNOWN,) * QUARTERS_A_WEEK)
    if state.quarter is not None:
        days[_slot(policy, state.quarter)] = state.quarter_peak
    return replace(state, quarter=quarter, quarter_peak=keep, days=tuple(days))


def ahead(policy: BurstPolicy, state: ModelState, now: float, seconds: float) -> int:
    """Replicas that the quarter of an hour in `seconds` from now needed on past days; 0 where unknown."""
    if not state.days:
        return 0
    slot = _slot(policy, int((now + seconds) // QUARTER_S))
    week_ago, day_ago = state.days[slot], state.days[slot - QUARTERS_A_DAY]
    known = [value for value in (week_ago, day_ago) if value != _UNKNOWN]
    # The lesser of the two: a day that was unlike the others should not be paid for again.
    return int(min(known)) if len(known) > 1 else 0


def _slot(policy: BurstPolicy, quarter: int) -> int:
    local = datetime.fromtimestamp(quarter * QUARTER_S, policy.zone)
    minutes = (local.weekday() * 24 + local.hour) * 60 + local.minute
    return minutes * 60 // QUARTER_S % QUARTERS_A_WEEK
