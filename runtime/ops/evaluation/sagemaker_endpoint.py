"""A SageMaker endpoint as the model under evaluation, asked as the job's `predictor` says."""

import json
import time
from typing import Any

import jmespath  # pyright: ignore[reportMissingTypeStubs]
from botocore.exceptions import (  # pyright: ignore[reportMissingTypeStubs]
    BotoCoreError,
    ClientError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from runtime.evaluation.hooks import Answer, ModelError, NotAskedError
from runtime.evaluation.job import EvaluationJob, JobError
from runtime.ops.evaluation.places import Client

# As the containers for vLLM answer.
_ANSWER = "choices[0].message.content"
_FEATURES = "$features"
# What InvokeEndpoint answers for what a model or its container did, beside the errors of 500 and more.
# Source: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html
_OF_THE_MODEL = ("ModelError", "ModelNotReadyException")
_SERVER_ERROR = 500


class SageMakerEndpoint:
    """The endpoint of a job's predictor; boto3's client retries throttling by itself.

    Args:
        client: boto3's client for `sagemaker-runtime`.
        job: Names the endpoint and how it is asked.
        variant: The variant to ask, whatever its weight, 0 included; None leaves it to the weights.

    Raises:
        JobError: The job names no endpoint that runs.
    """

    def __init__(self, client: Client, job: EvaluationJob, variant: str | None = None) -> None:
        predictor = job.predictor
        if predictor is None or predictor.endpoint_name is None:
            raise JobError(
                "predictor.endpoint_name: it is missing, so there is no model to ask; name a SageMaker "
                "endpoint, or an OpenAI-style one by --endpoint URL"
            )
        if predictor.content_template is not None and _FEATURES not in predictor.content_template:
            raise JobError(f"predictor.content_template: it lacks {_FEATURES}, where the prompt goes")
        self._client, self._name, self._predictor = client, predictor.endpoint_name, predictor
        self._evaluation = job.evaluation
        self._target = {} if variant is None else {"TargetVariant": variant}
        self._path = predictor.label or _ANSWER

    def answer(self, prompt: str) -> Answer:
        """Asks once.

        Raises:
            ModelError: There is no answer, or not where `predictor.label` looks.
            NotAskedError: SageMaker refuses to ask: credentials, rights, a name that is not there.
        """
        started = time.monotonic()
        try:
            response = self._client.invoke_endpoint(
                EndpointName=self._name,
                ContentType=self._predictor.content_type,
                Accept=self._predictor.accept_type,
                Body=self._body(prompt),
                **self._target,
            )
            content: Any = json.loads(response["Body"].read())
        except (ReadTimeoutError, ResponseStreamingError, json.JSONDecodeError) as error:
            raise ModelError(f"{self._name}: {error}") from error
        except (BotoCoreError, ClientError) as error:
            kind = ModelError if _is_of_the_model(error) else NotAskedError
            raise kind(f"{self._name}: {error}") from error
        found: Any = jmespath.search(self._path, content)  # pyright: ignore[reportUnknownMemberType]
        if not isinstance(found, str):
            raise ModelError(
                f"{self._name} answers no text at {self._path} (predictor.label): {json.dumps(content)[:200]}"
            )
        reason: Any = jmespath.search("choices[0].finish_reason", content)  # pyright: ignore[reportUnknownMemberType]
        return Answer(
            text=found,
            seconds=time.monotonic() - started,
            finish_reason=str(reason or "stop"),
            variant=response.get("InvokedProductionVariant"),
        )

    def _body(self, prompt: str) -> bytes:
        if self._predictor.content_template is not None:
            return self._predictor.content_template.replace(_FEATURES, json.dumps(prompt)).encode()
        sampling = self._evaluation.sampling
        system = [{"role": "system", "content": sampling.system}] if sampling.system else []
        body = {
            "model": self._evaluation.model,
            "messages": [*system, {"role": "user", "content": prompt}],
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "seed": sampling.seed,
        }
        return json.dumps(body).encode()


def _is_of_the_model(error: Exception) -> bool:
    answer: Any = getattr(error, "response", None)
    if not isinstance(error, ClientError):
        return False
    return (
        answer["Error"]["Code"] in _OF_THE_MODEL
        or answer["ResponseMetadata"]["HTTPStatusCode"] >= _SERVER_ERROR
    )
