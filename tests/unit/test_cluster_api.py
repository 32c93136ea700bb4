"""The reader of a cluster, against a small API server on this machine."""

import http.server
import json
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from runtime.cluster import (
    Access,
    ClusterApi,
    ClusterError,
    ConflictError,
    ExecPlugin,
    ForbiddenError,
    KubeconfigError,
    UnreachableError,
    plural,
    read_service_account,
)


class Server(http.server.ThreadingHTTPServer):
    """Answers what `not_now` says first, then what `answers` has for a path; remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.bodies: list[Any] = []
        self.not_now: list[tuple[int, dict[str, str]]] = []
        self.drop_after_answer = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        if length := int(self.headers.get("Content-Length") or 0):
            self.server.bodies.append(json.loads(self.rfile.read(length)))
        status, body = self.server.answers.get(self.path, (404, {"message": "not found"}))
        headers: dict[str, str] = {}
        if self.server.not_now:
            (status, headers), body = self.server.not_now.pop(0), {"message": "storage is (re)initializing"}
        data = json.dumps(body).encode()
        self.send_response(status)
        for header in headers.items():
            self.send_header(*header)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        # A server may close a kept connection without saying so.
        self.close_connection = self.server.drop_after_answer

    do_PUT = do_PATCH = do_POST = do_GET  # noqa: N815 - the base class' names

    def log_message(self, *_: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        pass


@pytest.fixture
def server() -> Generator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def reader(server: Server, **access: Any) -> ClusterApi:
    return ClusterApi(Access(context="lab", server=server.url, **access))


def test_an_objects_metadata_is_asked_for_without_its_content(server: Server) -> None:
    path = "/apis/networking.k8s.io/v1/namespaces/llm/networkpolicies/allow-dns"
    server.answers[path] = (200, {"metadata": {"name": "allow-dns"}})
    found = reader(server).metadata("networking.k8s.io/v1", "NetworkPolicy", "llm", "allow-dns")
    assert found == {"name": "allow-dns"}
    assert "as=PartialObjectMetadata" in server.asked[0][1]["Accept"]


def test_what_belongs_to_no_namespace_is_found_too(server: Server) -> None:
    server.answers["/api/v1/namespaces/llm"] = (200, {"metadata": {"name": "llm"}})
    assert reader(server).metadata("v1", "Namespace", None, "llm") == {"name": "llm"}


def test_what_does_not_exist_is_none(server: Server) -> None:
    assert reader(server).metadata("v1", "Secret", "llm", "keys") is None


def test_a_token_is_sent_and_never_in_an_error(server: Server) -> None:
    server.answers["/x"] = (403, {"message": "no"})
    with pytest.raises(ForbiddenError) as error:
        reader(server, token="very-secret").get("/x")
    assert server.asked[0][1]["Authorization"] == "Bearer very-secret"
    assert "very-secret" not in str(error.value)


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "does not accept the credentials of context 'lab'"), (500, "answered 500: broken")],
)
def test_a_refusal_is_one_message(status: int, words: str, server: Server) -> None:
    server.answers["/x"] = (status, {"message": "broken"})
    with pytest.raises(ClusterError, match=words):
        reader(server).get("/x")


def test_a_connection_that_the_server_closed_is_opened_again(server: Server) -> None:
    server.drop_after_answer = True
    server.answers["/x"] = (200, {"a": 1})
    api = reader(server)
    assert [api.get("/x") for _ in range(3)] == [{"a": 1}] * 3


def test_no_answer_is_told_apart_from_a_refusal() -> None:
    nobody = Access(context="lab", server="http://127.0.0.1:9")
    with pytest.raises(UnreachableError, match=r"no answer from http://127.0.0.1:9 \(context 'lab'\)"):
        ClusterApi(nobody).get("/x")


def plugin(folder: Path, script: str) -> ExecPlugin:
    program = folder / "login"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return ExecPlugin(
        command=str(program),
        arguments=("get-token",),
        environment={"PROFILE": "lab"},
        api_version="client.authentication.k8s.io/v1",
    )


def test_a_credential_plugin_is_asked_once_and_its_token_is_used(server: Server, tmp_path: Path) -> None:
    script = (
        'echo run >> "$0.log"; echo "{\\"status\\": {\\"token\\": \\"$1-$PROFILE\\"}}"; '
        'case "$KUBERNETES_EXEC_INFO" in *ExecCredential*) ;; *) exit 3;; esac'
    )
    server.answers["/x"] = (200, {})
    api = reader(server, plugin=plugin(tmp_path, script))
    api.get("/x")
    api.get("/x")
    assert [headers["Authorization"] for _, headers in server.asked] == ["Bearer get-token-lab"] * 2
    assert (tmp_path / "login.log").read_text() == "run\n"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'session expired' >&2; exit 255", "failed with 255: session expired; log in"),
        ("echo hello", "gave no credentials"),
    ],
)
def test_a_credential_plugin_that_fails_says_what_it_said(
    script: str, words: str, server: Server, tmp_path: Path
) -> None:
    with pytest.raises(ClusterError, match=words):
        reader(server, plugin=plugin(tmp_path, script)).get("/x")


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("Namespace", "namespaces"),
        ("NetworkPolicy", "networkpolicies"),
        ("Ingress", "ingresses"),
        ("HTTPRoute", "httproutes"),
        ("RayService", "rayservices"),
    ],
)
def test_kinds_are_plural_in_paths(kind: str, word: str) -> None:
    assert plural(kind) == word


def test_a_write_sends_its_kind_of_patch_and_gives_the_object_back(server: Server) -> None:
    path = "/api/v1/namespaces/llm/configmaps/state"
    server.answers[path] = (200, {"metadata": {"resourceVersion": "2"}})
    found = reader(server).write("PATCH", path, {"data": {"a": "b"}})
    assert found == {"metadata": {"resourceVersion": "2"}}
    assert server.asked[0][1]["Content-Type"] == "application/merge-patch+json"
    assert server.bodies == [{"data": {"a": "b"}}]
    assert reader(server).write("PUT", "/api/v1/namespaces/llm/configmaps/none", {}) is None


def test_a_write_to_what_another_has_changed_is_a_conflict(server: Server) -> None:
    server.answers["/x"] = (409, {"message": "the object has been modified"})
    with pytest.raises(ConflictError, match="has been modified"):
        reader(server).write("PUT", "/x", {})


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_says_when_to_try_again_is_asked_again(status: int, server: Server) -> None:
    server.answers["/x"] = (200, {"a": 1})
    server.not_now = [(status, {"Retry-After": "0"})] * 2
    assert reader(server).get("/x") == {"a": 1}
    server.not_now = [(status, {"Retry-After": "0"})]
    assert reader(server).write("POST", "/x", {"n": 1}) == {"a": 1}
    assert server.bodies == [{"n": 1}] * 2, "a write that was not begun is sent whole again"


def test_a_server_that_asks_for_more_patience_than_there_is_is_a_refusal_in_its_words(server: Server) -> None:
    server.not_now = [(429, {"Retry-After": "3600"})]
    with pytest.raises(ClusterError, match=r"answered 429: storage is \(re\)initializing"):
        reader(server).get("/x")
    assert len(server.asked) == 1


def test_a_server_that_always_asks_for_patience_is_given_up(server: Server) -> None:
    server.not_now = [(429, {"Retry-After": "0"})] * 100
    with pytest.raises(ClusterError, match="answered 429"):
        ClusterApi(Access(context="lab", server=server.url), timeout_s=0.5).get("/x")
    assert 1 < len(server.asked) < 10


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}])
def test_a_refusal_that_names_no_seconds_is_not_tried_again(headers: dict[str, str], server: Server) -> None:
    server.not_now = [(503, headers)]
    with pytest.raises(ClusterError, match="answered 503"):
        reader(server).get("/x")
    assert len(server.asked) == 1


def test_a_refusal_of_what_is_only_passed_on_is_not_tried_again(server: Server) -> None:
    server.not_now = [(503, {"Retry-After": "0"})]
    assert reader(server).exchange("GET", "/proxy")[0] == 503
    assert len(server.asked) == 1


def test_what_is_only_passed_on_comes_back_as_it_is(server: Server) -> None:
    server.answers["/proxy"] = (412, {"error": "external_scaler_enabled"})
    status, body = reader(server).exchange("POST", "/proxy", {"n": 1}, {"x-ray-authorization": "Bearer t"})
    assert (status, json.loads(body)) == (412, {"error": "external_scaler_enabled"})
    assert server.asked[0][1]["x-ray-authorization"] == "Bearer t"


def test_a_pods_token_is_read_anew_for_every_request(server: Server, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    api = reader(server, token_file=token)
    server.answers["/x"] = (200, {})
    api.get("/x")
    token.write_text("second\n")
    api.get("/x")
    given = [headers["Authorization"] for _, headers in server.asked]
    assert given == ["Bearer first", "Bearer second"]


def test_a_pod_finds_its_api_server_by_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("t")
    (tmp_path / "ca.crt").write_text("pem")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    found = read_service_account(tmp_path)
    assert (found.server, found.ca, found.token_file) == (
        "https://[fd00::1]:6443",
        b"pem",
        tmp_path / "token",
    )
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    with pytest.raises(KubeconfigError, match="name a kubeconfig"):
        read_service_account(tmp_path)
