"""What answers at the addresses of simulated pods, asked over real connections."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from http.server import ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import yaml

from rehearsal.site import simulated_engines
from rehearsal.site.simulated_engines import (
    ANSWER,
    Handler,
    Queues,
    SimulatedPod,
    SimulatedPods,
    Speed,
    set_speed,
)
from rehearsal.site.simulated_ray import APPLICATIONS, DEPLOYING_S
from runtime.model import ModelSpec, Replicas
from runtime.ops.chat import stream_chat
from runtime.serving.ray_service import ExternalScaling, RayRuntime, ray_service_spec

RAY = RayRuntime(version="2.60.0", image="registry/ray-llm:2.60.0", auth_secret="llm-ray-auth")
SPEC = ModelSpec.model_validate({"name": "llama", "source": {"path": "/m"}, "accelerator": "nvidia-h100"})
CONFIG: dict[str, Any] = yaml.safe_load(str(ray_service_spec(SPEC, RAY)["serveConfigV2"]))
BURST: dict[str, Any] = yaml.safe_load(
    str(
        ray_service_spec(
            SPEC.model_copy(
                update={
                    "replicas": Replicas(min=0, max=4),
                    "max_sequences": 2,
                    "max_queued_requests": 1,
                }
            ),
            replace(RAY, external=ExternalScaling()),
        )["serveConfigV2"]
    )
)
SCALE = "/api/v1/applications/llm/deployments/LLMServer:llama/scale"
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
INGRESS = ray_pod("ingress", """--num-cpus=1 --resources='{"spillway_ingress":1}'""")
WORKER = ray_pod("worker", """--num-cpus=8 --num-gpus=1 --resources='{"accelerator_type:H100":1}'""")
_ARGUMENTS = ["--served-model-name=plain/model", "--max-model-len=32768"]
PLAIN: dict[str, Any] = {
    "metadata": {"name": "plain", "namespace": "llm", "uid": "uid-plain", "labels": {}},
    "spec": {"containers": [{"command": ["vllm", "serve"], "args": _ARGUMENTS}]},
    "status": {"phase": "Running"},
}


class KnownPods(SimulatedPods):
    """The pods of this file, without an API server; the loopback stands for one of them at a time."""

    def __init__(self, folder: Path) -> None:
        super().__init__(None, folder)  # pyright: ignore[reportArgumentType]
        self.here = HEAD
        self.cluster = [HEAD, WORKER]

    def at(self, address: str) -> SimulatedPod:
        in_cluster = "ray.io/cluster" in self.here["metadata"]["labels"]
        return SimulatedPod(self.here, self.cluster if in_cluster else [])


class Asked:
    """A running stand-in and how to ask it."""

    def __init__(self, pods: KnownPods, dashboard: str, engine: str) -> None:
        self.pods, self.dashboard, self.engine = pods, dashboard, engine

    def ask(self, url: str, method: str = "GET", body: object = None, **headers: str) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                status, text = response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
        return status, json.loads(text) if text.startswith("{") else text

    def deploy(self, config: object = CONFIG, **headers: str) -> int:
        return self.ask(self.dashboard + APPLICATIONS, "PUT", config, **(headers or TOKEN))[0]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Asked]:
    pods = KnownPods(tmp_path)
    handler = type("TestedHandler", (Handler,), {"pods": pods, "queues": Queues()})
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
    assert stand_in.ask(url, **{"x-ray-authorization": "Bearer wrong"})[0] == 403
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


def test_a_plain_server_serves_the_name_in_its_arguments_with_their_context(stand_in: Asked) -> None:
    stand_in.pods.here = PLAIN
    assert stand_in.ask(stand_in.engine + "/health")[0] == 200
    (model,) = stand_in.ask(stand_in.engine + "/v1/models")[1]["data"]
    assert (model["id"], model["max_model_len"]) == ("plain/model", 32768)


def test_the_same_config_again_does_not_start_the_deployment_anew(stand_in: Asked) -> None:
    stand_in.deploy()
    before = stand_in.pods.deployed(HEAD)
    stand_in.deploy()
    assert stand_in.pods.deployed(HEAD) == before


def test_what_was_deployed_outlives_the_process(stand_in: Asked, tmp_path: Path) -> None:
    stand_in.deploy()
    assert KnownPods(tmp_path).deployed(HEAD) == stand_in.pods.deployed(HEAD)


class Burst:
    """A stand-in with an application that is scaled from outside."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked

    def scale(self, replicas: object, path: str = SCALE, **headers: str) -> int:
        body = {"target_num_replicas": replicas}
        return self.asked.ask(self.asked.dashboard + path, "POST", body, **(headers or TOKEN))[0]

    def told(self) -> tuple[str, int, list[str]]:
        _, answer = self.asked.ask(self.asked.dashboard + APPLICATIONS, **TOKEN)
        application = answer["applications"]["llm"]
        deployment = application["deployments"]["LLMServer:llama"]
        states = [replica["state"] for replica in deployment["replicas"]]
        return application["status"], deployment["target_num_replicas"], states

    def chat(self) -> int:
        request: dict[str, Any] = {"model": "llama", "messages": [], "max_tokens": 4}
        return self.asked.ask(self.asked.engine + "/v1/chat/completions", "POST", request)[0]


