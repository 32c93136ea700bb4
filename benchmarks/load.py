"""A closed loop of N clients against an OpenAI-style server: each sends its next request as one ends.

What it reports has the keys and the meaning of `vllm bench serve --save-result` (vLLM 0.29,
vllm/benchmarks/serve.py), so that the same tools read both. It is stricter in one point: a stream that
ends without `[DONE]` is a failure here, and a success there.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeAlias, cast

import aiohttp

from benchmarks.measures import percentile

_MS = 1000.0

Figures: TypeAlias = "dict[str, object]"


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is sent.

    Attributes:
        url: Base URL of the server, without `/v1`.
        model: Model id.
        concurrency: Requests that are kept under way.
        requests: Measured requests.
        warm_up: Requests before them, sent the same way and not counted.
        input_tokens: Length of each prompt.
        output_tokens: Length of each answer; the end-of-text token does not end it.
        token_ids: Range from which the prompts' tokens are drawn; keep the tokenizer's special ones out.
        seed: Decides the prompts.
        api_key: Bearer token, or None.
        timeout_s: A request that takes longer has failed.
    """

    url: str
    model: str
    concurrency: int
    requests: int
    warm_up: int
    input_tokens: int
    output_tokens: int
    token_ids: range
    seed: int = 0
    api_key: str | None = None
    timeout_s: float = 600.0

    def __post_init__(self) -> None:
        for name in ("concurrency", "requests", "input_tokens", "output_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")

    def prompts(self) -> list[list[int]]:
        """The prompts as token ids, those of the warm-up first; the same for the same seed."""
        drawn = random.Random(self.seed)  # noqa: S311 - reproducible on purpose
        count = self.warm_up + self.requests
        return [drawn.choices(self.token_ids, k=self.input_tokens) for _ in range(count)]


@dataclass
class Exchange:
    """One request and what came back; times in seconds of `time.perf_counter`.

    Attributes:
        started: When it was sent.
        tokens_at: When each event with a choice came; one event may hold several tokens.
        input_tokens: Length of the prompt, as the server counts it.
        output_tokens: Length of the answer, as the server counts it.
        text: The answer.
        error: Why it failed; empty where it did not.
    """

    started: float = 0.0
    tokens_at: list[float] = field(default_factory=list[float])
    input_tokens: int = 0
    output_tokens: int = 0
    text: str = ""
    error: str = ""

    @property
    def ttft(self) -> float:
        """Seconds to the first token; 0 where none came."""
        return self.tokens_at[0] - self.started if self.tokens_at else 0.0

    @property
    def latency(self) -> float:
        """Seconds to the last token; 0 where none came."""
        return self.tokens_at[-1] - self.started if self.tokens_at else 0.0

    @property
    def itls(self) -> list[float]:
        """Seconds between each two events."""
        return [after - before for before, after in zip(self.tokens_at, self.tokens_at[1:], strict=False)]

    @property
    def tpot(self) -> float | None:
        """Seconds per token after the first; None for an answer of one token."""
        return (self.latency - self.ttft) / (self.output_tokens - 1) if self.output_tokens > 1 else None


def run(load: Load) -> Figures:
    """Sends the load and returns the figures; see `figures`."""
    return asyncio.run(_run(load))


async def _run(load: Load) -> Figures:
    prompts = load.prompts()
    headers = {"Authorization": f"Bearer {load.api_key}"} if load.api_key else {}
    timeout = aiohttp.ClientTimeout(total=load.timeout_s)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session:
        await _closed_loop(session, load, prompts[: load.warm_up])
        started = time.perf_counter()
        exchanges = await _closed_loop(session, load, prompts[load.warm_up :])
        duration_s = time.perf_counter() - started
    return figures(load, exchanges, duration_s)


async def _closed_loop(
    session: aiohttp.ClientSession, load: Load, prompts: Sequence[Sequence[int]]
) -> list[Exchange]:
    """Keeps `load.concurrency` requests under way until no prompt is left."""
    exchanges = [Exchange() for _ in prompts]
    waiting = iter(zip(prompts, exchanges, strict=True))

    async def client() -> None:
        # The iterator is shared: whoever is free takes the next prompt.
        for prompt, exchange in waiting:
            await _exchange(session, load, prompt, exchange)

    async with asyncio.TaskGroup() as clients:
        for _ in range(min(load.concurrency, len(prompts))):
            clients.create_task(client())
    return exchanges


