"""Hybrid: the on-prem platform, and an EKS cluster that takes what it has no room for."""

import dataclasses
from collections.abc import Mapping

import pulumi

from components.aws.account import CloudAccount
from components.aws.load_balancer import entrance_port
from components.aws.network import entrance_addresses
from components.kubernetes.burst_controller import (
    SERVICE_PORT,
    BurstController,
    BurstControllerArgs,
    SpillingModel,
)
from components.kubernetes.ownership import StackClaim
from components.kubernetes.spill_pool import SpillKey
from runtime.burst.config import GroupConfig
from runtime.gateway import LinkTls, Upstream
from runtime.images import mirrored
from runtime.model import ModelSpec
from runtime.node_groups import NodeGroupSpec, group_of
from runtime.staging import staged_version
from runtime.tenure import EXPIRES_TAG, PLATFORM_TAG, Tenure
from stacks import onprem
from stacks.cloud_providers import aws_provider, eks_provider
from stacks.cloud_settings import CloudSettings
from stacks.cloud_side import deploy_cloud_side, deploy_foundation, node_group_name
from stacks.cloud_staging import cloud_account, controller_name, staged_images, staging_plan
from stacks.eks_side import EksSide, deploy_eks_side, images_of
from stacks.outputs import CloudOutputs, ClusterOutputs, PlatformOutputs
from stacks.providers import Providers
from stacks.settings import PlatformSettings


def deploy(settings: PlatformSettings) -> PlatformOutputs:
    """Declares both sides. On-prem waits for nothing of the other, so it can be changed without it."""
    cloud = settings.cloud
    if cloud is None:
        raise AssertionError("the settings let no hybrid stack through without a cloud")
    account = cloud_account(settings, cloud)
    images = staged_images(cloud, account)
    tags = cloud_tags(onprem.tenure_of(settings), account)
    providers = Providers.of(settings.cluster)
    key = SpillKey(f"{settings.name}-spill-key", pulumi.ResourceOptions(provider=providers.generated))
    spill = onprem.SpillTarget(
        addresses=entrance_of(cloud),
        port=entrance_port(tls=cloud.tls is not None),
        key=key.value,
        ready=_who_says_ready(settings),
        tls=cloud.tls and LinkTls(server_name=cloud.tls.server_name, authority=cloud.tls.authority),
    )
    if cloud.tls is None and (cloud.link is None or cloud.link.vpn is None):
        pulumi.log.warn(
            "cloud.tls is missing, and the link is no VPN of this stack: spilled requests cross it as plain "
            "HTTP. Set cloud.tls, unless the link encrypts by itself, as IPsec and MACsec do"
        )
    on_prem = onprem.declare(settings, providers, spill)
    aws = aws_provider(cloud, tags)
    repositories = images.repositories(images_of(settings, cloud))
    foundation = deploy_foundation(cloud, account, aws, tags, repositories)
    outputs = CloudOutputs(
        region=account.region,
        bucket=foundation.storage.bucket,
        repositories=foundation.storage.repository_urls,
        staging=staging_plan(settings, cloud),
    )
    if cloud.declare == "foundation":
        pulumi.log.warn(
            "cloud.declare is foundation: there is no cluster, and nothing spills. Stage images and weights "
            "with `make stage`, set up your end of the link, then remove the key"
        )
        return dataclasses.replace(on_prem.outputs, cloud=outputs)
    side = deploy_cloud_side(cloud, account, aws, node_tags(tags), foundation)
    claim = StackClaim(
        f"{account.name}-claim",
        onprem.tenure_of(settings),
        pulumi.ResourceOptions(provider=providers.generated),
    )
    eks = eks_provider(side.kubeconfig, side.ready)
    there = deploy_eks_side(settings, cloud, side, images, eks, providers.generated, claim, key.value)
    _burst_controller(settings, cloud, on_prem, there, providers)
    cluster = ClusterOutputs(
        name=side.cluster.name,
        kubeconfig=side.kubeconfig,
        entrance=[f"{address}:{spill.port}" for address in side.entrance.values()],
    )
    return dataclasses.replace(on_prem.outputs, cloud=dataclasses.replace(outputs, cluster=cluster))


def _who_says_ready(settings: PlatformSettings) -> Upstream:
    """Where the gateway asks whether a model has a replica on EKS; without one, a request would wait."""
    host = f"{controller_name(settings)}.{settings.namespace}.svc.cluster.local"
    return Upstream(host=host, port=SERVICE_PORT)


def _burst_controller(
    settings: PlatformSettings,
    cloud: CloudSettings,
    on_prem: onprem.OnPremSide,
    there: EksSide,
    providers: Providers,
) -> None:
    """On-prem, so that it outlives the link; but it waits for the EKS side, whose keys it is given."""
    if settings.burst is None or settings.controller_image is None:
        raise AssertionError("the settings let no hybrid stack through without burst and controllerImage")
    image = settings.controller_image
    mirror = settings.images.mirror
    name = cloud_account(settings, cloud).name
    BurstController(
        controller_name(settings),
        BurstControllerArgs(
            platform=settings.name,
            namespace=settings.namespace,
            image=mirrored(image, mirror) if mirror else image,
            policy=settings.burst,
            groups=tuple(_group(group, cloud.region, name) for group in cloud.node_groups),
            models=tuple(_spilling(model, settings, cloud) for model in there.models),
            cloud_namespace=settings.namespace,
            kubeconfig=there.kubeconfig,
            cloud_ray_token=there.ray_token,
            ray_secret=on_prem.ray_secret,
            gateway_metrics_port=on_prem.gateway_metrics_port,
            pull_secrets=on_prem.pull_secrets,
        ),
        pulumi.ResourceOptions(providers=[providers.cluster, providers.generated], depends_on=on_prem.ready),
    )


def _group(group: NodeGroupSpec, region: str, account: str) -> GroupConfig:
    price = group.node_price(region)
    if price is None:
        raise AssertionError("the settings let no node group through without a price")
    return GroupConfig(
        name=group.name,
        node_group=node_group_name(account, group),
        max_nodes=group.max,
        usd_per_hour=float(price),
        devices=group.gpus,
    )


def _spilling(there: ModelSpec, settings: PlatformSettings, cloud: CloudSettings) -> SpillingModel:
    here = next(model for model in settings.models if model.name == there.name)
    group = group_of(there, cloud.node_groups, cloud.region)
    each = group and group.pods_per_node(there)
    source = here.in_cloud
    if group is None or each is None or source is None:
        raise AssertionError("the settings let no model through that no node group holds")
    return SpillingModel(
        here=here,
        there=there,
        group=group.name,
        # The fewest devices of which no more than `each` pods fit a node.
        devices_per_pod=group.gpus // (each + 1) + 1,
        staged=staged_version(source, there.image or settings.ray.image),
    )


def cloud_tags(tenure: Tenure, account: CloudAccount) -> dict[str, str]:
    """Tags of all AWS resources; the first one is what the budget filters by."""
    return {PLATFORM_TAG: account.name, **tenure.tags()}


def node_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags of instances and volumes: without the expiry, since a changed launch template renews the nodes."""
    return {key: value for key, value in tags.items() if key != EXPIRES_TAG}


def entrance_of(cloud: CloudSettings) -> tuple[str, ...]:
    """Addresses of the load balancer, known before it is made, so that on-prem waits for nothing."""
    if cloud.network.existing is not None:
        return tuple(subnet.entrance_address for subnet in cloud.network.existing.subnets)
    new = cloud.network.new
    return tuple(entrance_addresses(new.cidr, new.zones).values()) if new else ()
