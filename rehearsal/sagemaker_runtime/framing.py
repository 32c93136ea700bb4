"""Writes AWS event stream messages; botocore only reads them.

Source: the event stream encoding of AWS's Smithy specification. The tests read it back with botocore.
"""

import json
import struct
from collections.abc import Mapping
from zlib import crc32

_STRING = 7


def payload_part(data: bytes) -> bytes:
    """One event with a part of the answer."""
    return _message(
        {
            ":event-type": "PayloadPart",
            ":content-type": "application/octet-stream",
            ":message-type": "event",
        },
        data,
    )


def exception(kind: str, said: Mapping[str, str]) -> bytes:
    """One exception, which ends a stream.

    Args:
        kind: ModelStreamError or InternalStreamFailure.
        said: Its fields.
    """
    return _message(
        {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"},
        json.dumps(said).encode(),
    )


def _message(headers: Mapping[str, str], payload: bytes) -> bytes:
    written = b"".join(_header(name, value) for name, value in headers.items())
    # Prelude and its checksum are 12 bytes, the message's checksum 4.
    prelude = struct.pack("!II", 12 + len(written) + len(payload) + 4, len(written))
    checked = prelude + struct.pack("!I", crc32(prelude)) + written + payload
    return checked + struct.pack("!I", crc32(checked))


def _header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    return struct.pack("!B", len(key)) + key + struct.pack("!BH", _STRING, len(text)) + text
