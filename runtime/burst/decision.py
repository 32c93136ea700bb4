"""The decision core: how many replicas each model gets in the cloud. Pure: no clock, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from runtime.burst import circuit
from runtime.burst.budget import Means, latest, mixed_groups, share, spend
from runtime.burst.fleet import BurstModel, Fleet
from runtime.burst.need import Wish, cold_start, fresh, measured, watch_starts, wish
from runtime.burst.observation import GroupSignals, ModelSignals, Observation
from runtime.burst.policy import BurstPolicy
from runtime.burst.state import GroupState, ModelState, State, changed

REASONS: Mapping[str, str] = {
    "idle": "on-prem is enough, and there are no replicas",
    "steady": "the replicas that there are are right",
    "sustain": "more are needed, but not yet for long enough",
    "scale-out": "more are needed, for long enough",
    "keep": "fewer would do, but not yet for long enough",
    "scale-in": "fewer do, for long enough",
    "cool-down": "the last change in the other direction is too recent",
    "missing": "signals are missing, so nothing changes",
    "zero-timer": "no sign of need for so long that all replicas go",
    "schedule": "the schedule keeps more than load needs",
    "switch-on": "the manual switch says so",
    "switch-off": "the manual switch says none",
    "ceiling": "more would cost more per hour than the ceiling",
    "max-nodes": "more would need more nodes than maxNodes",
    "group-max": "more would need more nodes than the node group may have",
    "burst-hours": "more would use up the node-hours of the month",
    "nodes-unknown": "it is not known which nodes exist, so nothing is added",
    "circuit-open": "launches failed, so nothing more is asked for now",
    "circuit-probing": "launches failed before, so one replica at a time is tried",
}
"""Reason codes and what they mean."""

_UNSEEN = ModelSignals()


@dataclass(frozen=True, kw_only=True)
class ModelDecision:
    """What is decided for one model.

    Attributes:
        replicas: Replicas that Ray Serve on EKS shall run; the actuator sets it whenever Serve's differs.
        wanted: Replicas that load, schedule or switch ask for, before ceiling, budget and circuit.
        code: Reason for machines, one of `REASONS`.
        reason: Reason for people: one sentence with the numbers.
    """

    replicas: int
    wanted: int
    code: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What is decided for all.

    Attributes:
        models: By name, one for each model of the fleet.
        nodes: Nodes set aside, by node group: those that exist and those that may come.
        usd_per_hour: What they cost; at most the ceiling unless nodes exist that nobody asked for.
        node_hours: Node-hours of this calendar month so far.
        month_usd: USD of this calendar month so far.
        open_circuits: Node groups that nothing is asked of now, because launches failed.
    """

    models: Mapping[str, ModelDecision]
    nodes: Mapping[str, int]
    usd_per_hour: Decimal
    node_hours: float
    month_usd: float
    open_circuits: tuple[str, ...]


