"""Need: how many replicas one model's load asks for, seen through thresholds, times and missing signals."""

import math
from dataclasses import dataclass, replace

from runtime.burst.fleet import BurstModel
from runtime.burst.observation import ModelSignals
from runtime.burst.policy import BurstPolicy
from runtime.burst.state import Averages, ModelState, changed
from runtime.burst.windows import most

# vLLM preempts when its cache is full (vllm:kv_cache_usage_perc reaches 1); shortly before, it queues.
_CACHE_FULL = 0.95
# How many rounds the averages look back, so that who decides more often also sees a change sooner; and
# after how many seconds without one they begin anew.
_FAST_TICKS, _SLOW_TICKS, _USUAL_TICKS, _FORGOTTEN_S = 3, 6, 60, 900.0
# Requests a second below which their time under way cannot be told, and what is taken for it then.
_NO_RATE, _GUESS_S = 1e-3, 10.0
# Less than half a request is what is left of a load that has ended.
_NO_LOAD = 0.5
# How much of the queue of EKS is counted as room. In the simulator this saves idle time at equal
# refusals.
_QUEUE_USED = 0.5
# Weight of the newest cold start in the measured one.
_COLD_START_WEIGHT = 0.5


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a model's load asks for.

    Attributes:
        load: Requests that want to be under way at once, without chance.
        capacity: Requests that on-prem can hold.
        out: Replicas that leave the spare places of `scaleOut`.
        keep: Replicas that leave those of `scaleIn`.
        gone: Replicas beyond which the load is gone for good.
        short: Replicas that the target is short of for `out`, in parts of one; negative if it has more.
    """

    load: float
    capacity: float
    out: int
    keep: int
    gone: int
    short: float


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What load alone asks for, before schedule, switch and limits.

    Attributes:
        replicas: Replicas.
        code: Why, for machines.
        reason: Why, as a sentence.
    """

    replicas: int
    code: str
    reason: str


def fresh(policy: BurstPolicy, signals: ModelSignals) -> ModelSignals:
    """The signals without those that are too old."""

    def old(age_s: float | None) -> bool:
        return age_s is not None and age_s > policy.stale_seconds

    if old(signals.gateway_age_s):
        signals = replace(
            signals, onprem_in_flight=None, onprem_capacity=None, arrived=None, refused=None, spilled=None
        )
    if old(signals.engine_age_s):
        signals = replace(signals, onprem_waiting=None, onprem_kv_usage=None)
    if old(signals.eks_age_s):
        signals = replace(signals, eks_ongoing=None, eks_ready=None, eks_wanted=None)
    return signals


def cold_start(policy: BurstPolicy, state: ModelState) -> float:
    """Seconds from asking for a replica to its readiness, as measured or else as configured."""
    return policy.cold_start_seconds if state.cold_start_s is None else state.cold_start_s


def kept_seconds(policy: BurstPolicy, state: ModelState) -> float:
    """How long a replica stays without need: what the policy says, else a cold start."""
    kept = policy.scale_in.for_seconds
    if kept is None:
        kept = cold_start(policy, state)
    return min(kept, policy.zero_after_seconds)


def measured(
    policy: BurstPolicy, model: BurstModel, state: ModelState, signals: ModelSignals, now: float
) -> tuple[Load | None, ModelState]:
    """The load now, or None where a signal is missing; and the state with its averages."""
    ongoing = signals.eks_ongoing
    if ongoing is None and state.target == 0 and not signals.eks_ready:
        ongoing = 0.0
    if signals.onprem_in_flight is None or signals.onprem_capacity is None or ongoing is None:
        return None, state
    served = _served(model, signals.onprem_in_flight, signals.onprem_capacity, ongoing, signals.eks_ready)
    averages = _averaged(policy, state.averages, signals, served, now)
    fast, slow = _levels(averages, refusing=bool(signals.refused))
    capacity = _capacity(signals.onprem_in_flight, signals.onprem_capacity, signals)
    out = _replicas(model, fast, capacity, policy.scale_out.spare)
    keep = _replicas(model, slow, capacity, policy.scale_in.spare)
    gone = _replicas(model, fast, capacity, policy.scale_in.gone_spare)
    beyond = _beyond(fast, capacity, policy.scale_out.spare)
    short = (beyond - _room(model, state.target)) / model.slots
    if signals.refused:
        # Whatever the averages say: who is refused is not served by what there is. Clients that try again
        # at once make arrivals and times under way look like another load than they are.
        out = max(out, min(1, model.max_replicas))
        keep, gone = max(keep, state.target), max(gone, state.target)
        if state.target == 0:
            places = signals.refused / policy.tick_seconds * _each_seconds(averages)
            short = max(short, places / model.slots)
    found = Load(load=fast, capacity=capacity, out=out, keep=keep, gone=gone, short=short)
    return found, changed(state, averages=averages)


