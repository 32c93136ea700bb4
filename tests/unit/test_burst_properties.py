"""What no load, accident or restart may bring about: fuzzed on a small world, in many short lives."""

import os
import random
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.burst.decision import REASONS, explain
from runtime.burst.fleet import BurstModel, Fleet, NodeGroup
from runtime.burst.policy import BurstPolicy
from runtime.burst.state import State
from tests.support.burst_world import Accidents, World

HARD = {"ceiling", "max-nodes", "group-max", "burst-hours", "circuit-open", "circuit-probing"}
# BURST_SOAK=20000 makes it long.
SOAK = int(os.environ.get("BURST_SOAK", "10"))


def fleet_of(source: random.Random) -> Fleet:
    groups = {
        name: NodeGroup(
            name=name,
            max_nodes=source.randint(1, 6),
            usd_per_hour=Decimal(source.randint(100, 6000)) / 100,
            devices=source.choice([1, 4, 8]),
        )
        for name in ("a", "b")[: source.randint(1, 2)]
    }
    models: dict[str, BurstModel] = {}
    for number in range(source.randint(1, 3)):
        group = groups[source.choice(list(groups))]
        models[f"m{number}"] = BurstModel(
            name=f"m{number}",
            group=group.name,
            max_replicas=source.randint(1, 8),
            slots=source.choice([4, 16]),
            queue=source.choice([0, 16]),
            devices_per_pod=source.choice([size for size in (1, 2, 4, 8) if size <= group.devices]),
            pods_per_replica=source.choice([1, 1, 2]),
            surge=source.choice([1, 1, 2]),
        )
    return Fleet(groups, models)


def policy_of(source: random.Random, **changes: object) -> BurstPolicy:
    return BurstPolicy.model_validate(
        {
            "ceiling_usd_per_hour": source.uniform(1, 300),
            "max_nodes": source.randint(1, 10),
            "burst_hours_per_month": source.choice([None, source.uniform(0, 5)]),
            "cooldown_seconds": float(source.choice([0, 60, 300])),
            "zero_after_seconds": 900.0,
            "cold_start_seconds": float(source.choice([30, 180])),
            "release_seconds": float(source.choice([60, 600])),
            **changes,
        }
    )


def world_of(seed: int, **changes: object) -> World:
    source = random.Random(seed)
    accidents = Accidents(
        no_capacity=source.choice([0.0, 0.3, 1.0]),
        blind=source.choice([0.0, 0.2]),
        restart=source.choice([0.0, 0.1]),
        upgrade=source.choice([0.0, 0.05]),
    )
    fleet = fleet_of(source)
    return World(policy_of(source, **changes), fleet, seed, accidents)


def loads(source: random.Random, world: World, ticks: int) -> list[list[float]]:
    """Levels that jump, per model."""
    found: list[list[float]] = []
    now = [0.0] * len(world.fleet.models)
    for _ in range(ticks):
        now = [source.choice([0, 30, 100, 300]) if source.random() < 0.05 else value for value in now]
        found.append(now)
    return found


def live(seed: int, ticks: int = 150) -> World:
    """One life, in which the limits are looked at after every tick."""
    world = world_of(seed)
    for load in loads(world.random, world, ticks):
        decision = world.tick(load)
        assert decision.usd_per_hour <= world.policy.ceiling
        assert world.usd_per_hour() <= world.policy.ceiling
        assert world.count() <= world.policy.max_nodes
        for name, found in decision.models.items():
            assert 0 <= found.replicas <= world.fleet.models[name].max_replicas
            assert found.code in REASONS
            assert found.reason
        if (budget := world.policy.burst_hours_per_month) is not None:
            assert world.node_seconds / 3600 <= budget + 1e-9
    return world


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32))
def test_ceiling_nodes_and_node_hours_hold_in_every_life(seed: int) -> None:
    live(seed)


def test_ceiling_nodes_and_node_hours_hold_in_a_long_soak() -> None:
    for seed in range(SOAK):
        live(seed, ticks=400)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32), st.booleans())
def test_all_replicas_and_nodes_go_when_the_load_is_gone(seed: int, blind: bool) -> None:
    world = world_of(seed)
    for load in loads(world.random, world, 60):
        world.tick(load)
    world.accidents = Accidents()
    none = [0.0] * len(world.fleet.models)
    wait = world.policy.zero_after_seconds + world.policy.cooldown_seconds + world.policy.release_seconds
    for _ in range(int(wait // world.policy.tick_seconds) + 20):
        world.tick(none, blind=blind)
    assert list(world.wanted.values()) == [0] * len(none)
    assert world.count() == 0


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32))
def test_no_direction_changes_inside_the_cool_down_but_for_hard_limits(seed: int) -> None:
    world = world_of(seed, cooldown_seconds=120.0, burst_hours_per_month=None)
    world.accidents = Accidents(blind=0.1)
    last: dict[str, tuple[float, int, int, str]] = {}
    for load in loads(world.random, world, 150):
        before, at = dict(world.wanted), world.now
        decision = world.tick(load)
        for name, found in decision.models.items():
            step = (found.replicas > before[name]) - (found.replicas < before[name])
            if not step:
                continue
            when, direction, _, code = last.get(name, (0.0, 0, 0, ""))
            if direction == -step and at - when < 120:
                # Only what a limit took, or takes now, may come back sooner or go sooner.
                assert found.code in HARD or code in HARD, (found, code)
            last[name] = (at, step, found.replicas, found.code)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32), st.lists(st.integers(-40 * 86400, 40 * 86400), min_size=1, max_size=4))
def test_limits_hold_when_the_clock_jumps(seed: int, jumps: list[int]) -> None:
    world = world_of(seed)
    world.accidents = Accidents()
    for jump in jumps:
        for load in loads(world.random, world, 30):
            world.tick(load)
            assert world.usd_per_hour() <= world.policy.ceiling
            assert world.count() <= world.policy.max_nodes
        world.now += jump
        for nodes in world.nodes.values():
            for node in nodes:
                node.ready += jump
                node.idle_since += jump
    if (budget := world.policy.burst_hours_per_month) is not None:
        # Each month of the wrong clock has its own budget, and no more.
        assert world.node_seconds / 3600 <= budget * (len(jumps) + 1) + 1e-9


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32))
def test_the_state_survives_json_in_every_life(seed: int) -> None:
    world = live(seed, ticks=60)
    assert State.from_json(world.state.to_json()) == world.state
    text = explain(world.policy, world.fleet, world.state, world.now)
    assert all(name in text for name in world.fleet.models)


@pytest.mark.parametrize("probability", [0.3, 1.0])
def test_the_circuit_opens_when_launches_fail_and_closes_when_they_work(probability: float) -> None:
    group = NodeGroup(name="a", max_nodes=4, usd_per_hour=Decimal(10), devices=4)
    model = BurstModel(name="m", group="a", max_replicas=4, slots=16, devices_per_pod=4)
    policy = BurstPolicy.model_validate({"ceiling_usd_per_hour": 100.0, "cold_start_seconds": 60.0})
    world = World(policy, Fleet({"a": group}, {"m": model}), 1, Accidents(no_capacity=1.0))
    opened = [bool(world.tick([120.0]).open_circuits) for _ in range(60)]
    assert any(opened)
    assert world.count() == 0
    world.accidents = Accidents(no_capacity=0.0 if probability == 1.0 else probability)
    last = [world.tick([120.0]) for _ in range(400)][-1]
    assert last.open_circuits == ()
    assert last.models["m"].replicas == 4
