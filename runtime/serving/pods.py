"""What the pods of both serving kinds have in common: where weights lie, devices, placement, security."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from runtime.model import ModelSpec, NodeToleration
from runtime.surroundings import CA_FILE, CA_FOLDER, CA_VOLUME, Surroundings

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = "dict[str, JsonValue]"

REVISION_ANNOTATION = "spillway.dev/revision"

# `ray` of the published Ray images.
USER = 1000

_MODEL_MOUNT = "/models/volume"
_HUB_TOKEN = "/run/spillway/hub"  # noqa: S105 - the folder, and no token


def model_location(model: ModelSpec) -> str:
    """What vLLM takes as the model: a folder in the pod, or a Hugging Face id."""
    source = model.source
    if source.hugging_face is not None:
        return source.hugging_face
    if source.mounts_volume:
        return _MODEL_MOUNT + (source.path or "")
    if source.path is None:
        raise AssertionError("ModelSource lets no other case through")
    return source.path


def weights_volumes(model: ModelSpec, home: str) -> tuple[list[JsonValue], list[JsonValue]]:
    """Volume mounts and volumes for weights and the hub's token; `home` is the user's in the container."""
    source = model.source
    if source.mounts_volume:
        claim = source.volume_claim or host_folder_claim(model)
        return (
            [{"name": "model", "mountPath": _MODEL_MOUNT, "readOnly": True}],
            [{"name": "model", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}],
        )
    if source.hugging_face is not None:
        mounts: list[JsonValue] = [{"name": "hub-cache", "mountPath": f"{home}/.cache/huggingface"}]
        volumes: list[JsonValue] = [{"name": "hub-cache", "emptyDir": {}}]
        if model.hugging_face_token_secret is not None:
            # A file, because every child process and crash report gets the environment.
            token: JsonObject = {
                "secretName": model.hugging_face_token_secret,
                "items": [{"key": "token", "path": "token"}],
            }
            mounts.append({"name": "hub-token", "mountPath": _HUB_TOKEN, "readOnly": True})
            volumes.append({"name": "hub-token", "secret": token})
        return mounts, volumes
    return [], []


def certificate_volumes(
    model: ModelSpec, surroundings: Surroundings
) -> tuple[list[JsonValue], list[JsonValue]]:
    """Volume mounts and volumes for a private CA, where the model comes from outside the cluster."""
    bundle = surroundings.ca_bundle
    if bundle is None or not model.source.leaves_cluster:
        return [], []
    files: list[JsonValue] = [{"key": bundle.key, "path": CA_FILE.removeprefix(f"{CA_FOLDER}/")}]
    return (
        [{"name": CA_VOLUME, "mountPath": CA_FOLDER, "readOnly": True}],
        [{"name": CA_VOLUME, "configMap": {"name": bundle.config_map, "items": files}}],
    )


def host_folder_claim(model: ModelSpec) -> str:
    """Name of the claim that Spillway declares for `source.hostFolder`."""
    return f"{model.name}-weights"


def container_resources(model: ModelSpec, further: Mapping[str, int] | None = None) -> JsonObject:
    """Limits and requests of the container that holds the devices of one pod.

    Args:
        model: The model.
        further: Devices beside its accelerators, by Kubernetes resource.
    """
    worker, profile = model.worker, model.profile
    devices: JsonObject = {}
    if profile.kubernetes_resource is not None:
        devices[profile.kubernetes_resource] = str(model.tensor_parallel)
    huge_pages = worker.huge_pages or profile.huge_pages
    if huge_pages is not None:
        devices["hugepages-2Mi"] = huge_pages
    devices |= {name: str(count) for name, count in (further or {}).items()}
    return {
        "limits": {"cpu": worker.cpu, "memory": worker.memory, **devices},
        "requests": {
            "cpu": worker.cpu_request or worker.cpu,
            "memory": worker.memory_request or worker.memory,
            **devices,
        },
    }


def placement(model: ModelSpec) -> JsonObject:
    """Node selector and tolerations of the model's pods; the model's own labels win over the hardware's."""
    profile = model.profile
    usual = [NodeToleration(key=taint) for taint in profile.taints]
    return on_nodes({**profile.node_labels, **model.node_selector}, [*usual, *model.tolerations])


def on_nodes(node_selector: Mapping[str, str], tolerations: Sequence[NodeToleration]) -> JsonObject:
    """The part of a pod's spec that says on which nodes it runs; empty where any node will do."""
    spec: JsonObject = {}
    if node_selector:
        spec["nodeSelector"] = dict(node_selector)
    if tolerations:
        spec["tolerations"] = [toleration.model_dump(exclude_none=True) for toleration in tolerations]
    return spec


def engine_environment(model: ModelSpec) -> dict[str, str]:
    """Environment variables of vLLM on the model's hardware."""
    values = {**model.profile.environment, "VLLM_NO_USAGE_STATS": "1"}
    if model.source.hugging_face is None:
        # A missing file must fail at once, not after minutes of retries against an unreachable hub.
        values["HF_HUB_OFFLINE"] = "1"
    elif model.hugging_face_token_secret is not None:
        values["HF_TOKEN_PATH"] = f"{_HUB_TOKEN}/token"
    return values


def environment(values: Mapping[str, str]) -> list[JsonValue]:
    """The variables in a container's shape, by name so that their order says nothing."""
    return [{"name": name, "value": values[name]} for name in sorted(values)]


def pod_annotations(model: ModelSpec) -> dict[str, JsonValue]:
    """Annotations that only say which revision of the stack file the pods belong to."""
    return {} if model.revision is None else {REVISION_ANNOTATION: model.revision}


def pod_base(supplemental_groups: Sequence[int] = (), pull_secrets: Sequence[str] = ()) -> JsonObject:
    """What a pod needs under restricted Pod Security; `supplemental_groups` own its device files."""
    security: JsonObject = {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if supplemental_groups:
        security["supplementalGroups"] = list(supplemental_groups)
    pod: JsonObject = {"automountServiceAccountToken": False, "securityContext": security}
    if pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in pull_secrets]
    return pod


def container_security() -> JsonObject:
    """What a container needs under restricted Pod Security."""
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
