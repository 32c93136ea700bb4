"""Refusal: an answer of the adapter that is no answer of the model, in OpenAI's shape."""

import json

from runtime.gateway.errors import error

BROKEN_OUTCOMES = frozenset({"model_failed", "stream_broken", "stream_failed", "time_limit"})
"""Codes with which an answer that had begun, with status 200, ends in the access log by a server's fault."""


class Refusal(Exception):  # noqa: N818 - most of them are nobody's error
    """A request that gets a reason instead of an answer.

    Attributes:
        status: HTTP status, where nothing was sent yet.
        code: The machine-readable reason.
        message: What is wrong and what to do, for the client.
        param: The request's field that is wrong.
        retry_after_s: Seconds after which it may go better; None where it will not.
        detail: What only the log says, such as AWS's own words.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: int | None = None,
        detail: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.detail = detail

    @property
    def body(self) -> bytes:
        """The JSON body."""
        return json.dumps(self._shape()).encode()

    @property
    def event(self) -> bytes:
        """The same as an event of a stream that has begun; OpenAI's clients raise it as an error."""
        return b"data: " + self.body + b"\n\n"

    @property
    def headers(self) -> dict[str, str]:
        """Headers beside the content type."""
        return {} if self.retry_after_s is None else {"retry-after": str(self.retry_after_s)}

    def _shape(self) -> object:
        kind = "rate_limit_error" if self.status == 429 else "invalid_request_error"
        return error(
            self.message,
            kind="server_error" if self.status >= 500 else kind,
            code=self.code,
            param=self.param,
        )
