"""The double's endpoints and its two calls, over HTTP."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from rehearsal.sagemaker_runtime.framing import exception, payload_part
from rehearsal.sagemaker_runtime.signature import NotSignedError, check_signature

TEST_SECRETS = {"testing": "testing"}
"""The one access key that the double knows, and its secret."""

_MAX_BODY_BYTES = 25 * 1024 * 1024
_PLAIN_LIMIT_S = 60.0
_STREAM_LIMIT_S = 480.0
_PREFIX = "x-amzn-sagemaker-"
_KNOWN_HEADERS = {
    f"{_PREFIX}{name}" for name in ("accept", "inference-component", "inference-id", "target-variant")
}
_EVENT_STREAM = "application/vnd.amazon.eventstream"
_LATE = "Your invocation timed out while waiting for a response from container primary."
_LOG = "arn:aws:logs:::log-group:/aws/sagemaker/Endpoints"


@dataclass
class Variant:
    """A production variant, or the one behind an inference component.

    Attributes:
        url: Scheme and host of the engine that answers for its container.
        weight: Its share of the requests.
        answered: Requests that went to it, also those that asked for it.
    """

    url: str
    weight: float = 1
    answered: int = 0


@dataclass(frozen=True)
class Draw:
    """A request that asked for no variant.

    Attributes:
        variant: The one that it went to.
        weights: The weights of all, by which it did.
    """

    variant: str
    weights: Mapping[str, float]


@dataclass
class Endpoint:
    """A SageMaker endpoint: by variants, or by inference components.

    Attributes:
        variants: Its production variants, by name.
        components: Its inference components, by name; None is one that is scaled to zero.
        draws: The requests that went by weights, newest last.
    """

    variants: dict[str, Variant] = field(default_factory=dict[str, Variant])
    components: dict[str, Variant | None] = field(default_factory=dict[str, "Variant | None"])
    draws: list[Draw] = field(default_factory=list[Draw])
    _counts: dict[str, int] = field(default_factory=dict[str, int])

    def draw(self) -> str:
        """The variant whose turn it is.

        Of n requests since the weights last changed, none has more than one above its weight's share. The
        real service draws at random; counts in a test should not.
        """
        weights = {name: one.weight for name, one in self.variants.items()}
        total = sum(weights.values())
        if not total:
            raise _AwsError(400, "ValidationError", "this double needs a variant with a weight above 0")
        if not self.draws or self.draws[-1].weights != weights:
            self._counts = dict.fromkeys(weights, 0)
        turn = sum(self._counts.values()) + 1
        variant = max(
            (name for name, weight in weights.items() if weight),
            key=lambda name: weights[name] * turn / total - self._counts[name],
        )
        self._counts[variant] += 1
        self.draws.append(Draw(variant, weights))
        return variant


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong with the next call.

    Attributes:
        kind: AWS's name of it. ModelStreamError and InternalStreamFailure come in a stream.
        status: HTTP status; without meaning in a stream.
        code: A ModelStreamError's code.
        after_parts: Payload parts that come before it.
        cut: Whether the stream ends in the middle of a message instead.
        flipped: Whether a byte of a message is wrong instead.
    """

    kind: str = ""
    status: int = 400
    code: str = ""
    after_parts: int = 0
    cut: bool = False
    flipped: bool = False

    @property
    def in_stream(self) -> bool:
        """Whether it comes in a stream, whose status is 200."""
        return self.cut or self.flipped or self.kind in {"ModelStreamError", "InternalStreamFailure"}

    def is_due(self, sent: int) -> bool:
        """Whether it comes now, in a stream of which so many parts were sent."""
        return self.in_stream and sent >= self.after_parts


