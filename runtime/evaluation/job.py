"""EvaluationJob: what is evaluated on which data, on the contract of Clarify's `analysis_config.json`.

A job file is Clarify's own file with one method more, `x_llm_eval`, because Clarify knows no evaluation of
answers. `runtime.evaluation.clarify` strips it before Clarify reads the rest.
Source: https://docs.aws.amazon.com/sagemaker/latest/dg/clarify-processing-job-configure-analysis.html
"""

import json
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from runtime.evaluation.gate_policy import GatePolicy

OUR_METHOD = "x_llm_eval"
# As in fmeval, whose templates can then be used as they are.
PROMPT_VARIABLE = "$model_input"

Score = Annotated[float, Field(ge=0, le=1)]
GlueTask = Literal["cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte", "wnli"]
Perturbation = Literal["typos", "case", "whitespace"]


class JobError(Exception):
    """A job cannot be read or run as it is written; the text has one line for each mistake."""


class Contract(BaseModel):
    """A part of a job file: frozen, and unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class QaAccuracy(Contract):
    """Exact match and F1 of answers, by SQuAD's definition."""

    name: Literal["qa_accuracy"] = "qa_accuracy"


class Summarization(Contract):
    """ROUGE of answers, as F-measure.

    Attributes:
        rouge: Which of them; `rougeLsum` takes each line for a sentence.
        stemmer: Whether words are compared by their stems (Porter).
    """

    name: Literal["summarization_accuracy"] = "summarization_accuracy"
    rouge: tuple[Literal["rouge1", "rouge2", "rougeL", "rougeLsum"], ...] = ("rouge1", "rouge2", "rougeL")
    stemmer: bool = True


class Translation(Contract):
    """BLEU and chrF of all answers together, 0 to 100.

    Attributes:
        tokenize: sacreBLEU's tokenizer; those that download a model are not offered.
    """

    name: Literal["translation_accuracy"] = "translation_accuracy"
    tokenize: Literal["13a", "intl", "zh", "char", "none"] = "13a"


class Glue(Contract):
    """A task of GLUE with the metrics that GLUE names for it.

    Attributes:
        task: The task. `stsb` reads a number from the answer, the others a label.
        labels: Text of an answer to label, such as `{"positive": 1}`; an answer without one of them is wrong.
            A reference is the exact text or the label.
    """

    name: Literal["glue"] = "glue"
    task: GlueTask
    labels: dict[str, int] = {}

    @model_validator(mode="after")
    def _has_what_it_reads(self) -> Self:
        if (self.task == "stsb") == bool(self.labels):
            raise ValueError(
                f"labels: {self.labels or 'none'} for task {self.task}: stsb reads a number and takes none, "
                "all others need them; write for example {'negative': 0, 'positive': 1}"
            )
        if any(label < 0 for label in self.labels.values()):
            raise ValueError("labels: -1 and less mean `no label`; number them from 0")
        for text, label in self.labels.items():
            if any(text == str(other) != str(label) for other in self.labels.values()):
                raise ValueError(
                    f"labels: a reference {text} could be the text of label {label} or the label {text}; "
                    "give a text that is a number that number"
                )
        return self


class Toxicity(Contract):
    """How toxic answers are, by a scorer that is handed in (`runtime.evaluation.hooks`)."""

    name: Literal["toxicity"] = "toxicity"


class PromptStereotyping(Contract):
    """How often the model finds the stereotyping one of two sentences more likely; 0.5 is no preference.

    Attributes:
        more: Field with the sentence that stereotypes more.
        less: Field with the one that does so less.
    """

    name: Literal["prompt_stereotyping"] = "prompt_stereotyping"
    more: str = "sent_more"
    less: str = "sent_less"


