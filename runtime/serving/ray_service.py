"""Renders a RayService and its Serve config from a ModelSpec, for KubeRay 1.6 and Ray 2.60.

Pure functions: dictionaries in the shape of https://ray-project.github.io/kuberay/reference/api/ and of
`ray.serve.llm`'s LLMConfig. Every guard against a known trap stands where the trap would bite.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import yaml

from runtime.model import ModelSpec
from runtime.surroundings import CA_FILE, CA_FOLDER, CA_VOLUME, Surroundings

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = "dict[str, JsonValue]"
# A container's mount, and the volume of its pod that it is a mount of.
_Mounted: TypeAlias = "tuple[JsonObject, JsonObject]"

# ray[llm] pins vLLM exactly, because Ray Serve LLM imports vLLM's internals: another pair fails on import.
VLLM_OF_RAY: Mapping[str, str] = {"2.60.0": "0.29.0"}

SERVE_PORT = 8000
DASHBOARD_PORT = 8265
METRICS_PORT = 8080
APPLICATION = "llm"
WORKER_GROUP = "workers"
MODEL_LABEL = "spillway.dev/model"
# KubeRay's hash of a RayService ignores minReplicas and maxReplicas and copies neither to the running
# RayCluster. Written into the worker pods, the bounds change the hash, so an edit rolls out.
BOUNDS_ANNOTATION = "spillway.dev/worker-bounds"
REVISION_ANNOTATION = "spillway.dev/revision"
REVISION_VARIABLE = "SPILLWAY_CLUSTER_REVISION"

_MODEL_MOUNT = "/models/volume"
_HOME = "/home/ray"


@dataclass(frozen=True, kw_only=True)
class RayRuntime:
    """What all models of a platform share.

    Attributes:
        version: Ray version in the image; must be a key of `VLLM_OF_RAY`.
        image: Serving image with Ray and the matching vLLM.
        auth_secret: Secret with key `auth_token`; Ray's own token authentication is always on.
        head_cpu: CPU limit of the head pod.
        head_memory: Memory limit of the head pod. Ray's dashboard and GCS grow; it needs 2Gi at least.
        head_cpu_request: CPU that the scheduler sets aside for the head pod.
        head_memory_request: Memory that the scheduler sets aside for the head pod.
        surroundings: Pull secrets, proxy, private CA and whether there is an internet.
    """

    version: str
    image: str
    auth_secret: str
    head_cpu: str = "4"
    head_memory: str = "16Gi"
    head_cpu_request: str = "1"
    head_memory_request: str = "4Gi"
    surroundings: Surroundings = field(default_factory=Surroundings)

    def __post_init__(self) -> None:
        if self.version not in VLLM_OF_RAY:
            raise ValueError(
                f"Ray {self.version} has no tested vLLM; allowed: {', '.join(VLLM_OF_RAY)} "
                "(Ray Serve LLM imports vLLM's internals, so the two are a pair)"
            )


def serve_config(model: ModelSpec, cluster_revision: str) -> JsonObject:
    """The Serve config of one model, as Ray's REST API takes it.

    Args:
        model: What to serve.
        cluster_revision: Names the RayCluster spec that this config belongs to. During an upgrade it
            tells the new cluster's application from the old one's, which may be the same otherwise.
    """
    profile = model.profile
    engine: JsonObject = {
        **profile.engine_defaults,
        "max_model_len": model.context_length,
        "max_num_seqs": model.max_sequences,
        **model.engine_arguments,
    }
    llm: JsonObject = {
        "model_loading_config": {"model_id": model.model_id, "model_source": _model_source(model)},
        "engine_kwargs": engine,
        "deployment_config": {
            # Ray's LLM builder defaults the target to 1e9, with which no copy is ever added.
            "autoscaling_config": {
                "min_replicas": model.replicas.min,
                "max_replicas": model.replicas.max,
                "target_ongoing_requests": model.ongoing_target,
            },
            "max_ongoing_requests": model.max_sequences,
            "max_queued_requests": model.queue_limit,
        },
        "runtime_env": {"env_vars": {**_engine_environment(model), REVISION_VARIABLE: cluster_revision}},
    }
    if profile.is_cpu:
        llm["accelerator_config"] = {"kind": "cpu"}
        llm["placement_group_config"] = {"bundles": [{"CPU": 1}]}
    else:
        engine["tensor_parallel_size"] = model.tensor_parallel
        engine["pipeline_parallel_size"] = model.pipeline_parallel
        llm["accelerator_type"] = profile.ray_accelerator_type
        llm["placement_group_config"] = {"bundle_per_worker": {"CPU": 1, "GPU": 1}, "strategy": "PACK"}
    if model.source.revision is not None:
        engine["revision"] = model.source.revision
    return {
        # Workers answer KubeRay's readiness probe only where a proxy runs, so never HeadOnly.
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": SERVE_PORT},  # noqa: S104 - inside the pod
        "applications": [
            {
                "name": APPLICATION,
                "route_prefix": "/",
                "import_path": "ray.serve.llm:build_openai_app",
                "args": {
                    "llm_configs": [llm],
                    "ingress_deployment_config": {
                        "autoscaling_config": {
                            "min_replicas": 1,
                            "max_replicas": max(1, model.replicas.max),
                            "target_ongoing_requests": 4 * model.max_sequences,
                        },
                        "max_ongoing_requests": 8 * model.max_sequences,
                        "ray_actor_options": {"num_cpus": 0.5},
                    },
                },
            }
        ],
    }


def ray_service_spec(model: ModelSpec, ray: RayRuntime) -> JsonObject:
    """The `spec` of the model's RayService (`ray.io/v1`)."""
    scales = model.replicas.min < model.replicas.max
    cluster: JsonObject = {
        # Drives the operator's probes and its auth; unset it guesses from nothing.
        "rayVersion": ray.version,
        # Written out: a leftover ~/.ray/auth_token in an image would otherwise switch it on by itself.
        "authOptions": {"mode": "token", "secretName": ray.auth_secret},
        "enableInTreeAutoscaling": scales,
        "headGroupSpec": _head_group(model, ray, scales=scales),
        "workerGroupSpecs": [_worker_group(model, ray)],
    }
    if scales:
        # Ray runs v2 by itself, but KubeRay takes "unset" for v1 and would not set restartPolicy Never.
        cluster["autoscalerOptions"] = {
            "version": "v2",
            "securityContext": _container_security(),
            "resources": {
                "limits": {"cpu": "500m", "memory": "1Gi"},
                "requests": {"cpu": "100m", "memory": "512Mi"},
            },
        }
    # With upgrade None the cluster never changes, so its revision must not restart the replicas either.
    revision = "fixed" if model.upgrade == "None" else _digest(cluster)
    return {
        "serveConfigV2": yaml.safe_dump(serve_config(model, revision), sort_keys=False, width=110),
        "upgradeStrategy": {"type": model.upgrade},
        "rayClusterConfig": cluster,
    }