@dataclass
class Double:
    """The state of a double, which tests and the rehearsal set and read while it runs.

    Attributes:
        endpoints: Its endpoints, by name.
        region: Its region.
        secrets: The secrets of the access keys that it knows.
        part_bytes: Longest payload part; parts are cut there whatever is cut. 0 leaves them as they come.
        plain_limit_s: Longest answer of a container.
        stream_limit_s: Longest streamed one.
        faults: What goes wrong with the next calls, one each.
        calls: Headers of what was called, newest last, with `path`.
        streams_left: Streams whose caller left before their end.
        sent_bytes: Bytes of streams that were handed to the network.
    """

    endpoints: dict[str, Endpoint]
    region: str = "us-east-1"
    secrets: Mapping[str, str] = field(default_factory=lambda: TEST_SECRETS)
    part_bytes: int = 0
    plain_limit_s: float = _PLAIN_LIMIT_S
    stream_limit_s: float = _STREAM_LIMIT_S
    faults: deque[Fault] = field(default_factory=deque[Fault])
    calls: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    streams_left: int = 0
    sent_bytes: int = 0

    def application(self, http: aiohttp.ClientSession) -> web.Application:
        """The API, as aiohttp serves it.

        Args:
            http: Asks the engines.
        """

        async def invoke(request: web.Request) -> web.StreamResponse:
            return await self._refusing(request, http, stream=False)

        async def invoke_stream(request: web.Request) -> web.StreamResponse:
            return await self._refusing(request, http, stream=True)

        application = web.Application(client_max_size=_MAX_BODY_BYTES)
        application.router.add_post("/endpoints/{name}/invocations", invoke)
        application.router.add_post("/endpoints/{name}/invocations-response-stream", invoke_stream)
        application.router.add_route("*", "/{path:.*}", _unknown)
        return application

    async def _refusing(
        self, request: web.Request, http: aiohttp.ClientSession, *, stream: bool
    ) -> web.StreamResponse:
        try:
            return await self._invoke(request, http, stream=stream)
        except _AwsError as error:
            return error.response

    async def _invoke(
        self, request: web.Request, http: aiohttp.ClientSession, *, stream: bool
    ) -> web.StreamResponse:
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise _AwsError(413, "ValidationError", f"Body is larger than {_MAX_BODY_BYTES} bytes") from None
        try:
            check_signature(str(request.url), request.headers, body, region=self.region, secrets=self.secrets)
        except NotSignedError as error:
            raise _AwsError(403, error.kind, str(error)) from None
        self.calls.append(
            {name.lower(): value for name, value in request.headers.items()} | {"path": request.path}
        )
        self._check_headers(request, stream=stream)
        name, variant = self._variant(request)
        fault = self.faults.popleft() if self.faults else Fault()
        if fault.kind and not fault.in_stream:
            raise _AwsError(fault.status, fault.kind, "scripted")
        variant.answered += 1
        call = _Call(request, http, variant, body, {"x-Amzn-Invoked-Production-Variant": name}, fault)
        return await (self._stream(call) if stream else self._plain(call))

    def _check_headers(self, request: web.Request, *, stream: bool) -> None:
        known = _KNOWN_HEADERS if stream else _KNOWN_HEADERS - {f"{_PREFIX}accept"}
        for header in map(str.lower, request.headers):
            if header.startswith(_PREFIX) and header not in known:
                raise _AwsError(400, "ValidationError", f"this double does not know {header}")
        if request.content_type != "application/json":
            raise _AwsError(400, "ValidationError", f"this double takes JSON, not {request.content_type}")

    def _variant(self, request: web.Request) -> tuple[str, Variant]:
        name = request.match_info["name"]
        endpoint = self.endpoints.get(name)
        if endpoint is None:
            raise _AwsError(400, "ValidationError", f"Endpoint {name} of account 000000000000 not found.")
        component = request.headers.get(f"{_PREFIX}inference-component")
        if bool(endpoint.components) != (component is not None):
            raise _AwsError(
                400,
                "ValidationError",
                "Inference Component Name header is required for endpoints that have them, and for no other.",
            )
        if component is not None:
            if component not in endpoint.components:
                raise _AwsError(400, "ValidationError", f"Inference Component {component} not found.")
            copy = endpoint.components[component]
            if copy is None:
                raise _AwsError(
                    400, "ValidationError", "Inference Component has no capacity to process this request."
                )
            return "AllTraffic", copy
        wanted = request.headers.get(f"{_PREFIX}target-variant") or endpoint.draw()
        if wanted not in endpoint.variants:
            raise _AwsError(400, "ValidationError", f"Variant {wanted} not found for endpoint {name}.")
        return wanted, endpoint.variants[wanted]

    async def _plain(self, call: "_Call") -> web.StreamResponse:
        try:
            async with asyncio.timeout(self.plain_limit_s), call.answer() as answer:
                headers = {**call.headers, "Content-Type": answer.headers["content-type"]}
                whole = await answer.read()
        except TimeoutError:
            raise _model_error(0, _LATE) from None
        except aiohttp.ClientError as error:
            raise _AwsError(500, "InternalFailure", str(error)) from None
        if not call.fault.cut:
            return web.Response(body=whole, headers=headers)
        response = web.StreamResponse(headers={**headers, "Content-Length": str(len(whole))})
        await response.prepare(call.request)
        await response.write(whole[: len(whole) // 2])
        if call.request.transport:
            call.request.transport.close()
        return response

    async def _stream(self, call: "_Call") -> web.StreamResponse:
        response = web.StreamResponse(headers={**call.headers, "Content-Type": _EVENT_STREAM})
        fault = call.fault
        try:
            async with asyncio.timeout(self.stream_limit_s), call.answer() as answer:
                response.headers["X-Amzn-SageMaker-Content-Type"] = answer.headers["content-type"]
                await response.prepare(call.request)
                sent = 0
                if not fault.is_due(sent):
                    async for part in self._parts(answer.content.iter_any()):
                        await self._send(response, payload_part(part))
                        sent += 1
                        if fault.is_due(sent):
                            break
                await self._fail(response, fault)
        except TimeoutError:
            said = {"Message": "late", "ErrorCode": "ModelInvocationTimeExceeded"}
            await self._send(response, exception("ModelStreamError", said))
        except aiohttp.ClientPayloadError:
            said = {"Message": "broken", "ErrorCode": "StreamBroken"}
            await self._send(response, exception("ModelStreamError", said))
        except aiohttp.ClientConnectorError as error:
            raise _AwsError(500, "InternalFailure", str(error)) from None
        except asyncio.CancelledError:
            self.streams_left += 1
            raise
        return response

    async def _fail(self, response: web.StreamResponse, fault: Fault) -> None:
        if fault.cut:
            await self._send(response, payload_part(b"data: {}\n\n")[:-6])
        elif fault.flipped:
            framed = bytearray(payload_part(b"data: {}\n\n"))
            framed[-6] ^= 1
            await self._send(response, bytes(framed))
        elif fault.in_stream:
            said = {"Message": "scripted"} | ({"ErrorCode": fault.code} if fault.code else {})
            await self._send(response, exception(fault.kind, said))

    async def _send(self, response: web.StreamResponse, framed: bytes) -> None:
        await response.write(framed)
        self.sent_bytes += len(framed)

    async def _parts(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            size = self.part_bytes or len(chunk)
            for start in range(0, len(chunk), size):
                yield chunk[start : start + size]


class _AwsError(Exception):
    """An error of the API."""

    def __init__(self, status: int, kind: str, message: str, more: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.response = web.Response(
            status=status,
            body=json.dumps({"Message": message, **(more or {})}).encode(),
            headers={"x-amzn-ErrorType": kind},
            content_type="application/json",
        )


def _model_error(status: int, original: str) -> _AwsError:
    side = "client" if 400 <= status < 500 else "server"
    return _AwsError(
        424,
        "ModelError",
        f'Received {side} error ({status}) from primary with message "{original}".',
        {"OriginalStatusCode": status, "OriginalMessage": original, "LogStreamArn": _LOG},
    )


@dataclass(frozen=True)
class _Call:
    """A call that was accepted."""

    request: web.Request
    http: aiohttp.ClientSession
    variant: Variant
    body: bytes
    headers: Mapping[str, str]
    fault: Fault

    @asynccontextmanager
    async def answer(self) -> AsyncGenerator[aiohttp.ClientResponse]:
        """Asks the engine as a container's /invocations does, which goes by the shape of the body."""
        try:
            shape: Any = json.loads(self.body)
            path = "/v1/chat/completions" if "messages" in shape else "/v1/completions"
        except (ValueError, TypeError):
            raise _model_error(400, "JSON decode error") from None
        async with self.http.post(
            self.variant.url + path, data=self.body, headers={"content-type": "application/json"}
        ) as answer:
            if answer.status != 200:
                raise _model_error(answer.status, await answer.text())
            yield answer


async def _unknown(request: web.Request) -> web.Response:
    return _AwsError(
        404, "UnknownOperationException", f"this double does not know {request.method} {request.path}"
    ).response


@asynccontextmanager
async def serving(double: Double, *, host: str = "127.0.0.1", port: int = 0) -> AsyncGenerator[str]:
    """Serves a double while the context lasts.

    Args:
        double: The double.
        host: Address that it listens on. It is no secret store: it belongs on loopback.
        port: Port; 0 is one that is free.

    Returns:
        Its URL.
    """
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None), connector=aiohttp.TCPConnector(limit=0)
    ) as http:
        runner = web.AppRunner(
            double.application(http), handler_cancellation=True, access_log=None, shutdown_timeout=1.0
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
            yield f"http://{host}:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()
