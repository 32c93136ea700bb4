"""A small world for the burst controller: nodes that are launched, pods that find places, and accidents.

It is as unkind as the real one may be: launches fail, signals are missing, pods are placed at random,
upgrades run replicas twice, the controller restarts. It knows nothing of the decision core but its types.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from runtime.burst.decision import Decision, decide
from runtime.burst.fleet import BurstModel, Fleet
from runtime.burst.observation import GroupSignals, ModelSignals, Observation
from runtime.burst.policy import BurstPolicy
from runtime.burst.state import State


@dataclass
class Node:
    """One instance: when it is ready, and since when nothing runs on it."""

    ready: float
    idle_since: float
    pods: list[str] = field(default_factory=list[str])


@dataclass
class Accidents:
    """How probable each accident is at a tick."""

    no_capacity: float = 0.0
    blind: float = 0.0
    restart: float = 0.0
    upgrade: float = 0.0


@dataclass
class World:
    """Everything around the controller; `tick` lets one interval pass."""

    policy: BurstPolicy
    fleet: Fleet
    seed: int
    accidents: Accidents = field(default_factory=Accidents)
    capacity: float = 64
    now: float = 1_767_571_200.0
    state: State = field(default_factory=State)
    node_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.nodes: dict[str, list[Node]] = {name: [] for name in self.fleet.groups}
        self.wanted = dict.fromkeys(self.fleet.models, 0)
        self.load = dict.fromkeys(self.fleet.models, 0.0)
        self.twice: set[str] = set()
        self.failed = dict.fromkeys(self.fleet.groups, 0)
        self.old_states: list[str] = []
        self.decision: Decision | None = None

    def usd_per_hour(self) -> Decimal:
        """What all instances that exist cost."""
        return sum(
            (group.usd_per_hour * len(self.nodes[name]) for name, group in self.fleet.groups.items()),
            Decimal(0),
        )

    def count(self) -> int:
        """How many instances exist."""
        return sum(len(nodes) for nodes in self.nodes.values())

    def tick(
        self, load: Sequence[float], *, seconds: float | None = None, blind: bool | None = None
    ) -> Decision:
        """One decision at these loads, and what the world makes of it until the next."""
        self.load = dict(zip(self.fleet.models, load, strict=True))
        chance = self.random.random
        if chance() < self.accidents.restart and self.old_states:
            self.state = State.from_json(self.random.choice(self.old_states[-3:]))
        if chance() < self.accidents.upgrade:
            model = self.random.choice(list(self.fleet.models))
            self.twice ^= {model}
        unseen = chance() < self.accidents.blind if blind is None else blind
        observation = Observation() if unseen else self._observation()
        decision, self.state = decide(self.policy, self.fleet, self.state, observation, self.now)
        self.decision = decision
        self.old_states.append(self.state.to_json())
        self.wanted = {name: found.replicas for name, found in decision.models.items()}
        self._pass(self.policy.tick_seconds if seconds is None else seconds)
        return decision

    def _pods(self, model: BurstModel) -> int:
        twice = 2 if model.name in self.twice and model.surge == 2 else 1
        return self.wanted[model.name] * model.pods_per_replica * twice

    def _ready(self, model: BurstModel) -> int:
        pods = sum(node.pods.count(model.name) for node in self.nodes[model.group] if node.ready <= self.now)
        return min(self.wanted[model.name], pods // model.pods_per_replica)

    def _observation(self) -> Observation:
        models: dict[str, ModelSignals] = {}
        for name, model in self.fleet.models.items():
            ready = self._ready(model)
            onprem = min(self.load[name], self.capacity)
            ongoing = min(self.load[name] - onprem, ready * model.slots)
            hidden = self.load[name] - onprem - ongoing
            models[name] = ModelSignals(
                onprem_in_flight=onprem,
                onprem_capacity=self.capacity,
                arrived=round(self.load[name]),
                refused=round(hidden),
                eks_ongoing=ongoing,
                eks_ready=ready,
                eks_wanted=self.wanted[name],
            )
        groups = {
            name: GroupSignals(
                nodes=len(nodes),
                pending=sum(node.ready > self.now for node in nodes) + self._missing(name),
                failed_launches=self.failed[name],
            )
            for name, nodes in self.nodes.items()
        }
        self.failed = dict.fromkeys(self.fleet.groups, 0)
        return Observation(models=models, groups=groups)

    def _missing(self, group: str) -> int:
        return sum(
            max(0, self._pods(model) - sum(node.pods.count(name) for node in self.nodes[group]))
            for name, model in self.fleet.models.items()
            if model.group == group
        )

    def _pass(self, seconds: float) -> None:
        """Pods go and come, nodes are launched for those without a place, and idle ones end."""
        until = self.now + seconds
        for group in self.fleet.groups.values():
            nodes = self.nodes[group.name]
            for model in self.fleet.models.values():
                if model.group == group.name:
                    self._place(model, nodes)
                    self._launch(model, nodes)
                    self._place(model, nodes)
            for node in nodes:
                if node.pods:
                    node.idle_since = until
            self.node_seconds += seconds * len(nodes)
            patience = self.policy.release_seconds - 2 * self.policy.tick_seconds
            self.nodes[group.name] = [
                node for node in nodes if node.pods or until - node.idle_since < max(0.0, patience)
            ]
        self.now = until

    def _place(self, model: BurstModel, nodes: list[Node]) -> None:
        have = [node for node in nodes for pod in node.pods if pod == model.name]
        while len(have) > self._pods(model):
            node = have.pop(self.random.randrange(len(have)))
            node.pods.remove(model.name)
        sizes = {name: other.devices_per_pod for name, other in self.fleet.models.items()}
        devices = self.fleet.groups[model.group].devices
        for _ in range(self._pods(model) - len(have)):
            free = [
                node
                for node in nodes
                if devices - sum(sizes[pod] for pod in node.pods) >= model.devices_per_pod
            ]
            if not free:
                return
            self.random.choice(free).pods.append(model.name)

    def _launch(self, model: BurstModel, nodes: list[Node]) -> None:
        group = self.fleet.groups[model.group]
        missing = self._pods(model) - sum(node.pods.count(model.name) for node in nodes)
        for _ in range(-(-missing // self.fleet.pods_per_node(model))):
            if len(nodes) >= group.max_nodes:
                return
            if self.random.random() < self.accidents.no_capacity:
                self.failed[group.name] += 1
                return
            cold = self.random.uniform(0.3, 1.0) * self.policy.cold_start_seconds
            nodes.append(Node(ready=self.now + cold, idle_since=self.now))
