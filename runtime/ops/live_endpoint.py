"""What an endpoint runs now, which an update would put back to what its configuration began with.

UpdateEndpoint could keep counts and weights (RetainAllVariantProperties), and the provider does not say so.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError  # pyright: ignore[reportMissingTypeStubs]

from runtime.sagemaker.metrics import log_group
from runtime.sagemaker.traffic import TOLERANCE, share, whole_weights
from runtime.tenure import STACK_TAG

DECLARED_TAG = "spillway:declared"
"""Tag of an endpoint configuration: a digest of what it was declared as, without its counts."""


@dataclass(frozen=True, kw_only=True)
class LiveVariant:
    """A variant as it runs.

    Attributes:
        desired: Instances that it is to have now, whoever said so.
        initial: Instances that its configuration says it begins with.
        weight: Its weight now.
    """

    desired: int
    initial: int
    weight: float


@dataclass(frozen=True, kw_only=True)
class LiveEndpoint:
    """An endpoint as it runs.

    Attributes:
        declared: The digest that its configuration bears; None where it bears none.
        variants: Its live variants by name.
        lost: Name of its configuration where that is gone; nobody knows then what it began with.
    """

    declared: str | None
    variants: Mapping[str, LiveVariant]
    lost: str | None = None

    def begins_with(self, variant: str, declared: str, least: int, most: int) -> int:
        """Instances that a variant's configuration is to begin with.

        As many as run now where the configuration changes, for clients do not come less often meanwhile; as
        many as it says already where it does not, because the count alone would make a needless update.

        Args:
            variant: Its name; one that is new begins with the least.
            declared: Digest of the configuration that is declared.
            least: Instances at least.
            most: Instances at most.
        """
        runs = self.variants.get(variant)
        if runs is None:
            return max(1, least)
        if declared == self.declared:
            return runs.initial
        return max(1, least, min(most, runs.desired))


def read_live(session: Any, name: str) -> LiveEndpoint | None:
    """An endpoint as it runs; None where there is none.

    Args:
        session: boto3's session in the account.
        name: What SageMaker calls it.

    Raises:
        ClientError, BotoCoreError: AWS cannot be asked.
    """
    sagemaker = session.client("sagemaker")
    found = _found(sagemaker.describe_endpoint, EndpointName=name)
    if found is None:
        return None
    runs: Sequence[Mapping[str, Any]] = found.get("ProductionVariants") or []
    configured = _found(sagemaker.describe_endpoint_config, EndpointConfigName=found["EndpointConfigName"])
    if configured is None:
        variants = {str(one["VariantName"]): _variant(one, {}) for one in runs}
        return LiveEndpoint(declared=None, variants=variants, lost=str(found["EndpointConfigName"]))
    tags = sagemaker.list_tags(ResourceArn=configured["EndpointConfigArn"])["Tags"]
    initial = {one["VariantName"]: one for one in configured["ProductionVariants"]}
    return LiveEndpoint(
        declared=next((str(one["Value"]) for one in tags if one["Key"] == DECLARED_TAG), None),
        variants={
            str(one["VariantName"]): _variant(one, initial[one["VariantName"]])
            for one in runs
            if one["VariantName"] in initial
        },
    )


class InTheWayError(Exception):
    """There is an endpoint already; the text says whose and in which status."""


def clear_failed(session: Any, name: str, stack: str) -> bool:
    """Deletes an endpoint of the stack whose creation failed, before it is made anew; whether there was one.

    Args:
        session: boto3's session in the account.
        name: What SageMaker calls it.
        stack: The stack's full name, which its tag says.

    Raises:
        InTheWayError: There is one that is another's, or that has not failed.
        ClientError, BotoCoreError: AWS cannot be asked.
    """
    sagemaker = session.client("sagemaker")
    found = _found(sagemaker.describe_endpoint, EndpointName=name)
    if found is None:
        return False
    tags = sagemaker.list_tags(ResourceArn=found["EndpointArn"])["Tags"]
    owner = next((str(one["Value"]) for one in tags if one["Key"] == STACK_TAG), None)
    if owner != stack:
        raise InTheWayError(f"is there and not of this stack ({STACK_TAG}: {owner}); rename one of the two")
    if found["EndpointStatus"] != "Failed":
        raise InTheWayError(f"is there, {found['EndpointStatus']}, and Pulumi's state does not have it")
    sagemaker.delete_endpoint(EndpointName=name)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name)
    return True


def _found(call: Any, **arguments: str) -> Any:
    try:
        return call(**arguments)
    except ClientError as error:
        answer: Any = error.response  # pyright: ignore[reportUnknownMemberType]
        # SageMaker has no code for it.
        if "Could not find" in answer["Error"]["Message"]:
            return None
        raise


def not_taken(session: Any, name: str, configuration: str) -> str | None:
    """Why an endpoint does not run the configuration that it was given; None where it does.

    Args:
        session: boto3's session in the account.
        name: What SageMaker calls it.
        configuration: Name of the configuration that it was given.

    Raises:
        ClientError, BotoCoreError: AWS cannot be asked.
    """
    found = session.client("sagemaker").describe_endpoint(EndpointName=name)
    if found["EndpointConfigName"] == configuration:
        return None
    if found["EndpointStatus"] != "InService":
        what = f"it is {found['EndpointStatus']}; run again when it is InService"
    else:
        what = f"SageMaker took the update back: {found.get('FailureReason') or 'it does not say why'}"
    rollback: Mapping[str, Any] = found.get("LastDeploymentConfig", {}).get("AutoRollbackConfiguration") or {}
    alarms = [str(one["AlarmName"]) for one in rollback.get("Alarms") or ()]
    told: list[Mapping[str, Any]] = []
    with contextlib.suppress(ClientError):  # not everybody may ask for alarms
        if alarms:
            told = session.client("cloudwatch").describe_alarms(AlarmNames=alarms)["MetricAlarms"]
    states = [f"{one['AlarmName']} is {one['StateValue']}" for one in told]
    return (
        f"endpoint {name} runs {found['EndpointConfigName']}, and was given {configuration}; {what}\n"
        f"  alarms that take updates back: {', '.join(states or alarms) or 'none'}\n"
        f"  its log: {log_group(name)}\n"
        "  What it runs on is kept. Mend the cause, or put the stack file back, and run `make up`, or "
        "`pulumi up --refresh`: without --refresh Pulumi takes the update for done. It also puts back "
        "scaling that was taken off for the update"
    )


def _variant(runs: Mapping[str, Any], configured: Mapping[str, Any]) -> LiveVariant:
    initial = int(configured.get("InitialInstanceCount") or 0)
    weight = float(configured.get("InitialVariantWeight", 1.0))
    return LiveVariant(
        desired=int(runs.get("DesiredInstanceCount", runs.get("CurrentInstanceCount", initial))),
        initial=initial,
        weight=float(runs.get("DesiredWeight", runs.get("CurrentWeight", weight))),
    )


def moved_traffic(live: LiveEndpoint, weights: Mapping[str, int]) -> Mapping[str, int] | None:
    """The weights that a stack file would have to say for the traffic that runs now.

    Args:
        live: The endpoint as it runs.
        weights: What the stack file says, by variant.

    Returns:
        Whole numbers by variant; None where the file says the same shares, or has other variants.
    """
    now = {name: one.weight for name, one in live.variants.items()}
    if now.keys() != weights.keys() or not any(now.values()):
        return None
    if all(abs(share(now, name) - share(weights, name)) <= TOLERANCE for name in now):
        return None
    return whole_weights(now)
