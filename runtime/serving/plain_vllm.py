"""Renders a Deployment of `vllm serve` from a ModelSpec, for what Ray Serve LLM cannot place or import.

Pure functions. Flags and endpoints are those of vLLM 0.29 (vllm/engine/arg_utils.py, and `/health`, which
answers 503 when the engine is dead).
"""

import math

from runtime.labels import MODEL_LABEL, SERVING_LABEL
from runtime.model import EngineArgument, ModelSpec
from runtime.serving.pods import (
    JsonObject,
    JsonValue,
    certificate_volumes,
    container_resources,
    container_security,
    engine_environment,
    environment,
    model_location,
    placement,
    pod_annotations,
    pod_base,
    weights_volumes,
)
from runtime.surroundings import Surroundings

PLAIN_PORT = 8000

_HOME = "/home/vllm"
_PROBE_PERIOD_S = 10
# Until the Service and the gateway have forgotten the pod, it still takes requests; then it ends those
# that it has.
_LEAVE_S = 10
_DRAIN_S = 60


def plain_service_name(model: ModelSpec) -> str:
    """Service of the model's HTTP endpoint."""
    return f"{model.name}-vllm"


def pod_labels(model: ModelSpec) -> dict[str, str]:
    """The labels of the model's pods, and just what selects them."""
    return {MODEL_LABEL: model.name, SERVING_LABEL: "PlainVLLM"}


def deployment_spec(
    model: ModelSpec, image: str, ready_timeout_s: int, surroundings: Surroundings
) -> JsonObject:
    """The `spec` of the model's Deployment (`apps/v1`).

    Args:
        model: What to serve.
        image: The serving image, with vLLM.
        ready_timeout_s: How long a pod may take to load its model, in seconds.
        surroundings: Pull secrets, proxy, private CA and whether there is an internet.
    """
    surge, missing = (1, 0) if model.surge_copies else (0, 1)
    labels: JsonObject = {**pod_labels(model)}
    return {
        "replicas": model.replicas.max,
        "selector": {"matchLabels": labels},
        # Without it Kubernetes calls a rollout failed after ten minutes, which a large model takes to load.
        "progressDeadlineSeconds": ready_timeout_s,
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": surge, "maxUnavailable": missing},
        },
        "template": {
            "metadata": {"labels": labels, "annotations": pod_annotations(model)},
            "spec": _pod(model, image, ready_timeout_s, surroundings),
        },
    }


def command_line(model: ModelSpec) -> list[str]:
    """The container's command: `vllm serve` with the same meaning that the keys have under Ray."""
    arguments: dict[str, EngineArgument] = {
        **model.profile.engine_defaults,
        **model.engine_arguments,
        "served_model_name": model.model_id,
        "host": "0.0.0.0",  # noqa: S104 - inside the pod
        "port": PLAIN_PORT,
        "max_model_len": model.context_length,
        "max_num_seqs": model.max_sequences,
        # vLLM counts running requests too, and answers 503 beyond; unset, its queue has no end.
        "max_num_queued_reqs": model.max_sequences + model.queue_limit,
        "shutdown_timeout": _DRAIN_S,
    }
    if not model.profile.is_cpu:
        arguments["tensor_parallel_size"] = model.tensor_parallel
    if model.source.revision is not None:
        arguments["revision"] = model.source.revision
    return ["vllm", "serve", model_location(model), *(_flag(*argument) for argument in arguments.items())]


def _flag(name: str, value: EngineArgument) -> str:
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{option}" if value else f"--no-{option}"
    # In one word, so that a value that begins with '-' is not taken for a flag.
    return f"--{option}={value}"


def _pod(model: ModelSpec, image: str, ready_timeout_s: int, surroundings: Surroundings) -> JsonObject:
    mounts, volumes = weights_volumes(model, _HOME)
    certificates, ca_volumes = certificate_volumes(model, surroundings)
    health: JsonObject = {"httpGet": {"path": "/health", "port": "http"}, "timeoutSeconds": 5}
    writable: list[JsonValue] = [
        # vLLM's images have no home for a user other than root, and compiled kernels are kept there.
        {"name": "home", "mountPath": _HOME},
        # Devices exchange tensors through it. A container's own is 64 MiB.
        {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108 - the mount point
    ]
    memory: list[JsonValue] = [
        {"name": "home", "emptyDir": {}},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
    ]
    container: JsonObject = {
        "name": "vllm",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": [*command_line(model)],
        "env": environment(_environment(model, surroundings)),
        "ports": [{"containerPort": PLAIN_PORT, "name": "http"}],
        "resources": container_resources(model),
        "startupProbe": {
            **health,
            "periodSeconds": _PROBE_PERIOD_S,
            "failureThreshold": math.ceil(ready_timeout_s / _PROBE_PERIOD_S),
        },
        "readinessProbe": {**health, "periodSeconds": _PROBE_PERIOD_S, "failureThreshold": 2},
        # A busy event loop answers late; only a long silence is a dead server.
        "livenessProbe": {**health, "periodSeconds": _PROBE_PERIOD_S, "failureThreshold": 6},
        "lifecycle": {"preStop": {"sleep": {"seconds": _LEAVE_S}}},
        "securityContext": container_security(),
        "volumeMounts": writable + mounts + certificates,
    }
    return {
        **pod_base(model.worker.supplemental_groups, surroundings.pull_secrets),
        **placement(model),
        "terminationGracePeriodSeconds": _LEAVE_S + _DRAIN_S + 10,
        "containers": [container],
        "volumes": memory + volumes + ca_volumes,
    }


def _environment(model: ModelSpec, surroundings: Surroundings) -> dict[str, str]:
    way_out = surroundings.environment(leaves_cluster=model.source.leaves_cluster)
    # Torch asks for the user's name, which an image's /etc/passwd need not know.
    return {**way_out, **engine_environment(model), "HOME": _HOME, "USER": "vllm"}