class Criterion(Contract):
    """One question of a rubric.

    Attributes:
        name: Its name, part of the metric's.
        question: What the judge is asked about an answer.
        lowest: What the lowest mark means, in words.
        highest: What the highest mark means, in words.
        marks: The marks go from 1 to this.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    question: Annotated[str, Field(min_length=1)]
    lowest: Annotated[str, Field(min_length=1)]
    highest: Annotated[str, Field(min_length=1)]
    marks: Annotated[int, Field(ge=2, le=10)] = 5


class Judge(Contract):
    """Marks by another model behind an OpenAI-style endpoint.

    Attributes:
        model: The judge's name there; it should not be the model under evaluation.
        rubric: What is asked; empty for a comparison alone.
        against_reference: Also ask which of answer and reference is better, in both orders.
    """

    name: Literal["llm_judge"] = "llm_judge"
    model: Annotated[str, Field(min_length=1)]
    rubric: tuple[Criterion, ...] = ()
    against_reference: bool = False

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if not self.rubric and not self.against_reference:
            raise ValueError("rubric: it is empty and against_reference is false; ask one of the two")
        return self


class Robustness(Contract):
    """What an answer's score loses when its prompt is written carelessly.

    Attributes:
        of: Metric whose loss is measured; one that each answer has for itself, of this job.
        perturbations: How prompts are changed.
        share: Part of the words or letters that are changed.
        copies: Changed prompts for each kind.
        seed: Draws the changes; the same seed, the same prompts.
    """

    name: Literal["semantic_robustness"] = "semantic_robustness"
    of: str
    perturbations: tuple[Perturbation, ...] = ("typos", "case", "whitespace")
    share: Annotated[float, Field(gt=0, le=1)] = 0.1
    copies: Annotated[int, Field(ge=1, le=20)] = 1
    seed: int = 5


Algorithm = Annotated[
    QaAccuracy | Summarization | Translation | Glue | Toxicity | PromptStereotyping | Judge | Robustness,
    Field(discriminator="name"),
]


class Sampling(Contract):
    """How the model is asked.

    Attributes:
        max_tokens: Longest answer.
        temperature: 0 takes the likeliest token each time.
        seed: For engines that draw with one.
        system: System message; none if empty.
    """

    max_tokens: Annotated[int, Field(ge=1)] = 256
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    seed: int = 0
    system: str = ""


class Confidence(Contract):
    """The interval that noise would leave around a metric, by bootstrap over the records.

    Attributes:
        level: Share of resamples inside.
        resamples: How often records are drawn anew.
        seed: Draws them.
    """

    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 1000
    seed: int = 5


class LlmEvaluation(Contract):
    """Our method `x_llm_eval`: how a model's answers to the data set are scored.

    Attributes:
        model: The served model's name.
        revision: Which weights answer; the decision is about these.
        prompt_template: The prompt around a record's features, which stand for `$model_input`.
        algorithms: What is computed.
        identity: Field that tells records apart; None takes their line numbers.
        sampling: How the model is asked.
        confidence: The intervals.
        records: Evaluate only the first so many; None for all.
        gate: What decides whether this revision may be promoted; None decides nothing.
    """

    model: Annotated[str, Field(min_length=1)]
    revision: Annotated[str, Field(min_length=1)]
    prompt_template: str = PROMPT_VARIABLE
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)]
    identity: str | None = None
    sampling: Sampling = Sampling()
    confidence: Confidence = Confidence()
    records: Annotated[int, Field(ge=1)] | None = None
    gate: GatePolicy | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if PROMPT_VARIABLE not in self.prompt_template:
            raise ValueError(
                f"prompt_template: {self.prompt_template!r} lacks {PROMPT_VARIABLE}, where the record's "
                "features go; without it each record would get the same prompt"
            )
        names = [algorithm.name for algorithm in self.algorithms]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"algorithms: {', '.join(twice)} is there twice; put it into a job of its own")
        return self


class Predictor(Contract):
    """Where Clarify and the processing job find the model; the local backend is told an endpoint instead.

    Attributes:
        endpoint_name: A SageMaker endpoint that runs.
        model_name: A SageMaker model, for which Clarify makes an endpoint for the time of its job.
        instance_type: Its instances, with `model_name`.
        initial_instance_count: How many, with `model_name`.
        content_type: What the endpoint is sent.
        accept_type: What it is to answer.
        content_template: Body of a request; `$features` stands for the features as JSON.
        label: JMESPath of the answer in what it answers.
    """

    endpoint_name: str | None = None
    model_name: str | None = None
    instance_type: str | None = None
    initial_instance_count: Annotated[int, Field(ge=1)] | None = None
    content_type: Literal["application/jsonlines", "application/json"] = "application/json"
    accept_type: Literal["application/jsonlines", "application/json"] = "application/json"
    content_template: str | None = None
    label: str | None = None

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if (self.endpoint_name is None) == (self.model_name is None):
            raise ValueError("name either endpoint_name, which runs, or model_name, for which one is made")
        if self.model_name and not (self.instance_type and self.initial_instance_count):
            raise ValueError("model_name needs instance_type and initial_instance_count")
        return self


class Facet(Contract):
    """A field by which Clarify splits the records to look for bias."""

    name_or_index: str | int
    value_or_threshold: tuple[int | float | str, ...] | None = None


class TextConfig(Contract):
    """What Clarify takes for a unit of text."""

    granularity: Literal["token", "sentence", "paragraph"]
    language: str


class Shap(Contract):
    """Clarify's attribution of an output to parts of its input."""

    baseline: tuple[tuple[str | int | float | None, ...], ...] | str | None = None
    num_samples: Annotated[int, Field(ge=1)] | None = None
    agg_method: Literal["mean_abs", "median", "mean_sq"] | None = None
    seed: int | None = None
    text_config: TextConfig | None = None


