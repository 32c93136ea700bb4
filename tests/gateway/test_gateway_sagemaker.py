"""Envoy in front of the SageMaker adapter: the same keys, errors and streams as in every other scenario."""

import asyncio
import json
import threading
from collections.abc import Iterator

import pytest

from runtime.gateway import ModelRoute, Upstream
from runtime.sagemaker_gateway.config import MAX_BODY_BYTES
from tests.sagemaker_gateway.running import Way, chat, running_way
from tests.support.waiting import wait_until

from .conftest import RunGateway
from .running_gateway import KEYS


@pytest.fixture
def way() -> Iterator[Way]:
    """Engine, double and adapter, in a loop and thread of their own."""
    started: list[Way] = []
    ready, loop, stop = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

    async def run() -> None:
        async with running_way() as running:
            started.append(running)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
    thread.start()
    assert ready.wait(60)
    yield started[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(60)
    loop.close()


def test_the_gateways_keys_and_errors_hold_in_front_of_an_endpoint(way: Way, run_gateway: RunGateway) -> None:
    adapter = Upstream(host="127.0.0.1", port=way.running.port)
    gateway = run_gateway(
        models=(ModelRoute(name="tiny", upstream=adapter),), max_request_bytes=MAX_BODY_BYTES
    )
    path = "/v1/chat/completions"
    assert gateway.request("POST", path, json.dumps(chat()), key=None).error_code == "invalid_api_key"
    assert way.double.calls == []

    streamed = gateway.request("POST", path, json.dumps(chat(stream=True)))
    assert streamed.raw == b"".join(way.engine.events)
    assert streamed.headers["x-spillway-max-tokens"] == "3000"
    # What AWS gets is the adapter's signature; the client's key ends at Envoy.
    assert way.double.calls[0]["authorization"].startswith("AWS4-HMAC-SHA256 ")
    assert KEYS["alice"] not in str(way.double.calls)

    wait_until(lambda: way.log, "the adapter's log")
    assert way.log[0]["client"] == "alice"
    assert way.log[0]["request_id"] == streamed.headers["x-request-id"]
    assert gateway.access_log(streamed.headers["x-request-id"])["upstream_cluster"] == "tiny/onprem"

    refused = gateway.request("POST", path, json.dumps(chat(max_tokens=9999)))
    assert (refused.status, refused.json["error"]["code"]) == (400, "max_tokens_exceeds_time_limit")
