"""Every example comes up on simulated nodes, by the real operator and the real scheduler, and goes again."""

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from rehearsal.site.api import object_path
from rehearsal.site.manifests import MODEL_LABEL
from rehearsal.site.toolbox import SiteTools
from tests.support.stack_files import EXAMPLES, platform_settings
from tests.support.stage import Stage

pytestmark = [pytest.mark.rehearsal, pytest.mark.timeout(600)]

# The kind of node that each accelerator's pods have to be on.
NODES = {
    "nvidia-h100": "gpu-h100",
    "amd-mi300x": "gpu-mi300x",
    "intel-max-1550": "gpu-max1550",
    "intel-gaudi3": "hpu-gaudi3",
    "cpu": "cpu",
}


@pytest.fixture(scope="module")
def stage(tools: SiteTools, home: Path) -> Generator[Stage]:
    del tools  # their being there is what makes `up` quick
    with Stage.on(f"examples-{os.getpid()}", home) as stage:
        yield stage


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_serves_on_simulated_nodes_and_a_destroy_leaves_none_of_its_devices_in_use(
    example: str, stage: Stage
) -> None:
    settings = platform_settings(example)
    stage.rehearse(example)
    api = stage.site.api()
    pods = stage.pods(settings.namespace)
    for model in settings.models:
        its_own = [pod for pod in pods if pod["metadata"]["labels"][MODEL_LABEL] == model.name]
        workers = [pod for pod in its_own if pod["metadata"]["labels"].get("ray.io/node-type") != "head"]
        assert len(workers) == model.replicas.min * model.pipeline_parallel
        for pod in workers:
            assert pod["spec"]["nodeName"].startswith(f"{stage.name}-{NODES[model.accelerator]}-")
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
            assert head["spec"]["nodeName"].startswith(f"{stage.name}-cpu-")
    stage.destroy(example)
    assert stage.pods(settings.namespace) == []
