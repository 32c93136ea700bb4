"""Simulated nodes: real Node objects whose kubelet is kwok, one kind for each vendor and one without devices.

A node carries the labels that the vendor's own discovery writes on such hardware, so that selectors,
capacity and quota meet the same values as on a real cluster. Nothing runs on it; what answers at its pods'
addresses is `rehearsal.site.simulated_engines`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rehearsal.site.api import Json
from rehearsal.site.layout import SiteLayout

SELECTOR_LABEL = "type"
SELECTOR_VALUE = "kwok"
SIMULATED_ANNOTATION = "spillway.dev/simulated"
# What kwok's own documentation puts on its nodes, so that nothing lands there by chance.
SIMULATED_TAINT = ("kwok.x-k8s.io/node", "fake")

# kwok makes a pod ready once. The node controller says of the pods of a node that was silent, because the
# machine slept or the API server did, that they are not ready, and leaves it to a kubelet to say otherwise.
READY_AGAIN = """\
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata:
  name: pod-ready-again
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchExpressions:
    - {key: .metadata.deletionTimestamp, operator: DoesNotExist}
    - {key: .status.phase, operator: In, values: [Running]}
    - key: '.status.conditions.[] | select( .type == "Ready" ) | .status'
      operator: In
      values: ["False"]
  delay:
    durationMilliseconds: 1000
  next:
    statusTemplate: |
      conditions:
      - lastTransitionTime: {{ Now | Quote }}
        status: "True"
        type: Ready
