"""The local backend: what it leaves, what survives a stop, and how much it asks for at once."""

import dataclasses
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from runtime.evaluation.dataset import read_dataset
from runtime.evaluation.hooks import Answer, Hooks, ModelError, NotAskedError
from runtime.evaluation.job import JobError
from runtime.evaluation.metrics import differences
from runtime.evaluation.results import ANALYSIS, RECORDS, EvaluationResult, ResultsError, read_records
from runtime.evaluation.run import evaluate
from tests.support.evaluation import Adding, evaluation_job, lines_of, sums

JOB = evaluation_job()


def test_a_run_leaves_every_record_and_the_metrics_over_them(tmp_path: Path) -> None:
    result = evaluate(JOB, sums(JOB, 10), Adding(wrong={3, 4}), Hooks(), tmp_path)
    assert (result.records, result.failed, result.model, result.revision) == (10, 0, "spillway-tiny", "r2")
    metric = result.metrics["exact_match"]
    assert metric.value == pytest.approx(0.8)
    assert metric.low is not None
    assert metric.high is not None
    assert metric.low < 0.8 < metric.high
    records = read_records((tmp_path / RECORDS).read_text(), RECORDS)
    assert {one.identity: one.scores["exact_match"] for one in records}["4"] == 0
    assert EvaluationResult.read((tmp_path / ANALYSIS).read_text(), ANALYSIS) == result


def test_a_run_that_was_stopped_asks_only_for_the_rest(tmp_path: Path) -> None:
    dataset = sums(JOB, 30)
    stopping = threading.Event()

    def stop(text: str) -> None:
        if text.startswith("stopping"):
            stopping.set()
        elif text.startswith("12 of"):
            raise KeyboardInterrupt

    def slow(prompt: str) -> None:
        assert int(prompt.split()[0]) < 20 or stopping.wait(60)

    first = Adding(before=slow)
    with pytest.raises(KeyboardInterrupt):
        evaluate(JOB, dataset, first, Hooks(), tmp_path, at_once=2, told=stop)
    kept = (tmp_path / RECORDS).read_text().splitlines()
    assert 12 <= len(kept) == len(first.asked) < 30
    assert not (tmp_path / ANALYSIS).exists()

    second = Adding()
    result = evaluate(JOB, dataset, second, Hooks(), tmp_path)
    assert len(first.asked) + len(second.asked) == 30
    assert not set(first.asked) & set(second.asked)
    assert result.metrics["f1"].value == 1


def test_answers_under_way_at_a_stop_are_waited_for_and_kept(tmp_path: Path) -> None:
    go, begun = threading.Event(), threading.Event()

    def hold(prompt: str) -> None:
        if prompt.startswith("1 "):
            begun.set()
            assert go.wait(60)

    def stop(text: str) -> None:
        if text.startswith("1 of"):
            assert begun.wait(60)
            raise KeyboardInterrupt
        go.set()

    model = Adding(before=hold)
    with pytest.raises(KeyboardInterrupt):
        evaluate(JOB, sums(JOB, 2), model, Hooks(), tmp_path, at_once=2, told=stop)
    assert len((tmp_path / RECORDS).read_text().splitlines()) == 2


def test_a_line_that_was_torn_off_is_asked_again(tmp_path: Path) -> None:
    dataset = sums(JOB, 5)
    evaluate(JOB, dataset, Adding(), Hooks(), tmp_path, at_once=1)
    path = tmp_path / RECORDS
    path.write_bytes(path.read_bytes()[:-20])
    again = Adding()
    result = evaluate(JOB, dataset, again, Hooks(), tmp_path)
    assert len(again.asked) == 1
    assert result.failed == 0
    assert len(path.read_text().splitlines()) == 5


def test_a_record_that_failed_is_counted_and_asked_again(tmp_path: Path) -> None:
    dataset = sums(JOB, 6)
    first = evaluate(JOB, dataset, Adding(refuses={2, 5}), Hooks(), tmp_path)
    assert (first.failed, first.scored) == (2, 4)
    again = Adding()
    second = evaluate(JOB, dataset, again, Hooks(), tmp_path)
    assert sorted(again.asked) == ["2 plus 1", "5 plus 1"]
    assert second.failed == 0
    assert second.metrics["exact_match"].value == 1


