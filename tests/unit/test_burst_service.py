"""The burst controller as a whole, with the real decision core: what it does, and what it does not forget."""

import argparse
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from http.server import ThreadingHTTPServer
from typing import Any

import pytest

from runtime.burst.__main__ import UsageError, switch_of
from runtime.burst.actuator import Actuator
from runtime.burst.dashboard import Dashboard, proxied
from runtime.burst.events import Events
from runtime.burst.leader import Leader
from runtime.burst.observation import GroupSignals, ModelSignals, Observation
from runtime.burst.policy import Switch
from runtime.burst.service import GATES_CLOSE_S, Controller, Handler, Parts
from runtime.burst.store import Store
from runtime.cluster import object_path
from runtime.gateway import Overflow
from runtime.gateway.gate import GATE_INTERVAL_S
from tests.support.burst_site import DEPLOYMENT, Clock, config
from tests.support.cluster_double import ClusterDouble, RayDouble

STATE = object_path("v1", "ConfigMap", "llm", "burst-state")
LEASE = object_path("coordination.k8s.io/v1", "Lease", "llm", "burst")


class World:
    """On-prem, EKS and the load between them; every pod of the controller sees the same."""

    def __init__(self, **changes: Any) -> None:
        self.clock = Clock()
        self.config = config(**changes)
        self.home, self.eks, self.ray = ClusterDouble(), ClusterDouble(), RayDouble(DEPLOYMENT)
        self.eks.services["llm/qwen-head-svc"] = self.ray
        self.home.add(LEASE, {"spec": {}})
        self.home.add(STATE, {"data": {"armed": '{"qwen": ["v1"]}'}})
        self.in_flight: float | None = 0.0
        self.lines: list[dict[str, Any]] = []
        self.pods: list[Pod] = []

    def pod(self, name: str) -> "Pod":
        pod = Pod(self, name)
        self.pods.append(pod)
        return pod

    def observe(self) -> Observation:
        """What is seen while so many requests of ten seconds want to be under way."""
        signals = ModelSignals()
        if self.in_flight is not None:
            here = min(self.in_flight, 24.0)
            there = min(self.in_flight - here, self.ray.ready * 16.0)
            signals = replace(
                signals,
                onprem_in_flight=here,
                onprem_capacity=24.0,
                arrived=round(self.in_flight),
                spilled=round(there),
                refused=round(self.in_flight - here - there),
                eks_ongoing=there,
            )
        if self.eks.down:
            return Observation(models={"qwen": signals})
        signals = replace(signals, eks_ready=self.ray.ready, eks_wanted=self.ray.wanted)
        nodes = GroupSignals(
            nodes=self.ray.wanted, pending=self.ray.wanted - self.ray.ready, failed_launches=0
        )
        return Observation(models={"qwen": signals}, groups={"l40s": nodes})

    def go(self, seconds: float, *pods: "Pod") -> None:
        """Lets time pass in rounds; replicas that are wanted become ready after a minute."""
        for _ in range(round(seconds / 10)):
            for _ in range(5):
                self.clock.now += 2
                for pod in pods or self.pods:
                    pod.leader.try_to_lead()
            for pod in pods or self.pods:
                pod.controller.round()
            if self.ray.ready < self.ray.wanted:
                self.ray.ready += 1

    def until(self, there: Callable[[], bool], *pods: "Pod", within_s: float = 600) -> None:
        for _ in range(round(within_s / 10)):
            if there():
                return
            self.go(10, *pods)
        pytest.fail(f"not within {within_s} s: {self.pods[-1].controller.explanation()}")


class Pod:
    """One pod of the controller."""

    def __init__(self, world: World, name: str) -> None:
        self.problems: dict[str, str] = {}
        self._world = world
        clock = world.clock
        dashboard = Dashboard(world.eks, proxied("llm", "qwen-head-svc", 8265), lambda: "secret")
        self.leader = Leader(world.home, "llm", "burst", name, clock=clock)
        self.controller = Controller(
            world.config,
            Parts(
                observer=self,
                hand=Actuator(world.config.models, {"qwen": dashboard}, clock),
                store=Store(world.home, "llm", "burst-state"),
                leader=self.leader,
                events=Events(world.home, "llm", "burst-state", name),
                clock=clock,
                log=lambda line: world.lines.append(json.loads(line)),
            ),
        )

    @property
    def eks_answers(self) -> bool:
        return not self._world.eks.down

    def read(self) -> Observation:
        self.problems = {"eks, Ray of qwen": "no answer"} if self._world.eks.down else {}
        return self._world.observe()

    def ready_in_cloud(self, model: str, within_s: float) -> int:
        return self._world.ray.ready if model == "qwen" else 0


