"""Renders a RayService and its Serve config from a ModelSpec, for KubeRay 1.6 and Ray 2.60.

Pure functions: dictionaries in the shape of https://ray-project.github.io/kuberay/reference/api/ and of
`ray.serve.llm`'s LLMConfig. Every guard against a known trap stands where the trap would bite.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml

from runtime.digest import short_digest
from runtime.labels import MODEL_LABEL
from runtime.model import ModelSpec, NodeToleration
from runtime.quantities import cpus
from runtime.serving.pods import (
    JsonObject,
    JsonValue,
    certificate_volumes,
    container_resources,
    container_security,
    engine_environment,
    environment,
    model_location,
    on_nodes,
    placement,
    pod_annotations,
    pod_base,
    secret_environment,
    weights_volumes,
)
from runtime.surroundings import Surroundings
from runtime.versions import VLLM_OF_RAY

SERVE_PORT = 8000
DASHBOARD_PORT = 8265
METRICS_PORT = 8080
APPLICATION = "llm"
WORKER_GROUP = "workers"
# KubeRay's hash of a RayService ignores minReplicas and maxReplicas and copies neither to the running
# RayCluster. Written into the worker pods, the bounds change the hash, so an edit rolls out.
BOUNDS_ANNOTATION = "spillway.dev/worker-bounds"
REVISION_VARIABLE = "SPILLWAY_CLUSTER_REVISION"

# libyaml writes the same text in a fraction of the time; some builds of PyYAML go without.
_Dumper: type[yaml.SafeDumper] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
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
        head_node_selector: Labels of the nodes for heads.
        head_tolerations: Taints that heads tolerate.
        surroundings: Pull secrets, proxy, private CA and whether there is an internet.
    """

    version: str
    image: str
    auth_secret: str
    head_cpu: str = "4"
    head_memory: str = "16Gi"
    head_cpu_request: str = "1"
    head_memory_request: str = "4Gi"
    head_node_selector: Mapping[str, str] = field(default_factory=dict[str, str])
    head_tolerations: tuple[NodeToleration, ...] = ()
    surroundings: Surroundings = field(default_factory=Surroundings)

    def __post_init__(self) -> None:
        if self.version not in VLLM_OF_RAY:
            raise ValueError(
                f"Ray {self.version} has no tested vLLM; allowed: {', '.join(VLLM_OF_RAY)} "
                "(Ray Serve LLM imports vLLM's internals, so the two are a pair)"
            )

    def image_of(self, model: ModelSpec) -> str:
        """The serving image of a model: its own, or the one that all share."""
        return model.image or self.image


def serve_config(model: ModelSpec, cluster_revision: str) -> JsonObject:
    """The Serve config of one model, as Ray's REST API takes it.

    Args:
        model: What to serve.
        cluster_revision: Names the RayCluster spec that this config belongs to. During an upgrade it
            tells the new cluster's application from the old one's, which may be the same otherwise.
    """
    return {
        # Workers answer KubeRay's readiness probe only where a proxy runs, so never HeadOnly.
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": SERVE_PORT},  # noqa: S104 - inside the pod
        "applications": [
            {
                "name": APPLICATION,
                "route_prefix": "/",
                "import_path": "ray.serve.llm:build_openai_app",
                "args": _arguments(model, cluster_revision),
            }
        ],
    }


def _arguments(model: ModelSpec, cluster_revision: str) -> JsonObject:
    profile = model.profile
    engine: JsonObject = {
        **profile.engine_defaults,
        "max_model_len": model.context_length,
        "max_num_seqs": model.max_sequences,
        **model.engine_arguments,
    }
    llm: JsonObject = {
        "model_loading_config": {"model_id": model.model_id, "model_source": model_location(model)},
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
    }


def ray_service_spec(model: ModelSpec, ray: RayRuntime) -> JsonObject:
    """The `spec` of the model's RayService (`ray.io/v1`)."""
    cluster = _cluster(model, ray)
    config = serve_config(model, _revision(model, cluster))
    return {
        "serveConfigV2": yaml.dump(config, Dumper=_Dumper, sort_keys=False, width=110),
        "upgradeStrategy": {"type": model.upgrade},
        "rayClusterConfig": cluster,
    }


def serve_arguments(model: ModelSpec, ray: RayRuntime) -> JsonObject:
    """The application's arguments in the Serve config that `ray_service_spec` has as text."""
    return _arguments(model, _revision(model, _cluster(model, ray)))


def _revision(model: ModelSpec, cluster: JsonObject) -> str:
    # With upgrade None the cluster never changes, so its revision must not restart the replicas either.
    return "fixed" if model.upgrade == "None" else short_digest(cluster)


def _cluster(model: ModelSpec, ray: RayRuntime) -> JsonObject:
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
            "securityContext": container_security(),
            "resources": {
                "limits": {"cpu": "500m", "memory": "1Gi"},
                "requests": {"cpu": "100m", "memory": "512Mi"},
            },
        }
    return cluster


def head_service_name(model: ModelSpec) -> str:
    """Service of the Ray head's dashboard, which KubeRay makes."""
    return f"{model.name}-head-svc"


