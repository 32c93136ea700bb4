"""The KMS keys of the AWS side, one for each class of data."""

from dataclasses import dataclass

import pulumi
from pulumi_aws import kms

from components.aws.account import CloudAccount
from components.aws.policies import Statement, alarm_key_use, key_policy, log_key_use, node_key_use
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
        self.cluster = _key(
            self, cloud, "cluster", "Kubernetes secrets and logs", log_key_use(cloud.account, cloud.region)
        )
        self.nodes = _key(self, cloud, "nodes", "node volumes", *node_key_use(cloud.account))
        self.storage = _key(self, cloud, "storage", "weights and images")
        self.finish(cluster=self.cluster.arn, nodes=self.nodes.arn, storage=self.storage.arn)


@dataclass(frozen=True, kw_only=True)
class HostingKeysArgs:
    """Arguments of HostingKeys.

    Attributes:
        cloud: Account, region and names.
        prompts: Whether prompts and answers are kept.
        volumes: Whether a type of machine takes a key for its volumes; local disks have their own.
        clients: Whether there are clients with API keys.
    """

    cloud: CloudAccount
    prompts: bool
    volumes: bool
    clients: bool


class HostingKeys(Component):
    """The keys of a stack with SageMaker endpoints, one for each class of data that there is.

    Whoever may load weights need not read prompts, nor the operators of both.
    """

    logs: kms.Key
    storage: kms.Key
    prompts: kms.Key | None
    volumes: kms.Key | None
    clients: kms.Key | None

    def __init__(self, name: str, args: HostingKeysArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        declared = {
            "region": args.cloud.region,
            "prompts": args.prompts,
            "volumes": args.volumes,
            "clients": args.clients,
        }
        super().__init__("aws:HostingKeys", name, declared, opts)
        cloud = args.cloud
        writers = log_key_use(cloud.account, cloud.region), alarm_key_use(cloud.account)
        self.logs = _key(self, cloud, "logs", "logs and alerts", *writers)
        self.storage = _key(self, cloud, "storage", "weights and images")
        self.prompts = _key(self, cloud, "prompts", "prompts and answers") if args.prompts else None
        self.volumes = _key(self, cloud, "volumes", "volumes of endpoints") if args.volumes else None
        self.clients = _key(self, cloud, "clients", "API keys of clients") if args.clients else None
        self.finish(logs=self.logs.arn, storage=self.storage.arn)


def _key(
    component: Component, cloud: CloudAccount, kind: str, purpose: str, *statements: Statement
) -> kms.Key:
    key = kms.Key(
        f"{cloud.name}-{kind}",
        description=f"{cloud.name}: {purpose}",
        enable_key_rotation=True,
        deletion_window_in_days=30,
        policy=key_policy(cloud.account, *statements),
        opts=component.child(),
    )
    kms.Alias(
        f"{cloud.name}-{kind}-alias",
        name=f"alias/{cloud.name}-{kind}",
        target_key_id=key.key_id,
        opts=component.child(),
    )
    return key
