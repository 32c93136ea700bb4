"""One embedded site on which one stack after another lives, driven by the commands that a user has."""

import os
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rehearsal.site import Site
from rehearsal.site.api import Json
from rehearsal.site.manifests import MODEL_LABEL
from rehearsal.workspace import Workspace
from runtime.ops.progress import Progress
from tests.support.stack_files import ROOT


def environment_of(home: Path) -> dict[str, str]:
    """A shell whose state is in a folder of its own, and that names no other cluster or backend."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PULUMI_", "KUBE"))}
    return {**kept, "SPILLWAY_HOME": str(home)}


class Stage:
    """Commands against one site, with a state of their own."""

    def __init__(self, site: str, home: Path) -> None:
        self.home, self.site = home, Site(site, home)
        self.environment = environment_of(home)

    @classmethod
    @contextmanager
    def on(cls, site: str, home: Path) -> Generator["Stage"]:
        """A stage of which nothing is left at the end."""
        stage = cls(site, home)
        try:
            yield stage
        finally:
            leftovers = stage.site.stop(Progress())
        assert not leftovers, leftovers.lines()

    @property
    def name(self) -> str:
        return self.site.layout.name

    def rehearse(self, example: str) -> None:
        """Brings an example up on simulated nodes, and leaves it there."""
        self.run("up", "--simulated", "--stack", example, "--site", self.name)

    def destroy(self, example: str) -> None:
        """Plain Pulumi, as the printed line for the shell has it: the site stays for the next one."""
        workspace = Workspace.rehearsing(self.home, example, self.site.kubeconfig)
        script = f". {workspace.environment_file}; pulumi destroy --yes --stack {workspace.stack}"
        self._finish(["bash", "-euc", script], {}, 0)
        written = ROOT / "stacks" / f"Pulumi.{workspace.stack}.yaml"
        assert not written.exists(), "Pulumi wrote into the project"

    def run(self, *words: str, variables: Mapping[str, str] | None = None, status: int = 0) -> str:
        """Runs `python -m rehearsal`, as `make` does, and returns what it said."""
        return self._finish([sys.executable, "-m", "rehearsal", *words], variables or {}, status)

    def pods(self, namespace: str) -> list[Json]:
        """The pods of models in a namespace."""
        path = f"/api/v1/namespaces/{namespace}/pods"
        return list(self.site.api().get(path, labelSelector=MODEL_LABEL)["items"])

    def _finish(self, command: list[str], variables: Mapping[str, str], status: int) -> str:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**self.environment, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=500,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout
