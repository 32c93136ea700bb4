"""The process around the adapter: its listeners, its credentials, and its end in good order."""

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from aiohttp import web
from botocore.config import Config  # pyright: ignore[reportMissingTypeStubs]

from runtime.sagemaker_gateway.adapter import Adapter
from runtime.sagemaker_gateway.capture.files import Bucket, Storage
from runtime.sagemaker_gateway.capture.masker_process import MaskerProcess, Masking
from runtime.sagemaker_gateway.capture.service import Capture
from runtime.sagemaker_gateway.config import AdapterConfig
from runtime.sagemaker_gateway.endpoint import Credentials, Endpoints, http_session
from runtime.sagemaker_gateway.metrics import Metrics

# After the cut each answer has only an error to write.
_LAST_WORDS_S = 5.0
# A file is tried again by the next one: so one call gives up soon, also while the gateway stops.
_S3: Any = Config(connect_timeout=3, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 2})
_REPORT_S = 60.0
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class NoCredentialsError(Exception):
    """There are no AWS credentials; the text says where they are looked for."""


@dataclass(frozen=True)
class Running:
    """A listening adapter.

    Attributes:
        adapter: The adapter.
        port: Port of the API.
        metrics_port: Port of `/metrics`.
    """

    adapter: Adapter
    port: int
    metrics_port: int


async def serve(config: AdapterConfig, session: Any, stop: asyncio.Event) -> None:
    """Serves until told to stop, and returns when what was begun has ended or its time is over.

    Args:
        config: What is served.
        session: botocore's session: credentials, and where the API is.
        stop: Set to stop.

    Raises:
        NoCredentialsError: There are none.
    """
    credentials = session.get_credentials()
    if credentials is None:
        raise NoCredentialsError(
            "no AWS credentials; allowed: a task role, or what every AWS program takes (environment, "
            "profile); fix: give the task a role that may invoke the endpoints"
        )
    # Knows partitions and AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME; building it reads files, once.
    url = config.runtime_url or session.create_client("sagemaker-runtime", config.region).meta.endpoint_url
    storage = None
    if config.capture is not None:
        storage = Bucket(session.create_client("s3", config.region, config=_S3), config.capture)
    async with listening(config, url, cast("Credentials", credentials), storage=storage) as running:
        print(
            f"SageMaker gateway: {url}, API on port {running.port}, metrics on {running.metrics_port}",
            flush=True,
        )
        await stop.wait()
        await drained(running.adapter, config)


@asynccontextmanager
async def listening(
    config: AdapterConfig,
    url: str,
    credentials: Credentials,
    log: Callable[[str], None] | None = None,
    storage: Storage | None = None,
    masking: Masking | None = None,
) -> AsyncGenerator[Running]:
    """An adapter that listens while the context lasts.

    Args:
        config: What is served; a port of 0 is one that is free.
        url: Where the SageMaker runtime API is.
        credentials: Whose calls they are.
        log: Takes the access log; standard output without it.
        storage: Where captured records go; there is one where `config` has a capture.
        masking: Masks them; a process of its own without it.
    """
    async with http_session(
        connections=config.max_requests, connect_timeout_s=config.connect_timeout_s
    ) as http:
        endpoints = Endpoints(
            http=http,
            url=url.rstrip("/"),
            region=config.region,
            credentials=credentials,
            retry_after_s=config.retry_after_s,
            cold_retry_after_s=config.cold_retry_after_s,
        )
        metrics = Metrics()
        capture = None
        if config.capture is not None and storage is not None:
            capture = Capture(
                config.capture,
                masking or MaskerProcess(config.capture, time.monotonic),
                storage,
                metrics.registry,
                log=_complain,
                now=lambda: datetime.now(UTC),
            )
            capture.start()
        adapter = Adapter(config, endpoints, metrics=metrics, capture=capture, log=log or _print_line)
        # Without cancellation a client that left would keep its stream, and the GPU, until its end.
        api = web.AppRunner(
            adapter.application(), handler_cancellation=True, access_log=None, shutdown_timeout=1.0
        )
        shown = web.AppRunner(_metrics_application(adapter), access_log=None, shutdown_timeout=1.0)
        reporting = asyncio.create_task(_report(adapter))
        try:
            yield Running(
                adapter,
                await _listen(api, config.listen_host, config.listen_port),
                await _listen(shown, config.metrics_host, config.metrics_port),
            )
        finally:
            await api.cleanup()
            if capture is not None:
                await capture.end()
            reporting.cancel()
            adapter.report()
            await shown.cleanup()


async def drained(adapter: Adapter, config: AdapterConfig) -> None:
    """Lets an adapter end: first nobody new is to come, then nobody may, then what still runs is cut.

    Args:
        adapter: The adapter.
        config: How long each of that takes.
    """
    adapter.begin_drain()
    await asyncio.sleep(config.drain_notice_s)
    adapter.admission.close()
    if not await adapter.admission.idle(config.drain_s):
        adapter.cut()
        await adapter.admission.idle(_LAST_WORDS_S)


async def _listen(runner: web.AppRunner, host: str, port: int) -> int:
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return int(runner.addresses[0][1])


async def _report(adapter: Adapter) -> None:
    while True:
        await asyncio.sleep(_REPORT_S)
        adapter.report()


def _metrics_application(adapter: Adapter) -> web.Application:
    async def show(_request: web.Request) -> web.Response:
        return web.Response(
            body=adapter.metrics.text(), headers={"content-type": "text/plain; version=0.0.4"}
        )

    application = web.Application()
    application.router.add_get("/metrics", show)
    return application


def _complain(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print_line(line: str) -> None:
    print(line, flush=True)
