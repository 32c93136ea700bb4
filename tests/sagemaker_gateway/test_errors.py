"""What goes wrong at AWS or in the container, and what the client is told: an honest status, or an event."""

import asyncio

import pytest
from aiohttp import web
from openai import APIError, AsyncOpenAI, RateLimitError

from rehearsal.sagemaker_runtime import Fault
from runtime.sagemaker_gateway import SageMakerModel, adapter

from .running import DONE, Engine, delta, error_in, in_loop, running_way


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("kind", "aws_status", "status", "code", "retry_after"),
    [
        ("ThrottlingException", 400, 429, "rate_limit_exceeded", "1"),
        ("ModelNotReadyException", 429, 503, "model_not_ready", "30"),
        ("ServiceUnavailable", 503, 503, "service_unavailable", "1"),
        ("InternalFailure", 500, 502, "endpoint_failed", None),
        ("InternalDependencyException", 530, 502, "endpoint_failed", None),
        ("ValidationError", 400, 502, "endpoint_refused", None),
        ("AccessDeniedException", 403, 502, "gateway_not_allowed", None),
        ("ExpiredTokenException", 403, 502, "gateway_not_allowed", None),
    ],
)
def test_an_error_of_aws_becomes_a_status_that_is_true(
    stream: bool, kind: str, aws_status: int, status: int, code: str, retry_after: str | None
) -> None:
    @in_loop
    async def case() -> None:
        async with running_way() as way:
            way.double.faults.append(Fault(kind, aws_status))
            answer = await way.ask(stream=stream)
            assert (answer.status, answer.error["code"]) == (status, code)
            assert answer.headers.get("Retry-After") == retry_after
            assert (await way.logged())["detail"] == f"{aws_status} {kind}: scripted"

    case()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("container", "status", "code"),
    [
        (400, 400, "model_refused"),
        (404, 404, "model_refused"),
        (429, 429, "model_full"),
        (408, 504, "time_limit"),
        (503, 503, "model_full"),
        (500, 502, "model_failed"),
    ],
)
def test_an_error_of_the_container_keeps_its_meaning(
    stream: bool, container: int, status: int, code: str
) -> None:
    @in_loop
    async def case() -> None:
        engine = Engine(status=container, refusal={"error": {"message": "no such field", "param": "foo"}})
        async with running_way(engine) as way:
            answer = await way.ask(stream=stream, max_tokens=5)
            assert (answer.status, answer.error["code"]) == (status, code)
            if code == "model_refused":
                assert (answer.error["message"], answer.error["param"]) == ("no such field", "foo")
            if code == "model_full":
                assert answer.headers["Retry-After"] == "1"

    case()


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Fault("ModelStreamError", code="StreamBroken"), 502, "stream_failed"),
        (Fault("ModelStreamError", code="ModelInvocationTimeExceeded"), 504, "time_limit"),
        (Fault("InternalStreamFailure"), 502, "stream_failed"),
        (Fault(cut=True), 502, "stream_broken"),
        (Fault(flipped=True), 502, "stream_broken"),
    ],
)
def test_a_stream_that_fails_before_its_first_event_has_a_status(
    fault: Fault, status: int, code: str
) -> None:
    @in_loop
    async def case() -> None:
        async with running_way() as way:
            way.double.faults.append(fault)
            answer = await way.ask(stream=True)
            assert (answer.status, answer.error["code"]) == (status, code)

    case()


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault("ModelStreamError", code="StreamBroken", after_parts=1), "stream_failed"),
        (Fault("ModelStreamError", code="ModelInvocationTimeExceeded", after_parts=1), "time_limit"),
        (Fault("InternalStreamFailure", after_parts=1), "stream_failed"),
        (Fault(cut=True, after_parts=1), "stream_broken"),
        (Fault(flipped=True, after_parts=1), "stream_broken"),
    ],
)
def test_a_stream_that_fails_later_ends_with_an_event_that_says_why(fault: Fault, code: str) -> None:
    @in_loop
    async def case() -> None:
        async with running_way(Engine(gate=asyncio.Event())) as way:
            way.double.faults.append(fault)
            answer = await way.ask(stream=True)
            first, last = answer.events
            assert (answer.status, first) == (200, delta("Hel"))
            assert error_in(last.removeprefix(b"data: "))["code"] == code
            line = await way.logged()
            assert (line["status"], line["outcome"], line["tokens"]) == (200, code, 1)

    case()


@in_loop
async def test_an_engine_that_dies_in_a_stream_is_told_as_such() -> None:
    async with running_way(Engine(events=[delta("Hel")], breaks=True)) as way:
        first, last = (await way.ask(stream=True)).events
        assert first == delta("Hel")
        assert error_in(last.removeprefix(b"data: "))["code"] == "stream_failed"


@in_loop
async def test_a_stream_without_its_end_is_not_taken_for_a_whole_one() -> None:
    async with running_way(Engine(events=[delta("Hel")])) as way:
        *_, last = (await way.ask(stream=True)).events
        assert error_in(last.removeprefix(b"data: "))["code"] == "stream_broken"


@in_loop
async def test_an_error_that_a_container_sends_as_its_first_event_has_its_status() -> None:
    said = b'data: {"error": {"message": "no lora", "type": "NotFoundError", "param": null, "code": 404}}\n\n'
    async with running_way(Engine(events=[said, DONE])) as way:
        answer = await way.ask(stream=True)
        assert (answer.status, answer.error["message"]) == (404, "no lora")


