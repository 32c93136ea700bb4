"""The stack's own groups in SageMaker's model registry: what would be lost with them, and their end.

SageMaker deletes no group that has versions. `evaluate` registers them, so no state has them, and they are
the record of what was evaluated and promoted: they go only if the user says that data may be deleted.
"""

from collections.abc import Iterable, Mapping, Sequence

from botocore.exceptions import ClientError  # pyright: ignore[reportMissingTypeStubs]

from runtime.ops.progress import Step
from runtime.ops.teardown.account import Clients, is_absent
from runtime.ops.teardown.asked_cloud import AskedCloud
from runtime.ops.teardown.endpoint_questions import PACKAGE_GROUP, bears_our_tags, versions
from runtime.ops.teardown.ledger import Cloud, Resource
from runtime.ops.teardown.waiting import StepError
from runtime.tenure import STACK_TAG


class OwnRegistry:
    """The groups in one account that a destroy of the stack deletes.

    Args:
        cloud: What the stack has there.
        clients: How to ask.
        resources: The stack's resources now; one that a destroy leaves is not touched.
    """

    service = "SageMaker"

    def __init__(self, cloud: Cloud, clients: Clients, resources: Sequence[Resource]) -> None:
        self._asked = AskedCloud(cloud, clients)
        going = {
            one.id for one in resources if one.type == PACKAGE_GROUP and not (one.retained or one.external)
        }
        self._groups = [name for name in cloud.ids(PACKAGE_GROUP) if name in going]

    def data(self) -> Mapping[str, str]:
        """Group to the versions that would be lost with it.

        Raises:
            ClientError, BotoCoreError: SageMaker cannot be asked.
        """
        found: dict[str, str] = {}
        for name in self._groups:
            if number := len(self._versions(name)):
                words = f"{number} version{'' if number == 1 else 's'}"
                where = self._asked.cloud.account
                found[name] = f"model package group {name} ({words} with their decisions) in {where}"
        return found

    def forbidden(self, names: Iterable[str]) -> list[str]:
        """Why groups with versions may not be emptied, whatever the user says, one line each.

        Raises:
            ClientError, BotoCoreError: SageMaker cannot be asked.
        """
        return [
            f"model package group {name} is in the state, and does not bear the tag {STACK_TAG}="
            f"{self._asked.cloud.stack}; nothing in it is deleted. Look whose it is, and delete its versions "
            "yourself"
            for name in names
            if not bears_our_tags(self._asked, self._arn(name))
        ]

    def empty(self, step: Step) -> None:
        """Deletes all versions.

        Raises:
            StepError: A group may not be emptied.
            ClientError, BotoCoreError: SageMaker refuses.
        """
        data = self.data()
        if lines := self.forbidden(data):
            raise StepError(lines)
        for name in data:
            arns = self._versions(name)
            for done, arn in enumerate(arns, start=1):
                self._delete(arn)
                step.update(f"{name}: {done} of {len(arns)} versions are gone")

    def _versions(self, group: str) -> list[str]:
        try:
            return list(versions(self._asked, group))
        except ClientError as error:
            if is_absent(error):
                return []
            raise

    def _delete(self, arn: str) -> None:
        try:
            self._asked.clients("sagemaker").delete_model_package(ModelPackageName=arn)
        except ClientError as error:
            if not is_absent(error):
                raise

    def _arn(self, name: str) -> str:
        described = self._asked.exists(
            "sagemaker", "describe_model_package_group", ModelPackageGroupName=name
        )
        return str((described or {}).get("ModelPackageGroupArn", ""))
