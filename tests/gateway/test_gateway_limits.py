"""What the gateway refuses to protect itself, and what it says when a server fails."""

import contextlib
import http.client
import json
import socket
import time

import pytest

from tests.support.waiting import wait_until

from .conftest import MAX_REQUEST_BYTES, RunGateway
from .fake_upstream import FakeUpstream
from .running_gateway import KEYS, RunningGateway, chat_body


def _body_of(size: int) -> str:
    return chat_body("x" * (size - len(chat_body(""))))


def test_a_body_of_the_largest_size_passes(gateway: RunningGateway, tiny: FakeUpstream) -> None:
    answer = gateway.request("POST", "/v1/chat/completions", _body_of(MAX_REQUEST_BYTES))
    assert answer.status == 200


def test_a_body_one_byte_larger_is_refused(gateway: RunningGateway, tiny: FakeUpstream) -> None:
    answer = gateway.request("POST", "/v1/chat/completions", _body_of(MAX_REQUEST_BYTES + 1))
    assert (answer.status, answer.error_code) == (413, "request_too_large")
    assert not tiny.received


def test_a_body_in_chunks_is_refused_as_soon_as_it_is_too_large(
    gateway: RunningGateway, tiny: FakeUpstream
) -> None:
    with socket.create_connection(("127.0.0.1", gateway.config.listen_port), 60) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            + f"authorization: Bearer {KEYS['alice']}\r\n".encode()
            + b"transfer-encoding: chunked\r\n\r\n"
        )
        for _ in range(MAX_REQUEST_BYTES // 0x8000 + 1):
            connection.sendall(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
        # No end of the body: the answer must come without it.
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == 413
        assert json.loads(response.read())["error"]["code"] == "request_too_large"
    assert not tiny.received


def test_a_large_body_without_a_key_is_refused_before_it_is_sent(gateway: RunningGateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.config.listen_port), 60) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: 100000\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 401 ")


def test_a_request_that_does_not_arrive_in_time_is_refused(run_gateway: RunGateway) -> None:
    gateway = run_gateway(request_timeout_s=0.3)
    with socket.create_connection(("127.0.0.1", gateway.config.listen_port), 60) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            + f"authorization: Bearer {KEYS['alice']}\r\n".encode()
            + b"content-length: 100\r\n\r\n{"
        )
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == 408
        assert json.loads(response.read())["error"]["code"] == "request_timeout"


@pytest.mark.parametrize(
    ("headers", "status"), [({"x_under_score": "1"}, 400), ({"x-long": "a" * 40_000}, 431)]
)
def test_suspicious_headers_are_refused_as_openai_json(
    gateway: RunningGateway, headers: dict[str, str], status: int
) -> None:
    answer = gateway.request("GET", "/v1/models", headers=headers)
    assert (answer.status, answer.error_code) == (status, "bad_request")


def test_a_protocol_upgrade_is_refused_as_openai_json(gateway: RunningGateway) -> None:
    answer = gateway.request("GET", "/v1/models", headers={"connection": "upgrade", "upgrade": "websocket"})
    assert (answer.status, answer.error_code) == (403, "bad_request")


@pytest.mark.parametrize("model", ["down", "unresolved"])
def test_a_model_without_a_reachable_server_is_a_503_and_harms_no_other(
    gateway: RunningGateway, tiny: FakeUpstream, model: str
) -> None:
    answer = gateway.chat(model=model)
    assert (answer.status, answer.error_code) == (503, "service_unavailable")
    assert answer.headers["retry-after"] == "1"
    assert gateway.chat().status == 200


def test_a_refused_connection_is_tried_again_a_few_times(gateway: RunningGateway) -> None:
    answer = gateway.chat(model="down", headers={"x-request-id": "tries-of-down"})
    assert answer.status == 503
    assert gateway.access_log("tries-of-down")["tries"] == 1 + gateway.config.retries


def test_a_server_that_hangs_up_on_a_request_gets_it_only_once(
    gateway: RunningGateway, tiny: FakeUpstream
) -> None:
    answer = gateway.chat("hang up")
    assert (answer.status, answer.error_code) == (503, "service_unavailable")
    assert len(tiny.received) == 1


