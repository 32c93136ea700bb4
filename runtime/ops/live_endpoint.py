"""What an endpoint runs now, which an update would put back to what its configuration began with.

UpdateEndpoint could keep counts and weights (RetainAllVariantProperties), and the provider does not say so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError  # pyright: ignore[reportMissingTypeStubs]

from runtime.sagemaker.traffic import TOLERANCE, share, whole_weights

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
    """

    declared: str | None
    variants: Mapping[str, LiveVariant]

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
    try:
        found = sagemaker.describe_endpoint(EndpointName=name)
        configured = sagemaker.describe_endpoint_config(EndpointConfigName=found["EndpointConfigName"])
    except ClientError as error:
        answer: Any = error.response  # pyright: ignore[reportUnknownMemberType]
        # SageMaker has no code for it.
        if "Could not find" in answer["Error"]["Message"]:
            return None
        raise
    tags = sagemaker.list_tags(ResourceArn=configured["EndpointConfigArn"])["Tags"]
    initial = {one["VariantName"]: one for one in configured["ProductionVariants"]}
    return LiveEndpoint(
        declared=next((str(one["Value"]) for one in tags if one["Key"] == DECLARED_TAG), None),
        variants={
            str(one["VariantName"]): _variant(one, initial[one["VariantName"]])
            for one in found.get("ProductionVariants") or ()
            if one["VariantName"] in initial
        },
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
