"""What came of every rule on a whole stack: one outcome each, for a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from policies.enforcement import Environment, Level
from policies.judging import Judge, Judged
from policies.rule import AnyRule, Finding, Resource, Rule
from policies.waivers import Waiver


class Outcome(Enum):
    """What a rule's result is, the worst first."""

    VIOLATED = "violated"
    UNKNOWN = "not evaluated because unknown"
    WAIVED = "waived"
    PASSED = "passed"
    NOT_APPLICABLE = "not applicable"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class RuleResult:
    """What came of one rule.

    Attributes:
        rule: The rule.
        level: What a violation does in the stack's environment and configuration.
        outcome: The worst of its results.
        violations: What counts, each with the URN that it is about, or `the stack`.
        waived: What a waiver keeps from counting, with where and the waiver.
        unknown: What could not be told, with where; of a rule that may not wait it counts as a violation too.
        judged: How many resources it was applied to; 1 for a rule on the stack.
    """

    rule: AnyRule
    level: Level
    outcome: Outcome
    violations: tuple[tuple[str, Finding], ...] = ()
    waived: tuple[tuple[str, Finding, Waiver], ...] = ()
    unknown: tuple[tuple[str, Finding], ...] = ()
    judged: int = 0

    @property
    def blocks(self) -> bool:
        """Whether it would stop a preview."""
        return self.level is Level.MANDATORY and bool(self.violations)

    @property
    def undecided(self) -> bool:
        """Whether it would stop a preview and cannot be told from what is known."""
        return self.level is Level.MANDATORY and not self.violations and bool(self.unknown)


def verdict_of(results: Sequence[RuleResult]) -> str:
    """What decides, in a sentence without its full stop: mandatory rules violated, and not evaluated."""
    blocking = sum(one.blocks for one in results)
    undecided = [one.rule.name for one in results if one.undecided]
    said = f"{blocking or 'no'} mandatory rule{'s are' if blocking > 1 else ' is'} violated"
    if undecided:
        said += f", and {len(undecided)} cannot be evaluated before `pulumi up`: {', '.join(undecided)}"
    return said


def judge_all(
    judge: Judge,
    resources: Sequence[Resource],
    config: Mapping[str, Mapping[str, object]],
    environment: Environment,
) -> list[RuleResult]:
    """Applies every rule of a judge to a stack, as a preview does: resources first, then the stack.

    Args:
        judge: The rules, with the waivers.
        resources: All resources.
        config: The policy configuration by rule, as the file beside the stack has it.
        environment: What the stack is for.
    """
    return [
        _result(judge, rule, resources, config, environment) for rule in judge.rules if isinstance(rule, Rule)
    ] + [
        _result(judge, rule, resources, config, environment)
        for rule in judge.rules
        if not isinstance(rule, Rule)
    ]


def level_of(rule: AnyRule, config: Mapping[str, Mapping[str, object]], environment: Environment) -> Level:
    """The level of a rule: that of its configuration, of `all` there, or of the environment."""
    for name in (rule.name, "all"):
        given = config.get(name, {}).get("enforcementLevel")
        if isinstance(given, str):
            return Level(given)
    return rule.enforcement.in_environment(environment)


def _result(
    judge: Judge,
    rule: AnyRule,
    resources: Sequence[Resource],
    config: Mapping[str, Mapping[str, object]],
    environment: Environment,
) -> RuleResult:
    level = level_of(rule, config, environment)
    if level is Level.DISABLED:
        return RuleResult(rule, level, Outcome.OFF)
    # The engine fills in the defaults that a configuration leaves out.
    defaults = {key: one.schema["default"] for key, one in rule.config.items()}
    given = {key: value for key, value in config.get(rule.name, {}).items() if key != "enforcementLevel"}
    values = {**defaults, **given}
    if isinstance(rule, Rule):
        judged = [(one.urn, judge.resource(rule, one, values)) for one in resources]
    else:
        judged = [("the stack", judge.stack(rule, resources, values))]
    return _summary(rule, level, judged)


def _summary(rule: AnyRule, level: Level, judged: Sequence[tuple[str, Judged]]) -> RuleResult:
    violations = tuple((one.urn or urn, one) for urn, each in judged for one in each.violations)
    waived = tuple((one.urn or urn, one, waiver) for urn, each in judged for one, waiver in each.waived)
    late = tuple((urn, one) for urn, each in judged for one in each.deferred)
    unknown = late + tuple((urn, one) for urn, one in violations if one.unknown)
    applied = sum(not each.reason for _, each in judged)
    if any(not one.unknown for _, one in violations):
        outcome = Outcome.VIOLATED
    elif unknown:
        outcome = Outcome.UNKNOWN
    elif waived:
        outcome = Outcome.WAIVED
    else:
        outcome = Outcome.PASSED if applied else Outcome.NOT_APPLICABLE
    return RuleResult(rule, level, outcome, violations, waived, unknown, applied)
