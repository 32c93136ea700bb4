"""ModelSpec: what is served, on what hardware, by how many replicas. The domain, without any renderer."""

import difflib
import re
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from runtime.accelerators import ACCELERATORS, AcceleratorProfile

# KubeRay adds suffixes to a RayService's name and refuses more than 47 characters
# (ray-operator v1.6.2, controllers/ray/utils/constant.go, MaxRayServiceNameLength).
MAX_RAY_SERVICE_NAME = 47

# Owned by Spillway or forbidden by ray.serve.llm: setting them by hand would contradict another key.
RESERVED_ENGINE_ARGUMENTS = {
    "model": "source",
    "served_model_name": "servedName",
    "tokenizer": "source",
    "revision": "source.revision",
    "tensor_parallel_size": "tensorParallel",
    "pipeline_parallel_size": "pipelineParallel",
    "max_model_len": "contextLength",
    "max_num_seqs": "maxSequences",
    "distributed_executor_backend": "accelerator",
}


class ContradictionError(ValueError):
    """A check over several keys failed.

    Attributes:
        place: The key to change, from the checked object on; numbers are places in a list.
        others: What else the same check found, at other places.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.place = tuple(int(part) if part.isdigit() else part for part in key.split("."))
        self.others: tuple[ContradictionError, ...] = ()


def written_as(pattern: str, words: str, *examples: str) -> WithJsonSchema:
    """What a string must look like, for the schema, for editors and for the messages.

    `patternErrorMessage` is what yaml-language-server shows for a pattern that does not match.
    """
    return WithJsonSchema(
        {
            "type": "string",
            "pattern": pattern,
            "patternErrorMessage": f"must be {words}",
            "examples": list(examples),
        }
    )


# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity: a small k, no K.
_MEMORY = r"^[0-9]+(\.[0-9]+)?(k|Ki|[MGTPE]i?)?$"
_CPU = r"^([0-9]+(\.[0-9]+)?|[0-9]+m)$"
# Names of most Kubernetes objects are DNS subdomains (RFC 1123).
_OBJECT = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
CpuQuantity = Annotated[
    str, StringConstraints(pattern=_CPU), written_as(_CPU, 'CPUs such as "4", "1.5" or 500m', "4", "500m")
]
MemoryQuantity = Annotated[
    str, StringConstraints(pattern=_MEMORY), written_as(_MEMORY, "bytes such as 16Gi or 512Mi", "16Gi")
]
ObjectName = Annotated[
    str,
    StringConstraints(pattern=_OBJECT, max_length=253),
    written_as(_OBJECT, "the name of a Kubernetes object: lower-case letters, digits, '-' and '.'"),
]
EngineArgument = str | int | float | bool


def _engine_argument_name(value: str) -> str:
    if value in RESERVED_ENGINE_ARGUMENTS:
        raise ValueError(f"{RESERVED_ENGINE_ARGUMENTS[value]} decides it; use that key")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", value):
        raise ValueError("vLLM's names are lower case with '_', such as max_num_batched_tokens; write it so")
    return value


EngineArgumentName = Annotated[
    str,
    AfterValidator(_engine_argument_name),
    written_as(r"^[a-z][a-z0-9_]*$", "a vLLM name: lower case with '_', such as max_num_batched_tokens"),
]


class Spec(BaseModel):
    """Base of everything that a stack file can say: frozen, camelCase, and nothing unknown allowed."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        allow_inf_nan=False,
    )


