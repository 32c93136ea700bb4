"""The comment itself: what a reviewer has to know, in the order in which it decides."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from runtime.cost.amounts import NOTHING, Band
from runtime.cost.difference import Difference
from runtime.cost.estimate import Estimate, estimate
from runtime.cost.summary import listed, money, number, signed, unpriced_lines
from runtime.ops.preview.differences import property_changes
from runtime.ops.preview.events import PolicyResult, Preview, Step
from runtime.ops.preview.markdown import Section, code, fit, row, table, text
from runtime.ops.preview.openness import openings, regions
from runtime.ops.preview.risk import Loss, destructive
from runtime.ops.stack_expiry import expiry_of

# GitHub takes 65,536 characters; some are left for what a workflow may add.
LIMIT: Final = 60_000

OK, BLOCKED, FAILED = 0, 1, 2

# Rules whose findings are the record of what was not judged, and not findings (policies/lifecycle/record.py).
_WAIVED: Final = "waivers-in-force"
_DEFERRED: Final = "unknowns-accounted"
# How every rule words a value that it would have needed (policies/rule.py and policies/gpu_cost/money.py).
_NOT_KNOWN: Final = ("is not known until `pulumi up`", "is not known before `pulumi up`")

_SIGNS: Final = {"create": "+", "update": "~", "replace": "±", "delete": "-", "import": "=", "forget": "."}


@dataclass(frozen=True, kw_only=True)
class Comment:
    """What a comment is made of.

    Attributes:
        preview: What the preview said.
        project: The project, for where the preview ended before it named one.
        stack: The stack, likewise.
        made: When.
        commit: Which commit was previewed; empty where that is not known.
        region: AWS region where no resource names one.
        limits: Configuration of the stack's policies, by policy.
    """

    preview: Preview
    project: str
    stack: str
    made: dt.datetime
    commit: str = ""
    region: str = ""
    limits: Mapping[str, Mapping[str, object]] = field(default_factory=dict[str, Mapping[str, object]])

    @property
    def marker(self) -> str:
        """What the comment of this stack begins with, unseen, and no other."""
        return f"<!-- spillway:{self.project}/{self.stack} -->"

    @property
    def status(self) -> int:
        """OK, BLOCKED by a policy, or FAILED."""
        if self.preview.errors or not self.preview.finished:
            return FAILED
        return BLOCKED if any(result.blocks for result in self.preview.results) else OK

    def render(self, limit: int = LIMIT) -> str:
        """The Markdown, within a number of characters; says itself what did not fit."""
        before = estimate(self.preview.resources.before, region=self.region, today=self.made.date())
        after = estimate(self.preview.resources.after, region=self.region, today=self.made.date())
        name = code(f"{self.project}/{self.stack}")
        if self.status == OK and not self.preview.steps:
            passed = len(_passed(self.preview))
            cost = f"{money(after.hourly.floor)} to {money(after.hourly.ceiling)} an hour"
            return f"{self.marker}\n{name}: no changes; {cost}; {passed} policies passed\n"
        head = f"{self.marker}\n### {name}: {self._verdict()}\n"
        sections = [section for section in self._sections(before, after) if section.lines]
        return fit(head, sections, self._foot(after), limit)

    def _verdict(self) -> str:
        if self.status == FAILED:
            return "the preview **failed**"
        if self.status == BLOCKED:
            names = dict.fromkeys(result.policy for result in self.preview.results if result.blocks)
            plural = "policy" if len(names) == 1 else "policies"
            return f"**blocked** by {len(names)} {plural}: {', '.join(map(code, names))}"
        verdict = "policies pass" if self.preview.judged else "**no policy has judged it**"
        gone = [step for loss, step in destructive(self.preview.steps) if loss is Loss.DATA]
        if gone:
            return f"{verdict}, but **data would go**: {listed([code(step.name) for step in gone])}"
        return verdict

    def _sections(self, before: Estimate, after: Estimate) -> Iterator[Section]:
        preview = self.preview
        yield Section(title="What failed", lines=tuple(_errors(preview)))
        yield Section(title="Cost", lines=tuple(self._cost(before, after)))
        yield Section(title="Accelerators", lines=tuple(_devices(before, after)))
        yield Section(title="What would be destroyed", lines=tuple(_destroyed(preview.steps)))
        yield Section(title="Policies", lines=tuple(self._policies()))
        yield Section(title="Open to others, and regions", lines=tuple(_openness(preview)))
        advice = [f"- {_finding(result)}" for result in _findings(preview) if not result.blocks]
        yield Section(title=f"Advice of policies: {len(advice)}", lines=tuple(advice), folded=True)
        counts = ", ".join(f"{count} {word}" for word, count in _counts(preview.steps).items())
        yield Section(title=f"Changes: {counts}", lines=tuple(map(_change, preview.steps)), folded=True)
        yield Section(
            title="Property differences", lines=tuple(_diff(preview.steps)), folded=True, plain=True, keep=0
        )

    def _cost(self, before: Estimate, after: Estimate) -> Iterator[str]:
        change = Difference(before=before, after=after).hourly
        month = [None if end is None else end * 730 for end in change]
        yield from table(
            ("USD", "floor", "expected", "ceiling"),
            [
                ("an hour, before", *_ends(before.hourly)),
                ("**an hour, after**", *(f"**{end}**" for end in _ends(after.hourly))),
                ("change an hour", *map(signed, change)),
                ("a month of 730 hours, after", *_ends(after.monthly)),
                ("change a month", *map(signed, month)),
            ],
        )
        yield ""
        ends = expiry_of(self.preview.resources.after, self.made)
        if ends is None:
            yield "The stack names no end, so nothing bounds what it costs in all."
        else:
            exposed = money(after.exposure(self.made, ends))
            yield f"At most until it expires on {ends:%Y-%m-%d %H:%M} UTC: **{exposed}**."
        for line in unpriced_lines(after):
            yield f"- unpriced, and in no sum: {text(line)}"
        caps = [
            f"{code(policy)} {key} = {value}"
            for policy, limits in self.limits.items()
            for key, value in limits.items()
            if key.startswith("maxUsd")
        ]
        if caps:
            yield f"- caps that the stack's policy configuration sets: {', '.join(caps)}"

    def _policies(self) -> Iterator[str]:
        preview = self.preview
        blocking = [result for result in _findings(preview) if result.blocks and not _is_unknown(result)]
        unknown = [result for result in _findings(preview) if result.blocks and _is_unknown(result)]
        yield from (f"- **failed** {_finding(result)}" for result in blocking)
        yield from (f"- **not known, so blocked** {_finding(result)}" for result in unknown)
        for result in preview.results:
            if result.policy == _DEFERRED:
                yield from (
                    f"- not evaluated before `up`: {text(line)}" for line in result.message.splitlines()
                )
        for result in preview.results:
            if result.policy == _WAIVED:
                yield f"- waived: {text(result.message)}"
        yield f"- {len(_passed(preview))} policies passed"

    def _foot(self, after: Estimate) -> str:
        parts = [
            f"commit {code(self.commit[:12])}" if self.commit else "",
            f"oldest price from {after.prices_from}" if after.prices_from else "no priced resource",
            f"made {self.made:%Y-%m-%d %H:%M} UTC",
        ]
        return f"<sub>{'; '.join(filter(None, parts))}</sub>"


def _errors(preview: Preview) -> Iterator[str]:
    yield from (f"- {text(error)}" for error in preview.errors)
    if not preview.finished:
        yield "- Pulumi ended before the preview did; what follows is not the whole of it."


def _ends(band: Band) -> list[str]:
    return [money(end) for end in (band.floor, band.expected, band.ceiling)]


def _devices(before: Estimate, after: Estimate) -> Iterator[str]:
    old = {(one.place, one.accelerator): one.count for one in before.devices}
    new = {(one.place, one.accelerator): one.count for one in after.devices}
    kinds = dict.fromkeys([*new, *old])
    if kinds:
        yield from table(
            ("kind and place", "at rest", "expected", "at most"),
            [
                (f"{code(kind)} {place}", *_moves(old.get((place, kind)), new.get((place, kind))))
                for place, kind in kinds
            ],
        )


def _moves(before: Band | None, after: Band | None) -> Iterator[str]:
    old, new = before or NOTHING, after or NOTHING
    for one, other in ((old.floor, new.floor), (old.expected, new.expected), (old.ceiling, new.ceiling)):
        yield _move(one, other)


def _move(before: Decimal | None, after: Decimal | None) -> str:
    return number(after) if before == after else f"{number(before)} → **{number(after)}**"


def _destroyed(steps: tuple[Step, ...]) -> Iterator[str]:
    found = destructive(steps)
    if found:
        yield row("lost", "what", "resource", "why", "kept by")
        yield row(*["---"] * 5)
    for loss, step in found:
        order = "old one first" if step.deletes_first else "new one first"
        how = "delete" if step.operation == "delete" else f"replace, {order}"
        why = ", ".join(map(code, step.causes)) if step.causes else "no longer declared"
        if step.operation == "replace" and not step.causes:
            why = "the provider does not say"
        kept = [("protect" if step.protected else ""), ("retain on delete" if step.retained else "")]
        yield row(f"**{loss.value}**", how, _named(step), why, ", ".join(filter(None, kept)) or "nothing")


def _openness(preview: Preview) -> Iterator[str]:
    for title, look in (("open", openings), ("region", regions)):
        before, after = look(preview.resources.before), look(preview.resources.after)
        yield from (f"- **new** {title}: {text(one)}" for one in sorted(after - before))
        yield from (f"- no longer {title}: {text(one)}" for one in sorted(before - after))


def _findings(preview: Preview) -> list[PolicyResult]:
    return [result for result in preview.results if result.policy not in {_WAIVED, _DEFERRED}]


def _is_unknown(result: PolicyResult) -> bool:
    return any(words in result.message for words in _NOT_KNOWN)


def _finding(result: PolicyResult) -> str:
    fix = f" **Fix:** {text(result.fix)}" if result.fix else ""
    return f"{code(result.policy)} on {code(result.urn.rpartition('::')[2])}: {text(result.message)}{fix}"


def _passed(preview: Preview) -> frozenset[str]:
    return preview.passed - {result.policy for result in preview.results}


def _counts(steps: Sequence[Step]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for step in steps:
        counts[step.operation] = counts.get(step.operation, 0) + 1
    return counts


def _change(step: Step) -> str:
    paths = [change.path for change in property_changes(step)]
    what = f": {', '.join(map(code, paths[:5]))}" if paths else ""
    more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
    return f"- {step.operation} {_named(step)}{what}{more}"


def _named(step: Step) -> str:
    return f"{code(step.name)} ({code(step.type)})"


def _diff(steps: Sequence[Step]) -> Iterator[str]:
    for step in steps:
        changes = property_changes(step)
        if changes:
            yield f"{_SIGNS[step.operation]} {step.type} {step.name}".replace("`", "'")
        for change in changes:
            if change.before is not None:
                yield f"-   {change.path}: {change.before}".replace("`", "'")
            if change.after is not None:
                yield f"+   {change.path}: {change.after}".replace("`", "'")
