"""The simulator: requests on on-prem copies, what they cannot take on burst replicas, the rest refused.

On-prem is the same whatever the cloud does, because a request goes there first. So each trace runs through
on-prem once, and each policy is tried on what overflowed.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heapreplace
from typing import NamedTuple

from benchmarks.burst.traces import Trace, per_minute

TICK_S = 10.0
BIN_S = 0.01
_BINS = 12_000


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What one copy of the model can do, on-prem as in the cloud.

    Attributes:
        slots: Requests in its batch (`maxSequences`). Each decodes at the speed of a full batch.
        queue: Requests that wait on either side when all its copies are full (`maxQueuedRequests`).
        prefill_tokens_s: Prompt tokens a second.
        token_s: Seconds for each token of the answer.
    """

    slots: int = 16
    queue: int = 16
    prefill_tokens_s: float = 4000.0
    token_s: float = 0.05


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """What a burst replica costs, in time and money. One replica fills one node.

    Attributes:
        cold_start_s: From asking for it to its first request; billed.
        release_s: From its last request to the end of its node; billed.
        usd_per_hour: Price of its node; here g6e.12xlarge in us-east-1, 2026-07.
        gpus: GPUs of its node.
        link_s: Time that the way over the link adds to the first token.
        least_billed_s: EC2 bills at least a minute.
    """

    cold_start_s: float = 180.0
    release_s: float = 60.0
    usd_per_hour: float = 10.493
    gpus: int = 4
    link_s: float = 0.03
    least_billed_s: float = 60.0


class Delays:
    """A histogram of times to the first token, in bins of 10 ms."""

    def __init__(self, bins: list[int] | None = None) -> None:
        self.bins = list(bins) if bins is not None else [0] * (_BINS + 1)

    def add(self, seconds: float) -> None:
        """Counts one; beyond two minutes is the last bin."""
        self.bins[min(_BINS, int(seconds / BIN_S))] += 1

    @property
    def count(self) -> int:
        """How many were counted."""
        return sum(self.bins)

    def quantile(self, share: float) -> float:
        """The time that so large a share did not exceed, in seconds; 0 if none was counted."""
        rest = share * self.count
        for index, number in enumerate(self.bins):
            rest -= number
            if rest <= 0:
                return (index + 1) * BIN_S if number else 0.0
        return 0.0


@dataclass(frozen=True, kw_only=True)
class Overflow:
    """What one trace did to on-prem, and what it left over.

    Attributes:
        trace: The trace's name.
        sent: Requests in it.
        seconds: Its length.
        copies: On-prem copies.
        engine: Each of them.
        onprem: Times to the first token of those served there.
        in_flight: On-prem requests under way, running and waiting, at each tick.
        arrived: Requests that came in the tick before it.
        times: Arrivals of the overflow.
        prefill_s: Their prefill times.
        service_s: Their whole service times.
    """

    trace: str
    sent: int
    seconds: float
    copies: int
    engine: Engine
    onprem: Delays
    in_flight: list[int]
    arrived: list[int]
    times: array[float]
    prefill_s: array[float]
    service_s: array[float]


class Look(NamedTuple):
    """What a policy sees at a tick.

    Attributes:
        at: Seconds since the trace's begin.
        in_flight: On-prem requests under way.
        arrived: Requests that came since the tick before.
        spilled: Those of them that the cloud took.
        refused: Those of them that nobody took.
        ongoing: Requests under way in the cloud.
        ready: Replicas that answer.
        wanted: Replicas asked for.
        nodes: Nodes that are billed.
    """

    at: float
    in_flight: int
    arrived: int
    spilled: int
    refused: int
    ongoing: int
    ready: int
    wanted: int
    nodes: int


Policy = Callable[[Look], int]
"""Says at each tick how many replicas there shall be."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one policy made of one overflow.

    Attributes:
        sent: Requests.
        onprem: Those served on-prem.
        spilled: Those served in the cloud.
        refused: Those refused with Retry-After.
        p50_s: Median time to the first token of the served.
        p95_s: 95th percentile of it.
        node_hours: Node-hours billed.
        usd: What they cost.
        gpu_hours: GPU-hours billed.
        starts: Replicas started.
        replicas: Replicas that answer, at each tick.
    """

    sent: int
    onprem: int
    spilled: int
    refused: int
    p50_s: float
    p95_s: float
    node_hours: float
    usd: float
    gpu_hours: float
    starts: int
    replicas: list[int] = field(repr=False)


@dataclass(slots=True)
class _Replica:
    asked: float
    ready: float
    slots: list[float]


