"""Where weights and images are staged: a bucket, and a repository for each image."""

from dataclasses import dataclass

import pulumi
from pulumi_aws import ecr, s3

from components.aws.account import CloudAccount
from components.aws.policies import only_over_tls
from components.base import Component

_OLD_VERSION_DAYS = 30
_UNFINISHED_UPLOAD_DAYS = 7


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
        bucket = s3.Bucket(name, bucket=bucket_name(cloud), force_destroy=False, opts=self.child())
        closed = s3.BucketPublicAccessBlock(
            f"{name}-private",
            bucket=bucket.id,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=self.child(),
        )
        s3.BucketOwnershipControls(
            f"{name}-owner",
            bucket=bucket.id,
            rule={"object_ownership": "BucketOwnerEnforced"},
            opts=self.child(),
        )
        versioned = s3.BucketVersioning(
            f"{name}-versions",
            bucket=bucket.id,
            versioning_configuration={"status": "Enabled"},
            opts=self.child(),
        )
        encrypted = s3.BucketServerSideEncryptionConfiguration(
            f"{name}-encryption",
            bucket=bucket.id,
            rules=[
                {
                    "apply_server_side_encryption_by_default": {
                        "sse_algorithm": "aws:kms",
                        "kms_master_key_id": args.key,
                    },
                    # One data key for many objects: KMS is paid by the request.
                    "bucket_key_enabled": True,
                }
            ],
            opts=self.child(),
        )
        s3.BucketLifecycleConfiguration(
            f"{name}-lifecycle",
            bucket=bucket.id,
            rules=[
                {
                    "id": "old-versions-and-unfinished-uploads",
                    "status": "Enabled",
                    "filter": {"prefix": ""},
                    "noncurrent_version_expiration": {"noncurrent_days": _OLD_VERSION_DAYS},
                    "abort_incomplete_multipart_upload": {"days_after_initiation": _UNFINISHED_UPLOAD_DAYS},
                }
            ],
            opts=self.child(depends_on=[versioned]),
        )
        s3.BucketPolicy(
            f"{name}-tls",
            bucket=bucket.id,
            policy=bucket.arn.apply(only_over_tls),
            # The two change the same thing, and S3 refuses one of two at a time.
            opts=self.child(depends_on=[closed]),
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
        self.bucket, self.bucket_arn = bucket.bucket, bucket.arn
        self.needs = [versioned, encrypted, closed]
        self.finish(bucket=bucket.bucket)


def bucket_name(cloud: CloudAccount) -> str:
    """The bucket's name, which the account makes unique in the world."""
    return f"{cloud.name}-models-{cloud.account}-{cloud.region}"
