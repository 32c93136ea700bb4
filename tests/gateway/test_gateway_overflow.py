"""Requests that the model's own servers cannot take: when they go on, how often, and what comes back."""

import concurrent.futures
import contextlib
import http.client
import json
import re
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import openai
import pytest
import yaml
from openai.types.chat import ChatCompletionUserMessageParam

from runtime.gateway import ModelRoute, Upstream, render, render_alerts, render_api_keys
from tests.support.waiting import wait_until

from .conftest import PATIENT, SPILL_KEY, RunGateway
from .fake_upstream import FakeUpstream
from .running_gateway import KEYS, RunningGateway, chat_body, free_ports

STICKY = {"cookie": "spillway-pool=spill"}


def test_a_request_that_the_own_servers_take_goes_nowhere_else(
    overflowing: RunningGateway, tiny: FakeUpstream, cloud: FakeUpstream
) -> None:
    answer = overflowing.chat()
    assert (answer.status, answer.headers["x-spillway-pool"]) == (200, "onprem")
    assert not cloud.received


@pytest.mark.parametrize("refuses_with", [503, 429])
def test_a_refused_request_is_answered_by_the_spill_pool(
    overflowing: RunningGateway, tiny: FakeUpstream, cloud: FakeUpstream, refuses_with: int
) -> None:
    tiny.refuses_with = refuses_with
    answer = overflowing.chat("a long question")
    assert (answer.status, answer.headers["x-spillway-pool"]) == (200, "spill")
    assert answer.json["choices"][0]["message"]["content"] == "cloud heard 15"
    assert cloud.received[0].body == tiny.received[0].body
    assert (len(tiny.received), len(cloud.received)) == (1, 1)


def test_a_request_goes_on_if_nobody_listens_on_prem(
    overflowing: RunningGateway, cloud: FakeUpstream
) -> None:
    assert overflowing.chat(model="lost").headers["x-spillway-pool"] == "spill"
    assert len(cloud.received) == 1


def test_a_request_goes_on_if_the_own_servers_have_no_address(
    run_overflow: RunGateway, cloud: FakeUpstream
) -> None:
    there = Upstream(host="127.0.0.1", port=cloud.port)
    gone = Upstream(host="no-such-host.invalid", port=80)
    gateway = run_overflow(models=(ModelRoute(name="gone", upstream=gone, spill=there),))
    assert gateway.chat(model="gone").headers["x-spillway-pool"] == "spill"
    assert gateway.chat(model="gone", key=KEYS["bob"]).error_code == "service_unavailable"
    assert len(cloud.received) == 1


def test_an_adapter_goes_where_its_model_may(
    overflowing: RunningGateway, tiny: FakeUpstream, cloud: FakeUpstream
) -> None:
    tiny.refuses_with = 503
    assert overflowing.chat(model="tiny:my-adapter").status == 200
    assert cloud.received[0].body["model"] == "tiny:my-adapter"


@pytest.mark.parametrize("status", [400, 404, 422, 500, 502, 504])
def test_any_other_error_is_the_servers_answer(
    overflowing: RunningGateway, tiny: FakeUpstream, cloud: FakeUpstream, status: int
) -> None:
    tiny.refuses_with = status
    answer = overflowing.chat()
    assert (answer.status, answer.json) == (status, {"detail": "tiny is full"})
    assert not cloud.received


def test_a_request_that_a_server_may_have_begun_is_not_sent_to_another(
    overflowing: RunningGateway, tiny: FakeUpstream, cloud: FakeUpstream
) -> None:
    answer = overflowing.chat("hang up")
    assert answer.status == 429
    assert len(tiny.received) == 1
    assert not cloud.received


def test_a_stream_that_breaks_is_not_sent_to_the_other_pool(
    overflowing: RunningGateway, tiny: FakeUpstream, cloud: FakeUpstream
) -> None:
    connection, response = overflowing.open_stream("stream and break")
    assert b"first" in response.readline()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        response.read()
    connection.close()
    assert (len(tiny.received), len(cloud.received)) == (1, 0)


