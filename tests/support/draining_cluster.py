"""A Kubernetes API of which only deletion is real: finalizers, namespaces that take what is in them along.

It keeps whatever it is given. Controllers are names of finalizers that somebody removes; take one away and
its objects stay, as they do when an operator is dead.
"""

import copy
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from runtime.cluster import ForbiddenError, UnreachableError, object_path

Json = dict[str, Any]


# What a Role in a namespace grants there: verbs by API group and resource.
Role = Mapping[tuple[str, str], set[str]]


class DrainingCluster:
    """One API server. `down` makes it answer nobody, `role` only what a namespace's Role grants."""

    def __init__(self, uid: str = "uid-1") -> None:
        self.objects: dict[str, Json] = {}
        self.controllers = {"ray.io/rayservice-finalizer", "kubernetes.io/pvc-protection", "kubernetes"}
        self.down = False
        self.deleted: list[str] = []
        self.role: Role | None = None
        self.put("v1", "Namespace", None, "kube-system", uid=uid)

    def put(
        self,
        api_version: str,
        kind: str,
        namespace: str | None,
        name: str,
        *,
        body: Json | None = None,
        **meta: Any,
    ) -> None:
        """Puts an object there; what else is named goes into its metadata."""
        metadata = {"name": name, **({"namespace": namespace} if namespace else {}), **meta}
        path = object_path(api_version, kind, namespace, name)
        self.objects[path] = {
            "apiVersion": api_version,
            "kind": kind,
            "spec": {},
            **(body or {}),
            "metadata": metadata,
        }

    def names(self) -> list[str]:
        """What is there beside the cluster's own namespace."""
        return sorted(path.rpartition("/")[2] for path in self.objects if "kube-system" not in path)

    def get(self, path: str, accept: str = "application/json") -> Json | None:
        """As ClusterApi."""
        plain = urlsplit(path)
        self._reached("get" if plain.path in self.objects else "list", plain.path)
        if (one := self.objects.get(plain.path)) is not None:
            return copy.deepcopy(one)
        where, _, plural = plain.path.rpartition("/")
        selector = unquote(parse_qs(plain.query).get("labelSelector", [""])[0])
        items = [
            copy.deepcopy(one)
            for place, one in self.objects.items()
            if place.startswith(f"{plain.path}/") or (_everywhere(where, place) and f"/{plural}/" in place)
        ]
        return {"items": [one for one in items if _selected(one, selector)]}

    def metadata(self, api_version: str, kind: str, namespace: str | None, name: str) -> Json | None:
        """As ClusterApi."""
        path = object_path(api_version, kind, namespace, name)
        self._reached("get", path)
        found = self.objects.get(path)
        return copy.deepcopy(found["metadata"]) if found else None

    def write(self, method: str, path: str, body: Json) -> Json | None:
        """As ClusterApi."""
        self._reached(method.lower(), path)
        there = self.objects.get(path)
        if there is None:
            return None
        if method == "PATCH":
            for key, value in body.items():
                there[key] = {**there.get(key, {}), **value}
            return copy.deepcopy(there)
        assert method == "DELETE", f"the double does not know {method}"
        there["metadata"]["deletionTimestamp"] = "2026-11-21T18:00:00Z"
        self.deleted.append(path.rpartition("/")[2])
        self.settle()
        return copy.deepcopy(there)

    def settle(self) -> None:
        """Lets every controller that lives do its part."""
        going = [path for path, one in self.objects.items() if one["metadata"].get("deletionTimestamp")]
        for path in going:
            one = self.objects.get(path)
            if one is None:
                continue
            held = [name for name in one["metadata"].get("finalizers", ()) if name not in self.controllers]
            inside = [place for place in self.objects if place.startswith(f"{path}/")]
            if one["kind"] == "Namespace":
                for place in inside:
                    self.objects[place]["metadata"].setdefault("deletionTimestamp", "now")
                    if not [
                        name
                        for name in self.objects[place]["metadata"].get("finalizers", ())
                        if name not in self.controllers
                    ]:
                        self._remove(place)
                held += [place for place in self.objects if place.startswith(f"{path}/")]
            if not held:
                self._remove(path)

    def _remove(self, path: str) -> None:
        gone = self.objects.pop(path, None)
        for place, one in list(self.objects.items()):
            owners = one["metadata"].get("ownerReferences", ())
            if gone and any(owner["name"] == gone["metadata"]["name"] for owner in owners):
                self._remove(place)
        if gone and gone["kind"] == "PersistentVolumeClaim":
            volume = object_path("v1", "PersistentVolume", None, str(gone["spec"].get("volumeName")))
            kept = self.objects.get(volume, {}).get("spec", {})
            if kept.get("persistentVolumeReclaimPolicy") == "Delete":
                self.objects.pop(volume, None)

    def _reached(self, verb: str, path: str) -> None:
        if self.down:
            raise UnreachableError("no answer from https://cluster (context 'c'): connection refused")
        if self.role is None:
            return
        group, _, of_it = path.removeprefix("/apis/").partition("/") if "/apis/" in path else ("", "", path)
        _, namespaced, rest = of_it.partition("/namespaces/")
        resource = rest.split("/")[1] if namespaced and "/" in rest else "namespaces"
        if verb not in self.role.get((group, resource), set()):
            raise ForbiddenError(f"https://cluster does not allow it: cannot {verb} {path}")


def _everywhere(where: str, place: str) -> bool:
    """Whether a collection without a namespace holds what is at a place in some namespace."""
    return "/namespaces/" not in where and place.startswith(f"{where}/namespaces/")


def _selected(one: Json, selector: str) -> bool:
    labels = one["metadata"].get("labels", {})
    parts = [part.partition("=") for part in selector.split(",") if part]
    return all(labels.get(key) == value if equals else key in labels for key, equals, value in parts)
