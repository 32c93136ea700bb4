"""Answers that arrive piece by piece."""

import http.client
import time

import pytest

from .conftest import RunGateway
from .fake_upstream import FakeUpstream
from .running_gateway import KEYS, RunningGateway


def test_the_first_piece_arrives_before_the_server_has_sent_the_second(
    gateway: RunningGateway, tiny: FakeUpstream
) -> None:
    connection, response = gateway.open_stream("stream and wait")
    assert response.status == 200
    assert response.headers["content-type"] == "text/event-stream"
    assert b"first" in response.readline()
    tiny.may_continue.set()
    rest = response.read()
    connection.close()
    assert b"second" in rest
    assert rest.endswith(b"data: [DONE]\n\n")


def test_a_client_that_leaves_ends_the_servers_work(gateway: RunningGateway, tiny: FakeUpstream) -> None:
    connection, response = gateway.open_stream("stream and wait")
    assert b"first" in response.readline()
    connection.close()
    response.close()
    assert tiny.client_left.wait(60)


def test_a_stream_that_goes_on_outlives_every_timeout(run_gateway: RunGateway, tiny: FakeUpstream) -> None:
    gateway = run_gateway(request_timeout_s=0.3, stream_idle_timeout_s=30.0, connect_timeout_s=0.3)
    connection, response = gateway.open_stream("stream and wait")
    assert b"first" in response.readline()
    time.sleep(1.2)
    tiny.may_continue.set()
    assert response.read().endswith(b"data: [DONE]\n\n")
    connection.close()


def test_a_server_that_says_nothing_is_given_up_after_the_idle_timeout(
    run_gateway: RunGateway, tiny: FakeUpstream
) -> None:
    gateway = run_gateway(stream_idle_timeout_s=0.5)
    before = time.monotonic()
    answer = gateway.chat("say nothing")
    assert (answer.status, answer.error_code) == (504, "upstream_timeout")
    assert 0.4 < time.monotonic() - before < 50
    assert tiny.client_left.wait(60)
    assert len(tiny.received) == 1


def test_a_stream_that_breaks_is_not_tried_again(gateway: RunningGateway, tiny: FakeUpstream) -> None:
    connection, response = gateway.open_stream("stream and break")
    assert b"first" in response.readline()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        response.read()
    connection.close()
    assert len(tiny.received) == 1


def test_a_connection_of_one_request_ends_with_its_answer_and_not_before(
    run_gateway: RunGateway, tiny: FakeUpstream
) -> None:
    gateway = run_gateway(requests_per_connection=1)
    connection, response = gateway.open_stream("stream and wait")
    assert response.headers["connection"] == "close"
    assert b"first" in response.readline()
    tiny.may_continue.set()
    assert response.read().endswith(b"data: [DONE]\n\n")
    assert connection.sock is None or connection.sock.recv(1) == b""


def test_a_connection_carries_many_requests_unless_it_is_told_otherwise(gateway: RunningGateway) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.config.listen_port, timeout=60)
    for _ in range(3):
        connection.request("GET", "/v1/models", headers={"authorization": f"Bearer {KEYS['alice']}"})
        response = connection.getresponse()
        response.read()
        assert (response.status, response.headers["connection"]) == (200, None)
    connection.close()
