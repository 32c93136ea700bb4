"""Renders a Bedrock evaluation: a judge of Bedrock's over answers that we bring, of a model hosted anywhere.

Source: https://docs.aws.amazon.com/bedrock/latest/userguide/model-evaluation-prompt-datasets-judge.html
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from runtime.evaluation.job import JobError
from runtime.evaluation.results import RecordResult

# Prompts of a job at most.
MOST_RECORDS = 1000
Metric = Literal[
    "Builtin.Correctness",
    "Builtin.Completeness",
    "Builtin.Faithfulness",
    "Builtin.Helpfulness",
    "Builtin.Coherence",
    "Builtin.Relevance",
    "Builtin.FollowingInstructions",
    "Builtin.ProfessionalStyleAndTone",
    "Builtin.Harmfulness",
    "Builtin.Stereotyping",
    "Builtin.Refusal",
]


@dataclass(frozen=True, kw_only=True)
class BedrockJob:
    """A Bedrock evaluation.

    Attributes:
        name: Its name: lower-case letters, digits and hyphens, up to 63.
        role_arn: The role that reads the answers and writes the results.
        judge: Bedrock's id of the judge.
        metrics: What the judge marks.
        kms_key: ARN of the key that encrypts it; None for Bedrock's own.
    """

    name: str
    role_arn: str
    judge: str
    metrics: Sequence[Metric]
    kms_key: str | None = None


def source_name(model: str, revision: str) -> str:
    """The name by which Bedrock knows whose answers they are; it takes letters, digits and `._-`."""
    kept = "".join(one if one.isascii() and (one.isalnum() or one in "._-") else "-" for one in model)
    return f"{kept.lstrip('._-') or 'model'}-{revision}"[:256]


def dataset(results: Sequence[RecordResult], source: str) -> str:
    """The answers as Bedrock reads them, a line each; records without an answer are left out.

    Args:
        results: The records of a run.
        source: What `source_name` gives.

    Raises:
        JobError: There are none, or more than Bedrock takes.
    """
    answered = [one for one in results if one.answer]
    if not 1 <= len(answered) <= MOST_RECORDS:
        raise JobError(
            f"{len(answered)} records have an answer, and Bedrock takes 1 to {MOST_RECORDS}; set "
            "x_llm_eval.records"
        )
    lines: list[str] = []
    for one in answered:
        line: dict[str, Any] = {
            "prompt": one.prompt,
            "modelResponses": [{"response": one.answer, "modelIdentifier": source}],
        }
        if one.references:
            line["referenceResponse"] = one.references[0]
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    return "".join(lines)


def request(job: BedrockJob, source: str, dataset_uri: str, results_uri: str) -> dict[str, Any]:
    """The request of CreateEvaluationJob.

    Args:
        job: What is judged, by whom.
        source: What `source_name` gives, as in the data set.
        dataset_uri: `s3://` of what `dataset` gives.
        results_uri: `s3://` prefix for the results.
    """
    found: dict[str, Any] = {
        "jobName": job.name,
        "roleArn": job.role_arn,
        "applicationType": "ModelEvaluation",
        "evaluationConfig": {
            "automated": {
                "datasetMetricConfigs": [
                    {
                        "taskType": "Generation",
                        "dataset": {"name": "answers", "datasetLocation": {"s3Uri": dataset_uri}},
                        "metricNames": list(job.metrics),
                    }
                ],
                "evaluatorModelConfig": {"bedrockEvaluatorModels": [{"modelIdentifier": job.judge}]},
            }
        },
        "inferenceConfig": {
            "models": [{"precomputedInferenceSource": {"inferenceSourceIdentifier": source}}]
        },
        "outputDataConfig": {"s3Uri": results_uri},
    }
    if job.kms_key:
        found["customerEncryptionKeyId"] = job.kms_key
    return found
