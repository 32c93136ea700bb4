"""Staged weights as a volume: a read-only folder of the S3 bucket, for the pods of one model."""

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from components.base import Component
from components.kubernetes.metadata import object_meta


@dataclass(frozen=True, kw_only=True)
class StagedWeightsArgs:
    """Arguments of StagedWeights.

    Attributes:
        platform: The platform's name.
        namespace: The platform's namespace.
        claim: Name of the claim.
        bucket: The bucket.
        prefix: Folder in it, with a slash at the end.
        region: The bucket's region.
    """

    platform: str
    namespace: str
    claim: str
    bucket: pulumi.Input[str]
    prefix: str
    region: str


class StagedWeights(Component):
    """A volume and its claim, mounted by the Mountpoint for S3 driver. What is in the bucket stays there.

    Source of the options: awslabs/mountpoint-s3-csi-driver, docs/CONFIGURATION.md (static provisioning).
    """

    def __init__(
        self, name: str, args: StagedWeightsArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("kubernetes:StagedWeights", name, {"claim": args.claim, "prefix": args.prefix}, opts)
        size = {"storage": "1Gi"}  # Kubernetes wants a number; a bucket has no size
        volume_name = f"{args.namespace}-{args.claim}"
        volume = kubernetes.core.v1.PersistentVolume(
            f"{name}-volume",
            metadata=object_meta(args.platform, "model", volume_name),
            spec={
                "capacity": size,
                "access_modes": ["ReadOnlyMany"],
                "persistent_volume_reclaim_policy": "Retain",
                "storage_class_name": "",
                "claim_ref": {"namespace": args.namespace, "name": args.claim},
                "mount_options": [
                    "allow-other",
                    "read-only",
                    f"region {args.region}",
                    f"prefix {args.prefix}",
                ],
                "csi": {
                    "driver": "s3.csi.aws.com",
                    "volume_handle": volume_name,
                    "volume_attributes": {"bucketName": args.bucket},
                },
            },
            opts=self.child(),
        )
        kubernetes.core.v1.PersistentVolumeClaim(
            f"{name}-claim",
            metadata=object_meta(args.platform, "model", args.claim, namespace=args.namespace),
            spec={
                "access_modes": ["ReadOnlyMany"],
                "storage_class_name": "",
                "volume_name": volume_name,
                "resources": {"requests": size},
            },
            opts=self.child(depends_on=[volume]),
        )
        self.finish(claim=args.claim)
