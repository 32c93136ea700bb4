"""What AWS is handed is what AWS takes: Clarify's published schema, and botocore's models of the services."""

import datetime
import importlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from runtime.evaluation import bedrock, clarify, model_package, processing_job
from runtime.evaluation.job import EvaluationJob, JobError
from runtime.evaluation.processing_job import Machine
from runtime.evaluation.publication import metric_data
from runtime.evaluation.results import RecordResult
from tests.support.evaluation import evaluation_job
from tests.unit.test_evaluation_gate import judged, metric, results

ROLE = "arn:aws:iam::123456789012:role/evaluation"
SCHEMA = json.loads((Path(__file__).parent / "clarify_analysis_config.schema.json").read_text())

FULL: dict[str, Any] = {
    "headers": ["prompt", "answer", "group"],
    "label_values_or_threshold": [1],
    "facet": [{"name_or_index": "group", "value_or_threshold": ["b"]}],
    "predictor": {
        "model_name": "llm",
        "instance_type": "ml.g6.xlarge",
        "initial_instance_count": 1,
        "content_template": '{"prompt": $features}',
        "label": "answer",
    },
    "methods": {
        "report": {"name": "report", "title": "LLM"},
        "shap": {
            "baseline": [["<UNK>"]],
            "num_samples": 10,
            "agg_method": "mean_abs",
            "seed": 1,
            "text_config": {"granularity": "sentence", "language": "english"},
        },
        "pre_training_bias": {"methods": "all"},
        "post_training_bias": {"methods": ["DPPL", "DI"]},
    },
}


def test_what_clarify_is_handed_is_valid_by_its_published_schema() -> None:
    content = json.loads(clarify.analysis_config(evaluation_job(**FULL)))
    jsonschema.validate(content, SCHEMA)
    assert "x_llm_eval" not in content["methods"]
    assert content["predictor"]["model_name"] == "llm"
    assert set(content["methods"]) == {"report", "shap", "pre_training_bias", "post_training_bias"}


def test_the_smallest_job_for_clarify_is_valid_too() -> None:
    predictor = {"endpoint_name": "llm"}
    job = evaluation_job(predictor=predictor, methods={"shap": {"num_samples": 5}})
    jsonschema.validate(json.loads(clarify.analysis_config(job)), SCHEMA)


def test_clarifys_schema_refuses_our_method() -> None:
    # Why it has to be stripped.
    content = json.loads(clarify.analysis_config(evaluation_job(**FULL)))
    content["methods"]["x_llm_eval"] = {}
    with pytest.raises(jsonschema.ValidationError, match="x_llm_eval"):
        jsonschema.validate(content, SCHEMA)


def test_every_key_of_the_job_but_ours_is_one_of_clarifys() -> None:
    ours = EvaluationJob.model_json_schema()
    definitions = ours["$defs"]
    assert set(ours["properties"]) <= set(SCHEMA["properties"])
    for part in ("predictor", "methods"):
        name = {"predictor": "Predictor", "methods": "Methods"}[part]
        known = set(SCHEMA["properties"][part]["properties"])
        assert set(definitions[name]["properties"]) - {"x_llm_eval"} <= known
    known = set(SCHEMA["properties"]["methods"]["properties"]["shap"]["properties"])
    assert set(definitions["Shap"]["properties"]) <= known


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "Clarify computes none of this job's"),
        ({"methods": {"shap": {}}}, "predictor: it is missing"),
        ({"methods": {"pre_training_bias": {}}}, "facet: it is missing"),
    ],
)
def test_a_job_without_work_for_clarify_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(JobError, match=said):
        clarify.analysis_config(evaluation_job(**change))


def test_clarifys_image_is_that_of_the_region() -> None:
    registry = "306415355426.dkr.ecr.us-west-2.amazonaws.com"
    assert clarify.image("us-west-2") == f"{registry}/sagemaker-clarify-processing:1.0"
    with pytest.raises(JobError, match="region mars-1: Clarify has no image there"):
        clarify.image("mars-1")


