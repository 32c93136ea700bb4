"""A SageMaker endpoint with its configuration, its log and the way that updates take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
from pulumi_aws import sagemaker

from components.aws.account import CloudAccount
from components.aws.container_logs import container_logs, metrics_of_logs
from components.base import Component
from runtime.pricing import price_of
from runtime.sagemaker.endpoints import Deployment, EndpointSpec, SharedInstances, Variant
from runtime.sagemaker.metrics import SHARED_VARIANT, log_group

# What is told to be text; anything else is captured in base64.
_TEXT_TYPES = ["application/json", "application/jsonlines"]


@dataclass(frozen=True, kw_only=True)
class EndpointArgs:
    """Arguments of Endpoint.

    Attributes:
        cloud: Account, region and names.
        spec: The endpoint.
        models: The stack's name of each model to SageMaker's.
        role_arn: Role of the containers.
        volume_key: ARN of the key of machines' volumes, if a type of the stack takes one.
        log_key: ARN of the key of logs.
        log_retention_days: How long logs are kept.
        prompts_bucket: Bucket for captured and asynchronous requests, if there is one.
        prompts_key: ARN of its key, if there is one.
        topic: ARN of the topic for asynchronous requests that failed.
        rollback_alarms: Names of the alarms that take an update back.
        tells_tokens: Whether its logs have vLLM's lines about tokens.
    """

    cloud: CloudAccount
    spec: EndpointSpec
    models: Mapping[str, pulumi.Input[str]]
    role_arn: pulumi.Input[str]
    volume_key: pulumi.Input[str] | None
    log_key: pulumi.Input[str]
    log_retention_days: int
    prompts_bucket: pulumi.Input[str] | None
    prompts_key: pulumi.Input[str] | None
    topic: pulumi.Input[str]
    rollback_alarms: Sequence[pulumi.Input[str]]
    tells_tokens: bool


class Endpoint(Component):
    """An endpoint whose name stays, and a configuration whose name is made up for each change.

    Configurations cannot be changed, so one with a fixed name could not be replaced.
    """

    name: pulumi.Output[str]
    endpoint: sagemaker.Endpoint

    def __init__(self, name: str, args: EndpointArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        spec = args.spec
        region = args.cloud.region
        declared = {
            "instanceTypes": list(spec.instance_types),
            "usdPerHour": {one: str(price_of(one, region).usd_per_hour) for one in spec.instance_types},
            "captures": spec.capture is not None,
        }
        super().__init__("aws:Endpoint", name, declared, opts)
        logs = container_logs(self, name, log_group(name), args.log_key, args.log_retention_days)
        if spec.shared is None:
            # Components have logs of their own.
            metrics_of_logs(self, name, args.cloud.name, logs, tells_tokens=args.tells_tokens)
        raw = spec.capture is not None and spec.capture.personal_data == "raw"
        configuration = sagemaker.EndpointConfiguration(
            name,
            production_variants=[_shared(spec.shared)]
            if spec.shared is not None
            else [_variant(one, args.models) for one in spec.live],
            shadow_production_variants=[_shadow(one, args.models) for one in spec.shadows] or None,
            # Components run in the endpoint's role; variants in that of their model.
            execution_role_arn=args.role_arn if spec.shared is not None else None,
            kms_key_arn=args.volume_key if spec.takes_volume_key else None,
            data_capture_config=_capture(name, args) if raw else None,
            async_inference_config=_asynchronous(name, args),
            opts=self.child(),
        )
        self.endpoint = sagemaker.Endpoint(
            name,
            name=name,
            endpoint_config_name=configuration.name,
            deployment_config=_deployment(spec, args.rollback_alarms),
            opts=self.child(depends_on=[logs]),
        )
        self.name = self.endpoint.name
        self.finish(name=self.endpoint.name)


def _variant(
    variant: Variant, models: Mapping[str, pulumi.Input[str]]
) -> sagemaker.EndpointConfigurationProductionVariantArgsDict:
    declared: sagemaker.EndpointConfigurationProductionVariantArgsDict = {
        "variant_name": variant.name,
        "model_name": models[variant.model],
        "instance_type": variant.instance_type,
        # An asynchronous variant may go down to none, but starts with one.
        "initial_instance_count": max(1, variant.replicas.min),
        "initial_variant_weight": variant.weight,
        "inference_ami_version": variant.operating_system,
        "routing_configs": [{"routing_strategy": "LEAST_OUTSTANDING_REQUESTS"}],
        "container_startup_health_check_timeout_in_seconds": variant.startup_seconds,
        "model_data_download_timeout_in_seconds": variant.download_seconds,
        "enable_ssm_access": False,
    }
    if variant.volume_gib is not None:
        declared["volume_size_in_gb"] = variant.volume_gib
    return declared


def _shadow(
    variant: Variant, models: Mapping[str, pulumi.Input[str]]
) -> sagemaker.EndpointConfigurationShadowProductionVariantArgsDict:
    declared: sagemaker.EndpointConfigurationShadowProductionVariantArgsDict = {
        "variant_name": variant.name,
        "model_name": models[variant.model],
        "instance_type": variant.instance_type,
        "initial_instance_count": variant.replicas.min,
        "initial_variant_weight": variant.weight,
        "inference_ami_version": variant.operating_system,
        "container_startup_health_check_timeout_in_seconds": variant.startup_seconds,
        "model_data_download_timeout_in_seconds": variant.download_seconds,
        "enable_ssm_access": False,
    }
    if variant.volume_gib is not None:
        declared["volume_size_in_gb"] = variant.volume_gib
    return declared


def _shared(shared: SharedInstances) -> sagemaker.EndpointConfigurationProductionVariantArgsDict:
    """Machines without a model, whose number SageMaker sets by the copies that are on them."""
    return {
        "variant_name": SHARED_VARIANT,
        "instance_type": shared.instance_type,
        "initial_instance_count": max(1, shared.instances.min),
        "inference_ami_version": shared.operating_system,
        "managed_instance_scaling": {
            "status": "ENABLED",
            "min_instance_count": shared.instances.min,
            "max_instance_count": shared.instances.max,
        },
        "routing_configs": [{"routing_strategy": "LEAST_OUTSTANDING_REQUESTS"}],
        "container_startup_health_check_timeout_in_seconds": shared.startup_seconds,
        "model_data_download_timeout_in_seconds": shared.download_seconds,
        "enable_ssm_access": False,
    }


def _capture(name: str, args: EndpointArgs) -> sagemaker.EndpointConfigurationDataCaptureConfigArgsDict:
    if args.spec.capture is None or args.prompts_bucket is None or args.prompts_key is None:
        raise AssertionError("there is a bucket where something is captured")
    return {
        "enable_capture": True,
        "initial_sampling_percentage": args.spec.capture.percent,
        "destination_s3_uri": pulumi.Output.format("s3://{0}/capture/{1}", args.prompts_bucket, name),
        "capture_options": [{"capture_mode": "Input"}, {"capture_mode": "Output"}],
        "capture_content_type_header": {"json_content_types": _TEXT_TYPES},
        "kms_key_id": args.prompts_key,
    }


def _asynchronous(
    name: str, args: EndpointArgs
) -> sagemaker.EndpointConfigurationAsyncInferenceConfigArgsDict | None:
    asynchronous = args.spec.asynchronous
    if asynchronous is None or args.prompts_bucket is None or args.prompts_key is None:
        return None
    where = pulumi.Output.format("s3://{0}/async/{1}", args.prompts_bucket, name)
    return {
        "client_config": {"max_concurrent_invocations_per_instance": asynchronous.concurrent_per_instance},
        "output_config": {
            "s3_output_path": pulumi.Output.concat(where, "/answers"),
            "s3_failure_path": pulumi.Output.concat(where, "/failures"),
            "kms_key_id": args.prompts_key,
            "notification_config": {"error_topic": args.topic},
        },
    }


def _deployment(
    spec: EndpointSpec, alarms: Sequence[pulumi.Input[str]]
) -> sagemaker.EndpointDeploymentConfigArgsDict | None:
    if spec.shared is not None:
        # Its machines have no model: components are updated, one by one.
        return None
    rollback: sagemaker.EndpointDeploymentConfigAutoRollbackConfigurationArgsDict = {
        "alarms": [{"alarm_name": alarm} for alarm in alarms]
    }
    if spec.deployment.strategy == "rolling":
        return {
            "auto_rollback_configuration": rollback,
            "rolling_update_policy": {
                "maximum_batch_size": {"type": "CAPACITY_PERCENT", "value": spec.deployment.part},
                "wait_interval_in_seconds": spec.deployment.bake_s,
                "maximum_execution_timeout_in_seconds": spec.deployment.timeout_s,
            },
        }
    return {
        "auto_rollback_configuration": rollback,
        "blue_green_update_policy": {
            "traffic_routing_configuration": _traffic(spec.deployment),
            "termination_wait_in_seconds": spec.deployment.keep_old_seconds,
            "maximum_execution_timeout_in_seconds": spec.deployment.timeout_s,
        },
    }


def _traffic(
    deployment: Deployment,
) -> sagemaker.EndpointDeploymentConfigBlueGreenUpdatePolicyTrafficRoutingConfigurationArgsDict:
    wait = deployment.bake_s
    if deployment.strategy == "canary":
        return {
            "type": "CANARY",
            "wait_interval_in_seconds": wait,
            "canary_size": {"type": "CAPACITY_PERCENT", "value": deployment.part},
        }
    if deployment.strategy == "linear":
        return {
            "type": "LINEAR",
            "wait_interval_in_seconds": wait,
            "linear_step_size": {"type": "CAPACITY_PERCENT", "value": deployment.part},
        }
    return {"type": "ALL_AT_ONCE", "wait_interval_in_seconds": wait}
