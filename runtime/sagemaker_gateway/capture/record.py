"""The masked line that is written of one request, in the shape of SageMaker's own data capture.

Source of the shape: Amazon SageMaker AI developer guide, "Capture data from real-time endpoint".
"""

import json
import re
from typing import Any

from runtime.sagemaker_gateway.capture.conversation import kept_answer, kept_request
from runtime.sagemaker_gateway.capture.masking import Masker
from runtime.sagemaker_gateway.capture.tape import About

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_JSON = "application/json"


def masked_line(about: About, request: bytes, answer: bytes, masker: Masker) -> bytes:
    """The line of a JSON Lines file, with its end.

    Args:
        about: The request.
        request: Its body as it came.
        answer: The answer as it was sent.
        masker: Masks it.

    Raises:
        UnreadableError: Request or answer is not what the API says.
        MaskingError: It cannot be masked for sure.
    """
    # A client may have made the id up; Envoy's own are UUIDs, whose digits are nobody's.
    identity = about.request_id if _UUID.fullmatch(about.request_id) else masker.text(about.request_id)
    line = {
        "captureData": {
            "endpointInput": _side("INPUT", kept_request(request), masker),
            "endpointOutput": _side("OUTPUT", kept_answer(answer, streamed=about.streamed), masker),
        },
        "eventMetadata": {
            "eventId": identity,
            "inferenceId": identity,
            "inferenceTime": about.time,
            "customAttributes": [
                f"endpoint={about.endpoint}",
                f"variant={about.variant}",
                f"model={about.model}",
                "masked=patterns",
            ],
        },
        "eventVersion": "0",
    }
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _side(mode: str, content: dict[str, Any], masker: Masker) -> dict[str, str]:
    # Seconds since 1970 have ten digits, and are the container's own.
    created = {"created": content.pop("created")} if type(content.get("created")) is int else {}
    masked = masker.document(content)
    if not isinstance(masked, dict):
        raise TypeError("an object stays one")
    data = json.dumps({**masked, **created}, ensure_ascii=False, separators=(",", ":"))
    return {"observedContentType": _JSON, "mode": mode, "data": data, "encoding": "JSON"}
