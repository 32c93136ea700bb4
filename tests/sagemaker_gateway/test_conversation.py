"""What of a request and an answer is kept, and streams that are put together again."""

import json
from typing import Any

import pytest

from runtime.sagemaker_gateway.capture.conversation import (
    TOKEN_IDS,
    UnreadableError,
    kept_answer,
    kept_request,
)

from .running import DONE, delta, usage


def event(**choice: Any) -> bytes:
    chunk = {
        "id": "c",
        "object": "chat.completion.chunk",
        "model": "tiny",
        "choices": [{"index": 0, **choice}],
    }
    return f"data: {json.dumps(chunk)}\n\n".encode()


def call(index: int, arguments: str, **more: Any) -> dict[str, Any]:
    name = {"name": more.pop("name")} if "name" in more else {}
    return {"index": index, **more, "function": {**name, "arguments": arguments}}


def test_a_stream_becomes_the_answer_that_it_would_have_been_as_a_whole() -> None:
    events = [
        event(delta={"role": "assistant", "content": ""}),
        event(delta={"reasoning_content": "Let me "}),
        event(delta={"reasoning_content": "see."}),
        event(delta={"content": "Grüße, "}),
        event(delta={"content": "Anna"}, logprobs=None),
        event(delta={"content": "."}, finish_reason="stop"),
        usage(7),
        DONE,
    ]
    assert kept_answer(b"".join(events), streamed=True) == {
        "id": "c",
        "object": "chat.completion",
        "model": "tiny",
        "usage": {"completion_tokens": 7},
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "reasoning_content": "Let me see.",
                    "content": "Grüße, Anna.",
                },
                "finish_reason": "stop",
            }
        ],
    }


def test_tool_calls_that_come_in_pieces_are_whole() -> None:
    events = [
        event(delta={"tool_calls": [call(0, "", id="a", type="function", name="dial")]}),
        event(delta={"tool_calls": [call(1, '{"x"', id="b", type="function", name="note")]}),
        event(delta={"tool_calls": [call(0, '{"number": "+49 30'), call(1, ": 1}")]}),
        event(delta={"tool_calls": [call(0, ' 901820"}')]}, finish_reason="tool_calls"),
        DONE,
    ]
    [choice] = kept_answer(b"".join(events), streamed=True)["choices"]
    assert choice["message"]["tool_calls"] == [
        {
            "id": "a",
            "type": "function",
            "function": {"arguments": '{"number": "+49 30 901820"}', "name": "dial"},
        },
        {"id": "b", "type": "function", "function": {"arguments": '{"x": 1}', "name": "note"}},
    ]


def test_choices_that_come_mixed_are_apart_and_completions_have_texts() -> None:
    parts = [(1, "b1"), (0, "a1"), (1, "b2"), (0, "a2")]
    lines = b"".join(
        json.dumps({"choices": [{"index": index, "text": text}]}).encode() + b"\n" for index, text in parts
    )
    assert kept_answer(lines, streamed=True)["choices"] == [
        {"index": 0, "text": "a1a2"},
        {"index": 1, "text": "b1b2"},
    ]


def test_trap_log_probabilities_would_be_the_answer_token_by_token_and_are_not_kept() -> None:
    logprobs = {"content": [{"token": "41", "bytes": [52, 49]}, {"token": "11", "bytes": [49, 49]}]}
    whole = {
        "choices": [{"index": 0, "message": {"content": "4111"}, "logprobs": logprobs, "token_ids": [1, 2]}]
    }
    kept = kept_answer(
        json.dumps({**whole, "prompt_token_ids": [1], "prompt_logprobs": []}).encode(), streamed=False
    )
    assert kept == {"choices": [{"index": 0, "message": {"content": "4111"}}]}
    streamed = kept_answer(event(delta={"content": "x"}, logprobs=logprobs, token_ids=[1]), streamed=True)
    assert streamed["choices"] == [{"index": 0, "message": {"content": "x"}}]


@pytest.mark.parametrize("prompt", [[1, 2, 3], [[1, 2], [3]], ["text", [1]], 5])
def test_trap_a_prompt_of_token_ids_is_a_text_that_nothing_could_mask(prompt: object) -> None:
    kept = kept_request(json.dumps({"model": "tiny", "prompt": prompt}).encode())
    assert kept == {"model": "tiny", "prompt": TOKEN_IDS}


@pytest.mark.parametrize("prompt", ["text", ["one", "two"]])
def test_prompts_of_text_are_kept(prompt: object) -> None:
    assert kept_request(json.dumps({"prompt": prompt}).encode()) == {"prompt": prompt}


def test_trap_fields_that_nobody_knows_are_not_kept() -> None:
    body: dict[str, object] = {
        "model": "tiny",
        "messages": [],
        "user": "anna",
        "metadata": {"name": "Anna"},
        "new_field": "Anna",
    }
    assert kept_request(json.dumps(body).encode()) == {"model": "tiny", "messages": []}


@pytest.mark.parametrize("raw", [b"", b"no JSON", b"[]", b'{"choices": 1}', b'{"choices": [1]}', b"{}"])
def test_what_is_no_answer_is_said_without_a_word_of_it(raw: bytes) -> None:
    with pytest.raises(UnreadableError) as raised:
        kept_answer(raw, streamed=False)
    assert 'no JSON"' not in str(raised.value)
    assert len(str(raised.value)) < 30


def test_a_stream_of_deltas_that_were_cut_apart_in_a_character_is_whole_again() -> None:
    assert kept_answer(delta("世界 🎉") + DONE, streamed=True)["choices"][0]["message"] == {
        "content": "世界 🎉"
    }
