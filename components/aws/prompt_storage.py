"""Where prompts and answers lie that are kept: a bucket of their own, with a key and an end for each."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi_aws import s3

from components.aws.account import CloudAccount
from components.aws.private_bucket import UNFINISHED_UPLOAD_DAYS, private_bucket
from components.base import Component
from runtime.sagemaker.endpoints import MAX_RETENTION_DAYS


@dataclass(frozen=True, kw_only=True)
class PromptStorageArgs:
    """Arguments of PromptStorage.

    Attributes:
        cloud: Account, region and names.
        key: ARN of the key for prompts and answers.
        days: Folder to the days after which what lies in it is deleted.
    """

    cloud: CloudAccount
    key: pulumi.Input[str]
    days: Mapping[str, int]


class PromptStorage(Component):
    """Captured requests, and those that wait in the bucket for an answer. Old versions go after a day."""

    bucket: pulumi.Output[str]
    bucket_arn: pulumi.Output[str]
    needs: list[pulumi.Resource]

    def __init__(
        self, name: str, args: PromptStorageArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("aws:PromptStorage", name, {"days": dict(args.days)}, opts)
        rules: list[s3.BucketLifecycleConfigurationRuleArgsDict] = [
            {
                "id": folder.strip("/").replace("/", "-"),
                "status": "Enabled",
                "filter": {"prefix": folder},
                "expiration": {"days": days},
                "noncurrent_version_expiration": {"noncurrent_days": 1},
                "abort_incomplete_multipart_upload": {"days_after_initiation": UNFINISHED_UPLOAD_DAYS},
            }
            for folder, days in args.days.items()
        ]
        # Folders of endpoints that keep none any more have no rule, and what is in them goes too.
        rules.append(
            {
                "id": "all-others",
                "status": "Enabled",
                "filter": {"prefix": ""},
                "expiration": {"days": MAX_RETENTION_DAYS},
                "noncurrent_version_expiration": {"noncurrent_days": 1},
            }
        )
        made = private_bucket(self, name, prompts_bucket_name(args.cloud), args.key, rules)
        self.bucket, self.bucket_arn, self.needs = made.bucket.bucket, made.bucket.arn, made.needs
        self.finish(bucket=made.bucket.bucket)


def prompts_bucket_name(cloud: CloudAccount) -> str:
    """The bucket's name, which the account makes unique in the world."""
    return f"{cloud.name}-prompts-{cloud.account}-{cloud.region}"
