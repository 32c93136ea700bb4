"""Ray Serve LLM against bare `vllm serve`, and our load client against `vllm bench serve`.

Stack `local` is brought up on a site of its own; beside it, in the site's network and with the same flags,
runs the same engine without Ray. All paths are asked in turns by the closed-loop client; on the bare
server, vLLM's own benchmark takes turns with it.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.bring_up import take_down
from benchmarks.machine import describe
from benchmarks.measures import Spread, ratio
from benchmarks.processes import BenchmarkError, served
from benchmarks.results import Result, table
from rehearsal.platform import Platform
from rehearsal.site import Site
from rehearsal.site.api import object_path
from rehearsal.site.images import ENGINE_ENVIRONMENT
from rehearsal.site.network import NetworkNamespace
from rehearsal.site.tiny_model import model_files
from rehearsal.tools import Toolbox
from rehearsal.workspace import PROJECT
from runtime.model import ModelSpec
from runtime.ops.progress import Progress
from runtime.ops.pulumi_cli import PulumiCli
from runtime.serving.ray_service import SERVE_PORT, RayRuntime, serve_arguments, serve_service_name
from stacks.settings import parse

_BARE, _RAY, _GATEWAY, _VLLM_CLIENT = "vllm serve", "Ray Serve", "Ray Serve behind the gateway", "vllm bench"
_BARE_PORT = 8100
_INPUT_TOKENS = _OUTPUT_TOKENS = 64
_CONCURRENCIES = (1, 4)
# The tiny model's vocabulary: three special tokens, then one a byte.
_TOKEN_IDS = (3, 259)
_FIGURES = (
    "output_throughput",
    "request_throughput",
    "mean_ttft_ms",
    "median_ttft_ms",
    "p99_ttft_ms",
    "mean_tpot_ms",
    "median_tpot_ms",
    "mean_itl_ms",
    "median_itl_ms",
    "median_e2el_ms",
    "p99_e2el_ms",
)

Figures = Mapping[str, float]


@dataclass(frozen=True)
class Way:
    """A way to the engine."""

    name: str
    url: str
    api_key: str | None


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all runs share.

    Attributes:
        site: The site whose network everything is in.
        python: The Python of the serving environment.
        model: Folder with the model.
        model_id: What clients ask for.
        folder: Where results go.
        requests: Measured requests of each run, per client.
    """

    site: Site
    python: Path
    model: Path
    model_id: str
    folder: Path
    requests: int

    def inside(self, *command: str | Path) -> list[str]:
        """A command, run in the site's network."""
        return ["nsenter", f"--net={NetworkNamespace(self.site.layout).path}", *map(str, command)]

    def ours(self, way: Way, concurrency: int) -> Figures:
        """One run of our client."""
        result = self.folder / "ours.json"
        command = self.inside(sys.executable, "-m", "benchmarks.load", "--url", way.url)
        command += ["--model", self.model_id, "--concurrency", str(concurrency), "--result", str(result)]
        command += ["--requests", str(self.requests * concurrency), "--warm-up", str(2 * concurrency)]
        command += ["--input-tokens", str(_INPUT_TOKENS), "--output-tokens", str(_OUTPUT_TOKENS)]
        command += ["--token-ids", f"{_TOKEN_IDS[0]}:{_TOKEN_IDS[1]}"]
        environment = {**os.environ, **({"API_KEY": way.api_key} if way.api_key else {})}
        return _figures(command, environment, result)

    def vllms(self, way: Way, concurrency: int) -> Figures:
        """One run of vLLM's own client."""
        result = self.folder / "vllms.json"
        command = self.inside(self.python.with_name("vllm"), "bench", "serve", "--backend", "openai")
        command += ["--base-url", way.url, "--model", self.model_id, "--tokenizer", str(self.model)]
        command += ["--dataset-name", "random", "--random-input-len", str(_INPUT_TOKENS)]
        command += ["--random-output-len", str(_OUTPUT_TOKENS), "--ignore-eos", "--temperature", "0"]
        command += ["--num-prompts", str(self.requests * concurrency), "--max-concurrency", str(concurrency)]
        command += ["--num-warmups", str(2 * concurrency), "--percentile-metrics", "ttft,tpot,itl,e2el"]
        command += ["--save-result", "--save-detailed"]
        command += ["--result-dir", str(self.folder), "--result-filename", result.name]
        return _figures(command, {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}, result)

    def keys_of_one_only(self) -> list[str]:
        """The keys that only one of the two clients wrote in its last run."""
        ours, vllms = (json.loads((self.folder / name).read_text()) for name in ("ours.json", "vllms.json"))
        return sorted(ours.keys() ^ vllms.keys())


