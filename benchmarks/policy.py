"""What the policy packs cost: CPU for each resource, and how much longer a preview of 300 resources takes.

The SDK as it is stands beside our analyzer, and an analyzer that judges nothing (docs/adr/0019). The preview
is that of a program that only registers Kubernetes objects of the golden previews, with the provider
rendering them to files, so that neither cluster nor account is needed.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.machine import describe
from benchmarks.measures import Spread, ratio
from benchmarks.policy_worker import GOLDEN, RESOURCES
from benchmarks.processes import Cost, cost, output
from benchmarks.results import Result, table
from policies.packs import PACKS
from rehearsal.tools import Toolbox
from rehearsal.workspace import POLICY_PACK, PROJECT, Workspace
from runtime.ops.progress import Progress
from runtime.ops.pulumi_cli import PulumiCli

RUNS = 5
QUICK_RUNS = 1
_STOCK, _OURS = "stock", "ours"
_NONE, _NOTHING, _ALL = "no packs", "an analyzer that judges nothing", "all, executable"
_PROJECT, _FOUR, _ALL_STOCK = "all, behind a language host", "four processes", "all, stock SDK"

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
    found: dict[str, list[dict[str, float]]] = {_STOCK: [], _OURS: []}
    with progress.step("CPU of the packs") as step:
        for number in range(runs):
            step.update(f"run {number + 1} of {runs}")
            for variant in (_STOCK, _OURS) if number % 2 == 0 else (_OURS, _STOCK):
                said = output([sys.executable, "-m", "benchmarks.policy_worker", variant], folder=PROJECT)
                found[variant].append(json.loads(said))
    return found


def previews(folder: Path, runs: int, progress: Progress) -> dict[str, list[Cost]]:
    """What previews without packs and with them cost, in turns."""
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
    (folder / "none.json").write_text("{}")
    variants: dict[str, list[Path]] = {
        _NONE: [],
        _NOTHING: [_executable(folder / "nothing", "benchmarks.policy_nothing")],
        _ALL: [POLICY_PACK],
        _PROJECT: [POLICY_PACK.parent],
        _FOUR: [POLICY_PACK.parent / pack for pack in PACKS],
        _ALL_STOCK: [_stock_pack(folder / "stock", runtime)],
    }
    found: dict[str, list[Cost]] = {name: [] for name in variants}
    names = list(variants)
    with progress.step(f"previews of {RESOURCES} resources") as step:
        for number in range(-1, runs):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                step.update(f"run {number + 1} of {runs}, {name}")
                taken = _preview(project, environment, variants[name], config)
                if number >= 0:  # the first turn fills caches
                    found[name].append(taken)
    return found


def _executable(path: Path, module: str) -> Path:
    path.write_text(f"#!/bin/sh\nexec '{PROJECT}/.venv/bin/python' -P -m {module} \"$@\"\n")
    path.chmod(0o755)
    return path


def _stock_pack(folder: Path, runtime: Mapping[str, object]) -> Path:
    folder.mkdir()
    (folder / "PulumiPolicy.yaml").write_text(json.dumps({"runtime": runtime, "version": "0.0.1"}))
    (folder / "__main__.py").write_text("from benchmarks.policy_sdk import serve\n\nserve()\n")
    return folder


def _preview(project: Path, environment: Mapping[str, str], packs: Sequence[Path], config: Path) -> Cost:
    command = ["pulumi", "preview", "--non-interactive", "--stack", "bench"]
    for pack in packs:
        command += ["--policy-pack", str(pack)]
        # The one that judges nothing has no rule whose level could be set.
        none = config.with_name("none.json")
        command += ["--policy-pack-config", str(none if pack.name == "nothing" else config)]
    return cost(command, folder=project, environment=environment)


def result(
    of_cpu: Mapping[str, Sequence[Mapping[str, float]]],
    of_preview: Mapping[str, Sequence[Cost]],
    machine: Mapping[str, object],
) -> Result:
    """The page and the JSON of a measurement."""

    def milliseconds(variant: str, *calls: str, each: int = RESOURCES) -> Spread:
        return Spread(tuple(1000 * sum(run[call] for call in calls) / each for run in of_cpu[variant]))

    one = {variant: milliseconds(variant, "remediate", "analyze") for variant in (_STOCK, _OURS)}
    whole = {variant: milliseconds(variant, "stack", each=1) for variant in (_STOCK, _OURS)}
    rows = [
        ["a resource, ms", one[_STOCK].shown(), one[_OURS].shown(), ratio(one[_STOCK], one[_OURS]).shown(1)],
        [
            f"the stack's rules on {RESOURCES} resources, ms",
            whole[_STOCK].shown(0),
            whole[_OURS].shown(0),
            ratio(whole[_STOCK], whole[_OURS]).shown(1),
        ],
    ]
    cpu_s = {name: Spread(tuple(one.cpu_s for one in costs)) for name, costs in of_preview.items()}
    wall_s = {name: Spread(tuple(one.wall_s for one in costs)) for name, costs in of_preview.items()}
    preview_rows = [
        [
            name,
            cpu_s[name].shown(),
            ratio(cpu_s[name], cpu_s[_NONE]).shown(),
            wall_s[name].shown(),
            ratio(wall_s[name], wall_s[_NONE]).shown(),
        ]
        for name in of_preview
    ]
    first = of_cpu[_OURS][0]
    return Result(
        name="policy",
        title="What the policy packs cost",
        machine=machine,
        data={
            "cpu_seconds": {name: list(runs) for name, runs in of_cpu.items()},
            "preview_cpu_seconds": {name: spread.as_json() for name, spread in cpu_s.items()},
            "preview_seconds": {name: spread.as_json() for name, spread in wall_s.items()},
        },
        tables=[
            f"CPU of {first['policies']:.0f} policies on {RESOURCES} resources of stack `hybrid`, on average "
            f"{first['bytes'] / RESOURCES / 1000:.1f} KB each; {len(of_cpu[_OURS])} runs, median and range.",
            table(["", "stock SDK", "our analyzer", "ratio"], rows),
            f"A preview of {RESOURCES} Kubernetes objects, rendered to files, the CLI's start included: CPU "
            f"of all its processes, and seconds on the clock. Median and range of {len(of_preview[_NONE])} "
            "runs, ratios to a preview without packs run by run.",
            table(["packs", "CPU, s", "ratio", "clock, s", "ratio"], preview_rows),
        ],
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--runs", type=int, help=f"runs of everything (default: {RUNS})")


def main(arguments: argparse.Namespace, folder: Path, progress: Progress) -> Result:
    """Measures."""
    runs = arguments.runs or (QUICK_RUNS if arguments.quick else RUNS)
    (folder / "kubeconfig").write_text("apiVersion: v1\nkind: Config\n")
    machine = describe()
    return result(cpu(runs, progress), previews(folder, runs, progress), machine)
