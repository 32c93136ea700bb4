"""The SageMaker runtime API as its client sees it: one signed call, and the answer as it comes."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
from botocore.auth import SigV4Auth  # pyright: ignore[reportMissingTypeStubs]
from botocore.awsrequest import AWSRequest  # pyright: ignore[reportMissingTypeStubs]
from botocore.exceptions import BotoCoreError  # pyright: ignore[reportMissingTypeStubs]
from yarl import URL

from runtime.sagemaker_gateway.aws_errors import refusal_of
from runtime.sagemaker_gateway.config import SageMakerModel
from runtime.sagemaker_gateway.event_stream import payload_parts
from runtime.sagemaker_gateway.refusal import Refusal

SIGNING_NAME = "sagemaker"

_JSON = "application/json"
_HEADER = "X-Amzn-SageMaker-"
_INFERENCE_ID = re.compile(r"[!-~][ -~]{0,63}")
# Of an error, which is some hundred bytes and one message of the container.
_LONGEST_ERROR = 64 * 1024
# How much of an answer is held while the client does not read: twice this, in aiohttp's reader.
_READ_AHEAD = 64 * 1024
# Shorter than the minute after which AWS's front closes a connection that nobody uses.
_KEEP_ALIVE_S = 30.0


class Credentials(Protocol):
    """AWS credentials that renew themselves, as botocore finds them."""

    # The result is botocore's, which has no types.
    def get_frozen_credentials(self) -> object:
        """Key, secret and token that belong together; may ask the metadata service."""
        ...


@dataclass(frozen=True)
class Invocation:
    """An answer that has begun.

    Attributes:
        variant: The production variant that gives it; empty where AWS does not say.
        content_type: The content type of what the container sends.
        parts: Its bytes, as they come.
    """

    variant: str
    content_type: str
    parts: AsyncIterator[bytes]


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """The endpoints of one region.

    Attributes:
        http: Sends the calls; closing it is its owner's.
        url: Scheme and host of the API.
        region: The region to sign for.
        credentials: Whose calls they are.
        retry_after_s: Seconds to wait where an endpoint is full.
        cold_retry_after_s: Seconds to wait where it has no copy yet.
    """

    http: aiohttp.ClientSession
    url: str
    region: str
    credentials: Credentials
    retry_after_s: int
    cold_retry_after_s: int

    @asynccontextmanager
    async def invoke(
        self, model: SageMakerModel, body: bytes, *, stream: bool, inference_id: str
    ) -> AsyncGenerator[Invocation]:
        """Calls an endpoint; leaving the context early ends the call there too.

        Args:
            model: What is called.
            body: The request.
            stream: Whether by InvokeEndpointWithResponseStream.
            inference_id: The request's id, which data capture keeps; left out where AWS takes none such.

        Raises:
            Refusal: The endpoint did not take the call, or cannot be reached.
        """
        url = f"{self.url}/endpoints/{model.endpoint}/" + (
            "invocations-response-stream" if stream else "invocations"
        )
        # Refreshing credentials and hashing 25 MB both take longer than others should wait.
        try:
            headers = await asyncio.to_thread(self._signed, url, _headers(model, stream, inference_id), body)
        except BotoCoreError as error:
            raise Refusal(
                502,
                "gateway_not_allowed",
                "The gateway may not call the model's endpoint.",
                detail=f"{type(error).__name__}: {error}",
            ) from None
        try:
            answer = await self.http.post(
                URL(url, encoded=True), data=body, headers=headers, allow_redirects=False
            )
        except aiohttp.ClientError as error:
            raise Refusal(
                502,
                "endpoint_unreachable",
                "The model's endpoint cannot be reached. Try again.",
                detail=f"{type(error).__name__}: {error}",
            ) from None
        async with answer:
            if answer.status != 200:
                raise refusal_of(
                    answer.status,
                    answer.headers,
                    await _start_of(answer),
                    retry_after_s=self.retry_after_s,
                    cold_retry_after_s=self.cold_retry_after_s,
                )
            chunks = answer.content.iter_any()
            yield Invocation(
                variant=answer.headers.get("x-amzn-invoked-production-variant", ""),
                content_type=answer.headers.get(
                    f"{_HEADER}Content-Type" if stream else "Content-Type", _JSON
                ),
                parts=payload_parts(chunks) if stream else chunks,
            )

    def _signed(self, url: str, headers: dict[str, str], body: bytes) -> dict[str, str]:
        request: Any = AWSRequest("POST", url, headers=headers, data=body)
        signer: Any = SigV4Auth(self.credentials.get_frozen_credentials(), SIGNING_NAME, self.region)
        signer.add_auth(request)
        return dict(request.headers.items())


def http_session(*, connections: int, connect_timeout_s: float) -> aiohttp.ClientSession:
    """A session that does nothing on its own: no redirects, proxies, cookies or headers that were not signed.

    Args:
        connections: Connections at most.
        connect_timeout_s: Longest time to open one.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=_KEEP_ALIVE_S),
        # Who asks knows how long an answer may take.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s),
        skip_auto_headers=("Accept", "Accept-Encoding"),
        headers={"User-Agent": "spillway-sagemaker-gateway"},
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=_READ_AHEAD,
    )


async def _start_of(answer: aiohttp.ClientResponse) -> bytes:
    raw = b""
    async for chunk in answer.content.iter_any():
        raw += chunk
        if len(raw) >= _LONGEST_ERROR:
            break
    return raw


def _headers(model: SageMakerModel, stream: bool, inference_id: str) -> dict[str, str]:
    headers = {"Content-Type": _JSON}
    if not stream:
        headers["Accept"] = _JSON
    if model.inference_component:
        headers[f"{_HEADER}Inference-Component"] = model.inference_component
    if model.variant:
        headers[f"{_HEADER}Target-Variant"] = model.variant
    if _INFERENCE_ID.fullmatch(inference_id):
        headers[f"{_HEADER}Inference-Id"] = inference_id
    return headers
