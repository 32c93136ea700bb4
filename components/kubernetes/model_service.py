"""One model served by Ray Serve LLM: its RayService."""

import json
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from components.kubernetes.metadata import object_meta
from components.kubernetes.served_model import ServedModel
from runtime.model import ModelSpec
from runtime.serving.ray_service import RayRuntime, ray_service_spec


@dataclass(frozen=True, kw_only=True)
class ModelServiceArgs:
    """Arguments of ModelService.

    Attributes:
        platform: The platform's name.
        namespace: The platform's namespace.
        model: What to serve.
        ray: What all models share.
        ready_timeout_s: How long to wait for the RayService, in seconds.
        usd_per_gpu_hour: What one of its devices costs per hour on-prem, for estimates and policies; None
            where its nodes are billed, or there is no rate.
    """

    platform: str
    namespace: str
    model: ModelSpec
    ray: RayRuntime
    ready_timeout_s: int
    usd_per_gpu_hour: str | None = None


class ModelService(ServedModel):
    """A RayService that is waited for, and deleted in the background while its operator lives.

    Pass the operator in `depends_on`, so that a destroy keeps it alive until the RayService's finalizer
    is done.
    """

    ray_service: kubernetes.apiextensions.CustomResource

    def __init__(self, name: str, args: ModelServiceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        model = args.model
        super().__init__("ModelService", name, model, opts, args.usd_per_gpu_hour)
        timeout = f"{args.ready_timeout_s}s"
        self.ray_service = kubernetes.apiextensions.CustomResource(
            name,
            api_version="ray.io/v1",
            kind="RayService",
            metadata=object_meta(
                args.platform,
                "model",
                model.name,
                namespace=args.namespace,
                annotations={
                    # Custom resources are not awaited by themselves.
                    "pulumi.com/waitFor": json.dumps(
                        ["condition=Ready", "jsonpath={.status.numServeEndpoints}"]
                    ),
                    "pulumi.com/timeoutSeconds": str(args.ready_timeout_s),
                    # Pulumi's default is foreground, under which the garbage collector also deletes the
                    # clean-up Job that KubeRay's finalizer waits for.
                    "pulumi.com/deletionPropagationPolicy": "background",
                },
            ),
            spec=ray_service_spec(model, args.ray),
            opts=self.child(
                depends_on=self.weights(args.platform, args.namespace, model),
                custom_timeouts=pulumi.CustomTimeouts(create=timeout, update=timeout, delete="15m"),
            ),
        )
        self.finish(name=model.name)
