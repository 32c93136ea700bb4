"""SageMaker's instance types: EC2's with `ml.` before them, with what hosting adds to the facts."""

import difflib
from typing import Annotated, Final, Literal

from pydantic import AfterValidator

from runtime.accelerators import ENDPOINT_ACCELERATORS
from runtime.instances import INSTANCES, InstanceType, instance_types, regions_of

PREFIX: Final = "ml."
_INF2: Final = regions_of(
    "us-east-1 us-east-2 us-west-2 ap-northeast-1 ap-south-1 ap-southeast-1 ap-southeast-2 eu-central-1",
    "eu-north-1 eu-west-1 eu-west-2 eu-west-3 sa-east-1",
)
_TRN1: Final = regions_of("us-east-1 us-east-2 us-west-2")
_MORE_TRN1: Final = regions_of("ap-south-1 ap-southeast-2 ap-southeast-4")
# Types with AWS' own devices, which node groups here do not have.
_NEURON: Final = instance_types(
    ("inf2.xlarge", "aws-inferentia2", 1, 4, 16, 0, 0, _INF2 | {"ap-northeast-2"}),
    ("inf2.8xlarge", "aws-inferentia2", 1, 32, 128, 0, 0, _INF2),
    ("inf2.24xlarge", "aws-inferentia2", 6, 96, 384, 0, 0, _INF2),
    ("inf2.48xlarge", "aws-inferentia2", 12, 192, 768, 0, 0, _INF2),
    ("trn1.2xlarge", "aws-trainium", 1, 8, 32, 474, 0, _TRN1),
    ("trn1.32xlarge", "aws-trainium", 16, 128, 512, 7600, 8, _TRN1 | _MORE_TRN1),
)
_ENDPOINT_INSTANCES: Final = {f"{PREFIX}{name}": row for name, row in {**INSTANCES, **_NEURON}.items()}
ENDPOINT_TYPES: Final = tuple(_ENDPOINT_INSTANCES)

# The operating system under the container, by its driver (CreateEndpointConfig, InferenceAmiVersion): 4-1
# has driver 580 and runs CUDA 13 and older, 3-1 has 550 (CUDA 12.4), 2-1 has 535 (CUDA 12.2). The default
# of SageMaker is older than all of them.
InferenceAmi = Literal[
    "al2023-ami-sagemaker-inference-gpu-4-1",
    "al2-ami-sagemaker-inference-gpu-3-1",
    "al2-ami-sagemaker-inference-gpu-2-1",
    "al2-ami-sagemaker-inference-gpu-2",
    "al2-ami-sagemaker-inference-neuron-2",
]
CUDA_13_AMI: Final[InferenceAmi] = "al2023-ami-sagemaker-inference-gpu-4-1"
NEURON_AMI: Final[InferenceAmi] = "al2-ami-sagemaker-inference-neuron-2"


def known_endpoint_type(name: str) -> str:
    """The name itself.

    Raises:
        ValueError: It is no type that endpoints can have, as far as Spillway knows.
    """
    if name in ENDPOINT_TYPES:
        return name
    if f"{PREFIX}{name}" in ENDPOINT_TYPES:
        raise ValueError(f"is EC2's name of it; write {PREFIX}{name}")
    near = difflib.get_close_matches(name, ENDPOINT_TYPES, n=1)
    families = ", ".join(dict.fromkeys(name.rpartition(".")[0] for name in ENDPOINT_TYPES))
    fix = f"did you mean {near[0]}?" if near else "take one of docs/configuration.md's table, with ml. before"
    raise ValueError(f"is no instance type that Spillway knows; known families: {families}; {fix}")


EndpointType = Annotated[str, AfterValidator(known_endpoint_type)]


def facts_of(endpoint_type: str) -> InstanceType:
    """Devices, memory and disks of an instance type of SageMaker."""
    return _ENDPOINT_INSTANCES[endpoint_type]


def has_neuron(endpoint_type: str) -> bool:
    """Whether its devices are AWS' own."""
    return ENDPOINT_ACCELERATORS[facts_of(endpoint_type).accelerator].is_neuron


def ami_of(endpoint_type: str) -> InferenceAmi | None:
    """The newest operating system with a driver for its devices; None where it has none.

    All that InferenceAmiVersion can name are for devices.
    """
    if has_neuron(endpoint_type):
        return NEURON_AMI
    return CUDA_13_AMI if facts_of(endpoint_type).gpus else None


def has_local_disks(endpoint_type: str) -> bool:
    """Whether its volume is local NVMe, encrypted by the machine's own hardware.

    With such a type CreateEndpointConfig refuses a KMS key and a volume size.
    """
    return facts_of(endpoint_type).nvme_gb > 0
