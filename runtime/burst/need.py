"""Need: how many replicas one model's load asks for, seen through thresholds, times and missing signals."""

import math
from dataclasses import dataclass, replace

from runtime.burst.fleet import BurstModel
from runtime.burst.forecast import ahead, remember, trend
from runtime.burst.observation import ModelSignals
from runtime.burst.policy import BurstPolicy
from runtime.burst.state import ModelState
from runtime.burst.windows import least, most

# Refusals hide load, and retries inflate it: more than this factor is not believed.
_MOST_HIDDEN = 4.0
# vLLM preempts when its cache is full (vllm:kv_cache_usage_perc reaches 1); shortly before, it queues.
_CACHE_FULL = 0.95
# Weight of the newest cold start in the measured one.
_COLD_START_WEIGHT = 0.5


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a model's load asks for.

    Attributes:
        load: Requests that want to be under way at once: in flight on both sides, and those refused.
        capacity: Requests that on-prem can hold.
        out: Replicas that keep the load below the upper threshold.
        keep: Replicas that keep it below the lower threshold.
    """

    load: float
    capacity: float
    out: int
    keep: int


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
    """How long a replica stays without need: what the policy says, else what another start would take."""
    kept = policy.scale_in.for_seconds
    return min(cold_start(policy, state) if kept is None else kept, policy.zero_after_seconds)


def measured(
    policy: BurstPolicy, model: BurstModel, state: ModelState, signals: ModelSignals, now: float
) -> tuple[Load | None, ModelState]:
    """The load now, or None where a signal is missing; and the state with its samples."""
    seen = _load(state, signals)
    if seen is None:
        return None, state
    load, capacity = seen
    loads, slope = trend(state.loads, now, load, cold_start(policy, state))
    state = replace(state, loads=loads)
    expected = load
    if policy.forecast:
        # No more than twice of what is there: a slope of a few seconds says little about minutes.
        expected = min(2 * load, load + max(0.0, slope) * cold_start(policy, state))
    found = Load(
        load=load,
        capacity=capacity,
        out=_replicas(model, expected, capacity, policy.scale_out.fill),
        keep=_replicas(model, load, capacity, policy.scale_in.fill),
    )
    state = remember(policy, state, found.keep, now)
    if policy.forecast:
        usual = min(model.max_replicas, ahead(policy, state, now, cold_start(policy, state)))
        found = replace(found, out=max(found.out, usual))
        found = replace(found, keep=max(found.keep, usual))
    return found, state


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
    first = not state.in_samples
    # What was not seen neither adds nor takes away: it counts as if all that is there had been needed.
    out = target if load is None or first or resumed else load.out
    keep = target if load is None or first or resumed else load.keep
    if load is not None and load.keep > 0:
        state = replace(state, needed_at=now)
    outs = least(state.out_samples, now, out, policy.scale_out.for_seconds)
    keeps = most(state.in_samples, now, keep, kept_seconds(policy, state))
    state = replace(state, out_samples=outs, in_samples=keeps)
    up, down = outs[0][1], keeps[0][1]
    wished = _by_load(policy, state, load, up, down)
    idle = now - (state.needed_at if state.needed_at is not None else state.changed_at or now)
    if target and wished.replicas and idle >= policy.zero_after_seconds:
        return Wish(
            replicas=0,
            code="zero-timer",
            reason=f"no sign of need for {idle:.0f} s (zeroAfterSeconds {policy.zero_after_seconds:g})",
        ), state
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


def watch_starts(state: ModelState, ready: int | None, now: float) -> ModelState:
    """Measures cold starts: from asking for replicas until the first of them is ready."""
    if ready is None:
        return state
    if state.target <= ready:
        if state.asked_at is not None and ready > state.asked_from:
            state = _started(state, now)
        return replace(state, asked_at=None) if state.asked_at is not None else state
    if state.asked_at is None:
        return replace(state, asked_at=now, asked_from=ready)
    if ready > state.asked_from:
        return replace(_started(state, now), asked_at=now, asked_from=ready)
    return replace(state, asked_from=ready) if ready < state.asked_from else state


def _started(state: ModelState, now: float) -> ModelState:
    took = max(1.0, now - (state.asked_at or now))
    old = state.cold_start_s
    new = took if old is None else old + _COLD_START_WEIGHT * (took - old)
    return replace(state, cold_start_s=new)


def _load(state: ModelState, signals: ModelSignals) -> tuple[float, float] | None:
    ongoing = signals.eks_ongoing
    if ongoing is None and state.target == 0 and not signals.eks_ready:
        ongoing = 0.0
    if signals.onprem_in_flight is None or signals.onprem_capacity is None or ongoing is None:
        return None
    load = signals.onprem_in_flight + ongoing
    if signals.refused:
        # Little's law: what was let in keeps `load` under way, so what came would keep this much.
        arrived = signals.arrived if signals.arrived is not None else signals.refused + load
        let_in = max(arrived - signals.refused, arrived / _MOST_HIDDEN)
        load = max(load * max(1.0, arrived / let_in), 1.0)
    capacity = signals.onprem_capacity
    waiting, cache = signals.onprem_waiting, signals.onprem_kv_usage
    if waiting and cache is not None and cache >= _CACHE_FULL:
        # The cache is full before the slots are: what waits inside the engines is beyond their capacity.
        capacity = min(capacity, max(0.0, signals.onprem_in_flight - waiting))
    return load, capacity


def _replicas(model: BurstModel, load: float, capacity: float, fill: float) -> int:
    beyond = load / fill - capacity
    return min(model.max_replicas, max(0, math.ceil(beyond / model.slots - 1e-9)))


def _by_load(policy: BurstPolicy, state: ModelState, load: Load | None, up: int, down: int) -> Wish:
    target = state.target
    if load is None:
        return Wish(replicas=target, code="missing", reason="signals are missing; nothing changes")
    numbers = f"load {load.load:.0f}, on-prem holds {load.capacity:.0f}"
    if up > target:
        return Wish(
            replicas=up,
            code="scale-out",
            reason=f"{numbers}; {up} replicas keep the expected load below {policy.scale_out.fill:.0%}, for "
            f"{policy.scale_out.for_seconds:g} s",
        )
    if down < target:
        return Wish(
            replicas=down,
            code="scale-in",
            reason=f"{numbers}; {down} replicas kept it below {policy.scale_in.fill:.0%} for "
            f"{kept_seconds(policy, state):.0f} s",
        )
    if load.out > target:
        return Wish(
            replicas=target,
            code="sustain",
            reason=f"{numbers}; {load.out} replicas are needed, not yet for "
            f"{policy.scale_out.for_seconds:g} s",
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
