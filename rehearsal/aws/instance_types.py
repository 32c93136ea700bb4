"""What an EC2 instance type is, from moto's copy of DescribeInstanceTypes, and which quota it counts to."""

# moto gives no types.
# pyright: basic

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from moto.ec2.models.instance_types import INSTANCE_TYPES

EFA = "vpc.amazonaws.com/efa"


@dataclass(frozen=True)
class Quota:
    """One quota of EC2, in vCPUs of running instances.

    Attributes:
        name: As the Service Quotas console shows it.
        default: What the double starts with. A new account has 0 for GPUs.
        families: The first letters of the instance types that count to it.
        spot: Whether it is for spot instances.
    """

    name: str
    default: float
    families: tuple[str, ...]
    spot: bool


# Codes and names: reference pages of Service Quotas for EC2; values are ours, enough for two 8-GPU nodes.
QUOTAS: Mapping[str, Quota] = {
    "L-1216C47A": Quota(
        "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", 256, tuple("acdhimrtz"), False
    ),
    "L-DB2E81BA": Quota("Running On-Demand G and VT instances", 768, ("g", "vt"), False),
    "L-417A185B": Quota("Running On-Demand P instances", 768, ("p",), False),
    "L-34B43A08": Quota(
        "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests", 256, tuple("acdhimrtz"), True
    ),
    "L-3819A6DF": Quota("All G and VT Spot Instance Requests", 768, ("g", "vt"), True),
    "L-7212CCBC": Quota("All P4, P3 and P2 Spot Instance Requests", 768, ("p",), True),
}


def vcpus(instance_type: str) -> int:
    """The processors of an instance type.

    Raises:
        KeyError: There is none of that name.
    """
    return int(_data(instance_type)["VCpuInfo"]["DefaultVCpus"])


def node_resources(instance_type: str) -> dict[str, str]:
    """What a node of this type offers as Kubernetes writes it, for nodes whose device plugins run.

    Nothing is taken off for the kubelet and the system.

    Raises:
        KeyError: There is no such instance type.
    """
    data = _data(instance_type)
    resources = {
        "cpu": str(data["VCpuInfo"]["DefaultVCpus"]),
        "memory": f"{data['MemoryInfo']['SizeInMiB']}Mi",
        "pods": "110",
        "ephemeral-storage": "100Gi",
    }
    gpus = [gpu for gpu in data.get("GpuInfo", {}).get("Gpus", []) if gpu["Manufacturer"] == "NVIDIA"]
    if gpus:
        resources["nvidia.com/gpu"] = str(sum(gpu["Count"] for gpu in gpus))
    devices = data.get("NeuronInfo", {}).get("NeuronDevices", [])
    if devices:
        resources["aws.amazon.com/neuron"] = str(sum(device["Count"] for device in devices))
    efa = data.get("NetworkInfo", {}).get("EfaInfo", {}).get("MaximumEfaInterfaces")
    if efa:
        resources[EFA] = str(efa)
    return resources


def architecture(instance_type: str) -> str:
    """As Kubernetes names it: amd64 or arm64."""
    return "arm64" if "arm64" in _data(instance_type)["ProcessorInfo"]["SupportedArchitectures"] else "amd64"


def exists(instance_type: str) -> bool:
    """Whether EC2 has this type."""
    return instance_type in INSTANCE_TYPES


def quota_code(instance_type: str, *, spot: bool) -> str | None:
    """The quota that an instance counts to, or None where none is kept here."""
    # The letters before the generation: `g` of `g6e`, `vt` of `vt1`.
    family = re.match(r"[a-z]*", instance_type)[0]  # pyright: ignore[reportOptionalSubscript]
    return next(
        (code for code, quota in QUOTAS.items() if family in quota.families and quota.spot == spot), None
    )


def _data(instance_type: str) -> dict[str, Any]:
    return cast("dict[str, dict[str, Any]]", INSTANCE_TYPES)[instance_type]
