"""Ends `pulumi up` only when a model serves what was declared: a Job that asks its server and the gateway."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from components.base import Component
from components.kubernetes.metadata import object_meta
from components.kubernetes.namespace import SERVING_CHECK
from components.kubernetes.pods import restricted_container, restricted_pod
from components.kubernetes.ray_token import TOKEN_KEY
from runtime.model import ModelSpec
from runtime.serving import serving_check
from runtime.serving.endpoint import endpoint_of
from runtime.serving.plain_vllm import deployment_spec
from runtime.serving.pods import USER
from runtime.serving.ray_service import (
    APPLICATION,
    DASHBOARD_PORT,
    RayRuntime,
    head_service_name,
    serve_arguments,
)

_SCRIPT = "serving_check.py"


@dataclass(frozen=True, kw_only=True)
class ServingCheckArgs:
    """Arguments of ServingCheck.

    Attributes:
        platform: The platform's name.
        namespace: The platform's namespace.
        model: The model to wait for.
        ray: What all models share.
        image: Image with `python3` for the check itself; None takes the model's.
        gateway_url: The gateway's URL inside the cluster.
        gateway_secret: Secret with the clients' API keys.
        gateway_revision: What the gateway is configured with; another one is checked anew.
        client: The client whose key is used.
        timeout_s: How long to wait, in seconds.
    """

    platform: str
    namespace: str
    model: ModelSpec
    ray: RayRuntime
    image: str | None
    gateway_url: str
    gateway_secret: str
    gateway_revision: str
    client: str
    timeout_s: int


class ServingCheck(Component):
    """A Job named after what it checks, so that every change of the model runs a new one.

    Pass the model's component and the gateway in `depends_on`.
    """

    job: kubernetes.batch.v1.Job

    def __init__(self, name: str, args: ServingCheckArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kubernetes:ServingCheck", name, {"model": args.model.model_id}, opts)
        script = inspect.getsource(serving_check)
        # A Job's template cannot be changed in place, so both images are in its name.
        images = [args.ray.image_of(args.model), *([args.image] if args.image else [])]
        values = {
            **(_vllm_to_ask(args) if args.model.is_plain else _ray_to_ask(args)),
            "GATEWAY_URL": args.gateway_url,
            "GATEWAY_REVISION": args.gateway_revision,
            "MODEL": args.model.model_id,
            "TIMEOUT_SECONDS": str(args.timeout_s),
        }
        object_name = f"{args.model.name}-check-{serving_check.digest([script, values, *images])[:8]}"
        files_name = f"{args.model.name}-check"
        files = kubernetes.core.v1.ConfigMap(
            f"{name}-files",
            metadata=object_meta(args.platform, SERVING_CHECK, files_name, namespace=args.namespace),
            data={_SCRIPT: script},
            opts=self.child(),
        )
        timeout = f"{args.timeout_s + 60}s"
        self.job = kubernetes.batch.v1.Job(
            name,
            metadata=object_meta(args.platform, SERVING_CHECK, object_name, namespace=args.namespace),
            spec={
                "backoff_limit": 3,
                "active_deadline_seconds": args.timeout_s + 30,
                "template": {
                    "metadata": object_meta(args.platform, SERVING_CHECK, object_name),
                    "spec": self._pod(args, files_name, values),
                },
            },
            opts=self.child(
                depends_on=[files], custom_timeouts=pulumi.CustomTimeouts(create=timeout, update=timeout)
            ),
        )
        self.finish(job=object_name)

    def _pod(
        self, args: ServingCheckArgs, files_name: str, values: Mapping[str, str]
    ) -> kubernetes.core.v1.PodSpecArgsDict:
        environment: list[kubernetes.core.v1.EnvVarArgsDict] = [
            {"name": key, "value": value} for key, value in values.items()
        ]
        secrets = {"API_KEY": (args.gateway_secret, args.client)}
        if not args.model.is_plain:
            secrets["RAY_AUTH_TOKEN"] = (args.ray.auth_secret, TOKEN_KEY)
        for variable, (_, key) in secrets.items():
            environment.append({"name": f"{variable}_FILE", "value": f"{_folder(variable)}/{key}"})
        container: kubernetes.core.v1.ContainerArgsDict = {
            "name": "check",
            "image": args.image or args.ray.image_of(args.model),
            "image_pull_policy": "IfNotPresent",
            "command": ["python3", "-u", f"/check/{_SCRIPT}"],
            "env": environment,
            "resources": {
                "limits": {"cpu": "500m", "memory": "256Mi"},
                "requests": {"cpu": "20m", "memory": "64Mi"},
            },
            "security_context": restricted_container(),
            "volume_mounts": [
                {"name": "check", "mount_path": "/check", "read_only": True},
                *(
                    {"name": _volume(variable), "mount_path": _folder(variable), "read_only": True}
                    for variable in secrets
                ),
            ],
        }
        volumes: list[kubernetes.core.v1.VolumeArgsDict] = [
            {"name": "check", "config_map": {"name": files_name}},
            *(
                # Only the one key, not those of all other clients.
                _secret_volume(variable, name, key)
                for variable, (name, key) in secrets.items()
            ),
        ]
        pod = restricted_pod(USER, container, volumes, args.ray.surroundings.pull_secrets)
        pod["restart_policy"] = "Never"
        return pod


def _ray_to_ask(args: ServingCheckArgs) -> dict[str, str]:
    # Only a digest goes into the Job, so that a preview does not show the whole config twice.
    return {
        "DASHBOARD_URL": f"http://{head_service_name(args.model)}.{args.namespace}.svc:{DASHBOARD_PORT}",
        "APPLICATION": APPLICATION,
        "ARGUMENTS_SHA256": serving_check.digest(serve_arguments(args.model, args.ray)),
    }


def _vllm_to_ask(args: ServingCheckArgs) -> dict[str, str]:
    endpoint = endpoint_of(args.model)
    return {
        "MODEL_URL": f"http://{endpoint.service}.{args.namespace}.svc:{endpoint.port}",
        "CONTEXT_LENGTH": str(args.model.context_length),
        # The provider has waited for the rollout; this makes a changed Deployment a new check.
        "DEPLOYMENT_SHA256": serving_check.digest(
            deployment_spec(args.model, args.ray.image_of(args.model), args.timeout_s, args.ray.surroundings)
        ),
    }


def _volume(variable: str) -> str:
    return variable.lower().replace("_", "-")


def _folder(variable: str) -> str:
    return f"/run/spillway/{_volume(variable)}"


def _secret_volume(variable: str, secret: str, key: str) -> kubernetes.core.v1.VolumeArgsDict:
    return {
        "name": _volume(variable),
        "secret": {"secret_name": secret, "items": [{"key": key, "path": key}]},
    }
