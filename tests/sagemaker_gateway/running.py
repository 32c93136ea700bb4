"""The whole way on loopback sockets: client, adapter, double of the runtime API, scripted engine."""

import asyncio
import functools
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ParamSpec, Protocol

import aiohttp
from aiohttp import web
from botocore.credentials import Credentials  # pyright: ignore[reportMissingTypeStubs]

from rehearsal.sagemaker_runtime import Double, Endpoint, Variant, serving
from runtime.sagemaker_gateway import AdapterConfig, SageMakerModel
from runtime.sagemaker_gateway.capture.files import Storage
from runtime.sagemaker_gateway.capture.masker_process import Masking
from runtime.sagemaker_gateway.service import Running, listening

P = ParamSpec("P")

DONE = b"data: [DONE]\n\n"


def in_loop(case: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Makes a test of a coroutine."""

    @functools.wraps(case)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(120):
                await case(*args, **kwargs)

        asyncio.run(bounded())

    return run


def delta(text: str) -> bytes:
    """One event of a chat as vLLM sends it, with its characters as they are."""
    choice = {"index": 0, "delta": {"content": text}}
    chunk = {"id": "c", "object": "chat.completion.chunk", "choices": [choice]}
    return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode()


def usage(tokens: int) -> bytes:
    """The event with the usage, that comes where a client asked for it."""
    return f'data: {{"choices":[],"usage":{{"completion_tokens":{tokens}}}}}\n\n'.encode()


class Answering(Protocol):
    """What answers both of OpenAI's paths."""

    async def answer(self, request: web.Request) -> web.StreamResponse: ...


@dataclass
class Engine:
    """An OpenAI-style engine that answers as it is told, to everything alike.

    `events` are what it streams, `pause_s` the time before each; `status` and `refusal` an error instead;
    `breaks` ends a stream without its last chunk; `gate` holds every stream after its first event.
    """

    events: list[bytes] = field(default_factory=lambda: [delta("Hel"), delta("lo"), DONE])
    content_type: str = "text/event-stream; charset=utf-8"
    pause_s: float = 0.0
    status: int = 200
    refusal: dict[str, Any] = field(default_factory=dict[str, Any])
    refuse_caps_above: int | None = None
    breaks: bool = False
    gate: asyncio.Event | None = None
    tokens: int = 5
    received: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    paths: list[str] = field(default_factory=list[str])
    left: int = 0
    most_at_once: int = 0
    _now: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.received.append(body)
        self.paths.append(request.path)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            return await self._answer(request, body)
        except asyncio.CancelledError:
            self.left += 1
            raise
        finally:
            self._now -= 1

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if self.status != 200:
            return web.json_response(self.refusal, status=self.status)
        if self.refuse_caps_above is not None and body.get("max_tokens", 0) > self.refuse_caps_above:
            message = "maximum context length is 4096 tokens"
            return web.json_response({"error": {"message": message, "param": "max_tokens"}}, status=400)
        if not body.get("stream"):
            await asyncio.sleep(self.pause_s)
            return web.json_response(
                {
                    "object": "chat.completion",
                    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}}],
                    "usage": {"prompt_tokens": 3, "completion_tokens": self.tokens, "total_tokens": 8},
                }
            )
        response = web.StreamResponse(headers={"content-type": self.content_type})
        await response.prepare(request)
        for number, event in enumerate(self.events):
            await asyncio.sleep(self.pause_s)
            await response.write(event)
            if number == 0 and self.gate:
                await self.gate.wait()
        if self.breaks and request.transport:
            request.transport.close()
        return response


@dataclass
class Way:
    """Everything that runs, and a client.

    Attributes:
        engine: The engine behind endpoint `chat-endpoint`, variant `stable`.
        double: The runtime API.
        url: Where that is.
        running: The adapter.
        client: A session on the adapter's URL.
        log: Lines of the access log.
    """

    engine: Engine
    double: Double
    url: str
    running: Running
    client: aiohttp.ClientSession
    log: list[dict[str, Any]]

    async def ask(self, path: str = "/v1/chat/completions", **body: Any) -> "Answer":
        async with self.client.post(path, json=chat(**body)) as answer:
            return Answer(answer.status, dict(answer.headers), await answer.read())

    def stream(self, **body: Any) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """A streamed answer that the test reads itself."""
        return self.client.post("/v1/chat/completions", json=chat(stream=True, **body))

    async def get(self, path: str) -> "Answer":
        async with self.client.get(path) as answer:
            return Answer(answer.status, dict(answer.headers), await answer.read())

    async def metrics(self) -> str:
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{self.running.metrics_port}/metrics"
            async with session.get(url) as answer:
                return await answer.text()

    async def logged(self, count: int = 1) -> dict[str, Any]:
        """The last line, once there are so many."""
        while len(self.log) < count:
            await asyncio.sleep(0.001)
        return self.log[-1]


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The error in OpenAI's shape; fails if it has not exactly that."""
        assert self.headers["Content-Type"].startswith("application/json")
        return error_in(self.raw)

    @property
    def events(self) -> list[bytes]:
        """The events of a stream."""
        assert self.headers["Content-Type"] == "text/event-stream"
        assert self.raw.endswith(b"\n\n")
        return [event + b"\n\n" for event in self.raw.split(b"\n\n")[:-1]]


def error_in(raw: bytes) -> dict[str, Any]:
    said = json.loads(raw)
    assert set(said) == {"error"}
    assert set(said["error"]) == {"message", "type", "param", "code"}
    assert said["error"]["message"]
    return said["error"]


def chat(**changes: Any) -> dict[str, Any]:
    """A request; a change to None leaves the field out."""
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], **changes}
    return {key: value for key, value in body.items() if value is not None}


MODEL = SageMakerModel(name="tiny", endpoint="chat-endpoint")


def configured(**changes: Any) -> AdapterConfig:
    """The configuration of a test's adapter."""
    settings: dict[str, Any] = {
        "region": "us-east-1",
        "models": (MODEL,),
        "listen_port": 0,
        "metrics_port": 0,
    }
    return AdapterConfig(**{**settings, **changes})


@asynccontextmanager
async def serving_engine(engine: Answering) -> AsyncGenerator[str]:
    application = web.Application(client_max_size=2**26)
    application.router.add_post("/v1/chat/completions", engine.answer)
    application.router.add_post("/v1/completions", engine.answer)
    runner = web.AppRunner(application, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def running_way(
    engine: Engine | None = None,
    models: tuple[SageMakerModel, ...] = (MODEL,),
    storage: Storage | None = None,
    masking: Masking | None = None,
    **changes: Any,
) -> AsyncGenerator[Way]:
    """Starts all of it; `storage` and `masking` are for capture, `changes` of the configuration."""
    engine = engine or Engine()
    config = configured(models=models, **changes)
    log: list[dict[str, Any]] = []
    async with serving_engine(engine) as engine_url:
        double = Double(
            {
                "chat-endpoint": Endpoint(variants={"stable": Variant(engine_url)}),
                "shared": Endpoint(components={"tiny-copy": Variant(engine_url), "at-zero": None}),
            }
        )
        async with (
            serving(double) as double_url,
            listening(
                config,
                config.runtime_url or double_url,
                Credentials("testing", "testing", "a-token"),
                lambda line: log.append(json.loads(line)),
                storage,
                masking,
            ) as running,
            # aiohttp's own total of five minutes would end the streams of five minutes.
            aiohttp.ClientSession(
                f"http://127.0.0.1:{running.port}", timeout=aiohttp.ClientTimeout(total=None)
            ) as client,
        ):
            yield Way(engine, double, double_url, running, client, log)
