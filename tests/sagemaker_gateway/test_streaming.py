"""What a client gets: whole events, as they come, whatever the payload parts cut through."""

import asyncio

import pytest

from .running import DONE, Engine, delta, in_loop, running_way, usage

_TEXT = [delta("Grüße "), delta("世界 🎉"), delta('a "quoted"\\n line'), usage(7), DONE]


@in_loop
async def test_a_plain_answer_arrives_as_the_container_gave_it() -> None:
    async with running_way() as way:
        answer = await way.ask()
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("application/json")
        assert b'"content": "Hello"' in answer.raw
        assert way.engine.paths == ["/v1/chat/completions"]


@in_loop
async def test_a_streamed_answer_arrives_event_for_event() -> None:
    async with running_way(Engine(events=_TEXT)) as way:
        answer = await way.ask(stream=True)
        assert (answer.status, answer.events) == (200, _TEXT)


@pytest.mark.parametrize("part_bytes", [1, 2, 3, 7, 50])
def test_parts_that_cut_characters_and_lines_give_the_same_events(part_bytes: int) -> None:
    @in_loop
    async def case() -> None:
        async with running_way(Engine(events=_TEXT)) as way:
            way.double.part_bytes = part_bytes
            assert (await way.ask(stream=True)).events == _TEXT

    case()


@in_loop
async def test_several_events_in_one_part_come_apart() -> None:
    async with running_way(Engine(events=[b"".join(_TEXT)])) as way:
        assert (await way.ask(stream=True)).events == _TEXT


@in_loop
async def test_an_event_is_sent_on_before_the_next_one_is_there() -> None:
    gate = asyncio.Event()
    async with running_way(Engine(gate=gate)) as way, way.stream() as answer:
        assert await answer.content.readuntil(b"\n\n") == delta("Hel")
        gate.set()
        assert await answer.content.read() == delta("lo") + DONE


@in_loop
async def test_json_lines_of_a_container_become_events_with_an_end() -> None:
    engine = Engine(content_type="application/jsonlines", events=[b'{"a": 1}\n{"b"', b': "\xc3', b'\xa9"}'])
    async with running_way(engine) as way:
        events = (await way.ask(stream=True)).events
        assert events == [b'data: {"a": 1}\n\n', 'data: {"b": "é"}\n\n'.encode(), DONE]


@pytest.mark.parametrize(
    "end", [b"data:[DONE]\n\n", b"data: [DONE]\n", b"data:[DONE]", b"data: [DONE]\r\n\r\n"]
)
def test_the_end_of_a_stream_may_be_written_in_other_ways(end: bytes) -> None:
    @in_loop
    async def case() -> None:
        async with running_way(Engine(events=[delta("x"), end])) as way:
            assert (await way.ask(stream=True)).events == [delta("x"), DONE]
            line = await way.logged()
            assert (line["outcome"], line["tokens"]) == ("ok", 1)

    case()


@in_loop
async def test_a_completion_goes_the_same_way() -> None:
    async with running_way() as way:
        answer = await way.ask("/v1/completions", messages=None, prompt="Hello", stream=True)
        assert answer.events == way.engine.events
        assert way.engine.paths == ["/v1/completions"]


@in_loop
async def test_sixty_four_streams_run_at_the_same_time_and_none_is_mixed_up() -> None:
    engine = Engine(events=[delta(str(number)) for number in range(20)] + [DONE], gate=asyncio.Event())
    async with running_way(engine) as way:
        way.double.part_bytes = 60
        asked = [asyncio.create_task(way.ask(stream=True)) for _ in range(64)]
        while len(engine.received) < 64:
            await asyncio.sleep(0.001)
        assert engine.gate
        engine.gate.set()
        answers = await asyncio.gather(*asked)
        assert engine.most_at_once == 64
        assert all(answer.events == engine.events for answer in answers)


@in_loop
async def test_a_stream_outlives_the_limit_of_plain_answers() -> None:
    # One minute scaled down to a quarter of a second, and five minutes to five times that.
    engine = Engine(events=[delta("x")] * 25 + [DONE], pause_s=0.05)
    async with running_way(engine, plain_limit_s=0.25) as way:
        way.double.plain_limit_s = 0.25
        answer = await way.ask(stream=True)
        assert answer.events == engine.events
        assert (await way.logged())["duration_ms"] > 1000
