"""Sizes and times that SageMaker does not exceed, and what a request gets that would."""

import asyncio
import json
from typing import Any

import pytest

from rehearsal.sagemaker_runtime import Fault
from runtime.sagemaker_gateway import SageMakerModel, adapter

from .running import DONE, Engine, Way, chat, delta, error_in, in_loop, running_way, usage

# 450 s after the first token at 3,000 / 450 tokens a second, and 30 s of a minute at the same speed.
_STREAM, _PLAIN = 3000, 200


@pytest.mark.parametrize("key", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize(("stream", "allowed"), [(True, _STREAM), (False, _PLAIN)])
def test_a_request_that_cannot_end_in_time_is_told_the_number_it_could_have(
    stream: bool, allowed: int, key: str
) -> None:
    @in_loop
    async def case() -> None:
        async with running_way() as way:
            number: dict[str, Any] = {key: allowed + 1}
            refused = await way.ask(stream=stream, **number)
            assert (refused.status, refused.error["code"]) == (400, "max_tokens_exceeds_time_limit")
            assert refused.error["param"] == key
            assert f"can have {allowed} tokens" in refused.error["message"]
            assert (f"could have {_STREAM}" in refused.error["message"]) == (not stream)
            assert way.engine.received == []
            number[key] = allowed
            assert (await way.ask(stream=stream, **number)).status == 200
            assert way.engine.received[0][key] == allowed

    case()


@pytest.mark.parametrize(("stream", "allowed"), [(True, _STREAM), (False, _PLAIN)])
def test_a_request_without_a_number_gets_it_and_is_told(stream: bool, allowed: int) -> None:
    @in_loop
    async def case() -> None:
        async with running_way() as way:
            answer = await way.ask(stream=stream)
            assert answer.headers["x-spillway-max-tokens"] == str(allowed)
            assert way.engine.received[0]["max_tokens"] == allowed

    case()


@in_loop
async def test_a_stream_of_a_pipeline_is_refused_in_words_and_not_offered() -> None:
    whole = SageMakerModel(name="tiny", endpoint="chat-endpoint", streams=False)
    async with running_way(models=(whole,)) as way:
        refused = await way.ask(stream=True)
        assert (refused.status, refused.error["code"]) == (400, "stream_not_supported")
        assert "Leave 'stream' out." in refused.error["message"]
        too_long = await way.ask(max_tokens=_PLAIN + 1)
        assert "could have" not in too_long.error["message"]
        assert way.engine.received == []
        assert (await way.ask(max_tokens=_PLAIN)).status == 200


@in_loop
async def test_a_request_with_a_number_is_told_none() -> None:
    async with running_way() as way:
        assert "x-spillway-max-tokens" not in (await way.ask(max_tokens=5)).headers


@in_loop
async def test_a_cap_that_the_context_has_no_room_for_is_left_out() -> None:
    # A container that refuses the cap has less room than that, so the answer ends in time without it.
    async with running_way(Engine(refuse_caps_above=100)) as way:
        answer = await way.ask(stream=True)
        assert answer.events == way.engine.events
        assert "x-spillway-max-tokens" not in answer.headers
        assert [body.get("max_tokens") for body in way.engine.received] == [_STREAM, None]


@in_loop
async def test_a_number_of_the_clients_own_is_not_left_out() -> None:
    async with running_way(Engine(refuse_caps_above=100)) as way:
        answer = await way.ask(stream=True, max_tokens=200)
        assert (answer.status, answer.error["param"]) == (400, "max_tokens")
        assert len(way.engine.received) == 1


@in_loop
async def test_a_completion_keeps_the_default_of_its_api() -> None:
    async with running_way() as way:
        answer = await way.ask("/v1/completions", messages=None, prompt="Hello", stream=True)
        assert "x-spillway-max-tokens" not in answer.headers
        assert "max_tokens" not in way.engine.received[0]


@pytest.mark.parametrize("number", [None, 16])
def test_a_model_too_slow_for_any_answer_is_told_as_such_and_not_as_a_mistake(number: int | None) -> None:
    @in_loop
    async def case() -> None:
        slow = SageMakerModel(name="tiny", endpoint="chat-endpoint", safe_tokens=100)
        async with running_way(models=(slow,)) as way:
            refused = await way.ask(max_tokens=number)
            assert (refused.status, refused.error["code"]) == (503, "model_too_slow")
            assert refused.headers["Retry-After"] == "60"
            assert "With 'stream': true it could have 100." in refused.error["message"]
            assert way.engine.received == []
            assert (await way.ask(max_tokens=6)).status == 200
            assert (await way.ask(stream=True)).headers["x-spillway-max-tokens"] == "100"

    case()


@pytest.mark.parametrize("value", ["9999", 9999.0, True, -1, [5]])
def test_a_number_that_a_container_may_read_otherwise_does_not_pass_the_guard(value: Any) -> None:
    @in_loop
    async def case() -> None:
        async with running_way() as way:
            answer = await way.ask(stream=True, max_tokens=value)
            assert (answer.status, answer.error["param"]) == (400, "max_tokens")
            assert way.engine.received == []

    case()


@in_loop
async def test_a_number_that_is_there_twice_counts_as_the_container_reads_it() -> None:
    async with running_way() as way:
        body = json.dumps(chat(max_tokens=9999))[:-1] + ', "max_tokens": 7}'
        async with way.client.post("/v1/chat/completions", data=body) as answer:
            assert answer.status == 200
        assert way.engine.received[0]["max_tokens"] == 7


@in_loop
async def test_the_guard_follows_what_it_measures() -> None:
    # Events without a pause are faster than any model: the number goes up a little with each answer.
    engine = Engine(events=[delta("x")] * 40 + [DONE])
    async with running_way(engine) as way:
        first = int((await way.ask(stream=True)).headers["x-spillway-max-tokens"])
        second = int((await way.ask(stream=True)).headers["x-spillway-max-tokens"])
        assert second > first
        assert (await way.logged())["tokens"] == 40


@in_loop
async def test_a_usage_event_counts_more_than_the_number_of_events() -> None:
    async with running_way(Engine(events=[delta("several tokens"), usage(123), DONE])) as way:
        await way.ask(stream=True)
        assert (await way.logged())["tokens"] == 123


# A minute scaled down to a tenth of a second, and a model that has 200 tokens in it all the same.
_SOON = 0.1
_FAST = SageMakerModel(name="tiny", endpoint="chat-endpoint", safe_tokens=1_800_000)


@in_loop
async def test_answers_that_ran_into_the_limit_together_halve_what_is_let_through() -> None:
    async with running_way(Engine(pause_s=10), (_FAST,), plain_limit_s=_SOON) as way:
        way.double.plain_limit_s = _SOON
        assert {answer.status for answer in await asyncio.gather(*(way.ask() for _ in range(8)))} == {504}
        way.engine.pause_s = 0
        assert (await way.ask()).headers["x-spillway-max-tokens"] == str(_PLAIN // 2)


@in_loop
async def test_a_stream_that_ran_into_the_limit_teaches_the_speed_that_it_had() -> None:
    # 1,000 tokens a second are known, and 200 come in the half second; a request without any would halve it.
    fast = SageMakerModel(name="tiny", endpoint="chat-endpoint", safe_tokens=400, first_token_s=0.1)
    engine = Engine(events=[delta("x") * 200], gate=asyncio.Event())
    async with running_way(engine, (fast,), stream_limit_s=0.5) as way:
        way.double.stream_limit_s = 0.5
        assert (
            error_in((await way.ask(stream=True)).events[-1].removeprefix(b"data: "))["code"] == "time_limit"
        )
        assert 600 < await shown(way, 'tokens_per_second{model="tiny"}') < 710


@pytest.mark.parametrize("case", ["few tokens", "early", "early stream"])
def test_a_time_limit_that_says_nothing_of_the_speed_changes_nothing(case: str) -> None:
    @in_loop
    async def run() -> None:
        limit = _SOON if case == "few tokens" else 60.0
        async with running_way(Engine(pause_s=10), (_FAST,), plain_limit_s=limit) as way:
            way.double.plain_limit_s = _SOON
            known = await shown(way, 'tokens_per_second{model="tiny"}')
            if case == "early stream":
                way.double.faults.append(Fault("ModelStreamError", code="ModelInvocationTimeExceeded"))
            answer = await way.ask(
                stream=case == "early stream", max_tokens=15 if case == "few tokens" else None
            )
            assert answer.error["code"] == "time_limit"
            assert await shown(way, 'tokens_per_second{model="tiny"}') == known

    run()


@in_loop
async def test_a_client_that_does_not_read_until_the_limit_says_nothing_of_the_speed() -> None:
    fast = SageMakerModel(name="tiny", endpoint="chat-endpoint", first_token_s=0.1)
    big = delta("x" * 65_536)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapter, "_GRACE_S", 0.0)
        async with running_way(Engine(events=[big] * 600), (fast,), stream_limit_s=1.0) as way:
            known = await shown(way, 'tokens_per_second{model="tiny"}')
            async with way.stream(max_tokens=100) as answer:
                await answer.content.readuntil(b"\n\n")
                await asyncio.sleep(1.5)
                answer.close()
            assert (await way.logged())["outcome"] == "time_limit"
            assert await shown(way, 'tokens_per_second{model="tiny"}') == known


async def shown(way: Way, name: str) -> float:
    """A number of the metrics."""
    [line] = [one for one in (await way.metrics()).splitlines() if f"spillway_sagemaker_{name} " in one]
    return float(line.rpartition(" ")[2])


@in_loop
async def test_a_body_of_25_mib_passes_and_one_byte_more_is_told_the_number() -> None:
    limit = 25 * 1024 * 1024
    async with running_way() as way:
        # As the adapter writes it, so that no byte is gained or lost on the way.
        frame = len(json.dumps(chat(max_tokens=5, user=""), separators=(",", ":")))
        body = json.dumps(chat(max_tokens=5, user="x" * (limit - frame)), separators=(",", ":"))
        assert len(body) == limit
        async with way.client.post("/v1/chat/completions", data=body) as answer:
            assert answer.status == 200
        async with way.client.post("/v1/chat/completions", data=body + " ") as answer:
            assert answer.status == 413
            assert "26,214,400 bytes (25 MiB)" in (await answer.json())["error"]["message"]
        assert len(way.engine.received) == 1


@in_loop
async def test_a_body_without_a_length_is_cut_off_at_the_limit_too() -> None:
    async with running_way(max_body_bytes=2048) as way:

        async def chunks() -> Any:
            for _ in range(64):
                yield b"x" * 1024

        async with way.client.post("/v1/chat/completions", data=chunks()) as answer:
            assert answer.status == 413
            assert "2,048 bytes" in (await answer.json())["error"]["message"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"[1]", "invalid_json"),
        (b'{"model": "tiny", "temperature": NaN, "messages": []}', "invalid_json"),
        pytest.param(b"[" * 100_000, "invalid_json", id="nested without end"),
        pytest.param(
            b'{"model": "tiny", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            "invalid_json",
            id="nested too deep",
        ),
        (b'{"model": "tiny", "messages": [1,]}', "invalid_json"),
        (b'{"model": "tiny", "messages": [], "user": 01}', "invalid_json"),
        (b'{"model": "tiny", "messages": []} {}', "invalid_json"),
        (b'{"\xff": 1, "model": "tiny", "messages": []}', "invalid_json"),
        (b'{"model": "\xff", "messages": []}', "invalid_model"),
        (b'{"messages": []}', "invalid_model"),
        (b'{"model": 7, "messages": []}', "invalid_model"),
        (b'{"model": "other", "messages": []}', "model_not_found"),
        (b'{"model": "tiny"}', "bad_request"),
        (b'{"model": "tiny", "messages": [], "stream": "yes"}', "bad_request"),
        (b'{"model": "tiny", "messages": ["\\ud83d"]}', "invalid_json"),
    ],
)
def test_what_is_no_request_is_refused_before_it_costs_anything(body: bytes, code: str) -> None:
    @in_loop
    async def case() -> None:
        async with running_way() as way:
            async with way.client.post("/v1/chat/completions", data=body) as answer:
                assert 400 <= answer.status < 500
                assert (await answer.json())["error"]["code"] == code
            assert way.double.calls == []

    case()
