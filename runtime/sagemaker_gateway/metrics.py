"""What the adapter shows: numbers for Prometheus, and a line of JSON a request without a word of it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from runtime.sagemaker_gateway.admission import Admission
from runtime.sagemaker_gateway.request import Allowance
from runtime.sagemaker_gateway.token_guard import TokenGuard

_PREFIX = "spillway_sagemaker_"
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 240, 480)
# Of a request whose model is not known: its own words must not become a label.
NO_MODEL = "unknown"
# Reasons of copies that are dropped though nothing is amiss.
_NOT_KEPT = {"too_long", "unfinished"}


@dataclass
class Record:
    """What is noted of one request while it runs.

    Attributes:
        started: Reading of the clock when its head was there.
        path: Its path.
        client: Whose key it carried, as Envoy says.
        request_id: Its id, as Envoy says.
        model: The served name.
        endpoint: The SageMaker endpoint.
        variant: The variant that answered.
        stream: Whether the answer is streamed.
        status: HTTP status of the answer; 499 where the client left before there was one.
        outcome: `ok`, `client_left`, or the code of what went wrong, before or in a stream.
        detail: AWS's words on it.
        request_bytes: Size of the body.
        response_bytes: Size of the answer.
        tokens: Tokens of the answer as far as is known.
        first_s: Seconds to the first event of a stream.
        called: Reading of the clock when the endpoint was called.
        writing_s: Seconds in which the answer waited for the client to read.
    """

    started: float
    path: str
    client: str
    request_id: str
    model: str = NO_MODEL
    endpoint: str = ""
    variant: str = ""
    stream: bool = False
    status: int = 499
    outcome: str = "client_left"
    detail: str = ""
    request_bytes: int = 0
    response_bytes: int = 0
    tokens: int = 0
    first_s: float | None = None
    called: float = 0.0
    writing_s: float = 0.0


class Metrics:
    """The numbers of one adapter.

    Attributes:
        registry: A registry of their own; what belongs to the adapter adds its own to it.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._told: dict[tuple[str, str], float] = {}
        self._requests = Counter(
            f"{_PREFIX}requests",
            "Requests by what became of them.",
            ("model", "stream", "status", "outcome"),
            registry=self.registry,
        )
        self._variants = Counter(
            f"{_PREFIX}variant_answers",
            "Answers that began, by production variant.",
            ("model", "variant"),
            registry=self.registry,
        )
        self._tokens = Counter(f"{_PREFIX}tokens", "Tokens of answers.", ("model",), registry=self.registry)
        self._first = Histogram(
            f"{_PREFIX}first_token_seconds",
            "Seconds to a stream's first event.",
            ("model",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._whole = Histogram(
            f"{_PREFIX}request_seconds",
            "Seconds of answered requests.",
            ("model", "stream"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._speed = Gauge(
            f"{_PREFIX}tokens_per_second",
            "Cautious speed that the token guard goes by.",
            ("model",),
            registry=self.registry,
        )
        self._allowance = Gauge(
            f"{_PREFIX}allowed_tokens",
            "Longest answer that the token guard lets through.",
            ("model", "stream"),
            registry=self.registry,
        )
        self._in_flight = Gauge(f"{_PREFIX}requests_in_flight", "Requests now.", registry=self.registry)

    def watch(self, in_flight: Callable[[], float]) -> None:
        """Names what tells how many requests there are now."""
        self._in_flight.set_function(in_flight)

    def show_guard(self, model: str, guard: TokenGuard, allowance: Allowance) -> None:
        """Takes over what the token guard knows now."""
        self._speed.labels(model).set(guard.tokens_per_s)
        self._allowance.labels(model, "true").set(allowance.stream)
        self._allowance.labels(model, "false").set(allowance.plain)

    def count(self, record: Record, seconds: float) -> None:
        """Adds a request that has ended."""
        stream = str(record.stream).lower()
        self._requests.labels(record.model, stream, str(record.status), record.outcome).inc()
        if record.variant:
            self._variants.labels(record.model, record.variant).inc()
        if record.tokens:
            self._tokens.labels(record.model).inc(record.tokens)
        if record.first_s is not None:
            self._first.labels(record.model).observe(record.first_s)
        if record.outcome == "ok":
            self._whole.labels(record.model, stream).observe(seconds)

    def growth(self, counter: str) -> dict[str, int]:
        """How much a counter has grown since it was last asked for, by label; what has not is left out."""
        grown: dict[str, int] = {}
        for family in self.registry.collect():
            for sample in family.samples:
                if sample.name == f"{_PREFIX}{counter}_total":
                    label = "".join(sample.labels.values())
                    grown[label] = int(sample.value - self._told.get((counter, label), 0.0))
                    self._told[counter, label] = sample.value
        return {label: count for label, count in grown.items() if count}

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self.registry)


def report_line(admission: Admission, allowances: Mapping[str, Allowance], metrics: Metrics) -> str:
    """What the adapter says of itself each minute, as one line of JSON: on Fargate nobody asks for metrics.

    Args:
        admission: The requests; `busy_percent` is the most places of it that were taken since the last line.
        allowances: What the token guard lets through, by model.
        metrics: Knows the copies, which are those since the last such line.
    """
    dropped = metrics.growth("capture_dropped")
    return json.dumps(
        {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "report": "minute",
            "in_flight": admission.requests,
            "busy_percent": round(admission.busiest(), 1),
            "allowed_tokens": {name: asdict(one) for name, one in allowances.items()},
            "copies_kept": sum(metrics.growth("capture_written").values()),
            "copies_dropped": dropped,
            "copies_lost": sum(count for reason, count in dropped.items() if reason not in _NOT_KEPT),
        }
    )


def log_line(record: Record, seconds: float) -> str:
    """One request as one line of JSON: sizes, times and names, and nothing of prompt or answer."""
    return json.dumps(
        {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "path": record.path,
            "status": record.status,
            "outcome": record.outcome,
            **({"detail": record.detail} if record.detail else {}),
            "duration_ms": round(seconds * 1000),
            "first_token_ms": None if record.first_s is None else round(record.first_s * 1000),
            "request_bytes": record.request_bytes,
            "response_bytes": record.response_bytes,
            "tokens": record.tokens,
            "stream": record.stream,
            "model": record.model,
            "client": record.client,
            "endpoint": record.endpoint,
            "variant": record.variant,
            "request_id": record.request_id,
        }
    )
