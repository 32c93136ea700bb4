"""An endpoint with a stable and a canary variant in the AWS double, made as the stack makes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runtime.evaluation.gate import Decision, Outcome, Reason
from runtime.evaluation.gate_policy import GatePolicy
from runtime.evaluation.results import DECISION, EvaluationResult, MetricResult
from runtime.ops.evaluation import hosted_endpoint
from runtime.tenure import PLATFORM_TAG
from tests.support.aws import RunningDouble

SERVED = "Qwen/Qwen3-8B"
ENDPOINT = "llm-chat"
GROUP = "llm-Qwen-Qwen3-8B"
ALARM = "llm-chat-errors"
_IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/vllm@sha256:" + "0" * 64
_DEPLOYMENT = {
    "BlueGreenUpdatePolicy": {
        "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
    },
    "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": ALARM}]},
}


@dataclass(frozen=True)
class Hosted:
    """The endpoint `llm-chat`: stable serves r1 with weight 9, canary r2 with weight 1."""

    sagemaker: Any
    cloudwatch: Any

    def model(self, revision: str, at_once: int = 64) -> str:
        name = f"llm-{revision}"
        source = {
            "S3Uri": f"s3://weights/models/qwen3-8b/{revision}/",
            "S3DataType": "S3Prefix",
            "CompressionType": "None",
        }
        environment = {"SM_VLLM_SERVED_MODEL_NAME": SERVED, "SM_VLLM_MAX_NUM_SEQS": str(at_once)}
        self.sagemaker.create_model(
            ModelName=name,
            ExecutionRoleArn="arn:aws:iam::123456789012:role/r",
            PrimaryContainer={
                "Image": _IMAGE,
                "Environment": environment,
                "ModelDataSource": {"S3DataSource": source},
            },
        )
        return name

    def configuration(self, name: str, weights: Mapping[str, int], **revisions: str) -> str:
        """A configuration with these variants, each with one instance."""
        self.sagemaker.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[
                {
                    "VariantName": variant,
                    "ModelName": f"llm-{revisions[variant]}",
                    "InstanceType": "ml.g6e.2xlarge",
                    "InitialInstanceCount": 1,
                    "InitialVariantWeight": weight,
                }
                for variant, weight in weights.items()
            ],
        )
        return name

    def update(self, configuration: str) -> None:
        self.sagemaker.update_endpoint(
            EndpointName=ENDPOINT, EndpointConfigName=configuration, DeploymentConfig=_DEPLOYMENT
        )

    def alarm(self, state: str) -> None:
        self.cloudwatch.set_alarm_state(AlarmName=ALARM, StateValue=state, StateReason="test")

    def weights(self) -> dict[str, float]:
        found = self.sagemaker.describe_endpoint(EndpointName=ENDPOINT)["ProductionVariants"]
        return {one["VariantName"]: one["CurrentWeight"] for one in found}

    def instances(self) -> dict[str, int]:
        found = self.sagemaker.describe_endpoint(EndpointName=ENDPOINT)["ProductionVariants"]
        return {one["VariantName"]: one["CurrentInstanceCount"] for one in found}

    def packages(self) -> list[dict[str, Any]]:
        listed = self.sagemaker.list_model_packages(ModelPackageGroupName=GROUP)["ModelPackageSummaryList"]
        return [
            self.sagemaker.describe_model_package(ModelPackageName=one["ModelPackageArn"]) for one in listed
        ]


def hosted(double: RunningDouble, monkeypatch: pytest.MonkeyPatch, **weights: int) -> Hosted:
    """Makes it, and sends the commands of this process to the double."""
    for name, value in (
        ("AWS_ENDPOINT_URL", double.endpoint),
        ("AWS_ACCESS_KEY_ID", "testing"),
        ("AWS_SECRET_ACCESS_KEY", "testing"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    # A change is seen to be under way once, and nobody waits for the double.
    monkeypatch.setattr(hosted_endpoint, "POLL_S", 0.0)
    made = Hosted(double.client("sagemaker"), double.client("cloudwatch"))
    for revision in ("r1", "r2"):
        made.model(revision)
    shares = weights or {"stable": 9, "canary": 1}
    made.configuration("first", shares, stable="r1", canary="r2", other="r1")
    made.cloudwatch.put_metric_alarm(
        AlarmName=ALARM,
        Namespace="AWS/SageMaker",
        MetricName="Invocation5XXErrors",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    )
    made.sagemaker.create_endpoint(
        EndpointName=ENDPOINT,
        EndpointConfigName="first",
        Tags=[{"Key": PLATFORM_TAG, "Value": "llm"}],
        DeploymentConfig=_DEPLOYMENT,
    )
    made.sagemaker.create_model_package_group(
        ModelPackageGroupName=GROUP, ModelPackageGroupDescription="Revisions"
    )
    return made


def decided(outcome: Outcome, folder: Path, **changes: Any) -> Path:
    """A folder with a decision about r2 against r1, and changes to it."""
    f1 = MetricResult(value=0.85, low=0.8, high=0.9, better="higher")
    revision = changes.get("revision", "r2")
    content: dict[str, Any] = {
        "model": SERVED,
        "revision": revision,
        "baseline": "r1",
        "outcome": outcome,
        "reasons": (Reason(outcome=outcome, metric="f1", text="f1 is 0.85 (0.8 to 0.9)"),),
        "policy": GatePolicy.model_validate({"thresholds": [{"metric": "f1", "regression": 0.05}]}),
        "results": EvaluationResult(
            model=SERVED,
            revision=revision,
            job="j",
            dataset="sha256:d",
            records=200,
            failed=0,
            cut_off=0,
            variants=changes.pop("variants", {"canary": 200}),
            confidence=0.95,
            metrics={"f1": f1},
        ),
        "decided_at": "2026-11-22T03:00:00+00:00",
        **changes,
    }
    folder.mkdir(exist_ok=True)
    (folder / DECISION).write_text(Decision(**content).text())
    return folder
