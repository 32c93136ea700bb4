"""A double of the SageMaker runtime API: InvokeEndpoint and InvokeEndpointWithResponseStream, no more.

It frames, checks and limits as the real one does, and has the answers from a real OpenAI-style engine. moto
has neither of the two calls. What it does not know it refuses; docs/sagemaker-gateway.md says what it proves.
"""

from rehearsal.sagemaker_runtime.double import Double, Draw, Endpoint, Fault, Variant, serving
from rehearsal.sagemaker_runtime.followed import following

__all__ = ["Double", "Draw", "Endpoint", "Fault", "Variant", "following", "serving"]
