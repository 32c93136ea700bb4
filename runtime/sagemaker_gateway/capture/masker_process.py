"""The masker in a process of its own: it takes seconds to start and milliseconds a record, all of it Python.

In a thread it would hold the interpreter, and with it every stream, for as long. The process gets no AWS
variables, has no output but its answers, and is killed when it takes too long.
"""

import asyncio
import contextlib
import json
import os
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Protocol

from runtime.sagemaker_gateway.capture.config import CaptureConfig
from runtime.sagemaker_gateway.capture.tape import About

LENGTH = struct.Struct(">I")
"""What stands before every frame: its length in bytes."""

LINE = b"+"
"""What an answer begins with that is a masked line, or that the process is ready."""

LOST = b"-"
"""What an answer begins with that says why there is no line."""

# spaCy, which presidio imports, took 2.5 s here; a full machine has more to do.
_START_S = 60.0
# So that one that cannot start costs little.
_RESTART_S = 5.0


class RecordLostError(Exception):
    """A record could not be masked, and is gone.

    Attributes:
        reason: Why, in a word for a metric.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Masking(Protocol):
    """Makes a masked line of a record."""

    async def start(self) -> None:
        """Gets ready, so that the first record need not wait.

        Raises:
            RecordLostError: It cannot.
        """
        ...

    async def mask(self, about: About, request: bytes, answer: bytes) -> bytes:
        """The line.

        Raises:
            RecordLostError: There is none.
        """
        ...

    async def stop(self) -> None:
        """Ends it; what it has at hand is lost."""
        ...


COMMAND = (sys.executable, "-m", "runtime.sagemaker_gateway.capture")
"""What is started."""


class MaskerProcess:
    """The process, which is started when it is first needed and again when it was lost.

    Attributes:
        command: What is started.
    """

    def __init__(
        self, config: CaptureConfig, clock: Callable[[], float], command: Sequence[str] = COMMAND
    ) -> None:
        """Makes one; nothing is started yet.

        Args:
            config: What to mask, and how long it may take.
            clock: Seconds that only grow.
            command: What is started.
        """
        self.command = command
        self._config = config
        self._clock = clock
        self._process: asyncio.subprocess.Process | None = None
        self._not_before = float("-inf")

    async def start(self) -> None:
        """Starts it, so that the first record need not wait.

        Raises:
            RecordLostError: It does not start.
        """
        if self._process is not None:
            return
        if self._clock() < self._not_before:
            raise RecordLostError("masker_failed")
        self._not_before = self._clock() + _RESTART_S
        self._process = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # A library's traceback could hold a piece of a prompt.
            stderr=asyncio.subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        )
        settings = {"entities": self._config.entities, "phoneRegions": self._config.phone_regions}
        await self._asked([json.dumps(settings).encode()], _START_S)

    async def mask(self, about: About, request: bytes, answer: bytes) -> bytes:
        """The masked line of a record."""
        await self.start()
        frames = [json.dumps(asdict(about)).encode(), request, answer]
        return await self._asked(frames, self._config.mask_timeout_s)

    async def stop(self) -> None:
        """Kills it."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _asked(self, frames: list[bytes], within_s: float) -> bytes:
        try:
            async with asyncio.timeout(within_s):
                said = await self._answer(frames)
        except TimeoutError:
            await self.stop()
            raise RecordLostError("masker_timeout") from None
        except (OSError, asyncio.IncompleteReadError):
            await self.stop()
            raise RecordLostError("masker_failed") from None
        if said.startswith(LINE):
            return said.removeprefix(LINE)
        raise RecordLostError(said.removeprefix(LOST).decode())

    async def _answer(self, frames: list[bytes]) -> bytes:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise BrokenPipeError
        for frame in frames:
            process.stdin.write(LENGTH.pack(len(frame)) + frame)
        await process.stdin.drain()
        (length,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
        return await process.stdout.readexactly(length)
