"""The AWS side of a hybrid stack: network, keys, link, cluster, nodes, storage, budget."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from components.aws.account import CloudAccount
from components.aws.budget import CostBudget, CostBudgetArgs
from components.aws.cluster import EksAddons, EksAddonsArgs, EksCluster, EksClusterArgs
from components.aws.encryption import EncryptionKeys, EncryptionKeysArgs
from components.aws.link import DirectConnect, DirectConnectArgs, SiteToSiteVpn, SiteToSiteVpnArgs
from components.aws.load_balancer import Entrance, EntranceArgs, EntranceTargets, EntranceTargetsArgs
from components.aws.model_storage import ModelStorage, ModelStorageArgs
from components.aws.network import CloudNetwork, CloudNetworkArgs, NetworkPlace
from components.aws.node_group import (
    GpuNodeGroup,
    GpuNodeGroupArgs,
    NodeRole,
    NodeRoleArgs,
    SystemNodes,
    SystemNodesArgs,
)
from runtime.node_groups import NodeGroupSpec
from stacks.cloud_providers import reachable
from stacks.cloud_settings import CloudLink, CloudSettings, ExistingVpc, NewVpc


@dataclass(frozen=True, kw_only=True)
class Foundation:
    """What stands before there is a cluster, and is all that staging and the link need.

    Attributes:
        keys: The encryption keys.
        place: The VPC and its subnets.
        linked: What must be there before the link is used.
        storage: Where weights and images are staged.
    """

    keys: EncryptionKeys
    place: NetworkPlace
    linked: list[pulumi.Resource]
    storage: ModelStorage


@dataclass(frozen=True, kw_only=True)
class CloudSide:
    """What the parts in the EKS cluster, and on-prem, need to know of the AWS side.

    Attributes:
        account: Account, region and names.
        provider: The AWS provider.
        cluster: The EKS cluster.
        kubeconfig: How to reach it.
        storage: Where weights and images are staged.
        entrance: Zone to private address of the load balancer.
        ready: What must be there before anything runs in the cluster: access, system nodes, add-ons.
        groups: GPU node groups by name; none with Karpenter.
        node_role: The nodes' role.
        place: The VPC and its subnets.
        volume_key: ARN of the key of the nodes' volumes.
        tags: Tags of instances and volumes.
    """

    account: CloudAccount
    provider: aws.Provider
    cluster: EksCluster
    kubeconfig: pulumi.Output[str]
    storage: ModelStorage
    entrance: Mapping[str, str]
    ready: list[pulumi.Resource]
    groups: Mapping[str, GpuNodeGroup]
    node_role: NodeRole
    place: NetworkPlace
    volume_key: pulumi.Output[str]
    tags: Mapping[str, str]


def deploy_foundation(
    cloud: CloudSettings,
    account: CloudAccount,
    provider: aws.Provider,
    tags: Mapping[str, str],
    repositories: tuple[str, ...],
) -> Foundation:
    """Declares keys, network, link, bucket, repositories and budget: what is needed before nodes can start.

    Args:
        cloud: The settings.
        account: Account, region and names.
        provider: The AWS provider.
        tags: Tags of all resources; the budget filters by the first.
        repositories: Paths of the images to stage.
    """
    on_aws = pulumi.ResourceOptions(provider=provider)
    name = account.name
    keys = EncryptionKeys(f"{name}-keys", EncryptionKeysArgs(cloud=account), on_aws)
    place = _place(cloud, account, keys, on_aws)
    if cloud.budget is not None:
        CostBudget(
            f"{name}-budget",
            CostBudgetArgs(
                cloud=account,
                monthly_usd=cloud.budget.monthly_usd,
                emails=cloud.budget.emails,
                tag=next(iter(tags.items())),
            ),
            on_aws,
        )
    return Foundation(
        keys=keys,
        place=place,
        linked=_link(cloud, account, place, on_aws),
        storage=ModelStorage(
            f"{name}-storage",
            ModelStorageArgs(cloud=account, key=keys.storage.arn, repositories=repositories),
            # A bucket that cannot be deleted keeps its key.
            pulumi.ResourceOptions.merge(on_aws, pulumi.ResourceOptions(depends_on=[keys])),
        ),
    )


def deploy_cloud_side(
    cloud: CloudSettings,
    account: CloudAccount,
    provider: aws.Provider,
    tags: Mapping[str, str],
    foundation: Foundation,
) -> CloudSide:
    """Declares the rest of AWS'. Each part waits for what it stands on, so a destroy goes from the top down.

    Args:
        cloud: The settings.
        account: Account, region and names.
        provider: The AWS provider.
        tags: Tags of all resources.
        foundation: What it stands on.
    """
    on_aws = pulumi.ResourceOptions(provider=provider)
    name = account.name
    keys, place, storage = foundation.keys, foundation.place, foundation.storage
    entrance = Entrance(
        f"{name}-entrance",
        EntranceArgs(
            cloud=account,
            place=place,
            on_prem_cidrs=cloud.on_prem_cidrs,
            tls=cloud.tls is not None,
        ),
        on_aws,
    )
    cluster = EksCluster(
        f"{name}-eks",
        EksClusterArgs(
            cloud=account,
            place=place,
            version=cloud.cluster.version,
            admins=cloud.cluster.admins,
            public_access_cidrs=cloud.cluster.public_access_cidrs,
            on_prem_cidrs=cloud.on_prem_cidrs,
            key=keys.cluster.arn,
            log_retention_days=cloud.cluster.log_retention_days,
            deletion_protection=cloud.cluster.deletion_protection,
            role_arn=cloud.assume_role and cloud.assume_role.role_arn,
        ),
        # The entrance's addresses are taken before the cluster takes any; and Pulumi gets to a private
        # cluster only over the link.
        _after(on_aws, [*entrance.needs, *foundation.linked]),
    )
    role = NodeRole(f"{name}-nodes", NodeRoleArgs(cloud=account), on_aws)
    may_join = _after(on_aws, [*cluster.needs, *role.needs])
    system = SystemNodes(
        f"{name}-system",
        SystemNodesArgs(
            cloud=account,
            cluster=cluster.name,
            role_arn=role.arn,
            volume_key=keys.nodes.arn,
            tags=tags,
            subnets=tuple(place.subnets.values()),
            instance_type=cloud.system_nodes.instance_type,
            minimum=cloud.system_nodes.min,
            maximum=cloud.system_nodes.max,
            disk_gib=cloud.system_nodes.disk_gib,
        ),
        may_join,
    )
    targets = EntranceTargets(
        f"{name}-targets",
        EntranceTargetsArgs(
            entrance_group=entrance.security_group_id,
            target_group_arn=entrance.target_group_arn,
            nodes_group=cluster.security_group_id,
            autoscaling_group=system.autoscaling_group,
        ),
        on_aws,
    )
    addons = EksAddons(
        f"{name}-addons",
        EksAddonsArgs(
            cloud=account,
            cluster=cluster.name,
            weights_bucket=storage.bucket_arn,
            weights_key=keys.storage.arn,
        ),
        _after(on_aws, [system]),
    )
    groups = {
        group.name: _gpu_nodes(group, cloud, account, cluster, role, place, keys, tags, may_join)
        for group in cloud.node_groups
        if cloud.autoscaler.kind == "cluster-autoscaler"
    }
    return CloudSide(
        account=account,
        provider=provider,
        cluster=cluster,
        kubeconfig=reachable(cluster.kubeconfig),
        storage=storage,
        entrance=entrance.addresses,
        ready=[*cluster.needs, system, addons, targets],
        groups=groups,
        node_role=role,
        place=place,
        volume_key=keys.nodes.arn,
        tags=tags,
    )


def _place(
    cloud: CloudSettings, account: CloudAccount, keys: EncryptionKeys, on_aws: pulumi.ResourceOptions
) -> NetworkPlace:
    match cloud.network.new or cloud.network.existing:
        case ExistingVpc() as existing:
            return NetworkPlace(
                vpc_id=existing.vpc_id,
                subnets={subnet.zone: subnet.id for subnet in existing.subnets},
                entrance={subnet.zone: subnet.entrance_address for subnet in existing.subnets},
            )
        case NewVpc() as new:
            network = CloudNetwork(
                f"{account.name}-network",
                CloudNetworkArgs(
                    cloud=account,
                    cidr=new.cidr,
                    zones=new.zones,
                    egress=new.egress,
                    log_key=keys.cluster.arn,
                    log_retention_days=cloud.cluster.log_retention_days,
                ),
                on_aws,
            )
            return network.place
        case None:
            raise AssertionError("CloudNetwork lets no other case through")


def _link(
    cloud: CloudSettings, account: CloudAccount, place: NetworkPlace, on_aws: pulumi.ResourceOptions
) -> list[pulumi.Resource]:
    """Declares the link where it is ours to make; returns what must be there before it is used."""
    link = cloud.link or CloudLink(existing=True)
    if place.route_table_id is None or link.existing:
        return []
    name = f"{account.name}-link"
    if link.vpn is not None:
        vpn = SiteToSiteVpn(
            name,
            SiteToSiteVpnArgs(
                cloud=account,
                vpc_id=place.vpc_id,
                route_table_id=place.route_table_id,
                on_prem_cidrs=cloud.on_prem_cidrs,
                device_address=link.vpn.device_address,
                bgp_asn=link.vpn.bgp_asn,
                routing=link.vpn.routing,
            ),
            on_aws,
        )
        return vpn.needs
    if link.direct_connect is not None:
        direct = DirectConnect(
            name,
            DirectConnectArgs(
                cloud=account,
                vpc_id=place.vpc_id,
                route_table_id=place.route_table_id,
                on_prem_cidrs=cloud.on_prem_cidrs,
                gateway_id=link.direct_connect.gateway_id,
                amazon_asn=link.direct_connect.amazon_asn,
                cidr=cloud.network.cidr,
            ),
            on_aws,
        )
        return direct.needs
    return []


def node_group_name(account: str, group: NodeGroupSpec) -> str:
    """What EKS calls a GPU node group of a stack.

    Args:
        account: Name of the stack's part of the account.
        group: The group.
    """
    return f"{account}-{group.name}"


def _gpu_nodes(
    group: NodeGroupSpec,
    cloud: CloudSettings,
    account: CloudAccount,
    cluster: EksCluster,
    role: NodeRole,
    place: NetworkPlace,
    keys: EncryptionKeys,
    tags: Mapping[str, str],
    options: pulumi.ResourceOptions,
) -> GpuNodeGroup:
    price = group.node_price(cloud.region)
    return GpuNodeGroup(
        node_group_name(account.name, group),
        GpuNodeGroupArgs(
            cloud=account,
            cluster=cluster.name,
            role_arn=role.arn,
            volume_key=keys.nodes.arn,
            tags=tags,
            spec=group,
            subnets=place.subnets,
            vpc_id=place.vpc_id,
            cluster_security_group=cluster.security_group_id,
            usd_per_hour=None if price is None else f"{price.normalize():f}",
        ),
        options,
    )


def _after(options: pulumi.ResourceOptions, needs: list[pulumi.Resource]) -> pulumi.ResourceOptions:
    return pulumi.ResourceOptions.merge(options, pulumi.ResourceOptions(depends_on=needs))
