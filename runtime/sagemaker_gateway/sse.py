"""Server-sent events from the payload parts of a stream, whose borders fall anywhere, also in a character."""

import re
from collections.abc import Iterator
from typing import Protocol

DONE = b"data: [DONE]\n\n"
"""The event with which OpenAI's streams end."""

# An event of a chat is some hundred bytes, with log probabilities some ten thousand.
_LONGEST_EVENT = 8 * 1024 * 1024
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")


class EventTooLongError(Exception):
    """What came is no stream of events: there is no end of an event in 8 MiB."""


class Splitter(Protocol):
    """Makes whole events of parts."""

    def feed(self, part: bytes) -> Iterator[bytes]:
        """The events that are whole with this part.

        Raises:
            EventTooLongError: None of them ends.
        """
        ...

    def end(self) -> Iterator[bytes]:
        """What is still to be sent once the stream has ended well."""
        ...

    @property
    def is_whole(self) -> bool:
        """Whether the stream may end here."""
        ...


class Events:
    """Splits what is server-sent events already, as vLLM's container sends them."""

    def __init__(self) -> None:
        self._rest = b""
        self._done = False

    def feed(self, part: bytes) -> Iterator[bytes]:
        """The events that are whole with this part."""
        *whole, self._rest = _BLANK_LINE.split(self._rest + part)
        _check_length(self._rest)
        for event in whole:
            if _says_done(event):
                self._done = True
                yield DONE
            elif event.strip():
                yield event.lstrip(b"\r\n") + b"\n\n"

    def end(self) -> Iterator[bytes]:
        """The container's word that it is done, where no blank line came behind it."""
        if _says_done(self._rest):
            yield DONE

    @property
    def is_whole(self) -> bool:
        """Whether the container has said that it is done."""
        return self._done or _says_done(self._rest)


class JsonLines:
    """Makes events of one JSON document a line, as DJL's container may send them."""

    def __init__(self) -> None:
        self._rest = b""
        self._any = False

    def feed(self, part: bytes) -> Iterator[bytes]:
        """The events that are whole with this part."""
        *whole, self._rest = (self._rest + part).split(b"\n")
        _check_length(self._rest)
        for line in whole:
            yield from self._event(line)

    def end(self) -> Iterator[bytes]:
        """The last line, which may have no end, and the word that it was the last."""
        yield from self._event(self._rest)
        yield DONE

    @property
    def is_whole(self) -> bool:
        """Whether there was anything: lines have no mark for the last."""
        return self._any or bool(self._rest.strip())

    def _event(self, line: bytes) -> Iterator[bytes]:
        if line.strip():
            self._any = True
            yield b"data: " + line.strip() + b"\n\n"


def is_comment(event: bytes) -> bool:
    """Whether an event is lines that readers skip, as containers send them to keep a connection open."""
    return event.startswith(b":") and all(line.startswith(b":") for line in event.splitlines() if line)


def splitter_for(content_type: str) -> Splitter:
    """The splitter of what a container sends.

    Args:
        content_type: Its content type, as SageMaker passes it on.
    """
    return JsonLines() if content_type.partition(";")[0].strip() == "application/jsonlines" else Events()


def _says_done(event: bytes) -> bool:
    """Whether it is the last event; the space behind the colon may be there or not."""
    field, _, value = event.strip().partition(b":")
    return field == b"data" and value.strip() == b"[DONE]"


def _check_length(rest: bytes) -> None:
    if len(rest) > _LONGEST_EVENT:
        raise EventTooLongError
