"""What the components of all serving kinds share: the declared intent, and weights in a host folder."""

import pulumi
import pulumi_kubernetes as kubernetes

from components.base import Component
from components.kubernetes.metadata import object_meta
from runtime.model import ModelSpec
from runtime.serving.pods import host_folder_claim


class ServedModel(Component):
    """A component that serves one model; policies judge what it declares before its objects exist."""

    def __init__(
        self,
        kind: str,
        name: str,
        model: ModelSpec,
        opts: pulumi.ResourceOptions | None,
        usd_per_gpu_hour: str | None,
    ) -> None:
        rate = {} if usd_per_gpu_hour is None else {"usdPerGpuHour": usd_per_gpu_hour}
        super().__init__(
            f"kubernetes:{kind}",
            name,
            {
                "model": model.model_id,
                "accelerator": model.accelerator,
                "acceleratorsPerCopy": model.accelerators_per_copy,
                "minReplicas": model.replicas.min,
                "maxReplicas": model.replicas.max,
                "maxAccelerators": model.max_accelerators,
                **rate,
            },
            opts,
        )

    def weights(self, platform: str, namespace: str, model: ModelSpec) -> list[pulumi.Resource]:
        """Declares the volume of `source.hostFolder`; returns what the pods wait for."""
        folder = model.source.host_folder
        if folder is None:
            return []
        name = host_folder_claim(model)
        size = {"storage": "1Gi"}  # Kubernetes wants a number; a hostPath volume has no size
        volume = kubernetes.core.v1.PersistentVolume(
            f"{name}-volume",
            metadata=object_meta(platform, "model", f"{namespace}-{name}"),
            spec={
                "capacity": size,
                "access_modes": ["ReadOnlyMany"],
                "persistent_volume_reclaim_policy": "Retain",
                "storage_class_name": "",
                "host_path": {"path": folder, "type": "Directory"},
                "claim_ref": {"namespace": namespace, "name": name},
            },
            opts=self.child(),
        )
        claim = kubernetes.core.v1.PersistentVolumeClaim(
            f"{name}-claim",
            metadata=object_meta(platform, "model", name, namespace=namespace),
            spec={
                "access_modes": ["ReadOnlyMany"],
                "storage_class_name": "",
                "volume_name": f"{namespace}-{name}",
                "resources": {"requests": size},
            },
            opts=self.child(depends_on=[volume]),
        )
        return [claim]
