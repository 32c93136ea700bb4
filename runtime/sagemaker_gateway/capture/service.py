"""Capture: takes tapes, has them masked one after the other, and writes files; no request waits for it."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge

from runtime.sagemaker_gateway.capture.config import CaptureConfig
from runtime.sagemaker_gateway.capture.files import Files, Storage
from runtime.sagemaker_gateway.capture.masker_process import Masking, RecordLostError
from runtime.sagemaker_gateway.capture.tape import About, Tape, is_sampled

_PREFIX = "spillway_sagemaker_capture_"


@dataclass(frozen=True)
class _Waiting:
    about: About
    tape: Tape


class Capture:
    """Masked copies of one gateway's requests.

    What is too much, too long or cannot be masked is dropped and counted; no request waits or fails for it.
    """

    def __init__(
        self,
        config: CaptureConfig,
        masking: Masking,
        storage: Storage,
        registry: CollectorRegistry,
        *,
        log: Callable[[str], None],
        now: Callable[[], datetime],
    ) -> None:
        """Makes one; `running` starts it.

        Args:
            config: What is kept, and how much may wait.
            masking: Masks.
            storage: Where files go.
            registry: Takes the metrics.
            log: Takes what went wrong with S3: a code of AWS, and nothing of a record.
            now: The time in UTC.
        """
        self._config = config
        self._masking = masking
        self._files = Files(config, storage, now)
        self._log = log
        self._now = now
        self._endpoints = {one.endpoint: one for one in config.endpoints}
        self._held = 0
        self._unmasked = 0
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._long = asyncio.Event()
        self._writing = asyncio.Lock()
        self._tasks: Sequence[asyncio.Task[None]] = ()
        self._written = Counter(f"{_PREFIX}written", "Records that are in S3.", registry=registry)
        self._dropped = Counter(
            f"{_PREFIX}dropped", "Records of the sample that are not kept.", ("reason",), registry=registry
        )
        self._failed = Counter(f"{_PREFIX}write_failures", "Files that S3 did not take.", registry=registry)
        waiting = Gauge(
            f"{_PREFIX}waiting", "Records before the masker, and before S3.", ("for",), registry=registry
        )
        waiting.labels("masker").set_function(lambda: self._unmasked)
        waiting.labels("s3").set_function(lambda: self._files.lines)
        held = Gauge(f"{_PREFIX}held_bytes", "Bytes of unmasked records in memory.", registry=registry)
        held.set_function(lambda: self._held)

    def tape(self, endpoint: str, request_id: str, request: bytes) -> Tape:
        """A tape for a request that goes to an endpoint; it takes down nothing if it is not to be kept.

        Args:
            endpoint: The SageMaker endpoint.
            request_id: The request's id.
            request: Its body.
        """
        captured = self._endpoints.get(endpoint)
        tape = Tape(self._reserve)
        if captured is None or not is_sampled(request_id, captured.percent):
            tape.lost = "not_sampled"
        tape.begin(request)
        return tape

    def take(self, tape: Tape, about: About, *, whole: bool) -> None:
        """Takes a tape whose request has ended.

        Args:
            tape: The tape.
            about: The request.
            whole: Whether the client got all of the answer.
        """
        lost = tape.lost or ("" if whole else "unfinished")
        if not lost:
            self._unmasked += 1
            self._queue.put_nowait(_Waiting(about, tape))
            return
        self._release(tape)
        if lost != "not_sampled":
            self._drop(lost)

    def start(self) -> None:
        """Starts masking and writing."""
        self._tasks = (asyncio.create_task(self._mask()), asyncio.create_task(self._write()))

    async def end(self) -> None:
        """Masks and writes what waits, for as long as `end_s` says, and counts what is lost then."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.end_s):
                await self._queue.join()
                # After a write that has begun, which cannot be taken back: cut off, its lines would go twice.
                await self._flush()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._masking.stop()
        if lost := self._unmasked + self._files.lines:
            self._drop("stopped", lost)
            self._log(f"capture: the gateway stops, and {lost} records are lost")

    async def _mask(self) -> None:
        with contextlib.suppress(RecordLostError):
            await self._masking.start()
        while True:
            waiting = await self._queue.get()
            about, tape = waiting.about, waiting.tape
            try:
                line = await self._masking.mask(about, tape.request, b"".join(tape.answer))
            except RecordLostError as lost:
                self._drop(lost.reason)
            except Exception as error:
                # Ours; a task that ended of it would mask nothing any more.
                self._drop("masker_failed")
                self._log(f"capture: a record is lost: {type(error).__name__}")
            else:
                self._keep(about, line)
            self._release(tape)
            self._unmasked -= 1
            self._queue.task_done()

    def _keep(self, about: About, line: bytes) -> None:
        folder = f"{self._endpoints[about.endpoint].prefix}{about.endpoint}/{about.variant or 'unknown'}/"
        if not self._files.add(folder, line):
            self._drop("storage_full")
        if self._files.is_long:
            self._long.set()

    async def _write(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._config.flush_s):
                    await self._long.wait()
            self._long.clear()
            await self._flush()

    async def _flush(self) -> None:
        async with self._writing:
            written, refused = await self._files.flush()
        self._written.inc(written)
        for error in refused:
            self._failed.inc()
            self._log(f"capture: S3 did not take a file, which is tried again: {error}")

    def _reserve(self, tape: Tape, size: int) -> str:
        if tape.size + size > self._config.max_record_bytes:
            self._release(tape)
            return "too_long"
        if self._held + size > self._config.max_held_bytes:
            self._release(tape)
            return "queue_full"
        self._held += size
        return ""

    def _release(self, tape: Tape) -> None:
        self._held -= tape.size
        tape.size = 0
        tape.request, tape.answer = b"", []

    def _drop(self, reason: str, records: int = 1) -> None:
        self._dropped.labels(reason).inc(records)
