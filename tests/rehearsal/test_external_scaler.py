"""Real Ray does with our Serve config what docs/adr/0018 says, asked by the burst controller's own client.

One Ray head on the loopback, without a cluster. No model is loaded: a replica that is asked for is seen to
start, and is given back.
"""

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rehearsal.site.tiny_model import model_files
from rehearsal.site.toolbox import SiteTools
from rehearsal.tools import Toolbox
from runtime.burst.actuator import Actuator
from runtime.burst.config import CloudConfig, ModelConfig, OnPremConfig
from runtime.burst.dashboard import Dashboard, DashboardError, Deployment
from runtime.cluster import Access, ClusterApi
from runtime.model import ModelSource, ModelSpec, Replicas
from runtime.serving.ray_service import (
    APPLICATION,
    ExternalScaling,
    RayRuntime,
    deployment_name,
    ray_service_spec,
)

pytestmark = pytest.mark.rehearsal

# Outside of what Ray's own workers take (10002 to 19999), and of the other tests' ports.
GCS, DASHBOARD, SERVE = 27379, 27265, 27800
TOKEN = "a-token-of-a-test-that-is-long-enough-0123456789"
MODEL = ModelSpec(
    name="tiny",
    served_name="Org/tiny.1",
    source=ModelSource(path="/replaced"),
    accelerator="cpu",
    replicas=Replicas(min=1, max=2),
    context_length=256,
    max_sequences=4,
    max_queued_requests=2,
    engine_arguments={"load_format": "dummy", "enforce_eager": True, "dtype": "bfloat16"},
)
RAY = RayRuntime(version="2.60.0", image="none", auth_secret="none", external=ExternalScaling(drain_s=5))


class Ray:
    """A running head."""

    def __init__(self, folder: Path, tools: SiteTools) -> None:
        weights = folder / "model"
        weights.mkdir()
        for name, data in model_files().items():
            (weights / name).write_bytes(data)
        self.model = MODEL.model_copy(update={"source": ModelSource(path=str(weights))})
        self._folder, self._ray = folder, tools.python.parent / "ray"
        api = ClusterApi(Access(context="ray", server=f"http://127.0.0.1:{DASHBOARD}"), 20.0)
        self.dashboard = Dashboard(api, "", lambda: TOKEN)
        self.stranger = Dashboard(api, "", lambda: "another")

    def run(self, *arguments: str) -> None:
        # A home of its own: Ray keeps a token there, and takes one from it.
        environment = {
            **os.environ,
            "PATH": f"{self._ray.parent}:{os.environ['PATH']}",
            "HOME": str(self._folder),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_raylet_start_wait_time_s": "300",
            "HF_HUB_OFFLINE": "1",
        }
        log = (self._folder / "ray.log").open("ab")
        with log:
            subprocess.run(
                [str(self._ray), *arguments], env=environment, stdout=log, stderr=log, check=True, timeout=360
            )

    def config(self, **changes: Any) -> dict[str, Any]:
        model = self.model.model_copy(update=changes)
        config: dict[str, Any] = yaml.safe_load(str(ray_service_spec(model, RAY)["serveConfigV2"]))
        config["http_options"] = {"host": "127.0.0.1", "port": SERVE}
        return config

    def put(self, config: dict[str, Any]) -> int:
        """What KubeRay does."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{DASHBOARD}/api/serve/applications/",
            data=json.dumps(config).encode(),
            method="PUT",
            headers={"x-ray-authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def says(self) -> Deployment | None:
        try:
            return self.dashboard.deployment(APPLICATION, deployment_name(self.model))
        except DashboardError:
            return None

    def until(self, what: str, there: Callable[[Deployment], bool], within_s: float = 360.0) -> Deployment:
        deadline = time.monotonic() + within_s
        while (found := self.says()) is None or not there(found):
            assert time.monotonic() < deadline, f"{what}: not within {within_s:.0f} s; {found}"
            time.sleep(0.5)
        return found


@pytest.fixture(name="ray", scope="module")
def fixture_ray(tmp_path_factory: pytest.TempPathFactory) -> Generator[Ray]:
    ray = Ray(tmp_path_factory.mktemp("ray"), Toolbox.load(["site", "gateway", "serving"]))
    # Sockets have short names, so Ray's folder is not below pytest's.
    folder = f"/tmp/ray-of-a-test-{os.getpid()}"
    ray.run(
        "start",
        "--head",
        "--node-ip-address=127.0.0.1",
        f"--port={GCS}",
        "--num-cpus=2",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={DASHBOARD}",
        "--disable-usage-stats",
        "--object-store-memory=100000000",
        f"--temp-dir={folder}",
        '--resources={"spillway_ingress": 1}',
    )
    try:
        yield ray
    finally:
        end_processes(folder)
        shutil.rmtree(folder, ignore_errors=True)


def end_processes(mark: str) -> None:
    """Ends Ray's processes of this test, by what is in their command lines: `ray stop` would end all."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if mark in command:
            try:
                os.kill(int(process.name), 9)
            except ProcessLookupError:
                continue


def test_ray_serves_without_a_replica_and_obeys_the_controller_alone(ray: Ray) -> None:
    assert ray.put(ray.config()) == 200
    found = ray.until("the application runs", lambda one: one.application == "RUNNING")
    assert (found.wanted, found.ready) == (0, 0)

    with pytest.raises(DashboardError, match="no access"):
        ray.stranger.scale(APPLICATION, deployment_name(ray.model), 1)

    actuator = Actuator((_told(ray.model),), {"tiny": ray.dashboard})
    outcome = actuator.set("tiny", 1)
    assert (outcome.wanted, outcome.changed, outcome.problem) == (1, True, "")
    assert not actuator.set("tiny", 1).changed
    found = ray.until("a replica starts", lambda one: one.starting + one.ready == 1)
    assert found.application == "RUNNING", "healthy while the replica still starts"

    assert ray.put(ray.config()) == 200
    time.sleep(2)
    assert ray.until("the same config again", lambda one: one.application == "RUNNING").wanted == 1

    assert ray.put(ray.config(max_sequences=5)) == 200
    ray.until("a changed config forgets the number", lambda one: one.wanted == 0)
    assert actuator.set("tiny", 1).wanted == 1
    assert actuator.set("tiny", 0).wanted == 0

    without = ray.config()
    without["applications"][0]["external_scaler_enabled"] = False
    assert ray.put(without) == 200
    ray.until("it runs again", lambda one: one.application == "RUNNING")
    with pytest.raises(DashboardError, match="external_scaler_enabled"):
        ray.dashboard.scale(APPLICATION, deployment_name(ray.model), 1)


def _told(model: ModelSpec) -> ModelConfig:
    return ModelConfig(
        name="tiny",
        model_id=model.model_id,
        on_prem=OnPremConfig(slots=4, queue=2, serving="ray", metrics_host="none", metrics_port=1),
        cloud=CloudConfig(
            group="none",
            max_replicas=2,
            slots=4,
            queue=2,
            devices_per_pod=1,
            pods_per_replica=1,
            namespace="none",
            service="none",
            application=APPLICATION,
            deployment=deployment_name(model),
            staged="none",
        ),
    )
