"""The SageMaker adapter's latency and CPU, against the bare engine that answers behind it.

Engine, double and adapter are a process each. The double is on the adapter's way and not on the engine's, so
that what is shown is the adapter's share at most; its CPU is its own alone.
"""

import argparse
import json
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.load import Load, run
from benchmarks.machine import describe
from benchmarks.measures import Spread, ratio
from benchmarks.processes import BenchmarkError, answers, free_port, served
from benchmarks.results import Result, table
from rehearsal.workspace import PROJECT
from runtime.ops.progress import Progress
from runtime.sagemaker_gateway import AdapterConfig, SageMakerModel

_ADAPTER = "runtime.sagemaker_gateway"
_PATIENCE_S = 60.0
_MODEL = "bench"
_TOKENS = 200
_CONCURRENCIES = (1, 64)
_FIGURES = {"ttft": "median_ttft_ms", "tpot": "median_tpot_ms", "p99 tpot": "p99_tpot_ms"}
_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


@dataclass(frozen=True)
class Ways:
    """What is asked in turns.

    Attributes:
        engine: URL of the engine.
        adapter: URL of the adapter.
        process: The adapter's process.
    """

    engine: str
    adapter: str
    process: psutil.Process


@dataclass(frozen=True)
class Compared:
    """All runs with one number of clients.

    Attributes:
        concurrency: Clients.
        engine: Figure to its runs, of the engine alone, in milliseconds.
        adapter: The same through the adapter.
        cpu_us: The adapter's CPU time for one event, in microseconds.
    """

    concurrency: int
    engine: Mapping[str, Spread]
    adapter: Mapping[str, Spread]
    cpu_us: Spread


@contextmanager
def running(folder: Path, pause_s: float) -> Generator[Ways]:
    """Starts all three; they end with the context.

    Args:
        folder: For configuration and logs.
        pause_s: The engine's time before each token.
    """
    environment = {**_CREDENTIALS, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1"}
    engine, double, api, metrics = (free_port() for _ in range(4))
    endpoints = {"bench": {"variants": {"one": {"url": f"http://127.0.0.1:{engine}"}}}}
    (folder / "endpoints.json").write_text(json.dumps(endpoints))
    config = AdapterConfig(
        region="us-east-1",
        models=(SageMakerModel(name=_MODEL, endpoint="bench"),),
        runtime_url=f"http://127.0.0.1:{double}",
        listen_port=api,
        metrics_port=metrics,
    )
    (folder / "adapter.json").write_text(config.model_dump_json(by_alias=True))

    def python(module: str, *arguments: object) -> list[str]:
        return [sys.executable, "-m", module, *map(str, arguments)]

    def double_listens() -> bool:
        return f":{double}" in _text(folder / "double.log")

    def started(command: Sequence[str], log: str, ready: Callable[[], bool]) -> None:
        stack.enter_context(
            served(command, ready, log=folder / log, patience_s=_PATIENCE_S, environment=environment)
        )

    with ExitStack() as stack:
        started(
            python("benchmarks.streaming_engine", engine, "--pause-s", pause_s),
            "engine.log",
            lambda: answers(engine, "/healthz"),
        )
        started(
            python("rehearsal.sagemaker_runtime", folder / "endpoints.json", "--port", double),
            "double.log",
            double_listens,
        )
        started(python(_ADAPTER, folder / "adapter.json"), "adapter.log", lambda: answers(api, "/healthz"))
        yield Ways(f"http://127.0.0.1:{engine}", f"http://127.0.0.1:{api}", _adapter_process())


def measure(ways: Ways, concurrency: int, runs: int, requests: int, progress: Progress) -> Compared:
    """Asks both in turns, first the one and then the other.

    Raises:
        BenchmarkError: A request failed.
    """
    figures: dict[str, list[Mapping[str, float]]] = {"engine": [], "adapter": []}
    cpu: list[float] = []
    for number in range(runs):
        urls = [("engine", ways.engine), ("adapter", ways.adapter)]
        for name, url in urls if number % 2 == 0 else reversed(urls):
            with progress.step(f"{concurrency} clients, run {number + 1}: {name}"):
                before = sum(ways.process.cpu_times()[:2])
                figures[name].append(_shot(url, concurrency, requests))
                if name == "adapter":
                    spent = sum(ways.process.cpu_times()[:2]) - before
                    cpu.append(spent * 1e6 / ((requests + concurrency) * _TOKENS))
    return Compared(
        concurrency,
        **{
            name: {key: Spread(tuple(one[key] for one in found)) for key in _FIGURES}
            for name, found in figures.items()
        },
        cpu_us=Spread(tuple(cpu)),
    )


def _shot(url: str, concurrency: int, requests: int) -> Mapping[str, float]:
    load = Load(
        url=url,
        model=_MODEL,
        concurrency=concurrency,
        requests=requests,
        warm_up=concurrency,
        input_tokens=32,
        output_tokens=_TOKENS,
        token_ids=range(100, 1000),
    )
    found = run(load)
    if found["failed"]:
        raise BenchmarkError(f"{found['failed']} requests to {url} failed: {found['errors']}")
    return {name: float(str(found[key])) for name, key in _FIGURES.items()}


def result(found: Sequence[Compared], machine: Mapping[str, object], pause_s: float) -> Result:
    """The page and the data."""
    rows = [
        [
            str(one.concurrency),
            figure,
            one.engine[figure].shown(),
            one.adapter[figure].shown(),
            ratio(one.adapter[figure], one.engine[figure]).shown() if one.engine[figure].low > 0 else "",
            one.cpu_us.shown(0),
        ]
        for one in found
        for figure in _FIGURES
    ]
    head = ("clients", "figure", "engine, ms", "adapter and double, ms", "ratio", "adapter's CPU, µs/event")
    return Result(
        name="sagemaker",
        title="The SageMaker adapter against the bare engine",
        machine=machine,
        data={
            "tokens": _TOKENS,
            "pause_s": pause_s,
            "runs": [
                {
                    "concurrency": one.concurrency,
                    "engine_ms": {key: spread.as_json() for key, spread in one.engine.items()},
                    "adapter_ms": {key: spread.as_json() for key, spread in one.adapter.items()},
                    "adapter_cpu_us_per_event": one.cpu_us.as_json(),
                }
                for one in found
            ],
        },
        tables=[
            f"Streams of {_TOKENS} tokens, one every {pause_s * 1000:g} ms from the engine. Median of the "
            "runs, with their range.",
            table(head, rows),
        ],
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The benchmark's own options."""
    parser.add_argument("--runs", type=int, default=5, help="runs of each (default: %(default)s)")
    parser.add_argument(
        "--pause-s",
        type=float,
        default=0.02,
        help="time between two tokens of one stream (default: %(default)s)",
    )


def main(options: argparse.Namespace, folder: Path, progress: Progress) -> Result:
    """Runs it."""
    machine = describe()
    runs = 1 if options.quick else options.runs
    with running(folder, options.pause_s) as ways:
        found = [
            measure(ways, clients, runs, clients if options.quick else 4 * clients, progress)
            for clients in _CONCURRENCIES
        ]
    return result(found, machine, options.pause_s)


def _adapter_process() -> psutil.Process:
    for child in psutil.Process().children():
        if _ADAPTER in child.cmdline():
            return child
    raise BenchmarkError("the adapter is no process of ours")


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
