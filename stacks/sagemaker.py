"""Fully cloud: models on SageMaker endpoints, with the network, keys, buckets and alarms that they need."""

from collections.abc import Mapping

import pulumi
from pulumi_aws import cloudwatch

from components.aws.account import CloudAccount
from components.aws.endpoint import Endpoint, EndpointArgs
from components.aws.endpoint_alarms import EndpointAlarms, EndpointAlarmsArgs
from components.aws.endpoint_scaling import EndpointScaling, EndpointScalingArgs
from components.aws.hosted_model import HostedModel, HostedModelArgs
from components.aws.hosting import Hosting, HostingArgs
from components.aws.inference_components import InferenceComponent, InferenceComponentArgs
from components.kubernetes.ownership import stack_name
from runtime.model import Replicas
from runtime.sagemaker.alarms import Limits, alarms
from runtime.sagemaker.dashboard import Shown, dashboard
from runtime.sagemaker.endpoints import EndpointSpec, Variant
from runtime.sagemaker.instances import facts_of
from runtime.sagemaker.metrics import component_name
from runtime.tenure import EXPIRES_TAG, PLATFORM_TAG, Tenure
from stacks.cloud_providers import aws_provider
from stacks.endpoint_foundation import EndpointFoundation, deploy_foundation
from stacks.endpoint_gateway import deploy_gateway
from stacks.endpoint_staging import endpoint_account, endpoint_images, endpoint_staging
from stacks.outputs import EndpointOutputs, HostedOutputs
from stacks.sagemaker_settings import Alerts as AlertSettings
from stacks.sagemaker_settings import SageMakerSettings


def deploy(settings: SageMakerSettings) -> EndpointOutputs:
    """Declares everything. Each part waits for what it stands on, so a destroy goes from the top down."""
    account = endpoint_account(settings)
    tags = {PLATFORM_TAG: account.name, **_tenure(settings).tags()}
    provider = aws_provider(settings, tags)
    on_aws = pulumi.ResourceOptions(provider=provider)
    foundation = deploy_foundation(settings, account, tags, on_aws)
    hosted: dict[str, HostedOutputs] = {}
    gateway = None
    if settings.declare == "foundation":
        pulumi.log.warn(
            "declare is foundation: there are no endpoints. Stage images and weights with `make stage`, then "
            "remove the key"
        )
    else:
        endpoints = _Endpoints(settings, account, foundation, tags, on_aws)
        hosted = endpoints.deploy()
        if settings.gateway is not None:
            gateway = deploy_gateway(
                settings, settings.gateway, account, foundation, endpoints.answering, on_aws
            )
    return EndpointOutputs(
        region=account.region,
        bucket=foundation.storage.bucket,
        prompts_bucket=foundation.prompts and foundation.prompts.bucket,
        repositories=foundation.storage.repository_urls,
        staging=endpoint_staging(settings),
        topic=foundation.topic,
        endpoints=hosted,
        gateway=gateway,
    )


