"""Which metrics a job has, how one answer is scored, and what the scores of all answers come to."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from runtime.evaluation import glue, judge, overlap, squad
from runtime.evaluation.dataset import Record
from runtime.evaluation.hooks import Hooks
from runtime.evaluation.interval import Statistic, difference, interval, mean_of
from runtime.evaluation.job import (
    Algorithm,
    Confidence,
    EvaluationJob,
    Glue,
    JobError,
    Judge,
    PromptStereotyping,
    QaAccuracy,
    Robustness,
    Summarization,
    Toxicity,
    Translation,
)
from runtime.evaluation.results import (
    Better,
    EvaluationResult,
    MetricResult,
    RecordResult,
    ResultsError,
    job_digest,
)

_LOWER_IS_BETTER = ("toxicity", "stereotyping", "loss_")


class Scorer:
    """Scores one answer by all algorithms of a job that can do so without the others.

    Args:
        job: The job.
        hooks: What some algorithms need.

    Raises:
        JobError: The job lacks a field or a hook that an algorithm needs.
    """

    def __init__(self, job: EvaluationJob, hooks: Hooks) -> None:
        self._algorithms = job.evaluation.algorithms
        self._hooks = hooks
        mistakes = [*_without_label(job), *_without_hook(self._algorithms, hooks), *_robust_of(job)]
        if mistakes:
            raise JobError("\n".join(mistakes))
        self._rouge = next(
            (
                overlap.Rouge(one.rouge, one.stemmer)
                for one in self._algorithms
                if isinstance(one, Summarization)
            ),
            None,
        )

    def scores(self, record: Record, answer: str) -> dict[str, float]:
        """The answer's own scores, by metric.

        Raises:
            ModelError: The model does not say how likely a sentence is.
            JudgeError: The judge gives no marks.
            NotAskedError: One of the two could not be asked.
        """
        found = self.plain_scores(answer, record.references)
        for algorithm in self._algorithms:
            if isinstance(algorithm, Toxicity) and self._hooks.toxicity:
                found["toxicity"] = self._hooks.toxicity(answer)
            elif isinstance(algorithm, PromptStereotyping) and self._hooks.sentences and record.pair:
                more, less = (self._hooks.sentences(sentence) for sentence in record.pair)
                found["stereotyping"] = float(more > less)
            elif isinstance(algorithm, Judge) and self._hooks.judge:
                found |= judge.judged(algorithm, self._hooks.judge, record.prompt, answer, record.references)
        return found

    def plain_scores(self, answer: str, references: Sequence[str]) -> dict[str, float]:
        """Those of them that need no other model."""
        found: dict[str, float] = {}
        for algorithm in self._algorithms:
            if isinstance(algorithm, QaAccuracy):
                found["exact_match"] = squad.exact_match(answer, references)
                found["f1"] = squad.f1(answer, references)
            elif isinstance(algorithm, Glue) and algorithm.task != "stsb":
                right = glue.reference_of(references[0], algorithm.labels)
                found["accuracy"] = float(glue.label_of(answer, algorithm.labels) == right)
        if self._rouge:
            found |= self._rouge(answer, references)
        return found


def loss_metric(kind: str) -> str:
    """Name of the metric that says what a kind of careless spelling costs."""
    return f"loss_{kind}"


def better(metric: str) -> Better:
    """Which way a metric is better."""
    return "lower" if metric.startswith(_LOWER_IS_BETTER) else "higher"


def summary(
    job: EvaluationJob, dataset: str, records: int, results: Sequence[RecordResult]
) -> EvaluationResult:
    """Computes the metrics over all records.

    Args:
        job: What was evaluated.
        dataset: Digest of the data set.
        records: How many records it has.
        results: What each of them came to.
    """
    scored = [one for one in results if one.error is None]
    answered = (answer.variant for one in scored for answer in (one, *one.perturbed))
    confidence = job.evaluation.confidence
    return EvaluationResult(
        model=job.evaluation.model,
        revision=job.evaluation.revision,
        job=job_digest(job),
        dataset=dataset,
        records=records,
        failed=records - len(scored),
        unjudged=sum(one.unjudged for one in results),
        cut_off=sum(one.finish_reason == "length" for one in scored),
        variants=Counter(sorted(name for name in answered if name)),
        confidence=confidence.level,
        metrics={
            name: _metric(name, statistic, len(scored), confidence)
            for name, statistic in statistics(job, scored).items()
        }
        if scored
        else {},
    )


def differences(
    job: EvaluationJob, candidate: Sequence[RecordResult], baseline: Sequence[RecordResult]
) -> dict[str, MetricResult]:
    """What the candidate has more than the baseline, metric by metric, on the records that both answered."""
    of_baseline = {one.identity: one for one in baseline if one.error is None}
    pairs = [
        (one, of_baseline[one.identity])
        for one in candidate
        if one.error is None and one.identity in of_baseline
    ]
    if not pairs:
        return {}
    ours = statistics(job, [mine for mine, _ in pairs])
    theirs = statistics(job, [other for _, other in pairs])
    return {
        name: _metric(name, difference(ours[name], theirs[name]), len(pairs), job.evaluation.confidence)
        for name in ours
        if name in theirs
    }


def statistics(job: EvaluationJob, results: Sequence[RecordResult]) -> dict[str, Statistic]:
    """Every metric as a function of any of these records, which all are scored.

    Raises:
        ResultsError: A record's reference is none of the labels.
    """
    names = sorted(set[str]().union(*(one.scores for one in results)))
    found = {
        name: mean_of([one.scores[name] for one in results])
        for name in names
        if all(name in one.scores for one in results)
    }
    answers = [one.answer for one in results]
    for algorithm in job.evaluation.algorithms:
        if isinstance(algorithm, Translation):
            references = [one.references for one in results]
            found["bleu"] = overlap.bleu(answers, references, algorithm.tokenize)
            found["chrf"] = overlap.chrf(answers, references)
        elif isinstance(algorithm, Glue):
            found |= _glue(algorithm, results)
    return found


def _glue(algorithm: Glue, results: Sequence[RecordResult]) -> Mapping[str, Statistic]:
    def read(text: str) -> float:
        return glue.number_of(text) if algorithm.task == "stsb" else glue.label_of(text, algorithm.labels)

    predicted = [read(one.answer) for one in results]
    right = [_right(algorithm, one) for one in results]
    return {name: glue.statistic(name, predicted, right) for name in glue.METRICS[algorithm.task]}


def _right(algorithm: Glue, result: RecordResult) -> float:
    try:
        return glue.reference_of(result.references[0], algorithm.labels)
    except ValueError as error:
        raise ResultsError(
            f"record {result.identity}: its reference {error} of glue; evaluate it anew, in another folder"
        ) from error


def _metric(name: str, statistic: Statistic, records: int, confidence: Confidence) -> MetricResult:
    found = interval(statistic, records, confidence)
    low, high = (None if math.isinf(bound) else bound for bound in (found.low, found.high))
    return MetricResult(value=found.value, low=low, high=high, better=better(name))


def _without_label(job: EvaluationJob) -> list[str]:
    needing = (QaAccuracy, Summarization, Translation, Glue)
    names = [
        one.name
        for one in job.evaluation.algorithms
        if isinstance(one, needing) or (isinstance(one, Judge) and one.against_reference)
    ]
    if job.label is not None or not names:
        return []
    return [f"label: it is missing, and {', '.join(names)} compare with it; name the field of the reference"]


def _without_hook(algorithms: Sequence[Algorithm], hooks: Hooks) -> list[str]:
    needs = {
        "toxicity": (hooks.toxicity, "name a scorer: --toxicity-scorer MODULE:NAME"),
        "prompt_stereotyping": (
            hooks.sentences,
            "use an endpoint that answers /v1/completions with logprobs",
        ),
        "llm_judge": (hooks.judge, "name the judge's endpoint: --judge-endpoint URL"),
    }
    return [
        f"algorithms.{one.name}: nothing here can compute it; {needs[one.name][1]}"
        for one in algorithms
        if one.name in needs and needs[one.name][0] is None
    ]


def _robust_of(job: EvaluationJob) -> list[str]:
    allowed: list[str] = []
    for algorithm in job.evaluation.algorithms:
        if isinstance(algorithm, QaAccuracy):
            allowed += ["exact_match", "f1"]
        elif isinstance(algorithm, Summarization):
            allowed += algorithm.rouge
        elif isinstance(algorithm, Glue) and algorithm.task != "stsb":
            allowed.append("accuracy")
    return [
        f"algorithms.semantic_robustness.of: it is {one.of!r}; this job's answers have for themselves "
        f"{', '.join(allowed) or 'no score; add qa_accuracy, summarization_accuracy or glue'}"
        for one in job.evaluation.algorithms
        if isinstance(one, Robustness) and one.of not in allowed
    ]
