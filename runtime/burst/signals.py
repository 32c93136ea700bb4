"""Reads what the decision core decides by: the gateway, the engines on-prem, Ray Serve and the nodes on EKS.

Each source may be missing. What it said last goes on being reported with its age, so that the core can hold;
counts are differences, and are missing where there is nothing to take the difference to.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast
from urllib.parse import urlencode

import yaml

from runtime.burst.config import ControllerConfig, ModelConfig
from runtime.burst.dashboard import Dashboard, DashboardError, UnreachableDashboardError
from runtime.burst.leader import Cluster
from runtime.burst.observation import GroupSignals, ModelSignals, Observation
from runtime.burst.scrape import Reading, ScrapeError, Source, Target
from runtime.cluster import ClusterError
from runtime.labels import MODEL_LABEL
from runtime.node_groups import NODE_GROUP_LABEL
from runtime.serving.ray_service import WORKER_GROUP

_ON_PREM, _SPILL = "onprem", "spill"
_REQUESTS = "envoy_cluster_upstream_rq_total"
_ACTIVE = "envoy_cluster_upstream_rq_active"
_ANSWERS = "envoy_cluster_upstream_rq"
# Answers after which the gateway tried the other pool are counted here and not there (docs/overflow.md).
_WENT_ON = "envoy_cluster_retry_upstream_rq"
_CODE = "envoy_response_code"
# The gateway's own 503, for a link that is down or a model without servers there, is among them.
_FULL = frozenset({"401", "429", "503"})
# Ray exports vLLM's metrics with '_' for ':'.
_WAITING = frozenset({"vllm:num_requests_waiting", "ray_vllm_num_requests_waiting"})
_KV = frozenset({"vllm:kv_cache_usage_perc", "ray_vllm_kv_cache_usage_perc"})
_CLUSTER_LABEL, _GROUP_LABEL = "ray.io/cluster", "ray.io/group"
# Written by cluster-autoscaler 1.30 and newer.
_AUTOSCALER_STATUS = "/api/v1/namespaces/kube-system/configmaps/cluster-autoscaler-status"

Key = tuple[str, str, str]


@dataclass
class _Gateway:
    """What the gateway's counters were, by pod; and what was made of them."""

    counters: dict[str, dict[Key, float]] = field(default_factory=dict[str, dict[Key, float]])
    levels: dict[Key, float] = field(default_factory=dict[Key, float])
    at: float | None = None


@dataclass(frozen=True)
class _Engines:
    waiting: float | None
    kv: float | None
    at: float


@dataclass(frozen=True)
class _Served:
    """What Ray on EKS said of a model."""

    wanted: int
    ready: int
    at: float


