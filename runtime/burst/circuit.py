"""Circuit: after failed launches of a node group nothing more is asked of it for a while."""

from dataclasses import replace

from runtime.burst.policy import Launches
from runtime.burst.state import GroupState


def step(launches: Launches, state: GroupState, *, failed: int, started: bool, now: float) -> GroupState:
    """The circuit's next state.

    Args:
        launches: When it opens, and for how long.
        state: The group's state.
        failed: Launches that failed since the step before, those that timed out among them.
        started: Whether a replica became ready since then.
        now: Unix time.
    """
    if started:
        state = replace(state, failures=0, open_until=None, back_off_s=None)
    if state.open_until is not None:
        if now < min(state.open_until, now + launches.max_back_off_seconds):
            # Failures of launches under way when it opened say nothing new.
            return replace(state, open_until=min(state.open_until, now + launches.max_back_off_seconds))
        # Half open: one try, and the next failure opens it again.
        state = replace(state, open_until=None, failures=launches.failures - 1)
    state = replace(state, failures=state.failures + failed) if failed else state
    if state.failures < launches.failures:
        return state
    pause = state.back_off_s if state.back_off_s is not None else launches.back_off_seconds
    return replace(state, open_until=now + pause, back_off_s=min(2 * pause, launches.max_back_off_seconds))


def probing(state: GroupState) -> bool:
    """Whether the circuit has closed on trial, so that only one replica may be asked for."""
    return state.open_until is None and state.back_off_s is not None
