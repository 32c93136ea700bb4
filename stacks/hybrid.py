"""Hybrid: the on-prem platform, and an EKS cluster that takes what it has no room for."""

import dataclasses

import pulumi

from components.aws.account import CloudAccount
from components.aws.load_balancer import PORT
from components.aws.network import entrance_addresses
from components.kubernetes.ownership import StackClaim, stack_name
from components.kubernetes.spill_pool import SpillKey
from runtime.staging import StagedImages
from stacks import onprem
from stacks.cloud_costs import cost_of
from stacks.cloud_providers import aws_provider, eks_provider
from stacks.cloud_settings import CloudSettings
from stacks.cloud_side import deploy_cloud_side
from stacks.eks_side import deploy_eks_side, images_of
from stacks.outputs import CloudOutputs, PlatformOutputs
from stacks.providers import Providers
from stacks.settings import PlatformSettings


def deploy(settings: PlatformSettings) -> PlatformOutputs:
    """Declares both sides. On-prem waits for nothing of the other, so it can be changed without it."""
    cloud = settings.cloud
    if cloud is None:
        raise AssertionError("the settings let no hybrid stack through without a cloud")
    account = CloudAccount(account=cloud.account_id, region=cloud.region, name=cloud_name(settings.name))
    images = staged_images(cloud, account)
    tags = cloud_tags(cloud, account)
    providers = Providers.of(settings.cluster)
    key = SpillKey(f"{settings.name}-spill-key", pulumi.ResourceOptions(provider=providers.generated))
    spill = onprem.SpillTarget(addresses=entrance_of(cloud), port=PORT, key=key.value)
    platform = onprem.deploy(settings, providers, spill)
    aws = aws_provider(cloud, tags)
    repositories = images.repositories(images_of(settings, cloud))
    side = deploy_cloud_side(cloud, account, aws, tags, repositories)
    claim = StackClaim(f"{account.name}-claim", pulumi.ResourceOptions(provider=providers.generated))
    eks = eks_provider(side.kubeconfig, side.ready)
    deploy_eks_side(settings, cloud, side, images, eks, providers.generated, claim, key.value)
    cost = cost_of(cloud)
    pulumi.log.info(cost.words)
    return dataclasses.replace(
        platform,
        cloud=CloudOutputs(
            cluster=side.cluster.name,
            region=account.region,
            kubeconfig=side.kubeconfig,
            bucket=side.storage.bucket,
            repositories=side.storage.repository_urls,
            entrance=[f"{address}:{PORT}" for address in side.entrance.values()],
            cost=cost,
        ),
    )


def cloud_name(platform: str) -> str:
    """What the AWS side of a platform is called: cluster, roles, bucket, load balancer."""
    return f"{platform}-burst"


def cloud_tags(cloud: CloudSettings, account: CloudAccount) -> dict[str, str]:
    """Tags of all AWS resources; the first one is the stack's own, which budgets and reports filter by."""
    centre = {"cost-centre": cloud.tags.cost_centre} if cloud.tags.cost_centre else {}
    return {
        "spillway-platform": account.name,
        "spillway-stack": stack_name(),
        "owner": cloud.tags.owner,
        **centre,
    }


def staged_images(cloud: CloudSettings, account: CloudAccount) -> StagedImages:
    """Where the EKS side's images are."""
    return StagedImages(registry=f"{account.registry}/{account.name}" if cloud.images == "ecr" else None)


def entrance_of(cloud: CloudSettings) -> tuple[str, ...]:
    """Addresses of the load balancer, known before it is made, so that on-prem waits for nothing."""
    if cloud.network.existing is not None:
        return tuple(subnet.entrance_address for subnet in cloud.network.existing.subnets)
    new = cloud.network.new
    return tuple(entrance_addresses(new.cidr, new.zones).values()) if new else ()
