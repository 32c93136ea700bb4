"""Looks at an AWS account before anything is declared in it: whose it is, and what its quotas allow."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

import boto3  # pyright: ignore[reportMissingTypeStubs]
from botocore.config import Config  # pyright: ignore[reportMissingTypeStubs]
from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]

from runtime.instances import INSTANCES
from runtime.node_groups import NodeGroupSpec

# A preview must not hang on a network that drops packets.
_CONFIG = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2})

# How Service Quotas calls the quota of an instance type, behind the type.
_OF_ENDPOINTS = " for endpoint usage"


class AccountUnreachableError(Exception):
    """AWS did not answer, or there are no credentials; the text says which."""


@dataclass(frozen=True, kw_only=True)
class QuotaNeed:
    """What a stack may use of one of the account's quotas at most.

    Attributes:
        code: The quota's code in Service Quotas, service `ec2`.
        name: Its name there.
        vcpus: vCPUs at most.
        users: What of the stack uses it, such as `4 x g6e.4xlarge (l40s)`.
    """

    code: str
    name: str
    vcpus: int
    users: tuple[str, ...]


class Account(Protocol):
    """An AWS account and region, as far as it is looked at."""

    def caller_account(self) -> str:
        """The 12 digits of the account whose credentials are used.

        Raises:
            AccountUnreachableError: It cannot be asked.
        """
        ...

    def quota(self, code: str) -> Decimal:
        """The value of a quota of EC2, in vCPUs.

        Raises:
            AccountUnreachableError: It cannot be asked.
        """
        ...


class Boto3Account:
    """An account as boto3 reaches it, with the caller's own credentials or in a role.

    Args:
        region: Region to ask in.
        role_arn: Role to take on, or None.
        external_id: What its trust policy asks for, or None.
        session_s: Seconds that the role is taken on for, 900 to 3600.
    """

    def __init__(
        self,
        region: str,
        role_arn: str | None = None,
        external_id: str | None = None,
        session_s: int = 900,
    ) -> None:
        self._region = region
        self._session_s = session_s
        self._role_arn = role_arn
        self._external_id = external_id
        self._session: Any = None

    # boto3 makes the classes of its clients at run time, so there are no types to name.
    @property
    def session(self) -> Any:
        """boto3's session, in the role where there is one; made once."""
        if self._session is None:
            self._session = self._in_role()
        return self._session

    def caller_account(self) -> str:
        """The 12 digits of the account whose credentials are used.

        Raises:
            AccountUnreachableError: It cannot be asked.
        """
        try:
            return str(self._client("sts").get_caller_identity()["Account"])
        except (BotoCoreError, ClientError) as error:
            raise AccountUnreachableError(str(error)) from None

    def quota(self, code: str) -> Decimal:
        """The value of a quota of EC2, in vCPUs.

        Raises:
            AccountUnreachableError: It cannot be asked.
        """
        try:
            quota = self._client("service-quotas").get_service_quota(ServiceCode="ec2", QuotaCode=code)
        except (BotoCoreError, ClientError) as error:
            raise AccountUnreachableError(str(error)) from None
        return Decimal(str(quota["Quota"]["Value"]))

    def endpoint_quotas(self) -> Mapping[str, Decimal]:
        """Instances by type that all endpoints of the account and region may have.

        Every type has a quota with a code of its own, so that they are found by their names.

        Raises:
            AccountUnreachableError: It cannot be asked.
        """
        try:
            pages: Any = self._client("service-quotas").get_paginator("list_service_quotas")
            listed = [quota for page in pages.paginate(ServiceCode="sagemaker") for quota in page["Quotas"]]
        except (BotoCoreError, ClientError) as error:
            raise AccountUnreachableError(str(error)) from None
        return {
            name.removesuffix(_OF_ENDPOINTS): Decimal(str(quota["Value"]))
            for quota in listed
            if (name := str(quota["QuotaName"])).endswith(_OF_ENDPOINTS)
        }

    def _client(self, service: str) -> Any:
        return self.session.client(service, config=_CONFIG)

    def _in_role(self) -> Any:
        session: Any = boto3.Session(region_name=self._region)
        if self._role_arn is None:
            return session
        external = {"ExternalId": self._external_id} if self._external_id else {}
        keys = session.client("sts", config=_CONFIG).assume_role(
            RoleArn=self._role_arn, RoleSessionName="spillway", DurationSeconds=self._session_s, **external
        )["Credentials"]
        return boto3.Session(
            aws_access_key_id=keys["AccessKeyId"],
            aws_secret_access_key=keys["SecretAccessKey"],
            aws_session_token=keys["SessionToken"],
            region_name=self._region,
        )


def quota_needs(
    groups: Iterable[NodeGroupSpec], system_type: str, system_nodes: int
) -> tuple[QuotaNeed, ...]:
    """What node groups at their most take of each quota; capacity blocks are outside of them."""
    found: dict[str, QuotaNeed] = {}

    def add(quota: tuple[str, str] | None, vcpus: int, user: str) -> None:
        if quota is None:
            return
        code, name = quota
        before = found.get(code)
        found[code] = QuotaNeed(
            code=code,
            name=name,
            vcpus=vcpus + (before.vcpus if before else 0),
            users=(*(before.users if before else ()), user),
        )

    system = INSTANCES[system_type]
    add(system.quota("onDemand"), system.vcpus * system_nodes, f"{system_nodes} x {system.name} (system)")
    for group in groups:
        largest = max(group.instances, key=lambda instance: instance.vcpus)
        add(
            largest.quota(group.capacity),
            largest.vcpus * group.max,
            f"{group.max} x {largest.name} ({group.name})",
        )
    return tuple(found.values())


def quota_mistakes(account: Account, needs: Iterable[QuotaNeed]) -> Iterator[str]:
    """One line for each quota that is too low.

    Raises:
        AccountUnreachableError: The account cannot be asked.
    """
    for need in needs:
        value = account.quota(need.code)
        if value < need.vcpus:
            yield (
                f"the account's quota {need.code} ({need.name}) is {value.normalize():f} vCPUs, and the "
                f"stack may take {need.vcpus}: {' and '.join(need.users)}; ask AWS to raise it in Service "
                "Quotas (EC2), or lower max of the node groups"
            )
