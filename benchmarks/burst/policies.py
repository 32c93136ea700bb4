"""Policies that the simulator compares: ours, its rivals, and one that knows the future."""

import math
from collections import deque
from collections.abc import Sequence
from decimal import Decimal

from benchmarks.burst.simulation import TICK_S, Cloud, Look, Overflow, Policy
from runtime.burst.decision import decide
from runtime.burst.fleet import BurstModel, Fleet, NodeGroup
from runtime.burst.observation import GroupSignals, ModelSignals, Observation
from runtime.burst.policy import BurstPolicy, ScaleIn, ScaleOut
from runtime.burst.state import State

MOST_REPLICAS = 24
# A Monday, so that generated weekends are weekends.
_EPOCH = 1_767_571_200.0

_MODEL, _GROUP = "model", "gpu"


def always(replicas: int) -> Policy:
    """So many replicas, all the time; 0 is on-prem only."""
    return lambda look: replicas  # noqa: ARG005


def ours(overflow: Overflow, cloud: Cloud, policy: BurstPolicy) -> Policy:
    """The decision core, called as the controller calls it."""
    fleet = Fleet(
        groups={
            _GROUP: NodeGroup(
                name=_GROUP,
                max_nodes=MOST_REPLICAS,
                usd_per_hour=Decimal(str(cloud.usd_per_hour)),
                devices=cloud.gpus,
            )
        },
        models={
            _MODEL: BurstModel(
                name=_MODEL,
                group=_GROUP,
                max_replicas=MOST_REPLICAS,
                slots=overflow.engine.slots,
                queue=overflow.engine.queue,
                devices_per_pod=cloud.gpus,
            )
        },
    )
    capacity = overflow.copies * overflow.engine.slots + overflow.engine.queue
    state = State()

    def target(look: Look) -> int:
        nonlocal state
        seen = Observation(
            models={
                _MODEL: ModelSignals(
                    onprem_in_flight=look.in_flight,
                    onprem_capacity=capacity,
                    arrived=look.arrived,
                    refused=look.refused,
                    spilled=look.spilled,
                    eks_ongoing=look.ongoing,
                    eks_ready=look.ready,
                    eks_wanted=look.wanted,
                )
            },
            groups={
                _GROUP: GroupSignals(nodes=look.nodes, pending=look.wanted - look.ready, failed_launches=0)
            },
        )
        decision, state = decide(policy, fleet, state, seen, _EPOCH + look.at)
        return decision.models[_MODEL].replicas

    return target


def our_policy(cloud: Cloud, **changes: object) -> BurstPolicy:
    """Our policy with its defaults, without a limit that could bind, told how long a start takes."""
    return BurstPolicy.model_validate(
        {
            "ceiling_usd_per_hour": MOST_REPLICAS * 2 * cloud.usd_per_hour,
            "max_nodes": MOST_REPLICAS * 2,
            "tick_seconds": TICK_S,
            "cold_start_seconds": cloud.cold_start_s,
            "release_seconds": cloud.release_s,
            **changes,
        }
    )


def without_hysteresis(cloud: Cloud, spare: float) -> BurstPolicy:
    """Our policy without sustain times, without cool-down, with one threshold."""
    return our_policy(
        cloud,
        scale_out=ScaleOut(spare=spare, for_seconds=0),
        scale_in=ScaleIn(spare=spare + 0.001, for_seconds=0, gone_spare=40),
        cooldown_seconds=0.0,
    )


