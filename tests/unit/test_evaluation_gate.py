"""The gate: what promotes, what holds, what rolls back, and why."""

import json
from typing import Any

import pytest

from runtime.evaluation.gate import Decision, decide
from runtime.evaluation.gate_policy import GatePolicy
from runtime.evaluation.results import Better, EvaluationResult, MetricResult


def metric(low: float, high: float, better: Better = "higher") -> MetricResult:
    return MetricResult(value=(low + high) / 2, low=low, high=high, better=better)


def results(**changes: Any) -> EvaluationResult:
    content: dict[str, Any] = {
        "model": "m",
        "revision": "r2",
        "job": "j",
        "dataset": "sha256:d",
        "records": 200,
        "failed": 0,
        "cut_off": 0,
        "confidence": 0.95,
        "metrics": {"f1": metric(0.80, 0.90), "toxicity": metric(0.01, 0.03, "lower")},
        **changes,
    }
    return EvaluationResult(**content)


BASELINE = results(revision="r1")


def judged(threshold: dict[str, Any], difference: MetricResult | None = None, **changes: Any) -> Decision:
    policy = GatePolicy.model_validate({"thresholds": [{"metric": "f1", **threshold}], **changes})
    differences = {policy.thresholds[0].metric: difference} if difference else {}
    return decide(policy, results(), BASELINE, differences, "2026-11-22T03:00:00Z")


@pytest.mark.parametrize(
    ("at_least", "outcome"),
    [
        (0.80, "promote"),
        # The value of 0.85 is above, but with other records it might not be.
        (0.81, "hold"),
        (0.90, "hold"),
        (0.91, "roll_back"),
    ],
)
def test_only_the_whole_interval_passes_or_fails_a_floor(at_least: float, outcome: str) -> None:
    assert judged({"at_least": at_least}).outcome == outcome


@pytest.mark.parametrize(("at_most", "outcome"), [(0.03, "promote"), (0.02, "hold"), (0.005, "roll_back")])
def test_a_ceiling_is_a_floor_from_above(at_most: float, outcome: str) -> None:
    assert judged({"metric": "toxicity", "at_most": at_most}).outcome == outcome


@pytest.mark.parametrize(
    ("difference", "outcome"),
    [
        (metric(-0.01, 0.03), "promote"),
        (metric(-0.03, 0.03), "hold"),
        (metric(-0.05, -0.021), "roll_back"),
    ],
)
def test_a_regression_counts_once_it_is_sure(difference: MetricResult, outcome: str) -> None:
    assert judged({"regression": 0.02}, difference).outcome == outcome


def test_more_of_what_should_be_low_is_a_regression() -> None:
    threshold = {"metric": "toxicity", "regression": 0.01}
    assert judged(threshold, metric(0.02, 0.04, "lower")).outcome == "roll_back"
    assert judged(threshold, metric(-0.04, -0.02, "lower")).outcome == "promote"


def test_the_worst_finding_decides_and_stands_first() -> None:
    policy = GatePolicy.model_validate(
        {"thresholds": [{"metric": "f1", "at_least": 0.5}, {"metric": "toxicity", "at_most": 0.001}]}
    )
    decision = decide(policy, results(), None, {}, "now")
    assert decision.outcome == "roll_back"
    assert [one.outcome for one in decision.reasons] == ["roll_back", "promote"]
    assert decision.lines() == (
        "roll back: m r2",
        "  roll back: toxicity is 0.02 (0.01 to 0.03), asked for at most 0.001",
        "  promote: f1 is 0.85 (0.8 to 0.9), asked for at least 0.5",
    )


def test_too_few_records_decide_nothing_in_either_direction() -> None:
    good, bad = (judged({"at_least": at_least}, minimum_records=201) for at_least in (0.1, 0.99))
    assert good.outcome == bad.outcome == "hold"
    assert any("fewer than 201 decide nothing" in one.text for one in good.reasons)


def test_a_revision_that_leaves_requests_without_answer_is_rolled_back() -> None:
    policy = GatePolicy.model_validate({"thresholds": [{"metric": "f1", "at_least": 0.5}]})
    silent = results(failed=200, metrics={})
    assert decide(policy, silent, None, {}, "now").outcome == "roll_back"
    some = results(failed=3)
    (first, *_) = decide(policy, some, None, {}, "now").reasons
    assert first.text == "3 of 200 records failed, and 1.00% may"
    assert decide(policy, results(failed=2), None, {}, "now").outcome == "promote"


def test_a_judge_that_fails_holds_and_takes_no_revision_down() -> None:
    policy = GatePolicy.model_validate({"thresholds": [{"metric": "f1", "at_least": 0.5}]})
    decision = decide(policy, results(failed=5, unjudged=3), None, {}, "now")
    assert decision.outcome == "hold"
    assert decision.reasons[0].text.startswith("the judge failed 3 of 200 records, and 1.00% may")
    assert decide(policy, results(failed=200, unjudged=200, metrics={}), None, {}, "now").outcome == "hold"
    assert decide(policy, results(failed=4, unjudged=2), None, {}, "now").outcome == "promote"
    assert decide(policy, results(failed=5, unjudged=2), None, {}, "now").outcome == "roll_back"


def test_a_metric_that_is_not_there_holds() -> None:
    decision = judged({"metric": "bleu", "at_least": 1})
    assert decision.outcome == "hold"
    assert decision.reasons[0].text == "bleu is not in the results; add its algorithm"


def test_a_comparison_without_a_baseline_holds_unless_it_is_the_first_revision() -> None:
    policy = GatePolicy.model_validate({"thresholds": [{"metric": "f1", "regression": 0.02}]})
    assert decide(policy, results(), None, {}, "now").outcome == "hold"
    assert decide(policy, results(), None, {}, "now", first_revision=True).outcome == "promote"


@pytest.mark.parametrize("other", [{"job": "other"}, {"dataset": "sha256:other"}])
def test_a_baseline_of_another_job_or_data_set_holds(other: dict[str, str]) -> None:
    policy = GatePolicy.model_validate({"thresholds": [{"metric": "f1", "regression": 0.02}]})
    baseline = results(revision="r1", **other)
    decision = decide(policy, results(), baseline, {"f1": metric(0.1, 0.2)}, "now")
    assert decision.outcome == "hold"
    assert any("evaluate it anew with this job" in one.text for one in decision.reasons)


def test_a_metric_without_an_interval_holds() -> None:
    policy = GatePolicy.model_validate({"thresholds": [{"metric": "f1", "at_least": 0.1}]})
    alone = results(metrics={"f1": MetricResult(value=1, better="higher")})
    assert decide(policy, alone, None, {}, "now").outcome == "hold"


def test_the_record_holds_all_that_decided() -> None:
    decision = judged({"at_least": 0.8})
    content = json.loads(decision.text())
    assert content["outcome"] == "promote"
    assert (content["model"], content["revision"], content["baseline"]) == ("m", "r2", "r1")
    assert content["policy"]["thresholds"][0]["at_least"] == 0.8
    assert content["results"]["metrics"]["f1"]["low"] == 0.8
    assert content["decided_at"] == "2026-11-22T03:00:00Z"
    assert Decision.model_validate(content) == decision
