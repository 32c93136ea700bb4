"""What answers at the addresses of simulated pods, asked over real connections."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Generator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from rehearsal.site import simulated_engines
from rehearsal.site.simulated_engines import ANSWER, Handler, SimulatedPod, SimulatedPods
from rehearsal.site.simulated_ray import APPLICATIONS, DEPLOYING_S
from runtime.model import ModelSpec
from runtime.ops.chat import stream_chat
from runtime.serving.ray_service import RayRuntime, ray_service_spec

RAY = RayRuntime(version="2.60.0", image="registry/ray-llm:2.60.0", auth_secret="llm-ray-auth")
SPEC = ModelSpec.model_validate({"name": "llama", "source": {"path": "/m"}, "accelerator": "nvidia-h100"})
CONFIG: dict[str, Any] = yaml.safe_load(str(ray_service_spec(SPEC, RAY)["serveConfigV2"]))
TOKEN = {"x-ray-authorization": "Bearer right"}


def ray_pod(kind: str, start: str, *, token: bool = True) -> dict[str, Any]:
    variables = [{"name": "RAY_AUTH_TOKEN"}] if token else []
    return {
        "metadata": {
            "name": kind,
            "namespace": "llm",
            "uid": f"uid-{kind}",
            "labels": {"ray.io/cluster": "llama-x", "ray.io/node-type": kind},
        },
        "spec": {"containers": [{"args": [f"ray start {start}"], "env": variables}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }


HEAD = ray_pod("head", "--num-cpus=0")
WORKER = ray_pod("worker", """--num-cpus=8 --num-gpus=1 --resources='{"accelerator_type:H100":1}'""")
PLAIN: dict[str, Any] = {
    "metadata": {"name": "plain", "namespace": "llm", "uid": "uid-plain", "labels": {}},
    "spec": {"containers": [{"command": ["vllm", "serve"], "args": ["--served-model-name", "plain/model"]}]},
    "status": {"phase": "Running"},
}


class KnownPods(SimulatedPods):
    """The pods of this file, without an API server; the loopback stands for one of them at a time."""

    def __init__(self, folder: Path) -> None:
        super().__init__(None, folder)  # pyright: ignore[reportArgumentType]
        self.here = HEAD

    def at(self, address: str) -> SimulatedPod:
        return SimulatedPod(
            self.here, [HEAD, WORKER] if "ray.io/cluster" in self.here["metadata"]["labels"] else []
        )


class Asked:
    """A running stand-in and how to ask it."""

    def __init__(self, pods: KnownPods, dashboard: str, engine: str) -> None:
        self.pods, self.dashboard, self.engine = pods, dashboard, engine

    def ask(self, url: str, method: str = "GET", body: object = None, **headers: str) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                status, text = response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
        return status, json.loads(text) if text.startswith("{") else text

    def deploy(self, config: object = CONFIG, **headers: str) -> int:
        return self.ask(self.dashboard + APPLICATIONS, "PUT", config, **(headers or TOKEN))[0]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Asked]:
    pods = KnownPods(tmp_path)
    handler = type("TestedHandler", (Handler,), {"pods": pods})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    dashboard, engine = (server.server_address[1] for server in servers)
    monkeypatch.setattr(simulated_engines, "DASHBOARD_PORT", dashboard)
    threads = [threading.Thread(target=server.serve_forever, args=(0.01,)) for server in servers]
    for thread in threads:
        thread.start()
    yield Asked(pods, f"http://127.0.0.1:{dashboard}", f"http://127.0.0.1:{engine}")
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def running(stand_in: Asked, monkeypatch: pytest.MonkeyPatch) -> Asked:
    assert stand_in.deploy() == 200
    later = simulated_engines.time.time() + DEPLOYING_S
    monkeypatch.setattr(simulated_engines.time, "time", lambda: later)
    return stand_in


def test_a_head_without_a_config_says_that_nothing_is_deployed(stand_in: Asked) -> None:
    assert stand_in.ask(stand_in.dashboard + APPLICATIONS, **TOKEN) == (200, {"applications": {}})


def test_what_was_put_is_told_back(running: Asked) -> None:
    status, answer = running.ask(running.dashboard + APPLICATIONS, **TOKEN)
    assert status == 200
    assert answer["applications"]["llm"]["status"] == "RUNNING"
    assert answer["applications"]["llm"]["deployed_app_config"] == CONFIG["applications"][0]


def test_a_dashboard_with_a_token_answers_nobody_without_it(stand_in: Asked) -> None:
    url = stand_in.dashboard + APPLICATIONS
    assert stand_in.ask(url)[0] == 401
    assert stand_in.deploy() == 200
    assert stand_in.ask(url, **{"x-ray-authorization": "Bearer wrong"})[0] == 401
    assert stand_in.ask(url, Authorization="Bearer right")[0] == 200


def test_a_config_that_it_does_not_know_gets_400(stand_in: Asked) -> None:
    assert stand_in.deploy({**CONFIG, "surprise": 1}) == 400


def test_a_path_that_it_does_not_know_gets_404(running: Asked) -> None:
    assert running.ask(running.dashboard + "/api/jobs/", **TOKEN)[0] == 404
    assert running.ask(running.engine + "/v1/embeddings", "POST", {})[0] == 404


def test_a_worker_has_no_dashboard(stand_in: Asked) -> None:
    stand_in.pods.here = WORKER
    assert stand_in.ask(stand_in.dashboard + APPLICATIONS, **TOKEN)[0] == 404


def test_a_cluster_that_serves_nothing_yet_answers_503(stand_in: Asked) -> None:
    assert stand_in.ask(stand_in.engine + "/-/healthz")[0] == 503


def test_a_streamed_chat_says_that_no_model_ran(running: Asked) -> None:
    assert stream_chat(running.engine, "key", "llama", "Hello", 64).text == ANSWER


def test_a_whole_chat_says_so_too_and_counts_its_tokens(running: Asked) -> None:
    request = {"model": "llama", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3}
    status, answer = running.ask(running.engine + "/v1/chat/completions", "POST", request)
    assert status == 200
    assert answer["choices"][0]["message"]["content"] == "No model ran:"
    assert answer["usage"]["completion_tokens"] == 3


def test_a_model_that_is_not_served_gets_404(running: Asked) -> None:
    request: dict[str, Any] = {"model": "other", "messages": []}
    assert running.ask(running.engine + "/v1/chat/completions", "POST", request)[0] == 404


def test_a_plain_server_serves_the_name_in_its_arguments(stand_in: Asked) -> None:
    stand_in.pods.here = PLAIN
    assert stand_in.ask(stand_in.engine + "/health")[0] == 200
    assert stand_in.ask(stand_in.engine + "/v1/models")[1]["data"][0]["id"] == "plain/model"


def test_the_same_config_again_does_not_start_the_deployment_anew(stand_in: Asked) -> None:
    stand_in.deploy()
    before = stand_in.pods.deployed(HEAD)
    stand_in.deploy()
    assert stand_in.pods.deployed(HEAD) == before


def test_what_was_deployed_outlives_the_process(stand_in: Asked, tmp_path: Path) -> None:
    stand_in.deploy()
    assert KnownPods(tmp_path).deployed(HEAD) == stand_in.pods.deployed(HEAD)
