"""Which alarms an endpoint has: what takes an update back, what costs money for nothing, what is amiss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from runtime.sagemaker.endpoints import EndpointSpec
from runtime.sagemaker.instances import facts_of, has_neuron
from runtime.sagemaker.metrics import INVOCATIONS, MACHINES, MICROSECONDS, Metric, answering, fleets
from runtime.sagemaker.models import EndpointModel

# Below so many requests in five minutes neither a ratio nor a percentile says anything.
_ENOUGH_REQUESTS: Final = 20
_IDLE_PERCENT: Final = 5

Comparison = Literal[
    "GreaterThanOrEqualToThreshold", "GreaterThanThreshold", "LessThanThreshold", "LessThanOrEqualToThreshold"
]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When somebody is told; `stacks.sagemaker_settings.Alerts` without the people.

    Attributes:
        error_percent: Server errors in percent of the requests.
        latency_s: Seconds of the slowest one percent of answers.
        first_token_s: Seconds to the first part of a stream, for 95 of 100.
        gpu_memory_percent: Memory of each device in use.
        idle_minutes: Minutes of devices without work.
        quiet_hours: Hours without a request; None where that is usual.
    """

    error_percent: float
    latency_s: float
    first_token_s: float
    gpu_memory_percent: float
    idle_minutes: int
    quiet_hours: int | None


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """One alarm.

    Attributes:
        key: What it is called behind the endpoint's name.
        says: What is so when it goes off.
        metrics: The metrics by the name that `expression` has for them; one alone needs no expression.
        expression: A metric expression; empty where there is one metric.
        statistic: Such as `Sum` or `p99`, of each metric that `statistics` does not name.
        statistics: Those of single metrics.
        threshold: What is compared with.
        comparison: How.
        period_s: Seconds of one value.
        periods: Values that must all be so.
        missing: What no value means.
        takes_back: Whether it takes an update back.
    """

    key: str
    says: str
    metrics: Mapping[str, Metric]
    statistic: str
    threshold: float
    comparison: Comparison
    period_s: int
    periods: int
    expression: str = ""
    statistics: Mapping[str, str] = field(default_factory=dict[str, str])
    missing: Literal["notBreaching", "breaching"] = "notBreaching"
    takes_back: bool = False


def alarms(
    endpoint: EndpointSpec, endpoint_name: str, models: Mapping[str, EndpointModel], limits: Limits
) -> list[Alarm]:
    """The alarms of an endpoint, but for those that also start the first instance or copy.

    They are about the endpoint's variants by name, so they exist before an update and see its new fleet.

    Args:
        endpoint: The endpoint.
        endpoint_name: What SageMaker calls it.
        models: All models by name.
        limits: When somebody is told.
    """
    found = _of_answers(endpoint, endpoint_name, models, limits)
    for name, dimensions in fleets(endpoint, endpoint_name).items():
        instance_type = endpoint.type_of(name)
        # SageMaker publishes no metric of what Neuron devices do.
        if (devices := facts_of(instance_type).gpus) and not has_neuron(instance_type):
            found += _of_machines(name, dimensions, devices, limits)
    return found


def _of_answers(
    endpoint: EndpointSpec, endpoint_name: str, models: Mapping[str, EndpointModel], limits: Limits
) -> list[Alarm]:
    if endpoint.asynchronous is not None:
        # None of the metrics of live requests is published for such an endpoint.
        failed = Metric(
            namespace=INVOCATIONS, name="InvocationFailures", dimensions={"EndpointName": endpoint_name}
        )
        return [
            Alarm(
                key="errors",
                says="A request from the bucket failed.",
                metrics={"failed": failed},
                statistic="Sum",
                threshold=1,
                comparison="GreaterThanOrEqualToThreshold",
                period_s=300,
                periods=1,
                takes_back=True,
            )
        ]
    dimensions = answering(endpoint, endpoint_name)
    # Variants share the traffic, and are judged together; each component has its own.
    together = {"errors": [*dimensions.values()]} if endpoint.shared is None else {}
    alone = {f"{name}-errors": [each] for name, each in dimensions.items()} if endpoint.shared else {}
    found = [_error_ratio(key, each, limits) for key, each in {**together, **alone}.items()]
    streams = not any(models[model].is_pipeline for model in endpoint.hosted)
    for name, each in dimensions.items():
        # A stream takes as long as its answer is, so its whole time says nothing about an update.
        found.append(
            _slow(f"{name}-latency", "ModelLatency", "p99", each, limits.latency_s, takes_back=not streams)
        )
        if streams:
            first, limit_s = "FirstChunkLatency", limits.first_token_s
            found.append(_slow(f"{name}-first-token", first, "p95", each, limit_s, takes_back=True))
    if limits.quiet_hours is not None:
        found.append(_quiet(list(dimensions.values()), limits.quiet_hours))
    return found


