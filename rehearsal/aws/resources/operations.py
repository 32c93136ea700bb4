"""Logs, messages, alarms and budgets, made in moto: what operations read."""

# Every handler has the same methods, with all parameters, needed or not.
# ruff: noqa: ARG002

from rehearsal.aws.resources.kind import Aws, Properties, first, given, items, kind, name_of, part


class LogGroup:
    """aws.cloudwatch.LogGroup. Its id is its name."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes one."""
        name = name_of(inputs)
        aws.client("logs").create_log_group(
            logGroupName=name, tags=part(inputs, "tags"), **given(inputs, kmsKeyId="kmsKeyId")
        )
        self._keep(aws, name, inputs)
        return name

    def _keep(self, aws: Aws, name: str, inputs: Properties) -> None:
        if inputs.get("retentionInDays"):
            days = int(inputs["retentionInDays"])
            aws.client("logs").put_retention_policy(logGroupName=name, retentionInDays=days)

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Finds it by its name."""
        found = aws.client("logs").describe_log_groups(logGroupNamePrefix=id_)["logGroups"]
        group = first([item for item in found if item["logGroupName"] == id_])
        return {
            "name": id_,
            "arn": group["arn"].removesuffix(":*"),
            "retentionInDays": group.get("retentionInDays", 0),
            "logGroupClass": "STANDARD",
        }

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Changes how long lines are kept."""
        self._keep(aws, id_, new)

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it, or leaves it where it is to be kept."""
        if not known.get("skipDestroy"):
            aws.client("logs").delete_log_group(logGroupName=id_)


class Topic:
    """aws.sns.Topic. Its id is its ARN."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes one."""
        return str(aws.client("sns").create_topic(Name=name_of(inputs))["TopicArn"])

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Asks for its attributes."""
        attributes = aws.client("sns").get_topic_attributes(TopicArn=id_)["Attributes"]
        return {
            "name": id_.rpartition(":")[2],
            "arn": id_,
            "owner": aws.account,
            "policy": known.get("policy") or attributes["Policy"],
        }

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Attributes are in the state only."""

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it."""
        aws.client("sns").delete_topic(TopicArn=id_)


class Queue:
    """aws.sqs.Queue. Its id is its URL."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes one."""
        return str(aws.client("sqs").create_queue(QueueName=name_of(inputs))["QueueUrl"])

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Asks for its ARN."""
        wanted = aws.client("sqs").get_queue_attributes(QueueUrl=id_, AttributeNames=["QueueArn"])
        arn = wanted["Attributes"]["QueueArn"]
        return {"name": arn.rpartition(":")[2], "arn": arn, "url": id_}

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Attributes are in the state only."""

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it."""
        aws.client("sqs").delete_queue(QueueUrl=id_)


class MetricAlarm:
    """aws.cloudwatch.MetricAlarm. Its id is its name. moto does not evaluate it."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes one."""
        name = name_of(inputs)
        self._put(aws, name, inputs)
        return name

    def _put(self, aws: Aws, name: str, inputs: Properties) -> None:
        numbers = given(inputs, EvaluationPeriods="evaluationPeriods", Period="period")
        aws.client("cloudwatch").put_metric_alarm(
            AlarmName=name,
            **{key: int(value) for key, value in numbers.items()},
            **_measured(inputs),
            **given(
                inputs,
                AlarmDescription="alarmDescription",
                ComparisonOperator="comparisonOperator",
                MetricName="metricName",
                Namespace="namespace",
                Statistic="statistic",
                ExtendedStatistic="extendedStatistic",
                Threshold="threshold",
                TreatMissingData="treatMissingData",
                AlarmActions="alarmActions",
            ),
        )

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Finds it by its name."""
        alarm = first(aws.client("cloudwatch").describe_alarms(AlarmNames=[id_])["MetricAlarms"])
        return {"name": id_, "arn": alarm["AlarmArn"]}

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Puts it anew."""
        self._put(aws, id_, new)

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it."""
        aws.client("cloudwatch").delete_alarms(AlarmNames=[id_])


def _dimensions(inputs: Properties) -> list[dict[str, str]]:
    return [{"Name": key, "Value": value} for key, value in part(inputs, "dimensions").items()]


def _measured(inputs: Properties) -> Properties:
    """What an alarm looks at: one metric with its dimensions, or several and an expression."""
    queries = [
        {
            **given(one, Id="id", Expression="expression", Label="label"),
            "ReturnData": bool(one.get("returnData")),
            **({"MetricStat": _statistic(part(one, "metric"))} if one.get("metric") else {}),
        }
        for one in items(inputs, "metricQueries")
    ]
    dimensions = _dimensions(inputs)
    return {
        **({"Metrics": queries} if queries else {}),
        **({"Dimensions": dimensions} if dimensions else {}),
    }


def _statistic(metric: Properties) -> Properties:
    named = {
        **given(metric, MetricName="metricName", Namespace="namespace"),
        "Dimensions": _dimensions(metric),
    }
    return {"Metric": named, "Period": int(metric["period"]), "Stat": metric["stat"]}


class Dashboard:
    """aws.cloudwatch.Dashboard. Its id is its name."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes one."""
        self.update(aws, "", {}, inputs)
        return str(inputs["dashboardName"])

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Asks for it."""
        found = aws.client("cloudwatch").get_dashboard(DashboardName=id_)
        return {"dashboardName": id_, "dashboardArn": found["DashboardArn"]}

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Puts it anew."""
        aws.client("cloudwatch").put_dashboard(
            DashboardName=new["dashboardName"], DashboardBody=new["dashboardBody"]
        )

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it."""
        aws.client("cloudwatch").delete_dashboards(DashboardNames=[id_])


class LogMetricFilter:
    """aws.cloudwatch.LogMetricFilter. Its id is its name."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes one."""
        name = name_of(inputs)
        self._put(aws, name, inputs)
        return name

    def _put(self, aws: Aws, name: str, inputs: Properties) -> None:
        made = part(inputs, "metricTransformation")
        named = given(made, metricName="name", metricNamespace="namespace", metricValue="value", unit="unit")
        aws.client("logs").put_metric_filter(
            logGroupName=inputs["logGroupName"],
            filterName=name,
            filterPattern=inputs["pattern"],
            metricTransformations=[named],
        )

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Finds it by its name."""
        asked = given(known, logGroupName="logGroupName")
        found = aws.client("logs").describe_metric_filters(filterNamePrefix=id_, **asked)["metricFilters"]
        one = first([item for item in found if item["filterName"] == id_])
        return {"name": id_, "logGroupName": one["logGroupName"], "pattern": one["filterPattern"]}

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Puts it anew; moto would keep the first."""
        self.delete(aws, id_, old)
        self._put(aws, id_, new)

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it."""
        aws.client("logs").delete_metric_filter(logGroupName=known["logGroupName"], filterName=id_)


class Budget:
    """aws.budgets.Budget. Its id is `account:name`. Notifications are kept in the state only."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes one."""
        name = name_of(inputs)
        aws.client("budgets").create_budget(AccountId=aws.account, Budget=self._budget(name, inputs))
        return f"{aws.account}:{name}"

    def _budget(self, name: str, inputs: Properties) -> Properties:
        return {
            "BudgetName": name,
            "BudgetType": inputs["budgetType"],
            "TimeUnit": inputs["timeUnit"],
            "BudgetLimit": {"Amount": inputs["limitAmount"], "Unit": inputs.get("limitUnit") or "USD"},
        }

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it."""
        account, _, name = id_.partition(":")
        budget = aws.client("budgets").describe_budget(AccountId=account, BudgetName=name)["Budget"]
        amount = str(budget["BudgetLimit"]["Amount"])
        same = known.get("limitAmount") and float(known["limitAmount"]) == float(amount)
        return {
            "name": name,
            "accountId": account,
            "arn": f"arn:aws:budgets::{account}:budget/{name}",
            "limitAmount": known["limitAmount"] if same else amount,
            "limitUnit": budget["BudgetLimit"]["Unit"],
        }

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Changes the limit."""
        account, _, name = id_.partition(":")
        aws.client("budgets").update_budget(AccountId=account, NewBudget=self._budget(name, new))

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it."""
        account, _, name = id_.partition(":")
        aws.client("budgets").delete_budget(AccountId=account, BudgetName=name)


KINDS = (
    kind(
        "aws:cloudwatch/logGroup:LogGroup",
        LogGroup(),
        "name namePrefix logGroupClass",
        "logs.PutRetentionPolicy",
        name_length=512,
    ),
    kind(
        "aws:sns/topic:Topic", Topic(), "name namePrefix fifoTopic", "sns.SetTopicAttributes", name_length=256
    ),
    kind(
        "aws:sqs/queue:Queue", Queue(), "name namePrefix fifoQueue", "sqs.SetQueueAttributes", name_length=80
    ),
    kind(
        "aws:cloudwatch/metricAlarm:MetricAlarm",
        MetricAlarm(),
        "name",
        "cloudwatch.PutMetricAlarm",
        name_length=255,
    ),
    kind(
        "aws:cloudwatch/dashboard:Dashboard",
        Dashboard(),
        "dashboardName",
        "cloudwatch.PutDashboard",
    ),
    kind(
        "aws:cloudwatch/logMetricFilter:LogMetricFilter",
        LogMetricFilter(),
        "name logGroupName",
        "logs.PutMetricFilter",
        name_length=512,
    ),
    kind(
        "aws:budgets/budget:Budget",
        Budget(),
        "name namePrefix accountId",
        "budgets.UpdateBudget",
        name_length=100,
    ),
)
