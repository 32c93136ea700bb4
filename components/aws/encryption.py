"""The KMS keys of the AWS side: one for the cluster, one for nodes, one for weights and images."""

from dataclasses import dataclass

import pulumi
from pulumi_aws import kms

from components.aws.account import CloudAccount
from components.aws.policies import Statement, key_policy, log_key_use, node_key_use
from components.base import Component


@dataclass(frozen=True, kw_only=True)
class EncryptionKeysArgs:
    """Arguments of EncryptionKeys.

    Attributes:
        cloud: Account, region and names.
    """

    cloud: CloudAccount


class EncryptionKeys(Component):
    """Three keys with yearly rotation, so that who may read one kind of data need not read another.

    A deleted key can be had back for 30 days.
    """

    cluster: kms.Key
    nodes: kms.Key
    storage: kms.Key

    def __init__(
        self, name: str, args: EncryptionKeysArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("aws:EncryptionKeys", name, {"region": args.cloud.region}, opts)
        cloud = args.cloud
        self.cluster = self._key(
            cloud, "cluster", "Kubernetes secrets and logs", log_key_use(cloud.account, cloud.region)
        )
        self.nodes = self._key(cloud, "nodes", "node volumes", *node_key_use(cloud.account))
        self.storage = self._key(cloud, "storage", "weights and images")
        self.finish(cluster=self.cluster.arn, nodes=self.nodes.arn, storage=self.storage.arn)

    def _key(self, cloud: CloudAccount, kind: str, purpose: str, *statements: Statement) -> kms.Key:
        key = kms.Key(
            f"{cloud.name}-{kind}",
            description=f"{cloud.name}: {purpose}",
            enable_key_rotation=True,
            deletion_window_in_days=30,
            policy=key_policy(cloud.account, *statements),
            opts=self.child(),
        )
        kms.Alias(
            f"{cloud.name}-{kind}-alias",
            name=f"alias/{cloud.name}-{kind}",
            target_key_id=key.key_id,
            opts=self.child(),
        )
        return key
