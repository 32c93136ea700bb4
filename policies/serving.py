"""The thin adapter between rules and Pulumi's policy SDK."""

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from pulumi_policy import (
    EnforcementLevel,
    Policy,
    PolicyComplianceFramework,
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

from policies import once
from policies.enforcement import Environment, environment_of_process
from policies.judging import Judge, Judged
from policies.packs import RULE_NAMES
from policies.reading import read
from policies.rule import AnyRule, Finding, Resource, Rule, StackRule
from policies.waivers import WaiverError, waivers_of_process


def serve(pack: str, rules: Sequence[AnyRule]) -> None:
    """Serves a pack and never returns. For the `__main__` of a pack only; Pulumi starts that."""
    once.install()
    try:
        waivers = waivers_of_process(RULE_NAMES)
    except WaiverError as error:
        # The engine shows what a pack writes here when it does not start.
        print(error, file=sys.stderr)
        sys.exit(1)
    judge = Judge(rules, waivers, datetime.now(UTC))
    PolicyPack(
        f"spillway-{pack.replace('_', '-')}",
        policies=policies_of(judge, environment_of_process()),
        enforcement_level=EnforcementLevel.MANDATORY,
    )


def policies_of(judge: Judge, environment: Environment) -> list[Policy]:
    """Wraps rules as policies, with the levels of an environment."""
    return [_policy(rule, judge, environment) for rule in judge.rules]


def _policy(rule: AnyRule, judge: Judge, environment: Environment) -> Policy:
    level = EnforcementLevel(rule.enforcement.in_environment(environment).value)
    config = PolicyConfigSchema({key: dict(value.schema) for key, value in rule.config.items()})
    severity, framework = Severity(rule.severity.value), _framework(rule)
    if isinstance(rule, Rule):
        # On `pulumi up` the engine runs stack policies after everything was created, which is too late for
        # a cap; so all rules that can judge a single resource do.
        return ResourceValidationPolicy(
            name=rule.name,
            description=rule.description,
            validate=_validation(rule, judge),
            enforcement_level=level,
            config_schema=config,
            severity=severity,
            framework=framework,
            remediation_steps=rule.remediation,
        )
    return StackValidationPolicy(
        name=rule.name,
        description=rule.description,
        validate=_stack_validation(rule, judge),
        enforcement_level=level,
        config_schema=config,
        severity=severity,
        framework=framework,
        remediation_steps=rule.remediation,
    )


def _framework(rule: AnyRule) -> PolicyComplianceFramework | None:
    # The SDK has room for one; `make compliance` shows all.
    if not rule.controls:
        return None
    first = rule.controls[0]
    name, _, version = first.framework.value.rpartition(" ")
    return PolicyComplianceFramework(name, version, first.number, first.framework.value)


def _validation(rule: Rule, judge: Judge) -> Callable[[ResourceValidationArgs, ReportViolation], None]:
    def validate(args: ResourceValidationArgs, report_violation: ReportViolation) -> None:
        given_inputs[args.urn] = args.props
        resource = Resource(
            args.resource_type,
            args.name,
            args.props,
            args.urn,
            args.opts.protect,
            region=_region(args.provider),
        )
        _report(judge.resource(rule, resource, args.get_config()), args, report_violation)

    return validate


def _stack_validation(
    rule: StackRule, judge: Judge
) -> Callable[[StackValidationArgs, ReportViolation], None]:
    def validate(args: StackValidationArgs, report_violation: ReportViolation) -> None:
        _report(judge.stack(rule, _resources(args.resources), args.get_config()), args, report_violation)

    return validate


def _report(
    judged: Judged,
    args: ResourceValidationArgs | StackValidationArgs,
    report_violation: ReportViolation,
) -> None:
    for finding in judged.violations:
        report_violation(_text(finding), finding.urn or None)
    if not judged.violations and judged.not_counted:
        args.not_applicable(judged.not_counted)


def _text(finding: Finding) -> str:
    return f"{finding.message}\nFix: {finding.remediation}"


class _Last(threading.local):
    """The stack that was converted last: all stack rules in turn ask about the same one."""

    props: object = None
    resources: tuple[Resource, ...] = ()


_last = _Last()


def _resources(given: Sequence[PolicyResource]) -> tuple[Resource, ...]:
    # Properties are the same objects within one call of the engine, and in no other (policies/once.py).
    if not given or _last.props is not given[0].props or len(_last.resources) != len(given):
        _last.resources = tuple(resource_of(one) for one in given)
        _last.props = given[0].props if given else None
    return _last.resources


# What each resource was given, by URN. At a preview the engine shows stack rules outputs, and there are none
# yet of a provider that cannot be configured before `up`: all that is on the EKS cluster.
given_inputs: dict[str, Mapping[str, object]] = {}
"""Inputs of the resources that were judged so far, by URN."""


def resource_of(given: PolicyResource) -> Resource:
    """What a stack rule judges: the outputs, or what was given where some of that is not among them."""
    props: Mapping[str, object] = given.props
    inputs = given_inputs.get(given.urn, {})
    # Sets, because a proxy raises where it is asked for a key whose value is unknown.
    if not set(inputs) <= set(props):
        props = inputs
    return Resource(
        given.resource_type,
        given.name,
        props,
        given.urn,
        given.opts.protect,
        dependencies=tuple(one.urn for one in given.dependencies),
        provider=given.provider.urn if given.provider is not None else "",
        parent=given.parent.urn if given.parent is not None else "",
        region=_region(given.provider),
    )


def _region(provider: PolicyProviderResource | None) -> str:
    region = read(provider.props if provider is not None else {}).child("region").value
    return region if isinstance(region, str) else ""
