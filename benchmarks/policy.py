"""What the policy packs cost: CPU for each resource, and how much longer a preview of 300 resources takes.

The SDK as it is stands beside ours, which deserialises each resource once per call (docs/adr/0019). The
preview is that of a program that only registers Kubernetes objects of the golden previews, with the provider
rendering them to files, so that neither cluster nor account is needed.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.machine import describe
from benchmarks.measures import Spread, ratio
from benchmarks.policy_worker import GOLDEN, RESOURCES
from benchmarks.processes import output
from benchmarks.results import Result, table
from policies.once import STOCK_VARIABLE
from policies.packs import PACKS
from rehearsal.tools import Toolbox
from rehearsal.workspace import POLICY_PACK, PROJECT, Workspace
from runtime.ops.progress import Progress
from runtime.ops.pulumi_cli import PulumiCli

RUNS = 5
QUICK_RUNS = 1
_STOCK, _ONCE = "stock", "once"
_NONE, _ALL, _ALL_STOCK, _FOUR = "no packs", "all, one process", "all, stock SDK", "four processes"

_PROGRAM = """
import json, os
import pulumi, pulumi_kubernetes as kubernetes

provider = kubernetes.Provider("rendered", render_yaml_to_directory=os.environ["BENCH_RENDERED"])
for one in json.load(open(os.environ["BENCH_RESOURCES"])):
    options = pulumi.ResourceOptions(provider=provider)
    pulumi.CustomResource(one["type"], one["name"], one["inputs"], options)