class _Endpoints:
    """What stands on the foundation: role, models, endpoints, and what watches and sizes them.

    Attributes:
        answering: What a gateway asks: endpoints, and components of shared ones.
    """

    def __init__(
        self,
        settings: SageMakerSettings,
        account: CloudAccount,
        foundation: EndpointFoundation,
        tags: Mapping[str, str],
        on_aws: pulumi.ResourceOptions,
    ) -> None:
        self._settings, self._account, self._foundation = settings, account, foundation
        self._on_aws = on_aws
        # A component is replaced where its tags change, and its expiry would with each of `up`.
        self._tags = {key: value for key, value in tags.items() if key != EXPIRES_TAG}
        self._models: dict[str, HostedModel] = {}
        self.answering: list[pulumi.Resource] = []

    def deploy(self) -> dict[str, HostedOutputs]:
        """Declares all of it; returns the endpoints by the name in the stack file."""
        settings, account, foundation = self._settings, self._account, self._foundation
        images = endpoint_images(settings)
        waits = any(one.asynchronous is not None for one in settings.endpoints)
        hosting = Hosting(
            f"{account.name}-hosting",
            HostingArgs(
                cloud=account,
                place=foundation.place,
                cidr=foundation.cidr,
                weights_bucket=foundation.storage.bucket_arn,
                weights_key=foundation.keys.storage.arn,
                prompts_bucket=foundation.prompts and foundation.prompts.bucket_arn,
                prompts_key=foundation.keys.prompts and foundation.keys.prompts.arn,
                volume_key=foundation.keys.volumes and foundation.keys.volumes.arn,
                topic=foundation.topic if waits else None,
                topic_key=foundation.keys.logs.arn,
                repositories=foundation.repository_arns,
                served=tuple(dict.fromkeys(one.model_id for one in settings.models)),
            ),
            _after(self._on_aws, foundation.storage.needs),
        )
        self._role = hosting.role_arn
        self._models = {
            model.name: HostedModel(
                f"{account.name}-{model.name}",
                HostedModelArgs(
                    model=model,
                    bucket=foundation.bucket_name,
                    image_of=images.of,
                    role_arn=hosting.role_arn,
                    subnets=foundation.place.subnets,
                    security_group_id=hosting.security_group_id,
                ),
                _after(self._on_aws, hosting.needs),
            )
            for model in settings.models
        }
        found = {one.name: self._endpoint(one) for one in settings.endpoints}
        shown = [Shown(name=f"{account.name}-{one.name}", spec=one) for one in settings.endpoints]
        cloudwatch.Dashboard(
            f"{account.name}-dashboard",
            dashboard_name=account.name,
            dashboard_body=dashboard(
                account.name, account.region, shown, settings.gateway and f"{account.name}-gateway"
            ),
            opts=self._on_aws,
        )
        return found

    def _endpoint(self, spec: EndpointSpec) -> HostedOutputs:
        settings, account, foundation = self._settings, self._account, self._foundation
        name = f"{account.name}-{spec.name}"
        models = {one.name: one for one in settings.models}
        watch = EndpointAlarms(
            f"{name}-alarms",
            EndpointAlarmsArgs(
                endpoint_name=name,
                alarms=alarms(spec, name, models, _limits(settings.alerts)),
                topic=foundation.topic,
            ),
            self._on_aws,
        )
        prompts = foundation.prompts
        endpoint = Endpoint(
            name,
            EndpointArgs(
                cloud=account,
                spec=spec,
                models={key: one.name for key, one in self._models.items()},
                role_arn=self._role,
                volume_key=foundation.keys.volumes and foundation.keys.volumes.arn,
                log_key=foundation.keys.logs.arn,
                log_retention_days=settings.log_retention_days,
                prompts_bucket=prompts and prompts.bucket,
                prompts_key=foundation.keys.prompts and foundation.keys.prompts.arn,
                topic=foundation.topic,
                rollback_alarms=watch.rollback,
                tells_tokens=any(models[one].container == "vllm" for one in spec.hosted),
            ),
            _after(self._on_aws, prompts.needs if prompts else []),
        )
        self.answering.append(endpoint)
        for variant in spec.variants:
            self._variant_size(spec, name, variant, endpoint)
        self._components(spec, name, endpoint)
        served = {models[one].model_id: name for one in spec.hosted}
        return HostedOutputs(
            name=endpoint.name,
            models=tuple(dict.fromkeys(served)),
            components={
                models[one.model].model_id: component_name(name, one.name)
                for one in (spec.shared.components if spec.shared else ())
            },
            streams=not any(models[one].is_pipeline for one in spec.hosted) and spec.asynchronous is None,
            asynchronous=spec.asynchronous is not None,
        )

    def _variant_size(self, spec: EndpointSpec, name: str, variant: Variant, endpoint: Endpoint) -> None:
        # SageMaker sizes no shadow: it has as many machines as it begins with.
        if variant.shadow or (not variant.schedules and variant.replicas.min == variant.replicas.max):
            return
        waiting = spec.asynchronous
        EndpointScaling(
            f"{name}-{variant.name}",
            EndpointScalingArgs(
                kind="variant" if waiting is None else "asynchronous",
                endpoint_name=name,
                part=variant.name,
                sizes=variant.replicas,
                schedules=variant.schedules,
                target=self._settings.model(variant.model).ongoing_target
                if waiting is None
                else waiting.concurrent_per_instance,
                scale_out_s=spec.scale_out_seconds,
                scale_in_s=spec.scale_in_seconds,
                hardware=variant.instance_type,
                accelerator=facts_of(variant.instance_type).accelerator,
                devices=facts_of(variant.instance_type).gpus,
                topic=self._foundation.topic,
            ),
            _after(self._on_aws, [endpoint]),
        )

    def _components(self, spec: EndpointSpec, name: str, endpoint: Endpoint) -> None:
        settings, account, foundation = self._settings, self._account, self._foundation
        shared = spec.shared
        for one in shared.components if shared else ():
            if shared is None:
                continue
            model = settings.model(one.model)
            made = InferenceComponent(
                component_name(name, one.name),
                InferenceComponentArgs(
                    endpoint_name=endpoint.name,
                    component=one,
                    shared=shared,
                    model=model,
                    model_name=self._models[model.name].name,
                    tags=self._tags,
                    platform=account.name,
                    log_key=foundation.keys.logs.arn,
                    log_retention_days=settings.log_retention_days,
                ),
                self._on_aws,
            )
            self.answering.append(made)
            if one.schedules or one.copies != Replicas(min=one.copies.max, max=one.copies.max):
                EndpointScaling(
                    f"{name}-{one.name}-copies",
                    EndpointScalingArgs(
                        kind="component",
                        endpoint_name=name,
                        part=component_name(name, one.name),
                        sizes=one.copies,
                        schedules=one.schedules,
                        target=model.ongoing_target,
                        scale_out_s=spec.scale_out_seconds,
                        scale_in_s=spec.scale_in_seconds,
                        hardware=shared.instance_type,
                        accelerator=model.accelerator,
                        devices=model.devices,
                        topic=foundation.topic,
                    ),
                    _after(self._on_aws, [made]),
                )


def _tenure(settings: SageMakerSettings) -> Tenure:
    return Tenure(
        stack=stack_name(),
        owner=settings.owner,
        cost_centre=settings.cost_centre,
        environment=settings.environment,
        expires=settings.expires,
    )


def _limits(alerts: AlertSettings) -> Limits:
    return Limits(
        error_percent=alerts.error_percent,
        latency_s=alerts.latency_seconds,
        first_token_s=alerts.first_token_seconds,
        gpu_memory_percent=alerts.gpu_memory_percent,
        idle_minutes=alerts.idle_minutes,
        quiet_hours=alerts.quiet_hours,
    )


def _after(options: pulumi.ResourceOptions, needs: list[pulumi.Resource]) -> pulumi.ResourceOptions:
    return pulumi.ResourceOptions.merge(options, pulumi.ResourceOptions(depends_on=needs))
