"""The masker's process: reads records from its standard input, and answers each with its masked line.

Nothing of a record gets into a message: what goes wrong is answered by one word.
"""

import json
import os
import signal
import sys
from typing import BinaryIO

from runtime.sagemaker_gateway.capture.conversation import UnreadableError
from runtime.sagemaker_gateway.capture.masker_process import LENGTH, LINE, LOST
from runtime.sagemaker_gateway.capture.masking import Masker
from runtime.sagemaker_gateway.capture.record import masked_line
from runtime.sagemaker_gateway.capture.tape import About

# Behind Envoy and the adapter, which share the task's processors with it.
_NICE = 10


def main() -> int:
    """Serves until its standard input ends, which is when the gateway is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_NICE)
    source, target = sys.stdin.buffer, sys.stdout.buffer
    settings = json.loads(_read(source) or b"{}")
    masker = Masker(settings["entities"], settings["phoneRegions"])
    _write(target, LINE)
    while (about := _read(source)) is not None:
        request, answer = _read(source) or b"", _read(source) or b""
        _write(target, _answered(About(**json.loads(about)), request, answer, masker))
    return 0


def _answered(about: About, request: bytes, answer: bytes, masker: Masker) -> bytes:
    try:
        return LINE + masked_line(about, request, answer, masker)
    except UnreadableError:
        return LOST + b"unreadable"
    except Exception:
        # Whatever it is: what was not masked for sure is not kept.
        return LOST + b"masker_failed"


def _read(source: BinaryIO) -> bytes | None:
    head = source.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    return source.read(length)


def _write(target: BinaryIO, frame: bytes) -> None:
    target.write(LENGTH.pack(len(frame)) + frame)
    target.flush()


if __name__ == "__main__":
    raise SystemExit(main())
