"""The closed-loop client, against a server that watches it."""

import json
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from benchmarks.load import Exchange, Load, figures, run

# What vLLM 0.29 writes with --save-result --save-detailed --percentile-metrics ttft,tpot,itl,e2el.
VLLM_KEYS = {
    "date",
    "endpoint_type",
    "backend",
    "label",
    "model_id",
    "tokenizer_id",
    "num_prompts",
    "request_rate",
    "burstiness",
    "max_concurrency",
    "duration",
    "completed",
    "failed",
    "total_input_tokens",
    "total_output_tokens",
    "request_throughput",
    "request_goodput",
    "output_throughput",
    "total_token_throughput",
    "input_lens",
    "output_lens",
    "ttfts",
    "itls",
    "start_times",
    "generated_texts",
    "errors",
    "max_output_tokens_per_s",
    "max_concurrent_requests",
    "rtfx",
    *(
        f"{statistic}_{name}_ms"
        for statistic in ("mean", "median", "std", "p99")
        for name in ("ttft", "tpot", "itl", "e2el")
    ),
}

EVENTS = (
    b'data: {"choices": [{"text": "a"}]}\n\n',
    b'data: {"choices": [{"text": "b"}]}\n\n',
    b'data: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}\n\n',
    b"data: [DONE]\n\n",
)


@dataclass
class Watching:
    """What the server saw.

    A request is answered once `together` are under way, or none is to come any more: a client that keeps
    fewer under way makes it wait in vain.
    """

    together: int = 1
    total: int = 1
    status: int = 200
    events: tuple[bytes, ...] = EVENTS
    url: str = ""
    changed: threading.Condition = field(default_factory=threading.Condition)
    under_way: int = 0
    most: int = 0
    starved: int = 0
    requests: list[tuple[str | None, dict[str, Any]]] = field(default_factory=list[Any])

    def begin(self, key: str | None, body: dict[str, Any]) -> None:
        with self.changed:
            self.requests.append((key, body))
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            self.changed.notify_all()
            if not self.changed.wait_for(self._full, timeout=60):
                self.starved += 1
        # Long enough for one request too many to arrive as well.
        time.sleep(0.02)

    def end(self) -> None:
        with self.changed:
            self.under_way -= 1

    def _full(self) -> bool:
        return self.under_way >= self.together or len(self.requests) >= self.total


@contextmanager
def serving(watching: Watching) -> Generator[Watching]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            watching.begin(self.headers["Authorization"], json.loads(body))
            # The client may send its next request as soon as it has the last byte.
            watching.end()
            self.send_response(watching.status)
            self.end_headers()
            for event in watching.events:
                self.wfile.write(event)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        watching.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield watching
        finally:
            server.shutdown()


def load(url: str = "http://127.0.0.1:9", **changes: Any) -> Load:
    base: dict[str, Any] = {
        "url": url,
        "model": "tiny",
        "concurrency": 1,
        "requests": 1,
        "warm_up": 0,
        "input_tokens": 5,
        "output_tokens": 2,
        "token_ids": range(3, 259),
    }
    return Load(**{**base, **changes})


def test_exactly_as_many_requests_as_asked_for_are_under_way_until_none_is_left() -> None:
    with serving(Watching(together=4, total=30)) as watching:
        found = run(load(watching.url, concurrency=4, requests=30))
    assert (watching.most, watching.starved) == (4, 0)
    assert (found["completed"], found["failed"]) == (30, 0)


def test_more_clients_than_requests_send_each_request_once() -> None:
    with serving(Watching(together=3, total=3)) as watching:
        found = run(load(watching.url, concurrency=8, requests=3))
    assert (watching.most, found["completed"]) == (3, 3)


def test_the_warm_up_is_sent_before_and_not_counted() -> None:
    asked = load(requests=3, warm_up=2)
    with serving(Watching(total=1)) as watching:
        found = run(load(watching.url, requests=3, warm_up=2))
    assert [body["prompt"] for _, body in watching.requests] == asked.prompts()
    assert (found["completed"], found["total_output_tokens"]) == (3, 6)


def test_requests_are_streamed_of_fixed_length_and_carry_the_key() -> None:
    with serving(Watching()) as watching:
        run(load(watching.url, api_key="sk-1"))
    ((key, body),) = watching.requests
    assert key == "Bearer sk-1"
    assert (body["stream"], body["max_tokens"], body["ignore_eos"]) == (True, 2, True)


def test_a_stream_that_breaks_off_is_a_failure_that_says_where() -> None:
    with serving(Watching(events=EVENTS[:2])) as watching:
        found = run(load(watching.url))
    assert (found["completed"], found["failed"]) == (0, 1)
    assert found["errors"] == ["the stream broke off after 2 events"]


def test_an_answer_with_an_error_status_is_a_failure_that_says_which() -> None:
    with serving(Watching(status=503, events=(b"no model",))) as watching:
        found = run(load(watching.url))
    assert (found["failed"], found["errors"]) == (1, ["503: no model"])


def test_an_error_inside_the_stream_is_a_failure() -> None:
    with serving(Watching(events=(b'data: {"error": "out of memory"}\n\n', EVENTS[3]))) as watching:
        found = run(load(watching.url))
    assert found["errors"] == ["the stream carries an error: out of memory"]


def test_a_server_that_is_not_there_fails_every_request_and_not_the_run() -> None:
    found = run(load(requests=2))
    assert (found["completed"], found["failed"]) == (0, 2)


def test_the_same_seed_gives_the_same_prompts_and_another_one_others() -> None:
    prompts = load(seed=1, requests=4).prompts()
    assert prompts == load(seed=1, requests=4).prompts()
    assert prompts != load(seed=2, requests=4).prompts()
    assert {len(prompt) for prompt in prompts} == {5}
    assert {token for prompt in prompts for token in prompt} <= set(range(3, 259))


def test_the_figures_have_the_keys_of_vllm_bench_serve() -> None:
    assert figures(load(), [], 1.0).keys() == VLLM_KEYS


def test_times_are_those_of_the_tokens_in_milliseconds() -> None:
    # Tokens after 0.1, 0.2 and 0.4 s.
    exchange = Exchange(started=10.0, tokens_at=[10.1, 10.2, 10.4], input_tokens=5, output_tokens=3)
    found = figures(load(), [exchange], 2.0)
    assert found["mean_ttft_ms"] == pytest.approx(100)
    assert found["mean_tpot_ms"] == pytest.approx(150)
    assert found["median_itl_ms"] == pytest.approx(150)
    assert found["mean_e2el_ms"] == pytest.approx(400)
    assert (found["output_throughput"], found["total_token_throughput"]) == (1.5, 4.0)


def test_a_failed_request_counts_in_no_latency_and_no_throughput() -> None:
    good = Exchange(started=0.0, tokens_at=[0.1, 0.2], input_tokens=5, output_tokens=2)
    bad = Exchange(started=0.0, tokens_at=[9.0], input_tokens=5, output_tokens=1, error="broke off")
    found = figures(load(requests=2), [good, bad], 1.0)
    assert (found["completed"], found["failed"], found["total_output_tokens"]) == (1, 1, 2)
    assert found["p99_ttft_ms"] == pytest.approx(100)
    assert found["output_lens"] == [2, 0]


def test_a_load_without_clients_is_refused() -> None:
    with pytest.raises(ValueError, match="concurrency is 0; it must be at least 1"):
        load(concurrency=0)
