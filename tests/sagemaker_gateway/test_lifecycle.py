"""Clients that leave or do not read, and an adapter that is told to stop."""

import asyncio
import json
import weakref

import aiohttp
import pytest

from rehearsal.sagemaker_runtime import Fault
from runtime.sagemaker_gateway import SageMakerModel, adapter
from runtime.sagemaker_gateway.admission import Admission
from runtime.sagemaker_gateway.request import read_fields
from runtime.sagemaker_gateway.service import drained

from .running import DONE, Engine, Way, chat, configured, delta, error_in, in_loop, running_way


def _drain(way: Way, **times: float) -> asyncio.Task[None]:
    config = configured(**{"drain_notice_s": 0.0, **times})
    return asyncio.create_task(drained(way.running.adapter, config))


@in_loop
async def test_a_client_that_leaves_ends_its_stream_at_the_engine() -> None:
    async with running_way(Engine(gate=asyncio.Event())) as way:
        async with way.stream() as answer:
            await answer.content.readuntil(b"\n\n")
        while not (way.engine.left and way.double.streams_left):
            await asyncio.sleep(0.001)
        line = await way.logged()
        assert (line["status"], line["outcome"]) == (200, "client_left")
        assert way.running.adapter.admission.requests == 0


@in_loop
async def test_a_client_that_leaves_before_the_first_token_ends_its_request_too() -> None:
    async with running_way(Engine(pause_s=30)) as way:
        asked = asyncio.create_task(way.ask())
        while not way.engine.received:
            await asyncio.sleep(0.001)
        asked.cancel()
        while not way.engine.left:
            await asyncio.sleep(0.001)
        assert (await way.logged())["status"] == 499


@in_loop
async def test_a_client_that_does_not_read_stops_the_engine_and_costs_no_memory() -> None:
    # 32 MB, of which only what fits the sockets' and readers' buffers may have been sent.
    big = delta("x" * 65_536)
    async with running_way(Engine(events=[big] * 500 + [DONE])) as way, way.stream() as answer:
        before = -1
        while before != way.double.sent_bytes:
            before = way.double.sent_bytes
            await asyncio.sleep(0.2)
        assert 0 < way.double.sent_bytes < 20_000_000
        total = 0
        async for chunk in answer.content.iter_any():
            total += len(chunk)
        assert total == 500 * len(big) + len(DONE)


@in_loop
async def test_a_drain_lets_streams_end_and_takes_nothing_new() -> None:
    async with running_way(Engine(gate=asyncio.Event())) as way:
        assert (await way.get("/healthz")).status == 200
        running = asyncio.create_task(way.ask(stream=True))
        while not way.engine.received:
            await asyncio.sleep(0.001)
        draining = _drain(way)
        await asyncio.sleep(0.01)
        assert (await way.get("/healthz")).status == 503
        refused = await way.ask()
        assert (refused.status, refused.error["code"]) == (503, "gateway_stopping")
        assert refused.headers["Retry-After"] == "1"
        assert refused.headers["Connection"] == "close"
        assert not draining.done()
        assert way.engine.gate
        way.engine.gate.set()
        assert (await running).events == way.engine.events
        await draining


@in_loop
async def test_until_envoy_can_have_noticed_a_draining_adapter_still_answers() -> None:
    async with running_way() as way:
        draining = _drain(way, drain_notice_s=1.0)
        await asyncio.sleep(0)
        assert (await way.get("/healthz")).status == 503
        assert (await way.ask(stream=True)).events == way.engine.events
        await draining
        assert (await way.ask()).status == 503


@in_loop
async def test_what_runs_longer_than_the_drain_ends_with_an_error_that_says_so() -> None:
    async with running_way(Engine(gate=asyncio.Event())) as way:
        async with way.stream() as answer:
            assert await answer.content.readuntil(b"\n\n") == delta("Hel")
            await _drain(way, drain_s=0.01)
            last = await answer.content.read()
        assert error_in(last.removeprefix(b"data: "))["code"] == "gateway_stopping"
        while not way.engine.left:
            await asyncio.sleep(0.001)


