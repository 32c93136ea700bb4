"""Every example comes up on simulated nodes, by the real operator and the real scheduler, and goes again."""

import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from rehearsal.site import Site
from rehearsal.site.api import Json, object_path
from rehearsal.site.manifests import MODEL_LABEL
from rehearsal.site.toolbox import SiteTools
from rehearsal.workspace import Workspace
from runtime.ops.progress import Progress
from tests.support.stack_files import EXAMPLES, ROOT, platform_settings

pytestmark = [pytest.mark.rehearsal, pytest.mark.timeout(600)]

SITE = f"examples-{os.getpid()}"
# The kind of node that each accelerator's pods have to be on.
NODES = {
    "nvidia-h100": "gpu-h100",
    "amd-mi300x": "gpu-mi300x",
    "intel-max-1550": "gpu-max1550",
    "intel-gaudi3": "hpu-gaudi3",
    "cpu": "cpu",
}


class Examples:
    """One site on which one example after another lives."""

    def __init__(self, home: Path) -> None:
        self.home, self.site = home, Site(SITE, home)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PULUMI_", "KUBE"))},
            "SPILLWAY_HOME": str(home),
        }

    def up(self, example: str) -> None:
        words = ["rehearsal", "up", "--simulated", "--stack", example, "--site", SITE]
        self._done([sys.executable, "-m", *words])

    def destroy(self, example: str) -> None:
        """Plain Pulumi, as the printed line for the shell has it: the site stays for the next one."""
        workspace = Workspace.rehearsing(self.home, example, self.site.kubeconfig)
        script = f". {workspace.environment_file}; pulumi destroy --yes --stack {workspace.stack}"
        self._done(["bash", "-euc", script])

    def _done(self, command: list[str]) -> None:
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=500, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def pods(self, namespace: str) -> list[Json]:
        path = f"/api/v1/namespaces/{namespace}/pods"
        return list(self.site.api().get(path, labelSelector=MODEL_LABEL)["items"])


@pytest.fixture(scope="module")
def examples(tools: SiteTools, home: Path) -> Generator[Examples]:
    del tools  # their being there is what makes `up` quick
    here = Examples(home)
    try:
        yield here
    finally:
        leftovers = here.site.stop(Progress())
    assert not leftovers, leftovers.lines()


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_serves_on_simulated_nodes_and_a_destroy_leaves_none_of_its_devices_in_use(
    example: str, examples: Examples
) -> None:
    settings = platform_settings(example)
    examples.up(example)
    api = examples.site.api()
    pods = examples.pods(settings.namespace)
    for model in settings.models:
        its_own = [pod for pod in pods if pod["metadata"]["labels"][MODEL_LABEL] == model.name]
        workers = [pod for pod in its_own if pod["metadata"]["labels"].get("ray.io/node-type") != "head"]
        assert len(workers) == model.replicas.min * model.pipeline_parallel
        for pod in workers:
            assert pod["spec"]["nodeName"].startswith(f"{SITE}-{NODES[model.accelerator]}-")
            resource = model.profile.kubernetes_resource
            asked = pod["spec"]["containers"][0]["resources"]["limits"]
            assert resource is None or int(asked[resource]) == model.tensor_parallel
        if model.is_plain:
            deployment = api.get(object_path("apps/v1", "Deployment", settings.namespace, model.name))
            assert deployment["status"]["availableReplicas"] == model.replicas.min
        else:
            service = api.get(object_path("ray.io/v1", "RayService", settings.namespace, model.name))
            conditions = {one["type"]: one["status"] for one in service["status"]["conditions"]}
            assert conditions["Ready"] == "True"
            (head,) = (pod for pod in its_own if pod not in workers)
            assert head["spec"]["nodeName"].startswith(f"{SITE}-cpu-")
    examples.destroy(example)
    assert examples.pods(settings.namespace) == []