def wish(
    policy: BurstPolicy, state: ModelState, load: Load | None, now: float, *, resumed: bool
) -> tuple[Wish, ModelState]:
    """What the load asks for, after sustain times and cool-down.

    Args:
        policy: The policy.
        state: The model's state.
        load: What was measured; None where signals are missing.
        now: Unix time.
        resumed: Whether the decision before is too long ago to know what was in between.
    """
    target = state.target
    # What was not seen neither adds nor takes away: it counts as if all that is there had been needed.
    seen = load if state.in_samples and not resumed else None
    needed_at = now if load is not None and max(load.keep, load.out) > 0 else state.needed_at
    short_s = None if seen is None else _short_seconds(policy, state, seen, now)
    keeps = most(state.in_samples, now, target if seen is None else seen.keep, kept_seconds(policy, state))
    state = changed(state, needed_at=needed_at, short_s=short_s, in_samples=keeps)
    up, down = target, keeps[0][1]
    if seen is not None:
        down = max(seen.keep, min(down, seen.gone))
        if short_s is not None and short_s >= policy.scale_out.for_seconds:
            up = seen.out
    wished = _by_load(policy, state, load, up, down)
    idle = now - (state.needed_at if state.needed_at is not None else state.changed_at or now)
    if target and wished.replicas and idle >= policy.zero_after_seconds:
        wished = Wish(
            replicas=0,
            code="zero-timer",
            reason=f"no sign of need for {idle:.0f} s (zeroAfterSeconds {policy.zero_after_seconds:g})",
        )
    waited = now - state.changed_at if state.changed_at is not None else math.inf
    direction = (wished.replicas > target) - (wished.replicas < target)
    if direction and direction == -state.direction and waited < policy.cooldown_seconds:
        return Wish(
            replicas=target,
            code="cool-down",
            reason=f"{wished.replicas} replicas would do, but the last change is {waited:.0f} s ago "
            f"(cooldownSeconds {policy.cooldown_seconds:g})",
        ), state
    return wished, state


def _short_seconds(policy: BurstPolicy, state: ModelState, load: Load, now: float) -> float | None:
    """Seconds that a whole replica was short by now, half of one counting half; None if nothing is short.

    What is left over in between counts against it. A start is billed whether it was worth it or not, so a
    small or doubtful need has to last longer than a large one.
    """
    if state.short_s is None:
        return 0.0 if load.short > 0 else None
    passed = max(0.0, now - state.in_samples[-1][0])
    short_s = state.short_s + passed * max(-1.0, min(1.0, load.short))
    return min(short_s, policy.scale_out.for_seconds) if short_s > 0 or load.short > 0 else None


def watch_starts(state: ModelState, ready: int | None, now: float) -> ModelState:
    """Measures cold starts: from asking for replicas until the first of them is ready."""
    if ready is None:
        return state
    if state.target <= ready:
        if state.asked_at is not None and ready > state.asked_from:
            state = _started(state, now)
        return changed(state, asked_at=None) if state.asked_at is not None else state
    if state.asked_at is None:
        return changed(state, asked_at=now, asked_from=ready)
    if ready > state.asked_from:
        return changed(_started(state, now), asked_at=now, asked_from=ready)
    return changed(state, asked_from=ready) if ready < state.asked_from else state


def _started(state: ModelState, now: float) -> ModelState:
    took = max(1.0, now - (state.asked_at or now))
    old = state.cold_start_s
    new = took if old is None else old + _COLD_START_WEIGHT * (took - old)
    return changed(state, cold_start_s=new)


def _served(model: BurstModel, in_flight: float, capacity: float, ongoing: float, ready: int | None) -> float:
    """Requests under way without those that only wait, which would look like longer work."""
    onprem = min(in_flight, capacity - model.queue) if capacity > model.queue else in_flight
    return onprem + (ongoing if ready is None else min(ongoing, ready * model.slots))


