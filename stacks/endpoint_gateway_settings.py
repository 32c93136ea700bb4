"""The settings of the gateway in front of SageMaker endpoints: who may come in, its size, what it runs."""

from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from runtime import versions
from runtime.model import ContradictionError, ContradictionsError, Image, Mistake, Spec, written_as
from runtime.sagemaker_gateway.config import MAX_BODY_BYTES, SAFE_TOKENS, STREAM_LIMIT_S, SageMakerModel
from runtime.sagemaker_gateway.fargate import (
    MEMORY_MIB,
    Architecture,
    Cpu,
    held_bytes,
    least_memory_mib,
)
from runtime.sagemaker_gateway.token_guard import LEAST_TOKENS
from stacks.cloud_settings import Cidr
from stacks.setting_types import DnsLabel, HostName

_CERTIFICATE = r"^arn:aws[a-z-]*:acm:[a-z0-9-]+:[0-9]{12}:certificate/[-0-9a-f]{8,64}$"

CertificateArn = Annotated[
    str,
    StringConstraints(pattern=_CERTIFICATE),
    written_as(
        _CERTIFICATE,
        "the ARN of a certificate in AWS Certificate Manager",
        "arn:aws:acm:us-east-1:123456789012:certificate/12345678-1234-1234-1234-123456789012",
    ),
]


class GatewayReplicas(Spec):
    """How many tasks run; CPU use moves between the two."""

    min: int = Field(
        default=2, ge=1, le=100, description="Tasks that always run; with two, one zone may fail."
    )
    max: int = Field(
        default=4, ge=1, le=100, description="Tasks at most; an update runs as many beside them."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ContradictionError("min", f"is above max {self.max}; lower min or raise max")
        return self


class GatewayTls(Spec):
    """TLS at the load balancer. Behind it, in the VPC, requests are plain HTTP."""

    certificate_arn: CertificateArn = Field(description="The certificate, in the stack's region.")
    hostname: HostName = Field(
        description="Name in the certificate that clients use. Its DNS record is yours to make, and "
        "leads to the output `loadBalancer`."
    )


class ModelSpeed(Spec):
    """What is known of a model's speed before the token guard has measured it."""

    model: str = Field(min_length=1, description="What clients send as `model`.")
    safe_tokens: int = Field(
        default=SAFE_TOKENS,
        ge=LEAST_TOKENS,
        description="Tokens of an answer that fit a stream of 8 minutes on the slowest day.",
    )
    first_token_seconds: float = Field(
        default=SageMakerModel.model_fields["first_token_s"].default,
        ge=0,
        le=int(STREAM_LIMIT_S) - 10,
        description="Seconds kept free for the first token.",
    )


class EndpointGateway(Spec):
    """The OpenAI-style API in front of the endpoints: Envoy and the streaming adapter as tasks on Fargate."""

    image: Image = Field(default=versions.ENVOY_IMAGE, description="Envoy image.")
    adapter_image: Image = Field(description="Image of the streaming adapter, by digest.")
    clients: tuple[DnsLabel, ...] = Field(
        default=("default",), min_length=1, description="The clients; each gets an API key of its own."
    )
    allowed_cidrs: tuple[Cidr, ...] = Field(
        min_length=1, description="Networks that clients come from. The load balancer has no public address."
    )
    tls: GatewayTls | None = Field(
        default=None, description="TLS at the load balancer; without it clients speak plain HTTP."
    )
    replicas: GatewayReplicas = Field(default_factory=lambda: GatewayReplicas(), description="Tasks.")
    cpu: Cpu = Field(default=1024, description="CPU units of a task; 1024 are a virtual CPU.")
    memory_mib: int = Field(
        default=4096,
        description="Memory of a task in MiB. Envoy has 2048 of it, and the adapter 960, with masked copies "
        "1216; half of the rest is what request bodies may hold at a time, and what is beyond gets 429.",
    )
    architecture: Architecture = Field(
        default="X86_64", description="Processor of the tasks; both images must be for it."
    )
    speeds: tuple[ModelSpeed, ...] = Field(
        default=(), description="What is known of models' speed; without an entry 3000 tokens and 30 s."
    )

    @property
    def images(self) -> dict[str, str]:
        """The images of its tasks, by the key in the stack file."""
        return {"image": self.image, "adapterImage": self.adapter_image}

    @model_validator(mode="after")
    def _unique_names(self) -> Self:
        found = [
            Mistake((key, index, *rest), f"is {key}[{first}] too; name each once")
            for key, names, rest in (
                ("clients", self.clients, ()),
                ("speeds", [one.model for one in self.speeds], ("model",)),
            )
            for index, name in enumerate(names)
            if (first := names.index(name)) != index
        ]
        if found:
            raise ContradictionsError(found)
        return self

    @model_validator(mode="after")
    def _adapter_is_pinned(self) -> Self:
        if "@sha256:" not in self.adapter_image:
            raise ContradictionError(
                "adapterImage",
                "has no digest, and a task that starts later would run whatever the tag means then; write "
                "NAME@sha256:… or NAME:TAG@sha256:…",
            )
        return self

    @model_validator(mode="after")
    def _size_is_fargates(self) -> Self:
        allowed = MEMORY_MIB[self.cpu]
        if self.memory_mib not in allowed:
            raise ContradictionError(
                "memoryMib",
                f"is none that Fargate has with cpu {self.cpu}; allowed: {_listed(allowed)}; take one",
            )
        if held_bytes(self.memory_mib) < MAX_BODY_BYTES:
            raise ContradictionError(
                "memoryMib",
                f"leaves no room for one request body of {MAX_BODY_BYTES:,} bytes beside Envoy; it takes "
                f"{least_memory_mib(MAX_BODY_BYTES)} or more; raise it, and cpu where Fargate asks for that",
            )
        return self


def _listed(sizes: tuple[int, ...]) -> str:
    if len(sizes) <= 4:
        return ", ".join(map(str, sizes))
    return f"{sizes[0]} to {sizes[-1]} in steps of {sizes[1] - sizes[0]}"
