"""Where a model answers: the one place that knows which Service and port belong to which serving kind."""

from dataclasses import dataclass

from runtime.model import ModelSpec
from runtime.serving.plain_vllm import PLAIN_PORT, plain_service_name
from runtime.serving.ray_service import SERVE_PORT, serve_service_name


@dataclass(frozen=True)
class ModelEndpoint:
    """The OpenAI-style API of one model inside the cluster.

    Attributes:
        service: Kubernetes Service in the platform's namespace.
        port: TCP port, the same on the Service and its pods.
    """

    service: str
    port: int


def endpoint_of(model: ModelSpec) -> ModelEndpoint:
    """The Service and port that serve a model."""
    if model.is_plain:
        return ModelEndpoint(plain_service_name(model), PLAIN_PORT)
    return ModelEndpoint(serve_service_name(model), SERVE_PORT)
