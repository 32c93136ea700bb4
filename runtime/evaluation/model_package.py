"""Renders a decision as a version in SageMaker's model registry: what was judged, how, and what came of it.

Source: botocore's model of CreateModelPackage, whose patterns the tests check the request against.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from runtime.digest import short_digest
from runtime.evaluation.gate import Decision, Outcome
from runtime.evaluation.results import ANALYSIS, MetricResult

Approval = Literal["Approved", "PendingManualApproval", "Rejected"]
APPROVALS: Mapping[Outcome, Approval] = {
    "promote": "Approved",
    "hold": "PendingManualApproval",
    "roll_back": "Rejected",
}
DECISION_KEY = "decision"

_LONGEST_KEY, _LONGEST_VALUE = 128, 256
_LONGEST_DESCRIPTION = 1024
_MOST_PROPERTIES = 50
_UNSUITABLE = re.compile(r"[^\w .:/=+\-@]")
_OF_CONTAINER = ("ContainerHostname", "Image", "Environment")
_OF_SOURCE = ("S3Uri", "S3DataType", "CompressionType")


def decision_digest(decision: Decision) -> str:
    """Stands for a decision, whenever it was made: for the same results and the same gate it is the same."""
    return short_digest(decision.model_dump(mode="json", exclude={"decided_at"}))


def description(decision: Decision) -> str:
    """The first words say which decision it is; the registry lists them without a look into each version."""
    lines = decision.lines()
    text = f"{decision_digest(decision)} {lines[0]}; {'; '.join(line.strip() for line in lines[1:])}"
    return text if len(text) <= _LONGEST_DESCRIPTION else text[: _LONGEST_DESCRIPTION - 1] + "…"


def request(
    decision: Decision, group: str, containers: Sequence[Mapping[str, Any]], results_uri: str | None
) -> dict[str, Any]:
    """The request of CreateModelPackage. Sent twice, it makes one version.

    Args:
        decision: The decision.
        group: The group of the served model.
        containers: Those of the SageMaker model that serves it, as DescribeModel has them.
        results_uri: `s3://` prefix of the results; None where they are in a folder.
    """
    content: dict[str, Any] = {
        "ModelPackageGroupName": group,
        "ModelPackageDescription": description(decision),
        "ModelApprovalStatus": APPROVALS[decision.outcome],
        "InferenceSpecification": {"Containers": [_container(one) for one in containers]},
        "CustomerMetadataProperties": _properties(decision, results_uri),
        "ClientToken": f"spillway-{short_digest([group, decision_digest(decision)])}",
    }
    if results_uri is not None:
        statistics = {"ContentType": "application/json", "S3Uri": f"{results_uri.rstrip('/')}/{ANALYSIS}"}
        content["ModelMetrics"] = {"ModelQuality": {"Statistics": statistics}}
    return content


def _container(described: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: described[key] for key in _OF_CONTAINER if described.get(key)}
    of_model: Mapping[str, Any] = described.get("ModelDataSource") or {}
    source: Mapping[str, Any] = of_model.get("S3DataSource") or {}
    if source:
        kept["ModelDataSource"] = {
            "S3DataSource": {key: source[key] for key in _OF_SOURCE if source.get(key)}
        }
    return kept


def _properties(decision: Decision, results_uri: str | None) -> dict[str, str]:
    found = {
        DECISION_KEY: decision_digest(decision),
        "model": decision.model,
        "revision": decision.revision,
        "outcome": decision.outcome,
        "decidedAt": decision.decided_at,
        "baseline": decision.baseline or "none",
        "job": decision.results.job,
        "dataset": decision.results.dataset,
        "records": str(decision.results.records),
        "failed": str(decision.results.failed),
        **({"results": results_uri} if results_uri else {}),
    }
    # Those that the gate asks about come first, in case there are more than the registry takes.
    judged = [one.metric for one in decision.policy.thresholds]
    metrics = decision.results.metrics
    for name in dict.fromkeys([*(one for one in judged if one in metrics), *metrics]):
        found[f"metric.{name}"] = _shown(metrics[name])
    return {
        _suitable(key, _LONGEST_KEY): _suitable(value, _LONGEST_VALUE)
        for key, value in list(found.items())[:_MOST_PROPERTIES]
    }


def _shown(metric: MetricResult) -> str:
    if metric.low is None or metric.high is None:
        return f"{metric.value:.6g}"
    return f"{metric.value:.6g} from {metric.low:.6g} to {metric.high:.6g}"


def _suitable(text: str, longest: int) -> str:
    return _UNSUITABLE.sub("-", text)[:longest]
