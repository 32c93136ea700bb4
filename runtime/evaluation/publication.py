"""Renders a result for CloudWatch, so that alarms and dashboards can be made of it."""

import datetime
from collections.abc import Sequence
from typing import Any

from runtime.evaluation.gate import Decision
from runtime.evaluation.results import EvaluationResult

NAMESPACE = "Spillway/Evaluation"
# PutMetricData takes 1000 values in a request; no job has so many metrics.


def metric_data(
    result: EvaluationResult, decision: Decision | None, at: datetime.datetime
) -> Sequence[dict[str, Any]]:
    """What PutMetricData is sent.

    Each metric has the dimensions Model, Revision and Dataset; `low` and `high` are metrics of their own, so
    that an alarm can be on the bound. `Promote` is 1, 0 or -1 for promote, hold and roll back.

    Args:
        result: What an evaluation came to.
        decision: What the gate said; None if it was not asked.
        at: When, with its time zone.
    """
    values = {"Records": float(result.records), "FailedRecords": float(result.failed)}
    for name, metric in result.metrics.items():
        bounds = {"": metric.value, ".low": metric.low, ".high": metric.high}
        values |= {f"{name}{suffix}": bound for suffix, bound in bounds.items() if bound is not None}
    if decision is not None:
        values["Promote"] = {"promote": 1.0, "hold": 0.0, "roll_back": -1.0}[decision.outcome]
    dimensions = [
        {"Name": "Model", "Value": result.model},
        {"Name": "Revision", "Value": result.revision},
        {"Name": "Dataset", "Value": result.dataset.removeprefix("sha256:")[:12]},
    ]
    return [
        {"MetricName": name, "Dimensions": dimensions, "Timestamp": at, "Value": value, "Unit": "None"}
        for name, value in values.items()
    ]
