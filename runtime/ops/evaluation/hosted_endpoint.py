"""What an endpoint with variants serves now: weights, instances, revisions, and the alarms that watch it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from runtime.ops.evaluation.places import Client
from runtime.sagemaker.hosted import HostedRevision
from runtime.sagemaker.traffic import Fleet, share
from runtime.tenure import PLATFORM_TAG

POLL_S = 5.0
# Weights take effect in minutes; an update by `pulumi up` that is under way may take hours.
LONGEST_WAIT_S = 3600.0
_READY = "InService"
_IN_BETWEEN = ("Creating", "Updating", "SystemUpdating", "RollingBack")


class EndpointError(Exception):
    """An endpoint is not what is needed; the text says what it is and what to do."""


@dataclass(frozen=True, kw_only=True)
class HostedVariant:
    """A variant as it is.

    Attributes:
        weight: Its weight.
        instances: How many instances answer.
        revision: What it serves.
    """

    weight: float
    instances: int
    revision: HostedRevision

    @property
    def fleet(self) -> Fleet:
        """Its instances, as capacity."""
        return Fleet(instances=self.instances, at_once=self.revision.at_once)


@dataclass(frozen=True, kw_only=True)
class HostedEndpoint:
    """An endpoint at rest.

    Attributes:
        name: Its name.
        platform: The platform that it is of; empty where it bears no such tag.
        variants: Its live variants by name.
        alarms: The alarms that take back its updates.
    """

    name: str
    platform: str
    variants: Mapping[str, HostedVariant]
    alarms: tuple[str, ...]

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each variant."""
        return {name: one.weight for name, one in self.variants.items()}

    def share(self, variant: str) -> float:
        """A variant's part of the traffic, from 0 to 1."""
        return share(self.weights, variant)


def at_rest(
    client: Client, name: str, told: Callable[[str], None], sleep: Callable[[float], None] = time.sleep
) -> HostedEndpoint:
    """Waits until nothing changes an endpoint, and reads it.

    Args:
        client: boto3's client for `sagemaker`.
        name: The endpoint.
        told: Called with its state while it changes.
        sleep: Waits some seconds.

    Raises:
        EndpointError: It does not answer requests, or changes for longer than an hour.
        ClientError: AWS refuses a call.
    """
    waited = 0.0
    while (found := client.describe_endpoint(EndpointName=name))["EndpointStatus"] != _READY:
        state = str(found["EndpointStatus"])
        if state not in _IN_BETWEEN:
            why = found.get("FailureReason") or "no reason given"
            raise EndpointError(f"endpoint {name} is {state}: {why}; bring it up by `pulumi up` first")
        if waited >= LONGEST_WAIT_S:
            raise EndpointError(f"endpoint {name} is {state} for {waited:.0f} s; run this again later")
        told(state)
        sleep(POLL_S)
        waited += POLL_S
    return _read(client, found)


def _read(client: Client, found: Mapping[str, Any]) -> HostedEndpoint:
    config = client.describe_endpoint_config(EndpointConfigName=found["EndpointConfigName"])
    models = {one["VariantName"]: one.get("ModelName") for one in config["ProductionVariants"]}
    variants = {
        one["VariantName"]: HostedVariant(
            weight=float(one.get("CurrentWeight", 0.0)),
            instances=int(one.get("CurrentInstanceCount", 0)),
            revision=HostedRevision.read(client.describe_model(ModelName=models[one["VariantName"]])),
        )
        for one in found.get("ProductionVariants", [])
        if models.get(one["VariantName"])
    }
    deployment: Mapping[str, Any] = found.get("LastDeploymentConfig") or {}
    rollback: Mapping[str, Any] = deployment.get("AutoRollbackConfiguration") or {}
    alarms: list[Mapping[str, Any]] = rollback.get("Alarms") or []
    tags = client.list_tags(ResourceArn=found["EndpointArn"])["Tags"]
    return HostedEndpoint(
        name=str(found["EndpointName"]),
        platform=next((str(one["Value"]) for one in tags if one["Key"] == PLATFORM_TAG), ""),
        variants=variants,
        alarms=tuple(str(one["AlarmName"]) for one in alarms),
    )