@pytest.fixture
def world() -> World:
    return World()


def state(world: World) -> dict[str, Any]:
    return json.loads(world.home.data(STATE)["state"])


def test_load_that_stays_gets_replicas_and_load_that_goes_gives_them_back(world: World) -> None:
    pod = world.pod("a")
    world.go(60)
    assert world.ray.scaled == []
    world.in_flight = 40.0
    world.until(lambda: world.ray.wanted > 0)
    assert state(world)["groups"]["l40s"]["reserved"] >= world.ray.wanted
    world.in_flight = 0.0
    world.until(lambda: world.ray.wanted == 0, within_s=4000)
    assert pod.controller.explanation()


def test_the_reservation_is_written_before_serve_is_told(world: World) -> None:
    world.pod("a")
    reserved: list[int] = []
    tell = world.ray.__call__

    def watch(method: str, path: str, body: Any, headers: Any) -> tuple[int, bytes]:
        if method == "POST":
            reserved.append(state(world)["groups"]["l40s"]["reserved"])
        return tell(method, path, body, headers)

    world.eks.services["llm/qwen-head-svc"] = watch
    world.in_flight = 40.0
    world.until(lambda: world.ray.wanted > 0)
    assert reserved
    assert reserved[0] >= 1


def test_a_second_pod_takes_over_and_forgets_no_reservation(world: World) -> None:
    first, second = world.pod("a"), world.pod("b")
    world.in_flight = 40.0
    world.until(lambda: world.ray.wanted > 0)
    wanted, before = world.ray.wanted, state(world)
    killed_at = world.clock.now
    # Killed: nothing of it runs any more, and it gives nothing back.
    world.until(second.leader.leads, second, within_s=20)
    assert world.clock.now - killed_at <= 20
    world.go(10, second)
    assert not first.leader.leads()
    assert world.ray.wanted >= wanted
    after = state(world)
    assert after["groups"]["l40s"]["reserved"] >= before["groups"]["l40s"]["reserved"]
    assert after["months"] != {}


def test_a_restart_in_the_middle_of_a_burst_changes_nothing(world: World) -> None:
    world.pod("a")
    world.in_flight = 40.0
    world.until(lambda: world.ray.wanted > 0)
    world.go(1800)
    wanted, told = world.ray.wanted, len(world.ray.scaled)
    world.pods = []
    anew = world.pod("a-again")
    world.until(anew.leader.leads)
    world.go(60)
    assert (world.ray.wanted, len(world.ray.scaled)) == (wanted, told)


def test_only_the_leader_decides_and_the_other_watches(world: World) -> None:
    world.pod("a")
    world.pod("b")
    world.in_flight = 40.0
    world.go(120)
    decided = [line for line in world.lines if line["event"] == "decision"]
    assert len(decided) == len(world.lines) / 2
    assert all(line["leads"] for line in decided)


def test_a_changed_serve_config_that_forgot_the_number_gets_it_back_in_one_round(world: World) -> None:
    world.pod("a")
    world.in_flight = 40.0
    world.until(lambda: world.ray.wanted > 0)
    wanted = world.ray.wanted
    # `pulumi up` changed the model: Ray builds the application anew and begins at none.
    world.ray.wanted = world.ray.ready = 0
    world.go(10)
    assert world.ray.wanted >= wanted


def test_an_eks_side_that_is_down_is_held_and_told_once(world: World) -> None:
    world.pod("a")
    world.in_flight = 40.0
    world.until(lambda: world.ray.wanted > 0)
    wanted = world.ray.wanted
    world.eks.down = True
    world.go(120)
    assert world.ray.wanted == wanted
    told = [event["reason"] for event in world.home.events]
    assert told.count("BurstUnavailable") == 1
    assert world.lines[-1]["problems"]["eks, Ray of qwen"] == "no answer"
    assert "spillway_burst_eks_up 0" in world.pods[0].controller.metrics()
    world.eks.down = False
    world.go(20)
    assert world.home.events[-1]["reason"] in {"BurstAvailable", "Replicas"}


