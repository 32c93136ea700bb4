"""What `pulumi preview` of Spillway costs against a bare Pulumi program with the same resources.

Both run under the same engine, plugins, backend and cluster, in turns. Before anything is timed, their
two previews are compared: same resources, same inputs, same timeouts.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import yaml

from benchmarks.machine import describe
from benchmarks.measures import Spread, ratio
from benchmarks.processes import BenchmarkError, output
from benchmarks.results import Result, table
from benchmarks.site_start import running_site
from rehearsal.tools import Toolbox
from rehearsal.workspace import POLICY_PACK, PROJECT, Workspace
from runtime.ops.progress import Progress
from runtime.ops.pulumi_cli import PulumiCli

MODELS = (1, 10, 50, 200)
QUICK_MODELS = (1, 10)
BARE = Path(__file__).parent / "bare_program"

_OURS, _JUDGED = "spillway", "spillway with policies"
_BARE, _FLAT = "bare", "bare without components"
_MASKED = "[secret]"


class DifferentPreviewsError(BenchmarkError):
    """The two programs do not declare the same, so their times say nothing about each other."""


@dataclass(frozen=True)
class Declared:
    """One resource of a preview.

    Attributes:
        type: Pulumi's type token.
        name: Its logical name.
        parent: Key of the component around it; empty at the top.
        is_component: Whether it is one that groups others, and no provider knows.
        inputs: What the provider's check made of the program's inputs.
        outputs: What a component registered; empty for any other resource.
        given: Which of them the program gave.
        timeouts: Custom timeouts in seconds, by operation.
        needs: Keys of the resources that it depends on, its parents' dependencies among them.
        secret_from: Keys of the generated passwords that its secret part is made of.
    """

    type: str
    name: str
    parent: str
    is_component: bool
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    given: tuple[str, ...]
    timeouts: Mapping[str, float]
    needs: tuple[str, ...]
    secret_from: tuple[str, ...]

    @property
    def key(self) -> str:
        """Type and name, which no two resources share."""
        return f"{self.type}::{self.name}"


def declared(document: Mapping[str, Any]) -> list[Declared]:
    """The resources of a `pulumi preview --json`, each after what it depends on and what is around it."""
    states: dict[str, Mapping[str, Any]] = {}
    for step in document["steps"]:
        states[step["urn"]] = step["newState"]
    return [
        Declared(
            type=state["type"],
            name=urn.rpartition("::")[2],
            parent=_key(state["parent"]) if state.get("parent") in states else "",
            is_component=not state["custom"],
            outputs={} if state["custom"] else state.get("outputs") or {},
            inputs=state.get("inputs") or {},
            given=tuple(key for key in state.get("propertyDependencies", {}) if key in state["inputs"]),
            timeouts=state.get("customTimeouts") or {},
            needs=tuple(sorted({_key(need) for need in _needs(urn, states) if states[need]["custom"]})),
            secret_from=tuple(
                _key(source)
                for key, sources in state.get("propertyDependencies", {}).items()
                if state["inputs"].get(key) == _MASKED
                for source in sources
            ),
        )
        for urn, state in states.items()
        if not state["type"].startswith("pulumi:")
    ]


def _needs(urn: str, states: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    while urn in states:
        yield from states[urn].get("dependencies") or ()
        urn = states[urn].get("parent", "")


def _key(urn: str) -> str:
    kind, _, name = urn.split("::", 2)[2].rpartition("::")
    return f"{kind.rpartition('$')[2]}::{name}"


def bare_resources(resources: Sequence[Declared]) -> list[dict[str, object]]:
    """What the bare program reads."""
    return [
        {
            "key": resource.key,
            "type": resource.type,
            "name": resource.name,
            "parent": resource.parent,
            "is_component": resource.is_component,
            "outputs": resource.outputs,
            "inputs": {
                key: resource.inputs[key]
                for key in (resource.inputs if resource.is_component else resource.given)
                if key not in {"apiVersion", "kind"} and resource.inputs[key] != _MASKED
            },
            "timeouts": {key: f"{seconds:g}s" for key, seconds in resource.timeouts.items()},
            "depends_on": list(resource.needs),
            "secret_from": list(resource.secret_from),
        }
        for resource in resources
    ]


def compare(ours: Sequence[Declared], bare: Sequence[Declared]) -> None:
    """Holds two previews against each other.

    Raises:
        DifferentPreviewsError: They differ; the message names the first resources that do.
    """
    mine = {resource.key: resource for resource in ours}
    other = {resource.key: resource for resource in bare}
    different = sorted(mine.keys() ^ other.keys())
    different += [
        key
        for key in sorted(mine.keys() & other.keys())
        if (mine[key].inputs, mine[key].timeouts) != (other[key].inputs, other[key].timeouts)
    ]
    if different:
        raise DifferentPreviewsError(
            f"{len(different)} resources differ between Spillway and the bare program, the first: "
            + ", ".join(different[:5])
        )


def settings_file(folder: Path, models: int) -> Path:
    """A stack file with so many copies of the model of stack `local`."""
    document = yaml.safe_load((PROJECT / "stacks" / "Pulumi.local.yaml").read_text())
    platform = document["config"]["spillway:platform"]
    (model,) = platform["models"]
    # From the root, because the two programs run in different folders.
    platform["kuberay"]["chart"] = str(PROJECT / platform["kuberay"]["chart"])
    platform["models"] = [
        {**model, "name": f"model-{number:03d}", "servedName": f"example/model-{number:03d}"}
        for number in range(models)
    ]
    path = folder / f"Pulumi.bench-{models}.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


@dataclass
class Previews:
    """Both programs for one number of models, ready to be previewed.

    Attributes:
        workspace: Spillway's Pulumi, with state in a folder of its own.
        folder: Where files of this run go.
        models: Number of models.
    """

    workspace: Workspace
    folder: Path
    models: int
    resources: int = 0
    components: int = 0
    _bare_files: Mapping[str, Path] = field(init=False)
    _stack_file: Path = field(init=False)

    def __post_init__(self) -> None:
        self._stack_file = settings_file(self.folder, self.models)
        self._bare_files = {
            program: self.folder / f"{program.replace(' ', '-')}-{self.models}.json"
            for program in (_BARE, _FLAT)
        }
        (self.folder / "Pulumi.bare.yaml").touch()
        PulumiCli(PROJECT, self._stack, self._environment(_OURS)).ensure_stack()
        PulumiCli(BARE, self._stack, self._environment(_BARE)).ensure_stack()

    def make_equal(self) -> None:
        """Writes the bare program's resources from Spillway's preview, and compares the two previews.

        Raises:
            DifferentPreviewsError: They differ.
        """
        ours = declared(self._document(_OURS))
        flat = [replace(resource, parent="") for resource in ours if not resource.is_component]
        self.resources, self.components = len(flat), len(ours) - len(flat)
        for program, resources in ((_BARE, ours), (_FLAT, flat)):
            self._bare_files[program].write_text(json.dumps(bare_resources(resources)))
            compare(resources, declared(self._document(program)))

    def seconds(self, program: str) -> float:
        """Seconds that one preview takes, the CLI's start and end included."""
        started = time.perf_counter()
        self._run(program)
        return time.perf_counter() - started

    @property
    def _stack(self) -> str:
        return f"bench-{self.models}"

    def _document(self, program: str) -> dict[str, Any]:
        return json.loads(self._run(program, "--json"))

    def _run(self, program: str, *options: str) -> str:
        ours = program not in self._bare_files
        config = self._stack_file if ours else self.folder / "Pulumi.bare.yaml"
        command = ["pulumi", "preview", "--non-interactive", "--stack", self._stack, *options]
        if program == _JUDGED:
            command += ["--policy-pack", str(POLICY_PACK)]
        return output(
            [*command, "--config-file", str(config)],
            folder=PROJECT if ours else BARE,
            environment=self._environment(program),
        )

    def _environment(self, program: str) -> dict[str, str]:
        # The workspace has every run judged; here the policies are measured apart. And where the shell
        # forbids it, Python would compile the SDKs anew in every run.
        own = {
            name: value
            for name, value in self.workspace.environment().items()
            if not name.startswith("PULUMI_OPTION_") and name != "PYTHONDONTWRITEBYTECODE"
        }
        file = self._bare_files.get(program)
        return {**own, "BARE_RESOURCES": str(file)} if file else own


