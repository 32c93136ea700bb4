"""A request's body: what of it is read, and that the rest goes on as it came."""

import json
import tracemalloc

import pytest

from runtime.sagemaker_gateway import SageMakerModel
from runtime.sagemaker_gateway.config import MAX_BODY_BYTES
from runtime.sagemaker_gateway.fargate import READING_MIB
from runtime.sagemaker_gateway.refusal import Refusal
from runtime.sagemaker_gateway.request import (
    CHAT_PATH,
    COMPLETIONS_PATH,
    Allowance,
    Wanted,
    body_of,
    judged,
    read_fields,
)

MODEL = SageMakerModel(name="tiny", endpoint="chat-endpoint", container_model="/opt/ml/model")
ALLOWANCE = Allowance(plain=200, stream=3000)


def want(body: bytes, path: str = CHAT_PATH) -> Wanted:
    return judged(path, read_fields(body), MODEL, ALLOWANCE)


def sent(body: bytes, path: str = CHAT_PATH) -> bytes:
    fields = read_fields(body)
    return body_of(fields, judged(path, fields, MODEL, ALLOWANCE))


def long_list(key: str, unit: bytes) -> bytes:
    """A body of a MiB with a list of what is alike."""
    head = f'{{"model": "tiny", "{key}": ['.encode()
    return head + b",".join([unit] * (1024 * 1024 // (len(unit) + 1))) + b"]}"


@pytest.mark.parametrize(
    "value",
    [
        "1.0",
        "1e400",
        "123456789012345678901234567890",
        '"\\u00e9\\/"',
        '"é"',
        '[{"b" : 1, "b": 2}]',
        "[[], {}]",
    ],
)
def test_what_decides_nothing_reaches_the_container_byte_for_byte(value: str) -> None:
    body = f'{{"model": "tiny", "messages": {value}, "max_tokens": 7}}'.encode()
    assert sent(body) == f'{{"model":"/opt/ml/model","messages":{value},"max_tokens":7}}'.encode()


def times_its_size(body: bytes, path: str) -> float:
    """The most memory that reading, judging and writing a body takes, the written one included."""
    tracemalloc.start()
    try:
        assert len(sent(body, path)) < len(body) + 100
        return tracemalloc.get_traced_memory()[1] / len(body)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("key", "unit"),
    [
        ("prompt", b"12345"),
        ("messages", b'{"role": "user", "content": "x"}'),
        ("messages", b"[[]]"),
        ("messages", b"{}"),
    ],
)
def test_token_ids_and_messages_do_not_become_objects(key: str, unit: bytes) -> None:
    path = COMPLETIONS_PATH if key == "prompt" else CHAT_PATH
    times = times_its_size(long_list(key, unit), path)
    assert times < 2.5, "the body that is sent and what it grows from"


@pytest.mark.parametrize(
    "body",
    [
        long_list("prompt", b'""'),
        long_list("prompt", b"[]"),
        b'{"model": "tiny", "prompt": 1, ' + b",".join(b'"%x":1' % key for key in range(100_000)) + b"}",
    ],
    ids=["prompts", "lists of token ids", "keys"],
)
def test_no_body_takes_more_as_objects_than_a_task_has_for_it(body: bytes) -> None:
    assert times_its_size(body, COMPLETIONS_PATH) < READING_MIB * 1024 * 1024 / MAX_BODY_BYTES


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ('"one"', 1),
        ("[1, 2, 3]", 1),
        ("[]", 1),
        ('["one"]', 1),
        ('[ "one", "two, and a half"]', 2),
        ("[[1, 2], [3], []]", 3),
    ],
)
def test_each_prompt_of_a_completion_is_answered_at_the_same_time(prompt: str, prompts: int) -> None:
    body = f'{{"model": "tiny", "prompt": {prompt}, "n": 2}}'.encode()
    assert want(body, COMPLETIONS_PATH).choices == 2 * prompts


@pytest.mark.parametrize(
    "limit",
    [
        '"max\\u005ftokens": 201',
        '"max_tokens": 1, "max_tokens": 201',
        '"max_tokens": 1e3',
        '"max_tokens": 1e400',
    ],
)
def test_no_way_of_writing_a_limit_passes_the_guard(limit: str) -> None:
    with pytest.raises(Refusal) as refused:
        want(f'{{"model": "tiny", "messages": [], {limit}}}'.encode())
    assert refused.value.status == 400


def test_of_a_key_that_is_there_twice_the_one_that_is_judged_is_sent() -> None:
    body = b'{"model": "tiny", "messages": [], "max_tokens": 201, "max_tokens": 1}'
    assert want(body).tokens == 1
    assert sent(body).count(b"max_tokens") == 1
    assert json.loads(sent(body))["max_tokens"] == 1


def test_null_is_as_if_nothing_was_there() -> None:
    wanted = want(b'{"model": "tiny", "messages": [], "max_tokens": null, "stream": null, "n": null}')
    assert (wanted.stream, wanted.choices, wanted.cap) == (False, 1, ALLOWANCE.plain)