MACHINE = Machine(
    image="123456789012.dkr.ecr.us-east-1.amazonaws.com/evaluation@sha256:" + "0" * 64,
    role_arn=ROLE,
    region="us-east-1",
    subnets=["subnet-1"],
    security_groups=["sg-1"],
    kms_key="arn:aws:kms:us-east-1:123456789012:key/1",
    tags={"stack": "sagemaker"},
)
PLACES = ("s3://b/config/analysis_config.json", "s3://b/data/qa.jsonl", "s3://b/out")


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("machine", [MACHINE, Machine(image="i", role_arn=ROLE, region="us-east-1")])
def test_a_processing_job_is_one_that_sagemaker_takes(machine: Machine, ours: bool) -> None:
    request = processing_job.request("evaluation-1", machine, *PLACES, ours=ours)
    assert list(mistakes("sagemaker", "CreateProcessingJob", request)) == []


def test_a_model_package_is_one_that_sagemaker_takes_whatever_names_and_numbers_there_are() -> None:
    metrics = {f"metric, {index} (of many)": metric(0.1, 0.2) for index in range(60)}
    decision = judged({"metric": "f1", "at_least": 0.8})
    decision = decision.model_copy(
        update={
            "model": "Qwen/Qwen3-8B",
            "revision": "r2, \u201cnew\u201d",
            "results": results(metrics={**metrics, "f1": metric(0.8, 0.9)}),
            "reasons": decision.reasons * 60,
        }
    )
    source = {"S3Uri": "s3://b/models/m/r2/", "S3DataType": "S3Prefix", "CompressionType": "None"}
    described = {
        "Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/vllm@sha256:" + "0" * 64,
        "Environment": {"SM_VLLM_SERVED_MODEL_NAME": "m"},
        "ModelDataSource": {"S3DataSource": {**source, "ManifestS3Uri": "s3://b/m"}},
        "Mode": "SingleModel",
    }
    request = model_package.request(decision, "llm-m", [described], "s3://b/results/r2")
    assert list(mistakes("sagemaker", "CreateModelPackage", request)) == []
    properties = request["CustomerMetadataProperties"]
    # Of more than the registry takes, those that the gate asks about are kept.
    assert (len(properties), properties["metric.f1"]) == (50, "0.85 from 0.8 to 0.9")
    assert properties["results"] == "s3://b/results/r2"
    # CreateModelPackage's own pattern has Java's classes of letters.
    for key, value in properties.items():
        assert re.fullmatch(r"[\w .:/=+\-@]{1,128}", key)
        assert re.fullmatch(r"[\w .:/=+\-@]{1,256}", value)
    assert len(request["ModelPackageDescription"]) <= 1024
    assert request["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"] == "s3://b/results/r2/analysis.json"


def test_our_image_is_told_what_to_run_and_clarifys_is_not() -> None:
    ours, theirs = (processing_job.request("e", MACHINE, *PLACES, ours=one) for one in (True, False))
    assert set(theirs["AppSpecification"]) == {"ImageUri"}
    # boto3 finds no region in what SageMaker sets.
    assert ours["Environment"] == {"AWS_DEFAULT_REGION": "us-east-1"}
    assert "Environment" not in theirs
    arguments = ours["AppSpecification"]["ContainerArguments"]
    assert arguments[:4] == [
        "run",
        "/opt/ml/processing/input/config/analysis_config.json",
        "--dataset",
        "/opt/ml/processing/input/data/qa.jsonl",
    ]
    # SageMaker calls a job failed whose program does not return 0.
    assert "--no-gate" in arguments
    assert "--variant" not in arguments
    canary = processing_job.request("e", MACHINE, *PLACES, ours=True, variant="canary")
    assert canary["AppSpecification"]["ContainerArguments"] == [*arguments, "--variant", "canary"]
    assert [one["InputName"] for one in ours["ProcessingInputs"]] == ["analysis_config", "dataset"]


def test_a_processing_job_says_all_that_it_cannot_take() -> None:
    machine = Machine(image="i", role_arn=ROLE, region="us-east-1", subnets=["subnet-1"])
    with pytest.raises(JobError) as raised:
        processing_job.request("no good", machine, "config.json", "data.jsonl", "s3://b", ours=True)
    assert [line.split()[0] for line in str(raised.value).splitlines()] == [
        "name",
        "config",
        "dataset_uri",
        "results",
        "subnets",
    ]


