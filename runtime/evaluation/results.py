"""What an evaluation leaves: a line for each record, and one file with the metrics over all of them.

`records.jsonl` and `analysis.json` have the same form whichever backend computed them, so that a gate can
read both, and a later run can compare itself with an earlier one.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runtime.digest import short_digest
from runtime.evaluation.job import EvaluationJob

RECORDS = "records.jsonl"
ANALYSIS = "analysis.json"
DECISION = "decision.json"

Better = Literal["higher", "lower"]


class ResultsError(Exception):
    """Results cannot be read, or are those of something else; the text says what to do."""


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PerturbedAnswer(_Result):
    """What a carelessly written prompt was answered with, by which variant, and its score."""

    kind: str
    prompt: str
    answer: str
    variant: str | None = None
    score: float


class RecordResult(_Result):
    """One record's answer and scores.

    Attributes:
        identity: The record's.
        prompt: What the model was sent.
        answer: What it answered; empty where it did not.
        references: Good answers.
        scores: By metric, for those that an answer has for itself.
        perturbed: Answers to careless spellings of the prompt.
        seconds: How long the answer took.
        finish_reason: Why it ended.
        variant: The variant of a SageMaker endpoint that answered; None where nothing says so.
        error: Why there is no answer or no score; None where there is. Such a record is asked again.
        unjudged: Whether that is the judge's fault and not the model's.
    """

    identity: str
    prompt: str
    answer: str = ""
    references: tuple[str, ...] = ()
    scores: Mapping[str, float] = {}
    perturbed: tuple[PerturbedAnswer, ...] = ()
    seconds: float = 0.0
    finish_reason: str = ""
    variant: str | None = None
    error: str | None = None
    unjudged: bool = False

    def line(self) -> str:
        """The record as a line of `records.jsonl`, with its end."""
        return json.dumps(self.model_dump(mode="json"), ensure_ascii=False) + "\n"


class MetricResult(_Result):
    """A metric over all scored records.

    Attributes:
        value: Its value, in its own unit.
        low: Lower bound of its interval.
        high: Upper bound.
        better: Which way is better.
    """

    value: float
    low: Annotated[float | None, Field(description="None where one record has no interval")] = None
    high: float | None = None
    better: Better


class EvaluationResult(_Result):
    """`analysis.json`.

    Attributes:
        version: Of this form.
        model: The served model's name.
        revision: Which weights answered.
        job: Digest of what was asked and how it was scored; results with another one cannot be compared.
        dataset: Digest of the data set.
        records: How many records there were.
        failed: How many of them have no answer or no score.
        unjudged: How many of those the judge failed, and not the model.
        cut_off: How many answers ended at `max_tokens`.
        variants: Answers by the variant of the SageMaker endpoint that gave them, as far as that is known.
        confidence: Share of resamples inside the intervals.
        metrics: The metrics over all others.
    """

    version: Literal["1.0"] = "1.0"
    model: str
    revision: str
    job: str
    dataset: str
    records: int
    failed: int
    unjudged: int = 0
    cut_off: int
    variants: Mapping[str, int] = {}
    confidence: float
    metrics: Mapping[str, MetricResult]

    @property
    def scored(self) -> int:
        """Records with an answer and scores."""
        return self.records - self.failed

    def text(self) -> str:
        """Renders the file."""
        return json.dumps(self.model_dump(mode="json"), indent=2) + "\n"

    @staticmethod
    def read(text: str, name: str) -> "EvaluationResult":
        """Reads what `text` rendered.

        Raises:
            ResultsError: It is no such file.
        """
        try:
            return EvaluationResult.model_validate_json(text)
        except ValidationError as error:
            raise ResultsError(
                f"{name} is no result of an evaluation: {error.errors()[0]['msg']}; name the folder that "
                f"holds {ANALYSIS}"
            ) from None


def job_digest(job: EvaluationJob) -> str:
    """Stands for what is asked and how it is scored, whichever model answers and whatever the gate asks for.

    Raises:
        JobError: The job evaluates nothing.
    """
    kept = {"prompt_template", "algorithms", "identity", "sampling"}
    evaluation = job.evaluation.model_dump(mode="json", include=kept)
    return short_digest([job.features, job.label, evaluation])


def read_records(text: str, name: str) -> list[RecordResult]:
    """Reads `records.jsonl`: the last line of each record, in the order of the first ones.

    A last line without an end is one that was being written when the machine stopped, and is left out.

    Raises:
        ResultsError: Another line cannot be read.
    """
    found: dict[str, RecordResult] = {}
    lines = text.split("\n")
    for number, line in enumerate(lines[:-1], 1):
        try:
            result = RecordResult.model_validate_json(line)
        except ValidationError as error:
            raise ResultsError(
                f"{name}, line {number}: {error.errors()[0]['msg']}; remove it, to ask it again"
            ) from None
        found[result.identity] = result
    return list(found.values())