@dataclass(frozen=True)
class Timed:
    """Times of one number of models, in seconds."""

    models: int
    resources: int
    components: int
    seconds: Mapping[str, Spread]

    @property
    def overhead(self) -> Spread:
        """Spillway over the bare program, pair by pair."""
        return ratio(self.seconds[_OURS], self.seconds[_BARE])

    @property
    def overhead_with_components(self) -> Spread:
        """Spillway over the bare program without components, pair by pair."""
        return ratio(self.seconds[_OURS], self.seconds[_FLAT])

    @property
    def policies(self) -> Spread:
        """Spillway with policies over without, pair by pair."""
        return ratio(self.seconds[_JUDGED], self.seconds[_OURS])


def measure(
    kubeconfig: Path, folder: Path, sizes: Sequence[int], runs: int, progress: Progress
) -> list[Timed]:
    """Times every size; the programs take turns, and who is first changes with each turn."""
    found: list[Timed] = []
    for models in sizes:
        workspace = Workspace(folder / "home", f"bench-{models}", kubeconfig)
        workspace.install(Toolbox.load(["pulumi"]))
        previews = Previews(workspace, folder, models)
        programs = [_OURS, _BARE, _JUDGED, _FLAT]
        seconds: dict[str, list[float]] = {program: [] for program in programs}
        with progress.step(f"preview of {models} models") as step:
            previews.make_equal()
            for number in range(runs):
                step.update(f"run {number + 1} of {runs}")
                turn = number % len(programs)
                for program in [*programs[turn:], *programs[:turn]]:
                    seconds[program].append(previews.seconds(program))
        spreads = {program: Spread(tuple(times)) for program, times in seconds.items()}
        found.append(Timed(models, previews.resources, previews.components, spreads))
    return found


