"""What the burst controller sees: what each source says, what is missing, and how old it is."""

import json
from collections.abc import Generator
from typing import Any

import pytest
import yaml

from runtime.burst.dashboard import Dashboard, proxied
from runtime.burst.decision import decide
from runtime.burst.observation import GroupSignals, ModelSignals
from runtime.burst.scrape import Direct, Prometheus, Reading, Sample, ScrapeError, Source, Target, parse
from runtime.burst.signals import Signals
from runtime.burst.state import State
from tests.support.burst_site import DEPLOYMENT, Clock, MetricsPod, config
from tests.support.cluster_double import ClusterDouble, RayDouble

MODEL = "Qwen/Qwen3-8B"


def gateway_says(
    *,
    active: int = 0,
    total: int = 0,
    full: int = 0,
    spilled: int = 0,
    spill_full: int = 0,
    there: int = 0,
    came_back: int = 0,
) -> str:
    """What tests/gateway found that Envoy counts; `full` went on to the other pool."""
    here, away = f'model="{MODEL}",pool="onprem"', f'model="{MODEL}",pool="spill"'
    return f"""# TYPE envoy_cluster_upstream_rq_active gauge
envoy_cluster_upstream_rq_active{{{here}}} {active}
envoy_cluster_upstream_rq_active{{{away}}} {there}
envoy_cluster_upstream_rq_total{{{here}}} {total}
envoy_cluster_upstream_rq_total{{{away}}} {spilled + came_back}
envoy_cluster_retry_upstream_rq{{envoy_response_code="503",{here}}} {full}
envoy_cluster_upstream_rq{{envoy_response_code="200",{here}}} {total - full}
envoy_cluster_upstream_rq{{envoy_response_code="200",{away}}} {spilled}
envoy_cluster_upstream_rq{{envoy_response_code="503",{away}}} {spill_full}
envoy_cluster_retry_upstream_rq{{envoy_response_code="503",{away}}} {came_back}
envoy_cluster_upstream_rq_active{{envoy_cluster_name="admin"}} 1
"""


class Site:
    """Everything around `Signals`, and `look`, which lets time pass and looks once."""

    def __init__(self, metrics: Source | None = None) -> None:
        self.clock = Clock()
        self.gateway, self.engine = MetricsPod(), MetricsPod()
        self.hosts = {"gateway-metrics": [self.gateway.address], "qwen-metrics": [self.engine.address]}
        self.eks, self.here = ClusterDouble(), ClusterDouble()
        self.ray, self.own_ray = RayDouble(DEPLOYMENT), RayDouble(DEPLOYMENT)
        self.own_ray.wanted = self.own_ray.ready = 2
        for cluster, ray in ((self.eks, self.ray), (self.here, self.own_ray)):
            cluster.services["llm/qwen-head-svc"] = ray
        self.eks.lists["/api/v1/nodes"] = []
        self.metrics = metrics or Direct(clock=self.clock, resolve=self.resolve)
        here, there = (
            {"qwen": Dashboard(cluster, proxied("llm", "qwen-head-svc", 8265), lambda: "secret")}
            for cluster in (self.here, self.eks)
        )
        self.signals = Signals(config(), self.metrics, here, there, self.eks, self.clock)

    def resolve(self, host: str, port: int) -> list[tuple[str, int]]:
        if not self.hosts[host]:
            raise OSError("Name or service not known")
        return self.hosts[host]

    def look(self, after_s: float = 10.0) -> ModelSignals:
        self.clock.now += after_s
        return self.signals.read().models["qwen"]

    def group(self) -> GroupSignals | None:
        self.clock.now += 10
        return self.signals.read().groups.get("l40s")

    def stop(self) -> None:
        self.gateway.stop()
        self.engine.stop()


@pytest.fixture
def site() -> Generator[Site]:
    site = Site()
    yield site
    site.stop()


def test_levels_are_of_now_and_counts_of_the_time_between_two_looks(site: Site) -> None:
    site.gateway.text = gateway_says(active=5, total=100, full=10, spilled=8, spill_full=2, there=3)
    first = site.look()
    assert (first.onprem_in_flight, first.eks_ongoing, first.arrived) == (5, 3, None)
    site.gateway.text = gateway_says(active=9, total=150, full=30, spilled=23, spill_full=7, there=4)
    second = site.look()
    assert (second.onprem_in_flight, second.eks_ongoing) == (9, 4)
    assert (second.arrived, second.spilled, second.refused) == (50, 15, 5)
    assert second.gateway_age_s == 0


