"""Budget: which replicas can be paid for. Nodes are packed, priced and set aside before they are wanted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property

from runtime.burst.fleet import Fleet
from runtime.burst.policy import BurstPolicy
from runtime.burst.state import GroupState, Spent, State

_MONTHS_KEPT = 3
_HOUR_S = 3600.0

Replicas = Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Means:
    """What there is to pay with, and what is already taken, at one decision.

    Attributes:
        policy: The limits.
        fleet: Groups and prices.
        targets: Replicas decided last, by model.
        asked: Replicas that EKS is told to run now, by model; it may not have heard of the targets yet.
        doubled: Models of which an upgrade runs every replica twice now.
        existing: Nodes that exist, by group; where that is not known, those set aside.
        reserved: Nodes set aside until now, by group.
        unasked: Nodes that exist beyond those set aside, by group.
        known: Groups whose nodes are known.
        node_hours: Node-hours of this month so far.
        mixed: Groups whose pods differ in size.
    """

    policy: BurstPolicy
    fleet: Fleet
    targets: Replicas
    asked: Replicas
    doubled: frozenset[str]
    existing: Mapping[str, int]
    reserved: Mapping[str, int]
    unasked: Mapping[str, int]
    known: frozenset[str]
    node_hours: float
    mixed: frozenset[str]

    def packed(self, replicas: Replicas) -> dict[str, int]:
        """Nodes that so many replicas need, by group."""
        nodes = dict.fromkeys(self.fleet.groups, 0)
        for name, count in replicas.items():
            if count:
                group, pods, fits = self._shapes[name]
                nodes[group] += -(-count * pods // fits)
        return nodes

    def committed(self, replicas: Replicas) -> dict[str, int]:
        """Nodes that may exist if so many replicas are asked for: those that do, and those that will."""
        packed = self.packed({name: max(count, self.asked[name]) for name, count in replicas.items()})
        nodes = {group: max(self.existing[group], count) for group, count in packed.items()}
        for group in self.mixed:
            # Pods of several sizes can leave gaps that none of the new ones fits, so these count in full.
            taken = max(self.existing[group], self.reserved[group])
            nodes[group] = max(nodes[group], taken + self._added(group, replicas))
        return nodes

    def affordable(self, replicas: Replicas) -> str | None:
        """The limit that so many replicas alone would break, or None; nodes on their way out do not count."""
        nodes = {group: count + self.unasked[group] for group, count in self.packed(replicas).items()}
        return self._beyond(nodes, replicas, extra_s=0.0)

    def refusal(self, replicas: Replicas) -> str | None:
        """The limit that asking for so many replicas would break, or None; all nodes that exist count."""
        raised = [name for name, count in replicas.items() if count > self.targets.get(name, 0)]
        if not raised:
            return self.affordable(replicas)
        nodes = self.committed(replicas)
        for name in raised:
            if self.fleet.models[name].group not in self.known:
                return "nodes-unknown"
        return self._beyond(nodes, replicas, extra_s=self.policy.cold_start_seconds)

    def cost(self, nodes: Mapping[str, int]) -> Decimal:
        """USD per hour of so many nodes."""
        return sum(
            (self.fleet.groups[group].usd_per_hour * count for group, count in nodes.items()), Decimal(0)
        )

    def _beyond(self, nodes: Mapping[str, int], replicas: Replicas, extra_s: float) -> str | None:
        if not any(replicas.values()):
            return None
        if self.cost(nodes) > self.policy.ceiling:
            return "ceiling"
        if sum(nodes.values()) > self.policy.max_nodes:
            return "max-nodes"
        full = {group for group, count in nodes.items() if count > self.fleet.groups[group].max_nodes}
        if full and any(count and self.fleet.models[name].group in full for name, count in replicas.items()):
            return "group-max"
        budget = self.policy.burst_hours_per_month
        if budget is not None:
            billed = sum(max(count, self.existing[group]) for group, count in nodes.items())
            # What is asked for runs at least until it can be given up, and then until it is gone.
            ahead_s = 2 * self.policy.tick_seconds + self.policy.release_seconds + extra_s
            if self.node_hours + billed * ahead_s / _HOUR_S > budget:
                return "burst-hours"
        return None

    @cached_property
    def _shapes(self) -> Mapping[str, tuple[str, int, int]]:
        """By model: its group, the pods of one replica, and how many of them fit a node.

        The search for a fair split packs everything dozens of times, so this is looked up once.
        """
        return {
            name: (
                model.group,
                model.pods_per_replica * max(2 if name in self.doubled else 1, model.surge),
                self.fleet.pods_per_node(model),
            )
            for name, model in self.fleet.models.items()
        }

    def _added(self, group: str, replicas: Replicas) -> int:
        nodes = 0
        for name, count in replicas.items():
            of, pods, fits = self._shapes[name]
            more = count - self.targets.get(name, 0)
            if of == group and more > 0:
                nodes += -(-more * pods // fits)
        return nodes


def mixed_groups(fleet: Fleet) -> frozenset[str]:
    """Node groups on which pods of different sizes run."""
    sizes: dict[str, set[int]] = {}
    for model in fleet.models.values():
        sizes.setdefault(model.group, set()).add(model.devices_per_pod)
    return frozenset(group for group, found in sizes.items() if len(found) > 1)


def share(
    means: Means, wanted: Replicas, held: Replicas, refuses: Callable[[Replicas], str | None]
) -> tuple[dict[str, int], dict[str, str]]:
    """The fairest split that is not refused: every model gets the same USD per hour, if it wants so much.

    Args:
        means: What there is.
        wanted: Replicas that each model wants; none gets more.
        held: Replicas that each keeps in any case, at most what it wants.
        refuses: Names the limit that a split breaks; what it allows, it allows for less too.

    Returns:
        The split, and by node group the limit that stands in the way of one replica more.
    """
    if refuses(wanted) is None:
        return dict(wanted), {}
    prices = {
        name: means.fleet.groups[model.group].usd_per_hour
        * model.pods_per_replica
        / means.fleet.pods_per_node(model)
        for name, model in means.fleet.models.items()
    }

    def level(usd: Decimal) -> dict[str, int]:
        return {
            name: max(min(count, held.get(name, 0)), min(count, int(usd / prices[name])))
            for name, count in wanted.items()
        }

    low, high = Decimal(0), max(prices[name] * count for name, count in wanted.items())
    if (limit := refuses(level(low))) is not None:
        return level(low), dict.fromkeys(means.fleet.groups, limit)
    step = min(prices.values()) / 2
    while high - low > step:
        middle = (low + high) / 2
        low, high = (middle, high) if refuses(level(middle)) is None else (low, middle)
    found = level(low)
    # What is left over goes to one model after the other, those with the least first.
    for name in sorted(found, key=lambda name: (found[name] * prices[name], name)):
        if found[name] < wanted[name] and refuses({**found, name: found[name] + 1}) is None:
            found[name] += 1
    limits: dict[str, str] = {}
    for name, count in found.items():
        group = means.fleet.models[name].group
        if count < wanted[name] and group not in limits:
            limits[group] = refuses({**found, name: count + 1}) or "ceiling"
    return found, limits


def spend(policy: BurstPolicy, fleet: Fleet, state: State, existing: Mapping[str, int], now: float) -> Spent:
    """Books the time since the last decision, and returns the month with it.

    A clock that stood still or went back books one tick, so that setting it back saves nothing.
    """
    spent = state.months.get(policy.month(now), Spent())
    if state.at is None:
        return spent
    passed = now - state.at
    hours = (passed if passed > 0 else policy.tick_seconds) / _HOUR_S
    long_ago = passed > 3 * policy.tick_seconds
    node_hours, usd = spent.node_hours, spent.usd
    for name, group in fleet.groups.items():
        before = state.groups.get(name, GroupState())
        # The most that can have run: after a gap all that was set aside.
        nodes = max(existing[name], before.nodes or 0, before.reserved if long_ago else 0)
        node_hours += nodes * hours
        usd += float(group.usd_per_hour) * nodes * hours
    return replace(spent, node_hours=node_hours, usd=usd)


def latest(months: Mapping[str, Spent]) -> dict[str, Spent]:
    """The latest few months; an older one is kept as long, in case the clock goes back."""
    return {month: months[month] for month in sorted(months)[-_MONTHS_KEPT:]}
