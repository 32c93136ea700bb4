"""A platform of its own for the faults, driven by the commands that `make` runs, and what is left of it."""

import contextlib
import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from rehearsal.site import Site
from rehearsal.site.api import ApiError
from rehearsal.site.layout import STATE_VARIABLE
from rehearsal.site.teardown import look
from rehearsal.tools.cache import Cache
from rehearsal.workspace import Workspace
from tests.faults.terminal import Terminal
from tests.support.stack_files import ROOT, platform_object
from tests.support.stage import environment_of

# Any image that is not the site's own goes to simulated nodes, where a scripted stand-in answers for Ray.
SIMULATED_IMAGE = "rayproject/ray-llm:2.60.0-py312-cu130"
HOME_BYTES = 3 << 30
FIELD_MANAGER = "spillway"
_STACK = "pulumi:pulumi:Stack"
_KEY = re.compile(r"RandomPassword::\S+-key-default$")
# Of these a cluster has copies that carry the fields of what they were made from.
_NO_OBJECTS = {"events", "controllerrevisions", "replicasets", "pods", "endpoints", "endpointslices"}


@dataclass(frozen=True)
class Evidence:
    """What was found after a fault.

    Attributes:
        lost: What the state and the cluster do not agree on; empty is good.
        leftovers: Processes, mounts, files and locks that should not be there; empty is good.
    """

    lost: list[str] = field(default_factory=list[str])
    leftovers: list[str] = field(default_factory=list[str])


