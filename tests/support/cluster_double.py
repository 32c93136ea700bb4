"""A double of a Kubernetes API server for the burst controller: objects in memory, versions that conflict.

It knows Leases, ConfigMaps, Events, Nodes and Pods, and the proxy to Services; everything else is refused.
"""

import copy
import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from runtime.cluster import ConflictError, ForbiddenError, UnreachableError

Json = dict[str, Any]

_OBJECT = re.compile(
    r"/(?:api/v1|apis/coordination\.k8s\.io/v1)/namespaces/[^/]+/(?:leases|configmaps)/[^/]+"
)
_EVENTS = re.compile(r"/api/v1/namespaces/[^/]+/events")
_LISTS = re.compile(r"/api/v1/(?:nodes|namespaces/[^/]+/pods)")
_PROXY = re.compile(
    r"/api/v1/namespaces/(?P<namespace>[^/]+)/services/http:(?P<service>[^/:]+):\d+/proxy(?P<path>/.*)"
)

Backend = Callable[[str, str, Json | None, Mapping[str, str]], tuple[int, bytes]]


class ClusterDouble:
    """One API server. `down` makes it answer nobody; `forbidden` refuses writes."""

    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}
        self.lists: dict[str, list[Json]] = {}
        self.services: dict[str, Backend] = {}
        self.events: list[Json] = []
        self.down = False
        self.forbidden = False
        self.lose_answers = False
        self.asked: list[str] = []
        self._version = 0

    def add(self, path: str, content: Json) -> None:
        """Puts an object there, as `pulumi up` would."""
        self._version += 1
        self.objects[path] = {**content, "metadata": {"resourceVersion": str(self._version)}}

    def get(self, path: str, accept: str = "application/json") -> Json | None:
        """As ClusterApi."""
        self._reached(path)
        plain = urlsplit(path)
        if _LISTS.fullmatch(plain.path):
            selector = parse_qs(plain.query).get("labelSelector", [""])[0]
            return {"items": [one for one in self.lists.get(plain.path, []) if _selected(one, selector)]}
        assert _OBJECT.fullmatch(path), f"the double does not know GET {path}"
        return copy.deepcopy(self.objects.get(path))

    def write(self, method: str, path: str, body: Json) -> Json | None:
        """As ClusterApi."""
        self._reached(path)
        if self.forbidden:
            raise ForbiddenError(f"{method} {path} is forbidden")
        if method == "POST" and _EVENTS.fullmatch(path):
            self.events.append(body)
            return body
        assert method in {"PUT", "PATCH"}, f"the double does not know {method}"
        assert _OBJECT.fullmatch(path), f"the double does not know {method} {path}"
        there = self.objects.get(path)
        if there is None:
            return None
        version = body.get("metadata", {}).get("resourceVersion")
        assert method == "PATCH" or version, "a PUT without a version overwrites what others wrote"
        if version is not None and version != there["metadata"]["resourceVersion"]:
            raise ConflictError(f"{path}: the object has been modified")
        self._version += 1
        merged = _merge(there, body) if method == "PATCH" else copy.deepcopy(body)
        merged["metadata"] = {**there["metadata"], "resourceVersion": str(self._version)}
        self.objects[path] = merged
        if self.lose_answers:
            raise UnreachableError("the answer was lost")
        return copy.deepcopy(merged)

    def exchange(
        self, method: str, path: str, body: Json | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """As ClusterApi."""
        self._reached(path)
        found = _PROXY.fullmatch(path)
        assert found, f"the double does not know {method} {path}"
        backend = self.services.get(f"{found['namespace']}/{found['service']}")
        if backend is None:
            return 503, b'{"message": "no endpoints available for service"}'
        return backend(method, unquote(found["path"]), body, headers or {})

    def data(self, path: str) -> dict[str, str]:
        """The content of a ConfigMap."""
        return self.objects[path].get("data") or {}

    def _reached(self, path: str) -> None:
        self.asked.append(path)
        if self.down:
            raise UnreachableError("no answer from https://eks")


def _merge(there: Json, patch: Json) -> Json:
    merged = dict(there)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = _merge(merged.get(key) or {}, value)  # pyright: ignore[reportUnknownArgumentType]
        else:
            merged[key] = value
    return merged


def _selected(one: Json, selector: str) -> bool:
    labels = one["metadata"].get("labels", {})
    parts = [part.partition("=") for part in selector.split(",") if part]
    return all(labels.get(key) == value if equals else key in labels for key, equals, value in parts)


class RayDouble:
    """Ray's dashboard of one application with one model, by the rules that real Ray was seen to follow."""

    def __init__(self, deployment: str, token: str = "secret") -> None:
        self.deployment, self.token = deployment, token
        self.wanted = 0
        self.ready = 0
        self.external = True
        self.built = True
        self.hear_and_forget = False
        self.scaled: list[int] = []

    def __call__(
        self, method: str, path: str, body: Json | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        given = headers.get("x-ray-authorization", "")
        if not given.startswith("Bearer "):
            return 401, b"Unauthorized: Missing authentication token"
        if given != f"Bearer {self.token}":
            return 403, b"Forbidden: Invalid authentication token"
        if (method, path) == ("GET", "/api/serve/applications/"):
            return 200, json.dumps({"applications": {"llm": self._told()}}).encode()
        assert method == "POST", f"the double does not know {method} {path}"
        assert path == f"/api/v1/applications/llm/deployments/{self.deployment}/scale", path
        if not self.external:
            return 412, b'{"error": "external_scaler_enabled=false"}'
        assert body is not None
        self.scaled.append(body["target_num_replicas"])
        if not self.hear_and_forget:
            self.wanted = body["target_num_replicas"]
            self.ready = min(self.ready, self.wanted)
        return 200, b'{"message": "Scaling request received."}'

    def _told(self) -> Json:
        if not self.built:
            return {"status": "DEPLOYING", "deployments": {}}
        states = ["RUNNING"] * self.ready + ["STARTING"] * (self.wanted - self.ready)
        replicas = [{"state": state} for state in states]
        found = {"status": "HEALTHY", "target_num_replicas": self.wanted, "replicas": replicas}
        return {"status": "RUNNING", "deployments": {self.deployment: found}}
