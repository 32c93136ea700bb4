"""Models as SageMaker hosts them: the same as everywhere, with the container, adapters and neighbours."""

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from runtime.accelerators import ENDPOINT_ACCELERATORS, AcceleratorProfile
from runtime.model import (
    ContradictionsError,
    Image,
    Mistake,
    ModelSpec,
    Spec,
    accelerator_in,
    written_as,
)

ContainerKind = Literal["vllm", "lmi", "neuron"]

# Names in SageMaker are letters, digits and single '-' (CreateModel, ContainerHostname).
_PART = r"^[a-z]([-a-z0-9]{0,28}[a-z0-9])?$"
_VARIABLE = r"^[A-Z][A-Z0-9_]*$"
# CreateModel: 15 containers at most, the model's own among them.
MAX_CONTAINERS = 15
# AWS' vLLM image takes one value for each argument, and `--lora-modules` is a list.
_ADAPTERS_OF_VLLM = 1

EndpointAccelerator = Annotated[str, accelerator_in(ENDPOINT_ACCELERATORS)]
PartName = Annotated[
    str,
    StringConstraints(pattern=_PART),
    written_as(_PART, "1 to 30 lower-case letters, digits and '-', starting with a letter"),
]
VariableName = Annotated[
    str,
    StringConstraints(pattern=_VARIABLE),
    written_as(_VARIABLE, "an environment variable in capitals", "LOG_LEVEL"),
]

# Keys of ModelSpec that say how pods are placed. There are no pods here.
_OF_A_CLUSTER = {
    "serving": "serving",
    "pipeline_parallel": "pipelineParallel",
    "worker": "worker",
    "node_selector": "nodeSelector",
    "tolerations": "tolerations",
    "hugging_face_token_secret": "huggingFaceTokenSecret",
    "upgrade": "upgrade",
    "replicas": "replicas",
    "spill": "spill",
}


class Adapter(Spec):
    """A LoRA adapter: the folder `adapters/NAME/` beside the model's weights in the bucket."""

    name: PartName = Field(description="Its folder, and what clients ask for in place of the model.")


class PipelineContainer(Spec):
    """A container before or behind the model's, on the same machine; it answers `/invocations` like it."""

    name: PartName = Field(description="Its name.")
    image: Image = Field(description="Its image, by digest.")
    environment: dict[VariableName, str] = Field(
        default_factory=dict[str, str],
        description="Its environment variables. No secrets: they are readable.",
    )


