"""Where weights and images are staged: a bucket, and a repository for each image."""

from dataclasses import dataclass

import pulumi
from pulumi_aws import ecr

from components.aws.account import CloudAccount
from components.aws.private_bucket import UNFINISHED_UPLOAD_DAYS, private_bucket
from components.base import Component

_OLD_VERSION_DAYS = 30


@dataclass(frozen=True, kw_only=True)
class ModelStorageArgs:
    """Arguments of ModelStorage.

    Attributes:
        cloud: Account, region and names.
        key: ARN of the key for weights and images.
        repositories: Paths of images, such as `rayproject/ray-llm`.
    """

    cloud: CloudAccount
    key: pulumi.Input[str]
    repositories: tuple[str, ...]


class ModelStorage(Component):
    """A versioned, encrypted, private bucket, and repositories with tags that never move.

    Neither is emptied by a destroy, which then says so: what was staged took hours to upload.
    """

    bucket: pulumi.Output[str]
    bucket_arn: pulumi.Output[str]
    needs: list[pulumi.Resource]
    repository_urls: dict[str, pulumi.Output[str]]

    def __init__(self, name: str, args: ModelStorageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        cloud = args.cloud
        declared = {"bucket": bucket_name(cloud), "repositories": list(args.repositories)}
        super().__init__("aws:ModelStorage", name, declared, opts)
        made = private_bucket(
            self,
            name,
            bucket_name(cloud),
            args.key,
            [
                {
                    "id": "old-versions-and-unfinished-uploads",
                    "status": "Enabled",
                    "filter": {"prefix": ""},
                    "noncurrent_version_expiration": {"noncurrent_days": _OLD_VERSION_DAYS},
                    "abort_incomplete_multipart_upload": {"days_after_initiation": UNFINISHED_UPLOAD_DAYS},
                }
            ],
        )
        self.repository_urls = {}
        for path in args.repositories:
            repository = ecr.Repository(
                f"{name}-{path.replace('/', '-')}",
                name=f"{cloud.name}/{path}",
                image_tag_mutability="IMMUTABLE",
                image_scanning_configuration={"scan_on_push": True},
                encryption_configurations=[{"encryption_type": "KMS", "kms_key": args.key}],
                force_delete=False,
                opts=self.child(),
            )
            self.repository_urls[path] = repository.repository_url
        self.bucket, self.bucket_arn = made.bucket.bucket, made.bucket.arn
        self.needs = made.needs
        self.finish(bucket=made.bucket.bucket)


def bucket_name(cloud: CloudAccount) -> str:
    """The bucket's name, which the account makes unique in the world."""
    return f"{cloud.name}-models-{cloud.account}-{cloud.region}"
