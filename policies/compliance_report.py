"""The files of a compliance check: SARIF 2.1.0 for tools, a Markdown table for people."""

from collections.abc import Sequence
from typing import Any, Final

from policies.enforcement import Environment, Level
from policies.frameworks import Framework
from policies.packs import PACKS
from policies.results import Outcome, RuleResult, verdict_of
from policies.rule import AnyRule, Severity
from policies.waivers import Waiver

SARIF_VERSION: Final = "2.1.0"
_SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"
_HELP: Final = "docs/policies/{}.md"
# What code scanning sorts by; there it is a number from 0 to 10 as text.
_SCORES: Final = {
    Severity.LOW: "3.0",
    Severity.MEDIUM: "5.0",
    Severity.HIGH: "7.5",
    Severity.CRITICAL: "9.5",
}


def sarif(results: Sequence[RuleResult], stack: str) -> dict[str, Any]:
    """One run of SARIF: every rule as a reporting descriptor, every finding as a result.

    Args:
        results: What came of each rule.
        stack: The stack, whose file is what findings are shown at; a resource's URN is its logical location.
    """
    index = {one.rule.name: number for number, one in enumerate(results)}
    found: list[dict[str, Any]] = []
    for one in results:
        level = "error" if one.level is Level.MANDATORY else "warning"
        found += [
            _result(one.rule, index, where, finding.message, level, "fail", stack)
            for where, finding in one.violations
        ]
        found += [
            _result(one.rule, index, where, finding.message, level, "fail", stack)
            | {"suppressions": [{"kind": "external", "status": "accepted", "justification": waiver.words}]}
            for where, finding, waiver in one.waived
        ]
        late = [each for each in one.unknown if each not in one.violations]
        found += [
            _result(one.rule, index, where, finding.message, "none", "open", stack) for where, finding in late
        ]
        if one.outcome in {Outcome.PASSED, Outcome.NOT_APPLICABLE}:
            kind = "pass" if one.outcome is Outcome.PASSED else "notApplicable"
            found.append(_result(one.rule, index, "the stack", one.rule.description, "none", kind, stack))
    return {
        "$schema": _SCHEMA,
        "version": SARIF_VERSION,
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "spillway-policies",
                        "rules": [_descriptor(one.rule) for one in results],
                    }
                },
                "results": found,
            }
        ],
    }


def _descriptor(rule: AnyRule) -> dict[str, Any]:
    return {
        "id": rule.name,
        "shortDescription": {"text": rule.description},
        "help": {"text": rule.remediation},
        "helpUri": _HELP.format(rule.name),
        "properties": {
            "security-severity": _SCORES[rule.severity],
            "tags": [f"{control.framework.value} {control.number}" for control in rule.controls],
        },
    }


def _result(
    rule: AnyRule, index: dict[str, int], where: str, message: str, level: str, kind: str, stack: str
) -> dict[str, Any]:
    return {
        "ruleId": rule.name,
        "ruleIndex": index[rule.name],
        "kind": kind,
        "level": level,
        "message": {"text": message},
        "locations": [
            {
                "physicalLocation": {"artifactLocation": {"uri": f"stacks/Pulumi.{stack}.yaml"}},
                "logicalLocations": [{"fullyQualifiedName": where, "kind": "resource"}],
            }
        ],
    }


def markdown(
    results: Sequence[RuleResult], stack: str, environment: Environment, waivers: Sequence[Waiver]
) -> str:
    """A page: the verdict, every rule with its controls and result, and each framework's controls."""
    verdict = verdict_of(results)
    parts = [
        f"# Compliance of stack {stack} ({environment.value})",
        f"**{verdict[0].upper()}{verdict[1:]}.**",
    ]
    if waivers:
        in_force = sum(len(one.waived) for one in results)
        parts.append(f"{len(waivers)} waivers, which keep {in_force} findings from counting.")
    by_name = {one.rule.name: one for one in results}
    for pack, rules in PACKS.items():
        parts += [f"## {pack}", _table(_HEAD, [_row(by_name[rule.name]) for rule in rules])]
    parts.append("## Findings")
    parts += _findings(results) or ["None."]
    parts += ["## By framework", _EVIDENCE, *_frameworks(results)]
    return "\n\n".join(parts) + "\n"


_HEAD: Final = ("rule", "level", "result", "resources", *(framework.short for framework in Framework))
_EVIDENCE: Final = (
    "A rule that passes is evidence for its part of a control and no more: most controls also ask for what a "
    "program cannot show."
)


def _row(one: RuleResult) -> list[str]:
    numbers = [
        ", ".join(control.number for control in one.rule.controls if control.framework is framework)
        for framework in Framework
    ]
    level = "off" if one.level is Level.DISABLED else one.level.value
    return [one.rule.name, level, one.outcome.value, str(one.judged), *numbers]


def _findings(results: Sequence[RuleResult]) -> list[str]:
    lines: list[str] = []
    for one in results:
        told = [(where, finding.message) for where, finding in one.violations]
        told += [(where, f"{finding.message} ({waiver.words})") for where, finding, waiver in one.waived]
        told += [
            (where, finding.message)
            for where, finding in one.unknown
            if (where, finding) not in one.violations
        ]
        for where, message in told:
            lines.append(f"- **{one.rule.name}** ({one.level.value}), `{where}`: {_inline(message)}")
    return ["\n".join(lines)] if lines else []


def _frameworks(results: Sequence[RuleResult]) -> list[str]:
    parts: list[str] = []
    for framework in Framework:
        controls: dict[str, list[RuleResult]] = {}
        for one in results:
            for control in one.rule.controls:
                if control.framework is framework:
                    controls.setdefault(control.number, []).append(one)
        rows = [
            [number, ", ".join(f"{one.rule.name}: {one.outcome.value}" for one in rules)]
            for number, rules in sorted(controls.items())
        ]
        parts += [f"### {framework.value}", _table(("control", "rules"), rows)]
    return parts


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(_inline(cell) for cell in row) + " |" for row in rows)])


def _inline(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
