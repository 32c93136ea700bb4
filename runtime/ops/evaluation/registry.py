"""Writes decisions into SageMaker's model registry, each once, and reads back what it says of them.

By boto3, which the project has: sagemaker-core's ModelPackage makes the same calls, takes four seconds to
import and brings 50 packages, pandas among them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError  # pyright: ignore[reportMissingTypeStubs]

from runtime.evaluation.gate import Decision
from runtime.evaluation.model_package import decision_digest, request
from runtime.ops.evaluation.places import Client

_LONGEST_WHY = 1024


class RegistryError(Exception):
    """The registry cannot take a decision; the text says what to do."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """A version in a group of the registry.

    Attributes:
        arn: Its ARN.
        number: Its number in the group.
        approval: Approved, PendingManualApproval or Rejected; people may change it.
        description: The decision in words.
    """

    arn: str
    number: int
    approval: str
    description: str

    @staticmethod
    def of(content: Mapping[str, Any]) -> "Version":
        """Reads one of ListModelPackages."""
        return Version(
            arn=str(content["ModelPackageArn"]),
            number=int(content["ModelPackageVersion"]),
            approval=str(content.get("ModelApprovalStatus", "")),
            description=str(content.get("ModelPackageDescription", "")),
        )


class Registry:
    """The group of one served model.

    Args:
        client: boto3's client for `sagemaker`.
        group: Name of the group, which a stack declares.
    """

    def __init__(self, client: Client, group: str) -> None:
        self._client, self.group = client, group

    def versions(self) -> Iterator[Version]:
        """All versions, the newest first.

        Raises:
            RegistryError: There is no such group.
        """
        asked: dict[str, Any] = {
            "ModelPackageGroupName": self.group,
            "SortBy": "CreationTime",
            "SortOrder": "Descending",
        }
        self._check_group()
        while True:
            answer = self._client.list_model_packages(**asked)
            yield from map(Version.of, answer["ModelPackageSummaryList"])
            if not answer.get("NextToken"):
                return
            asked["NextToken"] = answer["NextToken"]

    def find(self, decision: Decision) -> Version | None:
        """The version of a decision, if it was recorded.

        Raises:
            RegistryError: There is no such group.
        """
        digest = decision_digest(decision)
        return next((one for one in self.versions() if one.description.startswith(f"{digest} ")), None)

    def record(
        self, decision: Decision, containers: Sequence[Mapping[str, Any]], results_uri: str | None
    ) -> tuple[Version, bool]:
        """Writes a decision that is not there yet; returns its version, and whether it is new.

        Args:
            decision: The decision.
            containers: Those of the SageMaker model, as DescribeModel has them.
            results_uri: `s3://` prefix of the results, if they are there.

        Raises:
            RegistryError: There is no such group.
        """
        found = self.find(decision)
        if found is not None:
            return found, False
        made = self._client.create_model_package(**request(decision, self.group, containers, results_uri))
        described = self._client.describe_model_package(ModelPackageName=made["ModelPackageArn"])
        return Version.of(described), True

    def reject(self, version: Version, why: str) -> None:
        """Says of a version that it is not to serve, and why."""
        self._client.update_model_package(
            ModelPackageArn=version.arn,
            ModelApprovalStatus="Rejected",
            ApprovalDescription=why[:_LONGEST_WHY],
        )

    def _check_group(self) -> None:
        try:
            self._client.describe_model_package_group(ModelPackageGroupName=self.group)
        except ClientError as error:
            raise RegistryError(
                f"group {self.group} of the model registry: {error}; `pulumi up` declares one for each "
                "served model, or name another by --group"
            ) from error