"""


def resources() -> list[dict[str, Any]]:
    """So many Kubernetes objects of the hybrid stack, each under a name of its own."""
    there = [
        one
        for one in yaml.safe_load(GOLDEN.read_text())["resources"]
        # A release is looked up in its repository, and a Secret's mask in the golden file is no property.
        if one["type"].startswith("kubernetes:") and not one["type"].endswith((":Release", ":Secret"))
    ]
    found: list[dict[str, Any]] = []
    for number in range(RESOURCES):
        one = there[number % len(there)]
        metadata = {**one["inputs"]["metadata"], "name": f"n{number}"}
        inputs = {**one["inputs"], "metadata": metadata}
        found.append({"type": one["type"], "name": f"{one['name']}-{number}", "inputs": inputs})
    return found


def cpu(runs: int, progress: Progress) -> dict[str, list[dict[str, float]]]:
    """CPU seconds of both SDKs, in turns, each run in a process of its own."""
    found: dict[str, list[dict[str, float]]] = {_STOCK: [], _ONCE: []}
    with progress.step("CPU of the packs") as step:
        for number in range(runs):
            step.update(f"run {number + 1} of {runs}")
            for variant in (_STOCK, _ONCE) if number % 2 == 0 else (_ONCE, _STOCK):
                said = output([sys.executable, "-m", "benchmarks.policy_worker", variant], folder=PROJECT)
                found[variant].append(json.loads(said))
    return found


def previews(folder: Path, runs: int, progress: Progress) -> dict[str, Spread]:
    """Seconds of previews without packs and with them, in turns."""
    project = folder / "project"
    project.mkdir()
    runtime = {"name": "python", "options": {"toolchain": "pip", "virtualenv": str(PROJECT / ".venv")}}
    (project / "Pulumi.yaml").write_text(json.dumps({"name": "spillway", "runtime": runtime}))
    (project / "__main__.py").write_text(_PROGRAM)
    (folder / "resources.json").write_text(json.dumps(resources()))
    workspace = Workspace(folder / "home", "bench", folder / "kubeconfig")
    workspace.install(Toolbox.load(["pulumi"]))
    environment = {
        **{key: value for key, value in workspace.environment().items() if "PULUMI_OPTION" not in key},
        "BENCH_RESOURCES": str(folder / "resources.json"),
        "BENCH_RENDERED": str(folder / "rendered"),
    }
    for name in ("PYTHONDONTWRITEBYTECODE", "KUBECONFIG"):
        environment.pop(name, None)
    PulumiCli(project, "bench", environment).ensure_stack()
    # Every violation is only shown: what is measured is a preview that comes to its end.
    config = folder / "advisory.json"
    config.write_text(json.dumps({"all": "advisory"}))
    variants: dict[str, tuple[dict[str, str], list[Path]]] = {
        _NONE: (environment, []),
        _ALL: (environment, [POLICY_PACK]),
        _ALL_STOCK: ({**environment, STOCK_VARIABLE: "1"}, [POLICY_PACK]),
        _FOUR: (environment, [POLICY_PACK / pack for pack in PACKS]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    with progress.step(f"previews of {RESOURCES} resources") as step:
        for number in range(-1, runs):
            names = list(variants)
            for name in names[number % 4 :] + names[: number % 4]:
                step.update(f"run {number + 1} of {runs}, {name}")
                taken = _preview(project, *variants[name], config)
                if number >= 0:  # the first turn fills caches
                    seconds[name].append(taken)
    return {name: Spread(tuple(each)) for name, each in seconds.items()}


def _preview(project: Path, environment: Mapping[str, str], packs: Sequence[Path], config: Path) -> float:
    command = ["pulumi", "preview", "--non-interactive", "--stack", "bench"]
    for pack in packs:
        command += ["--policy-pack", str(pack), "--policy-pack-config", str(config)]
    started = time.perf_counter()
    output(command, folder=project, environment=environment)
    return time.perf_counter() - started


def result(
    of_cpu: Mapping[str, Sequence[Mapping[str, float]]],
    of_preview: Mapping[str, Spread],
    machine: Mapping[str, object],
) -> Result:
    """The page and the JSON of a measurement."""

    def milliseconds(variant: str, *calls: str, each: int = RESOURCES) -> Spread:
        return Spread(tuple(1000 * sum(run[call] for call in calls) / each for run in of_cpu[variant]))

    one = {variant: milliseconds(variant, "remediate", "analyze") for variant in (_STOCK, _ONCE)}
    whole = {variant: milliseconds(variant, "stack", each=1) for variant in (_STOCK, _ONCE)}
    rows = [
        ["a resource, ms", one[_STOCK].shown(), one[_ONCE].shown(), ratio(one[_STOCK], one[_ONCE]).shown(1)],
        [
            f"the stack's rules on {RESOURCES} resources, ms",
            whole[_STOCK].shown(0),
            whole[_ONCE].shown(0),
            ratio(whole[_STOCK], whole[_ONCE]).shown(1),
        ],
    ]
    bare = of_preview[_NONE]
    preview_rows = [
        [name, spread.shown(), ratio(spread, bare).shown()] for name, spread in of_preview.items()
    ]
    first = of_cpu[_ONCE][0]
    return Result(
        name="policy",
        title="What the policy packs cost",
        machine=machine,
        data={
            "cpu_seconds": {name: list(runs) for name, runs in of_cpu.items()},
            "preview_seconds": {name: spread.as_json() for name, spread in of_preview.items()},
        },
        tables=[
            f"CPU of {first['policies']:.0f} policies on {RESOURCES} resources of stack `hybrid`, on average "
            f"{first['bytes'] / RESOURCES / 1000:.1f} KB each; {len(of_cpu[_ONCE])} runs, median and range.",
            table(["", "stock SDK", "each resource once", "ratio"], rows),
            f"A preview of {RESOURCES} Kubernetes objects, rendered to files, the CLI's start included; "
            f"median and range of {len(bare.runs)} runs, ratios run by run.",
            table(["packs", "seconds", "to a preview without packs"], preview_rows),
        ],
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--runs", type=int, help=f"runs of everything (default: {RUNS})")


def main(arguments: argparse.Namespace, folder: Path, progress: Progress) -> Result:
    """Measures."""
    runs = arguments.runs or (QUICK_RUNS if arguments.quick else RUNS)
    (folder / "kubeconfig").write_text("apiVersion: v1\nkind: Config\n")
    os.environ.pop(STOCK_VARIABLE, None)
    machine = describe()
    return result(cpu(runs, progress), previews(folder, runs, progress), machine)