_DEAD = b'data: {"error": {"message": "Engine is dead", "type": "InternalServerError", "code": 500}}\n\n'


@pytest.mark.parametrize("end", [[DONE], []])
def test_an_error_that_a_container_sends_later_reaches_the_client_and_is_no_whole_answer(
    end: list[bytes],
) -> None:
    @in_loop
    async def case() -> None:
        engine = Engine(events=[delta("x")] * 40 + [_DEAD, *end])
        async with running_way(engine) as way:
            known = [line for line in (await way.metrics()).splitlines() if "tokens_per_second{" in line]
            answer = await way.ask(stream=True)
            assert answer.events == engine.events
            line = await way.logged()
            assert (line["status"], line["outcome"]) == (200, "model_failed")
            assert line["detail"] == "the container said InternalServerError in its stream"
            assert known[0] in await way.metrics()

    case()


@in_loop
async def test_comments_are_no_first_event_so_an_error_behind_them_has_its_status() -> None:
    async with running_way(Engine(events=[b": ping\n\n", _DEAD, DONE])) as way:
        assert (await way.ask(stream=True)).status == 500
        way.engine.events = [b": ping\n\n", delta("x"), b": ping\n\n", DONE]
        assert (await way.ask(stream=True)).events == way.engine.events[1:]
        assert (await way.logged(2))["tokens"] == 1


@in_loop
async def test_an_answer_about_errors_is_none() -> None:
    words = b'data: {"error": "is a word", "choices": [{"delta": {"content": "x"}}]}\n\n'
    async with running_way(Engine(events=[words, delta('"error"'), DONE])) as way:
        assert (await way.ask(stream=True)).events == way.engine.events
        assert (await way.logged())["outcome"] == "ok"


@pytest.mark.parametrize("where", ["judged", "splitter_for", "refusal_of_event"])
def test_a_mistake_of_the_adapter_itself_is_told_in_openais_shape_too(
    where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said = iter([None])

    def wrong(*_: object) -> None:
        # The first event goes well, so that the answer has begun.
        if where != "refusal_of_event" or next(said, wrong):
            raise LookupError("ours")

    @in_loop
    async def case() -> None:
        async with running_way() as way:
            answer = await way.ask(stream=True)
            if where == "refusal_of_event":
                assert (answer.status, answer.events[0]) == (200, delta("Hel"))
                assert error_in(answer.events[1].removeprefix(b"data: "))["code"] == "gateway_error"
            else:
                assert (answer.status, answer.error["code"]) == (500, "gateway_error")
            assert (await way.logged())["outcome"] == "gateway_error"

    monkeypatch.setattr(adapter, where, wrong)
    case()
    assert "LookupError: ours" in caplog.text


@in_loop
async def test_a_client_that_leaves_while_it_is_told_of_a_failure_does_not_change_what_failed() -> None:
    async with running_way(Engine(gate=asyncio.Event())) as way:
        way.double.faults.append(Fault("InternalStreamFailure", after_parts=1))
        with pytest.MonkeyPatch.context() as patch:
            write = web.StreamResponse.write

            async def left(response: web.StreamResponse, data: bytes) -> None:
                if b"broke off" in data:
                    raise ConnectionResetError
                await write(response, data)

            patch.setattr(web.StreamResponse, "write", left)
            async with way.stream() as answer:
                await answer.content.read()
        line = await way.logged()
        assert (line["status"], line["outcome"]) == (200, "stream_failed")


@in_loop
async def test_a_container_that_takes_too_long_is_told_as_a_time_limit() -> None:
    async with running_way(Engine(pause_s=10)) as way:
        way.double.plain_limit_s = 0.05
        answer = await way.ask()
        assert (answer.status, answer.error["code"]) == (504, "time_limit")


@in_loop
async def test_a_component_without_a_copy_is_told_to_come_back_later() -> None:
    at_zero = SageMakerModel(name="tiny", endpoint="shared", inference_component="at-zero")
    async with running_way(models=(at_zero,)) as way:
        answer = await way.ask(stream=True)
        assert (answer.status, answer.error["code"]) == (503, "model_not_ready")
        assert answer.headers["Retry-After"] == "30"


@in_loop
async def test_an_endpoint_that_cannot_be_reached_is_no_fault_of_the_client() -> None:
    async with running_way(runtime_url="http://127.0.0.1:1") as way:
        answer = await way.ask()
        assert (answer.status, answer.error["code"]) == (502, "endpoint_unreachable")


@in_loop
async def test_openais_own_client_reads_answers_and_raises_errors() -> None:
    engine = Engine(events=[delta("Grüße "), delta("世界"), DONE], pause_s=0.02)
    async with running_way(engine) as way:
        way.double.part_bytes = 9
        url = f"http://127.0.0.1:{way.running.port}/v1"
        async with AsyncOpenAI(base_url=url, api_key="unused", max_retries=0) as client:

            async def ask() -> str:
                said = ""
                async for chunk in await client.chat.completions.create(
                    model="tiny", messages=[{"role": "user", "content": "Hello"}], stream=True
                ):
                    said += chunk.choices[0].delta.content or ""
                return said

            assert await ask() == "Grüße 世界"
            way.double.part_bytes = 0
            way.double.faults.append(Fault("InternalStreamFailure", after_parts=1))
            with pytest.raises(APIError, match="broke off"):
                await ask()
            way.double.faults.append(Fault("ThrottlingException"))
            with pytest.raises(RateLimitError):
                await ask()
            assert [model.id async for model in client.models.list()] == ["tiny"]