async def _exchange(
    session: aiohttp.ClientSession, load: Load, prompt: Sequence[int], exchange: Exchange
) -> None:
    body = {
        "model": load.model,
        "prompt": list(prompt),
        "max_tokens": load.output_tokens,
        "temperature": 0.0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    exchange.started = time.perf_counter()
    try:
        async with session.post(f"{load.url}/v1/completions", json=body) as response:
            if response.status != 200:
                exchange.error = f"{response.status}: {(await response.text())[:500]}"
                return
            await _read(response.content, exchange)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        exchange.error = f"{type(error).__name__}: {error}"


async def _read(content: aiohttp.StreamReader, exchange: Exchange) -> None:
    rest = b""
    texts: list[str] = []
    done = False
    async for chunk in content.iter_any():
        now = time.perf_counter()
        *lines, rest = (rest + chunk).split(b"\n")
        for event in _events(lines):
            if event == b"[DONE]":
                done = True
            else:
                _take(event, now, exchange, texts)
    exchange.text = "".join(texts)
    if not exchange.error and not done:
        exchange.error = f"the stream broke off after {len(exchange.tokens_at)} events"
    if not exchange.error and not exchange.tokens_at:
        exchange.error = "the stream held no token"


def _events(lines: Sequence[bytes]) -> Iterator[bytes]:
    for line in lines:
        if line.startswith(b"data:"):
            yield line.removeprefix(b"data:").strip()


def _take(event: bytes, now: float, exchange: Exchange, texts: list[str]) -> None:
    data = cast("dict[str, object]", json.loads(event))
    if "error" in data:
        exchange.error = f"the stream carries an error: {data['error']}"
    choices = cast("list[dict[str, object]]", data.get("choices") or [])
    usage = cast("dict[str, int]", data.get("usage") or {})
    if choices:
        exchange.tokens_at.append(now)
        texts.append(str(choices[0].get("text") or ""))
    if usage:
        exchange.input_tokens = usage.get("prompt_tokens", 0)
        exchange.output_tokens = usage.get("completion_tokens", 0)


def figures(load: Load, exchanges: Sequence[Exchange], duration_s: float) -> Figures:
    """The figures of a run, under the keys of `vllm bench serve --save-result`.

    Times are in milliseconds where the key says so, else in seconds. A failed request counts in
    `failed`, and its lengths are 0; the percentiles are those of the others.
    """
    good = [exchange for exchange in exchanges if not exchange.error]
    outputs = sum(exchange.output_tokens for exchange in good)
    inputs = sum(exchange.input_tokens for exchange in good)
    most_tokens, most_requests = _busiest_second(good)
    return {
        "date": datetime.now().astimezone().strftime("%Y%m%d-%H%M%S"),
        "endpoint_type": "openai",
        "backend": "openai",
        "label": "spillway",
        "model_id": load.model,
        "tokenizer_id": None,
        "num_prompts": load.requests,
        "request_rate": "inf",
        "burstiness": 1.0,
        "max_concurrency": load.concurrency,
        "duration": duration_s,
        "completed": len(good),
        "failed": len(exchanges) - len(good),
        "total_input_tokens": inputs,
        "total_output_tokens": outputs,
        "request_throughput": len(good) / duration_s,
        "request_goodput": None,
        "output_throughput": outputs / duration_s,
        "total_token_throughput": (inputs + outputs) / duration_s,
        "input_lens": [exchange.input_tokens for exchange in exchanges],
        "output_lens": [0 if exchange.error else exchange.output_tokens for exchange in exchanges],
        "ttfts": [exchange.ttft for exchange in exchanges],
        "itls": [exchange.itls for exchange in exchanges],
        "start_times": [exchange.started for exchange in exchanges],
        "generated_texts": [exchange.text for exchange in exchanges],
        "errors": [exchange.error for exchange in exchanges],
        "max_output_tokens_per_s": most_tokens,
        "max_concurrent_requests": most_requests,
        "rtfx": 0.0,  # of audio only
        **_statistics("ttft", [exchange.ttft for exchange in good]),
        **_statistics("tpot", [tpot for exchange in good if (tpot := exchange.tpot) is not None]),
        **_statistics("itl", [itl for exchange in good for itl in exchange.itls]),
        **_statistics("e2el", [exchange.latency for exchange in good]),
    }


def _statistics(name: str, seconds: Sequence[float]) -> Figures:
    known = list(seconds) or [0.0]
    return {
        f"mean_{name}_ms": statistics.fmean(known) * _MS,
        f"median_{name}_ms": statistics.median(known) * _MS,
        f"std_{name}_ms": statistics.pstdev(known) * _MS,
        f"p99_{name}_ms": percentile(known, 99) * _MS,
    }


def _busiest_second(good: Sequence[Exchange]) -> tuple[float, int]:
    """Most events and most requests in one second, counted in seconds from the first request on."""
    first = min((exchange.started for exchange in good), default=0.0)
    tokens: dict[int, int] = {}
    requests: dict[int, int] = {}
    for exchange in good:
        for at in exchange.tokens_at:
            second = int(at - first)
            tokens[second] = tokens.get(second, 0) + 1
        ended = exchange.started + exchange.latency
        for second in range(int(exchange.started - first), int(ended - first) + 1):
            requests[second] = requests.get(second, 0) + 1
    return float(max(tokens.values(), default=0)), max(requests.values(), default=0)


def main() -> int:
    """Sends one load and writes the figures as JSON; exits with 1 if a request failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--url", required=True, help="base URL of the server, without /v1")
    parser.add_argument("--model", required=True)
    parser.add_argument("--concurrency", type=int, default=1, help="requests under way (default: 1)")
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--warm-up", type=int, default=10, help="requests before, not counted")
    parser.add_argument("--input-tokens", type=int, default=512)
    parser.add_argument("--output-tokens", type=int, default=128)
    parser.add_argument("--token-ids", default="1000:30000", help="FIRST:END of the ids that prompts hold")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--result", type=Path, required=True, help="file for the figures")
    options = parser.parse_args()
    first, _, end = options.token_ids.partition(":")
    load = Load(
        url=options.url.rstrip("/"),
        model=options.model,
        concurrency=options.concurrency,
        requests=options.requests,
        warm_up=options.warm_up,
        input_tokens=options.input_tokens,
        output_tokens=options.output_tokens,
        token_ids=range(int(first), int(end)),
        seed=options.seed,
        api_key=os.environ.get("API_KEY"),  # not an argument: those are seen by every user
    )
    found = run(load)
    options.result.write_text(json.dumps(found) + "\n")
    return 1 if found["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