def test_a_spilled_stream_arrives_piece_by_piece(
    overflowing: RunningGateway, tiny: FakeUpstream, cloud: FakeUpstream
) -> None:
    tiny.refuses_with = 503
    connection, response = overflowing.open_stream("stream and wait")
    assert response.headers["x-spillway-pool"] == "spill"
    assert b"first" in response.readline()
    cloud.may_continue.set()
    assert response.read().endswith(b"data: [DONE]\n\n")
    connection.close()


def test_a_long_prompt_is_spilled_whole(
    run_overflow: RunGateway, tiny: FakeUpstream, cloud: FakeUpstream
) -> None:
    """Envoy gives a retry up if the body is larger than its buffer; a connection's own holds 256 KiB."""
    gateway = run_overflow(max_request_bytes=8 * 1024 * 1024)
    tiny.refuses_with = 503
    answer = gateway.chat("x" * 6_000_000)
    assert answer.json["choices"][0]["message"]["content"] == "cloud heard 6000000"


# What is said if no pool takes a request


@pytest.mark.parametrize("key", KEYS)
def test_if_both_pools_are_full_the_answer_says_when_to_try_again(
    overflowing: RunningGateway, tiny: FakeUpstream, cloud: FakeUpstream, key: str
) -> None:
    tiny.refuses_with = cloud.refuses_with = 503
    answer = overflowing.chat(key=KEYS[key])
    assert (answer.status, answer.error_code) == (429, "rate_limit_exceeded")
    assert answer.headers["retry-after"] == "5"
    assert len(tiny.received) == 1
    assert len(cloud.received) == (1 if key == "alice" else 0)


def test_a_full_server_and_a_spill_pool_that_is_not_there_are_a_429_too(
    overflowing: RunningGateway, tiny: FakeUpstream
) -> None:
    tiny.refuses_with = 503
    answer = overflowing.chat(model="alone")
    assert (answer.status, answer.headers["retry-after"]) == (429, "5")


def test_the_time_to_try_again_is_a_setting(run_overflow: RunGateway, llama: FakeUpstream) -> None:
    gateway = run_overflow(overflow=replace(PATIENT, clients=(), retry_after_s=17))
    llama.refuses_with = 503
    assert gateway.chat(model="org/llama-3.1").headers["retry-after"] == "17"


def test_a_servers_own_429_stays_if_it_says_when_to_try_again(
    overflowing: RunningGateway, llama: FakeUpstream
) -> None:
    answer = overflowing.chat("be full", model="org/llama-3.1")
    assert (answer.status, answer.headers["retry-after"]) == (429, "7")
    assert answer.json["error"]["code"] == "fake_full"
    llama.refuses_with = 429
    assert overflowing.chat(model="org/llama-3.1").headers["retry-after"] == "5"


def test_a_model_that_cannot_be_reached_and_may_not_leave_is_still_a_503(
    overflowing: RunningGateway, cloud: FakeUpstream
) -> None:
    answer = overflowing.chat(model="down")
    assert (answer.status, answer.error_code) == (503, "service_unavailable")


def test_openais_client_waits_as_told_and_gets_its_answer(
    run_overflow: RunGateway, llama: FakeUpstream
) -> None:
    gateway = run_overflow(overflow=replace(PATIENT, retry_after_s=1))
    client = openai.OpenAI(
        base_url=f"http://127.0.0.1:{gateway.config.listen_port}/v1", api_key=KEYS["bob"], max_retries=1
    )
    llama.refuses_with = 503
    hello = ChatCompletionUserMessageParam(role="user", content="hello")

    def ask() -> str | None:
        return (
            client.chat.completions.create(model="org/llama-3.1", messages=[hello]).choices[0].message.content
        )

    before = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        answer = pool.submit(ask)
        wait_until(lambda: len(llama.received) == 1, "the first try")
        llama.refuses_with = None
        assert answer.result() == "llama heard 5"
    assert time.monotonic() - before >= 0.9


def test_a_key_that_the_other_side_does_not_know_is_not_the_clients_fault(
    run_overflow: RunGateway, tiny: FakeUpstream, cloud: FakeUpstream
) -> None:
    gateway = run_overflow()
    tiny.refuses_with, cloud.refuses_with = 503, 401
    answer = gateway.chat()
    assert (answer.status, answer.error_code) == (429, "rate_limit_exceeded")
    tiny.refuses_with = None
    assert gateway.chat(headers=STICKY).headers["x-spillway-pool"] == "onprem"


