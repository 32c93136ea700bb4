"""Models on shared machines: inference components, by Cloud Control."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi_aws import cloudcontrol

from components.aws.container_logs import container_logs, metrics_of_logs
from components.base import Component
from runtime.sagemaker.endpoints import Component as ComponentSpec
from runtime.sagemaker.endpoints import SharedInstances
from runtime.sagemaker.inference_component import TYPE_NAME, desired_state
from runtime.sagemaker.metrics import component_log_group
from runtime.sagemaker.models import EndpointModel


@dataclass(frozen=True, kw_only=True)
class InferenceComponentArgs:
    """Arguments of InferenceComponent.

    Attributes:
        endpoint_name: The endpoint's name, as its output, so that it is there first and goes last.
        component: What the stack file says of it.
        shared: The machines that it is on.
        model: The model.
        model_name: SageMaker's name of the model.
        tags: Tags, which the provider's defaults do not bring to it.
        platform: The platform's name, which the metrics of its log are under.
        log_key: ARN of the key of its log.
        log_retention_days: How long that is kept.
    """

    endpoint_name: pulumi.Input[str]
    component: ComponentSpec
    shared: SharedInstances
    model: EndpointModel
    model_name: pulumi.Input[str]
    tags: Mapping[str, str]
    platform: str
    log_key: pulumi.Input[str]
    log_retention_days: int


class InferenceComponent(Component):
    """A model with a part of the shared machines for each copy, and the log of all its copies."""

    def __init__(
        self, name: str, args: InferenceComponentArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        sizes = args.component.copies
        declared = {"model": args.model.name, "copies": {"min": sizes.min, "max": sizes.max}}
        super().__init__("aws:InferenceComponent", name, declared, opts)

        def state(known: list[str]) -> str:
            return desired_state(
                name=name,
                endpoint_name=known[0],
                model_name=known[1],
                component=args.component,
                shared=args.shared,
                model=args.model,
                tags=args.tags,
            )

        logs = container_logs(self, name, component_log_group(name), args.log_key, args.log_retention_days)
        metrics_of_logs(self, name, args.platform, logs, tells_tokens=args.model.container == "vllm")
        made = cloudcontrol.Resource(
            name,
            type_name=TYPE_NAME,
            desired_state=pulumi.Output.all(args.endpoint_name, args.model_name).apply(state),
            opts=self.child(depends_on=[logs]),
        )
        self.finish(id=made.id)
