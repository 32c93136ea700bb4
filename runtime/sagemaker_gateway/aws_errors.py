"""What SageMaker's errors mean for a client: an honest status, and AWS's own words for the log alone."""

import json
from collections.abc import Mapping
from typing import Any, cast

from runtime.sagemaker_gateway.event_stream import StreamFailedError
from runtime.sagemaker_gateway.refusal import Refusal

_THROTTLED = {"ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded"}
_NOT_ALLOWED = {
    "AccessDeniedException",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
# What the API says for an inference component without a copy, as after a scale to zero.
_NO_COPY = "no capacity to process this request"
_FULL = "The model's servers are full. Try again after the seconds that Retry-After says."
_LONGEST_MESSAGE = 2_000


def refusal_of(
    status: int, headers: Mapping[str, str], raw: bytes, *, retry_after_s: int, cold_retry_after_s: int
) -> Refusal:
    """The refusal that says for the client what an error of the SageMaker runtime API means.

    Args:
        status: Its HTTP status.
        headers: Its headers, in which names are found whatever their case.
        raw: Its body.
        retry_after_s: Seconds to wait where the endpoint is full.
        cold_retry_after_s: Seconds to wait where it has no copy yet.

    Source: the errors of InvokeEndpoint in AWS's API model, sagemaker-runtime 2017-05-13.
    """
    said = _json_object(raw)
    kind = (headers.get("x-amzn-errortype") or str(said.get("__type", ""))).split(":")[0].split("#")[-1]
    message = str(said.get("Message") or said.get("message") or "")
    detail = f"{status} {kind}: {message}"
    if kind == "ModelError":
        return _of_container(said, retry_after_s)
    if kind in _THROTTLED or (status == 429 and kind != "ModelNotReadyException"):
        return Refusal(429, "rate_limit_exceeded", _FULL, retry_after_s=retry_after_s, detail=detail)
    if kind == "ModelNotReadyException" or _NO_COPY in message.lower():
        return Refusal(
            503,
            "model_not_ready",
            "The model has no running copy yet; one is being started. Try again after the seconds that "
            "Retry-After says.",
            retry_after_s=cold_retry_after_s,
            detail=detail,
        )
    if kind == "ServiceUnavailable" or status == 503:
        return Refusal(503, "service_unavailable", _FULL, retry_after_s=retry_after_s, detail=detail)
    if kind in _NOT_ALLOWED or status in {401, 403}:
        return Refusal(
            502, "gateway_not_allowed", "The gateway may not call the model's endpoint.", detail=detail
        )
    if status == 413:
        return Refusal(
            413, "request_too_large", "The request is larger than the endpoint takes.", detail=detail
        )
    if 400 <= status < 500:
        return Refusal(
            502, "endpoint_refused", "The model's endpoint refused the gateway's call.", detail=detail
        )
    return Refusal(502, "endpoint_failed", "The model's endpoint failed. Try again.", detail=detail)


def refusal_of_stream(failure: StreamFailedError) -> Refusal:
    """The refusal that says for the client why a stream ended early."""
    if failure.code == "ModelInvocationTimeExceeded":
        return time_limit_reached(str(failure))
    return Refusal(
        502, "stream_failed", "The model's server broke off its answer. Try again.", detail=str(failure)
    )


def refusal_of_event(event: bytes) -> Refusal | None:
    """The refusal that an event of a stream is, where a container says an error with status 200."""
    # Every event is looked at, and an error begins with the word.
    if b'"error"' not in event[:64]:
        return None
    event = b"".join(line.removeprefix(b"data:") for line in event.splitlines() if line[:5] == b"data:")
    said = _json_object(event).get("error")
    if not isinstance(said, dict):
        return None
    problem = cast("dict[str, Any]", said)
    code = problem.get("code")
    status = code if isinstance(code, int) and 400 <= code < 600 else 502
    return Refusal(
        status,
        str(problem.get("type") or "model_error"),
        str(problem.get("message") or "The model's server failed.")[:_LONGEST_MESSAGE],
    )


def time_limit_reached(detail: str = "") -> Refusal:
    """The refusal of an answer that took longer than SageMaker lets it."""
    return Refusal(
        504,
        "time_limit",
        "The answer did not end within SageMaker's time limit. Ask for fewer tokens, and stream.",
        detail=detail,
    )


def _of_container(said: Mapping[str, Any], retry_after_s: int) -> Refusal:
    original = said.get("OriginalStatusCode")
    status = original if isinstance(original, int) else 500
    # Not AWS's message: it repeats the container's, and that may repeat the prompt.
    detail = f"ModelError: the container answered {status}, see {said.get('LogStreamArn', 'its log')}"
    words, param = _words(str(said.get("OriginalMessage") or ""))
    if status in {429, 503}:
        return Refusal(status, "model_full", _FULL, retry_after_s=retry_after_s, detail=detail)
    # AWS gives 0 where the container did not answer at all.
    if status in {0, 408, 504}:
        return time_limit_reached(detail)
    if 400 <= status < 500:
        return Refusal(status, "model_refused", words, param=param, detail=detail)
    return Refusal(502, "model_failed", "The model's server failed. Try again.", detail=detail)


def _words(original: str) -> tuple[str, str | None]:
    """The container's own message, and the field that it is about, if it is an OpenAI error."""
    said = _json_object(original.encode("utf-8", "replace"))
    inner = said.get("error")
    problem = cast("dict[str, Any]", inner) if isinstance(inner, dict) else said
    message = problem.get("message") or problem.get("detail") or original or "The model refused the request."
    param = problem.get("param")
    return str(message)[:_LONGEST_MESSAGE], param if isinstance(param, str) else None


def _json_object(raw: bytes) -> dict[str, Any]:
    try:
        said: object = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", said) if isinstance(said, dict) else {}
