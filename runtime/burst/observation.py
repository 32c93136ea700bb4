"""Observation: what the burst controller sees at one moment. None is a signal that is missing."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class ModelSignals:
    """The signals of one model.

    Counts are of the time since the observation before, levels of now. Requests that must not spill count in
    the levels, because they fill on-prem too, but not in `refused`, because the cloud could not take them.

    Attributes:
        onprem_in_flight: Requests under way in the gateway's on-prem pool, queued ones among them.
        onprem_capacity: Requests that on-prem holds before it refuses: the copies that are ready times
            `maxSequences`, and the queue.
        arrived: Requests that came in.
        refused: Those of them that were answered with 503 or 429 and could have spilled.
        spilled: Those of them that were sent to EKS.
        onprem_waiting: Requests that wait inside the on-prem engines (`vllm:num_requests_waiting`).
        onprem_kv_usage: Share of the on-prem engines' KV cache in use, 0 to 1 (`vllm:kv_cache_usage_perc`),
            the mean of the copies.
        eks_ongoing: Requests under way on EKS.
        eks_ready: Replicas on EKS that answer.
        eks_wanted: Replicas that Ray Serve on EKS is told to run.
        eks_upgrading: Whether an upgrade runs old and new replicas side by side.
        gateway_age_s: Age in seconds of what the gateway said (the first two, and the counts).
        engine_age_s: Age of what vLLM said.
        eks_age_s: Age of what EKS said. An age of None means as of now.
    """

    onprem_in_flight: float | None = None
    onprem_capacity: float | None = None
    arrived: int | None = None
    refused: int | None = None
    spilled: int | None = None
    onprem_waiting: float | None = None
    onprem_kv_usage: float | None = None
    eks_ongoing: float | None = None
    eks_ready: int | None = None
    eks_wanted: int | None = None
    eks_upgrading: bool = False
    gateway_age_s: float | None = None
    engine_age_s: float | None = None
    eks_age_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class GroupSignals:
    """The signals of one node group.

    Attributes:
        nodes: Instances that are billed: starting, ready or going.
        pending: Those of them that are not ready yet, and pods' wishes for which none was launched.
        failed_launches: Launches that failed since the observation before (no capacity, quota, start-up).
        age_s: Age in seconds; None means as of now.
    """

    nodes: int | None = None
    pending: int | None = None
    failed_launches: int | None = None
    age_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Observation:
    """All signals at one moment, by model and node group; a name that is missing has no signals."""

    models: Mapping[str, ModelSignals] = field(default_factory=dict[str, ModelSignals])
    groups: Mapping[str, GroupSignals] = field(default_factory=dict[str, GroupSignals])
