"""What must be so in the AWS account before anything is declared: it is the right one, with quotas."""

import pulumi

from runtime.ops.aws_account import (
    Account,
    AccountUnreachableError,
    Boto3Account,
    quota_mistakes,
    quota_needs,
)
from runtime.stack_file import list_mistakes
from stacks.cloud_settings import CloudSettings
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
        caller = account.caller_account()
        if caller != cloud.account_id:
            raise SettingsError(
                f"spillway:platform.cloud.accountId = {cloud.account_id!r}: the credentials are of account "
                f"{caller}; use those of {cloud.account_id}, name a role of it in assumeRole, or change "
                "accountId"
            )
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
