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
    weights_volumes,
)
from runtime.surroundings import Surroundings
from runtime.versions import VLLM_OF_RAY

SERVE_PORT = 8000
DASHBOARD_PORT = 8265
METRICS_PORT = 8080
APPLICATION = "llm"
BUILDER = "ray.serve.llm:build_openai_app"
WORKER_GROUP = "workers"
INGRESS_GROUP = "ingress"
# A resource of Ray's that only the pods of the ingress group have. On a GPU worker, an ingress would keep the
# worker from going when its last copy has gone.
INGRESS_RESOURCE = "spillway_ingress"
# KubeRay's hash of a RayService ignores minReplicas and maxReplicas and copies neither to the running
# RayCluster. Written into the worker pods, the bounds change the hash, so an edit rolls out.
BOUNDS_ANNOTATION = "spillway.dev/worker-bounds"
REVISION_VARIABLE = "SPILLWAY_CLUSTER_REVISION"

# libyaml writes the same text in a fraction of the time; some builds of PyYAML go without.
_Dumper: type[yaml.SafeDumper] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_HOME = "/home/ray"


@dataclass(frozen=True, kw_only=True)
class ExternalScaling:
    """How models are served whose copies the burst controller alone sets (docs/adr/0018).

    They begin with no copy, and only an ingress, on pods without accelerators, is there for good.

    Attributes:
        ingress_pods: Pods of the ingress, each with one replica of it.
        ingress_cpu: CPU request and limit of such a pod.
        ingress_memory: Memory request and limit of such a pod. The ingress imports vLLM, which takes 1 GiB.
        ingress_node_selector: Labels of the nodes for such pods.
        ingress_tolerations: Taints that such pods tolerate.
        drain_s: How long a copy that is taken away may go on with the requests that it has, in seconds.
        idle_s: How long a worker without copies stays, in seconds. Longer than a copy takes from one config
            to the next, because a changed config stops all copies before it starts new ones.
    """

    ingress_pods: int = 1
    ingress_cpu: str = "1"
    ingress_memory: str = "4Gi"
    ingress_node_selector: Mapping[str, str] = field(default_factory=dict[str, str])
    ingress_tolerations: tuple[NodeToleration, ...] = ()
    drain_s: int = 600
    idle_s: int = 180


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
        external: How models are served that the burst controller scales; None leaves it to Serve.
        worker_devices: What each worker pod takes beside its accelerators, by Kubernetes resource.
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
    external: ExternalScaling | None = None
    worker_devices: Mapping[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        if self.version not in VLLM_OF_RAY:
            raise ValueError(
                f"Ray {self.version} has no tested vLLM; allowed: {', '.join(VLLM_OF_RAY)} "
                "(Ray Serve LLM imports vLLM's internals, so the two are a pair)"
            )

    def image_of(self, model: ModelSpec) -> str:
        """The serving image of a model: its own, or the one that all share."""
        return model.image or self.image


def serve_config(
    model: ModelSpec, cluster_revision: str, external: ExternalScaling | None = None
) -> JsonObject:
    """The Serve config of one model, as Ray's REST API takes it.

    Args:
        model: What to serve.
        cluster_revision: Names the RayCluster spec that this config belongs to. During an upgrade it
            tells the new cluster's application from the old one's, which may be the same otherwise.
        external: How it is served where the burst controller scales it.
    """
    application: JsonObject = {
        "name": APPLICATION,
        "route_prefix": "/",
        "import_path": BUILDER,
        "args": _arguments(model, cluster_revision, external),
    }
    if external is not None:
        # Without it Ray refuses to be told a number of copies (HTTP 412).
        application["external_scaler_enabled"] = True
    return {
        # Workers answer KubeRay's readiness probe only where a proxy runs, so never HeadOnly.
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": SERVE_PORT},  # noqa: S104 - inside the pod
        "applications": [application],
    }


def deployment_name(model: ModelSpec) -> str:
    """What `ray.serve.llm` 2.60 calls the model's deployment (server/builder.py, _get_deployment_name)."""
    return "LLMServer:" + model.model_id.replace("/", "--").replace(".", "_")


def _arguments(model: ModelSpec, cluster_revision: str, external: ExternalScaling | None) -> JsonObject:
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
            **_copies(model, external),
            "max_ongoing_requests": model.max_sequences,
            # Ray takes no 0 (2.60, DeploymentConfig.validate_max_queued_requests).
            "max_queued_requests": max(1, model.queue_limit),
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
    return {"llm_configs": [llm], "ingress_deployment_config": _ingress(model, external)}


def _copies(model: ModelSpec, external: ExternalScaling | None) -> JsonObject:
    if external is None:
        # Ray's LLM builder defaults the target to 1e9, with which no copy is ever added.
        return {
            "autoscaling_config": {
                "min_replicas": model.replicas.min,
                "max_replicas": model.replicas.max,
                "target_ongoing_requests": model.ongoing_target,
            }
        }
    return {
        # Ray refuses the number 0 and reads the text "0" as what it says (2.60, docs/adr/0018). With 1, each
        # `pulumi up` and each restart of the head would start a GPU node that nobody decided on.
        "num_replicas": "0",
        # Ray's default of 20 s cuts off the longer answers of a copy that is taken away.
        "graceful_shutdown_timeout_s": external.drain_s,
    }


def _ingress(model: ModelSpec, external: ExternalScaling | None) -> JsonObject:
    if external is None:
        return {
            "autoscaling_config": {
                "min_replicas": 1,
                "max_replicas": max(1, model.replicas.max),
                "target_ongoing_requests": 4 * model.max_sequences,
            },
            "max_ongoing_requests": 8 * model.max_sequences,
            "ray_actor_options": {"num_cpus": 0.5},
        }
    # All copies at their most, and what may wait for them, over the ingress pods.
    most = (model.replicas.max * model.max_sequences + model.queue_limit) * 2
    return {
        "num_replicas": external.ingress_pods,
        "max_ongoing_requests": -(-most // external.ingress_pods),
        "ray_actor_options": {"num_cpus": 0.5, "resources": {INGRESS_RESOURCE: 1}},
    }


def ray_service_spec(model: ModelSpec, ray: RayRuntime) -> JsonObject:
    """The `spec` of the model's RayService (`ray.io/v1`)."""
    cluster = _cluster(model, ray)
    config = serve_config(model, _revision(model, cluster), ray.external)
    return {
        "serveConfigV2": yaml.dump(config, Dumper=_Dumper, sort_keys=False, width=110),
        "upgradeStrategy": {"type": model.upgrade},
        "rayClusterConfig": cluster,
    }


def serve_arguments(model: ModelSpec, ray: RayRuntime) -> JsonObject:
    """The application's arguments in the Serve config that `ray_service_spec` has as text."""
    return _arguments(model, _revision(model, _cluster(model, ray)), ray.external)


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
        "workerGroupSpecs": [
            _worker_group(model, ray),
            *([] if ray.external is None else [_ingress_group(model, ray, ray.external)]),
        ],
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
            **({} if ray.external is None else {"idleTimeoutSeconds": ray.external.idle_s}),
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
        "env": environment({**_ray_environment(), **_way_out(model, ray), **_engine_environment(model)}),
        "ports": [{"containerPort": METRICS_PORT, "name": "metrics"}],
        "resources": container_resources(model, ray.worker_devices),
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


def _ingress_group(model: ModelSpec, ray: RayRuntime, external: ExternalScaling) -> JsonObject:
    """Pods that hold the ingress alone: with no copy running they are what makes the RayService Ready."""
    mine: JsonObject = {"cpu": external.ingress_cpu, "memory": external.ingress_memory}
    container: JsonObject = {
        "name": "ray-worker",
        "image": ray.image_of(model),
        "imagePullPolicy": "IfNotPresent",
        "env": environment({**_ray_environment(), **_way_out(model, ray), **_engine_environment(model)}),
        "ports": [{"containerPort": METRICS_PORT, "name": "metrics"}],
        "resources": {"limits": mine, "requests": mine},
        "securityContext": container_security(),
    }
    pod = pod_base(pull_secrets=ray.surroundings.pull_secrets)
    # The ingress reads the model's configuration too.
    weights, weights_sources = weights_volumes(model, _HOME)
    certificates, ca_volumes = certificate_volumes(model, ray.surroundings)
    if weights or certificates:
        container["volumeMounts"] = weights + certificates
        pod["volumes"] = weights_sources + ca_volumes
    return {
        "groupName": INGRESS_GROUP,
        "minReplicas": external.ingress_pods,
        "maxReplicas": external.ingress_pods,
        "numOfHosts": 1,
        "rayStartParams": {},
        # One CPU, so that no copy of a model fits beside the ingress.
        "resources": {"CPU": "1", INGRESS_RESOURCE: "1"},
        "template": {
            "metadata": {
                "labels": {MODEL_LABEL: model.name},
                "annotations": {
                    **pod_annotations(model),
                    BOUNDS_ANNOTATION: f"{external.ingress_pods}-{external.ingress_pods}",
                },
            },
            "spec": {
                **pod,
                **on_nodes(external.ingress_node_selector, external.ingress_tolerations),
                "containers": [container],
            },
        },
    }


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
