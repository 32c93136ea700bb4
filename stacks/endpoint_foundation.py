"""What stands before there are endpoints, and is all that staging needs: keys, network, buckets, alerts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pulumi

from components.aws.account import GATEWAY_ENDPOINTS, HOSTING_ENDPOINTS, CloudAccount
from components.aws.budget import CostBudget, CostBudgetArgs
from components.aws.encryption import HostingKeys, HostingKeysArgs
from components.aws.endpoint_alarms import Alerts, AlertsArgs
from components.aws.model_storage import ModelStorage, ModelStorageArgs, bucket_name
from components.aws.network import CloudNetwork, CloudNetworkArgs, NetworkPlace
from components.aws.prompt_storage import PromptStorage, PromptStorageArgs
from runtime.images import full_name, registry_host
from stacks.endpoint_staging import endpoint_images
from stacks.sagemaker_settings import SageMakerSettings


@dataclass(frozen=True, kw_only=True)
class EndpointFoundation:
    """What endpoints stand on.

    Attributes:
        keys: The encryption keys.
        place: The VPC and its private subnets.
        cidr: The VPC's network.
        storage: Where weights and images are staged.
        bucket_name: Name of that bucket, known before it is made.
        repository_arns: ARNs of the repositories that endpoints pull from.
        prompts: Where prompts and answers lie, if any are kept.
        topic: ARN of the topic for alerts.
    """

    keys: HostingKeys
    place: NetworkPlace
    cidr: str
    storage: ModelStorage
    bucket_name: str
    repository_arns: tuple[str, ...]
    prompts: PromptStorage | None
    topic: pulumi.Output[str]


def deploy_foundation(
    settings: SageMakerSettings,
    account: CloudAccount,
    tags: Mapping[str, str],
    on_aws: pulumi.ResourceOptions,
) -> EndpointFoundation:
    """Declares it.

    Args:
        settings: The settings.
        account: Account, region and names.
        tags: Tags of all resources; the budget filters by the first.
        on_aws: Options with the provider.
    """
    name = account.name
    kept = _kept(settings, name)
    keys = HostingKeys(
        f"{name}-keys",
        HostingKeysArgs(
            cloud=account,
            prompts=bool(kept),
            volumes=any(one.takes_volume_key for one in settings.endpoints),
            clients=settings.gateway is not None,
        ),
        on_aws,
    )
    # A bucket that cannot be deleted keeps its key.
    after_keys = pulumi.ResourceOptions.merge(on_aws, pulumi.ResourceOptions(depends_on=[keys]))
    place, cidr = _place(settings, account, keys, on_aws)
    if settings.budget is not None:
        CostBudget(
            f"{name}-budget",
            CostBudgetArgs(
                cloud=account,
                monthly_usd=settings.budget.monthly_usd,
                emails=settings.budget.emails,
                tag=next(iter(tags.items())),
            ),
            on_aws,
        )
    images = endpoint_images(settings)
    hosted = tuple(image for model in settings.models for image in model.images.values())
    every = (*hosted, *(settings.gateway.images.values() if settings.gateway else ()))
    prompts = (
        PromptStorage(
            f"{name}-prompts",
            PromptStorageArgs(
                cloud=account,
                key=keys.prompts.arn,
                days=kept,
            ),
            after_keys,
        )
        if keys.prompts is not None
        else None
    )
    alerts = Alerts(
        f"{name}-alerts",
        AlertsArgs(
            cloud=account,
            emails=settings.alerts.emails,
            key=keys.logs.arn,
        ),
        on_aws,
    )
    return EndpointFoundation(
        keys=keys,
        place=place,
        cidr=cidr,
        storage=ModelStorage(
            f"{name}-storage",
            ModelStorageArgs(cloud=account, key=keys.storage.arn, repositories=images.repositories(every)),
            after_keys,
        ),
        bucket_name=bucket_name(account),
        repository_arns=repository_arns(hosted, settings, account),
        prompts=prompts,
        topic=alerts.topic,
    )


def _place(
    settings: SageMakerSettings, account: CloudAccount, keys: HostingKeys, on_aws: pulumi.ResourceOptions
) -> tuple[NetworkPlace, str]:
    existing, new = settings.network.existing, settings.network.new
    if existing is not None:
        subnets = {subnet.zone: subnet.id for subnet in existing.subnets}
        place = NetworkPlace(
            vpc_id=existing.vpc_id, subnets=subnets, entrance={}, s3_prefix_list=existing.s3_prefix_list
        )
        return place, existing.cidr
    if new is None:
        raise AssertionError("EndpointNetwork lets no other case through")
    network = CloudNetwork(
        f"{account.name}-network",
        CloudNetworkArgs(
            cloud=account,
            cidr=new.cidr,
            zones=new.zones,
            egress="endpoints",
            log_key=keys.logs.arn,
            log_retention_days=settings.log_retention_days,
            services=HOSTING_ENDPOINTS
            if settings.gateway is None
            else (*HOSTING_ENDPOINTS, *GATEWAY_ENDPOINTS),
            subnet_tags={},
        ),
        on_aws,
    )
    return network.place, new.cidr


def _kept(settings: SageMakerSettings, name: str) -> dict[str, int]:
    """Folders of prompts and answers, and after how many days what lies there is deleted."""
    captured = {
        f"capture/{name}-{one.name}/": one.capture.retention_days
        for one in settings.endpoints
        if one.capture is not None
    }
    asked = {
        f"async/{name}-{one.name}/": one.asynchronous.retention_days
        for one in settings.endpoints
        if one.asynchronous is not None
    }
    return {**captured, **asked}


def repository_arns(
    images: Iterable[str], settings: SageMakerSettings, account: CloudAccount
) -> tuple[str, ...]:
    """ARNs of the repositories that images of the stack file are pulled from, each once."""
    staged = endpoint_images(settings)
    return tuple(dict.fromkeys(_repository_arn(staged.of(one), account) for one in images))


def _repository_arn(image: str, account: CloudAccount) -> str:
    """ARN of the repository of an image in a private ECR registry: ACCOUNT.dkr.ecr.REGION.amazonaws.com."""
    path = full_name(image).partition("/")[2].partition("@")[0].partition(":")[0]
    return f"arn:aws:ecr:{account.region}:{registry_host(image)[:12]}:repository/{path}"
