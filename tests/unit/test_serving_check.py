"""The program that ends `pulumi up`: it must not be satisfied by an earlier config or a silent gateway."""

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from runtime.serving import serving_check

ARGUMENTS = {"llm_configs": [{"revision": "new", "replicas": 1}]}


def application(**changes: Any) -> dict[str, Any]:
    running: dict[str, Any] = {
        "status": "RUNNING",
        "message": "",
        "deployed_app_config": {"name": "llm", "args": ARGUMENTS},
        "deployments": {"LLMServer": {"status": "HEALTHY"}, "OpenAiIngress": {"status": "HEALTHY"}},
    }
    return {"llm": {**running, **changes}}


class Cluster:
    """Ray's dashboard and the gateway on one port; answers what the test sets."""

    def __init__(self) -> None:
        self.applications: list[dict[str, Any]] = [application()]
        self.chat: list[tuple[int, Any]] = [(200, {"choices": [{"message": {"content": "pong"}}]})]
        self.models: list[list[dict[str, Any]]] = [[{"id": "tiny", "max_model_len": 256}]]
        self.seen: list[tuple[str, str | None, Any]] = []

    def answer(self, path: str) -> tuple[int, Any]:
        if path == "/api/serve/applications/":
            return 200, {"applications": _next(self.applications)}
        if path == "/v1/models":
            return 200, {"data": _next(self.models)}
        if path == "/v1/chat/completions":
            return _next(self.chat)
        return 404, {}


def _next(answers: list[Any]) -> Any:
    return answers.pop(0) if len(answers) > 1 else answers[0]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cluster]:
    state = Cluster()
    (tmp_path / "ray").write_text("ray-token\n")
    (tmp_path / "key").write_text("sk-key")

    class Handler(BaseHTTPRequestHandler):
        def _respond(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            token = self.headers.get("x-ray-authorization") or self.headers.get("Authorization")
            state.seen.append((self.path, token, body))
            status, answer = state.answer(self.path)
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _respond  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in http.server
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    values = {
        "DASHBOARD_URL": url,
        "GATEWAY_URL": url,
        "RAY_AUTH_TOKEN_FILE": str(tmp_path / "ray"),
        "API_KEY_FILE": str(tmp_path / "key"),
        "MODEL": "tiny",
        "APPLICATION": "llm",
        "ARGUMENTS_SHA256": serving_check.digest({"llm_configs": [{"replicas": 1, "revision": "new"}]}),
        "TIMEOUT_SECONDS": "60",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(serving_check, "POLL_S", 0.01)
    yield state
    server.shutdown()
    server.server_close()


def test_it_ends_well_when_the_declared_config_runs_and_the_gateway_answers(cluster: Cluster) -> None:
    assert serving_check.main() == 0
    assert cluster.seen[0][:2] == ("/api/serve/applications/", "Bearer ray-token")
    path, token, body = cluster.seen[1]
    assert (path, token, body["model"]) == ("/v1/chat/completions", "Bearer sk-key", "tiny")


@pytest.mark.parametrize(
    "not_yet",
    [
        {},
        application(status="DEPLOYING"),
        application(deployed_app_config={"args": {"llm_configs": [{"revision": "old"}]}}),
        application(deployments={"LLMServer": {"status": "UNHEALTHY"}}),
        application(deployments={}),
    ],
    ids=["not deployed", "deploying", "an earlier config", "unhealthy", "no deployments"],
)
def test_it_waits_while_ray_does_not_run_the_declared_config(
    cluster: Cluster, not_yet: dict[str, Any]
) -> None:
    cluster.applications = [not_yet, not_yet, application()]
    assert serving_check.main() == 0
    assert [path for path, _, _ in cluster.seen].count("/api/serve/applications/") == 3
    assert [path for path, _, _ in cluster.seen].count("/v1/chat/completions") == 1


@pytest.mark.parametrize(
    "not_yet", [(503, {"error": {"message": "no healthy upstream"}}), (401, {}), (200, {"choices": []})]
)
def test_it_waits_while_the_gateway_does_not_answer(cluster: Cluster, not_yet: tuple[int, Any]) -> None:
    cluster.chat = [not_yet, (200, {"choices": [{}]})]
    assert serving_check.main() == 0
    assert [path for path, _, _ in cluster.seen].count("/v1/chat/completions") == 2


@pytest.mark.parametrize(
    "not_yet",
    [[], [{"id": "other", "max_model_len": 256}], [{"id": "tiny", "max_model_len": 128}]],
    ids=["nothing", "another model", "an earlier context length"],
)
def test_without_ray_it_waits_until_vllm_itself_serves_the_declared_model(
    cluster: Cluster, not_yet: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_URL", os.environ["DASHBOARD_URL"])
    monkeypatch.setenv("CONTEXT_LENGTH", "256")
    for name in ("DASHBOARD_URL", "RAY_AUTH_TOKEN_FILE", "APPLICATION", "ARGUMENTS_SHA256"):
        monkeypatch.delenv(name)
    cluster.models = [not_yet, *cluster.models]
    assert serving_check.main() == 0
    assert [path for path, _, _ in cluster.seen] == ["/v1/models", "/v1/models", "/v1/chat/completions"]


def test_when_the_time_is_up_it_says_what_is_missing(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TIMEOUT_SECONDS", "0")
    cluster.applications = [application(status="DEPLOY_FAILED", message="no such model folder: /models/x")]
    assert serving_check.main() == 1
    message = capsys.readouterr().err
    assert "tiny does not serve" in message
    assert "DEPLOY_FAILED" in message
    assert "no such model folder: /models/x" in message
    assert "sk-key" not in message
