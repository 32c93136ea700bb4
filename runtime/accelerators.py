"""AcceleratorProfile registry: one row per kind of hardware that a model can be served on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class Toleration:
    """A taint that pods for this hardware must tolerate."""

    key: str
    operator: str = "Exists"
    effect: str = "NoSchedule"


@dataclass(frozen=True, kw_only=True)
class AcceleratorProfile:
    """How Kubernetes, Ray and vLLM each name one kind of hardware.

    Attributes:
        name: What stack files and policies call it, for example `nvidia-h100`.
        kubernetes_resource: Extended resource that a pod asks for; None for CPU.
        node_labels: Labels that the vendor's own node labeller writes, used as node selector.
        tolerations: Taints usual on nodes of this kind.
        ray_accelerator_type: Ray's name for it (`ray.util.accelerators`); None for CPU.
        memory_gib: Memory of one device in GiB; 0 for CPU.
        serve_llm: Whether `ray.serve.llm` can place it. Where it cannot, only PlainVLLM serves it.
        engine_defaults: vLLM engine arguments that this hardware needs.
        environment: Environment variables that the engine needs on this hardware.
    """

    name: str
    kubernetes_resource: str | None
    node_labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    tolerations: tuple[Toleration, ...] = ()
    ray_accelerator_type: str | None
    memory_gib: int
    serve_llm: bool = True
    engine_defaults: Mapping[str, str | int | float | bool] = field(
        default_factory=lambda: MappingProxyType({})
    )
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def is_cpu(self) -> bool:
        """Whether models run on the host's processors, without an extended resource."""
        return self.kubernetes_resource is None


def _nvidia(name: str, product: str, ray_type: str, memory_gib: int) -> AcceleratorProfile:
    # The product label is what NVIDIA GPU Feature Discovery writes
    # (https://github.com/NVIDIA/k8s-device-plugin, docs/gpu-feature-discovery).
    return AcceleratorProfile(
        name=name,
        kubernetes_resource="nvidia.com/gpu",
        node_labels=MappingProxyType({"nvidia.com/gpu.product": product}),
        tolerations=(Toleration(key="nvidia.com/gpu"),),
        ray_accelerator_type=ray_type,
        memory_gib=memory_gib,
    )


CPU = AcceleratorProfile(
    name="cpu",
    kubernetes_resource=None,
    ray_accelerator_type=None,
    memory_gib=0,
    engine_defaults=MappingProxyType({"dtype": "bfloat16", "enforce_eager": True}),
    # Threads are left unbound: the binder reads the host's topology, not the pod's CPU limit.
    environment=MappingProxyType({"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}),
)

ACCELERATORS: Mapping[str, AcceleratorProfile] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            CPU,
            _nvidia("nvidia-l4", "NVIDIA-L4", "L4", 24),
            _nvidia("nvidia-a10g", "NVIDIA-A10G", "A10G", 24),
            _nvidia("nvidia-l40s", "NVIDIA-L40S", "L40S", 48),
            _nvidia("nvidia-a100", "NVIDIA-A100-SXM4-80GB", "A100", 80),
            _nvidia("nvidia-h100", "NVIDIA-H100-80GB-HBM3", "H100", 80),
            _nvidia("nvidia-h200", "NVIDIA-H200", "H200", 141),
        )
    }
)