def _averaged(
    policy: BurstPolicy,
    before: Averages | None,
    signals: ModelSignals,
    served: float,
    now: float,
) -> Averages:
    refused = signals.refused or 0
    # Where arrivals are not counted, the load stands for them, as if every request took a second.
    arrived = signals.arrived if signals.arrived is not None else served * policy.tick_seconds + refused
    let_in = max(0, arrived - refused)
    passed = now - before.at if before is not None else 0.0
    if before is None or passed > _FORGOTTEN_S:
        rate = arrived / policy.tick_seconds
        usual_rate = let_in / policy.tick_seconds
        return Averages(
            at=now, rate=rate, slow_rate=rate, load=served, usual_load=served, usual_rate=usual_rate
        )
    if passed <= 0:
        return before
    # Who takes over counts since its own last look, though nobody decided for longer: too few arrivals would
    # look like a load that is gone. Rounds that are always slow count all rates too high, which cancels out.
    counted_s = min(passed, policy.tick_seconds)
    rate, let_in_rate = arrived / counted_s, let_in / counted_s
    short, slow, long = (
        math.exp(-passed / (ticks * policy.tick_seconds))
        for ticks in (_FAST_TICKS, _SLOW_TICKS, _USUAL_TICKS)
    )
    return Averages(
        at=now,
        rate=rate + short * (before.rate - rate),
        slow_rate=rate + slow * (before.slow_rate - rate),
        load=served + slow * (before.load - served),
        # Where nothing is let in, nothing can be learnt of how long it takes.
        usual_load=served + long * (before.usual_load - served) if let_in else before.usual_load,
        usual_rate=let_in_rate + long * (before.usual_rate - let_in_rate) if let_in else before.usual_rate,
    )


def _levels(averages: Averages, *, refusing: bool) -> tuple[float, float]:
    """The load without chance, seen quickly and seen steadily.

    Little's law: the arrivals of the last rounds times the usual time of service. That says it better than
    the requests under way, which vary with their lengths too, and knows of those that were refused. While
    some are, on-prem may be slower than usual, and the load is at least what is worked on.
    """
    each_s = _each_seconds(averages)
    fast, slow = averages.rate * each_s, averages.slow_rate * each_s
    return (max(fast, averages.load), max(slow, averages.load)) if refusing else (fast, slow)


def _each_seconds(averages: Averages) -> float:
    """The usual time of service of a request, in seconds."""
    known = averages.usual_rate >= _NO_RATE and averages.usual_load > 0
    return averages.usual_load / averages.usual_rate if known else _GUESS_S


def _capacity(in_flight: float, capacity: float, signals: ModelSignals) -> float:
    waiting, cache = signals.onprem_waiting, signals.onprem_kv_usage
    if waiting and cache is not None and cache >= _CACHE_FULL:
        # The cache is full before the slots are: what waits inside the engines is beyond their capacity.
        return min(capacity, max(0.0, in_flight - waiting))
    return capacity


def _beyond(load: float, capacity: float, spare: float) -> float:
    """Places that load and chance want beyond what on-prem has."""
    return load + spare * math.sqrt(load) - capacity


def _room(model: BurstModel, replicas: int) -> float:
    """Places of so many replicas. Once there is one, its queue takes peaks too, so that the next can wait."""
    return replicas * model.slots + _QUEUE_USED * model.queue if replicas else 0.0


def _replicas(model: BurstModel, load: float, capacity: float, spare: float) -> int:
    beyond = _beyond(load, capacity, spare)
    if beyond <= 0 or load < _NO_LOAD:
        return 0
    rest = beyond - _room(model, 1)
    return min(model.max_replicas, 1 + max(0, math.ceil(rest / model.slots - 1e-9)))


def _by_load(policy: BurstPolicy, state: ModelState, load: Load | None, up: int, down: int) -> Wish:
    target = state.target
    if load is None:
        return Wish(replicas=target, code="missing", reason="signals are missing; nothing changes")
    numbers = f"load {load.load:.0f}, on-prem holds {load.capacity:.0f}"
    if up > target:
        return Wish(
            replicas=up,
            code="scale-out",
            reason=f"{numbers}; {up} replicas leave the {_places(load.load, policy.scale_out.spare)} spare "
            f"places of scaleOut; a whole one was short for {policy.scale_out.for_seconds:g} s, or a part of "
            "one for longer",
        )
    if down < target:
        return Wish(
            replicas=down,
            code="scale-in",
            reason=f"{numbers}; {down} replicas leave the {_places(load.load, policy.scale_in.spare)} spare "
            f"places of scaleIn, for {kept_seconds(policy, state):.0f} s or beyond doubt",
        )
    if load.out > target:
        return Wish(
            replicas=target,
            code="sustain",
            reason=f"{numbers}; {load.out} replicas are needed; a whole one was short for "
            f"{state.short_s or 0.0:.0f} s so far, of {policy.scale_out.for_seconds:g} s",
        )
    if load.keep < target:
        return Wish(
            replicas=target,
            code="keep",
            reason=f"{numbers}; {load.keep} replicas would do, not yet for "
            f"{kept_seconds(policy, state):.0f} s",
        )
    if target == 0:
        return Wish(replicas=0, code="idle", reason=f"{numbers}; on-prem is enough")
    return Wish(replicas=target, code="steady", reason=f"{numbers}; {target} replicas are right")


def _places(load: float, spare: float) -> str:
    return f"{spare * math.sqrt(load):.0f}"
