"""What endpoints may use of an account's quotas: instances by type, at their most and during an update."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from runtime.sagemaker.endpoints import EndpointSpec, Variant


class EndpointAccount(Protocol):
    """An AWS account and region, as far as it is looked at for endpoints."""

    def caller_account(self) -> str:
        """The 12 digits of the account whose credentials are used.

        Raises:
            AccountUnreachableError: It cannot be asked.
        """
        ...

    def endpoint_quotas(self) -> Mapping[str, Decimal]:
        """Instances by type that all endpoints of the account and region may have.

        Raises:
            AccountUnreachableError: It cannot be asked.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class InstanceNeed:
    """What a stack may use of one instance type.

    Attributes:
        instance_type: The type, such as `ml.g6e.2xlarge`.
        most: Instances at their most, between updates.
        in_update: Instances at their most while every endpoint is updated.
        users: What of the stack uses it, such as `2 for chat/stable`.
    """

    instance_type: str
    most: int
    in_update: int
    users: tuple[str, ...]


def instance_needs(endpoints: Iterable[EndpointSpec]) -> tuple[InstanceNeed, ...]:
    """What endpoints at their most take of each type.

    A blue/green update starts a second fleet beside the first, a rolling one a batch of it. Shared instances
    have no second fleet: what is updated there are the components on them.
    """
    found: dict[str, InstanceNeed] = {}

    def add(instance_type: str, user: str, most: int, more: int) -> None:
        before = found.get(instance_type)
        found[instance_type] = InstanceNeed(
            instance_type=instance_type,
            most=most + (before.most if before else 0),
            in_update=most + more + (before.in_update if before else 0),
            users=(*(before.users if before else ()), f"{most} for {user}"),
        )

    for endpoint in endpoints:
        for variant in endpoint.variants:
            most = most_instances(variant)
            rolling = endpoint.deployment.strategy == "rolling"
            more = math.ceil(most * endpoint.deployment.part / 100) if rolling else most
            add(variant.instance_type, f"{endpoint.name}/{variant.name}", most, more)
        if (shared := endpoint.shared) is not None:
            add(shared.instance_type, endpoint.name, shared.instances.max, 0)
    return tuple(found.values())


def most_instances(variant: Variant) -> int:
    """Instances of a variant at most. SageMaker sizes no shadow: it has as many as it begins with."""
    return variant.replicas.min if variant.shadow else variant.replicas.max


def instance_quota_mistakes(
    quotas: Mapping[str, Decimal], needs: Iterable[InstanceNeed]
) -> tuple[list[str], list[str]]:
    """What the quotas refuse, and what is in doubt: refused in an update only, or not known. A line each."""
    refused = list(_refused(quotas, needs := tuple(needs)))
    return refused, list(_doubtful(quotas, needs))


def _refused(quotas: Mapping[str, Decimal], needs: Iterable[InstanceNeed]) -> Iterator[str]:
    for need in needs:
        value = quotas.get(need.instance_type)
        if value is not None and value < need.most:
            yield (
                f"the account's quota {_name(need)} is {value.normalize():f}, and the stack may take "
                f"{need.most}: {' and '.join(need.users)}; ask AWS to raise it in Service Quotas (SageMaker) "
                f"to {need.in_update}, which an update takes, or lower replicas.max"
            )


def _doubtful(quotas: Mapping[str, Decimal], needs: Iterable[InstanceNeed]) -> Iterator[str]:
    for need in needs:
        value = quotas.get(need.instance_type)
        if value is None:
            yield (
                f"the account names no quota {_name(need)}; look in Service Quotas (SageMaker) whether it "
                f"has {need.in_update} in this region"
            )
        elif need.most <= value < need.in_update:
            yield (
                f"the account's quota {_name(need)} is {value.normalize():f}, and an update of a full stack "
                f"takes {need.in_update}, with its second fleets; it would fail. Ask AWS to raise it in "
                "Service Quotas (SageMaker), or take deployment.strategy rolling"
            )


def _name(need: InstanceNeed) -> str:
    return f"'{need.instance_type} for endpoint usage'"
