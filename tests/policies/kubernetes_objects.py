"""Kubernetes objects as Pulumi hands them to a policy, for the policy tests."""

from collections.abc import Mapping
from typing import Any

RAY_SERVICE = "kubernetes:ray.io/v1:RayService"
DEPLOYMENT = "kubernetes:apps/v1:Deployment"

# What the engine puts in the place of an unknown number and of an unknown string.
UNKNOWN_NUMBER = "3eeb2bf0-c639-47a8-9e75-3b44932eb421"
UNKNOWN_STRING = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"

H100 = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
L4 = {"nvidia.com/gpu.product": "NVIDIA-L4"}


def pod(
    limits: Mapping[str, object] | None = None, selector: object = None, **spec: object
) -> dict[str, Any]:
    """A pod template with one container."""
    container: dict[str, object] = {"name": "model", "image": "model:1"}
    if limits is not None:
        container["resources"] = {"limits": limits}
    body: dict[str, object] = {"containers": [container], **spec}
    if selector is not None:
        body["nodeSelector"] = selector
    return {"metadata": {"labels": {"app": "model"}}, "spec": body}


def ray_cluster(worker: Mapping[str, object] | None = None, **group: object) -> dict[str, Any]:
    """A Ray cluster's spec with a CPU head and one worker group."""
    return {
        "headGroupSpec": {"template": pod({"cpu": "4"})},
        "workerGroupSpecs": [{"groupName": "gpu", "minReplicas": 0, "template": worker or pod(), **group}],
    }


def ray_service(worker: Mapping[str, object] | None = None, **group: object) -> dict[str, Any]:
    """A RayService around `ray_cluster`."""
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": "model"},
        "spec": {"serveConfigV2": "applications: []", "rayClusterConfig": ray_cluster(worker, **group)},
    }


def deployment(template: Mapping[str, object], **spec: object) -> dict[str, Any]:
    """A Deployment of one template."""
    return {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": template, **spec}}