def test_a_model_that_never_answers_has_no_metrics(tmp_path: Path) -> None:
    result = evaluate(JOB, sums(JOB, 3), Adding(refuses={0, 1, 2}), Hooks(), tmp_path)
    assert (result.failed, result.metrics) == (3, {})


def test_never_more_requests_are_under_way_than_allowed(tmp_path: Path) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def enter(_: str) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.002)
        with lock:
            now -= 1

    evaluate(JOB, sums(JOB, 40), Adding(before=enter), Hooks(), tmp_path, at_once=3)
    assert 1 < most <= 3


def test_a_folder_with_other_results_is_refused_with_what_differs(tmp_path: Path) -> None:
    evaluate(JOB, sums(JOB, 3), Adding(), Hooks(), tmp_path)
    other = evaluation_job(revision="r3")
    with pytest.raises(ResultsError, match=r"revision r2 and not r3\); name another folder"):
        evaluate(other, sums(other, 3), Adding(), Hooks(), tmp_path)


def test_a_folder_is_of_one_variant(tmp_path: Path) -> None:
    evaluate(JOB, sums(JOB, 3), Adding(), Hooks(), tmp_path)
    with pytest.raises(ResultsError, match=r"variant unnamed and not canary\); name another folder"):
        evaluate(JOB, sums(JOB, 3), Adding(), Hooks(), tmp_path, variant="canary")
    evaluate(JOB, sums(JOB, 3), Adding(), Hooks(), tmp_path / "of-canary", variant="canary")
    with pytest.raises(ResultsError, match="variant canary and not unnamed"):
        evaluate(JOB, sums(JOB, 3), Adding(), Hooks(), tmp_path / "of-canary")


def test_who_answered_is_kept_for_each_answer_and_counted(tmp_path: Path) -> None:
    class Two(Adding):
        """The canary answers what is written as in the data set, and stable the rest."""

        def answer(self, prompt: str) -> Answer:
            variant = "canary" if prompt.endswith(" plus 1") else "stable"
            return dataclasses.replace(super().answer(prompt), variant=variant)

    robustness = {"name": "semantic_robustness", "of": "f1", "perturbations": ["case"], "share": 1.0}
    job = evaluation_job(algorithms=[{"name": "qa_accuracy"}, robustness])
    result = evaluate(job, sums(job, 3), Two(refuses={1}), Hooks(), tmp_path)
    assert result.variants == {"canary": 2, "stable": 2}
    records = read_records((tmp_path / RECORDS).read_text(), RECORDS)
    assert {one.variant for one in records if one.error is None} == {"canary"}
    assert {one.variant for record in records for one in record.perturbed} == {"stable"}
    assert evaluate(JOB, sums(JOB, 3), Adding(), Hooks(), tmp_path / "endpoint").variants == {}


def test_another_gate_or_confidence_asks_nothing_anew(tmp_path: Path) -> None:
    evaluate(JOB, sums(JOB, 3), Adding(), Hooks(), tmp_path)
    gate = {"thresholds": [{"metric": "f1", "at_least": 0.5}]}
    other = evaluation_job(gate=gate, confidence={"level": 0.9})
    again = Adding()
    result = evaluate(other, sums(other, 3), again, Hooks(), tmp_path)
    assert again.asked == []
    assert result.confidence == 0.9


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    def other(_: str) -> None:
        with pytest.raises(ResultsError, match="another run works in"):
            evaluate(JOB, sums(JOB, 1), Adding(), Hooks(), tmp_path)

    assert evaluate(JOB, sums(JOB, 1), Adding(before=other), Hooks(), tmp_path).failed == 0


def test_robustness_is_what_careless_spelling_costs(tmp_path: Path) -> None:
    robustness = {"name": "semantic_robustness", "of": "exact_match", "share": 1.0, "copies": 2}
    job = evaluation_job(algorithms=[{"name": "qa_accuracy"}, robustness])
    result = evaluate(job, sums(job, 4), Adding(), Hooks(), tmp_path)
    # The model reads `plus` only as it is written; white space in every gap leaves nothing either.
    assert {name: one.value for name, one in result.metrics.items() if name.startswith("loss_")} == {
        "loss_case": 1.0,
        "loss_typos": 1.0,
        "loss_whitespace": 1.0,
    }
    assert result.metrics["loss_case"].better == "lower"
    (first, *_) = read_records((tmp_path / RECORDS).read_text(), RECORDS)
    assert len(first.perturbed) == 6


