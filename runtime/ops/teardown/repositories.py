"""The stack's own image repositories: all images go before a destroy, which deletes no full repository.

Every image in them is a copy that staging made, of this version of the stack file or of an earlier one. An
image for several platforms is an index and an image for each of them, without a tag of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from botocore.exceptions import ClientError  # pyright: ignore[reportMissingTypeStubs]

from runtime.ops.progress import Step
from runtime.ops.teardown.account import Clients, is_absent
from runtime.ops.teardown.asked_cloud import AskedCloud
from runtime.ops.teardown.findings import Tags
from runtime.ops.teardown.ledger import Cloud, Resource
from runtime.ops.teardown.waiting import Patience, StepError
from runtime.tenure import STACK_TAG

_REPOSITORY = "aws:ecr/repository:Repository"
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
# What BatchDeleteImage takes in one call.
_AT_ONCE = 100
# It answers 200 where it deletes nothing. What an index names goes when the index is gone.
_GO_LATER = ("ImageNotFound", "ImageReferencedByManifestList")


class OwnRepositories:
    """The repositories in one account that a destroy of the stack deletes.

    Args:
        cloud: What the stack has there.
        clients: How to ask.
        resources: The stack's resources now; one that a destroy leaves is not touched.
    """

    def __init__(self, cloud: Cloud, clients: Clients, resources: Sequence[Resource]) -> None:
        self._asked = AskedCloud(cloud, clients)
        going = {
            one.id for one in resources if one.type == _REPOSITORY and not (one.retained or one.external)
        }
        self._names = [name for name in cloud.ids(_REPOSITORY) if name in going]

    def empty(self, step: Step, patience: Patience) -> None:
        """Deletes all images in them; what an earlier run deleted stays deleted.

        Raises:
            StepError: One is not the stack's, or ECR keeps an image.
            ClientError, BotoCoreError: ECR cannot be asked.
        """
        lines: list[str] = []
        for name in self._names:
            if not self._images(name):
                continue
            if not self._bears_our_tags(name):
                lines.append(
                    f"repository {name} is in the state, and does not bear the tag {STACK_TAG}="
                    f"{self._asked.cloud.stack}; it is not emptied. Look whose it is, and empty it yourself"
                )
                continue
            try:
                patience.until_none(step, partial(self._left, name), partial(self._why, name))
            except StepError as error:
                lines += error.lines
        if lines:
            raise StepError(lines)

    def _left(self, name: str) -> list[str]:
        """What is still in a repository after everything in it was asked to go, indexes first."""
        images = self._images(name)
        indexes = [digest for digest, kind in images.items() if kind in _INDEXES]
        others = [digest for digest in images if digest not in indexes]
        for batch in (*_batches(indexes), *_batches(others)):
            answer = self._asked.clients("ecr").batch_delete_image(
                repositoryName=name, imageIds=[{"imageDigest": digest} for digest in batch]
            )
            if kept := [one for one in answer.get("failures", ()) if one["failureCode"] not in _GO_LATER]:
                raise StepError(
                    [
                        f"repository {name}: ECR keeps {one['imageId'].get('imageDigest')}: "
                        f"{one['failureCode']}, {one.get('failureReason', '')}; take that away, and run the "
                        "same command again"
                        for one in kept
                    ]
                )
        return list(self._images(name)) if images else []

    def _why(self, name: str) -> list[str]:
        return [
            f"repository {name}: {digest} does not go, other images name it; see it in ECR, and run the same "
            "command again"
            for digest in self._images(name)
        ]

    def _images(self, name: str) -> Mapping[str, str]:
        """Digests with the media types of their manifests; none where there is no such repository."""
        try:
            listed = list(self._asked.pages("ecr", "describe_images", "imageDetails", repositoryName=name))
        except ClientError as error:
            if is_absent(error):
                return {}
            raise
        return {str(one["imageDigest"]): str(one.get("imageManifestMediaType", "")) for one in listed}

    def _bears_our_tags(self, name: str) -> bool:
        found = self._asked.exists("ecr", "describe_repositories", repositoryNames=[name])
        arns = [one["repositoryArn"] for one in (found or {}).get("repositories", ())]
        tags = self._asked.exists("ecr", "list_tags_for_resource", resourceArn=arns[0]) if arns else None
        return tags is not None and self._asked.is_ours(Tags.read(tags.get("tags")))


def _batches(digests: Sequence[str]) -> Iterator[Sequence[str]]:
    return (digests[start : start + _AT_ONCE] for start in range(0, len(digests), _AT_ONCE))