class EndpointModel(ModelSpec):
    """One model that endpoints host. The keys are those of the other scenarios, without those about pods.

    `source` says where `make stage` finds the weights; SageMaker loads them from the stack's own bucket.
    """

    profiles: ClassVar[Mapping[str, AcceleratorProfile]] = ENDPOINT_ACCELERATORS

    accelerator: EndpointAccelerator = Field(
        description="Accelerator profile, for example `nvidia-l40s`, `aws-inferentia2` or `cpu`."
    )
    tensor_parallel: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Devices that one copy is split over; with Neuron devices their cores, two each.",
    )
    container: ContainerKind = Field(
        default="vllm",
        description="What `image` is: AWS' vLLM image (`vllm`), its Large Model Inference one, with DJL "
        "(`lmi`), or Hugging Face's vLLM for Neuron devices (`neuron`). Each is told the same by other "
        "environment variables.",
    )
    adapters: tuple[Adapter, ...] = Field(
        default=(), description="LoRA adapters; several need `container: lmi`."
    )
    before: tuple[PipelineContainer, ...] = Field(
        default=(), description="Containers that a request goes through first, in order; no streams then."
    )
    after: tuple[PipelineContainer, ...] = Field(
        default=(), description="Containers that an answer goes through; no streams then."
    )

    @model_validator(mode="after")
    def _has_no_pods(self) -> Self:
        found = [
            Mistake((alias,), "is about pods or their number, and an endpoint has none; remove it")
            for name, alias in _OF_A_CLUSTER.items()
            if name in self.model_fields_set and alias != "replicas"
        ]
        if "replicas" in self.model_fields_set:
            found.append(
                Mistake(
                    ("replicas",),
                    "is said for each variant here; move it to endpoints[].variants[].replicas",
                )
            )
        if found:
            raise ContradictionsError(found)
        return self

    @model_validator(mode="after")
    def _weights_can_be_staged(self) -> Self:
        if self.source.path is not None and self.source.volume_claim is None and self.adapters:
            raise ContradictionsError(
                [
                    Mistake(
                        ("adapters",),
                        "lie beside the weights in the bucket, and these are in the image (source.path); "
                        "name where the weights are staged from, or remove adapters",
                    )
                ]
            )
        return self

    @model_validator(mode="after")
    def _images_are_pinned(self) -> Self:
        found = [
            Mistake(
                place,
                "has no digest, and SageMaker resolves a tag once and keeps what it found; write "
                "NAME@sha256:… or NAME:TAG@sha256:…",
            )
            for place, image in self.images.items()
            if "@sha256:" not in image
        ]
        if self.image is None:
            found.append(
                Mistake(
                    ("image",),
                    "is missing; name the image of the container by digest, for example "
                    "763104351884.dkr.ecr.us-east-1.amazonaws.com/vllm@sha256:…",
                )
            )
        if found:
            raise ContradictionsError(found)
        return self

    @model_validator(mode="after")
    def _pipeline_is_not_too_long(self) -> Self:
        count = 1 + len(self.before) + len(self.after)
        if count > MAX_CONTAINERS:
            raise ContradictionsError(
                [
                    Mistake(
                        ("before",),
                        f"makes {count} containers with the model's and those of after, and a serial "
                        f"pipeline has 2 to {MAX_CONTAINERS}; remove some",
                    )
                ]
            )
        return self

    @model_validator(mode="after")
    def _container_names_are_distinct(self) -> Self:
        names = [one.name for one in (*self.before, *self.after)]
        for index, one in enumerate(self.after):
            place = len(self.before) + index
            if one.name in names[:place]:
                raise ContradictionsError(
                    [Mistake(("after", index, "name"), "is the name of another container; give each its own")]
                )
        return self

    @model_validator(mode="after")
    def _adapters_fit_the_container(self) -> Self:
        if self.container == "vllm" and len(self.adapters) > _ADAPTERS_OF_VLLM:
            raise ContradictionsError(
                [
                    Mistake(
                        ("adapters",),
                        f"are {len(self.adapters)}, and AWS' vLLM image can be told of one; set container "
                        "to lmi with its image, or give each adapter a model of its own",
                    )
                ]
            )
        return self

    @model_validator(mode="after")
    def _neuron_has_its_own(self) -> Self:
        is_neuron, cores = self.profile.is_neuron, self.profile.cores
        container = "neuron, with its image" if is_neuron else "vllm or lmi"
        beyond = "is not something that vLLM for Neuron devices can do; remove"
        mistakes: list[tuple[bool, Mistake]] = [
            (
                is_neuron != (self.container == "neuron"),
                Mistake(
                    ("container",),
                    f"does not go with accelerator {self.accelerator}; set container to {container}",
                ),
            ),
            (
                is_neuron and self.needs_cuda_13,
                Mistake(
                    ("image",),
                    "is for CUDA by its tag; take the one that `python -m runtime.ops container-images "
                    "--container neuron` names",
                ),
            ),
            (
                self.tensor_parallel % cores != 0,
                Mistake(
                    ("tensorParallel",),
                    f"does not fill devices of {self.accelerator}, which have {cores} cores each; give a "
                    f"multiple of {cores}",
                ),
            ),
            (is_neuron and bool(self.adapters), Mistake(("adapters",), f"{beyond} them")),
            (
                is_neuron and "data_parallel_size" in self.engine_arguments,
                Mistake(("engineArguments", "data_parallel_size"), f"{beyond} it"),
            ),
        ]
        if found := [mistake for is_there, mistake in mistakes if is_there]:
            raise ContradictionsError(found)
        return self

    @property
    def accelerators_per_copy(self) -> int:
        """Devices that one copy holds, with all their cores; 0 on CPU."""
        return super().accelerators_per_copy // self.profile.cores

    @property
    def images(self) -> dict[tuple[str | int, ...], str]:
        """Every image of the model, by the place in the stack file."""
        found: dict[tuple[str | int, ...], str] = {} if self.image is None else {("image",): self.image}
        for key, containers in (("before", self.before), ("after", self.after)):
            found |= {(key, index, "image"): one.image for index, one in enumerate(containers)}
        return found

    @property
    def is_pipeline(self) -> bool:
        """Whether requests go through several containers, which answer as a whole and never stream."""
        return bool(self.before or self.after)

    @property
    def needs_cuda_13(self) -> bool:
        """Whether the tag of its image says CUDA 13, as `cu130` does; a digest alone says nothing."""
        return re.search(r"cu(da)?-?13", self.image or "") is not None

    @property
    def devices(self) -> int:
        """Devices that one container of it uses: shards times copies inside of the container."""
        parallel = self.engine_arguments.get("data_parallel_size", 1)
        return self.accelerators_per_copy * (parallel if isinstance(parallel, int) else 1)


def compiled_for(model: EndpointModel) -> dict[str, int] | None:
    """What a model on Neuron devices must have been compiled for, by the keys of its `neuron_config.json`.

    Its server refuses other sizes than these (optimum-neuron, optimum/commands/neuron/serve.py).

    Returns:
        The keys and values; None for a model that is not compiled.
    """
    if not model.profile.is_neuron:
        return None
    return {
        "batch_size": model.max_sequences,
        "sequence_length": model.context_length,
        "tp_degree": model.tensor_parallel,
    }