def test_a_server_that_does_not_speak_http_is_a_502(gateway: RunningGateway, tiny: FakeUpstream) -> None:
    answer = gateway.chat("speak gibberish")
    assert (answer.status, answer.error_code) == (502, "bad_upstream_answer")


def test_a_servers_own_error_passes_untouched(gateway: RunningGateway, tiny: FakeUpstream) -> None:
    answer = gateway.chat("be full")
    assert answer.status == 429
    assert answer.json == {"error": {"message": "queue is full", "code": "fake_full"}}
    assert answer.headers["retry-after"] == "7"


def test_an_unused_upstream_connection_is_closed_before_the_server_would_close_it(
    run_gateway: RunGateway, tiny: FakeUpstream
) -> None:
    gateway = run_gateway(upstream_idle_timeout_s=0.3)
    active = 'envoy_cluster_upstream_cx_active{model="tiny",pool="onprem"}'
    for _ in range(2):
        assert gateway.chat().status == 200
        wait_until(lambda: f"{active} 0" in gateway.metrics(), "the connection is closed")
    assert tiny.connections == 2


def test_an_upstream_connection_is_used_again(gateway: RunningGateway, tiny: FakeUpstream) -> None:
    for _ in range(5):
        assert gateway.chat().status == 200
    assert tiny.connections <= 1


def test_connections_beyond_the_limit_are_closed_while_the_metrics_stay_reachable(
    run_gateway: RunGateway,
) -> None:
    gateway = run_gateway(max_connections=2)
    active = 'envoy_http_downstream_cx_active{envoy_http_conn_manager_prefix="openai"}'
    # The connections of the start-up probe are closed asynchronously.
    wait_until(lambda: f"{active} 0" in gateway.metrics(), "no connection is left")
    held = [socket.create_connection(("127.0.0.1", gateway.config.listen_port), 60) for _ in range(2)]
    try:
        wait_until(lambda: f"{active} 2" in gateway.metrics(), "both are accepted")
        with pytest.raises((ConnectionError, http.client.BadStatusLine)):
            gateway.request("GET", "/healthz", key=None)
        assert "envoy_http" in gateway.metrics()
    finally:
        for connection in held:
            connection.close()


def test_more_requests_than_the_model_may_have_are_refused(
    run_gateway: RunGateway, tiny: FakeUpstream
) -> None:
    gateway = run_gateway(max_upstream_requests=1)
    connection, response = gateway.open_stream("stream and wait")
    assert b"first" in response.readline()
    answer = gateway.chat()
    assert (answer.status, answer.error_code) == (503, "service_unavailable")
    connection.close()
    response.close()


def test_a_full_heap_refuses_new_requests_as_openai_json_until_it_is_free(run_gateway: RunGateway) -> None:
    # 64 MiB is the least that may be configured; parallel large bodies exceed it while they wait.
    gateway = run_gateway(max_heap_bytes=64 * 1024 * 1024, max_request_bytes=16 * 1024 * 1024)
    active = "envoy_overload_envoy_overload_actions_stop_accepting_requests_active"
    # Opened before: a heap that is fuller still accepts no connection either.
    early = gateway.connect()
    early.connect()
    held: list[socket.socket] = []
    try:
        while not gateway.metric(active) and len(held) < 10:
            held.append(socket.create_connection(("127.0.0.1", gateway.config.listen_port), 2))
            with contextlib.suppress(TimeoutError):
                held[-1].sendall(
                    b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                    + f"authorization: Bearer {KEYS['alice']}\r\ncontent-length: 12000001\r\n\r\n".encode()
                    + b"x" * 12_000_000
                )
            time.sleep(0.3)  # Envoy looks at its heap four times a second.
        wait_until(lambda: gateway.metric(active), "the heap is full")
        early.request("GET", "/v1/models", headers={"authorization": f"Bearer {KEYS['alice']}"})
        response = early.getresponse()
        assert response.status == 503
        assert json.loads(response.read())["error"]["code"] == "service_unavailable"
    finally:
        for connection in (early, *held):
            connection.close()
    wait_until(lambda: gateway.metric(active) == 0, "the heap is free again")
    assert gateway.request("GET", "/v1/models").status == 200
