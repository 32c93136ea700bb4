"""The local backend: asks the model for every record, scores the answers, keeps each one as it comes.

A run may be stopped at any time. What was answered is on disk, one line a record, and the next run with the
same job asks only for the rest; a record that failed is asked again.
"""

import fcntl
import json
import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from runtime.evaluation.dataset import Dataset, Record
from runtime.evaluation.hooks import Hooks, JudgeError, Model, ModelError
from runtime.evaluation.job import EvaluationJob, Robustness, prompt_of
from runtime.evaluation.metrics import Scorer, loss_metric, summary
from runtime.evaluation.perturbation import perturbed
from runtime.evaluation.results import (
    ANALYSIS,
    RECORDS,
    EvaluationResult,
    PerturbedAnswer,
    RecordResult,
    ResultsError,
    job_digest,
    read_records,
)

_RUN = "run.json"


def evaluate(
    job: EvaluationJob,
    dataset: Dataset,
    model: Model,
    hooks: Hooks,
    folder: Path,
    *,
    variant: str | None = None,
    at_once: int = 8,
    told: Callable[[str], None] = lambda _: None,
) -> EvaluationResult:
    """Evaluates a model, and leaves `records.jsonl` and `analysis.json` in a folder.

    Args:
        job: What is evaluated.
        dataset: Its records.
        model: Who answers.
        hooks: What some algorithms need.
        folder: Where the results go; those of the same job that are there are kept.
        variant: The variant that the model asks; a folder is of one. None where nothing was named.
        at_once: Most requests to the model at a time.
        told: Called with how far it is.

    Raises:
        JobError: The job asks for what cannot be computed here.
        ResultsError: The folder holds results of something else, or another run works in it.
        NotAskedError: A model could not be asked; what was answered is kept.
        KeyboardInterrupt: It was stopped; answers under way were waited for and kept.
    """
    scorer = Scorer(job, hooks)
    with _claimed(folder, _identity(job, dataset, variant)):
        path = folder / RECORDS
        kept = _kept(path, dataset)
        missing = [one for one in dataset.records if one.identity not in kept]
        with path.open("a", encoding="utf-8") as file:
            found = kept | _asked(job, missing, model, scorer, file, at_once, len(kept), told)
        results = [found[one.identity] for one in dataset.records]
        told("computing metrics and their intervals")
        result = summary(job, dataset.digest, len(dataset.records), results)
        _write(folder / ANALYSIS, result.text())
        return result


def _identity(job: EvaluationJob, dataset: Dataset, variant: str | None) -> Mapping[str, str | None]:
    evaluation = job.evaluation
    return {
        "model": evaluation.model,
        "revision": evaluation.revision,
        "job": job_digest(job),
        "dataset": dataset.digest,
        "variant": variant,
    }


@contextmanager
def _claimed(folder: Path, identity: Mapping[str, str | None]) -> Generator[None]:
    """Keeps other jobs and other runs out of the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _RUN
    if path.exists():
        there = json.loads(path.read_text())
        differing = [
            f"{key} {there.get(key) or 'unnamed'} and not {value or 'unnamed'}"
            for key, value in identity.items()
            if there.get(key) != value
        ]
        if differing:
            raise ResultsError(
                f"{folder} holds results of something else ({'; '.join(differing)}); name another folder"
            )
    else:
        _write(path, json.dumps(identity, indent=2) + "\n")
    lock = _lock(path)
    try:
        yield
    finally:
        os.close(lock)


def _lock(path: Path) -> int:
    opened = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(opened)
        raise ResultsError(
            f"another run works in {path.parent}; wait for it or name another folder"
        ) from None
    return opened


def _kept(path: Path, dataset: Dataset) -> dict[str, RecordResult]:
    """What is there already; a last line that was torn off is cut away, so that the next one starts anew."""
    if not path.exists():
        return {}
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    wanted = {one.identity for one in dataset.records}
    return {
        one.identity: one
        for one in read_records(whole.decode(), str(path))
        if one.error is None and one.identity in wanted
    }


def _asked(
    job: EvaluationJob,
    missing: Sequence[Record],
    model: Model,
    scorer: Scorer,
    file: TextIO,
    at_once: int,
    before: int,
    told: Callable[[str], None],
) -> dict[str, RecordResult]:
    found: dict[str, RecordResult] = {}
    failed = set[str]()
    total = before + len(missing)
    stopped = threading.Event()

    def ask(record: Record) -> RecordResult | None:
        return None if stopped.is_set() else _one(job, record, model, scorer)

    def keep(done: Iterable[Future[RecordResult | None]]) -> None:
        for one in done:
            result = one.result()
            if result is None or result.identity in found:
                continue
            file.write(result.line())
            file.flush()
            found[result.identity] = result
            failed.update([result.identity] if result.error else [])
            told(f"{before + len(found)} of {total} records{f', {len(failed)} failed' if failed else ''}")

    with ThreadPoolExecutor(at_once, thread_name_prefix="evaluate") as pool:
        every = [pool.submit(ask, record) for record in missing]
        open_ones = set(every)
        try:
            while open_ones:
                done, open_ones = wait(open_ones, return_when=FIRST_COMPLETED)
                keep(done)
        except BaseException:
            # Those under way end, the others do not begin; a second Ctrl-C does not wait.
            stopped.set()
            told("stopping: waiting for the answers under way")
            keep(one for one in wait(every).done if one.exception() is None)
            raise
    return found


def _one(job: EvaluationJob, record: Record, model: Model, scorer: Scorer) -> RecordResult:
    try:
        answer = model.answer(record.prompt)
        scores = scorer.scores(record, answer.text)
        careless = tuple(_careless(job, record, model, scorer))
    except (ModelError, JudgeError) as error:
        return RecordResult(
            identity=record.identity,
            prompt=record.prompt,
            references=record.references,
            error=str(error),
            unjudged=isinstance(error, JudgeError),
        )
    kinds = dict.fromkeys(one.kind for one in careless)
    for algorithm in job.evaluation.algorithms:
        if isinstance(algorithm, Robustness):
            for kind in kinds:
                ones = [one.score for one in careless if one.kind == kind]
                scores[loss_metric(kind)] = scores[algorithm.of] - sum(ones) / len(ones)
    return RecordResult(
        identity=record.identity,
        prompt=record.prompt,
        answer=answer.text,
        references=record.references,
        scores=scores,
        perturbed=careless,
        seconds=round(answer.seconds, 3),
        finish_reason=answer.finish_reason,
        variant=answer.variant,
    )


def _careless(job: EvaluationJob, record: Record, model: Model, scorer: Scorer) -> Iterator[PerturbedAnswer]:
    for algorithm in job.evaluation.algorithms:
        if not isinstance(algorithm, Robustness):
            continue
        for kind in algorithm.perturbations:
            for copy in range(algorithm.copies):
                seed = f"{algorithm.seed}/{record.identity}/{kind}/{copy}"
                features = perturbed(record.features, kind, algorithm.share, seed)
                prompt = prompt_of(job.evaluation.prompt_template, features)
                answer = model.answer(prompt)
                score = scorer.plain_scores(answer.text, record.references)[algorithm.of]
                yield PerturbedAnswer(
                    kind=kind, prompt=prompt, answer=answer.text, variant=answer.variant, score=score
                )


def _write(path: Path, text: str) -> None:
    # In one piece: who reads it sees the old file or the new one.
    beside = path.with_suffix(".tmp")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
