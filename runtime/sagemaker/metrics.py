"""What SageMaker and the containers report to CloudWatch, by their names there.

Sources: SageMaker developer guide, "monitoring-cloudwatch" and "async-inference-monitor". The two metrics of
streams are named after the guide's list; nobody here has seen them in an account.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from runtime.sagemaker.endpoints import EndpointSpec

INVOCATIONS: Final = "AWS/SageMaker"
MACHINES: Final = "/aws/sagemaker/Endpoints"
# Both latencies are told in microseconds.
MICROSECONDS: Final = 1_000_000
# A live variant of shared instances has this name; traffic goes to components, not to it.
SHARED_VARIANT: Final = "shared"

# The line that vLLM's logger writes while requests run (vllm 0.29, v1/metrics/loggers.py), with the prefix
# of its API server's process. Text in brackets counts as one word there.
TOKENS_PATTERN: Final = (
    "[process, pid, level, day, time, place, engine=Engine, number, w1=Avg, w2=prompt, w3=throughput*, "
    "prompt, u1, w4=Avg, w5=generation, w6=throughput*, generation, u2, ...]"
)
OUT_OF_MEMORY_PATTERN: Final = '?"CUDA out of memory" ?OutOfMemoryError'


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric in CloudWatch.

    Attributes:
        namespace: Whose it is.
        name: Its name.
        dimensions: What it is of.
    """

    namespace: str
    name: str
    dimensions: Mapping[str, str]


def log_group(endpoint_name: str) -> str:
    """Where SageMaker writes what an endpoint's containers print."""
    return f"/aws/sagemaker/Endpoints/{endpoint_name}"


def component_log_group(component: str) -> str:
    """Where SageMaker writes what the containers of an inference component print."""
    return f"/aws/sagemaker/InferenceComponents/{component}"


def log_namespace(platform: str) -> str:
    """Namespace of the metrics that are read out of logs."""
    return f"Spillway/{platform}"


def component_name(endpoint_name: str, name: str) -> str:
    """What SageMaker calls a component of an endpoint: it is known in the whole account."""
    return f"{endpoint_name}-{name}"


def fleets(endpoint: EndpointSpec, endpoint_name: str) -> dict[str, Mapping[str, str]]:
    """Dimensions of an endpoint's fleets of machines, by variant."""
    names = [one.name for one in endpoint.variants] or [SHARED_VARIANT]
    return {name: {"EndpointName": endpoint_name, "VariantName": name} for name in names}


def answering(endpoint: EndpointSpec, endpoint_name: str) -> dict[str, Mapping[str, str]]:
    """Dimensions of what answers clients, by its name: live variants, or components of shared machines."""
    if endpoint.shared is not None:
        names = [one.name for one in endpoint.shared.components]
        return {name: {"InferenceComponentName": component_name(endpoint_name, name)} for name in names}
    every = fleets(endpoint, endpoint_name)
    return {one.name: every[one.name] for one in endpoint.live}
