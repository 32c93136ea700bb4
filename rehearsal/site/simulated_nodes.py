"""Simulated GPU nodes: real Node objects whose kubelet is kwok.

A node carries the labels that the vendor's own discovery writes on such hardware, so that selectors,
capacity and quota meet the same values as on a real cluster. Nothing runs on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rehearsal.site.api import Json
from rehearsal.site.layout import SiteLayout

SELECTOR_LABEL = "type"
SELECTOR_VALUE = "kwok"
SIMULATED_ANNOTATION = "spillway.dev/simulated"


@dataclass(frozen=True)
class SimulatedHardware:
    """One kind of accelerator node.

    Attributes:
        short_name: Part of the nodes' names.
        nodes: How many there are.
        resource: The extended resource that the vendor's device plugin registers.
        count: Devices per node.
        cpu: Cores per node.
        memory: Memory per node.
        labels: What the vendor's feature discovery writes.
        taint: Key and value that keep other pods away.
        source: Where the labels come from.
    """

    short_name: str
    nodes: int
    resource: str
    count: int
    cpu: str
    memory: str
    taint: tuple[str, str]
    source: str
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


# A DGX H100: 8 GPUs, 2 x 56 cores with two threads each, 2 TiB.
NVIDIA_H100 = SimulatedHardware(
    short_name="gpu-h100",
    nodes=2,
    resource="nvidia.com/gpu",
    count=8,
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

HARDWARE = (NVIDIA_H100,)


def node_names(layout: SiteLayout) -> list[str]:
    """Lists the names of the simulated nodes."""
    return [
        f"{layout.name}-{hardware.short_name}-{number}"
        for hardware in HARDWARE
        for number in range(hardware.nodes)
    ]


def render_nodes(layout: SiteLayout) -> list[tuple[Json, Json]]:
    """Renders the nodes: each object as it is applied, and the status that goes with it."""
    return [
        (_node(layout, hardware, number), _status(hardware))
        for hardware in HARDWARE
        for number in range(hardware.nodes)
    ]


def _node(layout: SiteLayout, hardware: SimulatedHardware, number: int) -> Json:
    name = f"{layout.name}-{hardware.short_name}-{number}"
    key, value = hardware.taint
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
                **hardware.labels,
            },
            "annotations": {SIMULATED_ANNOTATION: "true: no hardware, no kubelet; pods here do not run"},
        },
        "spec": {"taints": [{"key": key, "value": value, "effect": "NoSchedule"}]},
    }


def _status(hardware: SimulatedHardware) -> Json:
    capacity = {
        "cpu": hardware.cpu,
        "memory": hardware.memory,
        "ephemeral-storage": "1Ti",
        "pods": "110",
        hardware.resource: str(hardware.count),
    }
    return {"status": {"capacity": capacity, "allocatable": capacity}}
