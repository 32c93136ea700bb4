"""Changes that a running gateway takes over when the kubelet swaps a link."""

from dataclasses import replace

import pytest

from runtime.gateway import ModelRoute, Upstream
from tests.support.waiting import wait_until

from .conftest import RunGateway
from .fake_upstream import FakeUpstream
from .running_gateway import RunningGateway


@pytest.fixture
def own_gateway(run_gateway: RunGateway) -> RunningGateway:
    return run_gateway()


def _served(gateway: RunningGateway) -> list[str]:
    return [card["id"] for card in gateway.request("GET", "/v1/models").json["data"]]


def test_a_new_model_is_served_and_a_removed_one_is_not_without_a_restart(
    own_gateway: RunningGateway, tiny: FakeUpstream, llama: FakeUpstream
) -> None:
    pid = own_gateway.pid
    new = ModelRoute(name="new", upstream=Upstream(host="127.0.0.1", port=llama.port))
    own_gateway.publish_config(replace(own_gateway.config, models=(new,)))
    wait_until(lambda: _served(own_gateway) == ["new"], "the new list of models")
    wait_until(lambda: own_gateway.chat(model="new").status == 200, "the new model is served")
    assert own_gateway.chat(model="tiny").error_code == "model_not_found"
    assert own_gateway.pid == pid


def test_a_model_moves_to_another_server_while_a_stream_ends_on_the_old_one(
    own_gateway: RunningGateway, tiny: FakeUpstream, llama: FakeUpstream
) -> None:
    connection, response = own_gateway.open_stream("stream and wait")
    assert b"first" in response.readline()
    moved = ModelRoute(name="tiny", upstream=Upstream(host="127.0.0.1", port=llama.port))
    own_gateway.publish_config(replace(own_gateway.config, models=(moved,)))

    def is_moved() -> bool:
        assert own_gateway.chat().status == 200
        return bool(llama.received)

    wait_until(is_moved, "requests reach the new server")
    tiny.may_continue.set()
    assert response.read().endswith(b"data: [DONE]\n\n")
    connection.close()


def test_a_stream_outlives_the_removal_of_its_model_and_the_drain_time(
    run_gateway: RunGateway, tiny: FakeUpstream
) -> None:
    gateway = run_gateway(drain_s=1)
    connection, response = gateway.open_stream("stream and wait")
    assert b"first" in response.readline()
    gateway.publish_config(replace(gateway.config, models=()))
    wait_until(lambda: not _served(gateway), "no model is left")
    assert gateway.chat().error_code == "model_not_found"
    assert not tiny.client_left.wait(2)
    tiny.may_continue.set()
    assert response.read().endswith(b"data: [DONE]\n\n")
    connection.close()


def test_a_key_is_replaced_without_a_restart(own_gateway: RunningGateway) -> None:
    pid = own_gateway.pid
    own_gateway.publish_keys({"alice": "sk-alice-second-0123"})

    def new_key_works() -> bool:
        return own_gateway.request("GET", "/v1/models", key="sk-alice-second-0123").status == 200

    wait_until(new_key_works, "the new key")
    assert own_gateway.request("GET", "/v1/models", key="sk-alice-0123456789").status == 401
    assert own_gateway.pid == pid


def test_a_changed_limit_takes_effect_without_a_restart(
    own_gateway: RunningGateway, tiny: FakeUpstream
) -> None:
    own_gateway.publish_config(replace(own_gateway.config, max_request_bytes=2048))
    wait_until(lambda: own_gateway.chat("x" * 4000).status == 413, "the new limit")
    assert own_gateway.chat("x" * 1000).status == 200


def test_requests_do_not_fail_while_models_come_and_go(
    own_gateway: RunningGateway, tiny: FakeUpstream
) -> None:
    with_tiny = own_gateway.config
    more = (*with_tiny.models, ModelRoute(name="more", upstream=Upstream(host="127.0.0.1", port=tiny.port)))
    for _ in range(5):
        for config in (replace(with_tiny, models=more), with_tiny):
            own_gateway.publish_config(config)
            assert [own_gateway.chat().status for _ in range(20)] == [200] * 20
