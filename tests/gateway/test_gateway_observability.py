"""Health, metrics and the access log; and that nothing else of Envoy can be seen from outside."""

import pytest

from tests.support.waiting import wait_until

from .conftest import RunGateway
from .fake_upstream import FakeUpstream
from .running_gateway import KEYS, RunningGateway


def test_the_health_check_needs_no_key(gateway: RunningGateway) -> None:
    assert gateway.request("GET", "/healthz", key=None).status == 200


def test_a_gateway_that_is_told_to_leave_is_unhealthy_but_still_serves(
    run_gateway: RunGateway, tiny: FakeUpstream
) -> None:
    gateway = run_gateway()
    told = gateway.request("POST", "/healthcheck/fail", key=None, port=gateway.config.admin_port)
    assert told.status == 200
    assert gateway.request("GET", "/healthz", key=None).status == 503
    assert gateway.chat().status == 200


@pytest.mark.parametrize("path", ["/stats/prometheus", "/ready"])
def test_metrics_and_readiness_are_readable_on_the_metrics_port(gateway: RunningGateway, path: str) -> None:
    assert gateway.request("GET", path, key=None, port=gateway.config.metrics_port).status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/stats"),
        ("GET", "/config_dump"),
        ("GET", "/server_info"),
        ("GET", "/stats/prometheus/../../config_dump"),
        ("GET", "/ready/..%2fconfig_dump"),
        ("POST", "/quitquitquit"),
        ("POST", "/healthcheck/fail"),
        ("POST", "/stats/prometheus"),
        ("GET", "/v1/models"),
    ],
)
def test_the_rest_of_the_admin_interface_is_not_on_the_metrics_port(
    gateway: RunningGateway, method: str, path: str
) -> None:
    assert gateway.request(method, path, key=None, port=gateway.config.metrics_port).status == 404


@pytest.mark.parametrize(
    "path", ["/quitquitquit", "/runtime_modify?a=b", "/logging?level=trace", "/cpuprofiler"]
)
def test_the_admin_interface_itself_cannot_stop_or_change_the_gateway(
    gateway: RunningGateway, path: str
) -> None:
    assert gateway.request("POST", path, key=None, port=gateway.config.admin_port).status == 403


def test_metrics_name_model_and_pool_even_when_the_name_has_dots(
    gateway: RunningGateway, llama: FakeUpstream
) -> None:
    assert gateway.chat(model="org/llama-3.1").status == 200
    assert 'envoy_cluster_upstream_rq_active{model="org/llama-3.1",pool="onprem"} 0' in gateway.metrics()


def test_the_access_log_has_one_json_line_with_the_facts_and_no_content(
    gateway: RunningGateway, tiny: FakeUpstream
) -> None:
    answer = gateway.chat(
        "a private question", headers={"x-request-id": "logged-request", "user-agent": "private agent"}
    )
    entry = gateway.access_log("logged-request")
    assert entry == {
        "time": entry["time"],
        "method": "POST",
        "path": "/v1/chat/completions",
        "protocol": "HTTP/1.1",
        "status": 200,
        "details": "via_upstream",
        "flags": "-",
        "duration_ms": entry["duration_ms"],
        "first_byte_ms": entry["first_byte_ms"],
        "request_bytes": entry["request_bytes"],
        "response_bytes": len(answer.raw),
        "model": "tiny",
        "client": "alice",
        "upstream_cluster": "tiny/onprem",
        "upstream_host": entry["upstream_host"],
        "tries": 1,
        "request_id": "logged-request",
        "remote_address": "127.0.0.1",
    }
    assert entry["request_bytes"] > 0
    assert isinstance(entry["duration_ms"], int)
    log = (gateway.folder / "access.log").read_text()
    assert "private" not in log
    assert not any(key in log for key in KEYS.values())


def test_the_access_log_tells_why_a_request_was_refused(gateway: RunningGateway) -> None:
    gateway.chat(key=None, headers={"x-request-id": "refused-request"})
    entry = gateway.access_log("refused-request")
    assert (entry["status"], entry["details"], entry["client"]) == (401, "missing_api_key", None)


def test_a_query_is_not_logged(gateway: RunningGateway) -> None:
    gateway.request("GET", "/v1/models?token=secret", headers={"x-request-id": "with-query"})
    assert gateway.access_log("with-query")["path"] == "/v1/models"


def test_health_checks_are_not_logged(gateway: RunningGateway) -> None:
    gateway.request("GET", "/healthz", key=None, headers={"x-request-id": "probe"})
    gateway.request("GET", "/v1/models", headers={"x-request-id": "after-probe"})
    gateway.access_log("after-probe")
    assert "probe" not in (gateway.folder / "access.log").read_text().replace("after-probe", "")


def test_every_answer_carries_a_request_id_the_clients_own_if_it_has_one(
    gateway: RunningGateway, tiny: FakeUpstream
) -> None:
    assert gateway.chat(headers={"x-request-id": "mine"}).headers["x-request-id"] == "mine"
    assert tiny.received[0].headers["x-request-id"] == "mine"
    ids = {gateway.chat().headers["x-request-id"] for _ in range(2)}
    ids.add(gateway.chat(key=None).headers["x-request-id"])
    assert len(ids) == 3


def test_answers_do_not_tell_which_software_stands_behind(
    gateway: RunningGateway, tiny: FakeUpstream
) -> None:
    answer = gateway.chat()
    assert answer.headers["server"] == "spillway"
    assert not [name for name in answer.headers if name.startswith("x-envoy")]


@pytest.mark.parametrize(("trusted", "seen"), [(0, "127.0.0.1"), (1, "203.0.113.7")])
def test_a_forwarded_address_is_believed_only_from_a_trusted_proxy(
    run_gateway: RunGateway, tiny: FakeUpstream, trusted: int, seen: str
) -> None:
    gateway = run_gateway(trusted_proxies=trusted)
    gateway.chat(headers={"x-forwarded-for": "203.0.113.7", "x-request-id": "forwarded"})
    assert gateway.access_log("forwarded")["remote_address"] == seen


def test_the_gateway_reports_its_requests_in_flight_per_model(
    gateway: RunningGateway, tiny: FakeUpstream
) -> None:
    connection, response = gateway.open_stream("stream and wait")
    response.readline()
    active = 'envoy_cluster_upstream_rq_active{model="tiny",pool="onprem"}'
    assert f"{active} 1" in gateway.metrics()
    connection.close()
    response.close()
    wait_until(lambda: f"{active} 0" in gateway.metrics(), "no request is in flight")
