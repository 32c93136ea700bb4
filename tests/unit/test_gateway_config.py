"""What a gateway may be configured with, and what is said about the rest."""

from typing import Any

import pytest

from runtime.gateway import GatewayConfig, ModelRoute, Upstream

SERVER = Upstream(host="tiny.models", port=8000)
TINY = ModelRoute(name="tiny", upstream=SERVER)


@pytest.mark.parametrize("name", ["tiny", "org/llama-3", "Qwen/Qwen2.5-7B_Instruct", "a/b/c", "x" * 200])
def test_a_usual_model_id_is_accepted(name: str) -> None:
    assert ModelRoute(name=name, upstream=SERVER).name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "/tiny",
        "tiny/",
        "a//b",
        "../tiny",
        "a/../b",
        "tiny:adapter",
        "tiny\n",
        "%model%",
        "é",
        "x" * 201,
    ],
)
def test_a_model_id_that_could_confuse_routing_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"^gateway: models\.name is .*; allowed: .*; fix: ") as error:
        ModelRoute(name=name, upstream=SERVER)
    assert repr(name) in str(error.value)


@pytest.mark.parametrize("host", ["10.0.0.1", "fd00::1", "tiny", "tiny.models.svc.cluster.local."])
def test_an_address_or_a_dns_name_is_a_host(host: str) -> None:
    assert Upstream(host=host, port=1).host == host


@pytest.mark.parametrize(
    "host", ["", "http://tiny", "tiny:8000", "tiny/path", "Tiny", "-tiny", "a..b", "a" * 64]
)
def test_anything_else_is_not_a_host(host: str) -> None:
    with pytest.raises(ValueError, match=r"^gateway: upstream\.host is .*; fix: "):
        Upstream(host=host, port=1)


@pytest.mark.parametrize("port", [0, -1, 65_536])
def test_a_port_outside_the_range_is_refused(port: int) -> None:
    with pytest.raises(ValueError, match=r"^gateway: upstream\.port is .*; allowed: 1 to 65535"):
        Upstream(host="tiny", port=port)


def test_a_model_that_is_there_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"models\.name is 'tiny'; allowed: each model id once"):
        GatewayConfig(models=(TINY, ModelRoute(name="tiny", upstream=Upstream(host="other", port=1))))


def test_a_gateway_without_a_model_is_possible() -> None:
    assert GatewayConfig(models=()).models == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics_port": 8080}, "metrics_port is 8080; allowed: a port other than listen_port's"),
        ({"admin_port": 9090}, "admin_port is 9090; allowed: a port other than metrics_port's"),
        ({"listen_address": "localhost"}, "listen_address is 'localhost'"),
        ({"config_folder": "etc"}, "config_folder is 'etc'; allowed: an absolute path"),
        ({"keys_folder": "/etc/envoy/config"}, "keys_folder is '/etc/envoy/config'"),
        ({"max_request_bytes": 0}, "max_request_bytes is 0; allowed: 1024 to"),
        ({"max_connections": 0}, "max_connections is 0"),
        ({"max_heap_bytes": 1}, "max_heap_bytes is 1"),
        ({"max_upstream_requests": 0}, "max_upstream_requests is 0"),
        ({"request_timeout_s": 0}, "request_timeout_s is 0"),
        ({"stream_idle_timeout_s": 0}, "stream_idle_timeout_s is 0"),
        ({"connection_idle_timeout_s": -1}, "connection_idle_timeout_s is -1"),
        ({"connect_timeout_s": 0}, "connect_timeout_s is 0"),
        ({"upstream_idle_timeout_s": float("nan")}, "upstream_idle_timeout_s is nan"),
        ({"retries": -1}, "retries is -1"),
        ({"drain_s": 0}, "drain_s is 0"),
        ({"trusted_proxies": -1}, "trusted_proxies is -1"),
        ({"concurrency": 0}, "concurrency is 0"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="; fix: ") as error:
        GatewayConfig(models=(TINY,), **changes)
    assert str(error.value).startswith("gateway: " + message)
