"""ModelSpec: what is served, on what hardware, by how many replicas. The domain, without any renderer."""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, ClassVar, Literal, Self

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
from runtime.quantities import cpus, memory_bytes

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
    "max_num_queued_reqs": "maxQueuedRequests",
    "distributed_executor_backend": "accelerator",
}


class ContradictionError(ValueError):
    """A check over several keys failed.

    Attributes:
        place: The key to change, from the checked object on, such as `("models", 1, "name")`.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.place = tuple(int(part) if part.isdigit() else part for part in key.split("."))


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
_MEMORY = r"[0-9]+(\.[0-9]+)?(k|Ki|[MGTPE]i?)?"
_CPU = r"([0-9]+(\.[0-9]+)?|[0-9]+m)"
# Pydantic's regular expressions cannot look ahead; those of editors and of Python can.
_ABOVE_ZERO = "(?=.*[1-9])"
_PATH = r"^(?!.*/\.\.(/|$))/"
_HUB_ID = r"^[\w.-]+/[\w.-]+$"
_SERVED = r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$"
_MODEL = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
_MAX_SERVED_NAME = 120
# Names of most Kubernetes objects are DNS subdomains (RFC 1123).
_OBJECT = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"


def _above_zero(value: str) -> str:
    if not re.search("[1-9]", value):
        raise ValueError("must be more than 0; raise it")
    return value


CpuQuantity = Annotated[
    str,
    StringConstraints(pattern=f"^{_CPU}$"),
    AfterValidator(_above_zero),
    written_as(f"^{_ABOVE_ZERO}{_CPU}$", 'CPUs such as "4", "1.5" or 500m', "4", "500m"),
]
MemoryQuantity = Annotated[
    str,
    StringConstraints(pattern=f"^{_MEMORY}$"),
    AfterValidator(_above_zero),
    written_as(f"^{_ABOVE_ZERO}{_MEMORY}$", "bytes such as 16Gi or 512Mi", "16Gi"),
]
MemoryOrNone = Annotated[
    str,
    StringConstraints(pattern=f"^{_MEMORY}$"),
    written_as(f"^{_MEMORY}$", 'bytes such as 16Gi or 512Mi, or "0" for none', "95000Mi"),
]
ObjectName = Annotated[
    str,
    StringConstraints(pattern=_OBJECT, max_length=253),
    written_as(_OBJECT, "the name of a Kubernetes object: lower-case letters, digits, '-' and '.'"),
]
# What these may be is checked, with better words than a pattern's, by validators of their classes.
AbsolutePath = Annotated[str, written_as(_PATH, "an absolute path without '..'", "/models/qwen3")]
HubId = Annotated[str, written_as(_HUB_ID, "ORGANISATION/NAME", "Qwen/Qwen3-8B")]
ModelName = Annotated[
    str,
    written_as(
        f"^(?=.{{1,{MAX_RAY_SERVICE_NAME}}}$){_MODEL.removeprefix('^')}",
        f"at most {MAX_RAY_SERVICE_NAME} lower-case letters, digits and '-', starting with a letter",
        "qwen3-8b",
    ),
]
ServedName = Annotated[
    str,
    written_as(
        f"^(?=.{{1,{_MAX_SERVED_NAME}}}$){_SERVED.removeprefix('^')}",
        f"at most {_MAX_SERVED_NAME} letters, digits, '.', '_', '-' in parts joined by '/'",
        "Qwen/Qwen3-8B",
    ),
]
EngineArgument = str | int | float | bool
ServingKind = Literal["RayServeLLM", "PlainVLLM"]

_NAME, _TAG, _DIGEST = r"[a-z0-9]+([.:/_-][a-zA-Z0-9]+)*?", r"[\w][\w.-]{0,127}", "sha256:[0-9a-f]{64}"
# Tags that stand for another image every day.
_MOVING_TAGS = ("latest", "main", "master", "nightly")
_IMAGE = re.compile(rf"(?P<name>{_NAME})(:(?P<tag>{_TAG}))?(@(?P<digest>{_DIGEST}))?")


def _pinned_image(value: str) -> str:
    match = _IMAGE.fullmatch(value)
    if match is None:
        raise ValueError("is no image reference; write REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:DIGEST")
    if match["digest"] is None and match["tag"] in {None, *_MOVING_TAGS}:
        raise ValueError("has no fixed version; write a version tag or, better, a digest (NAME@sha256:…)")
    return value


# https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
_LABEL_KEY = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
    r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"
)
_LABEL_VALUE = r"^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$"


def _label_key(value: str) -> str:
    if not re.fullmatch(_LABEL_KEY, value):
        raise ValueError("must be a label key: [PREFIX/]NAME of at most 63 letters, digits, '.', '_', '-'")
    return value


NodeLabels = dict[
    Annotated[
        str,
        AfterValidator(_label_key),
        written_as(_LABEL_KEY, "a label key: [PREFIX/]NAME of at most 63 letters, digits, '.', '_', '-'"),
    ],
    Annotated[
        str,
        StringConstraints(pattern=_LABEL_VALUE),
        written_as(_LABEL_VALUE, "a label value: at most 63 letters, digits, '.', '_', '-'"),
    ],
]


def accelerator_in(rows: Mapping[str, AcceleratorProfile]) -> AfterValidator:
    """Refuses a name that is no row, with the nearest one."""

    def known(value: str) -> str:
        if value not in rows:
            near = difflib.get_close_matches(value, rows, n=1)
            fix = f"did you mean {near[0]}?" if near else "take one of them"
            raise ValueError(f"must be one of {', '.join(rows)}; {fix}")
        return value

    return AfterValidator(known)


AcceleratorName = Annotated[str, accelerator_in(ACCELERATORS)]
Image = Annotated[
    str,
    AfterValidator(_pinned_image),
    written_as(
        rf"^{_NAME}(:(?!({'|'.join(_MOVING_TAGS)})$){_TAG}|(:{_TAG})?@{_DIGEST})$",
        "REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:DIGEST, with a fixed version",
        "rayproject/ray-llm:2.60.0-py312-cu130",
    ),
]


@dataclass(frozen=True)
class Mistake:
    """One mistake that a validator found.

    Attributes:
        path: Keys and indices from the validated object to the value that is wrong; empty for the object.
        message: The rest of the sentence: what is allowed, with the numbers, and the fix.
    """

    path: tuple[str | int, ...]
    message: str


class ContradictionsError(ValueError):
    """A check over several keys found more than one mistake.

    Attributes:
        mistakes: All of them, each with its place from the checked object on.
    """

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("; ".join(mistake.message for mistake in mistakes))
        self.mistakes = tuple(mistakes)


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


def refuse_above(
    key: str, request: str | None, limit_key: str, limit: str, amount: Callable[[str], Fraction | int]
) -> None:
    """Refuses a request above its limit, which Kubernetes would refuse when everything else is made.

    Args:
        key: The request's key.
        request: The quantity asked for, or None for just the limit.
        limit_key: The limit's key.
        limit: The quantity that is the most.
        amount: Reads such a quantity.

    Raises:
        ContradictionError: The request is above the limit.
    """
    if request is not None and amount(request) > amount(limit):
        raise ContradictionError(
            key, f"{request} is above {limit_key} {limit}; lower it to {limit} or raise {limit_key}"
        )


class ModelSource(Spec):
    """Where the weights come from: exactly one of an image path, a Hugging Face id, a volume or a folder."""

    path: AbsolutePath | None = Field(
        default=None,
        description="Absolute path in the serving image, or inside `volumeClaim` where that is given.",
    )
    hugging_face: HubId | None = Field(
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
    host_folder: AbsolutePath | None = Field(
        default=None,
        description="Folder on the node's disk with the weights; Spillway declares a read-only "
        "PersistentVolume for it. For single-node sites.",
    )

    @field_validator("path", "host_folder")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        if value is not None and not re.search(_PATH, value):
            raise ValueError("must be an absolute path without '..', for example /models/qwen3")
        return value

    @field_validator("hugging_face")
    @classmethod
    def _repository_id(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(_HUB_ID, value):
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


class NodeToleration(Spec):
    """A taint of nodes that pods may run on all the same."""

    key: str = Field(min_length=1, description="The taint's key.")
    operator: Literal["Exists", "Equal"] = Field(
        default="Exists", description="`Equal` compares `value`; `Exists` takes any."
    )
    value: str | None = Field(default=None, description="The taint's value, with operator `Equal`.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = Field(
        default="NoSchedule", description="The taint's effect."
    )

    @model_validator(mode="after")
    def _value_with_equal(self) -> Self:
        if (self.value is not None) != (self.operator == "Equal"):
            raise ValueError(
                f"operator {self.operator} with value {self.value!r}; give a value with Equal, and none with "
                "Exists"
            )
        return self


class ModelSize(Spec):
    """What a model's memory follows from. Its `config.json` and model card say these numbers."""

    parameters_billion: float = Field(ge=0.001, le=10_000, description="Parameters, in billions.")
    bytes_per_parameter: float = Field(
        default=2, ge=0.25, le=8, description="Bytes of one: 2 for bf16, 1 for fp8, 0.5 for 4 bits."
    )
    layers: int = Field(
        ge=1, le=1000, description="`num_hidden_layers`; of hybrid models those with attention."
    )
    key_value_heads: int = Field(
        ge=1,
        le=1024,
        description="`num_key_value_heads`; 1 for multi-head latent attention (DeepSeek).",
    )
    head_size: int = Field(
        ge=1,
        le=4096,
        description="`head_dim`; for latent attention half of `kv_lora_rank` plus `qk_rope_head_dim`, "
        "because one vector is kept there instead of a key and a value.",
    )
    key_value_bytes: float = Field(
        default=2, ge=0.5, le=4, description="Bytes of one cached number: 2 for bf16, 1 for fp8."
    )


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
    huge_pages: MemoryOrNone | None = Field(
        default=None,
        description='2 MiB pages of one pod, `"0"` for none; defaults to what the accelerator\'s maker asks '
        "for, which is none but for Gaudi. Nodes must have set them aside.",
    )
    supplemental_groups: tuple[int, ...] = Field(
        default=(),
        description="Group ids that own the device files (`render`, `video`), for AMD and Intel GPUs on "
        "nodes whose container runtime does not give devices to the pod's user "
        "(containerd: `device_ownership_from_security_context`).",
    )

    @model_validator(mode="after")
    def _cpu_request_within_limit(self) -> Self:
        refuse_above("cpuRequest", self.cpu_request, "cpu", self.cpu, cpus)
        return self

    @model_validator(mode="after")
    def _memory_request_within_limit(self) -> Self:
        refuse_above("memoryRequest", self.memory_request, "memory", self.memory, memory_bytes)
        return self


