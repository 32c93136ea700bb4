"""The gateway's own answers, in the shape in which OpenAI's clients expect errors."""

from collections.abc import Mapping

from runtime.gateway.config import GatewayConfig
from runtime.gateway.document import Tree, extension

_JSON = "application/json"


def error(message: str, *, kind: str, code: str | None, param: str | None = None) -> dict[str, Tree]:
    """Returns an OpenAI error object.

    Args:
        message: What is wrong and what to do. May hold Envoy's `%COMMAND%` placeholders.
        kind: OpenAI's `type`: `invalid_request_error` is the caller's to mend, `server_error` is not.
        code: The machine-readable reason.
        param: The request field that is wrong.

    Source: https://platform.openai.com/docs/guides/error-codes
    """
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def json_reply(status: int, body: Mapping[str, Tree]) -> dict[str, Tree]:
    """Returns the part of a route that answers at the gateway with a JSON body."""
    return {
        "direct_response": {
            "status": status,
            "body_format": {"json_format": body, "content_type": _JSON},
        }
    }


def local_replies(config: GatewayConfig) -> dict[str, Tree]:
    """Returns the rewriting of what Envoy itself answers; an upstream's answers are not touched."""
    return {
        "mappers": [
            # Routes that answer at the gateway are local replies too, and already have their body.
            {
                "filter": {
                    "extension_filter": extension(
                        "envoy.access_loggers.extension_filters.cel",
                        "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
                        {"expression": "response.code_details == 'direct_response'"},
                    )
                }
            },
            _mapper(
                401,
                error(
                    "Missing or wrong API key. Send it as 'Authorization: Bearer KEY'.",
                    kind="invalid_request_error",
                    code="invalid_api_key",
                ),
                {"www-authenticate": "Bearer"},
            ),
            _mapper(
                413,
                error(
                    "The request body is larger than this gateway accepts.",
                    kind="invalid_request_error",
                    code="request_too_large",
                ),
            ),
            _mapper(
                408,
                error(
                    "The request did not arrive completely in time.",
                    kind="invalid_request_error",
                    code="request_timeout",
                ),
            ),
            _full(config),
            _mapper(
                502,
                error(
                    "The model's server sent a broken answer.",
                    kind="server_error",
                    code="bad_upstream_answer",
                ),
            ),
            _mapper(
                503,
                error(
                    "The model's servers or the gateway are full or cannot be reached. Try again later.",
                    kind="server_error",
                    code="service_unavailable",
                ),
                {"retry-after": "1"},
            ),
            _mapper(
                504,
                error(
                    "The model's server did not answer in time.", kind="server_error", code="upstream_timeout"
                ),
            ),
            _mapper(
                500,
                error("The gateway could not handle the request.", kind="server_error", code="gateway_error"),
                comparison="GE",
            ),
            _mapper(
                400,
                error(
                    "The gateway refused the request: %RESPONSE_CODE_DETAILS%.",
                    kind="invalid_request_error",
                    code="bad_request",
                ),
                comparison="GE",
            ),
        ]
    }


def _full(config: GatewayConfig) -> dict[str, Tree]:
    wait = config.overflow.retry_after_s if config.spills else 1
    message = (
        "Every server that may take this request is full. Try again after the seconds that Retry-After says."
        if config.spills
        else "Too many requests. Try again later."
    )
    return _mapper(
        429,
        error(message, kind="rate_limit_error", code="rate_limit_exceeded"),
        {"retry-after": str(wait)},
    )


def _mapper(
    status: int, body: Mapping[str, Tree], headers: Mapping[str, str] | None = None, *, comparison: str = "EQ"
) -> dict[str, Tree]:
    mapper: dict[str, Tree] = {
        "filter": {
            "status_code_filter": {
                "comparison": {
                    "op": comparison,
                    "value": {"default_value": status, "runtime_key": f"gateway.local_reply.{status}"},
                }
            }
        }
    }
    if headers:
        mapper["headers_to_add"] = [
            {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for key, value in headers.items()
        ]
    mapper["body_format_override"] = {"json_format": body, "content_type": _JSON}
    return mapper
