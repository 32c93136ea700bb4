"""A bucket with all that belongs to one: encrypted, versioned, private, over TLS only, tidied up."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi_aws import s3

from components.aws.policies import only_over_tls
from components.base import Component

UNFINISHED_UPLOAD_DAYS = 7


@dataclass(frozen=True, kw_only=True)
class PrivateBucket:
    """A bucket.

    Attributes:
        bucket: The bucket itself.
        needs: What must be there before anything is written to it.
    """

    bucket: s3.Bucket
    needs: list[pulumi.Resource]


def private_bucket(
    component: Component,
    name: str,
    bucket_name: str,
    key: pulumi.Input[str],
    lifecycle: Sequence[s3.BucketLifecycleConfigurationRuleArgsDict],
) -> PrivateBucket:
    """Declares a bucket as children of a component. A destroy does not empty it, and says so.

    The key must go after the bucket: what declares the component makes it depend on the key.

    Args:
        component: Whose children it all is.
        name: Pulumi name of the bucket; its parts have the name with a suffix.
        bucket_name: What AWS calls it.
        key: ARN of the key that encrypts it.
        lifecycle: What is deleted when.
    """
    bucket = s3.Bucket(name, bucket=bucket_name, force_destroy=False, opts=component.child())

    def part(*needs: pulumi.Resource) -> pulumi.ResourceOptions:
        # They go with the bucket. One that S3 does not delete, because something is in it, keeps them.
        return component.child(depends_on=list(needs), deleted_with=bucket)

    closed = s3.BucketPublicAccessBlock(
        f"{name}-private",
        bucket=bucket.id,
        block_public_acls=True,
        block_public_policy=True,
        ignore_public_acls=True,
        restrict_public_buckets=True,
        opts=part(),
    )
    s3.BucketOwnershipControls(
        f"{name}-owner",
        bucket=bucket.id,
        rule={"object_ownership": "BucketOwnerEnforced"},
        opts=part(),
    )
    versioned = s3.BucketVersioning(
        f"{name}-versions",
        bucket=bucket.id,
        versioning_configuration={"status": "Enabled"},
        opts=part(),
    )
    encrypted = s3.BucketServerSideEncryptionConfiguration(
        f"{name}-encryption",
        bucket=bucket.id,
        rules=[
            {
                "apply_server_side_encryption_by_default": {
                    "sse_algorithm": "aws:kms",
                    "kms_master_key_id": key,
                },
                # One data key for many objects: KMS is paid by the request.
                "bucket_key_enabled": True,
            }
        ],
        opts=part(),
    )
    s3.BucketLifecycleConfiguration(
        f"{name}-lifecycle",
        bucket=bucket.id,
        rules=list(lifecycle),
        opts=part(versioned),
    )
    s3.BucketPolicy(
        f"{name}-tls",
        bucket=bucket.id,
        policy=bucket.arn.apply(only_over_tls),
        # The two change the same thing, and S3 refuses one of two at a time.
        opts=part(closed),
    )
    return PrivateBucket(bucket=bucket, needs=[versioned, encrypted, closed])