def result(found: Sequence[Timed], machine: Mapping[str, object]) -> Result:
    """The page and the JSON of a measurement."""
    rows = [
        [
            str(timed.models),
            f"{timed.resources} + {timed.components}",
            timed.seconds[_OURS].shown(),
            timed.seconds[_BARE].shown(),
            timed.overhead.shown(),
            timed.overhead_with_components.shown(),
            timed.policies.shown(),
            f"{_per_model_ms(found, timed, _OURS)}",
            f"{_per_model_ms(found, timed, _BARE)}",
        ]
        for timed in found
    ]
    head = [
        "models",
        "resources + components",
        "Spillway, s",
        "bare program, s",
        "ratio",
        "ratio to one without components",
        "with policies to without",
        "ms a model, Spillway",
        "ms a model, bare",
    ]
    return Result(
        name="preview",
        title="`pulumi preview` against a bare program",
        machine=machine,
        data={
            "sizes": [
                {
                    "models": timed.models,
                    "resources": timed.resources,
                    "components": timed.components,
                    "seconds": {name: spread.as_json() for name, spread in timed.seconds.items()},
                    "ratio": timed.overhead.as_json(),
                    "ratio_without_components": timed.overhead_with_components.as_json(),
                    "ratio_with_policies": timed.policies.as_json(),
                }
                for timed in found
            ]
        },
        tables=[
            "Medians, with the range in brackets. The bare program reads the same resources and components "
            "from a file and registers them; the previews were compared input by input before they were "
            "timed. One without components registers only what a provider makes. The last two columns are "
            "what each model adds from the size above on: equal down the column means linear.",
            table(head, rows),
        ],
    )


def _per_model_ms(found: Sequence[Timed], timed: Timed, program: str) -> str:
    """What each further model costs since the next smaller size."""
    smaller = [other for other in found if other.models < timed.models]
    if not smaller:
        return "-"
    before = smaller[-1]
    added_s = timed.seconds[program].median - before.seconds[program].median
    return f"{1000 * added_s / (timed.models - before.models):,.0f}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--runs", type=int, help="repetitions of each (default: 5, quick: 2)")
    parser.add_argument("--models", type=int, nargs="+", help="sizes (default: 1 10 50 200)")
    parser.add_argument("--kubeconfig", type=Path, help="a cluster (default: the embedded site --site)")


def main(arguments: argparse.Namespace, folder: Path, progress: Progress) -> Result:
    """Measures and returns what was found."""
    machine = describe()
    sizes = cast("Sequence[int]", arguments.models or (QUICK_MODELS if arguments.quick else MODELS))
    runs = int(arguments.runs or (2 if arguments.quick else 5))
    if arguments.kubeconfig:
        found = measure(arguments.kubeconfig.absolute(), folder, sizes, runs, progress)
    else:
        with running_site(arguments.site, folder / "site", progress) as site:
            found = measure(site.kubeconfig, folder, sizes, runs, progress)
    return result(found, machine)