def serve_service_name(model: ModelSpec) -> str:
    """Service of the model's HTTP endpoint, which KubeRay makes and moves on an upgrade."""
    return f"{model.name}-serve-svc"


def _head_group(model: ModelSpec, ray: RayRuntime, *, scales: bool) -> JsonObject:
    container: JsonObject = {
        "name": "ray-head",
        # Ray and Python must be the same on the head and the workers, so it takes the model's image too.
        "image": ray.image_of(model),
        "imagePullPolicy": "IfNotPresent",
        "env": environment({**_ray_environment(), **_way_out(model, ray)}),
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
        "securityContext": container_security(),
    }
    pod = pod_base(pull_secrets=ray.surroundings.pull_secrets)
    # Building the application also reads the model's configuration from the hub, and may run on the head.
    mounts, volumes = certificate_volumes(model, ray.surroundings)
    if volumes:
        container["volumeMounts"] = mounts
        pod["volumes"] = volumes
    return {
        # No Serve replica on the head: when it runs out of memory, the whole cluster goes with it.
        "rayStartParams": {"dashboard-host": "0.0.0.0", "num-cpus": "0"},  # noqa: S104 - inside the pod
        "template": {
            "metadata": {
                "labels": {MODEL_LABEL: model.name},
                "annotations": {
                    **pod_annotations(model),
                    # Evicting a head to save a node takes the service down.
                    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
                    "karpenter.sh/do-not-disrupt": "true",
                },
            },
            "spec": {
                **pod,
                **on_nodes(ray.head_node_selector, ray.head_tolerations),
                # The autoscaler beside the head patches the RayCluster; nothing else needs the API.
                "automountServiceAccountToken": scales,
                "containers": [container],
            },
        },
    }


def _worker_group(model: ModelSpec, ray: RayRuntime) -> JsonObject:
    minimum, maximum = model.replicas.min, model.replicas.max
    mounts, volumes = weights_volumes(model, _HOME)
    container: JsonObject = {
        "name": "ray-worker",
        "image": ray.image_of(model),
        "imagePullPolicy": "IfNotPresent",
        "env": environment({**_ray_environment(), **_way_out(model, ray), **_engine_environment(model)})
        + secret_environment(model),
        "ports": [{"containerPort": METRICS_PORT, "name": "metrics"}],
        "resources": container_resources(model),
        "securityContext": container_security(),
    }
    certificates, ca_volumes = certificate_volumes(model, ray.surroundings)
    mounts, volumes = mounts + certificates, volumes + ca_volumes
    pod: JsonObject = {
        **pod_base(model.worker.supplemental_groups, ray.surroundings.pull_secrets),
        **placement(model),
    }
    if volumes:
        container["volumeMounts"] = mounts
        pod["volumes"] = volumes
    group: JsonObject = {
        "groupName": WORKER_GROUP,
        "minReplicas": minimum,
        "maxReplicas": maximum,
        "numOfHosts": model.pipeline_parallel,
        "rayStartParams": {},
        "template": {
            "metadata": {
                "labels": {MODEL_LABEL: model.name},
                "annotations": {**pod_annotations(model), BOUNDS_ANNOTATION: f"{minimum}-{maximum}"},
            },
            "spec": {**pod, "containers": [container]},
        },
    }
    resources: dict[str, JsonValue] = {"CPU": str(_logical_cpus(model))}
    if model.profile.ray_accelerator_type is not None:
        # From zero pods the Ray autoscaler knows a group only by what is written here; without the
        # accelerator_type it never adds the first pod (kuberay#863). KubeRay counts only resources whose
        # names end in `gpu`, and MIG slices (v1.6.2, IsGPUResourceKey): of others, such as
        # gpu.intel.com/i915, Ray would not know on running pods either.
        resources["GPU"] = str(model.tensor_parallel)
        resources[f"accelerator_type:{model.profile.ray_accelerator_type}"] = "1"
    group["resources"] = resources
    return group


def _engine_environment(model: ModelSpec) -> dict[str, str]:
    values = engine_environment(model)
    if model.profile.is_cpu:
        # Ray would set it to the CPUs that it booked for the actor, which is one.
        values["OMP_NUM_THREADS"] = str(max(1, int(cpus(model.worker.cpu))))
    return values


def _way_out(model: ModelSpec, ray: RayRuntime) -> dict[str, str]:
    return ray.surroundings.environment(leaves_cluster=model.source.leaves_cluster)


def _ray_environment() -> dict[str, str]:
    return {
        "HOME": _HOME,
        "RAY_USAGE_STATS_ENABLED": "0",
        # The default of 30 s is too short where the first start reads gigabytes of Python from a cold disk.
        "RAY_raylet_start_wait_time_s": "150",
    }


def _logical_cpus(model: ModelSpec) -> int:
    """CPUs that Ray books on a worker: those of the pod, but never fewer than its actors ask for.

    Ray books CPUs, it does not limit them. The server, each of its devices' workers and the ingress ask
    for one; a pod with fewer would leave one of them waiting for ever.
    """
    return max(int(cpus(model.worker.cpu)), model.tensor_parallel + 2)