def test_a_conversation_that_goes_to_eks_first_has_arrived_too(site: Site) -> None:
    site.gateway.text = gateway_says()
    site.look()
    site.gateway.text = gateway_says(spilled=6)
    assert site.look().arrived == 6
    site.gateway.text = gateway_says(spilled=6, total=2, came_back=2)
    assert site.look().arrived == 2, "two that came back"


def test_what_could_have_spilled_is_refused_while_nothing_is_there_to_take_it(site: Site) -> None:
    """The gate is closed: the gateway itself refuses, and no request is counted as sent to EKS."""
    site.gateway.text = gateway_says()
    site.look()
    site.gateway.text = gateway_says(total=10, full=7, spill_full=7)
    found = site.look()
    assert (found.arrived, found.spilled, found.refused) == (10, 0, 7)


def test_several_gateway_pods_add_up_and_one_that_began_anew_counts_from_zero(site: Site) -> None:
    other = MetricsPod()
    site.hosts["gateway-metrics"].append(other.address)
    site.gateway.text, other.text = gateway_says(active=1, total=100), gateway_says(active=2, total=50)
    assert site.look().onprem_in_flight == 3
    site.gateway.text, other.text = gateway_says(active=1, total=110), gateway_says(active=2, total=4)
    assert site.look().arrived == 14
    other.stop()


def test_a_gateway_pod_that_does_not_answer_makes_what_is_known_older(site: Site) -> None:
    site.gateway.text = gateway_says(active=5, total=100)
    site.look()
    site.gateway.status = 500
    found = site.look()
    assert (found.onprem_in_flight, found.gateway_age_s) == (5, 10)


def test_a_gateway_pod_that_never_answered_makes_the_sum_unknown(site: Site) -> None:
    other = MetricsPod()
    other.status = 500
    site.hosts["gateway-metrics"].append(other.address)
    site.gateway.text = gateway_says(active=5, total=100)
    assert site.look().onprem_in_flight is None
    assert "has not answered" in site.signals.problems["gateway"]
    other.stop()


def test_no_gateway_at_all_keeps_what_was_known_and_says_its_age(site: Site) -> None:
    site.gateway.text = gateway_says(active=5, total=100)
    site.look()
    site.hosts["gateway-metrics"] = []
    found = site.look(after_s=30)
    assert (found.onprem_in_flight, found.gateway_age_s, found.arrived) == (5, 30, None)
    assert "gateway-metrics" in site.signals.problems["gateway"]


def test_what_came_in_during_a_long_silence_is_no_count_of_this_moment(site: Site) -> None:
    site.gateway.text = gateway_says(total=100)
    site.look()
    site.gateway.text = gateway_says(total=900)
    assert site.look(after_s=600).arrived is None
    site.gateway.text = gateway_says(total=905)
    assert site.look().arrived == 5


def test_on_prem_holds_what_its_ready_copies_and_its_queue_take(site: Site) -> None:
    assert site.look().onprem_capacity == 2 * 8 + 8
    site.own_ray.ready = 1
    assert site.look().onprem_capacity == 8 + 8
    site.here.down = True
    assert site.look().onprem_capacity == 16
    assert site.look(after_s=120).onprem_capacity is None


def test_engines_queues_add_up_and_their_caches_are_averaged(site: Site) -> None:
    other = MetricsPod()
    site.hosts["qwen-metrics"].append(other.address)
    site.engine.text = 'ray_vllm_num_requests_waiting{a="b"} 3.0\nray_vllm_kv_cache_usage_perc 0.5\n'
    other.text = "ray_vllm_num_requests_waiting 4\nray_vllm_kv_cache_usage_perc 0.7\n"
    found = site.look()
    assert (found.onprem_waiting, found.onprem_kv_usage) == (7, pytest.approx(0.6))
    other.stop()


def test_eks_says_what_it_is_told_and_what_answers(site: Site) -> None:
    site.ray.wanted, site.ray.ready = 3, 1
    found = site.look()
    assert (found.eks_wanted, found.eks_ready, found.eks_age_s) == (3, 1, 0)
    assert site.signals.ready_in_cloud("qwen", 60) == 1