def _error_ratio(key: str, dimensions: Sequence[Mapping[str, str]], limits: Limits) -> Alarm:
    requests = {f"r{index}": _invoked("Invocations", each) for index, each in enumerate(dimensions)}
    failed = {f"e{index}": _invoked("Invocation5XXErrors", each) for index, each in enumerate(dimensions)}
    asked, wrong = _sum_of(requests), _sum_of(failed)
    return Alarm(
        key=key,
        says=f"More than {limits.error_percent:g} % of the requests failed in the server.",
        metrics={**requests, **failed},
        expression=f"IF({asked} >= {_ENOUGH_REQUESTS}, 100 * ({wrong}) / ({asked}), 0)",
        statistic="Sum",
        threshold=limits.error_percent,
        comparison="GreaterThanThreshold",
        period_s=300,
        periods=1,
        takes_back=True,
    )


def _slow(
    key: str,
    metric: str,
    statistic: str,
    dimensions: Mapping[str, str],
    limit_s: float,
    *,
    takes_back: bool,
) -> Alarm:
    return Alarm(
        key=key,
        says=f"{metric} {statistic} was above {limit_s:g} s for ten minutes.",
        metrics={"slow": _invoked(metric, dimensions), "count": _invoked(metric, dimensions)},
        expression=f"IF(count >= {_ENOUGH_REQUESTS}, slow, 0)",
        statistic=statistic,
        statistics={"count": "SampleCount"},
        threshold=limit_s * MICROSECONDS,
        comparison="GreaterThanThreshold",
        period_s=300,
        periods=2,
        takes_back=takes_back,
    )


def _quiet(dimensions: Sequence[Mapping[str, str]], hours: int) -> Alarm:
    requests = {f"r{index}": _invoked("Invocations", each) for index, each in enumerate(dimensions)}
    return Alarm(
        key="quiet",
        says=f"There was no request for {hours} h.",
        metrics=requests,
        expression=_sum_of(requests) if len(requests) > 1 else "",
        statistic="Sum",
        threshold=1,
        comparison="LessThanThreshold",
        period_s=3600,
        periods=hours,
        # SageMaker reports nothing where nothing happens.
        missing="breaching",
    )


def _of_machines(name: str, dimensions: Mapping[str, str], devices: int, limits: Limits) -> list[Alarm]:
    """Both metrics count 100 % for each device, so that eight of them reach 800 %."""
    used = Metric(namespace=MACHINES, name="GPUUtilization", dimensions=dimensions)
    memory = Metric(namespace=MACHINES, name="GPUMemoryUtilization", dimensions=dimensions)
    return [
        Alarm(
            key=f"{name}-idle",
            says=f"Devices were below {_IDLE_PERCENT} % for {limits.idle_minutes} min, and are paid.",
            metrics={"used": used},
            statistic="Maximum",
            threshold=_IDLE_PERCENT * devices,
            comparison="LessThanThreshold",
            period_s=300,
            periods=limits.idle_minutes // 5,
        ),
        Alarm(
            key=f"{name}-gpu-memory",
            says=f"Devices had more than {limits.gpu_memory_percent:g} % of their memory in use.",
            metrics={"memory": memory},
            statistic="Average",
            threshold=limits.gpu_memory_percent * devices,
            comparison="GreaterThanThreshold",
            period_s=300,
            periods=3,
        ),
    ]


def _sum_of(metrics: Mapping[str, Metric]) -> str:
    return "+".join(f"FILL({one}, 0)" for one in metrics)


def _invoked(name: str, dimensions: Mapping[str, str]) -> Metric:
    return Metric(namespace=INVOCATIONS, name=name, dimensions=dimensions)
