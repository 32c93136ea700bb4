"""Who is told when an endpoint is amiss: topic, alarms, the alarm over alarms, the dashboard."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi_aws import cloudwatch, sns

from components.aws.account import CloudAccount
from components.aws.policies import alarm_publisher
from components.base import Component
from runtime.sagemaker.alarms import Alarm


@dataclass(frozen=True, kw_only=True)
class AlertsArgs:
    """Arguments of Alerts.

    Attributes:
        cloud: Account, region and names.
        emails: Who is told.
        key: ARN of the key that encrypts what is on its way.
    """

    cloud: CloudAccount
    emails: Sequence[str]
    key: pulumi.Input[str]


class Alerts(Component):
    """The topic that alarms publish to. Each e-mail address has to confirm once."""

    topic: pulumi.Output[str]

    def __init__(self, name: str, args: AlertsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("aws:Alerts", name, {"emails": len(args.emails)}, opts)
        topic = sns.Topic(name, name=name, kms_master_key_id=args.key, opts=self.child())
        account = args.cloud.account
        sns.TopicPolicy(
            name,
            arn=topic.arn,
            policy=topic.arn.apply(lambda arn: alarm_publisher(arn, account)),
            opts=self.child(),
        )
        for email in args.emails:
            sns.TopicSubscription(
                f"{name}-{email.replace('@', '-at-')}",
                topic=topic.arn,
                protocol="email",
                endpoint=email,
                opts=self.child(),
            )
        self.topic = topic.arn
        self.finish(topic=topic.arn)


@dataclass(frozen=True, kw_only=True)
class EndpointAlarmsArgs:
    """Arguments of EndpointAlarms.

    Attributes:
        endpoint_name: The endpoint's name. The alarms are there before it.
        alarms: The alarms.
        topic: ARN of the topic.
    """

    endpoint_name: str
    alarms: Sequence[Alarm]
    topic: pulumi.Input[str]


class EndpointAlarms(Component):
    """Alarms on one endpoint, and one over those that say that clients get no or late answers."""

    rollback: list[pulumi.Output[str]]

    def __init__(
        self, name: str, args: EndpointAlarmsArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("aws:EndpointAlarms", name, {"alarms": [one.key for one in args.alarms]}, opts)
        made = {one.key: self._alarm(args, one) for one in args.alarms}
        unhealthy = [made[one.key] for one in args.alarms if one.takes_back]
        self.rollback = [one.name for one in unhealthy]
        cloudwatch.CompositeAlarm(
            f"{args.endpoint_name}-unhealthy",
            alarm_name=f"{args.endpoint_name}-unhealthy",
            alarm_description=f"Clients of {args.endpoint_name} get errors or wait.",
            alarm_rule=pulumi.Output.all(*self.rollback).apply(
                lambda names: " OR ".join(f'ALARM("{one}")' for one in names)
            ),
            alarm_actions=[args.topic],
            opts=self.child(),
        )
        self.finish()

    def _alarm(self, args: EndpointAlarmsArgs, alarm: Alarm) -> cloudwatch.MetricAlarm:
        name = f"{args.endpoint_name}-{alarm.key}"
        measured = _of_many(alarm) if alarm.expression else _of_one(alarm)
        return cloudwatch.MetricAlarm(
            name,
            cloudwatch.MetricAlarmArgs(
                name=name,
                alarm_description=alarm.says,
                comparison_operator=alarm.comparison,
                threshold=alarm.threshold,
                evaluation_periods=alarm.periods,
                treat_missing_data=alarm.missing,
                # What the alarm over alarms tells, it tells once.
                alarm_actions=[] if alarm.takes_back else [args.topic],
                metric_queries=measured.queries,
                namespace=measured.namespace,
                metric_name=measured.metric_name,
                dimensions=measured.dimensions,
                statistic=measured.statistic,
                extended_statistic=measured.percentile,
                period=measured.period,
            ),
            opts=self.child(),
        )


@dataclass(frozen=True, kw_only=True)
class _Measured:
    queries: list[cloudwatch.MetricAlarmMetricQueryArgs] | None = None
    namespace: str | None = None
    metric_name: str | None = None
    dimensions: dict[str, str] | None = None
    statistic: str | None = None
    percentile: str | None = None
    period: int | None = None


def _of_one(alarm: Alarm) -> _Measured:
    (metric,) = alarm.metrics.values()
    percentile = alarm.statistic.startswith("p")
    return _Measured(
        namespace=metric.namespace,
        metric_name=metric.name,
        dimensions=dict(metric.dimensions),
        statistic=None if percentile else alarm.statistic,
        percentile=alarm.statistic if percentile else None,
        period=alarm.period_s,
    )


def _of_many(alarm: Alarm) -> _Measured:
    result = cloudwatch.MetricAlarmMetricQueryArgs(
        id="result", expression=alarm.expression, label=alarm.says, return_data=True
    )
    return _Measured(
        queries=[
            result,
            *(
                cloudwatch.MetricAlarmMetricQueryArgs(
                    id=name,
                    metric=cloudwatch.MetricAlarmMetricQueryMetricArgs(
                        namespace=metric.namespace,
                        metric_name=metric.name,
                        dimensions=dict(metric.dimensions),
                        stat=alarm.statistics.get(name, alarm.statistic),
                        period=alarm.period_s,
                    ),
                )
                for name, metric in alarm.metrics.items()
            ),
        ]
    )
