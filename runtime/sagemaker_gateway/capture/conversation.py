"""What of a request and its answer is kept: named fields alone, streams put together again.

By name, because what is not known could be the text in another form: token ids, the log probabilities of
single tokens, or a client's own notes on its user.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

TOKEN_IDS = "<TOKEN_IDS>"  # noqa: S105 - no secret
"""What stands for a prompt of token ids, which every tokenizer turns into its text."""

_REQUEST = (
    *(
        "model",
        "messages",
        "prompt",
        "tools",
        "tool_choice",
        "response_format",
        "stream",
        "n",
        "stop",
        "seed",
    ),
    *("max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "presence_penalty"),
    *("frequency_penalty", "repetition_penalty"),
)
_ANSWER = ("id", "object", "created", "model", "usage")
_CHOICE = ("index", "finish_reason", "text")
_TEXTS = ("content", "reasoning_content", "reasoning", "refusal")


class UnreadableError(Exception):
    """A request or an answer that is not what the API says. The message holds nothing of it."""


def kept_request(raw: bytes) -> dict[str, Any]:
    """The fields of a request that are kept.

    Raises:
        UnreadableError: It is no JSON object.
    """
    fields = _object(raw)
    kept = {key: fields[key] for key in _REQUEST if key in fields}
    if "prompt" in kept and not _is_text(kept["prompt"]):
        kept["prompt"] = TOKEN_IDS
    return kept


def kept_answer(raw: bytes, *, streamed: bool) -> dict[str, Any]:
    """The fields of an answer that are kept; a streamed one looks like one that came as a whole.

    Args:
        raw: The body, or the events of the stream.
        streamed: Whether it is events.

    Raises:
        UnreadableError: It is no answer.
    """
    try:
        return _joined(raw) if streamed else _whole(_object(raw))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UnreadableError(type(error).__name__) from None


def _whole(answer: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: answer[key] for key in _ANSWER if key in answer}
    return {**kept, "choices": [_kept_choice(choice) for choice in answer["choices"]]}


def _kept_choice(choice: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: choice[key] for key in _CHOICE if key in choice}
    if message := choice.get("message"):
        kept["message"] = {
            key: message[key] for key in ("role", *_TEXTS, "tool_calls") if message.get(key) is not None
        }
    return kept


def _joined(raw: bytes) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in _chunks(raw):
        answer |= {key: chunk[key] for key in _ANSWER if chunk.get(key) is not None}
        for part in chunk.get("choices", ()):
            _extend(choices.setdefault(part["index"], {"index": part["index"]}), part)
    if "object" in answer:
        answer["object"] = str(answer["object"]).removesuffix(".chunk")
    for choice in choices.values():
        if calls := choice.get("message", {}).get("tool_calls"):
            choice["message"]["tool_calls"] = [calls[index] for index in sorted(calls)]
    return {**answer, "choices": [choices[index] for index in sorted(choices)]}


def _extend(choice: dict[str, Any], part: Mapping[str, Any]) -> None:
    if part.get("finish_reason") is not None:
        choice["finish_reason"] = part["finish_reason"]
    if "text" in part:
        choice["text"] = choice.get("text", "") + part["text"]
    if (delta := part.get("delta")) is None:
        return
    message = choice.setdefault("message", {})
    if delta.get("role"):
        message["role"] = delta["role"]
    for key in _TEXTS:
        if delta.get(key):
            message[key] = message.get(key, "") + delta[key]
    for call in delta.get("tool_calls") or ():
        _extend_call(message.setdefault("tool_calls", {}).setdefault(call["index"], {}), call)


def _extend_call(known: dict[str, Any], call: Mapping[str, Any]) -> None:
    known |= {key: call[key] for key in ("id", "type") if call.get(key)}
    function: dict[str, str] = known.setdefault("function", {"arguments": ""})
    part: Mapping[str, str] = call.get("function") or {}
    if part.get("name"):
        function["name"] = part["name"]
    function["arguments"] += part.get("arguments") or ""


def _chunks(raw: bytes) -> Iterator[dict[str, Any]]:
    """The chunks of a stream: data of events, or lines of JSON, as containers send either."""
    for line in raw.splitlines():
        data = line.removeprefix(b"data:").strip()
        if data.startswith(b"{"):
            yield _object(data)


def _object(raw: bytes) -> dict[str, Any]:
    try:
        read: object = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(type(error).__name__) from None
    if not isinstance(read, dict):
        raise UnreadableError("no JSON object")
    return cast("dict[str, Any]", read)


def _is_text(prompt: object) -> bool:
    if isinstance(prompt, list):
        return all(isinstance(one, str) for one in cast("list[object]", prompt))
    return isinstance(prompt, str)
