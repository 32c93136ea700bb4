"""The gateway's latency and throughput against the upstream alone, against LiteLLM's proxy, and spilling.

All of them run at the same time and are asked in turns, so that a slow minute of the machine slows all.
The upstream is an Envoy that answers every chat with the same text at once: what is measured is the way,
not the model. Keys and routing by model are on, in the gateway and in LiteLLM. Where it spills, each request
is refused by a first upstream, which answers 503 to everything, before it reaches that one.
"""

import argparse
import json
import os
import re
import shutil
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.machine import describe
from benchmarks.measures import Spread, ratio
from benchmarks.processes import answers, free_port, output, served
from benchmarks.results import Result, table
from rehearsal.tools import Toolbox, ToolError
from rehearsal.tools.cache import Cache
from rehearsal.tools.catalogue import ENVOY, Tool, VirtualEnvironment
from rehearsal.tools.making import Maker
from runtime.gateway import (
    GatewayConfig,
    ModelRoute,
    Overflow,
    Upstream,
    arguments,
    render,
    render_api_keys,
)
from runtime.ops.progress import Progress

_HERE = Path(__file__).parent
_PINS = _HERE / "litellm"
_UPSTREAM, _GATEWAY, _SPILLING = "upstream alone", "gateway", "gateway, each request spilled"
_LITELLM_WORKERS = (1, 2)
_MODELS = tuple(f"example/model-{number:02d}" for number in range(10))
_KEY = "sk-benchmark-0123456789"
_CLIENT, _SPILL_KEY = "benchmark", "sk-benchmark-spill-0123"
_LATENCY_CONNECTIONS, _LOAD_CONNECTIONS = 1, 64
_ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": _MODELS[0],
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "All is well. " * 8},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 8, "completion_tokens": 32, "total_tokens": 40},
}
_FULL = {"error": {"message": "queue is full", "type": "ServiceUnavailable", "code": 503}}


@dataclass(frozen=True)
class Target:
    """Something that answers chat requests.

    Attributes:
        name: What tables call it.
        port: Its port on 127.0.0.1.
        key: The client's key, or None where none is asked for.
    """

    name: str
    port: int
    key: str | None


@dataclass(frozen=True)
class Shot:
    """What one run of wrk found.

    Attributes:
        p50_ms: Median latency.
        p99_ms: Latency that one request in a hundred exceeds.
        per_s: Answers per second.
        failures: Answers that were not 2xx, and connections that broke.
    """

    p50_ms: float
    p99_ms: float
    per_s: float
    failures: int


def litellm_tool() -> Tool:
    """LiteLLM's proxy as a tool of the cache: an environment of its own, never one of the project."""
    requirements = (_PINS / "requirements.txt").read_text()
    version = re.search(r"^litellm==([\d.]+)", requirements, re.MULTILINE)
    if version is None:
        raise ToolError(f"{_PINS / 'requirements.txt'} does not pin litellm")
    return Tool(
        name="litellm",
        version=version[1],
        group=None,
        venv=VirtualEnvironment(pins=_PINS, flags=("--compile-bytecode",)),
    )


def shoot(wrk: str, target: Target, body: Path, connections: int, seconds: float) -> Shot:
    """Asks a target for some seconds, each connection with one request after the other."""
    command: list[str | Path] = [
        wrk,
        "-t1",
        f"-c{connections}",
        f"-d{seconds:g}s",
        "--timeout",
        "10s",
        "-s",
        _HERE / "wrk.lua",
    ]
    environment = {**os.environ, "BENCH_BODY": str(body)}
    if target.key:
        environment["BENCH_KEY"] = target.key
    command.append(f"http://127.0.0.1:{target.port}/v1/chat/completions")
    return parse_wrk(output(command, environment=environment))


def parse_wrk(text: str) -> Shot:
    """Reads the line that `wrk.lua` prints."""
    (line,) = (line for line in text.splitlines() if line.startswith("RESULT "))
    found = json.loads(line.removeprefix("RESULT "))
    return Shot(
        p50_ms=found["p50_us"] / 1000,
        p99_ms=found["p99_us"] / 1000,
        per_s=(found["requests"] - found["not_2xx"]) / (found["duration_us"] / 1e6),
        failures=found["not_2xx"] + found["broken"],
    )


@contextmanager
def running_targets(folder: Path, envoy: Path, litellm: Path) -> Generator[list[Target]]:
    """Everything that is compared, running: the upstream, the gateway, LiteLLM with 1 and 2 workers."""
    with ExitStack() as running:
        upstream = free_port()
        running.enter_context(_upstream(folder, envoy, upstream, "upstream", _ANSWER))
        gateway = free_port()
        running.enter_context(_gateway(folder, envoy, gateway, upstream, "gateway"))
        full, spilling = free_port(), free_port()
        running.enter_context(_upstream(folder, envoy, full, "full", _FULL, status=503))
        running.enter_context(_gateway(folder, envoy, spilling, full, "spilling", spill=upstream))
        targets = [
            Target(_UPSTREAM, upstream, None),
            Target(_GATEWAY, gateway, _KEY),
            Target(_SPILLING, spilling, _KEY),
        ]
        for workers in _LITELLM_WORKERS:
            port = free_port()
            running.enter_context(_litellm(folder, litellm, port, upstream, workers))
            targets.append(Target(_litellm_name(workers), port, _KEY))
        yield targets


