"""The adapter: OpenAI's API over HTTP on one side, SageMaker endpoints on the other."""

import asyncio
import logging
import re
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import aiohttp
from aiohttp import web

from runtime.gateway.config import CLIENT_HEADER
from runtime.sagemaker_gateway.admission import Admission
from runtime.sagemaker_gateway.aws_errors import refusal_of_event, refusal_of_stream, time_limit_reached
from runtime.sagemaker_gateway.capture.service import Capture
from runtime.sagemaker_gateway.capture.tape import About
from runtime.sagemaker_gateway.config import AdapterConfig, SageMakerModel
from runtime.sagemaker_gateway.endpoint import Endpoints, Invocation
from runtime.sagemaker_gateway.event_stream import BrokenStreamError, StreamFailedError
from runtime.sagemaker_gateway.metrics import Metrics, Record, log_line, report_line
from runtime.sagemaker_gateway.refusal import Refusal
from runtime.sagemaker_gateway.request import (
    CHAT_PATH,
    COMPLETIONS_PATH,
    Allowance,
    Wanted,
    body_of,
    judged,
    model_of,
    read_fields,
    unknown_model,
)
from runtime.sagemaker_gateway.sse import DONE, EventTooLongError, is_comment, splitter_for
from runtime.sagemaker_gateway.token_guard import LEAST_TOKENS, TokenGuard

CAP_HEADER = "x-spillway-max-tokens"
"""Header of an answer to a request without `max_tokens`: the number that the gateway set."""

VARIANT_HEADER = "x-spillway-variant"
"""Header of an answer that says which production variant gave it."""

# SageMaker ends an answer that is late. This is for when it does not: its own client waits 10 s longer.
_GRACE_S = 10.0
# For a client that reads, the error that ends a stream is a write.
_LAST_WORDS_S = 5.0
_JSON = "application/json"
_LOGGER = logging.getLogger(__name__)
_USAGE = re.compile(rb'"completion_tokens"\s*:\s*(\d+)')
# An answer's usage stands at its end; what comes after it is some hundred bytes.
_TAIL = 4096
# Of a time limit: what failed sooner did not fail of it, whatever it says. Of an answer's time: a client that
# takes more than the rest to read tells its own speed and not the model's.
_NEARLY = 0.9
_BROKEN = (aiohttp.ClientError, BrokenStreamError, EventTooLongError, OSError)


class _ClientLeftError(Exception):
    """The client reads no more."""