def test_the_links_key_is_replaced_without_a_restart(
    run_overflow: RunGateway, tiny: FakeUpstream, cloud: FakeUpstream
) -> None:
    gateway = run_overflow()
    tiny.refuses_with = 503
    assert gateway.chat().status == 200
    gateway.spill_key = "sk-link-second-0123456"
    gateway.publish_keys(KEYS)
    seen = len(cloud.received)

    def is_new() -> bool:
        gateway.chat()
        return cloud.received[-1].headers["authorization"] == "Bearer sk-link-second-0123456"

    wait_until(is_new, "the new key")
    assert len(cloud.received) > seen


# A conversation stays where its prefix is cached


def test_a_spilled_answer_in_a_session_brings_the_cookie_for_the_next(
    overflowing: RunningGateway, tiny: FakeUpstream, cloud: FakeUpstream
) -> None:
    session = {"x-spillway-session": "1"}
    assert "set-cookie" not in overflowing.chat(headers=session).headers
    tiny.refuses_with = 503
    assert "set-cookie" not in overflowing.chat().headers, "not asked for"
    cookie = overflowing.chat(headers=session).headers["set-cookie"]
    assert cookie == "spillway-pool=spill; Path=/; Max-Age=300; HttpOnly"
    tiny.reset()
    cloud.reset()
    answer = overflowing.chat(headers={**session, "cookie": cookie.partition(";")[0]})
    assert answer.headers["x-spillway-pool"] == "spill"
    assert (len(tiny.received), len(cloud.received)) == (0, 1)
    assert "set-cookie" not in answer.headers, "it would never end"


@pytest.mark.parametrize("refuses_with", [503, 429])
def test_a_session_returns_when_the_spill_pool_is_full(
    overflowing: RunningGateway, tiny: FakeUpstream, cloud: FakeUpstream, refuses_with: int
) -> None:
    cloud.refuses_with = refuses_with
    answer = overflowing.chat(headers=STICKY)
    assert (answer.status, answer.headers["x-spillway-pool"]) == (200, "onprem")
    assert answer.headers["set-cookie"].startswith("spillway-pool=; Path=/; Max-Age=0")
    assert (len(tiny.received), len(cloud.received)) == (1, 1)


def test_a_session_returns_when_the_spill_pool_is_gone(
    overflowing: RunningGateway, tiny: FakeUpstream
) -> None:
    answer = overflowing.chat(model="alone", headers=STICKY)
    assert (answer.status, answer.headers["x-spillway-pool"]) == (200, "onprem")


def test_openais_client_keeps_the_session_by_itself(
    overflowing: RunningGateway, tiny: FakeUpstream, cloud: FakeUpstream
) -> None:
    client = openai.OpenAI(
        base_url=f"http://127.0.0.1:{overflowing.config.listen_port}/v1",
        api_key=KEYS["alice"],
        default_headers={"x-spillway-session": "conversation"},
        max_retries=0,
    )

    def ask() -> str | None:
        hello = ChatCompletionUserMessageParam(role="user", content="hello")
        return client.chat.completions.create(model="tiny", messages=[hello]).choices[0].message.content

    assert ask() == "tiny heard 5"
    tiny.refuses_with = 503
    assert ask() == "cloud heard 5"
    tiny.refuses_with = None
    assert ask() == "cloud heard 5"


# The link is cut, or the other side is down


@pytest.fixture
def own_cloud() -> Iterator[FakeUpstream]:
    """The other side of one gateway alone, to be taken down."""
    server = FakeUpstream("cloud", key=SPILL_KEY)
    server.start()
    yield server
    server.stop()


def _tiny(own: FakeUpstream, elsewhere: FakeUpstream) -> tuple[ModelRoute, ...]:
    there = Upstream(host="127.0.0.1", port=elsewhere.port)
    return (ModelRoute(name="tiny", upstream=Upstream(host="127.0.0.1", port=own.port), spill=there),)