def head_service_name(model: ModelSpec) -> str:
    """Service of the Ray head's dashboard, which KubeRay makes."""
    return f"{model.name}-head-svc"


def serve_service_name(model: ModelSpec) -> str:
    """Service of the model's HTTP endpoint, which KubeRay makes and moves on an upgrade."""
    return f"{model.name}-serve-svc"


def _head_group(model: ModelSpec, ray: RayRuntime, *, scales: bool) -> JsonObject:
    container: JsonObject = {
        "name": "ray-head",
        "image": ray.image,
        "imagePullPolicy": "IfNotPresent",
        "env": _environment({**_ray_environment(), **_way_out(model, ray)}),
        "ports": [
            {"containerPort": 6379, "name": "gcs-server"},
            {"containerPort": DASHBOARD_PORT, "name": "dashboard"},
            {"containerPort": 10001, "name": "client"},
            {"containerPort": SERVE_PORT, "name": "serve"},
            {"containerPort": METRICS_PORT, "name": "metrics"},
        ],
        "resources": {
            "limits": {"cpu": ray.head_cpu, "memory": ray.head_memory},
            "requests": {"cpu": ray.head_cpu_request, "memory": ray.head_memory_request},
        },
        "securityContext": _container_security(),
    }
    pod = _pod_base(ray)
    # Building the application also reads the model's configuration from the hub, and may run on the head.
    _mount(container, pod, _certificates(model, ray))
    return {
        # No Serve replica on the head: when it runs out of memory, the whole cluster goes with it.
        "rayStartParams": {"dashboard-host": "0.0.0.0", "num-cpus": "0"},  # noqa: S104 - inside the pod
        "template": {
            "metadata": {
                "labels": {MODEL_LABEL: model.name},
                "annotations": {
                    **_pod_annotations(model),
                    # Evicting a head to save a node takes the service down.
                    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
                    "karpenter.sh/do-not-disrupt": "true",
                },
            },
            "spec": {
                **pod,
                # The autoscaler beside the head patches the RayCluster; nothing else needs the API.
                "automountServiceAccountToken": scales,
                "containers": [container],
            },
        },
    }