class Adapter:
    """Answers requests. One for each process: its token guards learn from all of them.

    Attributes:
        metrics: Its numbers.
        admission: What it holds now.
    """

    def __init__(
        self,
        config: AdapterConfig,
        endpoints: Endpoints,
        *,
        metrics: Metrics | None = None,
        capture: Capture | None = None,
        log: Callable[[str], None] = print,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Makes one.

        Args:
            config: What it serves, and its limits.
            endpoints: Where the calls go.
            metrics: Its numbers.
            capture: Keeps masked copies; nothing is kept without it.
            log: Takes the lines of the access log.
            clock: Seconds that only grow.
        """
        self.metrics = metrics or Metrics()
        self.admission = Admission(
            max_requests=config.max_requests,
            max_held_bytes=config.max_held_bytes,
            retry_after_s=config.retry_after_s,
        )
        self._config = config
        self._endpoints = endpoints
        self._capture = capture
        self._log = log
        self._clock = clock
        self._models = {model.name: model for model in config.models}
        self._guards = {
            model.name: TokenGuard(
                safe_tokens=model.safe_tokens,
                first_token_s=model.first_token_s,
                limit_s=config.stream_limit_s,
            )
            for model in config.models
        }
        self._timeouts: set[asyncio.Timeout] = set()
        self._draining = False
        self._cut = False
        self.metrics.watch(lambda: self.admission.requests)
        for name in self._models:
            self._show_guard(name)

    def application(self) -> web.Application:
        """The API, as aiohttp serves it."""
        application = web.Application(client_max_size=self._config.max_body_bytes)
        application.router.add_post(CHAT_PATH, self._generate)
        application.router.add_post(COMPLETIONS_PATH, self._generate)
        application.router.add_get("/v1/models", self._list_models)
        application.router.add_get("/v1/models/{name:.+}", self._describe_model)
        application.router.add_get("/healthz", self._health)
        application.router.add_route("*", "/{path:.*}", self._unknown)
        return application

    def report(self) -> None:
        """Writes to the log what is let through now, and what became of copies since the last report."""
        allowances = {name: self._allowance(name) for name in self._models}
        self._log(report_line(self.admission, allowances, self.metrics))

    def begin_drain(self) -> None:
        """Says at /healthz that it goes, so that nothing new comes; what comes is still answered."""
        self._draining = True

    def cut(self) -> None:
        """Ends the answers that are still running, each with an error that says why."""
        self._cut = True
        for timeout in self._timeouts:
            timeout.reschedule(asyncio.get_running_loop().time())

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        record = Record(
            started=self._clock(),
            path=request.path,
            client=request.headers.get(CLIENT_HEADER, ""),
            request_id=request.headers.get("x-request-id", "")[:64] or str(uuid4()),
        )
        try:
            with self.admission.place(self._size(request)):
                return await self._answer(request, record)
        except Exception as problem:
            refusal = problem if isinstance(problem, Refusal) else _internal(problem)
            _note(record, refusal)
            record.status = refusal.status
            record.response_bytes = len(refusal.body)
            headers = refusal.headers | ({"connection": "close"} if self._draining else {})
            return web.Response(status=refusal.status, body=refusal.body, headers=headers, content_type=_JSON)
        finally:
            seconds = self._clock() - record.started
            if record.model in self._guards:
                self._show_guard(record.model)
            self.metrics.count(record, seconds)
            self._log(log_line(record, seconds))

    def _size(self, request: web.Request) -> int:
        """Bytes to keep free for a request's body; one without a length may become as long as any."""
        most = self._config.max_body_bytes
        length = request.content_length
        if length is not None and length > most:
            raise self._too_large()
        return most if length is None else length

    def _too_large(self) -> Refusal:
        most = self._config.max_body_bytes
        return Refusal(
            413,
            "request_too_large",
            f"The request body is larger than {most:,} bytes ({most / 2**20:g} MiB), the most that a "
            "SageMaker endpoint takes.",
        )

    async def _answer(self, request: web.Request, record: Record) -> web.StreamResponse:
        try:
            raw = await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise self._too_large() from None
        record.request_bytes = len(raw)
        wanted, body = self._read(raw, record)
        limit = self._config.stream_limit_s if wanted.stream else self._config.plain_limit_s
        response = web.StreamResponse()
        record.called = self._clock()
        try:
            async with (
                self._at_most(limit + _GRACE_S),
                self._invoked(wanted, raw, body, record) as (invocation, capped),
            ):
                record.variant = invocation.variant
                response.headers.update(_answer_headers(invocation, wanted.cap if capped else None))
                send = self._stream if wanted.stream else self._plain
                with self._taped(invocation, record, raw) as taped:
                    await send(request, response, taped, wanted, record)
        except _ClientLeftError:
            pass
        except Exception as problem:
            refusal = self._refusal(problem)
            if refusal.code == "time_limit":
                self._observe_time_limit(wanted, record, limit)
            if not response.prepared:
                raise refusal from None
            _note(record, refusal)
            if wanted.stream:
                await self._last_words(request, response, refusal, record)
            elif request.transport:
                # Half a JSON document must not look like a whole one: its last chunk never comes.
                request.transport.close()
        return response

    @asynccontextmanager
    async def _at_most(self, seconds: float) -> AsyncGenerator[None]:
        """A time limit that `cut` can end sooner, as long as it has not ended itself."""
        async with asyncio.timeout(seconds) as timeout:
            self._timeouts.add(timeout)
            try:
                yield
            finally:
                self._timeouts.discard(timeout)

    async def _last_words(
        self, request: web.Request, response: web.StreamResponse, refusal: Refusal, record: Record
    ) -> None:
        try:
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._write(response, refusal.event, record)
        except _ClientLeftError:
            pass
        except TimeoutError:
            # Who has not read for so long gets no end either, which would be waited for just as long.
            if request.transport:
                request.transport.abort()

    def _read(self, raw: bytes, record: Record) -> tuple[Wanted, bytes]:
        """What is wanted, and the bytes for it.

        Keys and prompts as objects may take many times their bytes (`READING_MIB`). So they are gone before
        anything is waited for: the adapter has those of one request at a time. A thread would help no other
        request, because the reading holds the interpreter there too.
        """
        fields = read_fields(raw)
        model = model_of(fields, self._models)
        record.model, record.endpoint = model.name, model.endpoint
        wanted = judged(record.path, fields, model, self._allowance(model.name))
        record.stream = wanted.stream
        return wanted, body_of(fields, wanted)

    def _observe_time_limit(self, wanted: Wanted, record: Record, limit_s: float) -> None:
        now = self._clock()
        # A few tokens that do not come are a hang, and no speed.
        if now - record.called - record.writing_s < _NEARLY * limit_s or wanted.tokens < LEAST_TOKENS:
            return
        self._guards[wanted.model.name].observe_time_limit(
            record.called,
            now,
            tokens=record.tokens // wanted.choices,
            first_s=(record.first_s or 0.0) + record.started - record.called,
        )

    def _observe(self, wanted: Wanted, record: Record) -> None:
        now = self._clock()
        whole_s = now - record.called
        if record.writing_s > (1 - _NEARLY) * whole_s:
            return
        guard, tokens = self._guards[wanted.model.name], record.tokens // wanted.choices
        if record.first_s is None:
            guard.observe_plain(tokens, whole_s, now)
        else:
            guard.observe_stream(tokens, record.first_s + record.started - record.called, whole_s, now)

    def _refusal(self, problem: Exception) -> Refusal:
        if isinstance(problem, Refusal):
            return problem
        if isinstance(problem, StreamFailedError):
            return refusal_of_stream(problem)
        if isinstance(problem, TimeoutError) and not isinstance(problem, aiohttp.ClientError):
            if self._cut:
                return Refusal(
                    503, "gateway_stopping", "The gateway was stopped. Try again.", retry_after_s=1
                )
            return time_limit_reached("SageMaker did not end it")
        if not isinstance(problem, _BROKEN):
            return _internal(problem)
        return Refusal(
            502,
            "stream_broken",
            "The connection to the model's endpoint broke off. Try again.",
            detail=f"{type(problem).__name__}: {problem}",
        )

    @asynccontextmanager
    async def _invoked(
        self, wanted: Wanted, raw: bytes, body: bytes, record: Record
    ) -> AsyncGenerator[tuple[Invocation, bool]]:
        """The call, and whether the cap is in it.

        A container may refuse a cap that does not fit what its prompt leaves of the context. Then what is
        left is shorter than the cap, so that the request as the client wrote it ends in time by itself.
        """
        # Larger than it came, where the client had escaped less than JSON allows.
        if len(body) > self._config.max_body_bytes:
            raise self._too_large()
        capped = wanted.cap is not None
        async with AsyncExitStack() as stack:
            try:
                invocation = await stack.enter_async_context(self._call(wanted, body, record))
            except Refusal as refusal:
                if not (capped and refusal.code == "model_refused" and refusal.status == 400):
                    raise
                body, capped = body_of(read_fields(raw), wanted, capped=False), False
                invocation = await stack.enter_async_context(self._call(wanted, body, record))
            yield invocation, capped

    def _call(self, wanted: Wanted, body: bytes, record: Record) -> AbstractAsyncContextManager[Invocation]:
        return self._endpoints.invoke(
            wanted.model, body, stream=wanted.stream, inference_id=record.request_id
        )

    @contextmanager
    def _taped(self, invocation: Invocation, record: Record, raw: bytes) -> Generator[Invocation]:
        """The invocation, of which capture, where there is one, takes a copy and has it when all is over."""
        if self._capture is None:
            yield invocation
            return
        tape = self._capture.tape(record.endpoint, record.request_id, raw)
        try:
            yield replace(invocation, parts=tape.copied(invocation.parts))
        finally:
            about = About(
                request_id=record.request_id,
                time=datetime.now(UTC).isoformat(timespec="milliseconds"),
                endpoint=record.endpoint,
                variant=record.variant,
                model=record.model,
                streamed=record.stream,
            )
            self._capture.take(tape, about, whole=record.outcome == "ok")

    async def _stream(
        self,
        request: web.Request,
        response: web.StreamResponse,
        invocation: Invocation,
        wanted: Wanted,
        record: Record,
    ) -> None:
        response.content_type = "text/event-stream"
        response.headers["cache-control"] = "no-cache"
        splitter = splitter_for(invocation.content_type)
        last = b""
        said: Refusal | None = None
        async for part in invocation.parts:
            for event in splitter.feed(part):
                if not response.prepared and is_comment(event):
                    # It says nothing, and an error behind it still has its status.
                    continue
                if refusal := refusal_of_event(event):
                    if not response.prepared:
                        raise refusal
                    said = refusal
                if not response.prepared:
                    await response.prepare(request)
                    record.status = 200
                    record.first_s = self._clock() - record.started
                await self._write(response, event, record)
                if event != DONE and not is_comment(event):
                    # vLLM sends a token an event, or several under load: too few makes the guard too careful.
                    record.tokens += 1
                    last = event
        if not splitter.is_whole and said is None:
            raise BrokenStreamError("ended before the container said that it was done")
        for event in splitter.end():
            await self._write(response, event, record)
        if said is not None:
            # Not its message, which may repeat the prompt. The client has the event itself.
            record.outcome, record.detail = "model_failed", f"the container said {said.code} in its stream"
            return
        record.outcome = "ok"
        record.tokens = _completion_tokens(last) or record.tokens
        self._observe(wanted, record)

    async def _plain(
        self,
        request: web.Request,
        response: web.StreamResponse,
        invocation: Invocation,
        wanted: Wanted,
        record: Record,
    ) -> None:
        response.headers["content-type"] = invocation.content_type
        tail = b""
        async for part in invocation.parts:
            if not response.prepared:
                await response.prepare(request)
                record.status = 200
            tail = (tail + part)[-_TAIL:]
            await self._write(response, part, record)
        if not response.prepared:
            raise BrokenStreamError("the answer is empty")
        record.outcome = "ok"
        record.tokens = _completion_tokens(tail)
        self._observe(wanted, record)

    async def _write(self, response: web.StreamResponse, data: bytes, record: Record) -> None:
        # Waits while the client does not read; then the endpoint's answer is not read either.
        began = self._clock()
        try:
            await response.write(data)
        except OSError:
            raise _ClientLeftError from None
        finally:
            record.writing_s += self._clock() - began
        record.response_bytes += len(data)

    async def _list_models(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {"object": "list", "data": [_card(self._models[n]) for n in sorted(self._models)]}
        )

    async def _describe_model(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name in self._models:
            return web.json_response(_card(self._models[name]))
        refusal = unknown_model(name, self._models)
        return web.Response(status=refusal.status, body=refusal.body, content_type=_JSON)

    async def _health(self, _request: web.Request) -> web.Response:
        return web.Response(status=503, text="draining") if self._draining else web.Response(text="ok")

    async def _unknown(self, _request: web.Request) -> web.Response:
        refusal = Refusal(
            404,
            "unknown_url",
            f"Unknown path or method. A SageMaker endpoint answers POST {CHAT_PATH}, {COMPLETIONS_PATH} "
            "and GET /v1/models, /v1/models/MODEL.",
        )
        return web.Response(status=refusal.status, body=refusal.body, content_type=_JSON)

    def _allowance(self, name: str) -> Allowance:
        guard = self._guards[name]
        return Allowance(
            plain=guard.allowance(self._config.plain_limit_s, self._clock()),
            stream=guard.allowance(self._config.stream_limit_s, self._clock()),
        )

    def _show_guard(self, name: str) -> None:
        self.metrics.show_guard(name, self._guards[name], self._allowance(name))


def _answer_headers(invocation: Invocation, cap: int | None) -> dict[str, str]:
    headers = {VARIANT_HEADER: invocation.variant} if invocation.variant else {}
    return headers if cap is None else {**headers, CAP_HEADER: str(cap)}


def _internal(problem: Exception) -> Refusal:
    """Our own mistake, which is written down with where it was."""
    _LOGGER.error("the adapter failed", exc_info=problem)
    return Refusal(
        500,
        "gateway_error",
        "The gateway failed. Try again.",
        detail=f"{type(problem).__name__}, see its log",
    )


def _note(record: Record, refusal: Refusal) -> None:
    record.outcome, record.detail = refusal.code, refusal.detail


def _completion_tokens(text: bytes) -> int:
    found = _USAGE.findall(text)
    return int(found[-1]) if found else 0


def _card(model: SageMakerModel) -> dict[str, object]:
    # Created at the epoch, as the Envoy gateway says it: nobody knows when a model was made.
    return {"id": model.name, "object": "model", "created": 0, "owned_by": "spillway"}
