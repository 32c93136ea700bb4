"""The EKS cluster: control plane, access entries, add-ons, and how Kubernetes clients reach it."""

import json
from dataclasses import dataclass

import pulumi
from pulumi_aws import cloudwatch, eks, iam, vpc

from components.aws.account import CloudAccount
from components.aws.network import NetworkPlace
from components.aws.policies import (
    CLUSTER_ADMIN_ACCESS,
    CLUSTER_POLICY,
    EKS,
    POD_IDENTITY,
    cluster_key_user,
    trust,
    weights_reader,
)
from components.base import Component

LOG_TYPES = ("api", "audit", "authenticator", "controllerManager", "scheduler")

# Those that nodes need before they can be ready, and those whose pods need nodes to run on.
_ADDONS_BEFORE_NODES = ("vpc-cni", "kube-proxy", "eks-pod-identity-agent")
_ADDONS_ON_NODES = ("coredns", "eks-node-monitoring-agent")
_WEIGHTS_ADDON = "aws-mountpoint-s3-csi-driver"
_WEIGHTS_ACCOUNT = "s3-csi-driver-sa"


@dataclass(frozen=True, kw_only=True)
class EksClusterArgs:
    """Arguments of EksCluster.

    Attributes:
        cloud: Account, region and names.
        place: The VPC and its subnets.
        version: Kubernetes version.
        admins: ARNs of the roles and users that may do everything in the cluster.
        public_access_cidrs: Networks that may reach the API over the internet; none closes it.
        on_prem_cidrs: Networks that reach the API over the link.
        key: ARN of the key for Kubernetes' Secrets and the logs.
        log_retention_days: How long the control plane's logs are kept.
        deletion_protection: Whether EKS refuses to delete the cluster.
        role_arn: Role that clients take on to get a token; None for the caller's own identity.
    """

    cloud: CloudAccount
    place: NetworkPlace
    version: str
    admins: tuple[str, ...]
    public_access_cidrs: tuple[str, ...]
    on_prem_cidrs: tuple[str, ...]
    key: pulumi.Input[str]
    log_retention_days: int
    deletion_protection: bool
    role_arn: str | None = None