def test_without_metrics_what_runs_is_held_and_then_goes_by_the_timer(world: World) -> None:
    world.pod("a")
    world.in_flight = 40.0
    world.until(lambda: world.ray.wanted > 0)
    world.go(60)
    wanted = world.ray.wanted
    world.in_flight = None
    world.go(300)
    assert world.ray.wanted == wanted
    world.until(lambda: world.ray.wanted == 0, within_s=3600)


def test_what_could_not_be_remembered_is_not_added(world: World) -> None:
    world.pod("a")
    world.go(60)
    world.home.forbidden = True
    world.in_flight = 40.0
    # Its Lease is its own, so only the state cannot be written.
    lease = world.home.write
    world.home.write = lambda method, path, body: (  # pyright: ignore[reportAttributeAccessIssue]
        lease(method, path, body) if path != LEASE else _renewed(world, path, body)
    )
    world.until(lambda: "could not be remembered" in json.dumps(world.lines[-1]))
    world.go(60)
    assert world.ray.scaled == []


def _renewed(world: World, path: str, body: dict[str, Any]) -> dict[str, Any]:
    world.home.objects[path] = {**body, "metadata": world.home.objects[path]["metadata"]}
    return body


def test_a_model_that_is_not_armed_gets_no_replica_and_says_why() -> None:
    world = World()
    world.home.add(STATE, {"data": {}})
    pod = world.pod("a")
    world.in_flight = 40.0
    world.go(120)
    assert world.ray.scaled == []
    found = world.lines[-1]["models"]["qwen"]
    assert (found["code"], found["armed"]) == ("not-armed", False)
    assert "qwen is not armed" in pod.controller.explanation()
    Store(world.home, "llm", "burst-state").arm({"qwen": ("v1",)})
    world.until(lambda: world.ray.wanted > 0)


def test_a_model_that_is_no_longer_armed_keeps_what_runs_and_gets_no_more(world: World) -> None:
    world.pod("a")
    world.in_flight = 32.0
    world.until(lambda: world.ray.wanted > 0)
    world.go(60)
    wanted = world.ray.wanted
    Store(world.home, "llm", "burst-state").arm({})
    world.in_flight = 60.0
    world.go(120)
    assert world.ray.wanted == wanted


def test_the_switch_wins_over_load_and_another_process_may_set_it(world: World) -> None:
    pod = world.pod("a")
    world.in_flight = 40.0
    world.until(lambda: world.ray.wanted > 0)
    Store(world.home, "llm", "burst-state").set_switch(Switch(mode="off"))
    world.go(30)
    assert world.ray.wanted == 0
    assert "switch: off, by hand" in pod.controller.explanation()
    Store(world.home, "llm", "burst-state").set_switch(None)
    world.until(lambda: world.ray.wanted > 0)


def test_every_pod_says_not_ready_before_the_last_replica_goes_and_gates_have_time_to_close(
    world: World,
) -> None:
    pods = world.pod("a"), world.pod("b")
    world.in_flight = 40.0
    world.until(lambda: world.ray.ready > 0)
    world.go(10)
    assert [pod.controller.ready_in_cloud("Qwen/Qwen3-8B") > 0 for pod in pods] == [True, True]
    silent_since: float | None = None
    tell = world.ray.__call__

    def watch(method: str, path: str, body: Any, headers: Any) -> tuple[int, bytes]:
        if method == "POST":
            assert silent_since is not None, "a replica goes while a pod says that it is ready"
            assert world.clock.now - silent_since >= GATES_CLOSE_S
        return tell(method, path, body, headers)

    world.eks.services["llm/qwen-head-svc"] = watch
    Store(world.home, "llm", "burst-state").set_switch(Switch(mode="off"))
    for _ in range(5):
        world.go(10)
        if not any(pod.controller.ready_in_cloud("qwen") for pod in pods):
            silent_since = silent_since or world.clock.now
    assert world.ray.wanted == 0
    assert not any(line.get("problems") for line in world.lines)


