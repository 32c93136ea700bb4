"""The decision core, one rule at a time: what it decides, and that its reason says so with the numbers."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from runtime.burst.decision import Decision, decide, explain
from runtime.burst.fleet import BurstModel, Fleet, NodeGroup
from runtime.burst.observation import GroupSignals, ModelSignals, Observation
from runtime.burst.policy import BurstPolicy
from runtime.burst.state import ModelState, State, StateError, changed

# A Monday, 00:00 UTC.
START = 1_767_571_200.0


def group(name: str = "gpu", **changes: Any) -> NodeGroup:
    base: dict[str, Any] = {"name": name, "max_nodes": 10, "usd_per_hour": Decimal(10), "devices": 4}
    return NodeGroup(**{**base, **changes})


def model(name: str = "m", **changes: Any) -> BurstModel:
    base: dict[str, Any] = {
        "name": name, "group": "gpu", "max_replicas": 8, "slots": 16, "devices_per_pod": 4
    }  # fmt: skip
    return BurstModel(**{**base, **changes})


class Controller:
    """Calls the core as the controller does, on models whose replicas and nodes come at once."""

    def __init__(
        self,
        *models: BurstModel,
        groups: tuple[NodeGroup, ...] = (group(),),
        **keys: Any,
    ) -> None:
        self.policy = BurstPolicy.model_validate({"ceiling_usd_per_hour": 1000.0, **keys})
        self.fleet = Fleet(
            {each.name: each for each in groups}, {each.name: each for each in models or (model(),)}
        )
        self.state = State()
        self.now = START
        self.replicas = dict.fromkeys(self.fleet.models, 0)
        self.nodes: dict[str, int | None] | None = None

    def look(self, loads: Mapping[str, float], **changes: Any) -> Observation:
        capacity = 64.0
        ongoing = {
            name: min(max(0.0, load - capacity), self.replicas[name] * self.fleet.models[name].slots)
            for name, load in loads.items()
        }
        models = {
            name: replace(
                ModelSignals(
                    onprem_in_flight=min(load, capacity),
                    onprem_capacity=capacity,
                    # At a second a request, so many come in a tick.
                    arrived=round(load * self.policy.tick_seconds),
                    refused=round(max(0.0, load - capacity - ongoing[name]) * self.policy.tick_seconds),
                    eks_ongoing=ongoing[name],
                    eks_ready=self.replicas[name],
                    eks_wanted=self.replicas[name],
                ),
                **changes,
            )
            for name, load in loads.items()
        }
        groups = {
            name: GroupSignals(nodes=self._nodes(name), pending=0, failed_launches=0)
            for name in self.fleet.groups
        }
        return Observation(models=models, groups=groups)

    def _nodes(self, name: str) -> int | None:
        if self.nodes is not None:
            return self.nodes[name]
        return sum(
            -(-self.replicas[each.name] * each.pods_per_replica // self.fleet.pods_per_node(each))
            for each in self.fleet.models.values()
            if each.group == name
        )

    def step(self, seen: Observation, seconds: float | None = None) -> Decision:
        decision, self.state = decide(self.policy, self.fleet, self.state, seen, self.now)
        self.replicas = {name: found.replicas for name, found in decision.models.items()}
        self.now += self.policy.tick_seconds if seconds is None else seconds
        return decision

    def run(self, ticks: int, load: float | Mapping[str, float], **changes: Any) -> Decision:
        loads = load if isinstance(load, Mapping) else dict.fromkeys(self.fleet.models, load)
        return [self.step(self.look(loads, **changes)) for _ in range(ticks)][-1]


def test_load_that_on_prem_holds_asks_for_nothing() -> None:
    found = Controller().run(30, 40.0).models["m"]
    assert (found.replicas, found.code) == (0, "idle")
    assert found.reason == "load 40, on-prem holds 64; on-prem is enough"


def test_replicas_are_what_load_and_spare_places_need_beyond_on_prem() -> None:
    # 100 + 2.25 * 10 - 64 = 58 places, and 58 / 16 is a little more than three replicas.
    found = Controller().run(60, 100.0).models["m"]
    assert found.replicas == 4


def test_the_queue_of_eks_saves_the_last_replica() -> None:
    # 100 + 2.25 * 10 - 85 = 37 places are three replicas; half of a queue of 16 leaves two.
    assert Controller().run(60, 100.0, onprem_capacity=85.0).models["m"].replicas == 3
    assert Controller(model(queue=16)).run(60, 100.0, onprem_capacity=85.0).models["m"].replicas == 2


def test_requests_that_only_wait_do_not_look_like_longer_work() -> None:
    # Eighty under way on-prem, 16 of them waiting: 64 are worked on, at 64 a second.
    controller = Controller(model(queue=16))
    controller.run(60, 64.0, onprem_in_flight=80.0, onprem_capacity=80.0)
    averages = controller.state.models["m"].averages
    assert averages is not None
    assert averages.usual_load / averages.usual_rate == pytest.approx(1.0)


def test_one_high_look_is_not_enough() -> None:
    controller = Controller(scale_out={"for_seconds": 30})
    controller.run(30, 40.0)
    found = [controller.run(1, 400.0).models["m"] for _ in range(4)]
    assert [each.replicas > 0 for each in found] == [False, False, False, True]
    assert found[1].code == "sustain"


def test_a_part_of_a_replica_must_be_short_for_longer_than_a_whole_one() -> None:
    def waits(load: float) -> float:
        controller = Controller(scale_out={"for_seconds": 60})
        while controller.run(1, load, refused=0).models["m"].replicas == 0:
            assert controller.now - START < 1000
        return controller.now - START

    # 60 + 2.25 * sqrt(60) - 64 = 13.4 places of 16, and 52 + 2.25 * sqrt(52) - 64 = 4.2 of them.
    assert waits(400.0) == pytest.approx(80, abs=10)
    assert waits(60.0) == pytest.approx(60 / (13.4 / 16) + 20, abs=10)
    assert waits(52.0) == pytest.approx(60 / (4.2 / 16) + 20, abs=10)


def test_what_was_short_is_forgotten_while_nothing_is() -> None:
    controller = Controller(scale_out={"for_seconds": 60})
    controller.run(5, 60.0)
    assert (controller.state.models["m"].short_s or 0.0) > 20
    controller.run(30, 40.0)
    assert controller.state.models["m"].short_s is None
    assert controller.replicas == {"m": 0}


def test_who_is_refused_is_short_of_a_place_though_on_prem_looks_free() -> None:
    controller = Controller(scale_out={"for_seconds": 20})
    controller.run(30, 40.0)
    # 160 in 10 s at a second each are 16 places: a whole replica.
    assert controller.run(3, 40.0, refused=160).models["m"].replicas == 1


def test_refused_requests_count_as_load_though_none_of_them_is_under_way() -> None:
    # Half of what comes is refused, so what is under way would be twice as much.
    controller = Controller()
    found = controller.run(12, 64.0, arrived=100, refused=50, eks_ongoing=0.0).models["m"]
    assert found.replicas > 2


def test_load_is_seen_when_on_prem_is_gone_altogether() -> None:
    controller = Controller()
    found = controller.run(12, 0.0, onprem_capacity=0.0, arrived=20, refused=20).models["m"]
    # Two a second, and 10 s for each where nothing is known yet: 20 under way, and 2 * sqrt(20) spare.
    assert found.replicas == 2


def test_a_full_cache_counts_as_full_slots() -> None:
    controller = Controller()
    controller.run(30, 40.0)
    found = controller.run(12, 40.0, onprem_waiting=10.0, onprem_kv_usage=0.99).models["m"]
    assert found.replicas >= 1
    assert "on-prem holds 30" in found.reason


def test_a_replica_stays_for_as_long_as_a_start_takes_and_goes_then() -> None:
    controller = Controller(cold_start_seconds=300.0, scale_in={"gone_spare": 40.0})
    controller.run(60, 100.0)
    before = controller.now
    while controller.run(1, 20.0).models["m"].replicas:
        assert controller.now - before < 1000
    # The averages need a minute or two to come down before the 300 s begin.
    assert 300 <= controller.now - before <= 500


def test_a_replica_whose_load_is_gone_beyond_doubt_goes_at_once() -> None:
    controller = Controller(cold_start_seconds=300.0)
    controller.run(60, 100.0)
    before = controller.now
    while controller.run(1, 20.0).models["m"].replicas:
        pass
    assert controller.now - before <= 180


def test_no_replica_goes_while_requests_are_refused_whatever_the_averages_say() -> None:
    controller = Controller(cooldown_seconds=0.0, scale_in={"for_seconds": 10.0})
    kept = controller.run(60, 100.0).models["m"].replicas
    assert kept > 0
    # A load that looks small, because those that are turned away come back once in a while only.
    found = controller.run(60, 10.0, refused=1).models["m"]
    assert found.replicas == kept
    assert controller.run(60, 10.0, refused=0).models["m"].replicas == 0


def test_the_measured_cold_start_replaces_the_guess() -> None:
    controller = Controller(cold_start_seconds=300.0)
    controller.run(3, 200.0, eks_ready=0)
    controller.run(12, 200.0, eks_ready=0)
    controller.run(2, 200.0, eks_ready=8)
    assert controller.state.models["m"].cold_start_s == pytest.approx(130, abs=20)


def test_missing_signals_hold_and_the_zero_timer_ends_it() -> None:
    controller = Controller(zero_after_seconds=600.0)
    controller.run(60, 100.0)
    found = [controller.step(Observation()).models["m"] for _ in range(70)]
    assert {each.code for each in found[:50]} == {"missing"}
    assert [each.replicas for each in found[:50]] == [4] * 50
    assert (found[60].code, found[-1].replicas) == ("zero-timer", 0) or found[-1].replicas == 0
    assert "zero-timer" in {each.code for each in found}


def test_a_signal_that_is_too_old_is_missing() -> None:
    found = Controller(stale_seconds=60.0).run(30, 200.0, gateway_age_s=61.0).models["m"]
    assert (found.replicas, found.code) == (0, "missing")


def test_nothing_is_added_while_the_nodes_are_not_known() -> None:
    controller = Controller()
    controller.nodes = {"gpu": None}
    found = controller.run(30, 200.0).models["m"]
    assert (found.replicas, found.code) == (0, "nodes-unknown")


def test_the_ceiling_counts_whole_nodes() -> None:
    # Two pods of 2 devices fit a node of 4: 25 USD per hour pay two nodes, which are four replicas.
    found = Controller(model(devices_per_pod=2), ceiling_usd_per_hour=25.0).run(30, 400.0).models["m"]
    assert (found.replicas, found.wanted, found.code) == (4, 8, "ceiling")
    assert "ceilingUsdPerHour is 25, and a node of gpu costs 10" in found.reason


def test_max_nodes_and_the_groups_own_maximum_hold() -> None:
    assert Controller(max_nodes=3).run(30, 400.0).models["m"].code == "max-nodes"
    found = Controller(groups=(group(max_nodes=2),)).run(30, 400.0).models["m"]
    assert (found.replicas, found.code) == (2, "group-max")


def test_nodes_on_their_way_out_still_take_money_from_the_others() -> None:
    groups = (group(), group("other"))
    controller = Controller(model("a"), model("b", group="other"), groups=groups, ceiling_usd_per_hour=40.0)
    controller.nodes = {"gpu": 4, "other": 0}
    controller.run(12, {"a": 0.0, "b": 200.0})
    assert controller.replicas == {"a": 0, "b": 0}
    controller.nodes = {"gpu": 1, "other": 0}
    controller.run(1, {"a": 0.0, "b": 200.0})
    assert controller.replicas == {"a": 0, "b": 3}


def test_models_share_the_ceiling_alike_and_the_first_by_name_gets_what_is_left() -> None:
    controller = Controller(model("a"), model("b"), ceiling_usd_per_hour=50.0)
    controller.run(30, {"a": 400.0, "b": 400.0})
    assert controller.replicas == {"a": 3, "b": 2}
    small = Controller(model("a"), model("b", max_replicas=1), ceiling_usd_per_hour=50.0)
    small.run(30, {"a": 400.0, "b": 400.0})
    assert small.replicas == {"a": 4, "b": 1}


def test_a_model_that_had_all_gives_half_of_it_to_one_that_comes_later() -> None:
    controller = Controller(model("a"), model("b"), ceiling_usd_per_hour=40.0)
    controller.run(30, {"a": 400.0, "b": 0.0})
    assert controller.replicas == {"a": 4, "b": 0}
    controller.run(30, {"a": 400.0, "b": 400.0})
    assert controller.replicas == {"a": 2, "b": 2}


def test_an_upgrade_that_may_double_by_itself_is_paid_in_advance() -> None:
    found = Controller(model(surge=2), ceiling_usd_per_hour=60.0).run(30, 400.0)
    assert found.models["m"].replicas == 3
    assert found.nodes == {"gpu": 6}


def test_an_upgrade_that_runs_replicas_twice_gives_up_what_the_ceiling_cannot_pay() -> None:
    controller = Controller(ceiling_usd_per_hour=60.0)
    assert controller.run(30, 400.0).models["m"].replicas == 6
    found = controller.run(1, 400.0, eks_upgrading=True).models["m"]
    assert (found.replicas, found.code) == (3, "ceiling")


def test_nodes_that_nobody_asked_for_take_from_the_replicas() -> None:
    controller = Controller(ceiling_usd_per_hour=60.0)
    controller.run(30, 400.0)
    controller.nodes = {"gpu": 8}
    assert controller.run(1, 400.0).models["m"].replicas == 4


def test_node_hours_end_the_burst_before_they_are_used_up() -> None:
    # Six nodes use 6 h an hour, and 900 s of each are kept for their end; the rest is for fewer.
    controller = Controller(burst_hours_per_month=6.0, release_seconds=900.0, max_nodes=6)
    found = [controller.run(1, 400.0) for _ in range(1500)]
    ended = next(each for each in found if each.models["m"].code == "burst-hours")
    assert 4.3 <= ended.node_hours <= 4.5
    assert "of 6 node-hours are used" in ended.models["m"].reason
    assert (found[-1].models["m"].replicas, found[-1].models["m"].code) == (0, "burst-hours")
    assert 5 <= found[-1].node_hours <= 6


def test_a_new_month_has_new_node_hours_and_the_old_ones_stay_known() -> None:
    controller = Controller(burst_hours_per_month=100.0)
    controller.run(90, 400.0)
    used = controller.state.months["2026-01"].node_hours
    controller.now += 31 * 86400
    controller.run(1, 0.0)
    controller.now -= 31 * 86400
    found = controller.run(1, 0.0)
    assert found.node_hours >= used > 1


def test_time_without_a_controller_is_booked_as_if_all_had_run() -> None:
    controller = Controller()
    before = controller.run(60, 100.0).node_hours
    controller.now += 3600
    after = controller.run(1, 100.0).node_hours
    assert after - before == pytest.approx(4 * 3610 / 3600, rel=0.01)


def test_failed_launches_open_the_circuit_and_what_is_not_there_is_no_longer_asked_for() -> None:
    controller = Controller()
    controller.run(4, 100.0)
    seen = controller.look({"m": 100.0}, eks_ready=1)
    failing = replace(seen, groups={"gpu": GroupSignals(nodes=1, pending=3, failed_launches=3)})
    decision = controller.step(failing)
    assert decision.open_circuits == ("gpu",)
    found = decision.models["m"]
    assert (found.replicas, found.code) == (1, "circuit-open")
    assert "3 launches on gpu failed in a row" in found.reason


def test_after_the_back_off_one_replica_is_tried_and_success_closes_the_circuit() -> None:
    controller = Controller(launches={"back_off_seconds": 100.0})
    controller.run(4, 100.0, eks_ready=0)
    seen = controller.look({"m": 100.0}, eks_ready=0)
    controller.step(replace(seen, groups={"gpu": GroupSignals(nodes=0, pending=4, failed_launches=3)}))
    assert controller.run(5, 100.0, eks_ready=0).models["m"].replicas == 0
    found = controller.run(10, 100.0, eks_ready=0).models["m"]
    assert (found.replicas, found.code) == (1, "circuit-probing")
    assert controller.run(10, 100.0).models["m"].replicas == 4


def test_a_start_that_takes_too_long_is_a_failed_launch() -> None:
    controller = Controller(launches={"failures": 1, "timeout_seconds": 120.0})
    found = [controller.run(1, 100.0, eks_ready=0) for _ in range(20)]
    assert any(each.open_circuits == ("gpu",) for each in found)


def test_the_switch_wins_over_load_but_not_over_the_ceiling() -> None:
    on = {"mode": "on", "replicas": 5, "until": "2026-02-01T00:00:00Z"}
    found = Controller(switch=on, ceiling_usd_per_hour=30.0).run(1, 0.0).models["m"]
    assert (found.replicas, found.wanted, found.code) == (3, 5, "ceiling")
    off = Controller(switch={"mode": "off"}).run(30, 400.0).models["m"]
    assert (off.replicas, off.code) == (0, "switch-off")


def test_the_switch_that_has_expired_goes_back_to_zero_without_load() -> None:
    on = {"mode": "on", "replicas": 2, "until": "2026-01-05T00:10:00Z"}
    controller = Controller(switch=on, cold_start_seconds=60.0)
    assert controller.run(60, 0.0).models["m"].replicas == 2
    assert controller.run(60, 0.0).models["m"].replicas == 0


def test_the_schedule_warms_up_before_its_window() -> None:
    window = {"start": "00:10", "end": "00:30", "replicas": 2}
    controller = Controller(cold_start_seconds=300.0, schedule=(window,))
    assert controller.run(29, 0.0).models["m"].replicas == 0
    found = controller.run(2, 0.0).models["m"]
    assert (found.replicas, found.code) == (2, "schedule")


def test_a_controller_without_a_state_starts_from_what_runs() -> None:
    controller = Controller()
    controller.replicas = {"m": 3}
    found = controller.run(1, 150.0)
    assert found.models["m"].replicas == 3
    assert found.nodes == {"gpu": 3}


def test_explain_says_what_is_set_aside_spent_and_next() -> None:
    controller = Controller(ceiling_usd_per_hour=25.0, burst_hours_per_month=100.0)
    controller.run(4, 400.0)
    text = explain(controller.policy, controller.fleet, controller.state, controller.now)
    assert "set aside: 20.00 of 25.00 USD per hour, 2 of 16 nodes" in text
    assert "node-hours (of 100)" in text
    assert "m: 2 of at most 8 replicas; wanted 8" in text
    assert "ceiling: 2 of 8 replicas: ceilingUsdPerHour is 25" in text
    assert "may go down in" in text


def test_a_state_of_another_version_or_form_is_refused() -> None:
    with pytest.raises(StateError, match="has version 7; this program reads 1"):
        State.from_json('{"version": 7}')
    with pytest.raises(StateError, match="cannot be read"):
        State.from_json('{"models": 3}')


def test_a_changed_record_keeps_the_rest_and_the_record_before_it() -> None:
    before = ModelState(target=2)
    assert changed(before, wanted=3) == ModelState(target=2, wanted=3)
    assert before == ModelState(target=2)


def test_a_change_of_a_field_that_a_record_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match="ModelState has no field wants"):
        changed(ModelState(), wants=3)


def test_a_fleet_that_cannot_hold_its_models_is_refused() -> None:
    with pytest.raises(ValueError, match="needs 8 devices, and a node of gpu has 4"):
        Fleet({"gpu": group()}, {"m": model(devices_per_pod=8)})
    with pytest.raises(ValueError, match="names the node group other; there are: gpu"):
        Fleet({"gpu": group()}, {"m": model(group="other")})
