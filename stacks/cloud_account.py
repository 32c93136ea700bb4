"""What must be so in the AWS account before anything is declared: it is the right one, with quotas."""

from typing import Any

import pulumi
from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]

from components.aws.prompt_storage import prompts_bucket_name
from runtime.ops.aws_account import (
    Account,
    AccountUnreachableError,
    Boto3Account,
    quota_mistakes,
    quota_needs,
)
from runtime.ops.endpoint_quotas import EndpointAccount, instance_needs, instance_quota_mistakes
from runtime.stack_file import list_mistakes
from stacks.cloud_settings import CloudSettings
from stacks.endpoint_staging import endpoint_account
from stacks.sagemaker_settings import SageMakerSettings
from stacks.settings import SettingsError


def look(cloud: CloudSettings) -> None:
    """Looks at the account of the settings; see `require_account`."""
    role = cloud.assume_role
    require_account(cloud, Boto3Account(cloud.region, role and role.role_arn, role and role.external_id))


def require_account(cloud: CloudSettings, account: Account) -> None:
    """Looks at the account. One that cannot be asked is only warned of: on-prem can be changed without it.

    Raises:
        SettingsError: It is another account than the settings say, or a quota is too low for what is
            declared; while that is the foundation alone, a quota is only warned of, for there is time to ask.
    """
    try:
        _refuse_another(account.caller_account(), cloud.account_id, "cloud.accountId")
        system = cloud.system_nodes
        found = list(
            quota_mistakes(account, quota_needs(cloud.node_groups, system.instance_type, system.max))
        )
    except AccountUnreachableError as error:
        pulumi.log.warn(
            f"AWS cannot be asked about account and quotas ({error}); what is declared there may fail"
        )
        return
    if found and cloud.declare == "foundation":
        pulumi.log.warn(list_mistakes("the AWS account", found))
    elif found:
        raise SettingsError(list_mistakes("the AWS account", found))


def look_at_endpoints(settings: SageMakerSettings) -> None:
    """Looks at the account that endpoints go to; see `require_endpoint_account`."""
    role = settings.assume_role
    account = Boto3Account(settings.region, role and role.role_arn, role and role.external_id)
    require_endpoint_account(settings, account)
    warn_of_kept_prompts(settings, account)


def require_endpoint_account(settings: SageMakerSettings, account: EndpointAccount) -> None:
    """Looks whose it is and what its quotas allow. What cannot be asked is only warned of.

    A quota that an update alone would exceed is warned of too: the stack can be made.

    Raises:
        SettingsError: It is another account than the settings say, or a quota is too low for what is
            declared; while that is the foundation alone, a quota is only warned of, for there is time to ask.
    """
    try:
        _refuse_another(account.caller_account(), settings.account_id, "accountId")
    except AccountUnreachableError as error:
        pulumi.log.warn(f"AWS cannot be asked whose account it is ({error}); what is declared may fail")
        return
    try:
        quotas = account.endpoint_quotas()
    except AccountUnreachableError as error:
        pulumi.log.warn(f"AWS cannot be asked about quotas of SageMaker ({error}); endpoints may fail")
        return
    refused, doubtful = instance_quota_mistakes(quotas, instance_needs(settings.endpoints))
    if refused and settings.declare != "foundation":
        raise SettingsError(list_mistakes("the AWS account", refused))
    for line in (*refused, *doubtful):
        pulumi.log.warn(line)


def warn_of_kept_prompts(settings: SageMakerSettings, account: Boto3Account) -> None:
    """Warns of prompts in the bucket of a stack whose file keeps none any more: S3 does not delete it.

    It is not refused: an endpoint that still captures would fill the bucket faster than anyone empties it.
    """
    if any(one.capture is not None or one.asynchronous is not None for one in settings.endpoints):
        return
    bucket = prompts_bucket_name(endpoint_account(settings))
    try:
        found = account.session.client("s3").list_object_versions(
            Bucket=bucket, MaxKeys=1, ExpectedBucketOwner=settings.account_id
        )
    except ClientError as error:
        answer: Any = error.response  # pyright: ignore[reportUnknownMemberType]
        if answer["Error"]["Code"] != "NoSuchBucket":
            pulumi.log.warn(f"S3 cannot be asked whether prompts are kept in {bucket} ({error})")
        return
    except BotoCoreError as error:
        pulumi.log.warn(f"S3 cannot be asked whether prompts are kept in {bucket} ({error})")
        return
    if found.get("Versions") or found.get("DeleteMarkers"):
        listed = "{Objects: [Versions, DeleteMarkers][].{Key: Key, VersionId: VersionId}}"
        pulumi.log.warn(
            f"bucket {bucket} is not empty, and the stack file keeps no prompts any more: `up` does all "
            "else, fails on the bucket, and leaves it its key and the days after which what is in it is "
            "deleted. After that `up` empty it, a thousand objects at a time, and run `up` again:\n"
            f'  aws s3api delete-objects --bucket {bucket} --delete "$(aws s3api list-object-versions '
            f"--bucket {bucket} --max-items 1000 --output json --query '{listed}')\""
        )


def _refuse_another(caller: str, wanted: str, key: str) -> None:
    if caller != wanted:
        raise SettingsError(
            f"spillway:platform.{key} = {wanted!r}: the credentials are of account {caller}; use those of "
            f"{wanted}, name a role of it in assumeRole, or change accountId"
        )
