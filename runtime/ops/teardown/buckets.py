"""The stack's own S3 buckets: what would be lost with them, what forbids it, and their end with all in them.

AWS deletes no bucket that holds anything, and Pulumi empties none that is not declared so. What staging
brought is a copy and goes by itself; all else goes only if the user says that data may be deleted.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError  # pyright: ignore[reportMissingTypeStubs]

from runtime.ops.object_versions import KeptError, ObjectVersions, Version
from runtime.ops.progress import Step
from runtime.ops.stage import StagingPlan
from runtime.ops.teardown.account import Clients, is_absent
from runtime.ops.teardown.findings import Tags
from runtime.ops.teardown.ledger import Cloud, Resource, mapping
from runtime.ops.teardown.waiting import StepError
from runtime.tenure import PLATFORM_TAG, STACK_TAG

_BUCKET = "aws:s3/bucket:Bucket"
_STACK = "pulumi:pulumi:Stack"


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What is in a bucket.

    Attributes:
        objects: How many keys.
        versions: How many versions of them.
        markers: How many delete markers.
        size: Bytes of all versions.
    """

    objects: int
    versions: int
    markers: int
    size: int

    def __bool__(self) -> bool:
        return bool(self.versions or self.markers)

    @property
    def words(self) -> str:
        """For a reader."""
        markers = f", {_counted(self.markers, 'delete marker')}" if self.markers else ""
        versions = f"{_counted(self.objects, 'object')} in {_counted(self.versions, 'version')}"
        return f"{versions}, {_counted(self.size, 'byte')}{markers}"

    @staticmethod
    def of(versions: Iterable[Version]) -> "Contents":
        """Counts. S3 lists the versions of one key together."""
        objects = found = markers = size = 0
        last: str | None = None
        for one in versions:
            if one.is_marker:
                markers += 1
                continue
            objects += one.key != last
            last, found, size = one.key, found + 1, size + one.size
        return Contents(objects=objects, versions=found, markers=markers, size=size)


def staging_of(resources: Iterable[Resource]) -> StagingPlan | None:
    """What was to be staged for a stack, as its output says; None where it says nothing."""
    outputs = mapping(next((one.outputs for one in resources if one.type == _STACK), None))
    return StagingPlan.read(outputs["cloudStaging"]) if "cloudStaging" in outputs else None


class OwnBuckets:
    """The buckets in one account that a destroy of the stack deletes.

    Args:
        cloud: What the stack has there.
        clients: How to ask.
        resources: The stack's resources now; one that a destroy leaves is not touched.
    """

    service = "S3"

    def __init__(self, cloud: Cloud, clients: Clients, resources: Sequence[Resource]) -> None:
        self._cloud = cloud
        self._clients = clients
        going = {one.id for one in resources if one.type == _BUCKET and not (one.retained or one.external)}
        self._names = [name for name in cloud.ids(_BUCKET) if name in going]
        plan = staging_of(resources)
        self._staged = {} if plan is None else {plan.bucket: _prefixes(plan)}

    def data(self) -> Mapping[str, str]:
        """Bucket to what would be lost with it, without the copies that staging brought.

        Raises:
            ClientError, BotoCoreError: S3 cannot be asked.
        """
        found: dict[str, str] = {}
        for name in self._names:
            if contents := self._contents(name):
                found[name] = f"bucket {name} ({contents.words}) in {self._cloud.account}"
        return found

    def forbidden(self, names: Iterable[str]) -> list[str]:
        """Why buckets with data may not be emptied, whatever the user says, one line each.

        Raises:
            ClientError, BotoCoreError: S3 cannot be asked.
        """
        lines: list[str] = []
        for name in names:
            if not self._bears_our_tags(name):
                lines.append(
                    f"bucket {name} is in the state, and does not bear the tag {STACK_TAG}="
                    f"{self._cloud.stack}; it is not emptied. Look whose it is, and empty it yourself"
                )
            if self._is_locked(name):
                lines.append(
                    f"bucket {name} has Object Lock, and S3 keeps what is under retention or a legal hold; "
                    "nothing there is touched. Let the retention end, take legal holds away (s3api "
                    "put-object-legal-hold), empty the bucket yourself, and run the command again"
                )
        return lines

    def empty(self, step: Step) -> None:
        """Deletes all that is in them; what an earlier run deleted stays deleted.

        Raises:
            StepError: One may not be emptied, or S3 keeps something.
            ClientError, BotoCoreError: S3 cannot be asked.
        """
        data = self.data()
        lines = self.forbidden(data)
        for name in () if lines else data:
            total = sum(1 for _ in self._versions(name))

            def told(done: int, name: str = name, total: int = total) -> None:
                step.update(f"bucket {name}: {done} of {total} versions are gone")

            try:
                self._versions(name).delete(told)
            except KeptError as error:
                lines.append(
                    f"bucket {name}: S3 keeps {error}; retention, a legal hold, MFA delete or a policy "
                    "forbids it. Take that away, and run the same command again"
                )
        if lines:
            raise StepError(lines)

    def _versions(self, name: str) -> ObjectVersions:
        return ObjectVersions(self._clients("s3"), name, account=self._cloud.account)

    def _contents(self, name: str) -> Contents | None:
        staged = self._staged.get(name, ())
        try:
            return Contents.of(one for one in self._versions(name) if not one.key.startswith(staged))
        except ClientError as error:
            if is_absent(error):
                return None
            raise

    def _bears_our_tags(self, name: str) -> bool:
        try:
            tags = Tags.read(self._asked("get_bucket_tagging", name).get("TagSet")).of
        except ClientError as error:
            if is_absent(error):
                return False  # a bucket without tags answers like one that is not there
            raise
        cloud = self._cloud
        return bool(cloud.stack) and (tags.get(STACK_TAG), tags.get(PLATFORM_TAG)) == (
            cloud.stack,
            cloud.platform,
        )

    def _is_locked(self, name: str) -> bool:
        try:
            found = self._asked("get_object_lock_configuration", name)
        except ClientError as error:
            if is_absent(error):
                return False
            raise
        return found.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled"

    def _asked(self, call: str, name: str) -> dict[str, Any]:
        asked: dict[str, Any] = getattr(self._clients("s3"), call)(
            Bucket=name, ExpectedBucketOwner=self._cloud.account
        )
        return asked


def _prefixes(plan: StagingPlan) -> tuple[str, ...]:
    return tuple(f"{one.prefix.rstrip('/')}/" for one in plan.models if one.prefix)


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