def decide(
    policy: BurstPolicy, fleet: Fleet, state: State, observation: Observation, now: float
) -> tuple[Decision, State]:
    """Decides once.

    Args:
        policy: The stack's `burst` setting.
        fleet: What can be used, with prices.
        state: What the decision before returned, or `State()`.
        observation: What is seen now.
        now: Unix time in seconds. It may jump; budgets and circuits stay safe.

    Returns:
        The decision, and the state for the next one. Store the state before acting on the decision: what is
        set aside must not be forgotten.
    """
    if state.at is not None and now < state.at:
        state = _set_back(state, now - state.at)
    resumed = state.at is not None and now - state.at > max(policy.stale_seconds, 3 * policy.tick_seconds)
    signals = {name: fresh(policy, observation.models.get(name, _UNSEEN)) for name in fleet.models}
    models = {
        name: _entered(state.models.get(name), model, signals[name], now)
        for name, model in fleet.models.items()
    }
    groups, existing, known = _groups(policy, fleet, state, observation)
    spent = spend(policy, fleet, state, existing, now)

    models, groups = _launches(policy, fleet, models, groups, signals, observation, now)
    wishes: dict[str, Wish] = {}
    for name, model in fleet.models.items():
        load, before = measured(policy, model, models[name], signals[name], now)
        found, before = wish(policy, before, load, now, resumed=resumed)
        wishes[name], models[name] = _overruled(policy, model, before, found, now)

    means = Means(
        policy=policy,
        fleet=fleet,
        targets={name: found.target for name, found in models.items()},
        asked={
            name: found.target if (wanted := signals[name].eks_wanted) is None else wanted
            for name, found in models.items()
        },
        doubled=frozenset(name for name, found in signals.items() if found.eks_upgrading),
        existing=existing,
        reserved={name: found.reserved for name, found in groups.items()},
        unasked={name: max(0, existing[name] - groups[name].reserved) for name in groups},
        known=known,
        node_hours=spent.node_hours,
        mixed=mixed_groups(fleet),
    )
    granted, limits = _granted(policy, means, models, groups, wishes, signals, now)
    nodes = _set_aside(means, granted, signals, observation)

    decisions = {
        name: _decided(means, wishes[name], granted[name], limits.get(name), groups, name)
        for name in fleet.models
    }
    models = {name: _noted(models[name], decisions[name], now) for name in models}
    month = policy.month(now)
    after = State(
        at=now,
        models=models,
        groups={
            name: changed(found, reserved=nodes[name], nodes=existing[name] if name in known else found.nodes)
            for name, found in groups.items()
        },
        months=latest({**state.months, month: spent}),
    )
    decision = Decision(
        models=decisions,
        nodes=nodes,
        usd_per_hour=means.cost(nodes),
        node_hours=spent.node_hours,
        month_usd=spent.usd,
        open_circuits=tuple(name for name, found in groups.items() if found.open_until is not None),
    )
    return decision, after


def explain(policy: BurstPolicy, fleet: Fleet, state: State, now: float) -> str:
    """Why it is where it is, what would change it, what is spent and what is set aside, as text.

    Args:
        policy: The stack's `burst` setting.
        fleet: What can be used.
        state: What the last decision returned.
        now: Unix time in seconds.
    """
    if state.at is None:
        return "nothing was decided yet\n"
    spent = state.months.get(policy.month(now))
    hours, usd = (spent.node_hours, spent.usd) if spent else (0.0, 0.0)
    usd_per_hour = sum(
        (
            fleet.groups[name].usd_per_hour * found.reserved
            for name, found in state.groups.items()
            if name in fleet.groups
        ),
        Decimal(0),
    )
    budget = "no limit" if policy.burst_hours_per_month is None else f"of {policy.burst_hours_per_month:g}"
    lines = [
        f"decided {now - state.at:.0f} s ago; one decision every {policy.tick_seconds:g} s",
        f"set aside: {usd_per_hour:.2f} of {policy.ceiling:.2f} USD per hour, "
        f"{sum(found.reserved for found in state.groups.values())} of {policy.max_nodes} nodes",
        f"spent in {policy.month(now)}: {hours:.1f} node-hours ({budget}), {usd:.2f} USD at on-demand prices",
    ]
    for name, model in fleet.models.items():
        found = state.models.get(name, ModelState())
        lines.append(
            f"{name}: {found.target} of at most {model.max_replicas} replicas; wanted {found.wanted}"
        )
        lines.append(f"  {found.code}: {found.reason}")
        lines.extend(f"  {line}" for line in _what_next(policy, found, now))
    for name, found in state.groups.items():
        line = f"node group {name}: {found.nodes if found.nodes is not None else 'unknown'} nodes, "
        line += f"{found.reserved} set aside"
        if found.open_until is not None:
            line += f"; circuit open for {max(0.0, found.open_until - now):.0f} s more"
        elif found.failures:
            line += f"; {found.failures} failed launches, {policy.launches.failures} open the circuit"
        lines.append(line)
    return "\n".join(lines) + "\n"


def _what_next(policy: BurstPolicy, state: ModelState, now: float) -> list[str]:
    lines: list[str] = []
    if state.asked_at is not None:
        lines.append(
            f"starting for {now - state.asked_at:.0f} s; usual {cold_start(policy, state):.0f} s, a failure "
            f"after {policy.launches.timeout_seconds:g} s"
        )
    if state.changed_at is not None and now - state.changed_at < policy.cooldown_seconds:
        other = "down" if state.direction > 0 else "up"
        lines.append(f"may go {other} in {policy.cooldown_seconds - (now - state.changed_at):.0f} s")
    if state.target and state.needed_at is not None:
        left = policy.zero_after_seconds - (now - state.needed_at)
        lines.append(f"goes to zero in {max(0.0, left):.0f} s without a sign of need")
    return lines