SWALLOWED = replace(PATIENT, health_timeout_s=0.5)
"""Gives the link up at once, but a request that tried it would wait for half a minute."""


@pytest.fixture
def swallowing() -> Iterator[Upstream]:
    """An address that answers no connection attempt, not even by refusing it: its queue of them is full."""
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            attempt = waiting.enter_context(socket.socket())
            attempt.settimeout(0.2)
            try:
                attempt.connect(listener.getsockname())
            except TimeoutError:
                break
        else:
            pytest.fail("every attempt was answered")
        yield Upstream(host="127.0.0.1", port=listener.getsockname()[1])


def test_a_link_that_swallows_everything_delays_no_request_that_on_prem_can_serve(
    run_overflow: RunGateway, tiny: FakeUpstream, swallowing: Upstream
) -> None:
    own = Upstream(host="127.0.0.1", port=tiny.port)
    cut = ModelRoute(name="tiny", upstream=own, spill=swallowing)
    gateway = run_overflow(models=(cut, ModelRoute(name="whole", upstream=own)), overflow=SWALLOWED)

    def took_ms(model: str, headers: Mapping[str, str] | None = None) -> float:
        before = time.monotonic()
        assert gateway.chat(model=model, headers=headers).status == 200
        return (time.monotonic() - before) * 1000

    # By turns, and the quickest of each: what else the machine does is in all of them alike.
    times = [(took_ms("whole"), took_ms("tiny"), took_ms("tiny", STICKY)) for _ in range(40)]
    plain, own_first, spill_first = (min(taken) for taken in zip(*times, strict=True))
    assert own_first < plain + 5
    assert spill_first < plain + 10
    assert max(map(max, times)) < SWALLOWED.connect_timeout_s * 1000, "none waited for the link"


def test_a_dead_link_is_not_tried_again_and_again(
    run_overflow: RunGateway, tiny: FakeUpstream, swallowing: Upstream
) -> None:
    own = Upstream(host="127.0.0.1", port=tiny.port)
    gateway = run_overflow(
        models=(ModelRoute(name="tiny", upstream=own, spill=swallowing),), overflow=SWALLOWED
    )
    tiny.refuses_with = 503
    before = time.monotonic()
    for _ in range(20):
        assert gateway.chat().status == 429
    assert time.monotonic() - before < SWALLOWED.connect_timeout_s, "not even one of twenty waited for it"


def test_the_spill_pool_is_left_alone_while_it_is_down_and_used_when_it_is_back(
    run_overflow: RunGateway, tiny: FakeUpstream, own_cloud: FakeUpstream
) -> None:
    gateway = run_overflow(
        models=_tiny(tiny, own_cloud),
        overflow=replace(PATIENT, health_interval_s=0.1),
    )
    tiny.refuses_with = 503
    assert gateway.chat().status == 200
    own_cloud.is_healthy = False
    wait_until(lambda: gateway.chat().status == 429, "it is seen to be down")
    seen = len(own_cloud.received)
    assert [gateway.chat().status for _ in range(5)] == [429] * 5
    assert len(own_cloud.received) == seen
    own_cloud.is_healthy = True
    wait_until(lambda: gateway.chat().status == 200, "it is seen to be back")


def test_a_full_spill_pool_is_not_taken_for_one_that_is_down(
    overflowing: RunningGateway, tiny: FakeUpstream, cloud: FakeUpstream
) -> None:
    tiny.refuses_with = cloud.refuses_with = 503
    for _ in range(50):
        assert overflowing.chat().status == 429
    cloud.refuses_with = None
    assert overflowing.chat().status == 200


def test_full_servers_stay_in_use(
    overflowing: RunningGateway, tiny: FakeUpstream, cloud: FakeUpstream
) -> None:
    tiny.refuses_with = 503
    for _ in range(50):
        assert overflowing.chat().headers["x-spillway-pool"] == "spill"
    tiny.refuses_with = None
    assert overflowing.chat().headers["x-spillway-pool"] == "onprem"


# The other side can be reached, but has no servers for the model


