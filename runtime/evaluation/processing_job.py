"""Renders the request for a SageMaker processing job: our image, or Clarify's, on the same contract.

The job reads `analysis_config` and `dataset` and leaves its results where Clarify leaves them.
Source: https://docs.aws.amazon.com/sagemaker/latest/dg/clarify-processing-job-configure-parameters.html
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.evaluation.job import JobError

INPUT = "/opt/ml/processing/input"
CONFIG_FOLDER = f"{INPUT}/config"
DATA_FOLDER = f"{INPUT}/data"
OUTPUT_FOLDER = "/opt/ml/processing/output"
CONFIG_NAME = "analysis_config.json"
# A job of a hung endpoint is billed until it is stopped.
LONGEST_S = 6 * 3600
_NAME = re.compile(r"[a-zA-Z0-9](?:-*[a-zA-Z0-9]){0,62}")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where and as whom a processing job runs.

    Attributes:
        image: Its image, by digest for ours.
        role_arn: The role that it takes on.
        region: Its region.
        instance_type: Scoring needs no GPU; the model answers at its endpoint.
        volume_gb: Its disk, in GB.
        longest_s: It is stopped after so many seconds.
        subnets: Subnets of the VPC; empty runs it outside.
        security_groups: Its security groups, with `subnets`.
        kms_key: Encrypts its disk and results; None for SageMaker's own keys.
        tags: Tags of the job.
    """

    image: str
    role_arn: str
    region: str
    instance_type: str = "ml.m7i.xlarge"
    volume_gb: int = 30
    longest_s: int = LONGEST_S
    subnets: Sequence[str] = ()
    security_groups: Sequence[str] = ()
    kms_key: str | None = None
    tags: Mapping[str, str] | None = None


def request(
    name: str,
    machine: Machine,
    config_uri: str,
    dataset_uri: str,
    results_uri: str,
    *,
    ours: bool,
    variant: str | None = None,
) -> dict[str, Any]:
    """The request of CreateProcessingJob.

    Args:
        name: Name of the job, free in the account and region.
        machine: Where it runs.
        config_uri: `s3://` of the job file.
        dataset_uri: `s3://` of the data set.
        results_uri: `s3://` prefix for the results.
        ours: Whether it is our image, which is told what to run; Clarify's takes no arguments.
        variant: The endpoint's variant that ours asks; None leaves it to the weights.

    Raises:
        JobError: Names or places are not what SageMaker takes.
    """
    mistakes = [
        *([] if _NAME.fullmatch(name) else [f"name {name!r}: up to 63 letters, digits and single hyphens"]),
        *(
            f"{what} {uri!r}: write s3://BUCKET/KEY; a processing job reads nothing else"
            for what, uri in (("config", config_uri), ("dataset_uri", dataset_uri), ("results", results_uri))
            if not re.fullmatch(r"s3://[^/]+/.+", uri)
        ),
    ]
    if bool(machine.subnets) != bool(machine.security_groups):
        mistakes.append("subnets and security groups belong together; name both, or neither")
    if mistakes:
        raise JobError("\n".join(mistakes))
    cluster: dict[str, Any] = {
        "InstanceCount": 1,
        "InstanceType": machine.instance_type,
        "VolumeSizeInGB": machine.volume_gb,
    }
    output: dict[str, Any] = {
        "Outputs": [
            {
                "OutputName": "analysis_result",
                "S3Output": {
                    "S3Uri": results_uri,
                    "LocalPath": OUTPUT_FOLDER,
                    # Ours keeps each record as it comes, so that a job that is stopped leaves what it has.
                    "S3UploadMode": "Continuous" if ours else "EndOfJob",
                },
            }
        ]
    }
    if machine.kms_key:
        cluster["VolumeKmsKeyId"] = output["KmsKeyId"] = machine.kms_key
    found: dict[str, Any] = {
        "ProcessingJobName": name,
        "RoleArn": machine.role_arn,
        "AppSpecification": {"ImageUri": machine.image, **(_command(dataset_uri, variant) if ours else {})},
        "ProcessingInputs": [
            _input("analysis_config", config_uri, CONFIG_FOLDER),
            _input("dataset", dataset_uri, DATA_FOLDER),
        ],
        "ProcessingOutputConfig": output,
        "ProcessingResources": {"ClusterConfig": cluster},
        "StoppingCondition": {"MaxRuntimeInSeconds": machine.longest_s},
        "NetworkConfig": _network(machine),
    }
    if ours:
        # SageMaker sets AWS_REGION, which boto3 does not read.
        found["Environment"] = {"AWS_DEFAULT_REGION": machine.region}
    if machine.tags:
        found["Tags"] = [{"Key": key, "Value": value} for key, value in sorted(machine.tags.items())]
    return found


def _command(dataset_uri: str, variant: str | None) -> dict[str, list[str]]:
    data = f"{DATA_FOLDER}/{dataset_uri.rsplit('/', 1)[-1]}"
    arguments = ["run", f"{CONFIG_FOLDER}/{CONFIG_NAME}", "--dataset", data, "--out", OUTPUT_FOLDER]
    # A job whose program does not return 0 counts as failed; that a gate holds is no failure.
    arguments.append("--no-gate")
    if variant is not None:
        arguments += ["--variant", variant]
    return {
        "ContainerEntrypoint": ["python3", "-m", "runtime.ops", "evaluate"],
        "ContainerArguments": arguments,
    }


def _input(name: str, uri: str, path: str) -> dict[str, Any]:
    return {
        "InputName": name,
        "S3Input": {
            "S3Uri": uri,
            "LocalPath": path,
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
            "S3CompressionType": "None",
        },
    }


def _network(machine: Machine) -> dict[str, Any]:
    # No isolation: the job has to reach the endpoint. The VPC says what else it can reach.
    found: dict[str, Any] = {"EnableNetworkIsolation": False, "EnableInterContainerTrafficEncryption": True}
    if machine.subnets:
        found["VpcConfig"] = {
            "Subnets": list(machine.subnets),
            "SecurityGroupIds": list(machine.security_groups),
        }
    return found
