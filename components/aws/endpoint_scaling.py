"""How many machines a variant has, or copies a component: by requests at a time, by the clock, from none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pulumi
from pulumi_aws import appautoscaling, cloudwatch

from components.base import Component
from runtime.model import Replicas
from runtime.sagemaker.endpoints import SizeSchedule
from runtime.sagemaker.metrics import INVOCATIONS

Kind = Literal["variant", "asynchronous", "component"]

_MACHINES, _COPIES = (
    "sagemaker:variant:DesiredInstanceCount",
    "sagemaker:inference-component:DesiredCopyCount",
)
# Requests that run, counted every ten seconds: those that a model works on for a minute show at once,
# while requests a minute would not.
_RUNNING = {
    "variant": "SageMakerVariantConcurrentRequestsPerModelHighResolution",
    "component": "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution",
}
_LONGEST_WAKE_S = 300


@dataclass(frozen=True, kw_only=True)
class EndpointScalingArgs:
    """Arguments of EndpointScaling.

    Attributes:
        kind: What is scaled: a variant of live requests, one of requests in the bucket, or a component.
        endpoint_name: The endpoint's name.
        part: The variant's or component's name in SageMaker.
        sizes: How many at least and at most.
        schedules: Other sizes at certain times.
        target: Requests that one machine or copy works on at a time, before another is added.
        scale_out_s: Seconds after one was added.
        scale_in_s: Seconds before one is taken away.
        hardware: Its instance type. Another one makes the scaling anew, as SageMaker asks.
        accelerator: What its devices are.
        devices: How many of them one machine or copy has.
        topic: ARN of the topic for alerts.
    """

    kind: Kind
    endpoint_name: str
    part: str
    sizes: Replicas
    schedules: Sequence[SizeSchedule]
    target: int
    scale_out_s: int
    scale_in_s: int
    hardware: str
    accelerator: str
    devices: int
    topic: pulumi.Input[str]


class EndpointScaling(Component):
    """Application Auto Scaling of one variant or component.

    It is made after what it scales and goes before it. What may be none at rest has a second policy: the
    first request finds nothing to count requests on, and fails until the first copy has started.
    """

    def __init__(
        self, name: str, args: EndpointScalingArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        declared = {
            "accelerator": args.accelerator,
            "acceleratorsPerCopy": args.devices,
            "minReplicas": args.sizes.min,
            "maxReplicas": args.sizes.max,
        }
        super().__init__("aws:EndpointScaling", name, declared, opts)
        component = args.kind == "component"
        where = (
            f"inference-component/{args.part}"
            if component
            else f"endpoint/{args.endpoint_name}/variant/{args.part}"
        )
        self._target = appautoscaling.Target(
            name,
            service_namespace="sagemaker",
            resource_id=where,
            scalable_dimension=_COPIES if component else _MACHINES,
            min_capacity=args.sizes.min,
            max_capacity=args.sizes.max,
            opts=self.child(delete_before_replace=True, replacement_trigger=args.hardware),
        )
        if args.sizes.min < args.sizes.max:
            self._by_requests(name, args)
        if args.sizes.min == 0:
            self._from_none(name, args)
        for one in args.schedules:
            appautoscaling.ScheduledAction(
                f"{name}-{one.name}",
                name=f"{name}-{one.name}",
                service_namespace=self._target.service_namespace,
                resource_id=self._target.resource_id,
                scalable_dimension=self._target.scalable_dimension,
                schedule=one.at,
                timezone=one.timezone,
                scalable_target_action={"min_capacity": one.min, "max_capacity": one.max},
                opts=self.child(),
            )
        self.finish(resourceId=self._target.resource_id)

    def _by_requests(self, name: str, args: EndpointScalingArgs) -> None:
        measured: appautoscaling.PolicyTargetTrackingScalingPolicyConfigurationArgsDict = {
            "target_value": args.target,
            "scale_out_cooldown": args.scale_out_s,
            "scale_in_cooldown": args.scale_in_s,
        }
        if args.kind == "asynchronous":
            measured["customized_metric_specification"] = {
                "namespace": INVOCATIONS,
                "metric_name": "ApproximateBacklogSizePerInstance",
                "statistic": "Average",
                "dimensions": [{"name": "EndpointName", "value": args.endpoint_name}],
            }
        else:
            measured["predefined_metric_specification"] = {"predefined_metric_type": _RUNNING[args.kind]}
        appautoscaling.Policy(
            f"{name}-requests",
            name=f"{name}-requests",
            policy_type="TargetTrackingScaling",
            service_namespace=self._target.service_namespace,
            resource_id=self._target.resource_id,
            scalable_dimension=self._target.scalable_dimension,
            target_tracking_scaling_policy_configuration=measured,
            opts=self.child(),
        )

    def _from_none(self, name: str, args: EndpointScalingArgs) -> None:
        wake = appautoscaling.Policy(
            f"{name}-first",
            name=f"{name}-first",
            policy_type="StepScaling",
            service_namespace=self._target.service_namespace,
            resource_id=self._target.resource_id,
            scalable_dimension=self._target.scalable_dimension,
            step_scaling_policy_configuration={
                "adjustment_type": "ChangeInCapacity",
                "metric_aggregation_type": "Maximum",
                "cooldown": _LONGEST_WAKE_S,
                "step_adjustments": [{"metric_interval_lower_bound": "0", "scaling_adjustment": 1}],
            },
            opts=self.child(),
        )
        component = args.kind == "component"
        cloudwatch.MetricAlarm(
            f"{name}-no-capacity",
            name=f"{name}-no-capacity",
            alarm_description="A request found nothing that runs and could answer it; the first is started.",
            namespace=INVOCATIONS,
            metric_name="NoCapacityInvocationFailures" if component else "HasBacklogWithoutCapacity",
            dimensions={"InferenceComponentName": args.part}
            if component
            else {"EndpointName": args.endpoint_name},
            statistic="Maximum",
            comparison_operator="GreaterThanOrEqualToThreshold",
            threshold=1,
            period=60,
            evaluation_periods=1,
            treat_missing_data="missing",
            alarm_actions=[wake.arn, args.topic],
            opts=self.child(),
        )