@pytest.fixture
def controller() -> Iterator[FakeUpstream]:
    """Who says whether the other side has servers."""
    server = FakeUpstream("controller", key="unused-by-the-health-check")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def run_gated(
    run_overflow: RunGateway, tiny: FakeUpstream, own_cloud: FakeUpstream, controller: FakeUpstream
) -> RunGateway:
    """Starts a gateway whose gate is open: `run_gated(**changes of its Overflow)`."""

    def run(**changes: Any) -> RunningGateway:
        ready = Upstream(host="localhost", port=controller.port)
        gateway = run_overflow(
            models=_tiny(tiny, own_cloud),
            overflow=replace(PATIENT, ready=ready, health_interval_s=0.2, **changes),
        )
        tiny.refuses_with = 503
        wait_until(lambda: gateway.chat().status == 200, "the gate is open")
        return gateway

    return run


@pytest.fixture
def gated(run_gated: RunGateway) -> RunningGateway:
    return run_gated()


def test_no_request_goes_where_there_is_no_server_for_it(
    gated: RunningGateway, tiny: FakeUpstream, own_cloud: FakeUpstream, controller: FakeUpstream
) -> None:
    assert set(controller.asked) == {"/ready/tiny"}
    controller.is_healthy = False
    wait_until(lambda: gated.chat().status == 429, "the gate is closed")
    seen = len(own_cloud.received)
    assert [gated.chat().status for _ in range(5)] == [429] * 5
    tiny.refuses_with = None
    assert gated.chat(headers=STICKY).headers["x-spillway-pool"] == "onprem"
    assert len(own_cloud.received) == seen
    tiny.refuses_with, controller.is_healthy = 503, True
    wait_until(lambda: gated.chat().status == 200, "the gate is open")


def test_the_link_counts_even_if_there_are_servers(gated: RunningGateway, own_cloud: FakeUpstream) -> None:
    own_cloud.is_healthy = False
    wait_until(lambda: gated.chat().status == 429, "the gate is closed")


def test_a_stream_goes_on_when_the_gate_closes(
    gated: RunningGateway, own_cloud: FakeUpstream, controller: FakeUpstream
) -> None:
    connection, response = gated.open_stream("stream and wait")
    assert response.headers["x-spillway-pool"] == "spill"
    assert b"first" in response.readline()
    controller.is_healthy = own_cloud.is_healthy = False
    wait_until(lambda: gated.chat().status == 429, "the gate is closed")
    own_cloud.may_continue.set()
    assert response.read().endswith(b"data: [DONE]\n\n")
    connection.close()


def test_the_last_word_counts_for_a_while_when_nobody_says_anything(
    run_gated: RunGateway, controller: FakeUpstream
) -> None:
    # The controller alone shall close the gate, so the link may fail as often as it likes.
    gated = run_gated(ready_hold_s=3, health_timeout_s=1, health_failures=100)
    stopped = time.monotonic()
    controller.stop()
    wait_until(lambda: gated.chat().status == 429, "the gate is closed")
    assert time.monotonic() - stopped > 1.5


def test_a_controller_that_was_never_there_opens_nothing(
    run_overflow: RunGateway, tiny: FakeUpstream, own_cloud: FakeUpstream
) -> None:
    (nobody,) = free_ports(1)
    tiny.refuses_with = 503
    gateways: list[RunningGateway] = []
    for ready in (Upstream(host="127.0.0.1", port=nobody), Upstream(host="no-such-host.invalid", port=80)):
        overflow = replace(PATIENT, ready=ready, health_interval_s=0.1)
        gateways.append(run_overflow(start=False, models=_tiny(tiny, own_cloud), overflow=overflow))
        gateways[-1].start()
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        assert [gateway.chat().status for gateway in gateways] == [429, 429]
    assert not own_cloud.received


def test_the_gate_is_on_the_loopback_and_says_yes_or_no(gated: RunningGateway) -> None:
    port = gated.config.overflow.gate_port
    assert gated.request("GET", "/gate/tiny", key=None, port=port).status == 200
    assert gated.request("GET", "/gate/org/llama-3.1", key=None, port=port).status == 404
    listener = next(
        one
        for one in yaml.safe_load(render(gated.config)["listeners.yaml"])["resources"]
        if one["name"] == "gate"
    )
    assert listener["address"]["socket_address"]["address"] == "127.0.0.1"


# Under load


