"""Starts evaluations that run elsewhere, and waits for them: processing jobs and Bedrock's."""

import time
from collections.abc import Callable
from typing import Any, Literal

from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]

from runtime.ops.evaluation.places import Client

POLL_S = 15.0


class SubmissionError(Exception):
    """A job was refused, or did not end well; the text has AWS' own words."""


def start_processing(client: Client, request: dict[str, Any]) -> str:
    """Starts a processing job and returns its ARN.

    Raises:
        SubmissionError: SageMaker refuses it.
    """
    return str(_sent(client.create_processing_job, request)["ProcessingJobArn"])


def start_bedrock(client: Client, request: dict[str, Any]) -> str:
    """Starts a Bedrock evaluation and returns its ARN.

    Raises:
        SubmissionError: Bedrock refuses it.
    """
    return str(_sent(client.create_evaluation_job, request)["jobArn"])


def wait(
    client: Client,
    kind: Literal["processing", "bedrock"],
    name: str,
    told: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Waits until a job ended well.

    Args:
        client: boto3's client for `sagemaker` or `bedrock`.
        kind: Whose job it is.
        name: The processing job's name, or the ARN of Bedrock's.
        told: Called with its state.
        sleep: Waits some seconds.

    Raises:
        SubmissionError: It failed, was stopped, or cannot be asked for.
    """
    while True:
        if kind == "processing":
            found = _sent(client.describe_processing_job, {"ProcessingJobName": name})
            state = str(found["ProcessingJobStatus"])
            why = str(found.get("FailureReason") or found.get("ExitMessage") or "no reason given")
        else:
            found = _sent(client.get_evaluation_job, {"jobIdentifier": name})
            state = str(found["status"])
            why = "; ".join(found.get("failureMessages") or ["no reason given"])
        told(state)
        if state == "Completed":
            return
        if state in ("Failed", "Stopped", "Deleting"):
            raise SubmissionError(f"{name} is {state}: {why}")
        sleep(POLL_S)


def _sent(operation: Callable[..., dict[str, Any]], request: dict[str, Any]) -> dict[str, Any]:
    try:
        return operation(**request)
    except (BotoCoreError, ClientError) as error:
        raise SubmissionError(str(error)) from error