def test_a_last_replica_that_waits_to_go_serves_again_if_it_is_needed_after_all(world: World) -> None:
    pod = world.pod("a")
    world.in_flight = 40.0
    world.until(lambda: world.ray.ready > 0)
    told = len(world.ray.scaled)
    store = Store(world.home, "llm", "burst-state")
    store.set_switch(Switch(mode="off"))
    world.go(10)
    assert (pod.controller.ready_in_cloud("qwen"), world.ray.wanted > 0) == (0, True)
    later = datetime.fromtimestamp(world.clock.now + 3600, UTC).isoformat()
    store.set_switch(Switch(mode="on", replicas=world.ray.wanted, until=later))
    world.go(10)
    assert pod.controller.ready_in_cloud("qwen") > 0
    assert len(world.ray.scaled) == told, "nothing was removed, and nothing had to start"


def test_the_gates_close_within_the_time_that_the_last_replica_waits() -> None:
    overflow = Overflow()
    assert overflow.health_interval_s + overflow.health_timeout_s + GATE_INTERVAL_S < GATES_CLOSE_S


def test_the_explanation_is_the_same_on_every_pod_and_says_where_why_and_what_it_costs(world: World) -> None:
    first, second = world.pod("a"), world.pod("b")
    world.in_flight = 40.0
    world.until(lambda: world.ray.wanted > 0)
    world.go(20)
    told = first.controller.explanation()
    assert told == second.controller.explanation()
    wanted = world.ray.wanted
    assert "leader: a" in told
    assert "switch: auto, by the stack file" in told
    assert f"qwen: {wanted} of at most 4 replicas" in told
    assert f"{wanted * 2}.00 of 10.00 USD per hour" in told


def test_every_round_is_one_line_with_the_reason_and_what_was_seen(world: World) -> None:
    world.pod("a")
    world.in_flight = 40.0
    world.until(lambda: world.ray.wanted > 0)
    found = next(line for line in world.lines if line["models"]["qwen"]["replicas"] > 0)["models"]["qwen"]
    assert found["code"] == "scale-out"
    assert found["reason"]
    assert found["set"] == "changed"
    assert found["signals"]["onprem_in_flight"] == 24.0
    assert world.home.events[0]["reason"] == "Replicas"


def ask(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_probes_prometheus_people_and_the_gateway_are_answered(world: World) -> None:
    pod = world.pod("a")
    handler = type("TestedHandler", (Handler,), {"controller": pod.controller})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    assert ask(f"{url}/healthz") == (200, "ok")
    assert "nothing is known" in ask(f"{url}/explain")[1]
    world.in_flight = 40.0
    assert ask(f"{url}/ready/qwen")[0] == 503
    world.until(lambda: world.ray.ready > 0)
    # By the id that clients send, too.
    assert ask(f"{url}/ready/qwen")[0] == ask(f"{url}/ready/Qwen/Qwen3-8B")[0] == 200
    assert ask(f"{url}/ready/other")[0] == 503
    world.go(10)
    metrics = ask(f"{url}/metrics")[1]
    assert 'spillway_burst_replicas{model="qwen",kind="ready"} ' in metrics
    assert "spillway_burst_leader 1" in metrics
    assert 'spillway_burst_decisions_total{model="qwen",code="scale-out"}' in metrics
    assert 'spillway_burst_changes_total{model="qwen"}' in metrics
    world.clock.now += 3600
    assert ask(f"{url}/healthz")[0] == 503
    assert ask(f"{url}/other")[0] == 404
    server.shutdown()
    server.server_close()


NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def options(mode: str, **changes: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"mode": mode, "replicas": None, "duration": None, "model": None, **changes})


def test_a_switch_on_the_command_line_is_for_a_while_and_for_the_models_named() -> None:
    found = switch_of(options("on", replicas=2, duration="1d2h30m", model=["qwen"]), NOW)
    expected = Switch(mode="on", replicas=2, until="2026-11-22T14:30:00+00:00", models=("qwen",))
    assert found == expected
    assert switch_of(options("off"), NOW) == Switch(mode="off")
    assert switch_of(options("stack"), NOW) is None


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (options("on", replicas=2), "until"),
        (options("on", duration="2h"), "replicas"),
        (options("off", duration="2 hours"), "2h, 30m or 1d12h"),
        (options("off", duration=""), "2h, 30m or 1d12h"),
        (options("off", replicas=2), "replicas"),
    ],
)
def test_a_switch_that_makes_no_sense_says_what_does(asked: argparse.Namespace, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        switch_of(asked, NOW)
