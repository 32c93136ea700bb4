"""`python -m runtime.ops evaluate`: runs an evaluation, judges and applies its results, hands it to AWS."""

import argparse
import datetime
import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]

from runtime.evaluation import bedrock, clarify, processing_job
from runtime.evaluation.dataset import DatasetError, read_dataset
from runtime.evaluation.endpoint import OpenAiEndpoint
from runtime.evaluation.gate import Decision, decide
from runtime.evaluation.hooks import Hooks, Model, NotAskedError, SentenceScorer, ToxicityScorer
from runtime.evaluation.job import EvaluationJob, JobError, Judge, PromptStereotyping, Sampling
from runtime.evaluation.metrics import differences
from runtime.evaluation.publication import metric_data
from runtime.evaluation.results import (
    ANALYSIS,
    DECISION,
    RECORDS,
    EvaluationResult,
    RecordResult,
    ResultsError,
    job_digest,
    read_records,
)
from runtime.evaluation.run import evaluate
from runtime.ops.evaluation import apply
from runtime.ops.evaluation.mlflow import Tracking, TrackingError
from runtime.ops.evaluation.places import PlaceError, aws, beside, read, region, store, write
from runtime.ops.evaluation.sagemaker_endpoint import SageMakerEndpoint
from runtime.ops.evaluation.submission import SubmissionError, start_bedrock, start_processing, wait
from runtime.ops.progress import Progress

# What a pipeline does next depends on the decision, so each has a status of its own.
_STATUS = {"promote": 0, "hold": 3, "roll_back": 4}
_STOPPED = 130
_ERRORS = (
    *(JobError, DatasetError, ResultsError, PlaceError, TrackingError, SubmissionError),
    *(BotoCoreError, ClientError),
    *apply.ERRORS,
)


def main(given: Sequence[str]) -> int:
    """Runs the command; returns 0, 1 for an error, 3 for hold, 4 for roll back, 130 after Ctrl-C."""
    arguments = _parser().parse_args(given)
    progress = Progress()
    try:
        return arguments.run(arguments, progress)
    except NotAskedError as error:
        print(f"{error}\nnothing is decided; see to it and run the same command again", file=sys.stderr)
        return 1
    except _ERRORS as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; run the same command again, and it does only the rest", file=sys.stderr)
        return _STOPPED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m runtime.ops evaluate", description="Evaluates a served model (docs/evaluation.md)."
    )
    commands = parser.add_subparsers(required=True)

    run = commands.add_parser("run", help="ask the model from here, and score its answers")
    run.set_defaults(run=_run)
    run.add_argument("job", help="the job file; a path or s3://BUCKET/KEY")
    run.add_argument(
        "--out", type=Path, required=True, help="folder for the results; goes on with what is there"
    )
    run.add_argument("--dataset", help="the data set, if not the job's dataset_uri")
    run.add_argument(
        "--endpoint", help="OpenAI-style endpoint without /v1; else the job's SageMaker endpoint"
    )
    run.add_argument("--variant", help="variant of the SageMaker endpoint, with or without traffic")
    run.add_argument("--api-key-env", default="API_KEY", help="variable with its key (%(default)s)")
    run.add_argument("--at-once", type=_positive, default=8, help="most requests at a time (%(default)s)")
    run.add_argument("--judge-endpoint", help="OpenAI-style endpoint of the judge")
    run.add_argument("--judge-key-env", default="JUDGE_API_KEY", help="variable with its key (%(default)s)")
    run.add_argument("--toxicity-scorer", help="MODULE:NAME of a function from text to 0…1")
    run.add_argument("--results", help="s3:// prefix that the results are copied to")
    run.add_argument("--cloudwatch", metavar="NAMESPACE", help="publish the metrics under this namespace")
    run.add_argument("--mlflow", metavar="URL", help="log a run; MLFLOW_TRACKING_TOKEN is its token")
    run.add_argument("--experiment", default="spillway", help="MLflow's experiment (%(default)s)")
    run.add_argument("--no-gate", action="store_true", help="leave the decision to `decide`")
    _gate_arguments(run)

    judge = commands.add_parser("decide", help="judge results that are there by the job's gate")
    judge.set_defaults(run=_decide)
    judge.add_argument("job", help="the job file")
    judge.add_argument("--out", required=True, help="folder or s3:// prefix of the results, and the decision")
    _gate_arguments(judge)

    submit = commands.add_parser("submit", help="hand the job to AWS")
    submit.set_defaults(run=_submit)
    submit.add_argument("backend", choices=("processing", "clarify", "bedrock"))
    submit.add_argument("job", help="the job file")
    submit.add_argument("--name", required=True, help="name of AWS' job")
    submit.add_argument("--role", required=True, help="ARN of the role that it takes on")
    submit.add_argument("--results", required=True, help="s3:// prefix for configuration and results")
    submit.add_argument("--variant", help="variant of the endpoint, with or without traffic (processing)")
    submit.add_argument("--image", help="our image by digest (processing)")
    submit.add_argument("--region", help="region of Clarify's image (clarify)")
    submit.add_argument("--instance-type", default="ml.m7i.xlarge")
    submit.add_argument("--subnet", action="append", default=[])
    submit.add_argument("--security-group", action="append", default=[])
    submit.add_argument("--kms-key", help="ARN of the key that encrypts it")
    submit.add_argument("--out", type=Path, help="folder of a local run, whose answers are judged (bedrock)")
    submit.add_argument("--judge", help="Bedrock's id of the judge (bedrock)")
    submit.add_argument("--metric", action="append", help="Builtin.… (bedrock); Correctness and Completeness")
    submit.add_argument("--print", action="store_true", help="print the request, and send and write nothing")
    submit.add_argument("--wait", action="store_true", help="wait until the job has ended")

    apply.add_arguments(
        commands.add_parser("apply", help="move a canary's traffic as the decision says, and record it"),
        commands.add_parser("history", help="the decisions in a group of the model registry"),
    )
    return parser


