"""AcceleratorProfile registry: one row per kind of hardware that a model can be served on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

_NEURON = "aws.amazon.com/neuron"


@dataclass(frozen=True, kw_only=True)
class AcceleratorProfile:
    """How Kubernetes, Ray and vLLM each name one kind of hardware.

    Attributes:
        name: What stack files and policies call it, for example `nvidia-h100`.
        kubernetes_resource: Extended resource that a pod asks for; None for CPU.
        node_labels: Labels that the vendor's own node labeller writes, used as node selector.
        taints: Keys of the NoSchedule taints usual on nodes of this kind, which its pods tolerate.
        ray_accelerator_type: Ray's name for it (`ray.util.accelerators`); None for CPU.
        memory_gib: Memory of one device in GiB as its maker names it; drivers keep a little of it. 0 for
            CPU.
        serve_llm: Whether `ray.serve.llm` can place it. Where it cannot, only PlainVLLM serves it.
        vllm_image: vLLM's own image for it, or where one comes from. It holds no Ray.
        needs_own_image: Whether a model on it needs an image beside `ray.image`, because the published
            Ray images are for CUDA.
        huge_pages: 2 MiB pages that one pod needs, as a Kubernetes quantity; None for none.
        engine_defaults: vLLM engine arguments that this hardware needs.
        environment: Environment variables that the engine needs on this hardware.
        cores: Cores of one device, each of which is one of `tensorParallel`; 1 where a device is not divided.
    """

    name: str
    kubernetes_resource: str | None
    node_labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    taints: tuple[str, ...] = ()
    ray_accelerator_type: str | None
    memory_gib: int
    serve_llm: bool = True
    vllm_image: str = "vllm/vllm-openai"
    needs_own_image: bool = True
    huge_pages: str | None = None
    engine_defaults: Mapping[str, str | int | float | bool] = field(
        default_factory=lambda: MappingProxyType({})
    )
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    cores: int = 1

    @property
    def is_cpu(self) -> bool:
        """Whether models run on the host's processors, without an extended resource."""
        return self.kubernetes_resource is None

    @property
    def is_neuron(self) -> bool:
        """Whether AWS made it, and models are compiled before they are served."""
        return self.kubernetes_resource == _NEURON


def _nvidia(name: str, product: str, ray_type: str, memory_gib: int) -> AcceleratorProfile:
    # Source of the label: NVIDIA GPU Feature Discovery writes the driver's product name, with '-' for
    # blanks (https://github.com/NVIDIA/k8s-device-plugin, docs/gpu-feature-discovery).
    return AcceleratorProfile(
        name=name,
        kubernetes_resource="nvidia.com/gpu",
        node_labels=MappingProxyType({"nvidia.com/gpu.product": product}),
        taints=("nvidia.com/gpu",),
        ray_accelerator_type=ray_type,
        memory_gib=memory_gib,
        needs_own_image=False,
    )


CPU = AcceleratorProfile(
    name="cpu",
    kubernetes_resource=None,
    ray_accelerator_type=None,
    memory_gib=0,
    vllm_image="vllm/vllm-openai-cpu",
    needs_own_image=False,
    engine_defaults=MappingProxyType({"dtype": "bfloat16", "enforce_eager": True}),
    # Threads are left unbound: the binder reads the host's topology, not the pod's CPU limit.
    environment=MappingProxyType({"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}),
)

# Sources: label, AMD's node labeller (github.com/ROCm/k8s-device-plugin, cmd/k8s-node-labeller,
# -product-name); Ray's name, ray 2.60 util/accelerators; memory, AMD Instinct MI300X data sheet.
AMD_MI300X = AcceleratorProfile(
    name="amd-mi300x",
    kubernetes_resource="amd.com/gpu",
    node_labels=MappingProxyType({"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM"}),
    taints=("amd.com/gpu",),
    ray_accelerator_type="AMD-Instinct-MI300X-OAM",
    memory_gib=192,
    vllm_image="vllm/vllm-openai-rocm",
)

# Sources: label, Intel device plugins' GPU node-feature rules (gpu.intel.com/product); Ray's name, ray
# 2.60 util/accelerators; memory, Intel Data Center GPU Max 1550 data sheet: two tiles of 64 GiB.
INTEL_MAX_1550 = AcceleratorProfile(
    name="intel-max-1550",
    kubernetes_resource="gpu.intel.com/i915",
    node_labels=MappingProxyType({"gpu.intel.com/product": "Max_1550"}),
    taints=("gpu.intel.com/i915",),
    ray_accelerator_type="Intel-GPU-Max-1550",
    memory_gib=128,
    vllm_image="vllm/vllm-openai-xpu",
    # The device plugin hands out cards. Level Zero would by itself show each of a card's two tiles as a
    # device (Level Zero specification, ZE_FLAT_DEVICE_HIERARCHY), so Ray and Kubernetes would disagree.
    environment=MappingProxyType({"ZE_FLAT_DEVICE_HIERARCHY": "COMPOSITE"}),
)

# Sources: resource, huge pages, Intel's Kubernetes quick start for Gaudi; label, its node-feature rule;
# block size and dtype, its vLLM guide; memory, Gaudi 3 white paper. Ray counts Gaudi as HPU, and
# ray.serve.llm makes only GPU bundles, which then wait for ever.
INTEL_GAUDI3 = AcceleratorProfile(
    name="intel-gaudi3",
    kubernetes_resource="habana.ai/gaudi",
    node_labels=MappingProxyType({"intel.feature.node.kubernetes.io/gaudi": "true"}),
    taints=("habana.ai/gaudi",),
    ray_accelerator_type="Intel-GAUDI",
    memory_gib=128,
    serve_llm=False,
    vllm_image="one built from the vllm-gaudi plugin's Dockerfile",
    huge_pages="95000Mi",
    engine_defaults=MappingProxyType({"dtype": "bfloat16", "block_size": 128}),
    environment=MappingProxyType({"OMPI_MCA_btl_vader_single_copy_mechanism": "none"}),
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
            _nvidia("nvidia-a100-40gb", "NVIDIA-A100-SXM4-40GB", "A100", 40),
            _nvidia("nvidia-h100", "NVIDIA-H100-80GB-HBM3", "H100", 80),
            _nvidia("nvidia-h200", "NVIDIA-H200", "H200", 141),
            _nvidia("nvidia-b200", "NVIDIA-B200", "B200", 180),
            AMD_MI300X,
            INTEL_MAX_1550,
            INTEL_GAUDI3,
        )
    }
)


def _neuron(name: str) -> AcceleratorProfile:
    # Sources: devices, their cores and memory, EC2's DescribeInstanceTypes; image, the SageMaker SDK's list.
    return AcceleratorProfile(
        name=name,
        kubernetes_resource=_NEURON,
        ray_accelerator_type=None,
        memory_gib=32,
        serve_llm=False,
        vllm_image="huggingface-vllm-inference-neuronx of AWS' registry",
        cores=2,
    )


ENDPOINT_ACCELERATORS: Mapping[str, AcceleratorProfile] = MappingProxyType(
    {**ACCELERATORS, **{name: _neuron(name) for name in ("aws-inferentia2", "aws-trainium")}}
)
"""What models on SageMaker endpoints may be for: what clusters have, and AWS' own devices."""
