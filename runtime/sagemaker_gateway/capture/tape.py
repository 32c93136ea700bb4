"""Tape: the words of one request and its answer, held in memory until it is known whether they are kept."""

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class About:
    """What is known of a request beside its words.

    Attributes:
        request_id: Its id, as Envoy says; SageMaker's inference id too.
        time: When its answer had ended: UTC, ISO 8601.
        endpoint: The SageMaker endpoint.
        variant: The variant that answered.
        model: The served name.
        streamed: Whether the answer is events.
    """

    request_id: str
    time: str
    endpoint: str
    variant: str
    model: str
    streamed: bool


def is_sampled(request_id: str, percent: int) -> bool:
    """Whether a request is in the part that is kept: the same on every gateway and at every time.

    Args:
        request_id: Its id.
        percent: The part.
    """
    drawn = int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:8])
    return drawn * 100 < percent << 64


@dataclass
class Tape:
    """Takes down one answer. Without a place for it, it takes nothing down, and tells why.

    Attributes:
        request: The request's body.
        answer: What was sent so far.
        size: Bytes of both that are held.
        lost: Why it takes down nothing; empty as long as it does.
        reserve: Asks for so many bytes more: why there are none, or nothing.
    """

    reserve: Callable[["Tape", int], str]
    request: bytes = b""
    answer: list[bytes] = field(default_factory=list[bytes])
    size: int = 0
    lost: str = ""

    def begin(self, request: bytes) -> None:
        """Takes down the request."""
        if self._has_room(len(request)):
            self.request = request

    def add(self, part: bytes) -> None:
        """Takes down a part of the answer."""
        if self._has_room(len(part)):
            self.answer.append(part)

    async def copied(self, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The parts of an answer as they come, each of them taken down."""
        async for part in parts:
            self.add(part)
            yield part

    def _has_room(self, size: int) -> bool:
        if not self.lost:
            self.lost = self.reserve(self, size)
            if self.lost:
                self.request, self.answer = b"", []
            else:
                self.size += size
        return not self.lost
