"""What a client asks for: its body read, judged by the token guard, and written as the container gets it.

Of a body only what decides becomes Python's objects. All else stays the bytes that came, checked to be JSON:
as objects it would take many times those bytes, and time in which the adapter does nothing else.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from runtime.sagemaker_gateway.config import SageMakerModel
from runtime.sagemaker_gateway.refusal import Refusal
from runtime.sagemaker_gateway.token_guard import LEAST_TOKENS

CHAT_PATH = "/v1/chat/completions"
COMPLETIONS_PATH = "/v1/completions"

# The API's own default for completions; for chats it has none, and the container goes to the context's end.
_COMPLETIONS_DEFAULT = 16
_LIMIT_KEYS = ("max_tokens", "max_completion_tokens")
# A model that has become so slow is not fast again in a second.
_SLOW_RETRY_AFTER_S = 60

Fields = Mapping[str, msgspec.Raw]
"""A body: its keys, each with the JSON that came for it."""

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_FLAG = msgspec.json.Decoder(bool | None)
_WHOLE = msgspec.json.Decoder(int | None)
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
# Texts, or lists of token ids; one list of those is one prompt.
_SEVERAL = re.compile(rb'\[\s*["\[]')


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """Longest answers that end in time, in tokens.

    Attributes:
        plain: Of an answer that comes as a whole.
        stream: Of a streamed one.
    """

    plain: int
    stream: int


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A request that may go to the endpoint.

    Attributes:
        model: Where it goes.
        stream: Whether the answer is streamed.
        choices: How many answers are made at the same time.
        tokens: The most tokens that the answer may have.
        cap: The `max_tokens` that the request did not have and gets; None where it has its own.
    """

    model: SageMakerModel
    stream: bool
    choices: int
    tokens: int
    cap: int | None


def read_fields(raw: bytes) -> Fields:
    """Reads a request's body.

    Raises:
        Refusal: It is no JSON object.
    """
    try:
        return _FIELDS.decode(raw)
    except msgspec.ValidationError:
        raise Refusal(400, "invalid_json", "The body must be a JSON object.") from None
    except _UNREADABLE:
        raise Refusal(400, "invalid_json", "The body must be valid JSON.") from None


def model_of(fields: Fields, models: Mapping[str, SageMakerModel]) -> SageMakerModel:
    """The model that a request names.

    Raises:
        Refusal: It names none, or one that is not served.
    """
    try:
        name = _TEXT.decode(fields["model"])
    except (KeyError, *_UNREADABLE):
        raise Refusal(
            400, "invalid_model", "The body must be a JSON object with a string 'model'.", param="model"
        ) from None
    if name not in models:
        raise unknown_model(name, models)
    return models[name]


def unknown_model(name: str, models: Mapping[str, SageMakerModel]) -> Refusal:
    """The refusal of a name that is not served."""
    return Refusal(
        404,
        "model_not_found",
        f"The model '{name[:200]}' does not exist. This gateway serves: {', '.join(sorted(models))}.",
        param="model",
    )


def judged(path: str, fields: Fields, model: SageMakerModel, allowance: Allowance) -> Wanted:
    """Judges a request whose model is known.

    Args:
        path: `CHAT_PATH` or `COMPLETIONS_PATH`.
        fields: The body.
        model: The model that it names.
        allowance: What can end in time.

    Raises:
        Refusal: It cannot end in time, or a field that decides that is not what the API says.
    """
    needed = "messages" if path == CHAT_PATH else "prompt"
    if needed not in fields:
        raise _bad(f"The body must have '{needed}'.", needed)
    try:
        stream = "stream" in fields and _FLAG.decode(fields["stream"])
    except _UNREADABLE:
        raise _bad("'stream' must be true or false.", "stream") from None
    if stream and not model.streams:
        raise Refusal(
            400,
            "stream_not_supported",
            f"The model '{model.name}' answers as a whole, because several containers work on its answer. "
            "Leave 'stream' out.",
            param="stream",
        )
    allowed = allowance.stream if stream else allowance.plain
    asked = {key: value for key in _LIMIT_KEYS if (value := _whole(fields, key, 0)) is not None}
    if allowed < LEAST_TOKENS and max(asked.values(), default=LEAST_TOKENS) > allowed:
        raise _too_slow(allowance, stream=bool(stream), can_stream=model.streams)
    for key, value in asked.items():
        if value > allowed:
            raise _too_long(key, value, allowance, stream=bool(stream), can_stream=model.streams)
    default = _COMPLETIONS_DEFAULT if path == COMPLETIONS_PATH else allowed
    # A completion's default is the API's, and what is let through at all has room for it.
    cap = None if asked or path == COMPLETIONS_PATH else allowed
    return Wanted(
        model=model,
        stream=bool(stream),
        choices=max(1, _whole(fields, "n", 1) or 1) * _prompts(path, fields),
        tokens=max(asked.values(), default=default),
        cap=cap,
    )


def body_of(fields: Fields, wanted: Wanted, *, capped: bool = True) -> bytes:
    """The bytes for the container.

    Args:
        fields: The body as it came.
        wanted: How it was judged.
        capped: Whether the cap is in them.
    """
    sent: dict[str, object] = {**fields, "model": wanted.model.container_model or wanted.model.name}
    if capped and wanted.cap is not None:
        sent["max_tokens"] = wanted.cap
    return msgspec.json.encode(sent)


def _too_long(key: str, value: int, allowance: Allowance, *, stream: bool, can_stream: bool) -> Refusal:
    allowed = allowance.stream if stream else allowance.plain
    way = "A streamed answer" if stream else "An answer that is not streamed"
    return Refusal(
        400,
        "max_tokens_exceeds_time_limit",
        f"'{key}' is {value}, and at the measured speed so long an answer does not end within SageMaker's "
        f"time limit. {way} of this model can have {allowed} tokens now."
        + _if_streamed(allowance, stream=stream, can_stream=can_stream),
        param=key,
    )


def _too_slow(allowance: Allowance, *, stream: bool, can_stream: bool) -> Refusal:
    return Refusal(
        503,
        "model_too_slow",
        f"The model is so slow now that not even an answer of {LEAST_TOKENS} tokens ends within SageMaker's "
        "time limit. Try again after the seconds that Retry-After says."
        + _if_streamed(allowance, stream=stream, can_stream=can_stream),
        retry_after_s=_SLOW_RETRY_AFTER_S,
    )


def _if_streamed(allowance: Allowance, *, stream: bool, can_stream: bool) -> str:
    if stream or not can_stream or allowance.stream <= max(allowance.plain, LEAST_TOKENS):
        return ""
    return f" With 'stream': true it could have {allowance.stream}."


def _whole(fields: Fields, key: str, least: int) -> int | None:
    # vLLM reads "3000" and 3000.0 as 3000; what the guard cannot read alike must not pass it.
    try:
        value = _WHOLE.decode(fields[key]) if key in fields else None
    except _UNREADABLE:
        value = least - 1
    if value is not None and value < least:
        raise _bad(f"'{key}' must be a whole number, {least} or more.", key)
    return value


def _prompts(path: str, fields: Fields) -> int:
    """How many prompts one request for completions holds."""
    if path != COMPLETIONS_PATH or not _SEVERAL.match(memoryview(fields["prompt"])):
        return 1
    return len(_LIST.decode(fields["prompt"]))


def _bad(message: str, param: str) -> Refusal:
    return Refusal(400, "bad_request", message, param=param)
