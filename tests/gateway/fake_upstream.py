"""A scripted model server: enough of OpenAI's API for a gateway, and an error for all the rest.

What it does with a chat is said by the content of the last message, see `FakeUpstream._chat`. It
answers 400 to everything that the gateway should not let through or should not have changed.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

_CHAT_FIELDS = {"model", "messages", "stream", "max_tokens", "temperature", "seed"}
_TEXT_FIELDS = {"model", "prompt", "stream", "max_tokens", "temperature", "seed"}
_BODY_FIELDS = {
    "/v1/chat/completions": _CHAT_FIELDS,
    "/v1/completions": _TEXT_FIELDS,
    "/v1/embeddings": {"model", "input"},
    "/tokenize": {"model", "prompt"},
    "/detokenize": {"model", "tokens"},
}


@dataclass(frozen=True)
class Received:
    """A request as it reached the server."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class FakeUpstream:
    """One model server on a loopback port, in a thread of its own.

    With a `key` it is what stands at the other end of the link: it asks for that key, and answers the health
    check, or the question whether there are servers, by `is_healthy`. `refuses_with` is the status that it
    answers to every request, as a server whose queue is full.
    """

    name: str
    port: int = 0
    key: str | None = None
    refuses_with: int | None = None
    is_healthy: bool = True
    asked: list[str] = field(default_factory=list[str])
    received: list[Received] = field(default_factory=list[Received])
    connections: int = 0
    client_left: threading.Event = field(default_factory=threading.Event)
    may_continue: threading.Event = field(default_factory=threading.Event)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def start(self) -> None:
        started = threading.Event()

        def serve() -> None:
            asyncio.set_event_loop(self._loop)
            server = self._loop.run_until_complete(
                asyncio.start_server(self._connection, "127.0.0.1", self.port, limit=2**26)
            )
            self.port = server.sockets[0].getsockname()[1]
            started.set()
            self._loop.run_forever()

        threading.Thread(target=serve, daemon=True).start()
        assert started.wait(60)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)

    def reset(self) -> None:
        """Forgets what it has seen, for the next test."""
        self.received.clear()
        self.connections = 0
        self.client_left.clear()
        self.may_continue.clear()
        self.refuses_with = None
        self.is_healthy = True
        self.asked.clear()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while request := await _read_request(reader):
                if self.key and request.path.startswith(("/healthz", "/ready/")):
                    self.asked.append(request.path)
                    await _send_json(writer, 200 if self.is_healthy else 503, {})
                    continue
                # Decided before a test can see the request, and may change its mind for the next.
                refuses_with = self.refuses_with
                self.received.append(request)
                await self._answer(request, refuses_with, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            with contextlib.suppress(RuntimeError):  # a server that is stopped has no loop any more
                writer.close()

    async def _answer(
        self,
        request: Received,
        refuses_with: int | None,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        problem = self._problem(request)
        if refuses_with is not None:
            await _send_json(writer, refuses_with, {"detail": f"{self.name} is full"})
        elif problem:
            await _send_json(writer, 400, {"error": {"message": problem, "code": "fake_upstream"}})
        elif request.path == "/v1/chat/completions":
            await self._chat(request, reader, writer)
        else:
            await _send_json(writer, 200, {"served_by": self.name, "path": request.path})

    def _problem(self, request: Received) -> str | None:
        fields = _BODY_FIELDS.get(request.path)
        if request.method != "POST" or fields is None:
            return f"{request.method} {request.path} must not get here"
        if unknown := set(request.body) - fields:
            return f"unknown fields {sorted(unknown)}"
        if request.headers.get("authorization") != (self.key and f"Bearer {self.key}"):
            return "the wrong key got here" if self.key else "no key must get here"
        if claimed := [
            name for name in request.headers if name.startswith(("x-envoy-retry", "x-envoy-internal"))
        ]:
            return f"headers that steer Envoy must not get here: {claimed}"
        return None

    async def _chat(
        self, request: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        content: str = request.body["messages"][-1]["content"]
        scripts: dict[str, Callable[[], Awaitable[None]]] = {
            "be full": lambda: _send_json(
                writer, 429, {"error": {"message": "queue is full", "code": "fake_full"}}, ("retry-after: 7",)
            ),
            "say nothing": lambda: self._wait(reader),
            "hang up": lambda: _hang_up(writer),
            "speak gibberish": lambda: _gibberish(writer),
            "stream and wait": lambda: self._stream(reader, writer, wait=True),
            "stream and break": lambda: self._stream(reader, writer, broken=True),
        }
        if content in scripts:
            await scripts[content]()
        elif request.body.get("stream"):
            await self._stream(reader, writer)
        else:
            message = {"role": "assistant", "content": f"{self.name} heard {len(content)}"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            await _send_json(
                writer,
                200,
                {
                    "id": "chat-1",
                    "object": "chat.completion",
                    "created": 1,
                    "model": request.body["model"],
                    "choices": [choice],
                },
            )

    async def _stream(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        wait: bool = False,
        broken: bool = False,
    ) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        await _send_event(writer, json.dumps({"choices": [{"index": 0, "delta": {"content": "first"}}]}))
        if broken:
            await _hang_up(writer)
        if wait:
            await self._wait(reader)
        await _send_event(writer, json.dumps({"choices": [{"index": 0, "delta": {"content": "second"}}]}))
        await _send_event(writer, "[DONE]")
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _wait(self, reader: asyncio.StreamReader) -> None:
        """Waits for the test's word to go on; raises if the other side hangs up before."""
        left = asyncio.ensure_future(reader.read(1))
        while not self.may_continue.is_set():
            done, _ = await asyncio.wait([left], timeout=0.01)
            if done:
                self.client_left.set()
                raise ConnectionResetError
        left.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await left


async def _read_request(reader: asyncio.StreamReader) -> Received | None:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").rstrip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        raw = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            raw += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
    else:
        raw = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method=method, path=path, headers=headers, body=json.loads(raw or b"{}"))


async def _send_json(
    writer: asyncio.StreamWriter, status: int, body: dict[str, Any], headers: tuple[str, ...] = ()
) -> None:
    raw = json.dumps(body).encode()
    lines = [
        f"HTTP/1.1 {status} Scripted",
        "server: uvicorn",
        "content-type: application/json",
        f"content-length: {len(raw)}",
        *headers,
    ]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + raw)
    await writer.drain()


async def _send_event(writer: asyncio.StreamWriter, data: str) -> None:
    raw = f"data: {data}\n\n".encode()
    writer.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")
    await writer.drain()


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    await writer.drain()
    raise ConnectionResetError


async def _gibberish(writer: asyncio.StreamWriter) -> None:
    writer.write(b"this is not HTTP\r\n\r\n")
    await writer.drain()
    raise ConnectionResetError