@in_loop
async def test_a_client_that_does_not_read_the_end_of_its_stream_holds_up_no_drain() -> None:
    big = delta("x" * 65_536)
    models = (SageMakerModel(name="tiny", endpoint="chat-endpoint", first_token_s=0.0),)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapter, "_GRACE_S", 0.0)
        patch.setattr(adapter, "_LAST_WORDS_S", 1.0)
        async with (
            running_way(Engine(events=[big] * 500), stream_limit_s=1.0, models=models) as way,
            way.stream(max_tokens=16),
            asyncio.timeout(10),
        ):
            # Its time is over, and its error cannot be written.
            await asyncio.sleep(1.5)
            await _drain(way, drain_s=0.0)
            assert way.running.adapter.admission.requests == 0
            assert (await way.logged())["outcome"] == "time_limit"


@in_loop
async def test_more_requests_than_it_may_hold_are_told_to_come_back() -> None:
    async with running_way(Engine(gate=asyncio.Event()), max_requests=1) as way:
        running = asyncio.create_task(way.ask(stream=True))
        while not way.engine.received:
            await asyncio.sleep(0.001)
        refused = await way.ask()
        assert (refused.status, refused.error["type"]) == (429, "rate_limit_error")
        assert refused.headers["Retry-After"] == "1"
        assert way.engine.gate
        way.engine.gate.set()
        assert (await running).status == 200
        assert (await way.ask()).status == 200


@in_loop
async def test_more_bytes_than_it_may_hold_are_told_to_come_back() -> None:
    async with running_way(max_held_bytes=2048) as way:
        assert (await way.ask(user="x" * 4096)).status == 429
        assert (await way.ask()).status == 200


@in_loop
async def test_while_an_answer_runs_its_request_is_held_as_bytes_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Fields(dict[str, object]):
        """A dict whose end can be seen."""

    read: list[weakref.ref[Fields]] = []

    def reading(raw: bytes) -> Fields:
        fields = Fields(read_fields(raw))
        read.append(weakref.ref(fields))
        return fields

    monkeypatch.setattr(adapter, "read_fields", reading)
    async with running_way(Engine(gate=asyncio.Event())) as way, way.stream() as answer:
        await answer.content.readuntil(b"\n\n")
        assert [one() for one in read] == [None]


@in_loop
async def test_the_log_and_the_metrics_hold_numbers_and_no_word_of_the_prompt() -> None:
    async with running_way(Engine(events=[delta("answersecret"), DONE])) as way:
        headers = {"x-request-id": "req-1", "x-spillway-client": "alice"}
        body = chat(stream=True, messages=[{"role": "user", "content": "promptsecret"}])
        async with way.client.post("/v1/chat/completions", json=body, headers=headers) as answer:
            await answer.read()
        way.engine.status, way.engine.refusal = 400, {"error": {"message": "bad: promptsecret"}}
        async with way.client.post("/v1/chat/completions", json=body, headers=headers) as answer:
            assert b"promptsecret" in await answer.read()
        await way.logged(2)
        good, bad = way.log
        assert (good["client"], good["request_id"], good["model"]) == ("alice", "req-1", "tiny")
        assert (good["endpoint"], good["variant"], good["tokens"]) == ("chat-endpoint", "stable", 1)
        assert good["first_token_ms"] is not None
        assert (bad["status"], bad["outcome"]) == (400, "model_refused")
        assert "secret" not in json.dumps(way.log)
        shown = await way.metrics()
        assert "secret" not in shown
        labels = 'model="tiny",outcome="ok",status="200",stream="true"'
        assert f"spillway_sagemaker_requests_total{{{labels}}} 1.0" in shown
        assert 'spillway_sagemaker_variant_answers_total{model="tiny",variant="stable"} 1.0' in shown
        assert 'spillway_sagemaker_allowed_tokens{model="tiny",stream="true"}' in shown
        assert "spillway_sagemaker_requests_in_flight 0.0" in shown
        # The request's id is what finds it in SageMaker's data capture.
        assert way.double.calls[0]["x-amzn-sagemaker-inference-id"] == "req-1"


@in_loop
async def test_a_broken_plain_answer_does_not_look_like_a_whole_one() -> None:
    async with running_way() as way:
        way.double.faults.append(Fault(cut=True))
        with pytest.raises(aiohttp.ClientPayloadError):
            await way.ask()
        line = await way.logged()
        assert (line["status"], line["outcome"]) == (200, "stream_broken")


def test_the_busiest_moment_is_told_once() -> None:
    admission = Admission(max_requests=4, max_held_bytes=100, retry_after_s=1)
    with admission.place(1), admission.place(1), admission.place(1):
        pass
    with admission.place(1):
        assert admission.busiest() == 75
        assert admission.busiest() == 25
    assert admission.busiest() == 25
    assert admission.busiest() == 0
