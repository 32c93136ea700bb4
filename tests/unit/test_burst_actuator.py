"""The one hand on the replicas in the cloud, against a double that does what real Ray was seen to do."""

import pytest

from runtime.burst.actuator import Actuator
from runtime.burst.config import CloudConfig, ModelConfig, OnPremConfig
from runtime.burst.dashboard import Dashboard, DashboardError, UnreachableDashboardError, proxied
from tests.support.cluster_double import ClusterDouble, RayDouble

DEPLOYMENT = "LLMServer:Qwen--Qwen3_8B"
MODEL = ModelConfig(
    name="qwen",
    model_id="Qwen/Qwen3.8B",
    on_prem=OnPremConfig(slots=8, queue=8, serving="ray", metrics_host="qwen-metrics", metrics_port=8080),
    cloud=CloudConfig(
        group="l40s",
        max_replicas=4,
        slots=8,
        queue=8,
        devices_per_pod=1,
        pods_per_replica=1,
        namespace="llm",
        service="qwen-head-svc",
        application="llm",
        deployment=DEPLOYMENT,
        staged="v1",
    ),
)


class Site:
    def __init__(self, token: str = "secret") -> None:
        self.eks, self.ray, self.now = ClusterDouble(), RayDouble(DEPLOYMENT), 0.0
        self.eks.services["llm/qwen-head-svc"] = self.ray
        self.dashboard = Dashboard(self.eks, proxied("llm", "qwen-head-svc", 8265), lambda: token)
        self.actuator = Actuator((MODEL,), {"qwen": self.dashboard}, lambda: self.now)


def test_a_number_is_set_and_read_back() -> None:
    site = Site()
    outcome = site.actuator.set("qwen", 2)
    assert (outcome.wanted, outcome.changed, outcome.problem) == (2, True, "")
    assert site.ray.scaled == [2]


def test_a_number_that_is_there_is_not_set_again() -> None:
    site = Site()
    site.actuator.set("qwen", 2)
    assert not site.actuator.set("qwen", 2).changed
    assert site.ray.scaled == [2]


def test_a_number_that_ray_forgot_with_a_changed_config_is_set_again() -> None:
    site = Site()
    site.actuator.set("qwen", 2)
    site.ray.wanted = 0
    assert site.actuator.set("qwen", 2).changed


def test_an_application_that_is_built_anew_is_set_once_it_is_there() -> None:
    site = Site()
    site.ray.built = False
    assert "DEPLOYING" in site.actuator.set("qwen", 2).problem
    site.ray.built = True
    site.now += 5
    assert site.actuator.set("qwen", 2).changed


def test_a_number_above_the_most_or_below_none_is_not_passed_on() -> None:
    site = Site()
    assert "0 to 4" in site.actuator.set("qwen", 5).problem
    assert "0 to 4" in site.actuator.set("qwen", -1).problem
    assert site.ray.scaled == []


def test_a_number_that_does_not_stick_is_a_problem() -> None:
    site = Site()
    site.ray.hear_and_forget = True
    outcome = site.actuator.set("qwen", 2)
    assert outcome.wanted is None
    assert "says 0" in outcome.problem


def test_a_side_that_does_not_answer_is_asked_less_and_less_and_again_when_it_is_back() -> None:
    site = Site()
    site.eks.down = True
    tries = 0
    for _ in range(300):
        before = len(site.eks.asked)
        assert site.actuator.set("qwen", 2).problem
        tries += len(site.eks.asked) > before
        site.now += 1
    assert 7 <= tries <= 11
    site.eks.down = False
    site.now += 60
    assert site.actuator.set("qwen", 2).changed
    site.eks.down = True
    assert site.actuator.set("qwen", 3).problem
    site.now += 2
    site.eks.down = False
    assert site.actuator.set("qwen", 3).changed


def test_an_application_without_the_flag_says_what_is_missing() -> None:
    site = Site()
    site.ray.external = False
    assert "external_scaler_enabled" in site.actuator.set("qwen", 1).problem


@pytest.mark.parametrize("token", ["", "wrong"])
def test_a_wrong_token_is_named(token: str) -> None:
    site = Site(token)
    with pytest.raises(DashboardError, match="no access"):
        site.dashboard.deployment("llm", DEPLOYMENT)


def test_a_head_that_is_gone_is_unreachable_and_not_a_refusal() -> None:
    site = Site()
    site.eks.services.clear()
    with pytest.raises(UnreachableDashboardError, match="does not answer"):
        site.dashboard.deployment("llm", DEPLOYMENT)


def test_replicas_that_start_are_wanted_and_not_ready_though_the_deployment_is_healthy() -> None:
    site = Site()
    site.ray.wanted, site.ray.ready = 3, 1
    found = site.dashboard.deployment("llm", DEPLOYMENT)
    assert (found.wanted, found.ready, found.starting, found.application) == (3, 1, 2, "RUNNING")