def copies_at_quantile(trace: Trace, engine: Engine, share: float = 0.75) -> int:
    """Copies that hold the load of the minute at this quantile of all minutes, without a queue."""
    work = array(
        "d",
        (
            context / engine.prefill_tokens_s + generated * engine.token_s
            for context, generated in zip(trace.context, trace.generated, strict=True)
        ),
    )
    minutes = sorted(per_minute(trace.times, work))
    load = minutes[min(len(minutes) - 1, int(share * len(minutes)))] / 60
    return max(1, -int(-load // engine.slots))


def through_onprem(trace: Trace, engine: Engine, copies: int, tick_s: float = TICK_S) -> Overflow:
    """Runs a trace through on-prem, first come first served, into the slot that is free first."""
    ticks = int(trace.seconds // tick_s) + 2
    came, let_in, ended = [0] * (ticks + 1), [0] * (ticks + 1), [0] * (ticks + 1)
    slots = [0.0] * (copies * engine.slots)
    waiting: deque[float] = deque()
    delays = Delays()
    bins = delays.bins
    times, prefills, services = array("d"), array("d"), array("d")
    prefill_s, token_s, queue = 1 / engine.prefill_tokens_s, engine.token_s, engine.queue
    for time, context, generated in zip(trace.times, trace.context, trace.generated, strict=True):
        prefill = context * prefill_s
        service = prefill + generated * token_s
        tick = int(time / tick_s) + 1
        came[tick] += 1
        while waiting and waiting[0] <= time:
            waiting.popleft()
        start = slots[0]
        if start <= time:
            start = time
        elif len(waiting) < queue:
            waiting.append(start)
        else:
            times.append(time)
            prefills.append(prefill)
            services.append(service)
            continue
        heapreplace(slots, start + service)
        let_in[tick] += 1
        ended[min(ticks, int((start + service) / tick_s) + 1)] += 1
        bins[min(_BINS, int((start - time + prefill) / BIN_S))] += 1
    in_flight: list[int] = []
    under_way = 0
    for tick in range(ticks):
        under_way += let_in[tick] - ended[tick]
        in_flight.append(under_way)
    return Overflow(
        trace=trace.name,
        sent=len(trace),
        seconds=trace.seconds,
        copies=copies,
        engine=engine,
        onprem=delays,
        in_flight=in_flight,
        arrived=came[:ticks],
        times=times,
        prefill_s=prefills,
        service_s=services,
    )


def through_cloud(overflow: Overflow, cloud: Cloud, policy: Policy, tick_s: float = TICK_S) -> Outcome:
    """Runs an overflow through replicas that a policy asks for at each tick.

    A request takes the slot that is free first, on the oldest replica of several. A replica that is given up
    takes no more requests and ends those it has.
    """
    engine = overflow.engine
    replicas: list[_Replica] = []
    waiting: deque[float] = deque()
    delays = Delays(overflow.onprem.bins)
    bins, onprem = delays.bins, overflow.onprem.count
    ticks = len(overflow.in_flight)
    ended = [0] * (ticks + 1)
    gone: list[float] = []
    answering: list[int] = []
    billed_s, starts, ongoing, all_spilled, all_refused = 0.0, 0, 0, 0, 0
    index, count = 0, len(overflow.times)
    times, prefills, services = overflow.times, overflow.prefill_s, overflow.service_s
    for tick in range(ticks):
        now = tick * tick_s
        spilled = refused = 0
        serving = [(replica.ready, replica.slots) for replica in replicas if replica.ready < now]
        if not serving:
            came = bisect_left(times, now, index)
            refused, index = came - index, came
        while index < count and times[index] < now:
            time = times[index]
            best = None
            for ready_at, slots in serving:
                if ready_at <= time and (best is None or slots[0] < best[0]):
                    best = slots
                    if best[0] <= time:
                        break
            while waiting and waiting[0] <= time:
                waiting.popleft()
            if best is None or (best[0] > time and len(waiting) >= engine.queue):
                refused += 1
            else:
                start = best[0]
                if start <= time:
                    start = time
                else:
                    waiting.append(start)
                end = start + services[index]
                heapreplace(best, end)
                ended[min(ticks, int(end / tick_s) + 1)] += 1
                delay = start - time + prefills[index] + cloud.link_s
                bins[min(_BINS, int(delay / BIN_S))] += 1
                spilled += 1
            index += 1
        ongoing += spilled - ended[tick]
        all_spilled += spilled
        all_refused += refused
        if gone:
            gone = [end for end in gone if end > now]
        ready = sum([replica.ready <= now for replica in replicas])
        answering.append(ready)
        wanted = policy(
            Look(
                at=now,
                in_flight=overflow.in_flight[tick],
                arrived=overflow.arrived[tick],
                spilled=spilled,
                refused=refused,
                ongoing=ongoing,
                ready=ready,
                wanted=len(replicas),
                nodes=len(replicas) + len(gone),
            )
        )
        while len(replicas) < wanted:
            replicas.append(_Replica(asked=now, ready=now + cloud.cold_start_s, slots=[0.0] * engine.slots))
            starts += 1
        while len(replicas) > wanted:
            left = replicas.pop()
            end = max(now, *left.slots) + cloud.release_s
            gone.append(end)
            billed_s += max(cloud.least_billed_s, end - left.asked)
    finish = ticks * tick_s
    billed_s += sum(finish - replica.asked for replica in replicas)
    hours = billed_s / 3600
    return Outcome(
        sent=overflow.sent,
        onprem=onprem,
        spilled=all_spilled,
        refused=all_refused,
        p50_s=delays.quantile(0.5),
        p95_s=delays.quantile(0.95),
        node_hours=hours,
        usd=hours * cloud.usd_per_hour,
        gpu_hours=hours * cloud.gpus,
        starts=starts,
        replicas=answering,
    )
