"""The rules behind Pulumi's policy SDK as it is, which the policy benchmark compares with."""

from collections.abc import Callable
from datetime import UTC, datetime

from pulumi_policy import (
    EnforcementLevel,
    Policy,
    PolicyConfigSchema,
    PolicyPack,
    PolicyProviderResource,
    PolicyResource,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    Severity,
    StackValidationArgs,
    StackValidationPolicy,
)

from policies.enforcement import Environment
from policies.judging import Judge, Judged
from policies.packs import ALL_RULES
from policies.rule import AnyRule, Resource, Rule, StackRule


def serve() -> None:
    """Serves all rules and never returns. For the `__main__` of a pack only."""
    PolicyPack("stock", policies_of(Judge(ALL_RULES, (), datetime.now(UTC)), Environment.PROD))


def policies_of(judge: Judge, environment: Environment) -> list[Policy]:
    """Wraps rules as policies, with the levels of an environment."""
    return [_policy(rule, judge, environment) for rule in judge.rules]


def _policy(rule: AnyRule, judge: Judge, environment: Environment) -> Policy:
    level = EnforcementLevel(rule.enforcement.in_environment(environment).value)
    config = PolicyConfigSchema({key: dict(value.schema) for key, value in rule.config.items()})
    severity = Severity(rule.severity.value)
    if isinstance(rule, Rule):
        return ResourceValidationPolicy(
            name=rule.name,
            description=rule.description,
            validate=_validation(rule, judge),
            enforcement_level=level,
            config_schema=config,
            severity=severity,
        )
    return StackValidationPolicy(
        name=rule.name,
        description=rule.description,
        validate=_stack_validation(rule, judge),
        enforcement_level=level,
        config_schema=config,
        severity=severity,
    )


def _validation(rule: Rule, judge: Judge) -> Callable[[ResourceValidationArgs, ReportViolation], None]:
    def validate(args: ResourceValidationArgs, report_violation: ReportViolation) -> None:
        region = _region(args.provider)
        resource = Resource(
            args.resource_type, args.name, args.props, args.urn, args.opts.protect, region=region
        )
        _report(judge.resource(rule, resource, args.get_config()), args, report_violation)

    return validate


def _stack_validation(
    rule: StackRule, judge: Judge
) -> Callable[[StackValidationArgs, ReportViolation], None]:
    def validate(args: StackValidationArgs, report_violation: ReportViolation) -> None:
        resources = tuple(_resource(one) for one in args.resources)
        _report(judge.stack(rule, resources, args.get_config()), args, report_violation)

    return validate


def _report(
    judged: Judged,
    args: ResourceValidationArgs | StackValidationArgs,
    report_violation: ReportViolation,
) -> None:
    for finding in judged.violations:
        report_violation(f"{finding.message}\nFix: {finding.remediation}", finding.urn or None)
    if not judged.violations and judged.not_counted:
        args.not_applicable(judged.not_counted)


def _resource(given: PolicyResource) -> Resource:
    return Resource(
        given.resource_type,
        given.name,
        given.props,
        given.urn,
        given.opts.protect,
        dependencies=tuple(one.urn for one in given.dependencies),
        provider=given.provider.urn if given.provider is not None else "",
        parent=given.parent.urn if given.parent is not None else "",
        region=_region(given.provider),
    )


def _region(provider: PolicyProviderResource | None) -> str:
    region = provider.props.get("region") if provider is not None else None
    return region if isinstance(region, str) else ""
