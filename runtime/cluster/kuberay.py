"""Looks whether a cluster has the KubeRay that RayServices need: definitions, and a running operator."""

import re
from collections.abc import Iterator
from typing import Any, Protocol, cast
from urllib.parse import urlencode

from runtime.cluster.api import ForbiddenError
from runtime.images import tag_of

# 1.6.2 is the first one that waits for a RayService's clusters before it lets the RayService go.
LEAST_VERSION = (1, 6, 2)
NEXT_MAJOR = (2, 0, 0)
SUPPORTED = "1.6.2 or newer, below 2"

# Fields that a RayService of ours sets and that older definitions lack. The API server drops such fields
# without a word, and Ray's authentication would then be off.
_NEEDED = (("rayClusterConfig", "authOptions", "secretName"), ("upgradeStrategy", "type"))


class Reader(Protocol):
    """What is asked of a cluster."""

    def get(self, path: str) -> dict[str, Any] | None:
        """Returns what is at a path of the API, or None if nothing is."""
        ...


def kuberay_problem(cluster: Reader, operator_namespace: str, namespace: str) -> str | None:
    """Returns what is missing, with the fix, or None.

    The definitions are read where every identity may look (discovery and the published schema). The
    operator's Deployment is looked at only if the identity may.

    Args:
        cluster: The cluster.
        operator_namespace: Where the operator runs.
        namespace: Where the RayServices will be.

    Raises:
        ClusterError: The cluster could not be read.
    """
    served = cluster.get("/apis/ray.io/v1")
    kinds = {str(resource["name"]) for resource in (served or {}).get("resources", ())}
    if "rayservices" not in kinds:
        return f"the cluster has no RayService of ray.io/v1; install KubeRay {SUPPORTED}, with its CRDs"
    document = cluster.get("/openapi/v3/apis/ray.io/v1") or {}
    schema = _ray_service_schema(document)
    missing = [".".join(path) for path in _NEEDED if schema is not None and not _has(schema, path)]
    if missing:
        return (
            f"the cluster's RayService has no field {' and no '.join(missing)}, so its CRD is older than "
            f"{SUPPORTED}; apply newer CRDs (kubectl apply --server-side) and upgrade the operator"
        )
    try:
        return _operator_problem(cluster, operator_namespace, namespace)
    except ForbiddenError:
        return None  # the administrator's namespace; the definitions are right


def _operator_problem(cluster: Reader, operator_namespace: str, namespace: str) -> str | None:
    query = urlencode({"labelSelector": "app.kubernetes.io/name=kuberay-operator"})
    found = cluster.get(f"/apis/apps/v1/namespaces/{operator_namespace}/deployments?{query}") or {}
    deployments = cast("list[dict[str, Any]]", found.get("items") or [])
    if not deployments:
        return (
            f"namespace {operator_namespace} has no Deployment with the label "
            "app.kubernetes.io/name=kuberay-operator; set kuberay.namespace to where the operator runs"
        )
    deployment = deployments[0]
    name = f"{operator_namespace}/{deployment['metadata']['name']}"
    containers = cast("list[dict[str, Any]]", deployment["spec"]["template"]["spec"]["containers"])
    version = next((found for one in containers if (found := _version(str(one["image"])))), None)
    if version is not None and not LEAST_VERSION <= version < NEXT_MAJOR:
        return f"operator {name} is {'.'.join(map(str, version))}; allowed: {SUPPORTED}; upgrade it"
    watched = set(_watched(containers))
    if watched and namespace not in watched:
        return (
            f"operator {name} watches {', '.join(sorted(watched))} only; add {namespace} to its "
            "watchNamespace, or use one of these as namespace"
        )
    if not deployment.get("status", {}).get("availableReplicas"):
        return f"operator {name} does not run; see kubectl -n {operator_namespace} describe deployment"
    return None


def _version(image: str) -> tuple[int, ...] | None:
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", tag_of(image))
    return tuple(map(int, found.groups())) if found else None


def _watched(containers: list[dict[str, Any]]) -> Iterator[str]:
    for container in containers:
        for argument in (*(container.get("command") or ()), *(container.get("args") or ())):
            flag, _, value = str(argument).lstrip("-").partition("=")
            if flag == "watch-namespace":
                yield from (name for name in value.split(",") if name)


def _ray_service_schema(document: dict[str, Any]) -> dict[str, Any] | None:
    schemas: dict[str, Any] = document.get("components", {}).get("schemas", {})
    for name, schema in schemas.items():
        if name.endswith(".v1.RayService"):
            return schema.get("properties", {}).get("spec")
    return None  # not published; discovery has said that it is there


def _has(schema: dict[str, Any], path: tuple[str, ...]) -> bool:
    here: dict[str, Any] | None = schema
    for part in path:
        here = (here or {}).get("properties", {}).get(part)
    return here is not None