def _figures(command: Sequence[str], environment: Mapping[str, str], result: Path) -> Figures:
    result.unlink(missing_ok=True)
    done = subprocess.run(
        command, cwd=PROJECT, env=dict(environment), capture_output=True, text=True, check=False
    )
    if not result.exists():
        raise BenchmarkError(f"{command[2:5]} failed:\n{done.stderr[-2000:]}")
    found = json.loads(result.read_text())
    if found["failed"]:
        first = next(error for error in found["errors"] if error)
        raise BenchmarkError(f"{found['failed']} requests failed, the first: {first}")
    return {key: float(found[key]) for key in (*_FIGURES, "total_input_tokens", "total_output_tokens")}


def engine_flags(model: ModelSpec, ray: RayRuntime) -> list[str]:
    """The engine arguments that Ray Serve passes to vLLM, as flags of `vllm serve`."""
    configs = serve_arguments(model, ray)["llm_configs"]
    if not isinstance(configs, list) or not isinstance(config := configs[0], dict):
        raise TypeError("llm_configs is not a list of objects")
    engine = config["engine_kwargs"]
    if not isinstance(engine, dict):
        raise TypeError("engine_kwargs is not an object")
    flags: list[str] = []
    for name, value in engine.items():
        flag = f"--{name.replace('_', '-')}"
        flags += [flag] if value is True else [flag, str(value)]
    return flags


@contextmanager
def running_bare(bench: Bench, model: ModelSpec, ray: RayRuntime) -> Generator[Way]:
    """`vllm serve` with the same engine arguments and environment as the worker pod."""
    way = Way(_BARE, f"http://127.0.0.1:{_BARE_PORT}", None)
    vllm = bench.python.with_name("vllm")
    command = bench.inside(vllm, "serve", bench.model, "--served-model-name", bench.model_id)
    command += ["--host", "127.0.0.1", "--port", str(_BARE_PORT), *engine_flags(model, ray)]
    environment = {
        **ENGINE_ENVIRONMENT,
        **model.profile.environment,
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": model.worker.cpu,
    }
    layout = NetworkNamespace(bench.site.layout)

    def ready() -> bool:
        try:
            with layout.connect("127.0.0.1", _BARE_PORT, 2.0) as connection:
                connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
                return b" 200 " in connection.recv(64)
        except OSError:
            return False

    with served(command, ready, log=bench.folder / "vllm.log", patience_s=600, environment=environment):
        yield way


def measure(
    bench: Bench, ways: Sequence[Way], bare: Way, runs: int, progress: Progress
) -> dict[int, dict[str, list[Figures]]]:
    """Figures by concurrency and by what was run, in turns."""
    found: dict[int, dict[str, list[Figures]]] = {}
    with progress.step("load") as step:
        for concurrency in _CONCURRENCIES:
            here = found.setdefault(concurrency, {})
            for number in range(runs):
                turn = number % len(ways)
                for way in [*ways[turn:], *ways[:turn]]:
                    step.update(f"{concurrency} clients, run {number + 1} of {runs}, {way.name}")
                    here.setdefault(way.name, []).append(bench.ours(way, concurrency))
                    if way is bare:  # the two clients right after each other
                        step.update(f"{concurrency} clients, run {number + 1} of {runs}, {_VLLM_CLIENT}")
                        here.setdefault(_VLLM_CLIENT, []).append(bench.vllms(way, concurrency))
    return found