class ModelSource(Spec):
    """Where the weights come from: exactly one of an image path, a Hugging Face id, a volume or a folder."""

    path: str | None = Field(
        default=None,
        description="Absolute path in the serving image, or inside `volumeClaim` where that is given.",
    )
    hugging_face: str | None = Field(
        default=None,
        description="Hugging Face repository id such as `Qwen/Qwen3-8B`; needs egress to the hub.",
    )
    revision: str | None = Field(
        default=None, description="Commit of the Hugging Face repository. Pin it: a branch moves under you."
    )
    volume_claim: ObjectName | None = Field(
        default=None,
        description="Name of an existing PersistentVolumeClaim that holds the weights; mounted read-only.",
    )
    host_folder: str | None = Field(
        default=None,
        description="Folder on the node's disk with the weights; Spillway declares a read-only "
        "PersistentVolume for it. For single-node sites.",
    )

    @field_validator("path", "host_folder")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        if value is not None and (not value.startswith("/") or ".." in value.split("/")):
            raise ValueError("must be an absolute path without '..', for example /models/qwen3")
        return value

    @field_validator("hugging_face")
    @classmethod
    def _repository_id(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", value):
            raise ValueError("must be ORGANISATION/NAME, for example Qwen/Qwen3-8B")
        return value

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        kinds = {
            "huggingFace": self.hugging_face,
            "volumeClaim": self.volume_claim,
            "hostFolder": self.host_folder,
        }
        given = [kind for kind, value in kinds.items() if value is not None]
        if self.path is not None and not given:
            given = ["path"]
        if len(given) != 1:
            raise ValueError(
                f"names {' and '.join(given) or 'no source'}; give exactly one of path, huggingFace, "
                "volumeClaim (with an optional path inside it) or hostFolder"
            )
        if self.path is not None and given[0] in {"huggingFace", "hostFolder"}:
            raise ContradictionError("path", f"does not go with {given[0]}; remove one of the two")
        return self

    @model_validator(mode="after")
    def _only_the_hub_has_revisions(self) -> Self:
        if self.revision is not None and self.hugging_face is None:
            raise ContradictionError("revision", "goes only with huggingFace; remove it")
        return self

    @property
    def mounts_volume(self) -> bool:
        """Whether the weights are on a volume that must be mounted."""
        return self.volume_claim is not None or self.host_folder is not None

    @property
    def leaves_cluster(self) -> bool:
        """Whether the weights are downloaded from outside the cluster."""
        return self.hugging_face is not None


class Replicas(Spec):
    """How many copies of a model run; Serve's autoscaler moves between the two."""

    min: int = Field(
        default=1, ge=0, le=1000, description="Copies that always run; 0 lets an idle model give up its GPUs."
    )
    max: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="Copies at most. Times GPUs per copy, this is what can be spent.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ContradictionError("min", f"is above max {self.max}; lower min or raise max")
        return self


class WorkerResources(Spec):
    """CPU and memory of one worker pod, beside its accelerators."""

    cpu: CpuQuantity = Field(default="8", description="Kubernetes CPU quantity.")
    memory: MemoryQuantity = Field(default="64Gi", description="Kubernetes memory quantity.")
    cpu_request: CpuQuantity | None = Field(
        default=None, description="CPU request where it differs from the limit."
    )
    memory_request: MemoryQuantity | None = Field(
        default=None, description="Memory request where it differs from the limit."
    )


class ModelSpec(Spec):
    """One model behind the gateway.

    `accelerator` names a row of `runtime.accelerators`. One copy uses `tensorParallel` devices in each
    of `pipelineParallel` pods.
    """

    name: str = Field(
        description="Kubernetes name of the RayService: lower case, digits and '-', at most 47."
    )
    served_name: str | None = Field(
        default=None, description="Model id that clients send; defaults to `name`."
    )
    source: ModelSource = Field(description="Where the weights come from.")
    accelerator: str = Field(description="Accelerator profile, for example `nvidia-h100` or `cpu`.")
    tensor_parallel: int = Field(
        default=1, ge=1, le=16, description="Devices per pod that one copy is split over."
    )
    pipeline_parallel: int = Field(default=1, ge=1, le=16, description="Pods that one copy is split over.")
    replicas: Replicas = Field(
        default_factory=lambda: Replicas(), description="Copies, at least and at most."
    )
    context_length: int = Field(default=4096, ge=16, description="Longest prompt plus answer, in tokens.")
    max_sequences: int = Field(
        default=64, ge=1, le=4096, description="Requests that one copy works on at a time."
    )
    target_ongoing_requests: int | None = Field(
        default=None,
        ge=1,
        description="Requests in flight per copy at which Serve adds a copy; defaults to three quarters of "
        "`maxSequences`. Ray's own default is 1e9, which never scales.",
    )
    max_queued_requests: int | None = Field(
        default=None,
        ge=0,
        description="Requests that may wait when all copies are full; more get 503. Defaults to "
        "`maxSequences`.",
    )
    engine_arguments: dict[EngineArgumentName, EngineArgument] = Field(
        default_factory=dict[str, EngineArgument],
        description="Further vLLM engine arguments, in vLLM's own names.",
    )
    worker: WorkerResources = Field(
        default_factory=lambda: WorkerResources(), description="CPU and memory of one worker pod."
    )
    hugging_face_token_secret: ObjectName | None = Field(
        default=None, description="Existing Secret with key `token`, for gated Hugging Face repositories."
    )
    upgrade: Literal["NewCluster", "None"] = Field(
        default="NewCluster",
        description="What a changed cluster spec does: `NewCluster` starts a second cluster beside the first "
        "and moves traffic (needs twice the hardware meanwhile), `None` never replaces a running one: edits "
        "of image, resources or replicas then wait until the model is removed and added again.",
    )
    revision: str | None = Field(
        default=None, description="Free text that is written into the pods; change it to force new pods."
    )

    @field_validator("name")
    @classmethod
    def _dns_label(cls, value: str) -> str:
        if len(value) > MAX_RAY_SERVICE_NAME:
            raise ValueError(
                f"has {len(value)} characters; KubeRay allows {MAX_RAY_SERVICE_NAME} for a RayService. "
                "Shorten it and put the long id into servedName"
            )
        if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", value):
            raise ValueError("must be lower-case letters, digits and '-', starting with a letter")
        return value

    @field_validator("served_name")
    @classmethod
    def _gateway_can_route_it(cls, value: str | None) -> str | None:
        part = r"[A-Za-z0-9][A-Za-z0-9._-]*"
        if value is not None and (len(value) > 120 or not re.fullmatch(rf"{part}(/{part})*", value)):
            raise ValueError(
                "must be at most 120 letters, digits, '.', '_', '-' in parts joined by '/', for example "
                "Qwen/Qwen3-8B (':' is kept for LoRA adapters, base:adapter)"
            )
        return value

    @field_validator("accelerator")
    @classmethod
    def _known_accelerator(cls, value: str) -> str:
        if value not in ACCELERATORS:
            near = difflib.get_close_matches(value, ACCELERATORS, n=1)
            fix = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"allowed: {', '.join(ACCELERATORS)}{fix}")
        return value

    @model_validator(mode="after")
    def _a_cpu_cannot_be_split(self) -> Self:
        if self.profile.is_cpu:
            for key, value in (
                ("tensorParallel", self.tensor_parallel),
                ("pipelineParallel", self.pipeline_parallel),
            ):
                if value != 1:
                    raise ContradictionError(key, "needs GPUs; on accelerator cpu it must be 1")
        return self

    @model_validator(mode="after")
    def _zero_copies_free_a_gpu(self) -> Self:
        if self.profile.is_cpu and self.replicas.min == 0:
            raise ContradictionError("replicas.min", "saves nothing on accelerator cpu; set it to 1 or more")
        return self

    @model_validator(mode="after")
    def _real_weights_are_loaded(self) -> Self:
        if self.engine_arguments.get("load_format") == "dummy" and self.source.path is None:
            raise ContradictionError(
                "engineArguments.load_format",
                "ignores the weights of source and answers at random; remove it",
            )
        return self

    @model_validator(mode="after")
    def _can_be_placed(self) -> Self:
        if not self.profile.serve_llm:
            raise ContradictionError(
                "accelerator", "cannot be placed by Ray Serve LLM; take another accelerator"
            )
        return self

    @property
    def profile(self) -> AcceleratorProfile:
        """The hardware's row in the registry."""
        return ACCELERATORS[self.accelerator]

    @property
    def model_id(self) -> str:
        """What clients send as `model`."""
        return self.served_name or self.name

    @property
    def accelerators_per_copy(self) -> int:
        """Devices that one copy holds; 0 on CPU."""
        return 0 if self.profile.is_cpu else self.tensor_parallel * self.pipeline_parallel

    @property
    def max_accelerators(self) -> int:
        """Devices that all copies hold at most, without an upgrade's surge."""
        return self.accelerators_per_copy * self.replicas.max

    @property
    def ongoing_target(self) -> int:
        """Requests in flight per copy at which Serve adds a copy."""
        return self.target_ongoing_requests or max(1, self.max_sequences * 3 // 4)

    @property
    def queue_limit(self) -> int:
        """Requests that may wait at the ingress before it answers 503."""
        return self.max_sequences if self.max_queued_requests is None else self.max_queued_requests
