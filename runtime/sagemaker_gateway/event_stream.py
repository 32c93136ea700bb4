"""Payload parts from an AWS event stream (application/vnd.amazon.eventstream), decoded by botocore."""

import json
import struct
from collections.abc import AsyncIterator
from typing import Any

from botocore.eventstream import EventStreamBuffer, ParserError  # pyright: ignore[reportMissingTypeStubs]

# botocore lets these through where a header has a type, or bytes, that there are none of.
_BROKEN = (ParserError, KeyError, ValueError, struct.error)


class BrokenStreamError(Exception):
    """The bytes are no event stream, or end in the middle of a message."""


class StreamFailedError(Exception):
    """SageMaker ended the stream with an exception.

    Attributes:
        kind: Its type: ModelStreamError or InternalStreamFailure.
        code: The code of a ModelStreamError, or empty.
        message: AWS's words.
    """

    def __init__(self, kind: str, code: str, message: str) -> None:
        super().__init__(f"{kind} {code}: {message}")
        self.kind = kind
        self.code = code
        self.message = message


async def payload_parts(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The bytes of each PayloadPart, as soon as its message is whole and its checksums agree.

    Args:
        chunks: The stream's bytes, cut anywhere.

    Raises:
        BrokenStreamError: They are no event stream, or end early.
        StreamFailedError: The stream says that it failed.
    """
    buffer: Any = EventStreamBuffer()
    pending = 0
    try:
        async for chunk in chunks:
            buffer.add_data(chunk)
            pending += len(chunk)
            for message in buffer:
                pending -= message.prelude.total_length
                part = _payload(message.headers, message.payload)
                if part:
                    yield part
    except _BROKEN as error:
        raise BrokenStreamError(f"{type(error).__name__}: {error}") from None
    if pending:
        raise BrokenStreamError(f"ended {pending} bytes into a message")


def _payload(headers: dict[str, Any], payload: bytes) -> bytes:
    kind = headers.get(":message-type")
    if kind == "event":
        # An event of another type is one that AWS added since; it carries no part of the answer.
        return payload if headers.get(":event-type") == "PayloadPart" else b""
    if kind == "exception":
        raise StreamFailedError(str(headers.get(":exception-type", "")), *_said(payload))
    raise StreamFailedError(
        str(headers.get(":error-code", kind)), "", str(headers.get(":error-message", "no reason given"))
    )


def _said(payload: bytes) -> tuple[str, str]:
    try:
        said: Any = json.loads(payload)
        return str(said.get("ErrorCode", "")), str(said.get("Message") or said.get("message") or "")
    except (ValueError, AttributeError):
        return "", payload[:200].decode("utf-8", "replace")
