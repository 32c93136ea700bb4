"""What was put up with and what could not be told: no rule is set aside in silence."""

from datetime import UTC, date, datetime
from typing import Final

from policies.enforcement import ADVISORY
from policies.frameworks import gdpr
from policies.reading import Node
from policies.rule import Answer, Found, NotApplicable, Problem, Severity, Stack, StackRule
from policies.waivers import Waiver

_NONE: Final = NotApplicable("The stack has no waivers.")


def _check_valid(stack: Stack, _: Node) -> Answer:
    return _run_out(stack) if stack.waivers else _NONE


def _run_out(stack: Stack) -> Found:
    for waiver in stack.waivers:
        if not waiver.holds(stack.now):
            yield Problem(
                f"The waiver of {waiver.rule} for {waiver.urn} ended on {waiver.expires}; "
                f"its owner is {waiver.owner}.",
                "Repair what it put up with and remove it, or agree on a later date.",
            )


def _check_in_force(stack: Stack, _: Node) -> Answer:
    return _in_force(stack) if stack.waivers else _NONE


def _in_force(stack: Stack) -> Found:
    for waiver in stack.waivers:
        if waiver in stack.used:
            yield Problem(f"{waiver.rule} on {waiver.urn} is {waiver.words}", "Nothing, until that date.")
        elif waiver.rule in stack.judged:
            yield Problem(
                f"The waiver of {waiver.rule} for {waiver.urn} matches nothing: no such resource, or it "
                "complies now.",
                "Remove it.",
            )


def _check_unknowns(stack: Stack, _: Node) -> Answer:
    if not stack.deferred:
        return []
    return [
        Problem(
            "\n".join(stack.deferred),
            "Nothing: `pulumi up` judges each of them before it makes the resource.",
        )
    ]


_EXAMPLE: Final = Stack(
    (),
    now=datetime(2027, 2, 1, tzinfo=UTC),
    waivers=(
        Waiver(
            rule="image-digest",
            urn="urn:pulumi:prod::spillway::kubernetes:apps/v1:Deployment::legacy",
            reason="The vendor publishes no digest before its next release.",
            owner="ml-platform",
            expires=date(2027, 1, 31),
        ),
    ),
    judged=frozenset({"image-digest"}),
    deferred=("aws:iam/rolePolicy:RolePolicy nodes: policy is not known (least-privilege)",),
)

WAIVER_VALID: Final = StackRule(
    name="waiver-valid",
    description="No waiver has run out.",
    severity=Severity.HIGH,
    remediation="Repair what it put up with and remove it, or agree on a later date.",
    controls=gdpr(32),
    check=_check_valid,
    example=_EXAMPLE,
)

WAIVERS_IN_FORCE: Final = StackRule(
    name="waivers-in-force",
    description="Every waiver is shown for as long as it holds, and one that matches nothing too.",
    severity=Severity.LOW,
    remediation="Remove waivers that match nothing.",
    enforcement=ADVISORY,
    check=_check_in_force,
    example=_EXAMPLE,
)

UNKNOWNS_ACCOUNTED: Final = StackRule(
    name="unknowns-accounted",
    description="What a preview cannot judge is shown; `pulumi up` judges it before it makes the resource.",
    severity=Severity.LOW,
    remediation="Give the value in the program where it need not depend on another resource.",
    enforcement=ADVISORY,
    check=_check_unknowns,
    example=_EXAMPLE,
)