def _entered(state: ModelState | None, model: BurstModel, signals: ModelSignals, now: float) -> ModelState:
    """A model's state; one that is seen for the first time starts from what runs."""
    if state is None:
        state = ModelState(target=signals.eks_wanted or 0, needed_at=now)
    return changed(state, target=model.max_replicas) if state.target > model.max_replicas else state


def _groups(
    policy: BurstPolicy, fleet: Fleet, state: State, observation: Observation
) -> tuple[dict[str, GroupState], dict[str, int], frozenset[str]]:
    groups: dict[str, GroupState] = {}
    existing: dict[str, int] = {}
    known: set[str] = set()
    for name in fleet.groups:
        seen = observation.groups.get(name, GroupSignals())
        nodes = None if (seen.age_s or 0.0) > policy.stale_seconds else seen.nodes
        # What is there at the first look was asked for by someone before us.
        found = state.groups.get(name, GroupState(reserved=nodes or 0))
        groups[name] = found
        existing[name] = max(found.reserved, found.nodes or 0) if nodes is None else nodes
        if nodes is not None:
            known.add(name)
    return groups, existing, frozenset(known)


def _launches(
    policy: BurstPolicy,
    fleet: Fleet,
    models: Mapping[str, ModelState],
    groups: Mapping[str, GroupState],
    signals: Mapping[str, ModelSignals],
    observation: Observation,
    now: float,
) -> tuple[dict[str, ModelState], dict[str, GroupState]]:
    """Measures starts, and counts those that failed or took too long."""
    failed = {name: observation.groups.get(name, GroupSignals()).failed_launches or 0 for name in groups}
    started = dict.fromkeys(groups, False)
    watched: dict[str, ModelState] = {}
    for name, before in models.items():
        after = watch_starts(before, signals[name].eks_ready, now)
        group = fleet.models[name].group
        if after.cold_start_s is not before.cold_start_s:
            started[group] = True
        if after.asked_at is not None and now - after.asked_at >= policy.launches.timeout_seconds:
            failed[group] += 1
            after = changed(after, asked_at=now)
        watched[name] = after
    stepped = {
        name: circuit.step(policy.launches, found, failed=failed[name], started=started[name], now=now)
        for name, found in groups.items()
    }
    return watched, stepped


def _overruled(
    policy: BurstPolicy, model: BurstModel, state: ModelState, found: Wish, now: float
) -> tuple[Wish, ModelState]:
    """What schedule and switch make of the load's wish."""
    mode = policy.mode(model.name, now)
    if mode == "off":
        return Wish(replicas=0, code="switch-off", reason="the switch is off"), state
    if mode == "on":
        replicas = min(policy.switch.replicas or 0, model.max_replicas)
        reason = f"the switch keeps {replicas} replicas until {policy.switch.until}"
        return Wish(replicas=replicas, code="switch-on", reason=reason), changed(state, needed_at=now)
    scheduled = min(policy.scheduled(model.name, now, cold_start(policy, state)), model.max_replicas)
    if scheduled:
        state = changed(state, needed_at=now)
    if scheduled > found.replicas:
        return Wish(
            replicas=scheduled,
            code="schedule",
            reason=f"the schedule keeps {scheduled} replicas now or in {cold_start(policy, state):.0f} s",
        ), state
    return found, state


