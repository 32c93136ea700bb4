"""Clarify's own analysis of a job's data set, for accounts that still have Clarify.

Clarify computes bias and attributions, no scores of answers, and takes no new customers since 2026. So the
file that it is handed is the job without `x_llm_eval`, and a job with nothing else is refused.
Source: sagemaker-core 2.27, `ANALYSIS_CONFIG_SCHEMA_V1_0`; tests hold what is rendered against it.
"""

import json
from types import MappingProxyType

from runtime.evaluation.job import OUR_METHOD, EvaluationJob, JobError

# Accounts of the images. Source: sagemaker-core 2.27, image_uri_config/clarify.json.
_ACCOUNTS = MappingProxyType(
    {
        "af-south-1": "811711786498",
        "ap-east-1": "098760798382",
        "ap-northeast-1": "377024640650",
        "ap-northeast-2": "263625296855",
        "ap-northeast-3": "912233562940",
        "ap-south-1": "452307495513",
        "ap-southeast-1": "834264404009",
        "ap-southeast-2": "007051062584",
        "ap-southeast-3": "705930551576",
        "ca-central-1": "675030665977",
        "eu-central-1": "017069133835",
        "eu-central-2": "730335477804",
        "eu-north-1": "763603941244",
        "eu-south-1": "638885417683",
        "eu-west-1": "131013547314",
        "eu-west-2": "440796970383",
        "eu-west-3": "341593696636",
        "me-south-1": "835444307964",
        "sa-east-1": "520018980103",
        "us-east-1": "205585389593",
        "us-east-2": "211330385671",
        "us-west-1": "740489534195",
        "us-west-2": "306415355426",
    }
)


def analysis_config(job: EvaluationJob) -> str:
    """The job as Clarify reads it.

    Raises:
        JobError: Nothing of it is Clarify's.
    """
    methods = job.methods
    if not (methods.shap or methods.pre_training_bias or methods.post_training_bias):
        raise JobError(
            f"methods: Clarify computes none of this job's, which are {OUR_METHOD} and report; add shap, "
            "pre_training_bias or post_training_bias, or use the backend local or processing"
        )
    if methods.shap and job.predictor is None:
        raise JobError("predictor: it is missing, and shap asks the model; name its endpoint")
    if (methods.pre_training_bias or methods.post_training_bias) and not job.facet:
        raise JobError("facet: it is missing, and bias is between the values of one; name a field")
    content = job.model_dump(mode="json", exclude_none=True, exclude={"methods": {OUR_METHOD}})
    return json.dumps(content, indent=2) + "\n"


def image(region: str) -> str:
    """Clarify's image in a region.

    Raises:
        JobError: No image is known there.
    """
    account = _ACCOUNTS.get(region)
    if account is None:
        raise JobError(f"region {region}: Clarify has no image there; it has in {', '.join(_ACCOUNTS)}")
    return f"{account}.dkr.ecr.{region}.amazonaws.com/sagemaker-clarify-processing:1.0"