@pytest.fixture
def burst(stand_in: Asked, monkeypatch: pytest.MonkeyPatch) -> Burst:
    stand_in.pods.cluster = [HEAD, INGRESS]
    assert stand_in.deploy(BURST) == 200
    monkeypatch.setattr(simulated_engines.simulated_ray, "DEPLOYING_S", 0.0)
    return Burst(stand_in)


def test_an_application_that_is_scaled_from_outside_runs_without_a_replica(burst: Burst) -> None:
    assert burst.told() == ("RUNNING", 0, [])
    assert burst.asked.ask(burst.asked.engine + "/v1/models")[0] == 200


def test_what_is_asked_for_is_kept_and_runs_once_there_is_room(burst: Burst) -> None:
    assert burst.scale(2) == 200
    assert burst.told() == ("RUNNING", 2, ["STARTING", "STARTING"])
    burst.asked.pods.cluster = [HEAD, INGRESS, WORKER]
    assert burst.told() == ("RUNNING", 2, ["RUNNING", "STARTING"])
    burst.asked.deploy(BURST)
    assert burst.told()[1] == 2


def test_a_changed_config_forgets_what_was_asked_for_as_ray_does(burst: Burst) -> None:
    burst.scale(2)
    burst.asked.deploy({**BURST, "http_options": {"host": "0.0.0.0", "port": 8001}})
    assert burst.told()[1] == 0


def test_a_scaler_without_the_flag_the_token_or_a_known_deployment_is_refused_as_by_ray(burst: Burst) -> None:
    assert burst.asked.ask(burst.asked.dashboard + SCALE, "POST", {"target_num_replicas": 1})[0] == 401
    assert burst.scale(1, **{"x-ray-authorization": "Bearer wrong"}) == 403
    assert burst.scale(1, SCALE.replace("llama", "other")) == 404
    assert burst.scale(1, SCALE.replace("/llm/", "/other/")) == 404
    assert [burst.scale(wrong) for wrong in (-1, "1", None, True)] == [400] * 4
    burst.asked.deploy(CONFIG)
    assert burst.scale(1) == 412
    assert burst.asked.ask(burst.asked.dashboard + SCALE, **TOKEN)[0] == 405


def test_a_full_queue_answers_503_and_a_free_slot_lets_one_that_waits_in(
    burst: Burst, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()

    def answer_once_free(seconds: float) -> None:
        assert seconds > 0
        assert free.wait(30)

    monkeypatch.setattr(simulated_engines.time, "sleep", answer_once_free)
    set_speed(tmp_path, Speed(token_s=0.1))
    burst.asked.pods.cluster = [HEAD, INGRESS, WORKER]
    burst.scale(1)
    with ThreadPoolExecutor(5) as clients:
        answers = [clients.submit(burst.chat) for _ in range(5)]
        # Two at a time and one that waits.
        refused = [answer.result() for answer in islice(as_completed(answers), 2)]
        free.set()
        assert refused == [503, 503]
        assert sorted(answer.result() for answer in answers) == [200, 200, 200, 503, 503]


def test_without_a_replica_a_request_waits_and_more_are_refused(burst: Burst) -> None:
    with ThreadPoolExecutor(2) as clients:
        answers = [clients.submit(burst.chat) for _ in range(2)]
        # Whichever comes first waits, the other finds the queue full.
        refused = next(as_completed(answers))
        assert refused.result() == 503
        (waiting,) = (answer for answer in answers if answer is not refused)
        assert not waiting.done()
        burst.asked.pods.cluster = [HEAD, INGRESS, WORKER]
        burst.scale(1)
        assert waiting.result() == 200


def test_a_replica_takes_as_long_to_load_as_was_set(burst: Burst, tmp_path: Path) -> None:
    set_speed(tmp_path, Speed(load_s=60))
    burst.asked.pods.cluster = [HEAD, INGRESS, WORKER]
    burst.scale(1)
    assert burst.told() == ("RUNNING", 1, ["STARTING"])
    set_speed(tmp_path, Speed(load_s=0))
    assert burst.told() == ("RUNNING", 1, ["RUNNING"])
