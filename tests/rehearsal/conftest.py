"""A running embedded site for the tests of this folder; needs Linux, root and the site's tools."""

import base64
import os
import shutil
import socket
import ssl
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode

import pytest

from rehearsal.site import Site
from rehearsal.site.api import ApiClient, ApiError, Json, object_path
from rehearsal.site.certificates import CLUSTER_CA, certificate_file, key_file
from rehearsal.site.layout import API_PORT, NODE_IP
from rehearsal.site.network import NetworkNamespace
from rehearsal.site.toolbox import SiteTools
from rehearsal.tools import Toolbox

RAY_IMAGE = "site.local/ray-llm-cpu:2.60.0"


Result = TypeVar("Result")

PATIENCE_S = 300.0
"""Ends only what would wait for ever; a loaded machine may be several times slower than a quiet one."""


def eventually(what: str, look: Callable[[], Result | None], timeout_s: float = PATIENCE_S) -> Result:
    """Looks again and again until there is something to see."""
    deadline = time.monotonic() + timeout_s
    while True:
        if (found := look()) is not None:
            return found
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:.0f} s"
        time.sleep(0.2)


class Cluster:
    """What the tests do with a site's cluster, by its API alone."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.api: ApiClient = site.api()

    def pod(self, namespace: str, name: str) -> Json:
        return self.api.get(object_path("v1", "Pod", namespace, name))

    def when_ready(self, namespace: str, name: str, timeout_s: float = PATIENCE_S) -> Json:
        def look() -> Json | None:
            pod = self.pod(namespace, name)
            conditions: list[Json] = pod["status"].get("conditions", [])
            ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
            return pod if ready else None

        return eventually(f"pod {namespace}/{name} ready", look, timeout_s)

    def refusal(self, user: str, method: str, path: str) -> int:
        """Returns the status with which the API refuses a request of a user; 200 if it does not."""
        try:
            self.site.api(user).request(method, path)
        except ApiError as error:
            return error.status
        return 200

    def logs(self, namespace: str, name: str) -> str:
        return self.api.request("GET", f"{object_path('v1', 'Pod', namespace, name)}/log").decode()

    def run_in(self, namespace: str, name: str, command: Sequence[str]) -> str:
        """Runs a command in a pod as `kubectl exec` does, over a WebSocket, and returns what it printed."""
        layout = self.site.layout
        tls = ssl.create_default_context(cafile=str(certificate_file(layout, CLUSTER_CA)))
        tls.load_cert_chain(certificate_file(layout, "admin"), key_file(layout, "admin"))
        query = urlencode([("stdout", "true"), ("stderr", "true"), *(("command", part) for part in command)])
        path = f"{object_path('v1', 'Pod', namespace, name)}/exec?{query}"
        plain = NetworkNamespace(layout).connect(NODE_IP, API_PORT, 30.0)
        with tls.wrap_socket(plain, server_hostname=NODE_IP) as connection:
            key = base64.b64encode(os.urandom(16)).decode()
            connection.sendall(
                f"GET {path} HTTP/1.1\r\nHost: site\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n".encode()
            )
            stream = connection.makefile("rb")
            if b" 101 " not in (answer := stream.readline()):
                raise ConnectionRefusedError(answer.decode())
            while stream.readline().strip():
                pass
            printed = b""
            # One frame is one message: opcode, length, then the channel (1 output, 2 errors, 3 the end).
            while len(head := stream.read(2)) == 2 and head[0] & 0xF != 8:
                length = head[1] & 0x7F
                if length >= 126:
                    length = struct.unpack(
                        ">H" if length == 126 else ">Q", stream.read(2 if length == 126 else 8)
                    )[0]
                message = stream.read(length)
                if message[:1] in (b"\1", b"\2"):
                    printed += message[1:]
            return printed.decode()


def restricted_pod(namespace: str, name: str, command: Sequence[str], **spec: object) -> Json:
    """A pod that the restricted Pod Security level admits."""
    container: Json = {
        "name": "main",
        "image": RAY_IMAGE,
        "command": list(command),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"limits": {"cpu": "500m", "memory": "200Mi"}},
    }
    for field in ("readinessProbe", "ports"):
        if field in spec:
            container[field] = spec.pop(field)
    if "resources" in spec:
        container["resources"] = spec.pop("resources")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": name}},
        "spec": {
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
            **spec,
        },
    }


def restricted_namespace(name: str) -> Json:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def fetch(port: int, timeout_s: float = 5.0) -> str:
    """Speaks HTTP to a port of the host's loopback."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        while part := connection.recv(4096):
            answer += part
    return answer.decode(errors="replace")


@pytest.fixture(scope="session", name="tools")
def fixture_tools() -> SiteTools:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.fail(
            "the embedded site needs Linux and root, and `make test` skips nothing: run it as root, "
            "or run `make test-fast`"
        )
    return Toolbox.load(("site", "gateway", "serving"))


@pytest.fixture(scope="session", name="home")
def fixture_home() -> Generator[Path]:
    # Not pytest's own folder: sockets below it would have too long a path.
    folder = Path(tempfile.mkdtemp(prefix="spillway-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