def _worker_group(model: ModelSpec, ray: RayRuntime) -> JsonObject:
    profile = model.profile
    minimum, maximum = model.replicas.min, model.replicas.max
    limits: JsonObject = {"cpu": model.worker.cpu, "memory": model.worker.memory}
    requests: JsonObject = {
        "cpu": model.worker.cpu_request or model.worker.cpu,
        "memory": model.worker.memory_request or model.worker.memory,
    }
    if profile.kubernetes_resource is not None:
        limits[profile.kubernetes_resource] = str(model.tensor_parallel)
        requests[profile.kubernetes_resource] = str(model.tensor_parallel)
    container: JsonObject = {
        "name": "ray-worker",
        "image": ray.image,
        "imagePullPolicy": "IfNotPresent",
        "env": _environment({**_ray_environment(), **_way_out(model, ray), **_engine_environment(model)})
        + _secret_environment(model),
        "ports": [{"containerPort": METRICS_PORT, "name": "metrics"}],
        "resources": {"limits": limits, "requests": requests},
        "securityContext": _container_security(),
    }
    pod = _pod_base(ray)
    _mount(container, pod, _weights(model) + _certificates(model, ray))
    if profile.node_labels:
        pod["nodeSelector"] = dict(profile.node_labels)
    if profile.tolerations:
        pod["tolerations"] = [
            {"key": taint.key, "operator": taint.operator, "effect": taint.effect}
            for taint in profile.tolerations
        ]
    group: JsonObject = {
        "groupName": WORKER_GROUP,
        "minReplicas": minimum,
        "maxReplicas": maximum,
        "numOfHosts": model.pipeline_parallel,
        "rayStartParams": {},
        "template": {
            "metadata": {
                "labels": {MODEL_LABEL: model.name},
                "annotations": {**_pod_annotations(model), BOUNDS_ANNOTATION: f"{minimum}-{maximum}"},
            },
            "spec": {**pod, "containers": [container]},
        },
    }
    resources: dict[str, JsonValue] = {"CPU": str(_logical_cpus(model))}
    if profile.ray_accelerator_type is not None:
        # From zero pods the Ray autoscaler knows a group only by what is written here; without the
        # accelerator_type it never adds the first pod (kuberay#863).
        resources["GPU"] = str(model.tensor_parallel)
        resources[f"accelerator_type:{profile.ray_accelerator_type}"] = "1"
    group["resources"] = resources
    return group


def _model_source(model: ModelSpec) -> str:
    source = model.source
    if source.hugging_face is not None:
        return source.hugging_face
    if source.mounts_volume:
        return _MODEL_MOUNT + (source.path or "")
    if source.path is None:
        raise AssertionError("ModelSource lets no other case through")
    return source.path