class SpillSpec(Spec):
    """What of a model is different on the cloud side. There it has 0 to `maxReplicas` copies."""

    max_replicas: int = Field(
        ge=1, le=1000, description="Copies at most on the cloud side; the burst controller says how many."
    )
    accelerator: AcceleratorName | None = Field(
        default=None, description="Accelerator there, where it is another one than on-prem."
    )
    tensor_parallel: int | None = Field(
        default=None, ge=1, le=16, description="`tensorParallel` there, where it differs."
    )
    pipeline_parallel: int | None = Field(
        default=None, ge=1, le=16, description="`pipelineParallel` there; above 1 the nodes need EFA."
    )
    worker: WorkerResources | None = Field(
        default=None, description="CPU and memory of a worker pod there, where they differ."
    )
    image: Image | None = Field(
        default=None,
        description="Serving image there, where the accelerator needs another one. By itself it is the same.",
    )


class ModelSpec(Spec):
    """One model behind the gateway.

    `accelerator` names a row of `runtime.accelerators`. One copy uses `tensorParallel` devices in each
    of `pipelineParallel` pods.
    """

    profiles: ClassVar[Mapping[str, AcceleratorProfile]] = ACCELERATORS

    name: ModelName = Field(
        description="Kubernetes name of the RayService: lower case, digits and '-', at most 47."
    )
    served_name: ServedName | None = Field(
        default=None, description="Model id that clients send; defaults to `name`."
    )
    source: ModelSource = Field(description="Where the weights come from.")
    accelerator: AcceleratorName = Field(
        description="Accelerator profile, for example `nvidia-h100` or `cpu`."
    )
    serving: ServingKind | None = Field(
        default=None,
        description="`RayServeLLM`: a RayService, which scales and spans hosts. `PlainVLLM`: a Deployment of "
        "`vllm serve`, for hardware that Ray Serve LLM cannot place or a vLLM other than Ray's. Defaults to "
        "RayServeLLM where the accelerator allows it.",
    )
    image: Image | None = Field(
        default=None,
        description="Serving image of this model where it is not `ray.image`; the table of accelerators says "
        "where it must be set. With RayServeLLM it holds the Ray of `ray.version`, bash and wget; with "
        "PlainVLLM vLLM 0.29 or newer.",
    )
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
    size: ModelSize | None = Field(
        default=None,
        description="The model's size. With it a preview refuses a model whose weights and one request of "
        "`contextLength` do not fit the devices, and says how many requests do.",
    )
    engine_arguments: dict[EngineArgumentName, EngineArgument] = Field(
        default_factory=dict[str, EngineArgument],
        description="Further vLLM engine arguments, in vLLM's own names.",
    )
    worker: WorkerResources = Field(
        default_factory=lambda: WorkerResources(), description="CPU and memory of one worker pod."
    )
    node_selector: NodeLabels = Field(
        default_factory=dict[str, str],
        description="Labels of the nodes for this model's workers, beside those of the accelerator, over "
        "which they win.",
    )
    tolerations: tuple[NodeToleration, ...] = Field(
        default=(), description="Taints that its workers tolerate, beside those usual for the accelerator."
    )
    hugging_face_token_secret: ObjectName | None = Field(
        default=None, description="Existing Secret with key `token`, for gated Hugging Face repositories."
    )
    upgrade: Literal["NewCluster", "None"] = Field(
        default="NewCluster",
        description="What a changed cluster spec does: `NewCluster` starts a second cluster beside the first "
        "and moves traffic (needs twice the hardware meanwhile), `None` never replaces a running one: edits "
        "of image, resources or replicas then wait until the model is removed and added again. With "
        "PlainVLLM, `NewCluster` starts one more copy before it stops an old one, and `None` stops one "
        "copy first.",
    )
    revision: str | None = Field(
        default=None, description="Free text that is written into the pods; change it to force new pods."
    )
    spill: SpillSpec | None = Field(
        default=None,
        description="Lets requests that on-prem has no room for go to the cloud (scenario `hybrid`). "
        "Without it this model's requests never leave the site.",
    )

    @field_validator("name")
    @classmethod
    def _dns_label(cls, value: str) -> str:
        if len(value) > MAX_RAY_SERVICE_NAME:
            raise ValueError(
                f"has {len(value)} characters; KubeRay allows {MAX_RAY_SERVICE_NAME} for a RayService. "
                "Shorten it and put the long id into servedName"
            )
        if not re.fullmatch(_MODEL, value):
            raise ValueError(
                "must be lower-case letters, digits and '-', starting with a letter, such as qwen3-8b"
            )
        return value

    @field_validator("served_name")
    @classmethod
    def _gateway_can_route_it(cls, value: str | None) -> str | None:
        if value is not None and (len(value) > _MAX_SERVED_NAME or not re.fullmatch(_SERVED, value)):
            raise ValueError(
                f"must be at most {_MAX_SERVED_NAME} letters, digits, '.', '_', '-' in parts joined by '/', "
                "for example Qwen/Qwen3-8B (':' is kept for LoRA adapters, base:adapter)"
            )
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
        if self.serving == "RayServeLLM" and not self.profile.serve_llm:
            raise ContradictionError(
                "serving",
                f"Ray Serve LLM cannot place accelerator {self.accelerator}: it asks Ray for GPU, and Ray "
                f"counts {self.profile.kubernetes_resource} as something else; allowed: PlainVLLM. Change "
                "it, or remove it for the default",
            )
        return self

    @model_validator(mode="after")
    def _has_an_image_for_its_hardware(self) -> Self:
        if self.image is None and self.profile.needs_own_image:
            ray = "" if self.is_plain else ", with the ray[serve,default] of ray.version installed into it"
            raise ContradictionError(
                "image",
                f"is missing, and ray.image is for CUDA or CPU, not for {self.accelerator}; set it. "
                f"Start from {self.profile.vllm_image}{ray}",
            )
        return self

    @model_validator(mode="after")
    def _a_plain_copy_is_one_pod(self) -> Self:
        if self.is_plain and self.pipeline_parallel > 1:
            raise ContradictionError(
                "pipelineParallel",
                "spreads a copy over pods, and PlainVLLM keeps it in one; allowed: 1. Raise tensorParallel "
                "instead, or use serving RayServeLLM",
            )
        return self

    @model_validator(mode="after")
    def _plain_copies_are_a_fixed_number(self) -> Self:
        if self.is_plain and self.replicas.min != self.replicas.max:
            raise ContradictionError(
                "replicas",
                f"min {self.replicas.min} and max {self.replicas.max} differ, and PlainVLLM runs a fixed "
                f"number of copies; set both to one number, for example {self.replicas.max}",
            )
        return self

    @model_validator(mode="after")
    def _can_be_served_in_the_cloud(self) -> Self:
        if self.spill is None:
            return self
        accelerator = self.spill.accelerator or self.accelerator
        if not accelerator.startswith("nvidia-"):
            raise ContradictionError(
                "spill.accelerator",
                f"would be {accelerator}, and the cloud side's nodes have NVIDIA devices; name one such as "
                "nvidia-l40s, or remove spill",
            )
        if self.serving == "PlainVLLM":
            raise ContradictionError(
                "spill",
                "needs Ray on both sides, which the burst controller scales by, and serving is PlainVLLM; "
                "remove one of the two",
            )
        if self.image is not None and self.spill.image is None and self.profile.needs_own_image:
            raise ContradictionError(
                "spill.image",
                f"is missing, and image is for {self.accelerator}, not for {accelerator}; set it",
            )
        return self

    @property
    def profile(self) -> AcceleratorProfile:
        """The hardware's row in the registry."""
        return self.profiles[self.accelerator]

    @property
    def serving_kind(self) -> ServingKind:
        """What serves it: what `serving` says, else Ray Serve LLM where that can place the hardware."""
        return self.serving or ("RayServeLLM" if self.profile.serve_llm else "PlainVLLM")

    @property
    def is_plain(self) -> bool:
        """Whether a Deployment of `vllm serve` serves it, without Ray."""
        return self.serving_kind == "PlainVLLM"

    @property
    def model_id(self) -> str:
        """What clients send as `model`."""
        return self.served_name or self.name

    @property
    def in_cloud(self) -> "ModelSpec | None":
        """The same model as the cloud side serves it, or None where it may not spill.

        Source, served name, context length, queues and engine are the same. Of copies there are 0 to
        `spill.maxReplicas`; hardware and image are those of `spill` where it names them. Node labels and
        taints of the site do not go with it.
        """
        if self.spill is None:
            return None
        own = self.spill.model_dump(exclude={"max_replicas"}, exclude_none=True)
        site = {"spill", "replicas", "node_selector", "tolerations", "serving"}
        shared = {name: getattr(self, name) for name in type(self).model_fields.keys() - site - own.keys()}
        there = {name: getattr(self.spill, name) for name in own}
        return ModelSpec(**shared, **there, replicas=Replicas(min=0, max=self.spill.max_replicas))

    @property
    def accelerators_per_copy(self) -> int:
        """Devices that one copy holds; 0 on CPU."""
        return 0 if self.profile.is_cpu else self.tensor_parallel * self.pipeline_parallel

    @property
    def max_accelerators(self) -> int:
        """Devices that all copies hold at most, without an upgrade's surge."""
        return self.accelerators_per_copy * self.replicas.max

    @property
    def surge_copies(self) -> int:
        """Copies that an upgrade runs beside `replicas.max`."""
        if self.upgrade == "None":
            return 0
        return 1 if self.is_plain else self.replicas.max

    @property
    def peak_accelerators(self) -> int:
        """Devices that all copies hold at most, with an upgrade's surge."""
        return self.accelerators_per_copy * (self.replicas.max + self.surge_copies)

    @property
    def ongoing_target(self) -> int:
        """Requests in flight per copy at which Serve adds a copy."""
        return self.target_ongoing_requests or max(1, self.max_sequences * 3 // 4)

    @property
    def queue_limit(self) -> int:
        """Requests that may wait at the ingress before it answers 503."""
        return self.max_sequences if self.max_queued_requests is None else self.max_queued_requests
