"""Applies rules to a stack and keeps the record: what was waived, and what could not be told yet.

`policies.analyzer` and `policies.compliance` both judge through it, so that they say the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from policies.rule import AnyRule, Finding, NotApplicable, Resource, Rule, Stack, StackRule, Step, Verdict
from policies.waivers import Waiver, find


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of one rule on one subject.

    Attributes:
        violations: What counts.
        waived: Findings that a waiver keeps from counting, each with the waiver.
        deferred: Findings that only say that a value is not known yet, of a rule that may wait for it.
        reason: Why the rule does not apply; empty if it does.
    """

    violations: tuple[Finding, ...] = ()
    waived: tuple[tuple[Finding, Waiver], ...] = ()
    deferred: tuple[Finding, ...] = ()
    reason: str = ""

    @property
    def not_counted(self) -> str:
        """Why nothing counts although the rule has not simply passed; empty if it has."""
        if self.reason:
            return self.reason
        if self.waived:
            return self.waived[0][1].words
        return f"Not before `pulumi up`: {self.deferred[0].message}" if self.deferred else ""


class Judge:
    """Judges one preview, update or state."""

    def __init__(
        self,
        rules: Sequence[AnyRule],
        waivers: Sequence[Waiver],
        now: datetime,
        steps: Sequence[Step] | None = None,
    ) -> None:
        self.rules = tuple(rules)
        self.waivers = tuple(waivers)
        self._now = now
        self._steps = None if steps is None else tuple(steps)
        self._used: set[Waiver] = set()
        # A preview judges everything before an update does so again; what was deferred then is known now.
        self._deferred: dict[tuple[str, str], str] = {}

    def resource(self, rule: Rule, resource: Resource, config: Mapping[str, object]) -> Judged:
        """Judges a resource by a rule."""
        verdict = rule.evaluate(resource, config)
        if rule.deferrable and isinstance(verdict, list) and any(one.unknown for one in verdict):
            late = tuple(one for one in verdict if one.unknown)
            self._deferred[rule.name, resource.urn] = (
                f"{resource.type} {resource.name}: {rule.name} needs {late[0].unknown}"
            )
            rest: Verdict = [one for one in verdict if not one.unknown]
            judged = self._waive(rule, rest, resource.urn)
            return Judged(judged.violations, judged.waived, late)
        self._deferred.pop((rule.name, resource.urn), None)
        return self._waive(rule, verdict, resource.urn)

    def stack(self, rule: StackRule, resources: Sequence[Resource], config: Mapping[str, object]) -> Judged:
        """Judges a stack by a rule; after its resources, so that the record is whole."""
        stack = Stack(
            resources,
            self._now,
            self.waivers,
            frozenset(self._used),
            frozenset(one.name for one in self.rules),
            tuple(self._deferred.values()),
            self._steps,
        )
        return self._waive(rule, rule.evaluate(stack, config), "")

    def _waive(self, rule: AnyRule, verdict: Verdict, urn: str) -> Judged:
        if isinstance(verdict, NotApplicable):
            return Judged(reason=verdict.reason)
        counted: list[Finding] = []
        waived: list[tuple[Finding, Waiver]] = []
        for finding in verdict:
            waiver = find(self.waivers, rule.name, finding.urn or urn)
            if waiver is not None and waiver.holds(self._now):
                self._used.add(waiver)
                waived.append((finding, waiver))
            else:
                counted.append(finding)
        return Judged(tuple(counted), tuple(waived))