def _weights(model: ModelSpec) -> list[_Mounted]:
    source = model.source
    if source.mounts_volume:
        claim = source.volume_claim or host_folder_claim(model)
        return [
            (
                {"name": "model", "mountPath": _MODEL_MOUNT, "readOnly": True},
                {"name": "model", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}},
            )
        ]
    if source.hugging_face is not None:
        return [
            (
                {"name": "hub-cache", "mountPath": f"{_HOME}/.cache/huggingface"},
                {"name": "hub-cache", "emptyDir": {}},
            )
        ]
    return []


def _certificates(model: ModelSpec, ray: RayRuntime) -> list[_Mounted]:
    bundle = ray.surroundings.ca_bundle
    if bundle is None or not model.source.leaves_cluster:
        return []
    files: list[JsonValue] = [{"key": bundle.key, "path": CA_FILE.removeprefix(f"{CA_FOLDER}/")}]
    return [
        (
            {"name": CA_VOLUME, "mountPath": CA_FOLDER, "readOnly": True},
            {"name": CA_VOLUME, "configMap": {"name": bundle.config_map, "items": files}},
        )
    ]


def _mount(container: JsonObject, pod: JsonObject, mounted: list[_Mounted]) -> None:
    if mounted:
        container["volumeMounts"] = [mount for mount, _ in mounted]
        pod["volumes"] = [volume for _, volume in mounted]


def host_folder_claim(model: ModelSpec) -> str:
    """Name of the claim that Spillway declares for `source.hostFolder`."""
    return f"{model.name}-weights"


def _engine_environment(model: ModelSpec) -> dict[str, str]:
    environment = {**model.profile.environment, "VLLM_NO_USAGE_STATS": "1"}
    if model.profile.is_cpu:
        # Ray would set it to the CPUs that it booked for the actor, which is one.
        environment["OMP_NUM_THREADS"] = str(max(1, _cpus_of_the_pod(model)))
    if model.source.hugging_face is None:
        # A missing file must fail at once, not after minutes of retries against an unreachable hub.
        environment["HF_HUB_OFFLINE"] = "1"
    return environment


def _way_out(model: ModelSpec, ray: RayRuntime) -> dict[str, str]:
    return ray.surroundings.environment(leaves_cluster=model.source.leaves_cluster)


def _ray_environment() -> dict[str, str]:
    return {
        "HOME": _HOME,
        "RAY_USAGE_STATS_ENABLED": "0",
        # The default of 30 s is too short where the first start reads gigabytes of Python from a cold disk.
        "RAY_raylet_start_wait_time_s": "150",
    }


def _secret_environment(model: ModelSpec) -> list[JsonValue]:
    if model.hugging_face_token_secret is None:
        return []
    reference: JsonObject = {"name": model.hugging_face_token_secret, "key": "token"}
    return [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": reference}}]


def _environment(values: Mapping[str, str]) -> list[JsonValue]:
    return [{"name": name, "value": values[name]} for name in sorted(values)]


def _pod_annotations(model: ModelSpec) -> dict[str, JsonValue]:
    return {} if model.revision is None else {REVISION_ANNOTATION: model.revision}


def _pod_base(ray: RayRuntime) -> JsonObject:
    secrets: list[JsonValue] = [{"name": name} for name in ray.surroundings.pull_secrets]
    return {
        **({"imagePullSecrets": secrets} if secrets else {}),
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "fsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def _container_security() -> JsonObject:
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def _digest(value: JsonObject) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:10]


def _logical_cpus(model: ModelSpec) -> int:
    """CPUs that Ray books on a worker: those of the pod, but never fewer than its actors ask for.

    Ray books CPUs, it does not limit them. The server, each of its devices' workers and the ingress ask
    for one; a pod with fewer would leave one of them waiting for ever.
    """
    return max(_cpus_of_the_pod(model), model.tensor_parallel + 2)


def _cpus_of_the_pod(model: ModelSpec) -> int:
    quantity = model.worker.cpu
    return int(quantity[:-1]) // 1000 if quantity.endswith("m") else int(float(quantity))
