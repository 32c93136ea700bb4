"""Declares the gateway in front of SageMaker endpoints: keys, entrance, tasks and alarms."""

from collections.abc import Sequence

import pulumi

from components.aws.account import CloudAccount
from components.aws.client_keys import ClientKeys, ClientKeysArgs
from components.aws.endpoint_gateway import EndpointGateway, EndpointGatewayArgs
from components.aws.gateway_alarms import GatewayAlarms, GatewayAlarmsArgs
from components.aws.gateway_entrance import GatewayEntrance, GatewayEntranceArgs
from components.aws.prompt_storage import prompts_bucket_name
from stacks.endpoint_foundation import EndpointFoundation, repository_arns
from stacks.endpoint_gateway_settings import EndpointGateway as GatewaySettings
from stacks.endpoint_routes import gateway_task, log_groups, masked_capture
from stacks.endpoint_staging import endpoint_images
from stacks.outputs import GatewayOutputs
from stacks.providers import random_provider
from stacks.sagemaker_settings import SageMakerSettings


def deploy_gateway(
    settings: SageMakerSettings,
    gateway: GatewaySettings,
    account: CloudAccount,
    foundation: EndpointFoundation,
    endpoints: Sequence[pulumi.Resource],
    on_aws: pulumi.ResourceOptions,
) -> GatewayOutputs:
    """Declares it, after the endpoints: a destroy takes the way in away first.

    Args:
        settings: The settings.
        gateway: Those of the gateway.
        account: Account, region and names.
        foundation: What it stands on.
        endpoints: What it asks.
        on_aws: Options with the provider.

    Raises:
        ValueError: The foundation was declared for no gateway.
    """
    name = f"{account.name}-gateway"
    key = foundation.keys.clients
    if key is None:
        raise ValueError("the foundation has no key for API keys; it must be declared with the gateway")
    images = endpoint_images(settings)
    task = gateway_task(
        settings.name,
        settings.region,
        gateway,
        settings.models,
        settings.endpoints,
        capture=masked_capture(
            settings.name,
            settings.endpoints,
            prompts_bucket_name(account),
            # By its alias, whose name is known before the key is.
            account.arn("kms", f"alias/{account.name}-prompts"),
        ),
        gateway_image=images.of(gateway.image),
        adapter_image=images.of(gateway.adapter_image),
    )
    keys = ClientKeys(
        f"{name}-clients",
        ClientKeysArgs(cloud=account, clients=gateway.clients, key=key.arn),
        pulumi.ResourceOptions.merge(on_aws, pulumi.ResourceOptions(providers=[random_provider()])),
    )
    tls = gateway.tls
    entrance = GatewayEntrance(
        f"{name}-entrance",
        GatewayEntranceArgs(
            cloud=account,
            place=foundation.place,
            cidr=foundation.cidr,
            allowed_cidrs=gateway.allowed_cidrs,
            port=task.gateway.listen_port,
            health_port=task.gateway.metrics_port,
            certificate_arn=tls and tls.certificate_arn,
        ),
        on_aws,
    )
    asked = task.adapter.models
    service = EndpointGateway(
        name,
        EndpointGatewayArgs(
            cloud=account,
            task=task,
            subnets=list(foundation.place.subnets.values()),
            entrance=entrance,
            keys_arn=keys.secret_arn,
            keys_version_arn=keys.version_arn,
            keys_key=key.arn,
            prompts_key=foundation.keys.prompts and foundation.keys.prompts.arn,
            endpoints=list(dict.fromkeys(one.endpoint for one in asked)),
            components=list(
                dict.fromkeys(one.inference_component for one in asked if one.inference_component)
            ),
            repositories=repository_arns(gateway.images.values(), settings, account),
            least=gateway.replicas.min,
            most=gateway.replicas.max,
            cpu=gateway.cpu,
            memory_mib=gateway.memory_mib,
            architecture=gateway.architecture,
            log_key=foundation.keys.logs.arn,
            log_retention_days=settings.log_retention_days,
        ),
        pulumi.ResourceOptions.merge(
            on_aws,
            pulumi.ResourceOptions(
                depends_on=[*endpoints, *([foundation.prompts] if foundation.prompts else [])]
            ),
        ),
    )
    access_log, adapter_log = log_groups(settings.name)
    GatewayAlarms(
        f"{name}-alarms",
        GatewayAlarmsArgs(
            platform=settings.name,
            entrance=entrance,
            access_log=service.log_groups[access_log].name,
            adapter_log=service.log_groups[adapter_log].name,
            captures=task.adapter.capture is not None,
            error_percent=settings.alerts.error_percent,
            topic=foundation.topic,
        ),
        on_aws,
    )
    return GatewayOutputs(
        endpoint=pulumi.Output.from_input(f"https://{tls.hostname}")
        if tls
        else pulumi.Output.concat("http://", entrance.dns_name),
        load_balancer=entrance.dns_name,
        models=[one.name for one in asked],
        api_keys=keys.api_keys,
        api_key_secret=keys.secret_arn,
    )