def test_an_eks_side_that_does_not_answer_leaves_the_rest_and_grows_old(site: Site) -> None:
    site.gateway.text = gateway_says(active=5)
    site.ray.wanted = site.ray.ready = 2
    site.look()
    site.eks.down = True
    found = site.look(after_s=40)
    assert (found.onprem_in_flight, found.eks_wanted, found.eks_age_s) == (5, 2, 40)
    assert not site.signals.eks_answers
    site.look(after_s=40)
    assert site.signals.ready_in_cloud("qwen", 60) == 0
    site.eks.down = False
    site.look()
    assert site.signals.eks_answers


def test_an_eks_side_that_is_down_is_asked_once_a_round(site: Site) -> None:
    site.eks.down = True
    before = len(site.eks.asked)
    site.look()
    assert len(site.eks.asked) == before + 1


def node(name: str, *, ready: bool = True) -> dict[str, Any]:
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    labels = {"spillway.dev/node-group": "l40s"}
    return {"metadata": {"name": name, "labels": labels}, "status": {"conditions": [condition]}}


def pending_pod(*, on: str = "", cluster: str = "qwen-a") -> dict[str, Any]:
    labels = {"ray.io/group": "workers", "spillway.dev/model": "qwen", "ray.io/cluster": cluster}
    return {"metadata": {"name": "w", "labels": labels}, "spec": {"nodeName": on} if on else {}}


def autoscaler_says(target: int, scale_up: str = "NoActivity") -> dict[str, Any]:
    group = {
        "name": "eks-llm-burst-l40s-2ac8a3c2-1b2c-4d5e-8f90-aabbccddeeff",
        "health": {"status": "Healthy", "cloudProviderTarget": target},
        "scaleUp": {"status": scale_up},
    }
    return {"data": {"status": yaml.safe_dump({"autoscalerStatus": "Running", "nodeGroups": [group]})}}


STATUS = "/api/v1/namespaces/kube-system/configmaps/cluster-autoscaler-status"


def test_nodes_are_counted_by_their_group_ready_or_not(site: Site) -> None:
    other = {"metadata": {"name": "x", "labels": {"spillway.dev/node-group": "h100"}}, "status": {}}
    site.eks.lists["/api/v1/nodes"] = [node("a"), node("b", ready=False), other]
    found = site.group()
    assert found is not None
    assert (found.nodes, found.pending, found.failed_launches) == (2, 1, 0)


def test_a_node_that_has_been_asked_of_the_cloud_counts_before_it_joins(site: Site) -> None:
    site.eks.lists["/api/v1/nodes"] = [node("a")]
    site.eks.add(STATUS, autoscaler_says(3))
    found = site.group()
    assert found is not None
    assert (found.nodes, found.pending) == (3, 2)


def test_pods_that_no_node_has_taken_wish_for_nodes_that_are_not_on_their_way_yet(site: Site) -> None:
    pods = [pending_pod(), pending_pod(), pending_pod(on="a")]
    site.eks.lists["/api/v1/namespaces/llm/pods"] = pods
    found = site.group()
    assert found is not None
    assert (found.nodes, found.pending) == (0, 2)
    site.eks.add(STATUS, autoscaler_says(2))
    found = site.group()
    assert found is not None
    assert (found.nodes, found.pending) == (2, 2)


def test_two_ray_clusters_of_a_model_are_an_upgrade(site: Site) -> None:
    assert not site.look().eks_upgrading
    site.eks.lists["/api/v1/namespaces/llm/pods"] = [pending_pod(on="a")]
    assert not site.look().eks_upgrading
    site.eks.lists["/api/v1/namespaces/llm/pods"].append(pending_pod(on="b", cluster="qwen-b"))
    assert site.look().eks_upgrading


def test_a_group_that_backs_off_is_one_failed_launch_each_time_it_begins_to(site: Site) -> None:
    failed: list[int | None] = []
    for state in ("NoActivity", "Backoff", "Backoff", "InProgress", "Backoff"):
        site.eks.add(STATUS, autoscaler_says(0, state))
        found = site.group()
        failed.append(found.failed_launches if found else None)
    assert failed == [0, 1, 0, 0, 1]


def test_a_failed_launch_is_told_once_though_eks_falls_silent_after_it(site: Site) -> None:
    site.eks.add(STATUS, autoscaler_says(0, "Backoff"))
    assert site.group() == GroupSignals(nodes=0, pending=0, failed_launches=1, age_s=0)
    site.eks.down = True
    found = site.group()
    assert found is not None
    assert (found.failed_launches, found.age_s) == (None, 10)


