"""One chat request to an OpenAI-style endpoint, as a user's client would send it."""

import http.client
import json
import time
import urllib.parse
from dataclasses import dataclass
from typing import Any

TIMEOUT_S = 300.0


class ChatError(Exception):
    """The endpoint did not answer as an OpenAI-style API does."""


@dataclass(frozen=True, kw_only=True)
class StreamedAnswer:
    """A streamed answer and when its parts came.

    Attributes:
        text: The whole answer.
        chunks: Server-sent events with text.
        first_chunk_s: Seconds to the first of them.
        total_s: Seconds to the end.
    """

    text: str
    chunks: int
    first_chunk_s: float
    total_s: float


def stream_chat(endpoint: str, api_key: str, model: str, prompt: str, max_tokens: int) -> StreamedAnswer:
    """Streams one chat completion.

    Args:
        endpoint: Base URL without `/v1`.
        api_key: Sent as bearer token.
        model: Model id.
        prompt: The user's message.
        max_tokens: Longest answer.

    Raises:
        ChatError: If the endpoint is out of reach, refuses, or breaks the stream off.
    """
    started = time.monotonic()
    try:
        response = _post(endpoint, api_key, _request(model, prompt, max_tokens))
        texts: list[str] = []
        first: float | None = None
        ended = False
        for raw in response:
            line = raw.decode().strip()
            if line == "data: [DONE]":
                ended = True
                break
            text = _text_of(line)
            if text:
                first = first or time.monotonic() - started
                texts.append(text)
    except (OSError, http.client.HTTPException) as error:
        raise ChatError(f"{endpoint}: {error}") from error
    if not ended:
        raise ChatError(f"{endpoint} broke the stream off after {len(texts)} chunks")
    if first is None:
        raise ChatError(f"{endpoint} streamed no text")
    return StreamedAnswer(
        text="".join(texts), chunks=len(texts), first_chunk_s=first, total_s=time.monotonic() - started
    )


def _request(model: str, prompt: str, max_tokens: int) -> bytes:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "stream": True,
    }
    return json.dumps(body).encode()


def _post(endpoint: str, api_key: str, body: bytes) -> http.client.HTTPResponse:
    url = urllib.parse.urlsplit(endpoint)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.netloc, timeout=TIMEOUT_S)
    connection.request(
        "POST",
        f"{url.path}/v1/chat/completions",
        body,
        {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"},
    )
    response = connection.getresponse()
    if response.status != http.HTTPStatus.OK:
        raise ChatError(
            f"{endpoint} answers {response.status}: {response.read(500).decode(errors='replace')}"
        )
    return response


def _text_of(line: str) -> str:
    if not line.startswith("data: "):
        return ""
    event: dict[str, Any] = json.loads(line.removeprefix("data: "))
    if "error" in event:
        raise ChatError(f"the stream carries an error: {event['error']}")
    choices: list[dict[str, Any]] = event.get("choices") or []
    return str(choices[0].get("delta", {}).get("content") or "") if choices else ""