def _gate_arguments(parser: argparse.ArgumentParser) -> None:
    compared = parser.add_mutually_exclusive_group()
    compared.add_argument("--baseline", help="results of the revision that serves: a folder or s3:// prefix")
    compared.add_argument("--first-revision", action="store_true", help="nothing serves yet")


def _run(given: argparse.Namespace, progress: Progress) -> int:
    job = EvaluationJob.read(_text(given.job))
    place = given.dataset or job.dataset_uri
    dataset = read_dataset(job, read(place), place)
    name = f"{job.evaluation.model} {job.evaluation.revision}, {len(dataset.records)} records"
    with progress.step(f"evaluation of {name}") as step:
        model = _model(given, job)
        result = evaluate(
            job,
            dataset,
            model,
            _hooks(given, job, model),
            given.out,
            variant=given.variant,
            at_once=given.at_once,
            told=step.update,
        )
    for metric, found in result.metrics.items():
        bounds = f" ({found.low:.4g} to {found.high:.4g})" if found.low is not None else ""
        print(f"{metric} {found.value:.4g}{bounds}, {found.better} is better")
    if result.failed or result.cut_off:
        by_judge = f" ({result.unjudged} by the judge)" if result.unjudged else ""
        print(
            f"{result.failed} of {result.records} records failed{by_judge}, "
            f"{result.cut_off} answers were cut off"
        )
    decision = None if given.no_gate else _decided(given, job, progress)
    if given.results:
        print(f"{store(given.out, given.results)} files in {given.results}")
    if given.cloudwatch:
        now = datetime.datetime.now(datetime.UTC)
        data = metric_data(result, decision, now)
        aws("cloudwatch").put_metric_data(Namespace=given.cloudwatch, MetricData=list(data))
        print(f"{len(data)} metrics in CloudWatch under {given.cloudwatch}")
    if given.mlflow:
        tracking = Tracking(given.mlflow, os.environ.get("MLFLOW_TRACKING_TOKEN"))
        run = tracking.log(given.experiment, result, decision, given.results or str(given.out))
        print(f"run {run} in MLflow's experiment {given.experiment}")
    return _STATUS[decision.outcome] if decision else 0


def _decide(given: argparse.Namespace, progress: Progress) -> int:
    job = EvaluationJob.read(_text(given.job))
    decision = _decided(given, job, progress)
    if decision is None:
        raise JobError("methods.x_llm_eval.gate: it is missing, so there is nothing to decide by; add it")
    return _STATUS[decision.outcome]


def _decided(given: argparse.Namespace, job: EvaluationJob, progress: Progress) -> Decision | None:
    policy = job.evaluation.gate
    if policy is None:
        return None
    result, records = _results(str(given.out))
    asked = (job.evaluation.model, job.evaluation.revision, job_digest(job))
    if asked != (result.model, result.revision, result.job):
        raise ResultsError(
            f"{given.out} holds results of {result.model} {result.revision} (job {result.job}), and the job "
            f"file is for {asked[0]} {asked[1]} (job {asked[2]}); name the file that they were made with"
        )
    baseline: EvaluationResult | None = None
    differing: dict[str, Any] = {}
    if given.baseline:
        with progress.step(f"comparison with {given.baseline}"):
            baseline, theirs = _results(given.baseline)
            differing = differences(job, records, theirs)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    decision = decide(policy, result, baseline, differing, now, first_revision=given.first_revision)
    write(beside(str(given.out), DECISION), decision.text().encode())
    print("\n".join(decision.lines()))
    return decision


