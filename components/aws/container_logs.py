"""The log of containers on SageMaker, and the metrics that are read out of it."""

import pulumi
from pulumi_aws import cloudwatch

from components.base import Component
from runtime.sagemaker.metrics import OUT_OF_MEMORY_PATTERN, TOKENS_PATTERN, log_namespace


def container_logs(
    component: Component, name: str, group_name: str, key: pulumi.Input[str], retention_days: int
) -> cloudwatch.LogGroup:
    """The group that SageMaker would make itself, without an end and without a key.

    Args:
        component: Whose child it is.
        name: What writes to it: an endpoint or an inference component.
        group_name: What CloudWatch calls it.
        key: ARN of the key that encrypts it.
        retention_days: How long it is kept.
    """
    return cloudwatch.LogGroup(
        f"{name}-logs",
        name=group_name,
        retention_in_days=retention_days,
        kms_key_id=key,
        opts=component.child(),
    )


def metrics_of_logs(
    component: Component, name: str, platform: str, group: cloudwatch.LogGroup, *, tells_tokens: bool
) -> None:
    """Counts what containers say of themselves.

    Args:
        component: Whose children the filters are.
        name: What the metrics are named after.
        platform: The platform's name, which the metrics are under.
        group: Where the containers write.
        tells_tokens: Whether the log has vLLM's lines about tokens.
    """
    filters = {"out-of-memory": (OUT_OF_MEMORY_PATTERN, "1", "Count")}
    if tells_tokens:
        filters |= {
            f"{kind}-tokens-per-second": (TOKENS_PATTERN, f"${kind}", "Count/Second")
            for kind in ("prompt", "generation")
        }
    for kind, (pattern, value, unit) in filters.items():
        cloudwatch.LogMetricFilter(
            f"{name}-{kind}",
            name=f"{name}-{kind}",
            log_group_name=group.name,
            pattern=pattern,
            metric_transformation={
                "name": f"{name}-{kind}",
                "namespace": log_namespace(platform),
                "value": value,
                "unit": unit,
            },
            opts=component.child(),
        )