def test_none_of_64_connections_is_refused_while_everything_is_spilled(
    overflowing: RunningGateway, tiny: FakeUpstream, cloud: FakeUpstream
) -> None:
    tiny.refuses_with = 503
    body = chat_body("hello")
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEYS['alice']}"}

    def ask_again_and_again(_: int) -> list[int]:
        connection = overflowing.connect()
        found: list[int] = []
        for _ in range(10):
            connection.request("POST", "/v1/chat/completions", body, headers)
            response = connection.getresponse()
            response.read()
            found.append(response.status)
        connection.close()
        return found

    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        statuses = [status for found in pool.map(ask_again_and_again, range(64)) for status in found]
    assert statuses == [200] * 640
    assert (len(tiny.received), len(cloud.received)) == (640, 640)


# Reload, metrics, log


def test_a_spilled_stream_outlives_the_end_of_its_models_spill_pool(
    run_overflow: RunGateway, tiny: FakeUpstream, cloud: FakeUpstream
) -> None:
    gateway = run_overflow()
    tiny.refuses_with = 503
    connection, response = gateway.open_stream("stream and wait")
    assert b"first" in response.readline()
    own = ModelRoute(name="tiny", upstream=Upstream(host="127.0.0.1", port=tiny.port))
    llama = ModelRoute(name="other", upstream=own.upstream, spill=own.upstream)
    gateway.publish_config(gateway.changed(models=(own, llama)))
    wait_until(lambda: gateway.chat().status == 429, "the pool is gone")
    cloud.may_continue.set()
    assert response.read().endswith(b"data: [DONE]\n\n")
    connection.close()


def test_requests_do_not_fail_while_the_spill_pool_comes_and_goes(
    run_overflow: RunGateway, tiny: FakeUpstream, cloud: FakeUpstream
) -> None:
    gateway = run_overflow()
    with_spill = gateway.config
    more = ModelRoute(name="more", upstream=with_spill.models[0].upstream, spill=with_spill.models[0].spill)
    tiny.refuses_with = 503
    for _ in range(5):
        for config in (gateway.changed(models=(*with_spill.models, more)), with_spill):
            gateway.publish_config(config)
            assert [gateway.chat().status for _ in range(20)] == [200] * 20


def test_metrics_and_log_tell_the_pools_apart(
    run_overflow: RunGateway, tiny: FakeUpstream, cloud: FakeUpstream
) -> None:
    gateway = run_overflow()
    tiny.refuses_with = 503
    assert gateway.chat(headers={"x-request-id": "spilled"}).status == 200
    entry = gateway.access_log("spilled")
    assert (entry["pool"], entry["tries"], entry["upstream_cluster"]) == ("spill", 2, "tiny/spill")
    assert entry["route"] == "serve tiny, on-prem first"
    metrics = gateway.metrics()
    refused = 'envoy_cluster_retry_upstream_rq{envoy_response_code="503",model="tiny",pool="onprem"} 1'
    served = 'envoy_cluster_upstream_rq{envoy_response_code="200",model="tiny",pool="spill"} 1'
    for line in (refused, served):
        assert line in metrics.splitlines()
    assert 'envoy_cluster_membership_healthy{model="tiny",pool="spill"} 2' in metrics


def test_the_counters_tell_what_became_of_every_request(
    run_overflow: RunGateway, tiny: FakeUpstream, own_cloud: FakeUpstream
) -> None:
    """The burst controller decides by these; the page on overflow says what they mean."""
    gateway = run_overflow(models=_tiny(tiny, own_cloud), overflow=replace(PATIENT, health_interval_s=0.1))

    def ask(count: int, status: int, **options: Any) -> None:
        assert [gateway.chat(**options).status for _ in range(count)] == [status] * count

    def counted(metric: str, pool: str, status: str) -> int:
        labels = f'{{envoy_response_code="{status}",model="tiny",pool="{pool}"}}'
        lines = [line for line in gateway.metrics().splitlines() if line.startswith(metric + labels)]
        return sum(int(line.rpartition(" ")[2]) for line in lines)

    went_on, answered = "envoy_cluster_retry_upstream_rq", "envoy_cluster_upstream_rq"
    ask(3, 200)
    tiny.refuses_with = 503
    ask(10, 200)
    ask(5, 429, key=KEYS["bob"])
    assert counted(answered, "onprem", "200") == 3
    assert counted(answered, "onprem", "503") == 5, "refused, and may not leave"
    assert counted(went_on, "onprem", "503") == 10
    assert counted(answered, "spill", "200") == 10
    own_cloud.is_healthy = False
    wait_until(lambda: gateway.chat().status == 429, "the gate is closed")
    before = counted(answered, "spill", "503")
    ask(7, 429)
    assert counted(answered, "spill", "503") == before + 7, "refused, and could have left"
    assert 'envoy_cluster_health_check_healthy{model="tiny",pool="link"} 0' in gateway.metrics()


