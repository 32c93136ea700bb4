"""One served model: its RayService, and where its weights are mounted from."""

import json
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from components.base import Component
from components.kubernetes.metadata import object_meta
from runtime.model import ModelSpec
from runtime.serving.ray_service import RayRuntime, host_folder_claim, ray_service_spec


@dataclass(frozen=True, kw_only=True)
class ModelServiceArgs:
    """Arguments of ModelService.

    Attributes:
        platform: The platform's name.
        namespace: The platform's namespace.
        model: What to serve.
        ray: What all models share.
        ready_timeout_s: How long to wait for the RayService, in seconds.
    """

    platform: str
    namespace: str
    model: ModelSpec
    ray: RayRuntime
    ready_timeout_s: int


class ModelService(Component):
    """A RayService that is waited for, and deleted in the background while its operator lives.

    Pass the operator in `depends_on`, so that a destroy keeps it alive until the RayService's finalizer
    is done.
    """

    ray_service: kubernetes.apiextensions.CustomResource

    def __init__(self, name: str, args: ModelServiceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        model = args.model
        super().__init__(
            "kubernetes:ModelService",
            name,
            {
                "model": model.model_id,
                "accelerator": model.accelerator,
                "acceleratorsPerCopy": model.accelerators_per_copy,
                "minReplicas": model.replicas.min,
                "maxReplicas": model.replicas.max,
                "maxAccelerators": model.max_accelerators,
            },
            opts,
        )
        needs: list[pulumi.Resource] = []
        if model.source.host_folder is not None:
            needs.append(self._host_folder(args, model.source.host_folder))
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
                depends_on=needs,
                custom_timeouts=pulumi.CustomTimeouts(create=timeout, update=timeout, delete="15m"),
            ),
        )
        self.finish(name=model.name)

    def _host_folder(self, args: ModelServiceArgs, folder: str) -> pulumi.Resource:
        name = host_folder_claim(args.model)
        size = {"storage": "1Gi"}  # Kubernetes wants a number; a hostPath volume has no size
        volume = kubernetes.core.v1.PersistentVolume(
            f"{name}-volume",
            metadata=object_meta(args.platform, "model", f"{args.namespace}-{name}"),
            spec={
                "capacity": size,
                "access_modes": ["ReadOnlyMany"],
                "persistent_volume_reclaim_policy": "Retain",
                "storage_class_name": "",
                "host_path": {"path": folder, "type": "Directory"},
                "claim_ref": {"namespace": args.namespace, "name": name},
            },
            opts=self.child(),
        )
        return kubernetes.core.v1.PersistentVolumeClaim(
            f"{name}-claim",
            metadata=object_meta(args.platform, "model", name, namespace=args.namespace),
            spec={
                "access_modes": ["ReadOnlyMany"],
                "storage_class_name": "",
                "volume_name": f"{args.namespace}-{name}",
                "resources": {"requests": size},
            },
            opts=self.child(depends_on=[volume]),
        )
