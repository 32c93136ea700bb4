"""A budget with alerts: the backstop behind the burst controller's ceiling."""

from dataclasses import dataclass

import pulumi
from pulumi_aws import budgets

from components.aws.account import CloudAccount
from components.base import Component


@dataclass(frozen=True, kw_only=True)
class CostBudgetArgs:
    """Arguments of CostBudget.

    Attributes:
        cloud: Account, region and names.
        monthly_usd: USD per month.
        emails: Who is told.
        tag: Key and value of the tag that all of the stack's resources carry.
    """

    cloud: CloudAccount
    monthly_usd: float
    emails: tuple[str, ...]
    tag: tuple[str, str]


class CostBudget(Component):
    """Mails at 80 % and 100 % of what was spent, and when the month's forecast is above the whole.

    AWS' billing is hours late, and it knows the tag only after it was activated for cost allocation.
    """

    def __init__(self, name: str, args: CostBudgetArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("aws:CostBudget", name, {"monthlyUsd": args.monthly_usd}, opts)
        key, value = args.tag
        budgets.Budget(
            name,
            name=name,
            account_id=args.cloud.account,
            budget_type="COST",
            time_unit="MONTHLY",
            limit_amount=f"{args.monthly_usd:g}",
            limit_unit="USD",
            cost_filters=[{"name": "TagKeyValue", "values": [f"user:{key}${value}"]}],
            notifications=[
                {
                    "comparison_operator": "GREATER_THAN",
                    "threshold": threshold,
                    "threshold_type": "PERCENTAGE",
                    "notification_type": kind,
                    "subscriber_email_addresses": list(args.emails),
                }
                for threshold, kind in ((80, "ACTUAL"), (100, "ACTUAL"), (100, "FORECASTED"))
            ],
            opts=self.child(),
        )
        self.finish(monthlyUsd=args.monthly_usd)
