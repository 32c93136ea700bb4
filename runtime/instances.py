"""EC2 instance types that may be nodes of the EKS side: their accelerators, sizes, network and regions.

Facts: `DescribeInstanceTypes` and `DescribeInstanceTypeOfferings` as moto 5.2.5 recorded them;
`tests/unit/test_instances.py` compares every row. AWS adds regions, so one that is missing here is refused
with words that say how old the table is.
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

RECORDED: Final = "moto 5.2.5"

_MIB: Final = 1024**2
_GIB: Final = 1024**3

Capacity = Literal["onDemand", "spot", "capacityBlock"]


@dataclass(frozen=True, kw_only=True)
class InstanceType:
    """One EC2 instance type.

    Attributes:
        name: AWS's name, such as `g6e.12xlarge`.
        accelerator: Row of `runtime.accelerators` that its devices are, or `cpu`.
        gpus: Devices; 0 for `cpu`.
        vcpus: Virtual CPUs.
        memory_gib: Memory in GiB.
        nvme_gb: Local NVMe disks together in GB (10^9 bytes); 0 for none.
        efa_cards: Elastic Fabric Adapters at most; 0 where there are none.
        regions: Regions that offer it.
    """

    name: str
    accelerator: str
    gpus: int
    vcpus: int
    memory_gib: int
    nvme_gb: int
    efa_cards: int
    regions: frozenset[str]

    @property
    def family(self) -> str:
        """The part of the name before the size, such as `g6e`."""
        return self.name.partition(".")[0]

    @property
    def allocatable_milli_cpus(self) -> int:
        """CPUs that pods may ask for, in thousandths: what EKS' nodes keep from the kubelet is taken off.

        6 % of the first core, 1 % of the second, 0.5 % of the next two, 0.25 % of all others
        (awslabs/amazon-eks-ami, nodeadm, getCPUMillicoresToReserve).
        """
        shares = [0.06, 0.01, 0.005, 0.005]
        reserved = sum(shares[: self.vcpus]) + 0.0025 * max(0, self.vcpus - len(shares))
        return math.floor((self.vcpus - reserved) * 1000)

    @property
    def allocatable_bytes(self) -> int:
        """Memory that pods may ask for, in bytes: a bound from below.

        7.5 % never reaches the system (Karpenter's default `vmMemoryOverheadPercent`); of the rest EKS keeps
        255 MiB and 11 MiB for each of 110 or, on larger nodes, 250 pods, and the kubelet evicts at 100 MiB.
        """
        pods = 110 if self.vcpus <= 30 else 250
        return math.floor(self.memory_gib * _GIB * 0.925) - (255 + 11 * pods + 100) * _MIB

    def quota(self, capacity: Capacity) -> tuple[str, str] | None:
        """The account's limit on its vCPUs: code and name in Service Quotas; none for capacity blocks.

        Source of the codes: the console's "Amazon Elastic Compute Cloud (Amazon EC2)" quotas.
        """
        if capacity == "capacityBlock":
            return None
        kind = self.name[0] if self.gpus else "standard"
        if capacity == "spot" and kind == "p" and self.family[:2] in {"p5", "p6"}:
            return _QUOTAS["spot", "p5"]
        return _QUOTAS[capacity, kind]


_QUOTAS: Final[Mapping[tuple[str, str], tuple[str, str]]] = MappingProxyType(
    {
        ("onDemand", "standard"): (
            "L-1216C47A",
            "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
        ),
        ("onDemand", "g"): ("L-DB2E81BA", "Running On-Demand G and VT instances"),
        ("onDemand", "p"): ("L-417A185B", "Running On-Demand P instances"),
        ("spot", "standard"): (
            "L-34B43A08",
            "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests",
        ),
        ("spot", "g"): ("L-3819A6DF", "All G and VT Spot Instance Requests"),
        ("spot", "p"): ("L-7212CCBC", "All P4, P3 and P2 Spot Instance Requests"),
        ("spot", "p5"): ("L-C4BD4855", "All P5 Spot Instance Requests"),
    }
)


def regions_of(*places: str) -> frozenset[str]:
    """Regions out of texts with blanks between them."""
    return frozenset(region for place in places for region in place.split())


_US: Final = "us-east-1 us-east-2 us-west-2"
_M6I: Final = regions_of(
    _US,
    "us-west-1 af-south-1 ap-east-1 ap-northeast-1 ap-northeast-2 ap-northeast-3 ap-south-1 ap-south-2",
    "ap-southeast-1 ap-southeast-2 ap-southeast-3 ap-southeast-5 ca-central-1 ca-west-1 eu-central-1",
    "eu-central-2 eu-north-1 eu-south-1 eu-west-1 eu-west-2 eu-west-3 il-central-1 me-central-1",
    "me-south-1 sa-east-1",
)
_M7I: Final = (_M6I - {"ca-west-1", "me-south-1"}) | {"ap-southeast-4", "eu-south-2"}
_G5: Final = regions_of(
    _US,
    "ap-east-1 ap-northeast-1 ap-northeast-2 ap-south-1 ap-southeast-2 ap-southeast-3 ca-central-1",
    "eu-central-1 eu-north-1 eu-south-2 eu-west-1 eu-west-2 eu-west-3 il-central-1 me-central-1 sa-east-1",
)
_G6: Final = regions_of(
    _US,
    "ap-northeast-1 ap-northeast-2 ap-south-1 ap-south-2 ap-southeast-2 ap-southeast-5 ca-central-1",
    "eu-central-1 eu-central-2 eu-north-1 eu-south-2 eu-west-2 eu-west-3 me-central-1 sa-east-1",
)
_G6E: Final = regions_of(
    _US,
    "ap-northeast-1 ap-northeast-2 ap-northeast-3 ap-south-1 ap-south-2 eu-central-1 eu-north-1",
    "eu-south-2 me-central-1",
)
_P4D: Final = regions_of(
    _US,
    "ap-northeast-1 ap-northeast-2 ap-south-1 ap-southeast-2 ca-central-1 eu-central-1 eu-north-1",
    "eu-west-1 eu-west-2 sa-east-1",
)
_P4DE: Final = regions_of("us-east-1 us-west-2 ap-northeast-1 ap-southeast-1 eu-central-1 il-central-1")
_P5_ONE: Final = regions_of(
    _US, "ap-northeast-1 ap-south-1 ap-southeast-2 ap-southeast-3 eu-north-1 eu-west-2 sa-east-1"
)
_P5: Final = _P5_ONE | {"us-west-1", "ap-northeast-2", "ca-central-1"}
_P5EN: Final = regions_of(
    _US,
    "us-west-1 ap-northeast-1 ap-northeast-2 ap-south-1 ap-southeast-3 eu-north-1 eu-south-2 me-central-1",
)
_P6: Final = regions_of(_US, "ap-south-1 ap-south-2 eu-north-1 eu-west-3")

# Name, accelerator, devices, vCPUs, memory (GiB), NVMe (GB), EFA, regions.
_ROWS: Final = (
    ("m6i.large", "cpu", 0, 2, 8, 0, 0, _M6I),
    ("m6i.xlarge", "cpu", 0, 4, 16, 0, 0, _M6I),
    ("m6i.2xlarge", "cpu", 0, 8, 32, 0, 0, _M6I),
    ("m6i.4xlarge", "cpu", 0, 16, 64, 0, 0, _M6I),
    ("m6i.8xlarge", "cpu", 0, 32, 128, 0, 0, _M6I),
    ("m7i.large", "cpu", 0, 2, 8, 0, 0, _M7I),
    ("m7i.xlarge", "cpu", 0, 4, 16, 0, 0, _M7I),
    ("m7i.2xlarge", "cpu", 0, 8, 32, 0, 0, _M7I),
    ("m7i.4xlarge", "cpu", 0, 16, 64, 0, 0, _M7I),
    ("m7i.8xlarge", "cpu", 0, 32, 128, 0, 0, _M7I),
    ("g5.xlarge", "nvidia-a10g", 1, 4, 16, 250, 0, _G5),
    ("g5.2xlarge", "nvidia-a10g", 1, 8, 32, 450, 0, _G5),
    ("g5.4xlarge", "nvidia-a10g", 1, 16, 64, 600, 0, _G5),
    ("g5.8xlarge", "nvidia-a10g", 1, 32, 128, 900, 1, _G5),
    ("g5.12xlarge", "nvidia-a10g", 4, 48, 192, 3800, 1, _G5),
    ("g5.16xlarge", "nvidia-a10g", 1, 64, 256, 1900, 1, _G5),
    ("g5.24xlarge", "nvidia-a10g", 4, 96, 384, 3800, 1, _G5),
    ("g5.48xlarge", "nvidia-a10g", 8, 192, 768, 7600, 1, _G5),
    ("g6.xlarge", "nvidia-l4", 1, 4, 16, 250, 0, _G6),
    ("g6.2xlarge", "nvidia-l4", 1, 8, 32, 450, 0, _G6),
    ("g6.4xlarge", "nvidia-l4", 1, 16, 64, 600, 0, _G6),
    ("g6.8xlarge", "nvidia-l4", 1, 32, 128, 900, 1, _G6),
    ("g6.12xlarge", "nvidia-l4", 4, 48, 192, 3760, 1, _G6),
    ("g6.16xlarge", "nvidia-l4", 1, 64, 256, 1880, 1, _G6),
    ("g6.24xlarge", "nvidia-l4", 4, 96, 384, 3760, 1, _G6),
    ("g6.48xlarge", "nvidia-l4", 8, 192, 768, 7520, 1, _G6),
    ("g6e.xlarge", "nvidia-l40s", 1, 4, 32, 250, 0, _G6E),
    ("g6e.2xlarge", "nvidia-l40s", 1, 8, 64, 450, 0, _G6E),
    ("g6e.4xlarge", "nvidia-l40s", 1, 16, 128, 600, 0, _G6E),
    ("g6e.8xlarge", "nvidia-l40s", 1, 32, 256, 900, 1, _G6E),
    ("g6e.12xlarge", "nvidia-l40s", 4, 48, 384, 3800, 1, _G6E),
    ("g6e.16xlarge", "nvidia-l40s", 1, 64, 512, 1900, 1, _G6E),
    ("g6e.24xlarge", "nvidia-l40s", 4, 96, 768, 3800, 2, _G6E),
    ("g6e.48xlarge", "nvidia-l40s", 8, 192, 1536, 7600, 4, _G6E),
    ("p4d.24xlarge", "nvidia-a100-40gb", 8, 96, 1152, 8000, 4, _P4D),
    ("p4de.24xlarge", "nvidia-a100", 8, 96, 1152, 8000, 4, _P4DE),
    ("p5.4xlarge", "nvidia-h100", 1, 16, 256, 3800, 1, _P5_ONE),
    ("p5.48xlarge", "nvidia-h100", 8, 192, 2048, 30400, 32, _P5),
    ("p5en.48xlarge", "nvidia-h200", 8, 192, 2048, 30400, 16, _P5EN),
    ("p6-b200.48xlarge", "nvidia-b200", 8, 192, 2048, 30400, 8, _P6),
)


Row: TypeAlias = tuple[str, str, int, int, int, int, int, frozenset[str]]


def instance_types(*rows: Row) -> Mapping[str, InstanceType]:
    """Instance types by name, out of rows with the fields in their order."""
    fields = ("name", "accelerator", "gpus", "vcpus", "memory_gib", "nvme_gb", "efa_cards", "regions")
    return MappingProxyType(
        {row[0]: InstanceType(**dict[str, Any](zip(fields, row, strict=True))) for row in rows}
    )


INSTANCES: Final = instance_types(*_ROWS)

REGIONS: Final = tuple(sorted({region for row in INSTANCES.values() for region in row.regions}))


def known_instance(name: str) -> str:
    """The name itself.

    Raises:
        ValueError: No row has it; the text names the nearest ones.
    """
    if name not in INSTANCES:
        near = difflib.get_close_matches(name, INSTANCES, n=1)
        families = ", ".join(dict.fromkeys(row.family for row in INSTANCES.values()))
        fix = f"did you mean {near[0]}?" if near else "take one of docs/configuration.md's table"
        raise ValueError(f"is no instance type that Spillway knows; known families: {families}; {fix}")
    return name


def known_region(name: str) -> str:
    """The name itself.

    Raises:
        ValueError: It is no region with instance types of the table.
    """
    if name not in REGIONS:
        near = difflib.get_close_matches(name, REGIONS, n=1)
        fix = f"did you mean {near[0]}?" if near else "take one of them"
        raise ValueError(f"must be one of {', '.join(REGIONS)}; {fix}")
    return name