class Signals:
    """All signals of a burst. For use from one thread.

    Args:
        config: What there is to read.
        metrics: Where metrics come from.
        on_prem: Model name to its Ray dashboard on-prem, for those with Ray there.
        cloud: Model name to its Ray dashboard on EKS.
        eks: The EKS API server, for its nodes.
        clock: Unix seconds.
    """

    def __init__(
        self,
        config: ControllerConfig,
        metrics: Source,
        on_prem: Mapping[str, Dashboard],
        cloud: Mapping[str, Dashboard],
        eks: Cluster,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._metrics = metrics
        self._on_prem = on_prem
        self._cloud = cloud
        self._eks = eks
        self._clock = clock
        self._gateway = _Gateway()
        self._engines: dict[str, _Engines] = {}
        self._copies: dict[str, tuple[int, float]] = {}
        self._served: dict[str, _Served] = {}
        self._groups: dict[str, tuple[GroupSignals, float]] = {}
        self._backed_off: dict[str, bool] = {}
        self._upgrading: dict[str, bool] = {}
        self.problems: dict[str, str] = {}

    @property
    def eks_answers(self) -> bool:
        """Whether all of the EKS side answered in the last round."""
        return not any(name.startswith("eks") for name in self.problems)

    def read(self) -> Observation:
        """Reads everything once. Raises nothing of the sources': `problems` says what was missing."""
        self.problems = {}
        # What failed has been told once.
        self._groups = {
            name: (replace(one, failed_launches=None), at) for name, (one, at) in self._groups.items()
        }
        counts = self._read_gateway()
        for model in self._config.models:
            self._read_on_prem(model)
        self._read_cloud()
        self._read_groups()
        now = self._clock()
        return Observation(
            models={model.name: self._model(model, counts, now) for model in self._config.models},
            groups={name: replace(signals, age_s=now - at) for name, (signals, at) in self._groups.items()},
        )

    def ready_in_cloud(self, model: str, within_s: float) -> int:
        """Replicas on EKS that answered at most so many seconds ago."""
        served = self._served.get(model)
        return served.ready if served is not None and self._clock() - served.at <= within_s else 0

    def _model(self, model: ModelConfig, counts: Mapping[Key, float] | None, now: float) -> ModelSignals:
        gateway, served = self._gateway, self._served.get(model.name)
        engines, copies = self._engines.get(model.name), self._copies.get(model.name)
        known = gateway.at is not None
        signals = ModelSignals(
            onprem_in_flight=gateway.levels.get((model.model_id, _ON_PREM, _ACTIVE), 0.0) if known else None,
            eks_ongoing=gateway.levels.get((model.model_id, _SPILL, _ACTIVE), 0.0) if known else None,
            gateway_age_s=None if gateway.at is None else max(0.0, now - gateway.at),
            engine_age_s=None if engines is None else max(0.0, now - engines.at),
            onprem_waiting=None if engines is None else engines.waiting,
            onprem_kv_usage=None if engines is None else engines.kv,
            eks_ready=None if served is None else served.ready,
            eks_wanted=None if served is None else served.wanted,
            eks_upgrading=self._upgrading.get(model.name, False),
            eks_age_s=None if served is None else max(0.0, now - served.at),
        )
        if copies is not None and now - copies[1] <= self._config.policy.stale_seconds:
            capacity = copies[0] * model.on_prem.slots + model.on_prem.queue
            signals = replace(signals, onprem_capacity=float(capacity))
        return signals if counts is None else replace(signals, **_counted(model.model_id, counts))

    def _read_gateway(self) -> dict[Key, float] | None:
        """Takes in what the gateway's pods say; returns what its counters grew by, if that can be known."""
        target = Target(
            job=f"{self._config.platform}-gateway",
            host=self._config.gateway_host,
            port=self._config.gateway_port,
            path="/stats/prometheus",
            metrics=frozenset({_REQUESTS, _ACTIVE, _ANSWERS, _WENT_ON}),
        )
        readings = self._readings("gateway", target)
        if not readings:
            return None
        levels: dict[Key, float] = {}
        grown: dict[Key, float] = {}
        before, now = self._gateway.counters, {pod: _keyed(one) for pod, one in readings.items()}
        for pod, values in now.items():
            for key, value in values.items():
                if key[2] == _ACTIVE:
                    levels[key] = levels.get(key, 0.0) + value
                else:
                    # A pod that began anew counts from zero, and so does one that was not there before.
                    last = before.get(pod, {}).get(key, 0.0)
                    grown[key] = grown.get(key, 0.0) + (value - last if value >= last else value)
        last, at = self._gateway.at, min(reading.at for reading in readings.values())
        self._gateway = _Gateway(now, levels, at)
        # What came in during a long silence would look like a burst of this moment.
        return None if last is None or at - last > self._config.policy.stale_seconds else grown

    def _read_on_prem(self, model: ModelConfig) -> None:
        here = model.on_prem
        target = Target(
            job=f"{self._config.platform}-{model.name}",
            host=here.metrics_host,
            port=here.metrics_port,
            metrics=_WAITING | _KV,
        )
        readings = self._readings(f"engines of {model.name}", target)
        samples = [sample for reading in readings.values() for sample in reading.samples]
        waiting = [sample.value for sample in samples if sample.name in _WAITING]
        kv = [sample.value for sample in samples if sample.name in _KV]
        if waiting or kv:
            oldest = min(reading.at for reading in readings.values())
            mean = sum(kv) / len(kv) if kv else None
            self._engines[model.name] = _Engines(sum(waiting) if waiting else None, mean, oldest)
        if here.serving == "plain":
            if readings:
                self._copies[model.name] = (len(readings), self._clock())
            return
        try:
            served = self._on_prem[model.name].deployment(here.application, here.deployment)
            self._copies[model.name] = (served.ready, self._clock())
        except DashboardError as error:
            self.problems[f"Ray of {model.name} on-prem"] = str(error)

    def _read_cloud(self) -> None:
        for model in self._config.models:
            try:
                served = self._cloud[model.name].deployment(model.cloud.application, model.cloud.deployment)
            except UnreachableDashboardError as error:
                self.problems[f"eks, Ray of {model.name}"] = str(error)
                # All go the same way, and each try may last as long as its timeout.
                return
            except DashboardError as error:
                self.problems[f"eks, Ray of {model.name}"] = str(error)
            else:
                self._served[model.name] = _Served(served.wanted, served.ready, self._clock())

    def _read_groups(self) -> None:
        if not self.eks_answers:
            return
        query = urlencode({"labelSelector": NODE_GROUP_LABEL})
        try:
            nodes = _items(self._eks.get(f"/api/v1/nodes?{query}"))
            status = self._eks.get(_AUTOSCALER_STATUS)
            pods = {model.name: self._pods(model) for model in self._config.models}
        except ClusterError as error:
            self.problems["eks, nodes"] = str(error)
            return
        told = _autoscaler(status)
        # KubeRay's upgrade starts a second Ray cluster beside the first.
        self._upgrading = {
            name: len({pod["metadata"]["labels"].get(_CLUSTER_LABEL) for pod in found}) > 1
            for name, found in pods.items()
        }
        for group in self._config.groups:
            here = [node for node in nodes if node["metadata"]["labels"].get(NODE_GROUP_LABEL) == group.name]
            ready = sum(_is_ready(node) for node in here)
            launching, backed_off = told.get(group.node_group, (0, False))
            there = max(len(here), launching)
            asked = sum(
                sum(map(_waits, pods[model.name])) * model.cloud.devices_per_pod
                for model in self._config.models
                if model.cloud.group == group.name
            )
            # What waits for devices beyond those that come with nodes which are on their way.
            wished = max(0, -(-asked // group.devices) - (there - ready))
            failed = int(backed_off and not self._backed_off.get(group.name, False))
            self._backed_off[group.name] = backed_off
            self._groups[group.name] = (
                GroupSignals(nodes=there, pending=there - ready + wished, failed_launches=failed),
                self._clock(),
            )

    def _pods(self, model: ModelConfig) -> list[dict[str, Any]]:
        """All pods of a model on EKS."""
        query = urlencode({"labelSelector": f"{MODEL_LABEL}={model.name}"})
        return _items(self._eks.get(f"/api/v1/namespaces/{model.cloud.namespace}/pods?{query}"))

    def _readings(self, name: str, target: Target) -> dict[str, Reading]:
        try:
            readings = self._metrics.read(target)
        except ScrapeError as error:
            self.problems[name] = str(error)
            return {}
        answered = {pod: one for pod, one in readings.items() if one.at != float("-inf")}
        if len(answered) < len(readings):
            silent = ", ".join(sorted(set(readings) - set(answered)))
            self.problems[name] = f"{silent} of {target.host} has not answered yet"
            # A sum without one of its parts is a wrong number.
            return {}
        return answered


def _counted(model_id: str, grown: Mapping[Key, float]) -> dict[str, Any]:
    """What happened to the requests of a model, from what the gateway counts of its two pools."""

    def total(pool: str, counter: str, codes: frozenset[str] | None = None) -> int:
        return round(
            sum(
                value
                for (model, where, name), value in grown.items()
                if (model, where, name.partition("/")[0]) == (model_id, pool, counter)
                and (codes is None or name.partition("/")[2] in codes)
            )
        )

    there, refused = total(_SPILL, _ANSWERS), total(_SPILL, _ANSWERS, _FULL)
    came_back = total(_SPILL, _WENT_ON)
    # Conversations go to EKS first; those that come back are counted on-prem too.
    began_there = max(0, there + came_back - total(_ON_PREM, _WENT_ON))
    return {
        "arrived": max(0, total(_ON_PREM, _REQUESTS) + began_there - came_back),
        # What may spill and is refused on-prem tries the other pool, so a refusal there is the last word.
        "refused": refused,
        "spilled": there - refused,
    }


def _keyed(reading: Reading) -> dict[Key, float]:
    found: dict[Key, float] = {}
    for sample in reading.samples:
        model, pool = sample.labels.get("model"), sample.labels.get("pool")
        if model is None or pool is None:
            continue
        by_code = sample.name in (_ANSWERS, _WENT_ON)
        name = f"{sample.name}/{sample.labels.get(_CODE, '')}" if by_code else sample.name
        found[model, pool, name] = found.get((model, pool, name), 0.0) + sample.value
    return found


def _items(found: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", (found or {}).get("items") or [])


def _waits(pod: Mapping[str, Any]) -> bool:
    """Whether it is a worker pod that no node has taken."""
    is_worker = pod["metadata"]["labels"].get(_GROUP_LABEL) == WORKER_GROUP
    return is_worker and not pod.get("spec", {}).get("nodeName")


def _is_ready(node: Mapping[str, Any]) -> bool:
    conditions: list[Mapping[str, Any]] = node.get("status", {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _autoscaler(status: Mapping[str, Any] | None) -> dict[str, tuple[int, bool]]:
    """EKS node group to the nodes that the cloud was asked for, and whether launches fail now.

    cluster-autoscaler calls a group by its Auto Scaling group, `eks-NAME-UUID`.
    """
    text = (status or {}).get("data", {}).get("status") or ""
    try:
        found: object = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    groups = cast("dict[str, Any]", found).get("nodeGroups") if isinstance(found, dict) else None
    told: dict[str, tuple[int, bool]] = {}
    for group in cast("list[dict[str, Any]]", groups or []):
        name = str(group.get("name", "")).removeprefix("eks-")
        # A UUID is five parts joined by '-'.
        name = name.rsplit("-", 5)[0] if name.count("-") >= 5 else name
        health = cast("dict[str, Any]", group.get("health") or {})
        scale_up = cast("dict[str, Any]", group.get("scaleUp") or {})
        told[name] = (int(health.get("cloudProviderTarget") or 0), scale_up.get("status") == "Backoff")
    return told
