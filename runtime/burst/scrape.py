"""Metrics of several pods, read from each directly or from a Prometheus, with the age of every reading."""

import http.client
import json
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, cast
from urllib.parse import urlencode, urlsplit

TIMEOUT_S = 2.0
_MOST_AT_ONCE = 8
# name{labels} value [timestamp], https://prometheus.io/docs/instrumenting/exposition_formats/
_LINE = re.compile(
    r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)(?:\s+\d+)?\s*"
)
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPED = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


class ScrapeError(Exception):
    """The metrics could not be read; the text says why."""


@dataclass(frozen=True)
class Sample:
    """One value of one metric."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class Reading:
    """What one pod said, and when, by the reader's clock."""

    samples: tuple[Sample, ...]
    at: float


@dataclass(frozen=True, kw_only=True)
class Target:
    """Pods that are read together.

    Attributes:
        job: What they are called in Prometheus' label `job`, and in messages.
        host: Name that resolves to all of them.
        port: Port of their metrics.
        path: Path of their metrics.
        metrics: Names of the metrics that are wanted.
    """

    job: str
    host: str
    port: int
    path: str = "/metrics"
    metrics: frozenset[str]


class Source(Protocol):
    """Where metrics come from."""

    def read(self, target: Target) -> Mapping[str, Reading]:
        """Returns pod to its newest reading, old ones too; raises ScrapeError if it knows of no pod."""
        ...


def parse(text: str, wanted: frozenset[str]) -> Iterator[Sample]:
    """Reads Prometheus' text format, only the metrics that are wanted; what is no sample is passed over."""
    for line in text.splitlines():
        if line.startswith("#") or (found := _LINE.fullmatch(line)) is None or found["name"] not in wanted:
            continue
        try:
            value = float(found["value"])
        except ValueError:
            continue
        labels = {
            name: re.sub(r'\\[\\"n]', lambda one: _ESCAPED[one[0]], text)
            for name, text in _LABEL.findall(found["labels"] or "")
        }
        yield Sample(found["name"], labels, value)


@dataclass
class Direct:
    """Asks every pod itself. A pod that does not answer keeps what it said last, which grows old.

    Attributes:
        clock: Unix seconds.
        resolve: Addresses of a name, for tests.
    """

    clock: Callable[[], float] = time.time
    resolve: "Callable[[str, int], list[tuple[str, int]]] | None" = None
    _last: dict[str, dict[str, Reading]] = field(default_factory=dict[str, dict[str, Reading]])

    def read(self, target: Target) -> Mapping[str, Reading]:
        """Returns pod address to its newest reading.

        Raises:
            ScrapeError: The name resolves to nothing.
        """
        try:
            pods = (self.resolve or addresses)(target.host, target.port)
        except OSError as error:
            raise ScrapeError(f"{target.host} has no pods: {error}") from None
        known = self._last.get(target.job, {})
        now = self.clock()

        def fetch(pod: tuple[str, int]) -> str | None:
            return _fetch(*pod, target.path)

        with ThreadPoolExecutor(_MOST_AT_ONCE) as workers:
            texts = workers.map(fetch, pods)
            readings = {
                f"{host}:{port}": known.get(f"{host}:{port}")
                if text is None
                else Reading(tuple(parse(text, target.metrics)), now)
                for (host, port), text in zip(pods, texts, strict=True)
            }
        # A pod that has gone is forgotten with what it said; one that never answered counts as never.
        found = {pod: reading or Reading((), float("-inf")) for pod, reading in readings.items()}
        self._last[target.job] = {pod: one for pod, one in found.items() if one.samples}
        return found


@dataclass
class Prometheus:
    """Asks a Prometheus for what it has scraped lately.

    Attributes:
        url: Its URL, such as http://prometheus.monitoring:9090.
        window_s: How far back, in seconds. A pod that has gone counts for so long, so it is no longer than
            values are believed anyway.
    """

    url: str
    window_s: float = 60.0

    def read(self, target: Target) -> Mapping[str, Reading]:
        """Returns instance to its newest values, with the time of the scrape.

        Raises:
            ScrapeError: Prometheus does not answer, or has nothing of these pods.
        """
        names = "|".join(sorted(target.metrics))
        query = f'{{__name__=~"{names}",job="{target.job}"}}[{round(self.window_s * 1000)}ms]'
        answer = self._ask(query)
        values: dict[str, list[Sample]] = {}
        times: dict[str, float] = {}
        for series in cast("list[dict[str, Any]]", answer):
            labels = cast("dict[str, str]", dict(series["metric"]))
            at, value = series["values"][-1]
            pod = labels.get("instance", "")
            values.setdefault(pod, []).append(Sample(labels.pop("__name__", ""), labels, float(value)))
            times[pod] = max(times.get(pod, 0.0), float(at))
        if not values:
            raise ScrapeError(f"{self.url} has nothing of job {target.job} in the last {self.window_s:g} s")
        return {pod: Reading(tuple(samples), times[pod]) for pod, samples in values.items()}

    def _ask(self, query: str) -> object:
        url = urlsplit(self.url)
        path = f"{url.path.rstrip('/')}/api/v1/query?{urlencode({'query': query})}"
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        connection = kind(url.hostname or "", url.port, timeout=TIMEOUT_S)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            answer = json.loads(response.read())
            if answer.get("status") != "success":
                raise ScrapeError(f"{self.url}: {answer.get('error') or response.status}")
            return answer["data"]["result"]
        except (OSError, http.client.HTTPException, ValueError, KeyError, AttributeError) as error:
            raise ScrapeError(f"{self.url} does not answer: {error}") from None
        finally:
            connection.close()


def addresses(host: str, port: int) -> list[tuple[str, int]]:
    """All addresses of a name; raises OSError if it has none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return sorted({(str(one[4][0]), port) for one in found})


def _fetch(host: str, port: int, path: str) -> str | None:
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        return body.decode(errors="replace") if response.status == http.client.OK else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
