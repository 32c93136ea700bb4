"""The thin adapter between rules and Pulumi's policy SDK."""

from collections.abc import Callable, Sequence

from pulumi_policy import (
    EnforcementLevel,
    Policy,
    PolicyConfigSchema,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    Severity,
)

from policies.rule import NotApplicable, Resource, Rule


def resource_policies(rules: Sequence[Rule]) -> list[Policy]:
    """Wraps rules as mandatory resource policies.

    Resource policies, not stack policies: on `pulumi up` the engine runs stack policies after everything
    has been created, which is too late for a cap.
    """
    return [
        ResourceValidationPolicy(
            name=rule.name,
            description=rule.description,
            validate=_validation(rule),
            enforcement_level=EnforcementLevel.MANDATORY,
            config_schema=PolicyConfigSchema({key: dict(value.schema) for key, value in rule.config.items()}),
            severity=Severity(rule.severity.value),
            remediation_steps=rule.remediation,
        )
        for rule in rules
    ]


def _validation(rule: Rule) -> Callable[[ResourceValidationArgs, ReportViolation], None]:
    def validate(args: ResourceValidationArgs, report_violation: ReportViolation) -> None:
        verdict = rule.evaluate(Resource(args.resource_type, args.name, args.props), args.get_config())
        if isinstance(verdict, NotApplicable):
            args.not_applicable(verdict.reason)
            return
        for finding in verdict:
            report_violation(f"{finding.message}\nFix: {finding.remediation}", None)

    return validate
