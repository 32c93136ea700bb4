"""Decides from results whether a revision gets traffic: promote, hold or roll back, each with its reasons.

A pure function of numbers. Only what the whole interval shows counts as shown: a value that is good by chance
promotes nothing, and one that is bad by chance rolls nothing back.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

from runtime.evaluation.gate_policy import GatePolicy, Threshold
from runtime.evaluation.results import EvaluationResult, MetricResult

Outcome = Literal["promote", "hold", "roll_back"]
# The worst reason decides.
_ORDER: tuple[Outcome, ...] = ("promote", "hold", "roll_back")


class Reason(BaseModel):
    """One finding: what it speaks for, about which metric (None for all), in words with the numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    outcome: Outcome
    metric: str | None = None
    text: str


class Decision(BaseModel):
    """What the registry holds of a decision.

    Attributes:
        version: Of this form.
        model: The model.
        revision: The revision that was judged.
        baseline: The one that it was compared with; None where there was none.
        outcome: What to do with its traffic.
        reasons: Why, the decisive ones first.
        policy: What was asked for.
        results: What was shown.
        decided_at: When, in UTC, as ISO 8601.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal["1.0"] = "1.0"
    model: str
    revision: str
    baseline: str | None
    outcome: Outcome
    reasons: tuple[Reason, ...]
    policy: GatePolicy
    results: EvaluationResult
    decided_at: str

    def text(self) -> str:
        """Renders the record."""
        return json.dumps(self.model_dump(mode="json"), indent=2) + "\n"

    def lines(self) -> tuple[str, ...]:
        """For people: the outcome, and a line for each reason."""
        word = self.outcome.replace("_", " ")
        head = f"{word}: {self.model} {self.revision}"
        return (head, *(f"  {one.outcome.replace('_', ' ')}: {one.text}" for one in self.reasons))


def decide(
    policy: GatePolicy,
    results: EvaluationResult,
    baseline: EvaluationResult | None,
    differences: Mapping[str, MetricResult],
    decided_at: str,
    *,
    first_revision: bool = False,
) -> Decision:
    """Judges a revision.

    Args:
        policy: What is asked for.
        results: What the revision has shown.
        baseline: What the revision that serves now has shown on the same job and data.
        differences: What the revision has more than the baseline, on the same records.
        decided_at: The time, written into the decision.
        first_revision: Whether nothing serves yet, so that there is nothing to compare with.
    """
    reasons = [*_general(policy, results, baseline)]
    # A baseline of something else is no baseline; `_general` holds for it.
    comparable = baseline is not None and _same(results, baseline)
    for threshold in policy.thresholds:
        reasons += _bounds(threshold, results.metrics.get(threshold.metric))
        if threshold.regression is not None:
            reasons.append(
                _regression(
                    threshold.metric,
                    threshold.regression,
                    differences.get(threshold.metric) if comparable else None,
                    first_revision,
                )
            )
    worst = max(reasons, key=lambda one: _ORDER.index(one.outcome)).outcome
    # Too few records roll nothing back either; records that fail are not few, they are failures.
    outcome: Outcome = "hold" if results.records < policy.minimum_records else worst
    return Decision(
        model=results.model,
        revision=results.revision,
        baseline=baseline.revision if baseline else None,
        outcome=outcome,
        reasons=tuple(sorted(reasons, key=lambda one: -_ORDER.index(one.outcome))),
        policy=policy,
        results=results,
        decided_at=decided_at,
    )


def _general(
    policy: GatePolicy, results: EvaluationResult, baseline: EvaluationResult | None
) -> Iterator[Reason]:
    if results.scored < policy.minimum_records:
        text = (
            f"{results.scored} of {results.records} records are scored, and fewer than "
            f"{policy.minimum_records} decide nothing; evaluate more"
        )
        enough = results.records >= policy.minimum_records
        yield Reason(outcome="hold", text=f"{text}{', or ask the failed ones again' if enough else ''}")
    records, failed = results.records or 1, results.failed - results.unjudged
    if failed / records > policy.failed_share:
        text = f"{failed} of {results.records} records failed, and {policy.failed_share:.2%} may"
        yield Reason(outcome="roll_back", text=text)
    if results.unjudged / records > policy.failed_share:
        text = (
            f"the judge failed {results.unjudged} of {results.records} records, and "
            f"{policy.failed_share:.2%} may; run it again, which asks them anew"
        )
        yield Reason(outcome="hold", text=text)
    if baseline is not None and not _same(results, baseline):
        text = (
            f"the baseline {baseline.revision} was asked something else (job {baseline.job} and not "
            f"{results.job}, or another data set); evaluate it anew with this job"
        )
        yield Reason(outcome="hold", text=text)


def _same(results: EvaluationResult, baseline: EvaluationResult) -> bool:
    return (results.job, results.dataset) == (baseline.job, baseline.dataset)


def _bounds(threshold: Threshold, found: MetricResult | None) -> Iterator[Reason]:
    name = threshold.metric
    if found is None:
        yield Reason(outcome="hold", metric=name, text=f"{name} is not in the results; add its algorithm")
        return
    at_least, at_most = threshold.at_least, threshold.at_most
    if at_least is not None:
        outcome = _above(found, at_least)
        yield Reason(
            outcome=outcome, metric=name, text=f"{name} is {_shown(found)}, asked for at least {at_least:g}"
        )
    if at_most is not None:
        outcome = _above(_turned(found), -at_most)
        yield Reason(
            outcome=outcome, metric=name, text=f"{name} is {_shown(found)}, asked for at most {at_most:g}"
        )


def _regression(name: str, allowed: float, found: MetricResult | None, first_revision: bool) -> Reason:
    if found is None and first_revision:
        text = f"{name} is compared with nothing: this is the first revision"
        return Reason(outcome="promote", metric=name, text=text)
    if found is None:
        text = (
            f"{name} cannot be compared: no baseline has it for the same records; name the results of the "
            "revision that serves, or say that this is the first"
        )
        return Reason(outcome="hold", metric=name, text=text)
    gain = found if found.better == "higher" else _turned(found)
    text = f"{name} differs from the baseline's by {_shown(found)}, and may be worse by {allowed:g}"
    return Reason(outcome=_above(gain, -allowed), metric=name, text=text)


def _above(found: MetricResult, bound: float) -> Outcome:
    if found.low is None or found.high is None:
        return "hold"
    if found.low >= bound:
        return "promote"
    return "roll_back" if found.high < bound else "hold"


def _turned(found: MetricResult) -> MetricResult:
    low = None if found.high is None else -found.high
    high = None if found.low is None else -found.low
    return MetricResult(value=-found.value, low=low, high=high, better="higher")


def _shown(found: MetricResult) -> str:
    if found.low is None or found.high is None:
        return f"{found.value:.4g} (no interval)"
    return f"{found.value:.4g} ({found.low:.4g} to {found.high:.4g})"