def test_a_bedrock_evaluation_is_one_that_bedrock_takes() -> None:
    source = bedrock.source_name("org/model:7b", "r2")
    job = bedrock.BedrockJob(
        name="evaluation-1",
        role_arn=ROLE,
        judge="amazon.nova-pro-v1:0",
        metrics=["Builtin.Correctness"],
        kms_key="arn:aws:kms:us-east-1:123456789012:key/12345678-1234-1234-1234-123456789012",
    )
    request = bedrock.request(job, source, "s3://bucket/answers.jsonl", "s3://bucket/out")
    assert list(mistakes("bedrock", "CreateEvaluationJob", request)) == []
    assert source == "org-model-7b-r2"


def test_bedrock_judges_the_answers_that_we_bring() -> None:
    records = [
        RecordResult(identity="1", prompt="2+2?", answer="4", references=("4",)),
        RecordResult(identity="2", prompt="?", error="503"),
    ]
    (line,) = bedrock.dataset(records, "m-r2").splitlines()
    assert json.loads(line) == {
        "prompt": "2+2?",
        "referenceResponse": "4",
        "modelResponses": [{"response": "4", "modelIdentifier": "m-r2"}],
    }


@pytest.mark.parametrize("count", [0, 1001])
def test_bedrock_takes_no_more_records_than_it_says(count: int) -> None:
    records = [RecordResult(identity=str(at), prompt="p", answer="a") for at in range(count)]
    with pytest.raises(JobError, match=f"{count} records have an answer, and Bedrock takes 1 to 1000"):
        bedrock.dataset(records, "m")


def test_metrics_are_ones_that_cloudwatch_takes() -> None:
    at = datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC)
    data = metric_data(results(), judged({"at_least": 0.99}), at)
    request = {"Namespace": "Spillway/Evaluation", "MetricData": data}
    assert list(mistakes("cloudwatch", "PutMetricData", request)) == []
    values = {one["MetricName"]: one["Value"] for one in data}
    assert values["f1.low"] == 0.8
    assert values["Promote"] == -1
    assert {one["Name"] for one in data[0]["Dimensions"]} == {"Model", "Revision", "Dataset"}


def test_the_check_of_requests_finds_mistakes() -> None:
    request = processing_job.request("evaluation-1", MACHINE, *PLACES, ours=True)
    request["RoleArn"] = "arn:aws:iam::1:role/x-that-is-no-account"
    request["ProcessingResources"]["ClusterConfig"]["InstanceType"] = "ml.imaginary"
    request["Colour"] = "red"
    found = list(mistakes("sagemaker", "CreateProcessingJob", request))
    assert any("RoleArn" in one for one in found)
    assert any("InstanceType" in one for one in found)
    assert any("Colour" in one for one in found)


def mistakes(service: str, operation: str, request: Mapping[str, Any]) -> Iterator[str]:
    """What botocore's model of a service says against a request; unlike a client also of patterns."""
    session: Any = importlib.import_module("botocore.session").get_session()
    shape: Any = session.get_service_model(service).operation_model(operation).input_shape
    validator: Any = importlib.import_module("botocore.validate").ParamValidator()
    report = validator.validate(request, shape)
    if report.has_errors():
        yield report.generate_report()
    yield from _patterns(request, shape, "")


def _patterns(value: Any, shape: Any, path: str) -> Iterator[str]:
    if shape.type_name == "structure":
        for key, one in value.items():
            if key in shape.members:
                yield from _patterns(one, shape.members[key], f"{path}.{key}")
    elif shape.type_name == "list":
        for at, one in enumerate(value):
            yield from _patterns(one, shape.member, f"{path}[{at}]")
    elif shape.type_name == "string":
        pattern = shape.metadata.get("pattern")
        # Java's classes of Unicode letters, which `re` does not know.
        known = pattern and "\\p{" not in pattern
        if known and not re.fullmatch(pattern, value):
            yield f"{path}: {value!r} does not match {pattern}"
        if shape.enum and value not in shape.enum:
            yield f"{path}: {value!r} is none of the enumeration"
