"""AdapterConfig: what the streaming adapter is told by `pulumi up`, as one JSON file."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, ValidationError, model_validator

from runtime.model import Spec
from runtime.sagemaker_gateway.capture.config import CaptureConfig
from runtime.sagemaker_gateway.token_guard import LEAST_TOKENS

CONFIG_FILE = Path("/etc/spillway/sagemaker-gateway/config.json")

MAX_BODY_BYTES = 25 * 1024 * 1024
"""Largest body of a real-time invocation, in bytes. AWS writes 25 MB; its API model gave the older 6 MB as
6,291,456 bytes, so its MB are 1024 x 1024."""

PLAIN_LIMIT_S = 60.0
"""Longest answer of a container that is not streamed, in seconds (AWS, quotas of real-time inference)."""

STREAM_LIMIT_S = 480.0
"""Longest streamed answer, in seconds (AWS, quotas of real-time inference)."""

SAFE_TOKENS = 3000
"""Answer that is taken to fit a stream until something was measured, in tokens."""

# The patterns of AWS's API model, sagemaker-runtime 2017-05-13.
_AwsName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9])*$")]


class ConfigError(Exception):
    """A file that is no configuration of the adapter; the text says why."""


class SageMakerModel(Spec):
    """One served model and where it runs."""

    name: str = Field(
        max_length=200,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$",
        description="The id that clients send as `model`.",
    )
    endpoint: _AwsName = Field(description="Name of the SageMaker endpoint.")
    inference_component: _AwsName | None = Field(
        default=None, description="Name of the inference component, where the endpoint holds several."
    )
    variant: _AwsName | None = Field(
        default=None,
        description="Production variant to ask for; without it SageMaker goes by weights.",
    )
    container_model: str | None = Field(
        default=None, description="The id by which the container knows the model; `name` without it."
    )
    streams: bool = Field(
        default=True, description="Whether its endpoint can stream; a pipeline of containers cannot."
    )
    safe_tokens: int = Field(
        default=SAFE_TOKENS,
        ge=LEAST_TOKENS,
        description="Tokens of an answer that fit a stream of `streamLimitS` on the slowest day; what the "
        "token guard starts from until it has measured.",
    )
    first_token_s: float = Field(
        default=30.0,
        ge=0,
        description="Seconds kept free for the first token until it was measured.",
    )


class AdapterConfig(Spec):
    """Everything that the adapter needs beside credentials, which it takes as every AWS program does."""

    region: str = Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d+$", description="AWS region of the endpoints.")
    models: tuple[SageMakerModel, ...] = Field(min_length=1, description="The served models.")
    runtime_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^/]+$",
        description="Where the SageMaker runtime API is; without it where AWS has it for the region.",
    )
    listen_host: str = Field(default="127.0.0.1", description="Address of the API. Envoy is its only client.")
    listen_port: int = Field(default=8081, ge=0, le=65535, description="Port of the API.")
    metrics_host: str = Field(default="127.0.0.1", description="Address of `/metrics`.")
    metrics_port: int = Field(default=9091, ge=0, le=65535, description="Port of `/metrics`.")
    max_body_bytes: int = Field(
        default=MAX_BODY_BYTES, ge=1024, le=MAX_BODY_BYTES, description="Largest request body."
    )
    plain_limit_s: float = Field(
        default=PLAIN_LIMIT_S, gt=0, le=PLAIN_LIMIT_S, description="Longest answer that is not streamed."
    )
    stream_limit_s: float = Field(
        default=STREAM_LIMIT_S, gt=0, le=STREAM_LIMIT_S, description="Longest streamed answer."
    )
    max_requests: int = Field(default=512, ge=1, description="Requests at a time; further ones get 429.")
    max_held_bytes: int = Field(
        default=512 * 1024 * 1024,
        ge=1024,
        description="Request bodies held at a time, in bytes; further ones get 429. The task's memory must "
        "be twice that, for the bytes that came and those that are sent, and 1 GiB to read one of them.",
    )
    connect_timeout_s: float = Field(default=3.0, gt=0, description="Longest time to connect to AWS.")
    retry_after_s: int = Field(
        default=1, ge=1, description="What Retry-After says where the endpoint or the adapter is full."
    )
    cold_retry_after_s: int = Field(
        default=30, ge=1, description="What Retry-After says where a model has no copy yet, as after zero."
    )
    drain_notice_s: float = Field(
        default=5.0,
        ge=0,
        description="After SIGTERM, how long requests are still taken while /healthz says 503, so that Envoy "
        "can notice.",
    )
    drain_s: float = Field(
        default=100.0,
        ge=0,
        description="After that, how long answers may go on. With the notice below ECS's stopTimeout, "
        "120 s at most on Fargate.",
    )
    capture: CaptureConfig | None = Field(
        default=None, description="Masked copies of prompts and answers. None by itself."
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        names = [model.name for model in self.models]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"models.name {doubled[0]!r} is there twice; allowed: each once; fix: remove one"
            )
        for model in self.models:
            if model.first_token_s >= self.stream_limit_s:
                raise ValueError(
                    f"models.firstTokenS of {model.name!r} is {model.first_token_s:g}; allowed: less than "
                    f"streamLimitS, {self.stream_limit_s:g}; fix: lower it"
                )
        self._check_captured()
        return self

    def _check_captured(self) -> None:
        captured = [one.endpoint for one in self.capture.endpoints] if self.capture else []
        known = {model.endpoint for model in self.models}
        for name in captured:
            if name not in known:
                raise ValueError(
                    f"capture.endpoints names {name!r}; allowed: an endpoint of models, "
                    f"{', '.join(sorted(known))}; fix: name one of these"
                )
            if captured.count(name) > 1:
                raise ValueError(
                    f"capture.endpoints names {name!r} twice; allowed: each once; fix: remove one"
                )


def read_config(path: Path) -> AdapterConfig:
    """Reads the configuration from its file.

    Raises:
        ConfigError: There is no such file, or it is not valid.
    """
    try:
        return AdapterConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except ValidationError as error:
        found = "; ".join(
            f"{'.'.join(str(part) for part in mistake['loc']) or 'the file'}: {mistake['msg']}"
            for mistake in error.errors()
        )
        raise ConfigError(f"{path} is no configuration of the SageMaker gateway: {found}") from None