class EksCluster(Component):
    """A control plane of which the API is private, and which only access entries open.

    Nobody gets in for having created it. Nodes come after `needs`; pods of add-ons that run on nodes are
    `EksAddons`, which comes after them.
    """

    name: pulumi.Output[str]
    kubeconfig: pulumi.Output[str]
    security_group_id: pulumi.Output[str]
    needs: list[pulumi.Resource]

    def __init__(self, name: str, args: EksClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        declared = {"version": args.version, "admins": list(args.admins)}
        super().__init__("aws:EksCluster", name, declared, opts)
        cloud, called = args.cloud, args.cloud.name
        role = iam.Role(
            f"{called}-cluster",
            name=f"{called}-cluster",
            assume_role_policy=trust(EKS, account=cloud.account),
            opts=self.child(),
        )
        attached = iam.RolePolicyAttachment(
            f"{called}-cluster", role=role.name, policy_arn=CLUSTER_POLICY, opts=self.child()
        )
        may_encrypt = iam.RolePolicy(
            f"{called}-cluster-key",
            role=role.id,
            policy=pulumi.Output.from_input(args.key).apply(cluster_key_user),
            opts=self.child(),
        )
        # EKS would make it by itself, without key and for ever.
        logs = cloudwatch.LogGroup(
            f"{called}-control-plane",
            name=f"/aws/eks/{called}/cluster",
            retention_in_days=args.log_retention_days,
            kms_key_id=args.key,
            opts=self.child(),
        )
        cluster = eks.Cluster(
            called,
            name=called,
            role_arn=role.arn,
            version=args.version,
            access_config={
                "authentication_mode": "API",
                "bootstrap_cluster_creator_admin_permissions": False,
            },
            vpc_config=eks.ClusterVpcConfigArgs(
                subnet_ids=list(args.place.subnets.values()),
                endpoint_private_access=True,
                endpoint_public_access=bool(args.public_access_cidrs),
                public_access_cidrs=list(args.public_access_cidrs) or None,
            ),
            encryption_config={"provider": {"key_arn": args.key}, "resources": ["secrets"]},
            enabled_cluster_log_types=list(LOG_TYPES),
            # Extended support costs six times as much, and begins by itself.
            upgrade_policy={"support_type": "STANDARD"},
            # They are declared below, where their versions and settings show.
            bootstrap_self_managed_addons=False,
            deletion_protection=args.deletion_protection,
            opts=self.child(
                depends_on=[attached, may_encrypt, logs, *args.place.needs],
                custom_timeouts=pulumi.CustomTimeouts(create="40m", update="90m", delete="30m"),
            ),
        )
        entries = [self._admin(called, index, arn, cluster) for index, arn in enumerate(args.admins)]
        addons = [
            eks.Addon(
                f"{called}-{addon}",
                cluster_name=cluster.name,
                addon_name=addon,
                resolve_conflicts_on_create="OVERWRITE",
                resolve_conflicts_on_update="OVERWRITE",
                # NetworkPolicies are declared for every pod, and enforced by nothing else.
                configuration_values=json.dumps({"enableNetworkPolicy": "true"})
                if addon == "vpc-cni"
                else None,
                opts=self.child(),
            )
            for addon in _ADDONS_BEFORE_NODES
        ]
        self.name = cluster.name
        self.security_group_id = cluster.vpc_config.apply(
            lambda config: str(config.cluster_security_group_id)
        )
        # By itself the group lets in the cluster's own nodes only.
        opened = [
            vpc.SecurityGroupIngressRule(
                f"{called}-api-{index}",
                security_group_id=self.security_group_id,
                cidr_ipv4=cidr,
                ip_protocol="tcp",
                from_port=443,
                to_port=443,
                opts=self.child(),
            )
            for index, cidr in enumerate(args.on_prem_cidrs)
        ]
        self.kubeconfig = pulumi.Output.all(
            cluster.endpoint, cluster.certificate_authority.apply(lambda authority: authority.data)
        ).apply(lambda given: eks_kubeconfig(cloud, str(given[0]), str(given[1]), args.role_arn))
        self.needs = [*entries, *opened, *addons]
        self.finish(name=cluster.name, endpoint=cluster.endpoint)

    def _admin(self, called: str, index: int, arn: str, cluster: eks.Cluster) -> pulumi.Resource:
        entry = eks.AccessEntry(
            f"{called}-admin-{index}",
            cluster_name=cluster.name,
            principal_arn=arn,
            type="STANDARD",
            opts=self.child(),
        )
        return eks.AccessPolicyAssociation(
            f"{called}-admin-{index}",
            cluster_name=cluster.name,
            principal_arn=arn,
            policy_arn=CLUSTER_ADMIN_ACCESS,
            access_scope={"type": "cluster"},
            opts=self.child(depends_on=[entry]),
        )


@dataclass(frozen=True, kw_only=True)
class EksAddonsArgs:
    """Arguments of EksAddons.

    Attributes:
        cloud: Account, region and names.
        cluster: The cluster's name.
        weights_bucket: ARN of the bucket with the staged weights.
        weights_key: ARN of the key that they are encrypted with.
    """

    cloud: CloudAccount
    cluster: pulumi.Input[str]
    weights_bucket: pulumi.Input[str]
    weights_key: pulumi.Input[str]


class EksAddons(Component):
    """The add-ons whose pods need nodes: DNS, node repair, and the driver that mounts weights from S3.

    Pass the system nodes in `depends_on`: an add-on without a node to run on never becomes active.
    """

    def __init__(self, name: str, args: EksAddonsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("aws:EksAddons", name, {"addons": [*_ADDONS_ON_NODES, _WEIGHTS_ADDON]}, opts)
        cluster = args.cloud.name
        for addon in _ADDONS_ON_NODES:
            self._addon(f"{cluster}-{addon}", addon, args.cluster)
        role = iam.Role(
            f"{cluster}-weights",
            name=f"{cluster}-weights",
            assume_role_policy=trust(POD_IDENTITY, account=args.cloud.account),
            opts=self.child(),
        )
        reads = iam.RolePolicy(
            f"{cluster}-weights",
            role=role.id,
            policy=pulumi.Output.all(args.weights_bucket, args.weights_key).apply(
                lambda given: weights_reader(str(given[0]), str(given[1]))
            ),
            opts=self.child(),
        )
        eks.Addon(
            f"{cluster}-{_WEIGHTS_ADDON}",
            cluster_name=args.cluster,
            addon_name=_WEIGHTS_ADDON,
            resolve_conflicts_on_create="OVERWRITE",
            resolve_conflicts_on_update="OVERWRITE",
            pod_identity_associations=[{"role_arn": role.arn, "service_account": _WEIGHTS_ACCOUNT}],
            opts=self.child(depends_on=[reads]),
        )
        self.finish(cluster=args.cluster)

    def _addon(self, name: str, addon: str, cluster: pulumi.Input[str]) -> None:
        eks.Addon(
            name,
            cluster_name=cluster,
            addon_name=addon,
            resolve_conflicts_on_create="OVERWRITE",
            resolve_conflicts_on_update="OVERWRITE",
            opts=self.child(),
        )


def eks_kubeconfig(cloud: CloudAccount, endpoint: str, authority: str, role_arn: str | None) -> str:
    """A kubeconfig without secrets: clients ask the AWS CLI for a token of their own identity.

    Args:
        cloud: Account, region and names.
        endpoint: URL of the Kubernetes API.
        authority: Its certificate authority, base64.
        role_arn: Role to take on first, or None.
    """
    role = ["--role-arn", role_arn] if role_arn else []
    command = {
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "command": "aws",
        "args": ["eks", "get-token", "--region", cloud.region, "--cluster-name", cloud.name, *role],
        "interactiveMode": "Never",
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": cloud.name,
                "cluster": {"server": endpoint, "certificate-authority-data": authority},
            }
        ],
        "users": [{"name": cloud.name, "user": {"exec": command}}],
        "contexts": [{"name": cloud.name, "context": {"cluster": cloud.name, "user": cloud.name}}],
        "current-context": cloud.name,
    }
    return json.dumps(config)
