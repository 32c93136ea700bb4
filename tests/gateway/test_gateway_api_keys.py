"""Who gets in, and that keys stay at the gateway."""

from pathlib import Path

import pytest

from runtime.gateway import render_api_keys
from tests.support.waiting import wait_until

from .conftest import RunGateway
from .fake_upstream import FakeUpstream
from .running_gateway import KEYS, RunningGateway, chat_body


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/tiny", "/", "/-/routes"])
def test_without_a_key_every_path_is_refused(gateway: RunningGateway, path: str) -> None:
    answer = gateway.request("GET", path, key=None)
    assert (answer.status, answer.error_code) == (401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "value",
    [
        "Bearer sk-alice-012345678",
        "Bearer sk-alice-01234567890",
        "Bearer SK-ALICE-0123456789",
        "Bearer ",
        "Bearer",
        "Basic c2stYWxpY2U6",
        "Bearer alice",
        "Bearer sk-alice-0123456789,sk-bob-0123456789ab",
    ],
)
def test_a_wrong_key_is_refused_and_reaches_no_server(
    gateway: RunningGateway, tiny: FakeUpstream, value: str
) -> None:
    answer = gateway.chat(key=None, headers={"authorization": value})
    assert (answer.status, answer.error_code) == (401, "invalid_api_key")
    assert not tiny.received


def test_a_key_in_the_query_is_not_a_key(gateway: RunningGateway) -> None:
    assert gateway.request("GET", f"/v1/models?api_key={KEYS['alice']}", key=None).status == 401


@pytest.mark.parametrize("client", KEYS)
def test_the_server_learns_the_clients_name_but_not_its_key(
    gateway: RunningGateway, tiny: FakeUpstream, client: str
) -> None:
    assert gateway.chat(key=KEYS[client]).status == 200
    headers = tiny.received[0].headers
    assert headers["x-spillway-client"] == client
    assert KEYS[client] not in str(headers)


def test_a_client_cannot_claim_another_clients_name(gateway: RunningGateway, tiny: FakeUpstream) -> None:
    assert gateway.chat(headers={"x-spillway-client": "bob"}).status == 200
    assert tiny.received[0].headers["x-spillway-client"] == "alice"
    refused = gateway.chat(key=None, headers={"x-spillway-client": "bob", "x-request-id": "claims-bob"})
    assert refused.status == 401
    assert gateway.access_log("claims-bob")["client"] is None


def test_headers_that_steer_envoy_do_nothing(gateway: RunningGateway, tiny: FakeUpstream) -> None:
    answer = gateway.chat(
        "be full",
        headers={
            "x-envoy-retry-on": "retriable-status-codes",
            "x-envoy-retriable-status-codes": "429",
            "x-envoy-max-retries": "5",
            "x-envoy-upstream-rq-timeout-ms": "1",
        },
    )
    assert answer.status == 429
    assert len(tiny.received) == 1


def test_a_client_may_have_two_keys_while_one_replaces_the_other(run_gateway: RunGateway) -> None:
    gateway = run_gateway()
    gateway.publish_keys({"alice": ["sk-alice-0123456789", "sk-alice-new-0123456"]})
    wait_until(
        lambda: gateway.request("GET", "/v1/models", key="sk-alice-new-0123456").status == 200,
        "new key works",
    )
    assert gateway.request("GET", "/v1/models", key="sk-alice-0123456789").status == 200


def test_the_key_stands_neither_in_the_logs_nor_in_the_admins_dump(
    gateway: RunningGateway, tiny: FakeUpstream
) -> None:
    gateway.request("POST", "/v1/completions", chat_body("x"), headers={"x-request-id": "key-search"})
    gateway.access_log("key-search")
    dump = gateway.request("GET", "/config_dump", key=None, port=gateway.config.admin_port)
    assert dump.status == 200
    for text in (gateway.log, (gateway.folder / "access.log").read_text(), dump.raw.decode()):
        assert not any(key in text for key in KEYS.values())


def test_without_any_client_everybody_is_refused(run_gateway: RunGateway) -> None:
    gateway = run_gateway()
    gateway.publish_keys({})
    wait_until(lambda: gateway.request("GET", "/v1/models").status == 401, "the last key is revoked")


def _broken_key_file() -> str:
    """A key twice: Envoy refuses it and would print it; `render_api_keys` never makes it."""
    return render_api_keys(KEYS)["api_keys.yaml"].replace(KEYS["bob"], KEYS["alice"])


def test_a_broken_key_file_changes_nothing_and_shows_no_key(run_gateway: RunGateway) -> None:
    gateway = run_gateway()
    gateway.publish_key_file(_broken_key_file())
    rejected = "envoy_extension_config_discovery_http_filter_envoy_filters_http_api_key_auth_update_rejected"
    wait_until(lambda: gateway.metric(rejected) == 1, "the file is rejected")
    assert gateway.request("GET", "/v1/models", key=KEYS["bob"]).status == 200
    assert not any(key in gateway.log for key in KEYS.values())


def test_a_gateway_without_a_key_file_does_not_open_its_port(run_gateway: RunGateway) -> None:
    gateway = run_gateway(start=False)
    gateway.publish_config(gateway.config)
    Path(gateway.config.keys_folder).mkdir()
    gateway.launch()
    wait_until(lambda: gateway.answers_metrics, "Envoy is up")
    with pytest.raises(ConnectionRefusedError):
        gateway.request("GET", "/healthz", key=None)


def test_a_gateway_that_starts_with_a_broken_key_file_lets_nobody_in_until_it_is_mended(
    run_gateway: RunGateway,
) -> None:
    gateway = run_gateway(start=False)
    gateway.publish_config(gateway.config)
    gateway.publish_key_file(_broken_key_file())
    gateway.launch()
    wait_until(lambda: gateway.answers_metrics, "Envoy is up")
    for key in (KEYS["alice"], None):
        answer = gateway.request("GET", "/v1/models", key=key)
        assert (answer.status, answer.error_code) == (500, "gateway_error")
    gateway.publish_keys(KEYS)
    wait_until(lambda: gateway.request("GET", "/v1/models").status == 200, "the keys are mended")