def _granted(
    policy: BurstPolicy,
    means: Means,
    models: Mapping[str, ModelState],
    groups: Mapping[str, GroupState],
    wishes: Mapping[str, Wish],
    signals: Mapping[str, ModelSignals],
    now: float,
) -> tuple[dict[str, int], dict[str, str]]:
    """Replicas that circuit, ceiling, nodes and node-hours allow, and which of them stood in the way."""
    limits: dict[str, str] = {}
    wanted: dict[str, int] = {}
    held: dict[str, int] = {}
    for name, found in wishes.items():
        state, group = models[name], groups[means.fleet.models[name].group]
        wanted[name] = found.replicas
        ready = signals[name].eks_ready
        if group.open_until is not None:
            most, limit = (state.target if ready is None else min(ready, state.target)), "circuit-open"
        elif circuit.probing(group):
            most, limit = (state.target if ready is None else ready + 1), "circuit-probing"
        else:
            most, limit = found.replicas, ""
        if most < found.replicas:
            wanted[name] = most
            limits[name] = limit
        recent = state.changed_at is not None and now - state.changed_at < policy.cooldown_seconds
        held[name] = min(wanted[name], state.target) if recent and state.direction > 0 else 0

    def keeps(replicas: Mapping[str, int]) -> str | None:
        return means.affordable(replicas)

    fair, short = share(means, wanted, held, keeps)
    if short and keeps(fair) is not None:
        # The limits win over the cool-down.
        fair, short = share(means, wanted, {}, keeps)
    base = {name: min(count, max(fair[name], 0), means.targets[name]) for name, count in wanted.items()}
    granted, refused = share(means, fair, base, means.refusal)
    for name, count in granted.items():
        if count < wanted[name]:
            group = means.fleet.models[name].group
            limits[name] = (short if fair[name] < wanted[name] else refused).get(group, "ceiling")
    return granted, limits


def _set_aside(
    means: Means,
    granted: Mapping[str, int],
    signals: Mapping[str, ModelSignals],
    observation: Observation,
) -> dict[str, int]:
    """Nodes that money is set aside for, by group, once the decision is acted on."""
    nodes = means.committed(granted)
    for group in means.mixed:
        settled = observation.groups.get(group, GroupSignals()).pending == 0 and all(
            signals[name].eks_ready == granted[name] == means.targets[name]
            for name, model in means.fleet.models.items()
            if model.group == group
        )
        if not settled:
            nodes[group] = max(nodes[group], means.reserved[group])
        elif group in means.known:
            nodes[group] = means.existing[group]
    return nodes


def _decided(
    means: Means,
    found: Wish,
    granted: int,
    limit: str | None,
    groups: Mapping[str, GroupState],
    name: str,
) -> ModelDecision:
    if limit is None or granted >= found.replicas:
        return ModelDecision(replicas=granted, wanted=found.replicas, code=found.code, reason=found.reason)
    policy, group = means.policy, means.fleet.groups[means.fleet.models[name].group]
    numbers = {
        "ceiling": f"ceilingUsdPerHour is {policy.ceiling_usd_per_hour:g}, and a node of {group.name} costs "
        f"{group.usd_per_hour:g}",
        "max-nodes": f"maxNodes is {policy.max_nodes}",
        "group-max": f"node group {group.name} has at most {group.max_nodes} nodes",
        "burst-hours": f"{means.node_hours:.1f} of {policy.burst_hours_per_month or 0:g} node-hours are used",
        "nodes-unknown": f"the nodes of {group.name} are not known now",
        "circuit-open": f"{groups[group.name].failures} launches on {group.name} failed in a row",
        "circuit-probing": f"launches on {group.name} failed before; one replica at a time",
    }[limit]
    return ModelDecision(
        replicas=granted,
        wanted=found.replicas,
        code=limit,
        reason=f"{granted} of {found.replicas} replicas: {numbers} ({found.reason})",
    )


def _noted(state: ModelState, decided: ModelDecision, now: float) -> ModelState:
    said = {"wanted": decided.wanted, "code": decided.code, "reason": decided.reason}
    if decided.replicas == state.target:
        return changed(state, **said)
    direction = 1 if decided.replicas > state.target else -1
    return changed(state, target=decided.replicas, changed_at=now, direction=direction, short_s=None, **said)


def _set_back(state: State, seconds: float) -> State:
    """The state with all its times moved by as much as the clock went back, so that no wait grows."""

    def moved(time: float | None) -> float | None:
        return None if time is None else time + seconds

    models = {
        name: changed(
            found,
            changed_at=moved(found.changed_at),
            needed_at=moved(found.needed_at),
            asked_at=moved(found.asked_at),
            in_samples=tuple((time + seconds, value) for time, value in found.in_samples),
            averages=None
            if found.averages is None
            else changed(found.averages, at=found.averages.at + seconds),
        )
        for name, found in state.models.items()
    }
    groups = {
        name: changed(found, open_until=moved(found.open_until)) for name, found in state.groups.items()
    }
    return changed(state, models=models, groups=groups)
