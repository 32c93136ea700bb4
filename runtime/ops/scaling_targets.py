"""Takes scaling off variants that get another instance type or go: SageMaker asks for it before."""

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError  # pyright: ignore[reportMissingTypeStubs]

_DIMENSION = "sagemaker:variant:DesiredInstanceCount"


def deregister_changed(session: Any, endpoint_name: str, types: Mapping[str, str]) -> list[str]:
    """Deregisters the targets of variants that have another instance type now, or that are to go.

    A target that is deregistered loses its policies too. Whoever declares them makes them anew afterwards.

    Args:
        session: boto3's session in the account.
        endpoint_name: The endpoint.
        types: Instance type of each variant that the endpoint is to have.

    Returns:
        The names of these variants, as far as they were scaled.

    Raises:
        ClientError: AWS refuses a call.
    """
    sagemaker, scaling = session.client("sagemaker"), session.client("application-autoscaling")
    now = sagemaker.describe_endpoint(EndpointName=endpoint_name)["EndpointConfigName"]
    variants = sagemaker.describe_endpoint_config(EndpointConfigName=now)["ProductionVariants"]
    changed = [one["VariantName"] for one in variants if types.get(one["VariantName"]) != one["InstanceType"]]
    return [name for name in changed if _deregister(scaling, f"endpoint/{endpoint_name}/variant/{name}")]


def _deregister(scaling: Any, resource_id: str) -> bool:
    which = {"ServiceNamespace": "sagemaker", "ScalableDimension": _DIMENSION}
    found = scaling.describe_scalable_targets(**which, ResourceIds=[resource_id])["ScalableTargets"]
    if not found:
        return False
    try:
        scaling.deregister_scalable_target(**which, ResourceId=resource_id)
    except ClientError as error:
        answer: Any = error.response  # pyright: ignore[reportUnknownMemberType]
        if answer["Error"]["Code"] != "ObjectNotFoundException":
            raise
    return True