def target_qps(
    copies: int,
    qps: float,
    least: int = 0,
    *,
    upscale_s: float = 300.0,
    downscale_s: float = 1200.0,
    window_s: float = 60.0,
    interval_s: float = 20.0,
) -> Policy:
    """SkyServe's request-rate autoscaler, with on-prem copies as the first replicas of the service.

    The replicas are the requests a second over `qps`, rounded up, once that has been more for `upscale_s` or
    fewer for `downscale_s` (SkyPilot, sky/serve/autoscalers.py and constants.py: 300 s, 1200 s, a window of
    60 s, a decision every 20 s).
    """
    arrivals: deque[int] = deque(maxlen=round(window_s / TICK_S))
    every = round(interval_s / TICK_S)
    count, target, above, below = 0, least, 0, 0

    def decide_replicas(look: Look) -> int:
        nonlocal count, target, above, below
        arrivals.append(look.arrived)
        count += 1
        if count % every:
            return target
        rate = sum(arrivals) / window_s
        wanted = min(MOST_REPLICAS, max(least, math.ceil(rate / qps) - copies))
        above = above + 1 if wanted > target else 0
        below = below + 1 if wanted < target else 0
        if above * interval_s >= upscale_s or below * interval_s >= downscale_s:
            if above or below:
                target = wanted
            above = below = 0
        return target

    return decide_replicas


def clairvoyant(
    overflow: Overflow,
    cloud: Cloud,
    usd_per_refusal: float,
    fill: float = 1.0,
    load: Sequence[float] | None = None,
) -> Policy:
    """Knows the future: starts replicas early, and keeps them where that is cheaper than another start.

    The k-th replica is on where the load fills it. For each k this is the cheapest way through all ticks, by
    dynamic programming, if a refused request costs `usd_per_refusal`. That trades refusals for money as well
    as any schedule of whole replicas can, as far as a replica's load is what is above k-1 full ones. `load`
    is what `unlimited` returns, where it is known already.
    """
    load = unlimited(overflow) if load is None else load
    usual = sum(overflow.service_s) / max(1, len(overflow.service_s))
    slots = overflow.engine.slots * fill
    on_usd = cloud.usd_per_hour * TICK_S / 3600
    start_usd = cloud.usd_per_hour * (cloud.cold_start_s + cloud.release_s) / 3600
    schedule = [0] * len(load)
    most = min(MOST_REPLICAS, math.ceil(max(load, default=0) / slots))
    for level in range(most):
        worth = usd_per_refusal * TICK_S / usual if usual else 0.0
        lost = [min(max(value - level * slots, 0.0), slots) * worth for value in load]
        for tick, is_on in enumerate(cheapest(lost, on_usd, start_usd)):
            schedule[tick] += is_on
    early = round(cloud.cold_start_s / TICK_S)
    ahead = [
        max(schedule[tick], schedule[min(len(schedule) - 1, tick + early)]) for tick in range(len(schedule))
    ]

    def target(look: Look) -> int:
        tick = round(look.at / TICK_S)
        return ahead[tick] if look.wanted < ahead[tick] else max(ahead[tick], schedule[tick])

    return target


def unlimited(overflow: Overflow) -> list[float]:
    """The mean load that the overflow would be in each tick, if the cloud had no limit."""
    ticks = len(overflow.in_flight)
    load = [0.0] * ticks
    for time, service in zip(overflow.times, overflow.service_s, strict=True):
        end = time + service
        tick = int(time / TICK_S)
        while tick < ticks and tick * TICK_S < end:
            load[tick] += (min(end, (tick + 1) * TICK_S) - max(time, tick * TICK_S)) / TICK_S
            tick += 1
    return load


def cheapest(lost: Sequence[float], on_usd: float, start_usd: float) -> list[bool]:
    """Whether to be on in each tick, so that the sum of on, start and loss is least."""
    off, on = 0.0, start_usd
    came_from: list[tuple[bool, bool]] = []
    for loss in lost:
        off_from_on, on_from_on = on < off, on <= off + start_usd
        off, on = (
            (on if off_from_on else off) + loss,
            (on if on_from_on else off + start_usd) + on_usd,
        )
        came_from.append((off_from_on, on_from_on))
    state = on < off
    states: list[bool] = []
    for off_from_on, on_from_on in reversed(came_from):
        states.append(state)
        state = on_from_on if state else off_from_on
    states.reverse()
    return states
