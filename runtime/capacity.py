"""Whether models fit the hardware: the memory of devices, the devices of nodes, the nodes of a cluster.

Pure arithmetic on what a stack file says. Every figure is a bound, not a simulation:

- Memory counts weights and KV cache. vLLM also needs room for activations and graphs, so what is refused
  here cannot run, and what passes here may still be tight.
- Nodes are filled by first-fit decreasing. A scheduler that spreads pods may fit fewer, and another order
  could fit more. Ray heads, the gateway, node labels and taints are not counted.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from pydantic import Field, model_validator

from runtime.model import AcceleratorName, CpuQuantity, MemoryQuantity, Mistake, ModelSize, ModelSpec, Spec
from runtime.quantities import GIB, cpus, gib, memory_bytes

# vllm 0.29, config/cache.py, CacheConfig.gpu_memory_utilization.
GPU_MEMORY_UTILIZATION = 0.92
_CPU_CACHE_VARIABLE = "VLLM_CPU_KVCACHE_SPACE"


class NodePool(Spec):
    """Nodes of one kind that the platform may fill. With pools a preview checks that all models fit."""

    accelerator: AcceleratorName = Field(description="Accelerator profile of the nodes, or `cpu`.")
    nodes: int = Field(ge=1, le=10_000, description="How many nodes there are.")
    devices_per_node: int = Field(
        default=0, ge=0, le=64, description="Accelerators of one node; 0 for `cpu`."
    )
    cpu: CpuQuantity = Field(description="Allocatable CPUs of one node.")
    memory: MemoryQuantity = Field(description="Allocatable memory of one node.")

    @model_validator(mode="after")
    def _devices(self) -> Self:
        if (self.devices_per_node == 0) != (self.accelerator == "cpu"):
            raise ValueError(
                f"accelerator {self.accelerator} with devicesPerNode {self.devices_per_node}; give 0 for "
                "cpu, and the devices of one node for all others"
            )
        return self


@dataclass(frozen=True)
class MemoryFit:
    """The memory of one copy of a model, in bytes over all its devices.

    Attributes:
        usable: What vLLM may take.
        weights: What the weights take.
        sequence: KV cache of one request of `contextLength` tokens.
        cache: What is left for KV cache; negative where the weights do not fit.
    """

    usable: float
    weights: float
    sequence: float
    cache: float

    @property
    def sequences(self) -> int:
        """Requests of full length that fit at a time; 0 where not one does."""
        return max(0, math.floor(self.cache / self.sequence))


@dataclass(frozen=True)
class PodSize:
    """What one pod asks for, or one node has left.

    Attributes:
        devices: Accelerators.
        memory: Memory in bytes.
        milli_cpus: CPUs in thousandths.
    """

    devices: int
    memory: int
    milli_cpus: int

    def fits(self, room: "PodSize") -> bool:
        """Whether a node with that room takes the pod."""
        return (
            self.devices <= room.devices and self.memory <= room.memory and self.milli_cpus <= room.milli_cpus
        )

    def beside(self, room: "PodSize") -> "PodSize":
        """What is left of the room with the pod in it."""
        return PodSize(
            room.devices - self.devices, room.memory - self.memory, room.milli_cpus - self.milli_cpus
        )

    def words(self) -> str:
        """The size for a reader, such as `8 devices, 12 CPU and 96 GiB`."""
        devices = f"{self.devices} devices, " if self.devices else ""
        return f"{devices}{self.milli_cpus / 1000:g} CPU and {gib(self.memory)}"


def cache_bytes_per_token(size: ModelSize, tensor_parallel: int) -> float:
    """KV cache of one token over all devices of a copy, in bytes.

    A key and a value for every layer and head: 2 x layers x heads x headSize x bytes. Each device holds
    its share of the heads, but at least one, so heads are repeated where there are fewer than devices
    (vllm 0.29, ModelConfig.get_num_kv_heads).
    """
    heads = tensor_parallel * max(1, size.key_value_heads // tensor_parallel)
    return 2 * size.layers * heads * size.head_size * size.key_value_bytes


def memory_fit(model: ModelSpec) -> MemoryFit | None:
    """How one copy of a model fills its devices, or its pod on CPU; None where `size` is not given."""
    size, profile = model.size, model.profile
    if size is None:
        return None
    weights = size.parameters_billion * 1e9 * size.bytes_per_parameter
    sequence = cache_bytes_per_token(size, model.tensor_parallel) * model.context_length
    if profile.is_cpu:
        # On CPU the cache is set aside by itself, beside the weights.
        usable = memory_bytes(model.worker.memory)
        cache = int(profile.environment[_CPU_CACHE_VARIABLE]) * GIB
        return MemoryFit(usable, weights, sequence, cache if weights + cache <= usable else usable - weights)
    usable = profile.memory_gib * GIB * model.accelerators_per_copy * _utilization(model)
    # The first stages of a pipeline hold a layer more where layers do not divide evenly, and the fullest
    # stage decides.
    uneven = math.ceil(size.layers / model.pipeline_parallel) * model.pipeline_parallel / size.layers
    return MemoryFit(usable, weights, sequence * uneven, usable - weights)


def summary(model: ModelSpec) -> str | None:
    """One line on a model's memory for a preview's reader; None where `size` is not given."""
    fit = memory_fit(model)
    if fit is None:
        return None
    return (
        f"model {model.name}: weights {gib(fit.weights)} of {gib(fit.usable)} on {_hardware(model)}; "
        f"{gib(fit.cache)} of KV cache hold {fit.sequences} requests of {model.context_length} tokens "
        f"at a time (maxSequences {model.max_sequences})"
    )


def capacity_mistakes(
    models: Sequence[ModelSpec], pools: Sequence[NodePool], accelerator_quota: int | None
) -> list[Mistake]:
    """Everything that cannot fit, each with its numbers; paths start at the platform's settings.

    Args:
        models: All models of the platform.
        pools: The nodes there are; none leaves the nodes unjudged.
        accelerator_quota: Largest number of each kind of accelerator; None for no limit.
    """
    found = [mistake for index, model in enumerate(models) for mistake in _memory_mistakes(index, model)]
    if accelerator_quota is not None:
        found += _quota_mistakes(models, accelerator_quota)
    if pools:
        for accelerator in dict.fromkeys(model.accelerator for model in models):
            found += _pool_mistakes(accelerator, models, pools)
    return found


def _memory_mistakes(index: int, model: ModelSpec) -> Iterator[Mistake]:
    fit = memory_fit(model)
    if fit is None:
        return
    path = ("models", index, "size")
    if model.profile.is_cpu:
        yield from _cpu_memory_mistakes(path, model, fit)
    elif fit.cache <= 0:
        least = math.ceil(fit.weights / (model.profile.memory_gib * GIB * _utilization(model)))
        yield Mistake(
            path,
            f"the weights take {gib(fit.weights)}, and vLLM may use {gib(fit.usable)} of {_hardware(model)}; "
            f"split a copy over at least {least} devices (tensorParallel x pipelineParallel), or take larger "
            "devices or fewer bytesPerParameter",
        )
    elif fit.sequences == 0:
        yield Mistake(
            path,
            f"one request of contextLength {model.context_length} takes {gib(fit.sequence)} of KV cache, and "
            f"of {gib(fit.usable)} on {_hardware(model)} the weights leave {gib(fit.cache)}; lower "
            f"contextLength to {_longest(model, fit)} at most, or split a copy over more devices",
        )


def _cpu_memory_mistakes(path: tuple[str | int, ...], model: ModelSpec, fit: MemoryFit) -> Iterator[Mistake]:
    cache = int(model.profile.environment[_CPU_CACHE_VARIABLE]) * GIB
    if fit.weights + cache > fit.usable:
        yield Mistake(
            path,
            f"weights of {gib(fit.weights)} and {gib(cache)} of KV cache do not fit worker.memory "
            f"{model.worker.memory}; raise that above {gib(fit.weights + cache)}",
        )
    elif fit.sequences == 0:
        yield Mistake(
            path,
            f"one request of contextLength {model.context_length} takes {gib(fit.sequence)} of KV cache, and "
            f"on cpu there is {gib(cache)}; lower contextLength to {_longest(model, fit)} at most",
        )


def _quota_mistakes(models: Sequence[ModelSpec], quota: int) -> Iterator[Mistake]:
    for resource in dict.fromkeys(model.profile.kubernetes_resource for model in models):
        users = [model for model in models if model.profile.kubernetes_resource == resource]
        need = sum(model.peak_accelerators for model in users)
        if need > quota:
            yield Mistake(
                ("quota", "accelerators"),
                f"the models hold up to {need} {resource} ({_shares(users)}); raise it to {need}, lower "
                "replicas.max, or set upgrade to None",
            )


def _pool_mistakes(
    accelerator: str, models: Sequence[ModelSpec], pools: Sequence[NodePool]
) -> Iterator[Mistake]:
    users = [(index, model) for index, model in enumerate(models) if model.accelerator == accelerator]
    here = [pool for pool in pools if pool.accelerator == accelerator]
    if not here:
        listed = ", ".join(dict.fromkeys(pool.accelerator for pool in pools))
        for index, model in users:
            yield Mistake(
                ("models", index, "accelerator"),
                f"capacity has no nodes for model {model.name}, only {listed}; add its nodes to capacity",
            )
        return
    rooms = [node_room(pool) for pool in here]
    alone = [
        Mistake(
            ("models", index),
            f"one pod of model {model.name} takes {pod_size(model).words()}, and the nodes with "
            f"{accelerator} have {'; or '.join(room.words() for room in rooms)}; lower tensorParallel or "
            "worker, or name larger nodes",
        )
        for index, model in users
        if not any(pod_size(model).fits(room) for room in rooms)
    ]
    yield from alone
    if not alone:
        yield from _together_mistakes(accelerator, [model for _, model in users], here)


def _together_mistakes(
    accelerator: str, models: Sequence[ModelSpec], pools: Sequence[NodePool]
) -> Iterator[Mistake]:
    need = sum(model.peak_accelerators for model in models)
    have = sum(pool.nodes * pool.devices_per_node for pool in pools)
    nodes = " and ".join(
        f"{pool.nodes} nodes" + (f" with {pool.devices_per_node}" if pool.devices_per_node else "")
        for pool in pools
    )
    fix = "lower replicas.max, set upgrade to None, or add nodes"
    if need > have:
        yield Mistake(
            ("capacity",),
            f"the models hold up to {need} {accelerator} ({_shares(models)}), and there are {have} "
            f"({nodes}); {fix}",
        )
        return
    pods = [pod_size(model) for model in models for _ in range(_pods_at_most(model))]
    placed = _first_fit_decreasing(pods, [node_room(pool) for pool in pools for _ in range(pool.nodes)])
    if placed < len(pods):
        yield Mistake(
            ("capacity",),
            f"of {len(pods)} pods on {accelerator} at most ({_shares(models)}) first-fit decreasing places "
            f"{placed} on {nodes}, the largest pod taking {max(pods, key=_order).words()}; {fix}",
        )


def _first_fit_decreasing(pods: Iterable[PodSize], rooms: Iterable[PodSize]) -> int:
    """How many pods fit: the largest first (devices, memory, CPU), each on the first node with room."""
    left = list(rooms)
    placed = 0
    for pod in sorted(pods, key=_order, reverse=True):
        spot = next((index for index, room in enumerate(left) if pod.fits(room)), None)
        if spot is not None:
            left[spot] = pod.beside(left[spot])
            placed += 1
    return placed


def _order(pod: PodSize) -> tuple[int, int, int]:
    return pod.devices, pod.memory, pod.milli_cpus


def pod_size(model: ModelSpec) -> PodSize:
    """What the scheduler sets aside for one worker pod."""
    worker = model.worker
    return PodSize(
        0 if model.profile.is_cpu else model.tensor_parallel,
        memory_bytes(worker.memory_request or worker.memory),
        math.ceil(cpus(worker.cpu_request or worker.cpu) * 1000),
    )


def node_room(pool: NodePool) -> PodSize:
    """What pods may ask for on one node of a pool."""
    return PodSize(pool.devices_per_node, memory_bytes(pool.memory), math.floor(cpus(pool.cpu) * 1000))


def _pods_at_most(model: ModelSpec) -> int:
    return (model.replicas.max + model.surge_copies) * model.pipeline_parallel


def _shares(models: Sequence[ModelSpec]) -> str:
    return "; ".join(
        f"{model.name}: {model.replicas.max} copies"
        + (f" and {model.surge_copies} more during an upgrade" if model.surge_copies else "")
        + (f" x {model.accelerators_per_copy}" if model.accelerators_per_copy else "")
        for model in models
    )


def _hardware(model: ModelSpec) -> str:
    if model.profile.is_cpu:
        return "cpu"
    return f"{model.accelerators_per_copy} x {model.accelerator} ({model.profile.memory_gib} GiB each)"


def _utilization(model: ModelSpec) -> float:
    value = model.engine_arguments.get("gpu_memory_utilization", GPU_MEMORY_UTILIZATION)
    return float(value) if isinstance(value, int | float) else GPU_MEMORY_UTILIZATION


def _longest(model: ModelSpec, fit: MemoryFit) -> int:
    return math.floor(fit.cache / fit.sequence * model.context_length)
