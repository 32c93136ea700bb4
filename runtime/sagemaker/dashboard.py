"""The dashboard of a stack: latencies, tokens, devices, errors and cost of each endpoint."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from runtime.pricing import price_of
from runtime.sagemaker.endpoints import EndpointSpec
from runtime.sagemaker.instances import has_neuron
from runtime.sagemaker.metrics import (
    INVOCATIONS,
    MACHINES,
    MICROSECONDS,
    answering,
    component_name,
    fleets,
    log_namespace,
)

_COLUMNS: Final = 24
_HEIGHT: Final = 6
_PERIOD_S: Final = 60
_ECS: Final = "AWS/ECS"

Line = list[object]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An endpoint on the dashboard.

    Attributes:
        name: What SageMaker calls it.
        spec: The endpoint.
    """

    name: str
    spec: EndpointSpec


def dashboard(platform: str, region: str, endpoints: Sequence[Shown], gateway: str | None = None) -> str:
    """The body of the dashboard, as JSON.

    Args:
        platform: The platform's name.
        region: Where the endpoints are.
        endpoints: What is shown, rows of charts for each.
        gateway: What ECS calls the gateway's cluster and service; None where there is none.
    """
    parts = [
        (f"## {one.name}\n{_hardware(one.spec, region)}", _charts(platform, region, one)) for one in endpoints
    ]
    if gateway is not None:
        parts.insert(0, (f"## {gateway}\nEnvoy and the adapter, on Fargate", _of_gateway(platform, gateway)))
    widgets: list[object] = []
    top = 0
    for text, charts in parts:
        head = {"markdown": text}
        widgets.append({"type": "text", "x": 0, "y": top, "width": _COLUMNS, "height": 2, "properties": head})
        width = _COLUMNS // 4
        for index, (title, lines) in enumerate(charts):
            widgets.append(
                {
                    "type": "metric",
                    "x": index % 4 * width,
                    "y": top + 2 + index // 4 * _HEIGHT,
                    "width": width,
                    "height": _HEIGHT,
                    "properties": {
                        "title": title,
                        "metrics": lines,
                        "region": region,
                        "period": _PERIOD_S,
                        "view": "timeSeries",
                    },
                }
            )
        top += 2 + -(-len(charts) // 4) * _HEIGHT
    return json.dumps({"widgets": widgets})


def _of_gateway(platform: str, gateway: str) -> list[tuple[str, list[Line]]]:
    """What `components.aws.gateway_alarms` counts in the access logs, and how busy the tasks are."""
    service = {"": {"ClusterName": gateway, "ServiceName": gateway}}
    counted: list[Line] = [
        [log_namespace(platform), f"gateway-{what}", {"stat": "Sum", "label": what}]
        for what in ("requests", "errors")
    ]
    used = _lines(_ECS, ("CPUUtilization", "MemoryUtilization"), service, "Average")
    return [
        ("requests, and answers of 500 and above or broken off", counted),
        ("CPU and memory of the tasks (%)", used),
    ]


def _charts(platform: str, region: str, shown: Shown) -> list[tuple[str, list[Line]]]:
    who = answering(shown.spec, shown.name)
    machines = fleets(shown.spec, shown.name)
    used = ("GPUUtilization", "GPUMemoryUtilization")
    # SageMaker publishes no metric of what Neuron devices do.
    of_gpus = {name: each for name, each in machines.items() if not has_neuron(shown.spec.type_of(name))}
    devices = _lines(MACHINES, used, of_gpus, "Average")
    charts = [
        *([("GPU use and memory (100 % each device)", devices)] if devices else []),
        ("cost in USD an hour, by list prices", _cost(shown.spec, machines, region)),
        ("tokens a second of one engine", _tokens(platform, shown)),
    ]
    if shown.spec.asynchronous is not None:
        waiting = {"": {"EndpointName": shown.name}}
        names = ("ApproximateBacklogSize", "InvocationFailures", "ExpiredRequests")
        return [("requests in the bucket", _lines(INVOCATIONS, names, waiting, "Maximum")), *charts]
    return [
        ("time to the first token, p95 (s)", _seconds(("FirstChunkLatency",), who, "p95")),
        ("model and overhead latency, p99 (s)", _seconds(("ModelLatency", "OverheadLatency"), who, "p99")),
        (
            "requests and errors",
            _lines(INVOCATIONS, ("Invocations", "Invocation4XXErrors", "Invocation5XXErrors"), who, "Sum"),
        ),
        ("requests at a time", _lines(INVOCATIONS, ("ConcurrentRequestsPerModel",), who, "Maximum")),
        *charts,
    ]


def _lines(
    namespace: str, names: Sequence[str], dimensions: Mapping[str, Mapping[str, str]], statistic: str
) -> list[Line]:
    return [
        [namespace, name, *_flat(each), {"stat": statistic, "label": f"{key} {name}".strip()}]
        for name in names
        for key, each in dimensions.items()
    ]


def _seconds(names: Sequence[str], dimensions: Mapping[str, Mapping[str, str]], statistic: str) -> list[Line]:
    lines: list[Line] = []
    for number, (name, key, each) in enumerate(
        (name, key, each) for name in names for key, each in dimensions.items()
    ):
        lines.append(
            [INVOCATIONS, name, *_flat(each), {"stat": statistic, "id": f"m{number}", "visible": False}]
        )
        lines.append([{"expression": f"m{number}/{MICROSECONDS}", "label": f"{key} {name}"}])
    return lines


def _cost(endpoint: EndpointSpec, machines: Mapping[str, Mapping[str, str]], region: str) -> list[Line]:
    """Machines that report, each once a minute, times the list price of one."""
    lines: list[Line] = []
    for number, (name, each) in enumerate(machines.items()):
        kind = endpoint.type_of(name)
        usd = price_of(kind, region).usd_per_hour
        if usd is None:
            continue
        counted = {"stat": "SampleCount", "id": f"n{number}", "visible": False}
        lines.append([MACHINES, "CPUUtilization", *_flat(each), counted])
        lines.append([{"expression": f"n{number}*{usd}", "label": f"{name}: {kind}"}])
    return lines


def _tokens(platform: str, shown: Shown) -> list[Line]:
    """What `components.aws.container_logs` reads out of the log of the endpoint or of each component."""
    shared = shown.spec.shared
    logs = (
        {"": shown.name}
        if shared is None
        else {one.name: component_name(shown.name, one.name) for one in shared.components}
    )
    return [
        [
            log_namespace(platform),
            f"{log}-{kind}-tokens-per-second",
            {"stat": "Average", "label": f"{name} {kind}".strip()},
        ]
        for name, log in logs.items()
        for kind in ("prompt", "generation")
    ]


def _hardware(endpoint: EndpointSpec, region: str) -> str:
    words = [
        f"{one.name}: {one.replicas.min} to {one.replicas.max} x {one.instance_type}, "
        f"{price_of(one.instance_type, region).words} each"
        for one in endpoint.variants
    ]
    if endpoint.shared is not None:
        sizes = endpoint.shared.instances
        price = price_of(endpoint.shared.instance_type, region).words
        words = [f"{sizes.min} to {sizes.max} x {endpoint.shared.instance_type}, {price} each"]
    return "; ".join(words)


def _flat(dimensions: Mapping[str, str]) -> list[object]:
    return [part for pair in dimensions.items() for part in pair]
