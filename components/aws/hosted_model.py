"""A model as SageMaker knows it: containers, weights in the bucket, and no network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pulumi
from pulumi_aws import sagemaker

from components.base import Component
from runtime.sagemaker.containers import container_environment, weights_uri
from runtime.sagemaker.models import EndpointModel, PipelineContainer


@dataclass(frozen=True, kw_only=True)
class HostedModelArgs:
    """Arguments of HostedModel.

    Attributes:
        model: The model.
        bucket: Name of the bucket with the weights.
        image_of: Where an image of the stack file is pulled from.
        role_arn: Role of the containers.
        subnets: Private subnets.
        security_group_id: Group of the containers.
    """

    model: EndpointModel
    bucket: str
    image_of: Callable[[str], str]
    role_arn: pulumi.Input[str]
    subnets: Mapping[str, pulumi.Input[str]]
    security_group_id: pulumi.Input[str]


class HostedModel(Component):
    """One container, or several in a row on the same machine.

    Its name is made up: a changed model is another one, so that endpoints see the change and can go back.
    """

    name: pulumi.Output[str]

    def __init__(self, name: str, args: HostedModelArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        model = args.model
        declared = {
            "model": model.name,
            "servedName": model.model_id,
            "accelerator": model.accelerator,
            "container": model.container,
        }
        super().__init__("aws:HostedModel", name, declared, opts)
        own = _container(args)
        made = sagemaker.Model(
            name,
            execution_role_arn=args.role_arn,
            primary_container=None if model.is_pipeline else own,
            containers=_pipeline(args, own) if model.is_pipeline else None,
            inference_execution_config={"mode": "Serial"} if model.is_pipeline else None,
            enable_network_isolation=True,
            vpc_config={
                "subnets": list(args.subnets.values()),
                "security_group_ids": [args.security_group_id],
            },
            opts=self.child(),
        )
        self.name = made.name
        self.finish(name=made.name)


def _container(args: HostedModelArgs) -> sagemaker.ModelContainerArgsDict:
    model = args.model
    if model.image is None:
        raise AssertionError("EndpointModel lets no model through without an image")
    container: sagemaker.ModelContainerArgsDict = {
        "image": args.image_of(model.image),
        "environment": container_environment(model),
    }
    if model.is_pipeline:
        container["container_hostname"] = "model"
    uri = weights_uri(model, args.bucket)
    if uri is not None:
        container["model_data_source"] = {
            "s3_data_sources": [
                # A folder as it is: an archive would be unpacked first, and a large one for an hour.
                {"s3_uri": uri, "s3_data_type": "S3Prefix", "compression_type": "None"}
            ]
        }
    return container


def _pipeline(
    args: HostedModelArgs, own: sagemaker.ModelContainerArgsDict
) -> list[sagemaker.ModelContainerArgsDict]:
    def beside(one: PipelineContainer) -> sagemaker.ModelContainerArgsDict:
        return {
            "image": args.image_of(one.image),
            "environment": dict(one.environment),
            "container_hostname": one.name,
        }

    model = args.model
    return [*(beside(one) for one in model.before), own, *(beside(one) for one in model.after)]