def test_metrics_text_is_read_as_prometheus_writes_it() -> None:
    text = '# HELP a b\na{x="1,\\"2\\"",y="\\\\n"} 1e3 1700000000000\nb NaN\nbroken{ 1\na 2\nc 5\n'
    first, second = parse(text, frozenset({"a"}))
    assert first == Sample("a", {"x": '1,"2"', "y": "\\n"}, 1000.0)
    assert second == Sample("a", {}, 2.0)


TARGET = Target(job="spillway-gateway", host="h", port=1, metrics=frozenset({"up", "down"}))


def test_a_prometheus_is_asked_for_values_with_the_time_of_their_scrape() -> None:
    pod = MetricsPod()
    series = [
        {"metric": {"__name__": "up", "instance": "a:1", "model": "m"}, "values": [[90, "1"], [100, "2"]]},
        {"metric": {"__name__": "down", "instance": "b:1"}, "values": [[95, "3"]]},
    ]
    pod.text = json.dumps({"status": "success", "data": {"resultType": "matrix", "result": series}})
    found = Prometheus(f"http://127.0.0.1:{pod.address[1]}").read(TARGET)
    assert found == {
        "a:1": Reading((Sample("up", {"instance": "a:1", "model": "m"}, 2.0),), 100.0),
        "b:1": Reading((Sample("down", {"instance": "b:1"}, 3.0),), 95.0),
    }
    pod.stop()


def test_a_prometheus_that_is_gone_or_has_nothing_says_so() -> None:
    pod = MetricsPod()
    url = f"http://127.0.0.1:{pod.address[1]}"
    pod.text = json.dumps({"status": "success", "data": {"result": []}})
    with pytest.raises(ScrapeError, match="has nothing of job spillway-gateway"):
        Prometheus(url).read(TARGET)
    pod.text = json.dumps({"status": "error", "error": "too many samples"})
    with pytest.raises(ScrapeError, match="too many samples"):
        Prometheus(url).read(TARGET)
    pod.stop()
    with pytest.raises(ScrapeError, match="does not answer"):
        Prometheus(url).read(TARGET)


def as_prometheus_has_it(text: str, at: float) -> str:
    """What a gateway pod shows, in the answer to a query of Prometheus."""
    names = frozenset(line.partition("{")[0] for line in text.splitlines() if not line.startswith("#"))
    series = [
        {
            "metric": {"__name__": one.name, "instance": "gateway-0", **one.labels},
            "values": [[at, str(one.value)]],
        }
        for one in parse(text, names)
    ]
    return json.dumps({"status": "success", "data": {"result": series}})


def test_without_its_prometheus_what_runs_is_held_while_budget_and_zero_timer_go_on() -> None:
    pod = MetricsPod()
    site = Site(Prometheus(f"http://127.0.0.1:{pod.address[1]}"))
    told = config()
    policy, fleet, state = told.policy, told.fleet({"qwen": ("v1",)}, {}), State()
    rounds = 0

    def go(seconds: float) -> tuple[int, str, float]:
        """Lets time pass; what is decided is there at once. Returns replicas, reason and node-hours."""
        nonlocal state, rounds
        replicas, code, hours = 0, "", 0.0
        for _ in range(round(seconds / 10)):
            rounds += 1
            site.clock.now += 10
            load = gateway_says(active=24, total=100 * rounds, full=60 * rounds, spill_full=60 * rounds)
            pod.text = as_prometheus_has_it(load, site.clock.now)
            decision, state = decide(policy, fleet, state, site.signals.read(), site.clock.now)
            replicas, code = decision.models["qwen"].replicas, decision.models["qwen"].code
            site.ray.wanted = site.ray.ready = replicas
            site.eks.lists["/api/v1/nodes"] = [node("l40s", ready=True) for _ in range(replicas)]
            hours = decision.node_hours
        return replicas, code, hours

    replicas, _, hours = go(120)
    assert replicas > 0, "the load is seen"
    pod.stop()
    assert go(300) == (replicas, "missing", pytest.approx(hours + replicas * 300 / 3600, rel=0.1))
    assert "does not answer" in site.signals.problems["gateway"]
    # The last sign of need was before it went.
    assert go(policy.zero_after_seconds - 200)[0] == 0
    site.stop()