def _submit(given: argparse.Namespace, progress: Progress) -> int:
    job = EvaluationJob.read(_text(given.job))
    if given.variant and given.backend != "processing":
        raise JobError(f"--variant: {given.backend} asks no variant; leave it out")
    client, start, request, files = _bedrock(given, job) if given.backend == "bedrock" else _job(given, job)
    if given.print:
        print(json.dumps(request, indent=2))
        return 0
    for place, content in files.items():
        write(place, content.encode())
    arn = start(aws(client), request)
    print(arn)
    if given.wait:
        with progress.step(f"{given.backend} job {given.name}") as step:
            if client == "bedrock":
                wait(aws(client), "bedrock", arn, step.update)
            else:
                wait(aws(client), "processing", given.name, step.update)
    return 0


# Service, how a job is started there, the request, and what is written to S3 before.
_Submission = tuple[str, Callable[[Any, dict[str, Any]], str], dict[str, Any], dict[str, str]]


def _job(given: argparse.Namespace, job: EvaluationJob) -> _Submission:
    ours = given.backend == "processing"
    if ours and not given.image:
        raise JobError("--image is missing; name the evaluation image by its digest")
    if not ours and not given.region:
        raise JobError("--region is missing; Clarify's image is of a region")
    if ours:
        _ = job.evaluation  # a job that is for Clarify alone is refused here, and not hours later
    config_uri = beside(given.results, f"config/{processing_job.CONFIG_NAME}")
    machine = processing_job.Machine(
        image=given.image or clarify.image(given.region),
        role_arn=given.role,
        region=region() if ours else given.region,
        instance_type=given.instance_type,
        subnets=given.subnet,
        security_groups=given.security_group,
        kms_key=given.kms_key,
    )
    request = processing_job.request(
        given.name,
        machine,
        config_uri,
        job.dataset_uri,
        beside(given.results, "output"),
        ours=ours,
        variant=given.variant,
    )
    config = _text(given.job) if ours else clarify.analysis_config(job)
    return "sagemaker", start_processing, request, {config_uri: config}


def _bedrock(given: argparse.Namespace, job: EvaluationJob) -> _Submission:
    if not given.out or not given.judge:
        raise JobError("--out and --judge are missing; Bedrock judges the answers of a local run")
    _, records = _results(str(given.out))
    source = bedrock.source_name(job.evaluation.model, job.evaluation.revision)
    dataset_uri = beside(given.results, "answers.jsonl")
    metrics = cast("list[bedrock.Metric]", given.metric or ["Builtin.Correctness", "Builtin.Completeness"])
    what = bedrock.BedrockJob(
        name=given.name, role_arn=given.role, judge=given.judge, metrics=metrics, kms_key=given.kms_key
    )
    request = bedrock.request(what, source, dataset_uri, beside(given.results, "output"))
    return "bedrock", start_bedrock, request, {dataset_uri: bedrock.dataset(records, source)}


def _model(given: argparse.Namespace, job: EvaluationJob) -> Model:
    if given.endpoint and given.variant:
        raise JobError("--variant names one of a SageMaker endpoint; leave out --endpoint, or --variant")
    if given.endpoint:
        evaluation = job.evaluation
        return OpenAiEndpoint(
            given.endpoint, _key(given.api_key_env, "--api-key-env"), evaluation.model, evaluation.sampling
        )
    return SageMakerEndpoint(aws("sagemaker-runtime"), job, given.variant)


def _hooks(given: argparse.Namespace, job: EvaluationJob, model: Model) -> Hooks:
    judge = next((one for one in job.evaluation.algorithms if isinstance(one, Judge)), None)
    judging: Model | None = None
    if judge and given.judge_endpoint:
        key = _key(given.judge_key_env, "--judge-key-env")
        judging = OpenAiEndpoint(given.judge_endpoint, key, judge.model, Sampling(max_tokens=1024))
    sentences: SentenceScorer | None = None
    asks_for_sentences = any(isinstance(one, PromptStereotyping) for one in job.evaluation.algorithms)
    if asks_for_sentences and isinstance(model, OpenAiEndpoint):
        sentences = model.log_probability
    toxicity = _scorer(given.toxicity_scorer) if given.toxicity_scorer else None
    return Hooks(judge=judging, toxicity=toxicity, sentences=sentences)


def _scorer(name: str) -> ToxicityScorer:
    module, _, function = name.partition(":")
    try:
        return cast("ToxicityScorer", getattr(importlib.import_module(module), function))
    except (ImportError, AttributeError, ValueError) as error:
        raise JobError(f"--toxicity-scorer {name}: {error}; write MODULE:NAME of a function") from error


def _key(variable: str, option: str) -> str:
    key = os.environ.get(variable)
    if not key:
        raise JobError(f"{variable} is not set; put the endpoint's key there, or name another by {option}")
    return key


def _results(place: str) -> tuple[EvaluationResult, list[RecordResult]]:
    analysis, records = beside(place, ANALYSIS), beside(place, RECORDS)
    return EvaluationResult.read(_text(analysis), analysis), read_records(_text(records), records)


def _text(place: str) -> str:
    return read(place).decode()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"it is {number}; write 1 or more")
    return number