def test_a_running_envoy_accepts_every_file(overflowing: RunningGateway) -> None:
    lines = [line for line in overflowing.metrics().splitlines() if "update_rejected{" in line]
    assert lines
    assert all(line.endswith(" 0") for line in lines), lines
    assert "deprecated" not in overflowing.log.lower()


# The other side is the same gateway


def test_the_other_side_is_the_same_gateway_with_one_client(
    run_gateway: RunGateway, run_overflow: RunGateway, tiny: FakeUpstream, llama: FakeUpstream
) -> None:
    own = Upstream(host="127.0.0.1", port=tiny.port)
    there = run_gateway(
        start=False, models=(ModelRoute(name="tiny", upstream=Upstream(host="127.0.0.1", port=llama.port)),)
    )
    there.keys = {"onprem-gateway": SPILL_KEY}
    there.start()
    edge = Upstream(host="127.0.0.1", port=there.config.listen_port)
    here = run_overflow(models=(ModelRoute(name="tiny", upstream=own, spill=edge),))
    tiny.refuses_with = 503
    answer = here.chat(headers={"x-request-id": "across"})
    assert (answer.status, answer.headers["x-spillway-pool"]) == (200, "spill")
    assert there.access_log("across")["client"] == "onprem-gateway"
    for key in (None, KEYS["alice"], KEYS["bob"]):
        assert there.chat(key=key).status == 401
    seen = len(llama.received)
    assert here.chat(key=KEYS["bob"], headers={"x-request-id": "stays"}).status == 429
    assert len(llama.received) == seen
    assert "stays" not in (there.folder / "access.log").read_text()


def test_a_key_file_without_the_links_key_has_no_place_for_it() -> None:
    assert list(render_api_keys(KEYS)) == ["api_keys.yaml"]
    assert list(render_api_keys(KEYS, spill_key=SPILL_KEY)) == ["api_keys.yaml", "spill_key.yaml"]
    assert SPILL_KEY in render_api_keys(KEYS, spill_key=SPILL_KEY)["spill_key.yaml"]


def test_no_key_is_in_the_files_of_the_config_map(overflowing: RunningGateway) -> None:
    text = json.dumps(render(overflowing.config))
    assert SPILL_KEY not in text


def test_every_metric_of_the_alerts_is_one_that_the_gateway_has(
    run_overflow: RunGateway, tiny: FakeUpstream, cloud: FakeUpstream
) -> None:
    gateway = run_overflow()
    tiny.refuses_with = cloud.refuses_with = 503
    assert gateway.chat().status == 429
    cloud.refuses_with = 401
    assert gateway.chat().status == 429
    assert gateway.chat(headers=STICKY).status == 429
    assert gateway.chat(model="lost").status == 429
    lines = gateway.metrics().splitlines()
    rules = yaml.safe_load(render_alerts()["alerts.yaml"])["groups"][0]["rules"]
    selectors = re.findall(r"(envoy_\w+)\{([^}]*)\}", str([rule["expr"] for rule in rules]))
    assert len(selectors) == 5
    for metric, labels in selectors:
        wanted = [
            re.compile(rf'[{{,]{label}="({values})"')
            for label, values in re.findall(r'(\w+)=~?"([^"]*)"', labels)
        ]
        assert [
            line
            for line in lines
            if line.startswith(metric + "{")
            and 'model="' in line
            and all(label.search(line) for label in wanted)
        ], (metric, labels)