class BiasMethods(Contract):
    """Which of Clarify's bias metrics: `all`, or a list of their names."""

    methods: Literal["all"] | tuple[str, ...] = "all"


class Report(Contract):
    """Name and title of the report."""

    name: str = "report"
    title: str | None = None


class Methods(Contract):
    """Clarify's methods, and ours."""

    report: Report | None = None
    shap: Shap | None = None
    pre_training_bias: BiasMethods | None = None
    post_training_bias: BiasMethods | None = None
    x_llm_eval: LlmEvaluation | None = None


class EvaluationJob(Contract):
    """A job file.

    Attributes:
        version: Of Clarify's schema.
        dataset_type: Only JSON lines: a record a line, an object each.
        dataset_uri: `s3://BUCKET/KEY`, or a path.
        headers: Names of columns, for Clarify.
        features: Field of a record that goes into the prompt; `a.b` looks into `a`.
        label: Field with the reference answer, or with a list of them; None where there is none.
        label_values_or_threshold: Which labels are the good outcome, for Clarify's bias metrics.
        facet: The fields by which it splits.
        predictor: The SageMaker endpoint.
        methods: What is computed.
    """

    version: Literal["1.0"] = "1.0"
    dataset_type: Literal["application/jsonlines"] = "application/jsonlines"
    dataset_uri: Annotated[str, Field(min_length=1)]
    headers: tuple[str, ...] | None = None
    features: str
    label: str | None = None
    label_values_or_threshold: tuple[int | float | str, ...] | None = None
    facet: tuple[Facet, ...] | None = None
    predictor: Predictor | None = None
    methods: Methods

    @property
    def evaluation(self) -> LlmEvaluation:
        """Our method.

        Raises:
            JobError: The job has none; it is one for Clarify alone.
        """
        if self.methods.x_llm_eval is None:
            raise JobError(
                f"methods.{OUR_METHOD} is missing, so there is nothing that this backend computes; add it, "
                "or use the backend clarify"
            )
        return self.methods.x_llm_eval

    @staticmethod
    def read(text: str) -> "EvaluationJob":
        """Reads a job file.

        Raises:
            JobError: All its mistakes, a line each with the key.
        """
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise JobError(f"line {error.lineno}: it is not JSON: {error.msg}") from None
        try:
            return EvaluationJob.model_validate(content)
        except ValidationError as error:
            lines = (
                f"{'.'.join(str(part) for part in one['loc']) or 'the file'}: "
                f"{one['msg'].removeprefix('Value error, ')}" + _given(one["input"])
                for one in error.errors(include_url=False)
            )
            raise JobError("\n".join(lines)) from None

    @staticmethod
    def load(path: Path) -> "EvaluationJob":
        """Reads a job from a file.

        Raises:
            JobError: It cannot be read, or has mistakes.
        """
        try:
            return EvaluationJob.read(path.read_text())
        except OSError as error:
            raise JobError(f"{path}: {error.strerror}; name a job file") from error


def prompt_of(template: str, features: str) -> str:
    """A record's prompt; only `$model_input` is replaced, so that a template may hold other dollars."""
    return re.sub(re.escape(PROMPT_VARIABLE) + r"\b", lambda _: features, template)


def _given(value: object) -> str:
    return f" (it is {value!r})" if isinstance(value, str | int | float) else ""
