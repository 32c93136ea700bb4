"""The burst controller's processes against a real API server, with just the rights that the stack declares.

The API server plays both sides: it holds the Lease and what the controller remembers, and it passes
requests on to a double of Ray's dashboard, as the EKS API server does.
"""

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from runtime.burst.store import Store
from runtime.cluster import ClusterApi, ForbiddenError, object_path
from tests.support.burst_site import MetricsPod
from tests.support.cluster_double import RayDouble
from tests.support.stack_files import golden_resources

from .api_server import ApiServer

pytestmark = pytest.mark.engine

PROJECT = Path(__file__).parents[2]
NAME = "llm-burst-controller"
MODEL = "qwen3-8b"
HEAD = f"{MODEL}-head-svc"
# What a controller needs of either side; pods, networks and Secrets are not tested here.
KINDS = {
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "ClusterRole",
    "ClusterRoleBinding",
    "Lease",
    "ConfigMap",
}


def declared() -> list[dict[str, Any]]:
    """The objects of the controller and of its access, as the committed hybrid stack declares them."""
    parents = {NAME, "llm-burst-access"}
    found = [entry["inputs"] for entry in golden_resources("hybrid") if entry.get("parent") in parents]
    return [one for one in found if one.get("kind") in KINDS]


class DashboardServer:
    """The double of Ray's dashboard, over HTTP and on an address that an API server passes requests on to."""

    def __init__(self, address: str) -> None:
        self.ray = RayDouble("LLMServer:Qwen--Qwen3-8B")
        ray = self.ray

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer("GET", None)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self._answer("POST", json.loads(body))

            def _answer(self, method: str, body: dict[str, Any] | None) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                path = self.path.replace("%3A", ":")
                status, data = ray(method, path, body, headers)
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
                pass

        self.server = http.server.ThreadingHTTPServer((address, 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def port(self) -> int:
        return self.server.server_port


def own_address() -> str:
    """An address of this machine that is not loopback: an API server passes nothing on to that."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        return str(probe.getsockname()[0])


class BusyGateway(MetricsPod):
    """A pod of the gateway. Requests take ten seconds; what on-prem cannot hold, EKS refuses."""

    ROOM = 128

    def __init__(self) -> None:
        self.wanted = 0
        self._came, self._refused, self._at = 0.0, 0.0, time.monotonic()
        super().__init__()

    @property
    def text(self) -> str:
        """Its metrics of now."""
        now = time.monotonic()
        self._came += (now - self._at) * self.wanted / 10
        self._refused += (now - self._at) * max(0, self.wanted - self.ROOM) / 10
        self._at = now
        here, there = (f'model="Qwen/Qwen3-8B",pool="{pool}"' for pool in ("onprem", "spill"))
        full = 'envoy_response_code="503"'
        return f"""envoy_cluster_upstream_rq_active{{{here}}} {min(self.wanted, self.ROOM)}
envoy_cluster_upstream_rq_total{{{here}}} {self._came:.0f}
envoy_cluster_upstream_rq{{{full},{here}}} {self._refused:.0f}
envoy_cluster_upstream_rq_total{{{there}}} {self._refused:.0f}
envoy_cluster_upstream_rq{{{full},{there}}} {self._refused:.0f}
"""

    @text.setter
    def text(self, _: str) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        pass


class World:
    """The API server, the doubles beside it, and the controller's processes."""

    def __init__(self, api: ApiServer, folder: Path) -> None:
        self.api, self.admin, self.folder = api, api.admin(), folder
        self.there, self.here = DashboardServer(own_address()), DashboardServer("127.0.0.1")
        self.here.ray.wanted = self.here.ray.ready = 1
        self.gateway = BusyGateway()
        self.pods: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def ray(self) -> RayDouble:
        return self.there.ray

    def declare(self) -> None:
        """Makes what `pulumi up` makes, and the head's Service with the double behind it."""
        for namespace in ("llm",):
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
            self.admin.write("POST", "/api/v1/namespaces", body)
        for one in declared():
            namespace = one["metadata"].get("namespace")
            self.admin.write("POST", object_path(one["apiVersion"], one["kind"], namespace), one)
        ports = [{"name": "dashboard", "port": 8265}]
        service = {"metadata": {"name": HEAD, "namespace": "llm"}, "spec": {"ports": ports}}
        self.admin.write("POST", "/api/v1/namespaces/llm/services", service)
        # An API server passes requests on to addresses of pods only.
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "head", "namespace": "llm"},
            "spec": {"containers": [{"name": "ray-head", "image": "none"}], "nodeName": "none"},
        }
        path = object_path("v1", "Pod", "llm", "head")
        made = self.admin.write("POST", object_path("v1", "Pod", "llm"), pod)
        assert made is not None
        status = {"phase": "Running", "podIP": own_address(), "podIPs": [{"ip": own_address()}]}
        self.admin.write("PUT", f"{path}/status", {**made, "status": status})
        reference = {"kind": "Pod", "name": "head", "namespace": "llm"}
        addresses = [{"ip": own_address(), "targetRef": reference}]
        subsets = [{"addresses": addresses, "ports": [{"name": "dashboard", "port": self.there.port}]}]
        endpoints = {"metadata": {"name": HEAD, "namespace": "llm"}, "subsets": subsets}
        self.admin.write("POST", "/api/v1/namespaces/llm/endpoints", endpoints)

    def start(self, name: str) -> None:
        """Starts one pod of the controller, with the ServiceAccount's rights on both sides."""
        [file] = [one["data"]["config.json"] for one in declared() if "config.json" in one.get("data", {})]
        config: dict[str, Any] = json.loads(file)
        token = self.folder / "token"
        token.write_text("secret")
        config["policy"].update(
            {"tickSeconds": 1, "scaleOut": {"forSeconds": 1}, "staleSeconds": 10, "cooldownSeconds": 1}
        )
        config.update(
            gatewayHost="127.0.0.1",
            gatewayPort=self.gateway.address[1],
            kubeconfig=str(self.api.kubeconfig("eks", self.api.token_of("llm", "burst-controller"))),
            rayToken=str(token),
            onPremRayToken=str(token),
            listenPort=free_port(),
        )
        config["models"][0]["onPrem"].update(
            dashboard=f"http://127.0.0.1:{self.here.port}", metricsHost="127.0.0.1", metricsPort=1
        )
        (self.folder / f"{name}.json").write_text(json.dumps(config))
        with (self.folder / f"{name}.log").open("wb") as log:
            self.pods[name] = subprocess.Popen(
                self.command(name, "serve"), cwd=PROJECT, stdout=log, stderr=log, env=self.environment(name)
            )

    def command(self, name: str, *words: str) -> list[str]:
        home = self.api.kubeconfig("home", self.api.token_of("llm", NAME))
        options = ["--config", str(self.folder / f"{name}.json"), "--kubeconfig", str(home)]
        return [sys.executable, "-u", "-m", "runtime.burst", *options, *words]

    def environment(self, name: str) -> dict[str, str]:
        return {**os.environ, "HOSTNAME": name}

    def ask(self, name: str, *words: str) -> str:
        """What a command prints that is run beside a pod."""
        done = subprocess.run(
            self.command(name, *words), cwd=PROJECT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def rounds(self, name: str) -> list[dict[str, Any]]:
        lines = (self.folder / f"{name}.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def until(self, what: str, there: Callable[[], bool], within_s: float = 120.0) -> float:
        started = time.monotonic()
        while not there():
            logs = {name: (self.folder / f"{name}.log").read_text()[-1500:] for name in self.pods}
            assert time.monotonic() - started < within_s, f"{what}: not within {within_s} s; {logs}"
            time.sleep(0.1)
        return time.monotonic() - started

    def stop(self) -> None:
        for process in self.pods.values():
            process.kill()
            process.wait()
        self.gateway.stop()
        for server in (self.here.server, self.there.server):
            server.shutdown()
            server.server_close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture(name="world")
def fixture_world(tmp_path: Path) -> Generator[World]:
    with ApiServer(tmp_path) as api:
        world = World(api, tmp_path)
        try:
            world.declare()
            yield world
        finally:
            world.stop()


def holder(world: World) -> str:
    lease = world.admin.get(object_path("coordination.k8s.io/v1", "Lease", "llm", NAME)) or {}
    return str(lease.get("spec", {}).get("holderIdentity") or "")


def remembered(world: World) -> dict[str, Any]:
    found = world.admin.get(object_path("v1", "ConfigMap", "llm", f"{NAME}-state")) or {}
    return json.loads(found["data"]["state"])


def test_two_pods_carry_a_burst_through_a_kill_with_the_declared_rights_alone(world: World) -> None:
    [file] = [one["data"]["config.json"] for one in declared() if "config.json" in one.get("data", {})]
    staged = json.loads(file)["models"][0]["cloud"]["staged"]
    Store(world.admin, "llm", f"{NAME}-state").arm({MODEL: (staged,)})
    world.start("a")
    world.until("a leads", lambda: holder(world).startswith("a-"))
    world.start("b")
    world.until("b watches", lambda: bool(world.rounds("b")))
    assert world.ray.scaled == []

    world.gateway.wanted = 300
    world.until("replicas are asked for", lambda: world.ray.wanted > 0)
    wanted, before = world.ray.wanted, remembered(world)
    assert before["groups"]["l40s"]["reserved"] >= 1
    assert not any(line["leads"] for line in world.rounds("b"))

    world.pods["a"].send_signal(signal.SIGKILL)
    world.pods["a"].wait()
    seconds = world.until("b leads", lambda: holder(world).startswith("b-"))
    assert seconds < 30, "a Lease lasts 10 s; the rest is for a busy machine"
    world.until("b decides", lambda: any(line["event"] == "decision" for line in world.rounds("b")))
    assert world.ray.wanted >= wanted
    assert remembered(world)["groups"]["l40s"]["reserved"] >= before["groups"]["l40s"]["reserved"]
    told = world.ask("b", "explain")
    assert told.startswith("leader: b-")
    assert f"{MODEL}: " in told

    world.ray.wanted = world.ray.ready = 0
    world.until("a forgotten number is set again", lambda: world.ray.wanted >= wanted)

    assert world.ask("b", "switch", "off").strip() == "switch: off"
    world.until("the switch is obeyed", lambda: world.ray.wanted == 0)

    world.pods["b"].send_signal(signal.SIGTERM)
    assert world.pods["b"].wait(timeout=60) == 0
    assert holder(world) == "", "who goes in order leaves the Lease to the next one"
    events = world.admin.get("/api/v1/namespaces/llm/events") or {}
    assert "Replicas" in {event["reason"] for event in events["items"]}


def test_the_declared_rights_are_no_more_than_that(world: World) -> None:
    here = ClusterApi(world.api.access(world.api.token_of("llm", NAME)))
    there = ClusterApi(world.api.access(world.api.token_of("llm", "burst-controller")))
    refused = [
        (here, "/api/v1/namespaces/llm/secrets"),
        (here, "/api/v1/namespaces/llm/configmaps"),
        (here, "/api/v1/namespaces/llm/pods"),
        (here, object_path("v1", "ConfigMap", "llm", f"{NAME}-config")),
        (here, "/apis/coordination.k8s.io/v1/namespaces/llm/leases"),
        (there, "/api/v1/namespaces/llm/secrets"),
        (there, "/api/v1/pods"),
        (there, "/apis/ray.io/v1/namespaces/llm/rayservices"),
        (there, "/api/v1/namespaces/llm/services/http:other:8265/proxy/"),
        (there, f"/api/v1/namespaces/llm/services/http:{HEAD}:8000/proxy/"),
        (there, "/api/v1/namespaces/kube-system/configmaps/other"),
    ]
    for api, path in refused:
        with pytest.raises(ForbiddenError):
            api.get(path)
    with pytest.raises(ForbiddenError):
        here.write("DELETE", object_path("v1", "ConfigMap", "llm", f"{NAME}-state"), {})
    assert there.get("/api/v1/nodes") is not None
