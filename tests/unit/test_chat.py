"""The chat request that `make up` ends with: only a complete stream with text counts."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from runtime.ops.chat import ChatError, stream_chat

WHOLE = (
    b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
    b'data: {"choices":[{"delta":{"content":"Hel"}}]}\n\n'
    b'data: {"choices":[{"delta":{"content":"lo"}}]}\n\n'
    b'data: {"choices":[],"usage":{}}\n\n'
    b"data: [DONE]\n\n"
)


class Endpoint:
    def __init__(self) -> None:
        self.status = 200
        self.body = WHOLE
        self.url = ""


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    state = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(state.status)
            self.end_headers()
            self.wfile.write(state.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in http.server
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield state
    server.shutdown()
    server.server_close()


def test_a_stream_is_put_together_from_its_chunks(endpoint: Endpoint) -> None:
    answer = stream_chat(endpoint.url, "sk-x", "tiny", "Hi", 8)
    assert (answer.text, answer.chunks) == ("Hello", 2)
    assert 0 < answer.first_chunk_s <= answer.total_s


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, b'{"error":{"message":"bad key"}}', "answers 401.*bad key"),
        (200, WHOLE.replace(b"data: [DONE]\n\n", b""), "broke the stream off after 2 chunks"),
        (200, b"data: [DONE]\n\n", "streamed no text"),
        (200, b'data: {"error":{"message":"engine died"}}\n\n', "engine died"),
    ],
    ids=["refused", "broken off", "empty", "error in the stream"],
)
def test_anything_but_a_whole_stream_with_text_is_an_error(
    endpoint: Endpoint, status: int, body: bytes, message: str
) -> None:
    endpoint.status, endpoint.body = status, body
    with pytest.raises(ChatError, match=message):
        stream_chat(endpoint.url, "sk-x", "tiny", "Hi", 8)


def test_an_endpoint_out_of_reach_is_an_error_that_names_it() -> None:
    with pytest.raises(ChatError, match=r"http://127\.0\.0\.1:1"):
        stream_chat("http://127.0.0.1:1", "sk-x", "tiny", "Hi", 8)