def _litellm_name(workers: int) -> str:
    return f"LiteLLM, {workers} worker{'s' if workers > 1 else ''}"


def _upstream(
    folder: Path, envoy: Path, port: int, name: str, answer: Mapping[str, object], status: int = 200
) -> AbstractContextManager[None]:
    http = "envoy.extensions.filters.http"
    any_type = "type.googleapis.com/"
    manager_type = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    manager = {
        "@type": f"{any_type}{manager_type}",
        "stat_prefix": "upstream",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {"match": {"path": "/healthz"}, "direct_response": {"status": 200}},
                        {
                            "match": {"prefix": "/"},
                            "direct_response": {
                                "status": status,
                                "body": {"inline_string": json.dumps(answer)},
                            },
                            "response_headers_to_add": [
                                {
                                    "header": {"key": "content-type", "value": "application/json"},
                                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                                }
                            ],
                        },
                    ],
                }
            ]
        },
        "http_filters": [
            # Reads the whole body before it answers, as a model server does.
            {
                "name": "buffer",
                "typed_config": {"@type": f"{any_type}{http}.buffer.v3.Buffer", "max_request_bytes": 1048576},
            },
            {"name": "router", "typed_config": {"@type": f"{any_type}{http}.router.v3.Router"}},
        ],
    }
    listener = {
        "name": "upstream",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    config = folder / f"{name}.json"
    config.write_text(json.dumps({"static_resources": {"listeners": [listener]}}))
    command = [envoy, "--config-path", config, "--concurrency", "1", "--disable-hot-restart", "-l", "warn"]
    return served(command, lambda: answers(port, "/healthz"), log=folder / f"{name}.log", patience_s=30)


def _gateway(
    folder: Path, envoy: Path, port: int, upstream: int, name: str, spill: int | None = None
) -> AbstractContextManager[None]:
    def at(where: int) -> Upstream:
        return Upstream(host="127.0.0.1", port=where)

    elsewhere = None if spill is None else at(spill)
    config = GatewayConfig(
        models=tuple(ModelRoute(name=model, upstream=at(upstream), spill=elsewhere) for model in _MODELS),
        listen_address="127.0.0.1",
        listen_port=port,
        metrics_port=free_port(),
        admin_port=free_port(),
        config_folder=str(folder / name),
        keys_folder=str(folder / f"{name}-keys"),
        overflow=Overflow(clients=(_CLIENT,), gate_port=free_port()),
    )
    keys = render_api_keys({_CLIENT: _KEY}, spill_key=None if spill is None else _SPILL_KEY)
    for where, texts in {config.config_folder: render(config), config.keys_folder: keys}.items():
        Path(where).mkdir()
        for file_name, text in texts.items():
            (Path(where) / file_name).write_text(text)
    command = [envoy, *arguments(config)]
    return served(command, lambda: answers(port, "/healthz"), log=folder / f"{name}.log", patience_s=30)


def _litellm(
    folder: Path, environment: Path, port: int, upstream: int, workers: int
) -> AbstractContextManager[None]:
    own = folder / f"litellm-{workers}"
    own.mkdir()
    config = own / "config.yaml"
    server = {"api_base": f"http://127.0.0.1:{upstream}/v1", "api_key": "unused"}
    config.write_text(
        yaml.safe_dump(
            {
                "model_list": [
                    {"model_name": name, "litellm_params": {"model": f"openai/{name}", **server}}
                    for name in _MODELS
                ],
                "general_settings": {"master_key": _KEY},
                "litellm_settings": {"telemetry": False, "set_verbose": False},
            }
        )
    )
    command = [environment / "bin" / "litellm", "--config", config, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", str(workers)]
    # Its start takes longer than the five seconds after which uvicorn gives several workers up.
    command += ["--timeout_worker_healthcheck", "120"] if workers > 1 else []
    return served(
        command,
        lambda: answers(port, "/health/liveliness"),
        log=own / "log",
        patience_s=180,
        environment={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "DO_NOT_TRACK": "1"},
    )


@dataclass(frozen=True)
class Compared:
    """Everything that was measured of one target."""

    name: str
    alone: tuple[Shot, ...]
    loaded: tuple[Shot, ...]

    @property
    def p50_ms(self) -> Spread:
        """Median latency at one connection."""
        return Spread(tuple(shot.p50_ms for shot in self.alone))

    @property
    def p99_ms(self) -> Spread:
        """99th percentile at one connection."""
        return Spread(tuple(shot.p99_ms for shot in self.alone))

    @property
    def per_s(self) -> Spread:
        """Answers per second at 64 connections."""
        return Spread(tuple(shot.per_s for shot in self.loaded))

    @property
    def failures(self) -> int:
        """Failures in all runs."""
        return sum(shot.failures for shot in (*self.alone, *self.loaded))


def measure(
    targets: Sequence[Target], body: Path, wrk: str, runs: int, seconds: float, progress: Progress
) -> list[Compared]:
    """Asks all targets in turns, first one connection each, then 64 each; who is first changes."""
    shots: dict[tuple[str, int], list[Shot]] = {}
    with progress.step("wrk") as step:
        for target in targets:  # warm-up, not counted
            shoot(wrk, target, body, _LOAD_CONNECTIONS, min(seconds, 3))
        for number in range(runs):
            turn = number % len(targets)
            for connections in (_LATENCY_CONNECTIONS, _LOAD_CONNECTIONS):
                for target in [*targets[turn:], *targets[:turn]]:
                    step.update(f"run {number + 1} of {runs}, {target.name}, {connections} connections")
                    shot = shoot(wrk, target, body, connections, seconds)
                    shots.setdefault((target.name, connections), []).append(shot)
    return [
        Compared(
            target.name,
            tuple(shots[target.name, _LATENCY_CONNECTIONS]),
            tuple(shots[target.name, _LOAD_CONNECTIONS]),
        )
        for target in targets
    ]


def _difference(one: Spread, other: Spread) -> Spread:
    """Run by run, what one has more than the other."""
    return Spread(tuple(more - less for more, less in zip(one.runs, other.runs, strict=True)))


def result(found: Sequence[Compared], machine: Mapping[str, object], versions: Mapping[str, str]) -> Result:
    """The page and the JSON of a measurement."""
    by_name = {compared.name: compared for compared in found}
    gateway, spilling = by_name[_GATEWAY], by_name[_SPILLING]
    added_ms = _difference(gateway.p50_ms, by_name[_UPSTREAM].p50_ms)
    spill_ms = _difference(spilling.p50_ms, gateway.p50_ms)
    times = {
        workers: ratio(gateway.per_s, by_name[_litellm_name(workers)].per_s) for workers in _LITELLM_WORKERS
    }
    rows = [
        [
            compared.name,
            compared.p50_ms.shown(3),
            compared.p99_ms.shown(3),
            compared.per_s.shown(0),
            str(compared.failures),
        ]
        for compared in found
    ]
    head = ["", "p50 at 1 connection, ms", "p99, ms", "answers/s at 64 connections", "failures"]
    against = "; ".join(
        f"{spread.shown(0)} times LiteLLM's answers per second with {workers} worker(s)"
        for workers, spread in times.items()
    )
    return Result(
        name="gateway",
        title="The gateway against the upstream alone and LiteLLM's proxy",
        machine=machine,
        data={
            "versions": versions,
            "added_p50_ms": added_ms.as_json(),
            "spill_added_p50_ms": spill_ms.as_json(),
            "times_litellm": {str(workers): spread.as_json() for workers, spread in times.items()},
            "targets": [
                {
                    "name": compared.name,
                    "p50_ms": compared.p50_ms.as_json(),
                    "p99_ms": compared.p99_ms.as_json(),
                    "per_s": compared.per_s.as_json(),
                    "failures": compared.failures,
                }
                for compared in found
            ],
        },
        tables=[
            f"{', '.join(f'{name} {version}' for name, version in versions.items())}. Ten models, one key. "
            "The load generator, the upstream and what is measured share the machine. Medians of the runs, "
            "with the range in brackets.",
            table(head, rows),
            f"The gateway adds {added_ms.shown(3)} ms to the median request; it gives {against}. "
            f"A spilled request takes {spill_ms.shown(3)} ms more than one that on-prem takes; of those, "
            f"{spilling.failures} failed. Ratios and differences are taken run by run.",
        ],
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--runs", type=int, help="repetitions of each (default: 5, quick: 1)")
    parser.add_argument("--seconds", type=float, help="length of one run (default: 10, quick: 2)")


def main(options: argparse.Namespace, folder: Path, progress: Progress) -> Result:
    """Measures and returns what was found.

    Raises:
        ToolError: Envoy or wrk is missing, or LiteLLM cannot be installed.
        BenchmarkError: One of what is compared does not come up.
    """
    machine = describe()
    wrk = shutil.which("wrk")
    if wrk is None:
        raise ToolError("wrk is missing; on Debian: apt-get install wrk")
    envoy = Toolbox.load(["gateway"]).path("envoy")
    tool = litellm_tool()
    Maker(Cache.locate(), progress).make([tool])
    body = folder / "body.json"
    message = {"role": "user", "content": "How is the weather in the mountains this week? " * 4}
    body.write_text(json.dumps({"model": _MODELS[0], "messages": [message], "max_tokens": 64}))
    with running_targets(folder, envoy, Cache.locate().folder(tool)) as targets:
        runs = options.runs or (1 if options.quick else 5)
        seconds = options.seconds or (2.0 if options.quick else 10.0)
        found = measure(targets, body, wrk, runs, seconds, progress)
    return result(found, machine, {"Envoy": ENVOY, "LiteLLM": tool.version})
