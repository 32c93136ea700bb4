"""Who is told when the gateway is amiss: nothing answers, or too many answers are errors."""

from dataclasses import dataclass

import pulumi
from pulumi_aws import cloudwatch

from components.aws.gateway_entrance import GatewayEntrance
from components.base import Component
from runtime.sagemaker.metrics import log_namespace
from runtime.sagemaker_gateway.refusal import BROKEN_OUTCOMES

_PERIOD_S = 300
# Below so many requests in five minutes a ratio says nothing.
_ENOUGH_REQUESTS = 20


@dataclass(frozen=True, kw_only=True)
class GatewayAlarmsArgs:
    """Arguments of GatewayAlarms.

    Attributes:
        platform: The platform's name, which the metrics of its logs are under.
        entrance: The load balancer that sees who is healthy.
        access_log: Log group of Envoy: a line of JSON for each request, with its status.
        adapter_log: Log group of the adapter: such lines too, with what became of the answer, and a report
            each minute.
        captures: Whether the adapter keeps masked copies.
        error_percent: Answers of 500 and above, in percent of all, over five minutes.
        topic: ARN of the topic for alerts.
    """

    platform: str
    entrance: GatewayEntrance
    access_log: pulumi.Input[str]
    adapter_log: pulumi.Input[str]
    captures: bool
    error_percent: float
    topic: pulumi.Input[str]


class GatewayAlarms(Component):
    """Two alarms on the gateway, and a third on lost copies where it keeps some.

    A network load balancer does not look into requests and has no metric of errors. So they are read out of
    Envoy's access log, which has those of the endpoints and of the adapter too. An answer that fails after it
    began has status 200 there; it is read out of the adapter's log, and is an error like the others.
    """

    def __init__(
        self, name: str, args: GatewayAlarmsArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("aws:GatewayAlarms", name, {"errorPercent": args.error_percent}, opts)
        self._name, self._args = name, args
        cloudwatch.MetricAlarm(
            f"{name}-no-task",
            name=f"{name}-no-task",
            alarm_description="The gateway has no healthy task: clients get no answer.",
            namespace="AWS/NetworkELB",
            metric_name="HealthyHostCount",
            dimensions={
                "LoadBalancer": args.entrance.arn_suffix,
                "TargetGroup": args.entrance.target_group_suffix,
            },
            # The load balancer of each zone counts; with requests across zones the best of them tells.
            statistic="Maximum",
            comparison_operator="LessThanThreshold",
            threshold=1,
            period=60,
            evaluation_periods=2,
            treat_missing_data="breaching",
            alarm_actions=[args.topic],
            opts=self.child(),
        )
        self._counted("requests", "requests", args.access_log, "{ $.status = * }")
        self._counted("errors", "errors", args.access_log, "{ $.status >= 500 }")
        broken = " || ".join(f'($.outcome = "{one}")' for one in sorted(BROKEN_OUTCOMES))
        self._counted("broken", "errors", args.adapter_log, f"{{ ($.status = 200) && ({broken}) }}")
        cloudwatch.MetricAlarm(
            f"{name}-errors",
            name=f"{name}-errors",
            alarm_description=f"Of the gateway's answers more than {args.error_percent:g} % are errors.",
            comparison_operator="GreaterThanThreshold",
            threshold=args.error_percent,
            evaluation_periods=1,
            treat_missing_data="notBreaching",
            metric_queries=[
                cloudwatch.MetricAlarmMetricQueryArgs(
                    id="percent",
                    expression=f"IF(requests >= {_ENOUGH_REQUESTS}, 100 * FILL(errors, 0) / requests, 0)",
                    label="Errors in percent",
                    return_data=True,
                ),
                *(self._query(what) for what in ("requests", "errors")),
            ],
            alarm_actions=[args.topic],
            opts=self.child(),
        )
        if args.captures:
            self._watch_copies()
        self.finish()

    def _watch_copies(self) -> None:
        name, args = self._name, self._args
        for what in ("kept", "lost"):
            self._counted(
                f"copies-{what}",
                f"copies-{what}",
                args.adapter_log,
                f"{{ $.copies_{what} > 0 }}",
                f"$.copies_{what}",
            )
        cloudwatch.MetricAlarm(
            f"{name}-copies-lost",
            name=f"{name}-copies-lost",
            alarm_description="Masked copies of prompts and answers are lost; the adapter's log says why.",
            namespace=log_namespace(args.platform),
            metric_name="gateway-copies-lost",
            statistic="Sum",
            comparison_operator="GreaterThanThreshold",
            threshold=0,
            period=_PERIOD_S,
            evaluation_periods=1,
            treat_missing_data="notBreaching",
            alarm_actions=[args.topic],
            opts=self.child(),
        )

    def _counted(self, name: str, what: str, log: pulumi.Input[str], pattern: str, value: str = "1") -> None:
        cloudwatch.LogMetricFilter(
            f"{self._name}-{name}",
            name=f"{self._name}-{name}",
            log_group_name=log,
            pattern=pattern,
            metric_transformation={
                "name": f"gateway-{what}",
                "namespace": log_namespace(self._args.platform),
                "value": value,
            },
            opts=self.child(),
        )

    def _query(self, what: str) -> cloudwatch.MetricAlarmMetricQueryArgs:
        return cloudwatch.MetricAlarmMetricQueryArgs(
            id=what,
            metric=cloudwatch.MetricAlarmMetricQueryMetricArgs(
                namespace=log_namespace(self._args.platform),
                metric_name=f"gateway-{what}",
                stat="Sum",
                period=_PERIOD_S,
            ),
        )
