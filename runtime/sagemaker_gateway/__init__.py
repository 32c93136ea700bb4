"""The OpenAI API in front of SageMaker endpoints: signs, bounds tokens, and turns AWS event streams into SSE.

Envoy stays in front of it and keeps API keys and limits; this process is one of Envoy's upstreams. It is the
one piece of Python in the path of a request (docs/sagemaker-gateway.md).
"""

from runtime.sagemaker_gateway.config import AdapterConfig, SageMakerModel, read_config

__all__ = ["AdapterConfig", "SageMakerModel", "read_config"]
