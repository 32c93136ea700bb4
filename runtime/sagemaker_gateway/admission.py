"""Admission: how many requests, and how many bytes of them, the adapter holds at a time."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

from runtime.sagemaker_gateway.refusal import Refusal


class Admission:
    """Counts requests and the bytes of their bodies, and refuses what would be too many."""

    def __init__(self, *, max_requests: int, max_held_bytes: int, retry_after_s: int) -> None:
        self._max_requests = max_requests
        self._max_held_bytes = max_held_bytes
        self._retry_after_s = retry_after_s
        self._held_bytes = 0
        self._requests = 0
        self._most = 0
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def requests(self) -> int:
        """Requests that are held now."""
        return self._requests

    def busiest(self) -> float:
        """The most places that were taken since the last time this was asked, in percent of all."""
        most, self._most = self._most, self._requests
        return 100 * most / self._max_requests

    def close(self) -> None:
        """Takes no request from now on."""
        self._closed = True

    async def idle(self, within_s: float) -> bool:
        """Waits until there is no request.

        Args:
            within_s: Seconds to wait at most.

        Returns:
            Whether there is none.
        """
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    @contextmanager
    def place(self, size: int) -> Generator[None]:
        """A place for one request, until the context is left.

        Args:
            size: Bytes of its body, or the most that it may have where that is not known.

        Raises:
            Refusal: There is none.
        """
        if self._closed:
            raise Refusal(
                503,
                "gateway_stopping",
                "This gateway is being stopped. Try again.",
                retry_after_s=self._retry_after_s,
            )
        if self._requests >= self._max_requests or self._held_bytes + size > self._max_held_bytes:
            raise Refusal(
                429,
                "rate_limit_exceeded",
                "This gateway is full. Try again after the seconds that Retry-After says.",
                retry_after_s=self._retry_after_s,
            )
        self._requests += 1
        self._most = max(self._most, self._requests)
        self._held_bytes += size
        self._idle.clear()
        try:
            yield
        finally:
            self._requests -= 1
            self._held_bytes -= size
            if not self._requests:
                self._idle.set()
