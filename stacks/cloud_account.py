"""What must be so in the AWS account before anything is declared: it is the right one, with quotas."""

import pulumi

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


def _refuse_another(caller: str, wanted: str, key: str) -> None:
    if caller != wanted:
        raise SettingsError(
            f"spillway:platform.{key} = {wanted!r}: the credentials are of account {caller}; use those of "
            f"{wanted}, name a role of it in assumeRole, or change accountId"
        )