class Driven:
    """One stack on one site below a home that is a small file system of its own."""

    def __init__(self, home: Path, name: str, *, simulated: bool, cache: Path | None = None) -> None:
        self.home, self.name, self.simulated, self.cache = home, name, simulated, cache
        self.site = Site(name, home)
        self.stack_file = ROOT / "stacks" / f"Pulumi.test-{name}.yaml"
        make = Workspace.rehearsing if simulated else Workspace
        self.workspace = make(home, f"test-{name}", self.site.kubeconfig)
        self.stack = self.workspace.stack
        self.environment = {
            **environment_of(home),
            # What other sessions on this machine do is no leftover of ours.
            **({"SPILLWAY_CACHE": str(cache)} if cache else {}),
        }
        self.key: str | None = None
        self._change = 0
        self.write()

    def write(self) -> None:
        """Writes the stack file of the current change."""
        platform = platform_object("local")
        if self.simulated:
            platform["ray"]["image"] = SIMULATED_IMAGE
        platform["models"][0]["maxSequences"] = 4 + self._change % 5
        # Every other change has one client more, and so makes and deletes objects too.
        platform["gateway"]["clients"] = ["default", "second"] if self._change % 2 else ["default"]
        self.stack_file.write_text(
            yaml.safe_dump({"config": {"spillway:platform": platform}}, sort_keys=False)
        )

    def change(self) -> None:
        """Edits the stack file, so that the next `up` has something to do."""
        self._change += 1
        self.write()

    def start(self, command: str) -> Terminal:
        """Starts `up` or `down` in a terminal."""
        words = ["rehearsal", command, "--stack", f"test-{self.name}", "--site", self.name]
        simulated = ["--simulated"] if self.simulated else []
        return Terminal([sys.executable, "-m", *words, *simulated], ROOT, self.environment)

    def status(self) -> str:
        """What `make site-status` shows."""
        command = [sys.executable, "-m", "rehearsal.site", "status", "--site", self.name]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        return done.stdout

    def _state(self) -> dict[str, Any]:
        """The state, exported in a shell that sourced the environment file."""
        export = f"pulumi stack export --show-secrets --stack {self.stack}"
        done = subprocess.run(
            ["bash", "-c", f". {self.workspace.environment_file}; {export}"],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            raise AssertionError(done.stderr + done.stdout)
        return json.loads(done.stdout)["deployment"]

    def running_evidence(self) -> Evidence:
        """Compares state, cluster and key after an `up`, and looks for processes that outlived it."""
        try:
            state = self._state()
        except AssertionError as error:
            return Evidence([f"the state cannot be read: {error}"], self._processes())
        in_state, in_cluster = _objects_of(state), self._objects_of_cluster()
        lost = [f"not in the state: {one}" for one in sorted(in_cluster - in_state)]
        lost += [f"not in the cluster: {one}" for one in sorted(in_state - in_cluster)]
        lost += _pending(state)
        lost += [
            f"to be deleted still: {one['urn']}" for one in _listed(state, "resources") if one.get("delete")
        ]
        outputs = next(one["outputs"] for one in _listed(state, "resources") if one["type"] == _STACK)
        key = str(outputs["apiKey"])
        if self.key is not None and key != self.key:
            lost.append("the API key is another one")
        self.key = key
        return Evidence(lost, [*self._processes(), *self._locks()])

    def forget_destroyed_key(self) -> None:
        """After a `down` that got as far as the key, the next `up` makes another one, and rightly so."""
        with contextlib.suppress(AssertionError):
            names = [str(one["urn"]) for one in _listed(self._state(), "resources")]
            if not any(_KEY.search(name) for name in names):
                self.key = None

    def ended_evidence(self) -> Evidence:
        """Looks for anything of the platform after a `down`."""
        self.key = None
        leftovers = [*self._processes(), *self._locks(), *self._machine()]
        try:
            state = self._state()
        except AssertionError as error:
            return Evidence([f"the state cannot be read: {error}"], leftovers)
        left = [f"still in the state: {one['urn']}" for one in _listed(state, "resources")]
        return Evidence([*left, *_pending(state)], leftovers)

    def _machine(self) -> list[str]:
        found = [f"{kind}: {item}" for kind, items in look(self.site.layout).found.items() for item in items]
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        found += [f"mount: {one}" for one in mounts if one.startswith(f"{self.home}/")]
        if self.workspace.cluster_file.exists():
            found.append(f"file: {self.workspace.cluster_file}")
        return found

    def _locks(self) -> list[str]:
        return [f"lock of the state: process {lock.pid}" for lock in self.workspace.locks()]

    def _processes(self) -> list[str]:
        """Processes that a command of this home started and that are not the site's own."""
        # What ends when its parent does needs a moment for it.
        deadline = time.monotonic() + 5.0
        while (found := self._processes_now()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return found

    def _processes_now(self) -> list[str]:
        found: list[str] = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                environment = process.environ()
                ours = environment.get("SPILLWAY_HOME") == str(self.home)
                if ours and STATE_VARIABLE not in environment and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(f"process {process.pid} {' '.join(process.cmdline())[:100]}")
        return found

    def _objects_of_cluster(self) -> set[str]:
        """Everything that Pulumi has applied, whatever kind it is of: found by its field manager."""
        api = self.site.api()
        versions = [("/api/v1", api.get("/api/v1"))]
        for group in api.get("/apis")["groups"]:
            path = f"/apis/{group['preferredVersion']['groupVersion']}"
            with contextlib.suppress(ApiError):
                versions.append((path, api.get(path)))
        found: set[str] = set()
        for path, listed in versions:
            for resource in listed["resources"]:
                if "list" not in resource["verbs"] or resource["name"] in _NO_OBJECTS:
                    continue
                items: list[dict[str, Any]] = []
                with contextlib.suppress(ApiError):  # some refuse to be listed at all
                    items = api.get(f"{path}/{resource['name']}")["items"]
                found.update(_identity(resource["kind"], item) for item in items if _is_applied(item))
        return found


def _listed(state: dict[str, Any], key: str) -> list[dict[str, Any]]:
    return state.get(key) or []


def _pending(state: dict[str, Any]) -> list[str]:
    return [f"pending: {one['resource']['urn']}" for one in _listed(state, "pending_operations")]


def _is_applied(item: dict[str, Any]) -> bool:
    managers: list[dict[str, Any]] = item["metadata"].get("managedFields") or []
    return any(one.get("manager") == FIELD_MANAGER for one in managers)


def _identity(kind: str, item: dict[str, Any]) -> str:
    namespace, name = item["metadata"].get("namespace"), item["metadata"]["name"]
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"


def _objects_of(state: dict[str, Any]) -> set[str]:
    found: set[str] = set()
    for resource in _listed(state, "resources"):
        kind = str(resource["type"])
        if resource.get("custom") and kind.startswith("kubernetes:") and ":helm.sh/" not in kind:
            found.add(f"{kind.rpartition(':')[2]} {resource['id']}")
    return found


def mount_home(folder: Path) -> None:
    """Makes a folder a file system of its own, so that it can be filled."""
    options = f"size={HOME_BYTES},mode=755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "spillway-faults", folder], check=True)


def unmount_home(folder: Path) -> None:
    """Takes it away again, with all that is in it."""
    subprocess.run(["umount", "-l", folder], check=True)


def private_cache(folder: Path, copied: str) -> Path:
    """A tools' cache whose tools are those of the user's, one of them a copy that may be damaged."""
    tools = Cache.locate().tools
    (folder / "tools").mkdir(parents=True)
    for tool in tools.iterdir():
        target = folder / "tools" / tool.name
        if tool.name.startswith(copied):
            subprocess.run(["cp", "-a", tool, target], check=True)
        elif not tool.name.startswith("."):
            target.symlink_to(tool)
    return folder


def shown(text: str) -> str:
    """The last lines that a user sees, without the states of live lines."""
    lines = [line for line in text.splitlines() if line.strip() and not re.match(r" {2}\.\.\. ", line)]
    return "\n".join(lines[-25:])
