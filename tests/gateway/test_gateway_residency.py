"""What may not leave stays: checked at the other end of the link, which must not have seen it."""

import http.client
import itertools
import json
from dataclasses import replace

import pytest

from runtime.gateway import Overflow
from tests.support.waiting import wait_until

from .conftest import PATIENT, SPILL_KEY, RunGateway
from .fake_upstream import FakeUpstream
from .running_gateway import KEYS, RunningGateway, chat_body

TRICKS: dict[str, dict[str, str]] = {
    "nothing": {},
    "another client's name": {"x-spillway-client": "alice"},
    "another client's name in capitals": {"X-SPILLWAY-CLIENT": "alice"},
    "two names": {"x-spillway-client": "bob,alice"},
    "a residency that does not exist": {"x-spillway-residency": "cloud"},
    "an empty residency": {"x-spillway-residency": ""},
    "the pool": {"x-spillway-pool": "spill"},
    "a session": {"x-spillway-session": "1"},
    "the session's cookie": {"cookie": "spillway-pool=spill"},
    "the cookie among others": {"cookie": "a=b; spillway-pool=spill; c=d"},
    "session and cookie": {"x-spillway-session": "1", "cookie": "spillway-pool=spill"},
    "Envoy's retry": {
        "x-envoy-retry-on": "5xx,retriable-status-codes",
        "x-envoy-retriable-status-codes": "503,429",
        "x-envoy-max-retries": "9",
        "x-envoy-hedge-on-per-try-timeout": "true",
        "x-envoy-upstream-rq-per-try-timeout-ms": "1",
    },
    "Envoy's cluster": {"x-envoy-upstream-alt-stat-name": "tiny/spill", "x-envoy-attempt-count": "2"},
    "Envoy's path": {"x-envoy-original-path": "/v1/chat/completions", "x-envoy-internal": "true"},
    "a forged address": {"x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "https"},
    "the link's key": {"proxy-authorization": f"Bearer {SPILL_KEY}"},
    "another host": {"host": "spill"},
}


@pytest.mark.parametrize("refuses_with", [503, 429, None], ids=["full", "full by 429", "free"])
@pytest.mark.parametrize("trick", TRICKS.values(), ids=TRICKS.keys())
def test_no_header_and_no_cookie_lets_an_on_prem_clients_request_out(
    overflowing: RunningGateway,
    tiny: FakeUpstream,
    cloud: FakeUpstream,
    trick: dict[str, str],
    refuses_with: int | None,
) -> None:
    tiny.refuses_with = refuses_with
    answer = overflowing.chat(key=KEYS["bob"], headers=trick)
    assert answer.status == (429 if refuses_with else 200)
    assert len(tiny.received) == 1
    assert not cloud.received


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("trick", TRICKS.values(), ids=TRICKS.keys())
def test_no_header_and_no_cookie_lets_an_on_prem_models_request_out(
    overflowing: RunningGateway, llama: FakeUpstream, cloud: FakeUpstream, trick: dict[str, str], key: str
) -> None:
    llama.refuses_with = 503
    answer = overflowing.chat(model="org/llama-3.1", key=KEYS[key], headers=trick)
    assert answer.status == 429
    assert len(llama.received) == 1
    assert not cloud.received


@pytest.mark.parametrize("value", ["onprem", "ONPREM", "on-prem", "any", "cloud", "spill", " "])
def test_the_residency_header_keeps_a_request_on_prem_whatever_its_value(
    overflowing: RunningGateway, tiny: FakeUpstream, cloud: FakeUpstream, value: str
) -> None:
    tiny.refuses_with = 503
    for further in ({}, {"cookie": "spillway-pool=spill"}, {"x-spillway-session": "1"}):
        answer = overflowing.chat(headers={"x-spillway-residency": value, **further})
        assert answer.status == 429
    assert not cloud.received


def test_one_of_two_residency_headers_is_enough(
    overflowing: RunningGateway, tiny: FakeUpstream, cloud: FakeUpstream
) -> None:
    tiny.refuses_with = 503
    connection = overflowing.connect()
    connection.putrequest("POST", "/v1/chat/completions")
    body = chat_body("hello").encode()
    for name, value in [
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("authorization", f"Bearer {KEYS['alice']}"),
        ("x-spillway-residency", "any"),
        ("x-spillway-residency", "onprem"),
    ]:
        connection.putheader(name, value)
    connection.endheaders(body)
    assert connection.getresponse().status == 429
    connection.close()
    assert not cloud.received


def test_without_a_key_nothing_leaves(
    overflowing: RunningGateway, tiny: FakeUpstream, cloud: FakeUpstream
) -> None:
    tiny.refuses_with = 503
    for key, trick in itertools.product((None, SPILL_KEY), TRICKS.values()):
        assert overflowing.chat(key=key, headers=trick).status == 401
    assert not cloud.received


def test_a_model_whose_name_begins_like_one_that_may_leave_does_not_leave(
    overflowing: RunningGateway, tiny: FakeUpstream, cloud: FakeUpstream
) -> None:
    tiny.refuses_with = 503
    for model in ("tiny/spill", "tiny-2", "tiny/onprem"):
        assert overflowing.chat(model=model).error_code == "model_not_found"
    assert not cloud.received


def test_two_models_in_one_body_are_judged_by_the_one_that_is_served(
    overflowing: RunningGateway, tiny: FakeUpstream, llama: FakeUpstream, cloud: FakeUpstream
) -> None:
    llama.refuses_with = 503
    body = '{"model": "tiny", "prompt": "x", "model": "org/llama-3.1"}'
    assert overflowing.request("POST", "/v1/completions", body).status == 429
    assert not cloud.received
    assert not tiny.received


def test_without_named_clients_nothing_leaves(
    run_overflow: RunGateway, tiny: FakeUpstream, cloud: FakeUpstream
) -> None:
    gateway = run_overflow(overflow=Overflow())
    tiny.refuses_with = 503
    for key, trick in itertools.product(KEYS.values(), TRICKS.values()):
        assert gateway.chat(key=key, headers=trick).status == 429
    assert not cloud.received


def test_a_dot_in_a_clients_name_stands_for_itself(
    run_overflow: RunGateway, tiny: FakeUpstream, cloud: FakeUpstream
) -> None:
    gateway = run_overflow(start=False, overflow=replace(PATIENT, clients=("team.a",)))
    gateway.keys = {"team.a": "sk-team-a-0123456789", "team-a": "sk-team-b-0123456789"}
    gateway.start()
    gateway.wait_for_gate()
    tiny.refuses_with = 503
    assert gateway.chat(key="sk-team-b-0123456789").status == 429
    assert not cloud.received
    assert gateway.chat(key="sk-team-a-0123456789").status == 200
    assert len(cloud.received) == 1


def test_a_client_that_loses_the_permission_stays_from_then_on(
    run_overflow: RunGateway, tiny: FakeUpstream, cloud: FakeUpstream
) -> None:
    gateway = run_overflow()
    tiny.refuses_with = 503
    assert gateway.chat().status == 200
    gateway.publish_config(gateway.changed(overflow=replace(gateway.config.overflow, clients=())))
    wait_until(lambda: gateway.chat().status == 429, "the permission is gone")
    seen = len(cloud.received)
    assert gateway.chat(headers={"cookie": "spillway-pool=spill"}).status == 429
    assert len(cloud.received) == seen


def test_the_clients_key_does_not_cross_the_link_and_the_links_key_reaches_no_own_server(
    overflowing: RunningGateway, tiny: FakeUpstream, cloud: FakeUpstream
) -> None:
    tiny.refuses_with = 503
    assert overflowing.chat().status == 200
    (there,) = cloud.received
    assert there.headers["authorization"] == f"Bearer {SPILL_KEY}"
    assert KEYS["alice"] not in json.dumps(there.headers)
    assert SPILL_KEY not in json.dumps(tiny.received[0].headers)
    # Spill first: the request has the link's key already when its own servers get it.
    cloud.refuses_with, tiny.refuses_with = 503, None
    assert overflowing.chat(headers={"cookie": "spillway-pool=spill"}).status == 200
    assert "authorization" not in tiny.received[-1].headers


def test_the_links_key_stands_neither_in_the_logs_nor_in_the_admins_dump(
    overflowing: RunningGateway, tiny: FakeUpstream, cloud: FakeUpstream
) -> None:
    tiny.refuses_with = 503
    assert overflowing.chat(headers={"x-request-id": "link-key"}).status == 200
    overflowing.access_log("link-key")
    dump = overflowing.request("GET", "/config_dump", key=None, port=overflowing.config.admin_port)
    assert dump.status == 200
    for text in (overflowing.log, (overflowing.folder / "access.log").read_text(), dump.raw.decode()):
        assert SPILL_KEY not in text


def test_nothing_leaves_before_the_links_key_is_there(
    run_overflow: RunGateway, tiny: FakeUpstream, cloud: FakeUpstream
) -> None:
    gateway = run_overflow(start=False)
    gateway.spill_key = None
    gateway.publish_config(gateway.config)
    gateway.publish_keys(gateway.keys)
    gateway.launch()
    tiny.refuses_with = 503
    try:
        wait_until(lambda: gateway.answers_metrics, "Envoy is up")
        status = gateway.chat().status
    except (AssertionError, OSError, http.client.HTTPException):
        status = None
    assert status != 200
    assert not cloud.received