def result(
    found: Mapping[int, Mapping[str, Sequence[Figures]]],
    keys_of_one_only: Sequence[str],
    machine: Mapping[str, object],
) -> Result:
    """The page and the JSON."""
    tables = [
        f"Tiny random Llama on the CPU, {_INPUT_TOKENS} tokens in and {_OUTPUT_TOKENS} out, streamed, "
        "greedy. Closed loop. Medians of the runs, with the range in brackets. The engine, the client and "
        "the rest of the site share the machine."
    ]
    for concurrency, by_name in found.items():
        ways = [name for name in by_name if name != _VLLM_CLIENT]
        rows = [
            [
                name,
                _spread(by_name[name], "output_throughput").shown(0),
                _spread(by_name[name], "median_ttft_ms").shown(1),
                _spread(by_name[name], "p99_ttft_ms").shown(1),
                _spread(by_name[name], "median_tpot_ms").shown(2),
                ratio(
                    _spread(by_name[name], "output_throughput"), _spread(by_name[_BARE], "output_throughput")
                ).shown(),
            ]
            for name in ways
        ]
        head = [
            "path",
            "output tokens/s",
            "median TTFT, ms",
            "p99 TTFT, ms",
            "median TPOT, ms",
            "tokens/s to bare",
        ]
        tables += [f"## {concurrency} client(s)", table(head, rows)]
        tables += ["The same bare server, asked by our client and by `vllm bench serve`:"]
        rows = [
            [
                key,
                _spread(by_name[_BARE], key).shown(),
                _spread(by_name[_VLLM_CLIENT], key).shown(),
                ratio(_spread(by_name[_BARE], key), _spread(by_name[_VLLM_CLIENT], key)).shown(),
            ]
            for key in _FIGURES
        ]
        tables.append(table(["figure", "ours", "vllm bench serve", "ours to vLLM's"], rows))
    tables.append(f"Keys that only one of the two clients writes: {', '.join(keys_of_one_only) or 'none'}.")
    return Result(
        name="serving",
        title="Ray Serve LLM against bare `vllm serve`",
        machine=machine,
        data={
            "by_concurrency": {str(key): value for key, value in found.items()},
            "keys_of_one_only": list(keys_of_one_only),
        },
        tables=tables,
    )


def _spread(runs: Sequence[Figures], key: str) -> Spread:
    return Spread(tuple(run[key] for run in runs))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--runs", type=int, help="repetitions of each (default: 5, quick: 1)")
    parser.add_argument("--requests", type=int, help="requests per client and run (default: 30, quick: 5)")


def main(options: argparse.Namespace, folder: Path, progress: Progress) -> Result:
    """Measures and returns what was found."""
    machine = describe()
    home = folder / "home"
    os.environ["SPILLWAY_HOME"] = str(home)
    for name in ("KUBECONFIG", "CONTEXT"):
        os.environ.pop(name, None)
    try:
        running = Platform("local", options.site, progress).up()
        assert running is not None and running.namespace is not None  # noqa: S101, PT018 - `local` has both
        site = Site(options.site, home)
        settings = parse(_platform_object())
        model = settings.models[0]
        ray = RayRuntime(version=settings.ray.version, image=settings.ray.image, auth_secret="unused")  # noqa: S106
        files = folder / "model"
        files.mkdir()
        for name, data in model_files().items():
            (files / name).write_bytes(data)
        bench = Bench(
            site=site,
            python=Toolbox.load(["serving"]).python,
            model=files,
            model_id=model.model_id,
            folder=folder,
            requests=options.requests or (5 if options.quick else 30),
        )
        key = str(PulumiCli(PROJECT, "local", running.workspace.environment()).outputs()["apiKey"])
        serve = _address(site, running.namespace, serve_service_name(model))
        gateway = _address(site, running.namespace, f"{settings.name}-gateway")
        with running_bare(bench, model, ray) as bare:
            ways = [
                bare,
                Way(_RAY, f"http://{serve}:{SERVE_PORT}", None),
                Way(_GATEWAY, f"http://{gateway}:80", key),
            ]
            found = measure(bench, ways, bare, options.runs or (1 if options.quick else 5), progress)
        keys = bench.keys_of_one_only()
    finally:
        take_down(options.site, home)
    return result(found, keys, machine)


def _address(site: Site, namespace: str, service: str) -> str:
    return str(site.api().get(object_path("v1", "Service", namespace, service))["spec"]["clusterIP"])


def _platform_object() -> object:
    document = yaml.safe_load((PROJECT / "stacks" / "Pulumi.local.yaml").read_text())
    return document["config"]["spillway:platform"]