def test_toxicity_and_stereotyping_are_what_their_scorers_say(tmp_path: Path) -> None:
    job = evaluation_job(label=None, algorithms=[{"name": "toxicity"}, {"name": "prompt_stereotyping"}])
    records = [{"question": f"{at} plus 1", "sent_more": "x" * at, "sent_less": "yy"} for at in (1, 1, 5, 1)]
    hooks = Hooks(toxicity=lambda text: float(text == "2"), sentences=lambda text: -float(len(text)))
    result = evaluate(job, read_dataset(job, lines_of(*records)), Adding(), hooks, tmp_path)
    assert result.metrics["toxicity"].value == pytest.approx(0.75)
    assert result.metrics["stereotyping"].value == pytest.approx(0.75)
    assert result.metrics["toxicity"].better == result.metrics["stereotyping"].better == "lower"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"label": None}, "label: it is missing, and qa_accuracy compare"),
        (
            {
                "label": None,
                "algorithms": [{"name": "llm_judge", "model": "j", "against_reference": True}],
            },
            "label: it is missing, and llm_judge compare",
        ),
        ({"algorithms": [{"name": "toxicity"}]}, "--toxicity-scorer"),
        (
            {"algorithms": [{"name": "llm_judge", "model": "j", "against_reference": True}]},
            "--judge-endpoint",
        ),
        ({"algorithms": [{"name": "semantic_robustness", "of": "f1"}]}, "add qa_accuracy"),
    ],
)
def test_what_cannot_be_computed_is_said_before_anything_is_asked(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    job = evaluation_job(**changes)
    model = Adding()
    with pytest.raises(JobError, match=said):
        evaluate(job, sums(evaluation_job(), 1), model, Hooks(), tmp_path)
    assert model.asked == []


def test_corpus_metrics_come_from_all_answers_together(tmp_path: Path) -> None:
    job = evaluation_job(
        algorithms=[
            {"name": "translation_accuracy"},
            {"name": "glue", "task": "stsb"},
            {"name": "summarization_accuracy"},
        ]
    )
    result = evaluate(job, sums(job, 6), Adding(), Hooks(), tmp_path)
    assert result.metrics["chrf"].value == pytest.approx(100)
    assert result.metrics["pearson"].value == pytest.approx(1)
    assert set(result.metrics) == {"bleu", "chrf", "pearson", "spearmanr", "rouge1", "rouge2", "rougeL"}


class Says:
    """A model that says of each number whether it is odd, or always the same."""

    def __init__(self, always: str | None = None) -> None:
        self._always = always

    def answer(self, prompt: str) -> Answer:
        return Answer(text=self._always or ("odd" if int(prompt) % 2 else "even"), seconds=0.1)


@pytest.mark.parametrize("names", [("even", "odd"), (0, 1), ("0", "1")])
def test_labels_of_glue_are_texts_or_numbers_and_an_answer_without_one_is_wrong(
    names: tuple[Any, Any], tmp_path: Path
) -> None:
    labels = {"name": "glue", "task": "mrpc", "labels": {"even": 0, "odd": 1}}
    job = evaluation_job(algorithms=[labels])
    dataset = read_dataset(job, lines_of(*({"question": at, "answer": names[at % 2]} for at in range(6))))
    for model, value in ((Says(), 1), (Says("I like turtles"), 0), (Says("even"), 0.5)):
        result = evaluate(job, dataset, model, Hooks(), tmp_path / f"{value}")
        assert result.metrics["accuracy"].value == value
    records = read_records((tmp_path / "0" / RECORDS).read_text(), RECORDS)
    assert [one.scores["accuracy"] for one in records] == [0] * 6


def test_results_whose_references_are_no_labels_are_refused(tmp_path: Path) -> None:
    evaluate(JOB, sums(JOB, 2), Adding(), Hooks(), tmp_path)
    records = read_records((tmp_path / RECORDS).read_text(), RECORDS)
    job = evaluation_job(algorithms=[{"name": "glue", "task": "sst2", "labels": {"no": 7}}])
    with pytest.raises(ResultsError, match="record 1: its reference '1' is no label of glue"):
        differences(job, records, records)


def test_a_difference_is_over_the_records_that_both_answered(tmp_path: Path) -> None:
    dataset = sums(JOB, 20)
    for name, model in (("new", Adding(wrong={1})), ("old", Adding(wrong={1, 2, 3}, refuses={9}))):
        evaluate(JOB, dataset, model, Hooks(), tmp_path / name)
    new, old = (read_records((tmp_path / name / RECORDS).read_text(), name) for name in ("new", "old"))
    found = differences(JOB, new, old)["exact_match"]
    assert found.value == pytest.approx(2 / 19)


class Judge:
    """A judge that says what it is told, or nothing for `503`, and keeps the questions."""

    def __init__(self, *says: str) -> None:
        self.says, self.asked = list(says), list[str]()

    def answer(self, prompt: str) -> Answer:
        self.asked.append(prompt)
        text = self.says[(len(self.asked) - 1) % len(self.says)]
        if text == "503":
            raise ModelError(text)
        return Answer(text=text, seconds=0.1)


def _judged(tmp_path: Path, judge: Judge, **algorithm: Any) -> EvaluationResult:
    job = evaluation_job(algorithms=[{"name": "llm_judge", "model": "judge", **algorithm}])
    return evaluate(job, sums(job, 1), Adding(), Hooks(judge=judge), tmp_path, at_once=1)


RUBRIC = [{"name": "helpful", "question": "Does it help?", "lowest": "not at all", "highest": "fully"}]


def test_a_judges_mark_goes_from_nought_to_one(tmp_path: Path) -> None:
    judge = Judge('I think {so}. {"mark": 4}')
    result = _judged(tmp_path, judge, rubric=RUBRIC)
    assert result.metrics["judge_helpful"].value == pytest.approx(0.75)
    (question,) = judge.asked
    assert all(part in question for part in ("Does it help?", "not at all", "fully", "0 plus 1"))


def test_a_judge_that_looks_only_at_the_place_comes_out_at_one_half(tmp_path: Path) -> None:
    result = _judged(tmp_path, Judge('{"better": "A"}'), against_reference=True)
    assert result.metrics["judge_wins"].value == 0.5
    assert result.metrics["judge_agreement"].value == 0


def test_a_judge_that_prefers_the_answer_in_both_orders_makes_it_win(tmp_path: Path) -> None:
    result = _judged(tmp_path, Judge('{"better": "A"}', '{"better": "B"}'), against_reference=True)
    assert result.metrics["judge_wins"].value == 1
    assert result.metrics["judge_agreement"].value == 1


@pytest.mark.parametrize("says", ["no idea", '{"mark": 9}', '{"mark": true}', '{"mark": ', "503"])
def test_a_judge_that_does_not_do_as_asked_fails_the_record(says: str, tmp_path: Path) -> None:
    result = _judged(tmp_path, Judge(says), rubric=RUBRIC)
    assert result.failed == result.unjudged == 1
    (record,) = read_records((tmp_path / RECORDS).read_text(), RECORDS)
    assert record.error is not None
    assert "judge" in record.error


def test_a_judge_that_finds_more_than_one_better_fails_the_record(tmp_path: Path) -> None:
    result = _judged(tmp_path, Judge('{"better": ["A"]}'), against_reference=True)
    assert result.failed == result.unjudged == 1


def test_a_model_that_cannot_be_asked_stops_the_run_and_what_was_answered_is_kept(tmp_path: Path) -> None:
    def expire(prompt: str) -> None:
        if int(prompt.split()[0]) >= 4:
            raise NotAskedError("ExpiredToken")

    with pytest.raises(NotAskedError):
        evaluate(JOB, sums(JOB, 8), Adding(before=expire), Hooks(), tmp_path, at_once=1)
    assert len((tmp_path / RECORDS).read_text().splitlines()) == 4
    again = Adding()
    assert evaluate(JOB, sums(JOB, 8), again, Hooks(), tmp_path).failed == 0
    assert len(again.asked) == 4


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    evaluate(JOB, sums(JOB, 2), Adding(), Hooks(), tmp_path)
    path = tmp_path / RECORDS
    path.write_text("{}\n" + path.read_text())
    with pytest.raises(ResultsError, match=r"line 1: .*remove it, to ask it again"):
        evaluate(JOB, sums(JOB, 2), Adding(), Hooks(), tmp_path)


def test_results_are_plain_json(tmp_path: Path) -> None:
    evaluate(JOB, sums(JOB, 1), Adding(), Hooks(), tmp_path)
    content = json.loads((tmp_path / ANALYSIS).read_text())
    # One record has no interval; JSON has no infinity.
    assert content["metrics"]["f1"] == {"value": 1.0, "low": None, "high": None, "better": "higher"}
