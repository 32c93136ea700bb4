"""A job file and its data set: what they mean, and every mistake in one message."""

import json
from typing import Any

import pytest

from runtime.evaluation.dataset import DatasetError, Record, read_dataset
from runtime.evaluation.job import EvaluationJob, JobError, prompt_of
from tests.support.evaluation import evaluation_job, lines_of


def test_a_record_is_what_the_job_names() -> None:
    job = evaluation_job(
        features="input.question",
        label="answers",
        identity="id",
        prompt_template="Answer briefly: $model_input",
    )
    content = lines_of({"id": 7, "input": {"question": "2+2?"}, "answers": ["4", "four"]})
    (record,) = read_dataset(job, content).records
    assert record == Record(
        identity="7", prompt="Answer briefly: 2+2?", features="2+2?", references=("4", "four")
    )


def test_without_a_field_for_it_the_line_number_is_the_identity() -> None:
    content = b'{"question": "a", "answer": "b"}\n\n{"question": "c", "answer": "d"}\n'
    assert [one.identity for one in read_dataset(evaluation_job(), content).records] == ["1", "3"]


def test_only_the_first_records_are_read_where_the_job_says_so() -> None:
    content = lines_of(*({"question": f"{at}", "answer": "x"} for at in range(9)))
    assert len(read_dataset(evaluation_job(records=4), content).records) == 4


def test_every_mistake_of_a_data_set_has_its_line_in_one_message() -> None:
    content = b"\n".join(
        [
            b'{"question": "fine", "answer": "yes"}',
            b"{not json",
            b'["a", "list"]',
            b'{"answer": "no question"}',
            b'{"question": "", "answer": "empty"}',
            b'{"question": {"deep": 1}, "answer": true}',
        ]
    )
    with pytest.raises(DatasetError) as raised:
        read_dataset(evaluation_job(), content, "qa.jsonl")
    lines = str(raised.value).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "qa.jsonl, line 2",
        "qa.jsonl, line 3",
        "qa.jsonl, line 4",
        "qa.jsonl, line 5",
        "qa.jsonl, line 6",
        "qa.jsonl, line 6",
    ]
    assert "has no field 'question', which the job names as features; it has answer" in lines[2]
    assert "question (features) is a JSON object; write text or a number" in lines[4]
    assert "answer (label) is a JSON true, false or null" in lines[5]


def test_a_file_that_is_wrong_everywhere_shows_twenty_lines_and_counts_the_rest() -> None:
    with pytest.raises(DatasetError) as raised:
        read_dataset(evaluation_job(), b"x\n" * 50)
    lines = str(raised.value).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "and 30 more like these"


def test_two_records_of_one_identity_are_a_mistake() -> None:
    content = lines_of(*({"id": "same", "question": "a", "answer": "b"} for _ in range(2)))
    with pytest.raises(DatasetError, match="line 2: identity 'same' is that of line 1"):
        read_dataset(evaluation_job(identity="id"), content)


def test_bytes_that_are_no_text_name_their_line() -> None:
    with pytest.raises(DatasetError, match="line 2: it is not UTF-8"):
        read_dataset(evaluation_job(), b'{"question": "a", "answer": "b"}\n\xff\n')


def test_an_empty_data_set_is_a_mistake() -> None:
    with pytest.raises(DatasetError, match="has no record"):
        read_dataset(evaluation_job(), b"\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt_template": "no variable"}, "prompt_template: 'no variable' lacks \\$model_input"),
        ({"algorithms": []}, "algorithms: Tuple should have at least 1 item"),
        ({"algorithms": [{"name": "bertscore"}]}, "algorithms.0: .*'bertscore'"),
        ({"algorithms": [{"name": "qa_accuracy"}] * 2}, "qa_accuracy is there twice"),
        ({"algorithms": [{"name": "glue", "task": "sst2"}]}, "labels: none for task sst2"),
        ({"algorithms": [{"name": "glue", "task": "stsb", "labels": {"a": 1}}]}, "stsb reads a number"),
        (
            {"algorithms": [{"name": "glue", "task": "sst2", "labels": {"1": 0, "2": 1}}]},
            "a reference 1 could be the text of label 0 or the label 1",
        ),
        ({"algorithms": [{"name": "llm_judge", "model": "j"}]}, "rubric: it is empty"),
        ({"sampling": {"temperature": 3}}, "sampling.temperature: .*\\(it is 3\\)"),
        ({"gate": {"thresholds": [{"metric": "f1"}]}}, "f1: name at_least, at_most or regression"),
        ({"colour": "red"}, "x_llm_eval.colour: Extra inputs are not permitted"),
    ],
)
def test_a_mistake_in_a_job_names_its_key(change: dict[str, Any], said: str) -> None:
    with pytest.raises(JobError, match=said):
        evaluation_job(**change)


def test_all_mistakes_of_a_job_come_together() -> None:
    with pytest.raises(JobError) as raised:
        EvaluationJob.read(json.dumps({"dataset_uri": "", "methods": {"x_llm_eval": {"model": "m"}}}))
    assert len(str(raised.value).splitlines()) == 4


def test_a_job_that_is_no_json_names_the_line() -> None:
    with pytest.raises(JobError, match="line 2: it is not JSON"):
        EvaluationJob.read("{\n,}")


def test_a_template_may_hold_other_dollars() -> None:
    assert prompt_of("It costs $5: $model_input", "a $model_input") == "It costs $5: a $model_input"


@pytest.mark.parametrize(
    ("task", "labels", "good", "bad", "allowed"),
    [
        ("sst2", {"no": 0, "yes": 1}, ["yes", 0], ["Yes", "2", 1.0], "'no' or 0, 'yes' or 1"),
        ("stsb", {}, [4.5, "0"], ["much", "nan"], "a number"),
    ],
)
def test_a_reference_that_is_no_label_of_glue_is_a_mistake_with_its_line(
    task: str, labels: dict[str, int], good: list[Any], bad: list[Any], allowed: str
) -> None:
    job = evaluation_job(algorithms=[{"name": "glue", "task": task, "labels": labels}])
    content = lines_of(*({"question": "?", "answer": one} for one in [*good, *bad]))
    with pytest.raises(DatasetError) as raised:
        read_dataset(job, content, "qa.jsonl")
    assert str(raised.value).splitlines() == [
        f"qa.jsonl, line {at}: answer (label) is {str(one)!r}, no label of glue; write {allowed}"
        for at, one in enumerate(bad, len(good) + 1)
    ]
