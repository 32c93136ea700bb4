"""Jobs, data and models for tests of evaluation; all of our own."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from runtime.evaluation.dataset import Dataset, read_dataset
from runtime.evaluation.hooks import Answer, ModelError
from runtime.evaluation.job import EvaluationJob

_OF_THE_FILE = (
    "features",
    "label",
    "dataset_uri",
    "predictor",
    "facet",
    "headers",
    "label_values_or_threshold",
)


def evaluation_job(*, methods: Mapping[str, Any] | None = None, **changes: Any) -> EvaluationJob:
    """A job with SQuAD's metrics over `question` and `answer`, and changes to it or to `x_llm_eval`."""
    of_file = {key: changes.pop(key) for key in _OF_THE_FILE if key in changes}
    evaluation = {
        "model": "spillway-tiny",
        "revision": "r2",
        "algorithms": [{"name": "qa_accuracy"}],
        "confidence": {"resamples": 100},
        **changes,
    }
    content = {
        "dataset_uri": "qa.jsonl",
        "features": "question",
        "label": "answer",
        **of_file,
        "methods": {**(methods or {}), "x_llm_eval": evaluation},
    }
    return EvaluationJob.read(json.dumps(content))


def lines_of(*records: Mapping[str, Any]) -> bytes:
    """Records as JSON lines."""
    return "".join(json.dumps(one) + "\n" for one in records).encode()


def sums(job: EvaluationJob, count: int) -> Dataset:
    """So many records that ask for a sum."""
    return read_dataset(
        job, lines_of(*({"question": f"{at} plus 1", "answer": f"{at + 1}"} for at in range(count)))
    )


class Adding:
    """A model that adds, wrong for the numbers that it is told; it counts what it is asked.

    Args:
        wrong: Numbers that it gets wrong.
        refuses: Numbers that it gives no answer for.
        before: Called with each prompt.
    """

    def __init__(
        self,
        wrong: set[int] | None = None,
        refuses: set[int] | None = None,
        before: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.wrong, self.refuses, self._before = wrong or set(), refuses or set(), before
        self.asked: list[str] = []

    def answer(self, prompt: str) -> Answer:
        self.asked.append(prompt)
        self._before(prompt)
        words = prompt.split()
        if len(words) != 3 or words[1] != "plus":
            return Answer(text="what?", seconds=0.5)
        number = int(words[0])
        if number in self.refuses:
            raise ModelError("503 no capacity")
        return Answer(text=str(number if number in self.wrong else number + 1), seconds=0.5)