"""


@dataclass(frozen=True)
class SimulatedHardware:
    """One kind of accelerator node.

    Attributes:
        short_name: Part of the nodes' names.
        nodes: How many there are.
        resources: Extended resources, and what else of them a pod must ask for, with their quantities.
        cpu: Cores per node.
        memory: Memory per node.
        labels: What the vendor's feature discovery writes.
        taint: Key and value that keep other pods away.
        source: Where the labels come from.
    """

    short_name: str
    nodes: int
    resources: Mapping[str, str]
    cpu: str
    memory: str
    taint: tuple[str, str]
    source: str
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


# A DGX H100: 8 GPUs, 2 x 56 cores with two threads each, 2 TiB.
NVIDIA_H100 = SimulatedHardware(
    short_name="gpu-h100",
    nodes=2,
    resources={"nvidia.com/gpu": "8"},
    cpu="224",
    memory="2048Gi",
    taint=("nvidia.com/gpu", "present"),
    source="k8s-device-plugin docs/gpu-feature-discovery/README.md and gpu-operator, driver 570.124.06",
    labels={
        "feature.node.kubernetes.io/cpu-cpuid.AVX512F": "true",
        "feature.node.kubernetes.io/cpu-hardware_multithreading": "true",
        "feature.node.kubernetes.io/pci-10de.present": "true",
        "feature.node.kubernetes.io/system-os_release.ID": "ubuntu",
        "feature.node.kubernetes.io/system-os_release.VERSION_ID": "22.04",
        "nvidia.com/cuda.driver-version.full": "570.124.06",
        "nvidia.com/cuda.driver-version.major": "570",
        "nvidia.com/cuda.driver-version.minor": "124",
        "nvidia.com/cuda.driver-version.revision": "06",
        "nvidia.com/cuda.driver.major": "570",
        "nvidia.com/cuda.driver.minor": "124",
        "nvidia.com/cuda.driver.rev": "06",
        "nvidia.com/cuda.runtime-version.full": "12.8",
        "nvidia.com/cuda.runtime-version.major": "12",
        "nvidia.com/cuda.runtime-version.minor": "8",
        "nvidia.com/cuda.runtime.major": "12",
        "nvidia.com/cuda.runtime.minor": "8",
        "nvidia.com/gpu.compute.major": "9",
        "nvidia.com/gpu.compute.minor": "0",
        "nvidia.com/gpu.count": "8",
        "nvidia.com/gpu.family": "hopper",
        "nvidia.com/gpu.machine": "DGXH100",
        "nvidia.com/gpu.memory": "81559",
        "nvidia.com/gpu.mode": "compute",
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
        "nvidia.com/gpu.replicas": "1",
        "nvidia.com/gpu.sharing-strategy": "none",
        "nvidia.com/mig.capable": "true",
        "nvidia.com/mig.strategy": "single",
        "nvidia.com/mps.capable": "false",
        "nvidia.com/vgpu.present": "false",
    },
)

# A server with eight MI300X: 2 x 96 cores with two threads each.
AMD_MI300X = SimulatedHardware(
    short_name="gpu-mi300x",
    nodes=1,
    resources={"amd.com/gpu": "8"},
    cpu="384",
    memory="2304Gi",
    taint=("amd.com/gpu", "present"),
    source="ROCm/k8s-device-plugin, cmd/k8s-node-labeller; PCI id 74a1 is MI300X",
    labels={
        "amd.com/gpu.cu-count": "304",
        "amd.com/gpu.device-id": "74a1",
        "amd.com/gpu.driver-version": "6.10.5",
        "amd.com/gpu.family": "AI",
        "amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM",
        "amd.com/gpu.simd-count": "1216",
        "amd.com/gpu.vram": "192G",
        "beta.amd.com/gpu.device-id": "74a1",
        "beta.amd.com/gpu.family": "AI",
    },
)

# Four Max 1550 on a carrier board: 2 x 52 cores with two threads each.
INTEL_MAX_1550 = SimulatedHardware(
    short_name="gpu-max1550",
    nodes=1,
    resources={"gpu.intel.com/i915": "4"},
    cpu="208",
    memory="1024Gi",
    taint=("gpu.intel.com/i915", "present"),
    source="intel/intel-device-plugins-for-kubernetes, deployments/nfd/overlays/node-feature-rules",
    labels={
        "gpu.intel.com/device-id.0380-0bd5.count": "4",
        "gpu.intel.com/device-id.0380-0bd5.present": "true",
        "gpu.intel.com/family": "Max_Series",
        "gpu.intel.com/product": "Max_1550",
        "intel.feature.node.kubernetes.io/gpu": "true",
    },
)

# An HLS-3 server: eight Gaudi 3; huge pages are set aside at boot.
INTEL_GAUDI3 = SimulatedHardware(
    short_name="hpu-gaudi3",
    nodes=1,
    resources={"habana.ai/gaudi": "8", "hugepages-2Mi": "300000Mi"},
    cpu="224",
    memory="2048Gi",
    taint=("habana.ai/gaudi", "present"),
    source="HabanaAI/habana-ai-operator and its node feature rules; PCI vendor 1da3",
    labels={
        "feature.node.kubernetes.io/pci-1da3.present": "true",
        "intel.feature.node.kubernetes.io/gaudi": "true",
    },
)

# Where Ray heads go, and models that are served on processors.
PROCESSORS = SimulatedHardware(
    short_name="cpu",
    nodes=2,
    resources={},
    cpu="128",
    memory="1024Gi",
    taint=SIMULATED_TAINT,
    source="kwok.sigs.k8s.io/docs/user/kwok-manage-nodes-and-pods",
)

HARDWARE = (NVIDIA_H100, AMD_MI300X, INTEL_MAX_1550, INTEL_GAUDI3, PROCESSORS)


def node_names(layout: SiteLayout) -> list[str]:
    """Lists the names of the simulated nodes that a site has from its start."""
    return [
        f"{layout.name}-{hardware.short_name}-{number}"
        for hardware in HARDWARE
        for number in range(hardware.nodes)
    ]


def render_nodes(layout: SiteLayout) -> list[tuple[Json, Json]]:
    """Renders those nodes: each object as it is applied, and the status that goes with it."""
    return [
        (
            simulated_node(
                f"{layout.name}-{hardware.short_name}-{number}",
                hardware.labels,
                [_no_schedule(hardware.taint)],
            ),
            simulated_status(hardware.cpu, hardware.memory, hardware.resources),
        )
        for hardware in HARDWARE
        for number in range(hardware.nodes)
    ]


def simulated_node(name: str, labels: Mapping[str, str], taints: Sequence[Json]) -> Json:
    """Renders one simulated node.

    Args:
        name: Its name.
        labels: What stands on such a node, beside what all nodes have.
        taints: Its taints. Without one, pods that shall run for real are put there and never run.
    """
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                SELECTOR_LABEL: SELECTOR_VALUE,
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                **labels,
            },
            "annotations": {SIMULATED_ANNOTATION: "true: no hardware, no kubelet; pods here do not run"},
        },
        "spec": {"taints": list(taints)},
    }


def _no_schedule(taint: tuple[str, str]) -> Json:
    key, value = taint
    return {"key": key, "value": value, "effect": "NoSchedule"}


def simulated_status(cpu: str, memory: str, resources: Mapping[str, str]) -> Json:
    """Renders the status of a simulated node: its cores, its memory, and its devices."""
    capacity = {"cpu": cpu, "memory": memory, "ephemeral-storage": "1Ti", "pods": "110", **resources}
    return {"status": {"capacity": capacity, "allocatable": capacity}}
