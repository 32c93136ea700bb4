"""The rendered files: their names, their determinism, and the parts on which other code relies."""

import re
import textwrap
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import yaml

from runtime.gateway import GatewayConfig, ModelRoute, Overflow, Upstream, arguments, render, render_api_keys

TINY = ModelRoute(name="tiny", upstream=Upstream(host="tiny.models", port=8000))
LLAMA = ModelRoute(name="org/llama-3.1", upstream=Upstream(host="10.0.0.7", port=8001))
CONFIG = GatewayConfig(models=(TINY, LLAMA))

GOLDEN_CLUSTERS = """\
resources:
- '@type': type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: tiny/onprem
  type: STRICT_DNS
  dns_lookup_family: V4_PREFERRED
  connect_timeout: 2s
  per_connection_buffer_limit_bytes: 262144
  circuit_breakers:
    thresholds:
    - max_connections: 20000
      max_pending_requests: 10000
      max_requests: 10000
      max_retries: 10000
  typed_extension_protocol_options:
    envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
      '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
      common_http_protocol_options:
        idle_timeout: 4s
      explicit_http_config:
        http_protocol_options: {}
  load_assignment:
    cluster_name: tiny/onprem
    endpoints:
    - lb_endpoints:
      - endpoint:
          address:
            socket_address:
              address: tiny.models
              port_value: 8000
"""

GOLDEN_ROUTE = """\
name: serve tiny
match:
  safe_regex:
    regex: /v1/chat/completions|/v1/completions|/v1/embeddings|/tokenize|/detokenize
  headers:
  - name: :method
    string_match:
      exact: POST
  dynamic_metadata:
  - filter: envoy.filters.http.json_to_metadata
    path:
    - key: model
    value:
      or_match:
        value_matchers:
        - string_match:
            exact: tiny
        - string_match:
            prefix: 'tiny:'
route:
  cluster: tiny/onprem
  timeout: 0s
  idle_timeout: 600s
  retry_policy:
    retry_on: connect-failure,refused-stream,reset-before-request
    num_retries: 2
    retry_back_off:
      base_interval: 0.005s
      max_interval: 0.05s
"""

GOLDEN_KEYS = """\
resources:
- '@type': type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig
  name: envoy.filters.http.api_key_auth
  typed_config:
    '@type': type.googleapis.com/envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth
    credentials:
    - key: sk-alice-0123456789
      client: alice
    - key: sk-bob-0123456789ab
      client: bob
    - key: sk-bob-new-01234567
      client: bob
    key_sources:
    - header: Authorization
    forwarding:
      header: x-spillway-client
      hide_credentials: true
"""


def _resources(name: str, config: GatewayConfig = CONFIG) -> list[dict[str, Any]]:
    return yaml.safe_load(render(config)[name])["resources"]


def test_a_gateway_is_four_files() -> None:
    assert list(render(CONFIG)) == ["bootstrap.yaml", "listeners.yaml", "routes.yaml", "clusters.yaml"]


def test_the_cluster_of_a_model_reads_like_this() -> None:
    assert render(replace(CONFIG, models=(TINY,)))["clusters.yaml"] == GOLDEN_CLUSTERS


def test_the_route_of_a_model_reads_like_this() -> None:
    text = render(replace(CONFIG, models=(TINY,)))["routes.yaml"]
    assert textwrap.indent(GOLDEN_ROUTE, " " * 6).replace(" " * 6 + "name", " " * 4 + "- name", 1) in text


def test_the_keys_read_like_this() -> None:
    rendered = render_api_keys(
        {"bob": ["sk-bob-0123456789ab", "sk-bob-new-01234567"], "alice": "sk-alice-0123456789"}
    )
    assert rendered == {"api_keys.yaml": GOLDEN_KEYS}


def test_equal_configurations_give_equal_bytes_whatever_the_order_of_models() -> None:
    assert render(CONFIG) == render(replace(CONFIG, models=(LLAMA, TINY)))
    assert [cluster["name"] for cluster in _resources("clusters.yaml")] == [
        "org/llama-3.1/onprem",
        "tiny/onprem",
    ]


def test_a_change_of_models_leaves_the_listeners_and_the_bootstrap_alone() -> None:
    one, two = render(replace(CONFIG, models=(TINY,))), render(CONFIG)
    assert {name for name in one if one[name] != two[name]} == {"routes.yaml", "clusters.yaml"}


def test_lines_stay_short_enough_for_a_diff() -> None:
    many = tuple(ModelRoute(name=f"org/model-{index}", upstream=TINY.upstream) for index in range(50))
    longest = max(
        len(line) for text in render(replace(CONFIG, models=many)).values() for line in text.split("\n")
    )
    assert longest <= 140


def test_an_address_is_not_resolved() -> None:
    assert [cluster["type"] for cluster in _resources("clusters.yaml")] == ["STATIC", "STRICT_DNS"]


def test_the_admin_interface_is_on_loopback_only_and_cannot_stop_envoy() -> None:
    admin = yaml.safe_load(render(CONFIG)["bootstrap.yaml"])["admin"]
    assert admin["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 9901}
    assert {"exact": "/quitquitquit"} not in admin["allow_paths"]


def test_every_watched_file_is_one_that_is_rendered() -> None:
    paths: list[str] = []
    for text in render(CONFIG).values():
        lines = [line.strip() for line in text.split("\n")]
        for index, line in enumerate(lines):
            if line == "path_config_source:":
                path, watched, folder = lines[index + 1 : index + 4]
                assert watched == "watched_directory:"
                assert path.removeprefix("path: ").rpartition("/")[0] == folder.removeprefix("path: ")
                paths.append(path.removeprefix("path: "))
    assert sorted(paths) == [
        *(f"/etc/envoy/config/{name}" for name in sorted(render(CONFIG)) if name != "bootstrap.yaml"),
        *(f"/etc/envoy/keys/{name}" for name in render_api_keys({})),
    ]


def test_no_key_stands_in_the_files_of_the_config_map() -> None:
    assert "credentials" not in "".join(render(CONFIG).values())


def test_the_arguments_name_the_bootstrap_and_the_drain_time() -> None:
    found = arguments(replace(CONFIG, config_folder="/conf", drain_s=7, concurrency=3))
    options = dict(pairwise(found))
    assert options["--config-path"] == "/conf/bootstrap.yaml"
    assert options["--drain-time-s"] == "7"
    assert options["--concurrency"] == "3"


@pytest.mark.parametrize("client", ["", "two words", "-x", "a" * 64, "x\n"])
def test_a_client_name_that_no_header_can_carry_is_refused(client: str) -> None:
    with pytest.raises(ValueError, match=r"^gateway: client name is .*; fix: "):
        render_api_keys({client: "sk-alice-0123456789"})


@pytest.mark.parametrize(
    "key", ["", "short", "sk-with a space 0123", "sk-with-é-0123456789", "k" * 513, "sk-0123456789abcd\n"]
)
def test_an_unusable_key_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ValueError, match="a key of client 'alice' is not usable") as error:
        render_api_keys({"alice": key})
    assert not key or key not in str(error.value)


def test_a_key_of_two_clients_is_refused_without_being_shown() -> None:
    key = "sk-shared-0123456789"
    with pytest.raises(ValueError, match="client 'bob' is also a key of client 'alice'") as error:
        render_api_keys({"alice": key, "bob": key})
    assert key not in str(error.value)


# Overflow

ELSEWHERE = Upstream(host="spill.models", port=8443)
SPILLING = GatewayConfig(
    models=(replace(TINY, spill=ELSEWHERE), LLAMA), overflow=Overflow(clients=("batch", "team.a"))
)
HOSTS_ELSEWHERE = ("spill.models",)


def _clusters_of(route: dict[str, Any]) -> set[str]:
    action = route.get("route", {})
    if "cluster" in action:
        return {action["cluster"]}
    specifier = action.get("inline_cluster_specifier_plugin", {}).get("extension", {}).get("typed_config", {})
    return {
        cluster["cluster_name"]
        for group in specifier.get("priority_groups", [])
        for cluster in group["clusters"]
    }


def _served_routes(config: GatewayConfig) -> list[dict[str, Any]]:
    (routes,) = _resources("routes.yaml", config)
    return [route for route in routes["virtual_hosts"][0]["routes"] if _clusters_of(route)]


def test_a_route_that_can_reach_a_spill_pool_names_the_clients_and_asks_for_no_residency() -> None:
    reaching = [
        route for route in _served_routes(SPILLING) if any("/spill" in name for name in _clusters_of(route))
    ]
    assert [route["name"] for route in reaching] == [
        "serve tiny, spill first",
        "serve tiny, on-prem first, remember",
        "serve tiny, on-prem first",
    ]
    for route in reaching:
        headers = {header["name"]: header for header in route["match"]["headers"]}
        assert headers["x-spillway-client"]["string_match"] == {"safe_regex": {"regex": r"batch|team\.a"}}
        residency = headers["x-spillway-residency"]
        assert (residency["present_match"], residency["invert_match"]) == (True, True)
        assert _clusters_of(route) == {"tiny/onprem", "tiny/spill"}


def test_every_other_route_has_one_cluster_with_the_models_own_servers_only() -> None:
    others = [route for route in _served_routes(SPILLING) if "cluster" in route["route"]]
    assert [_clusters_of(route) for route in others] == [{"org/llama-3.1/onprem"}, {"tiny/onprem"}]
    for cluster in _resources("clusters.yaml", SPILLING):
        leaves = any(host in str(cluster["load_assignment"]) for host in HOSTS_ELSEWHERE)
        assert leaves == cluster["name"].startswith(("tiny/spill", "tiny/link")), cluster["name"]


def test_a_model_that_may_spill_without_a_client_that_may_has_no_route_there() -> None:
    routes = _served_routes(replace(SPILLING, overflow=Overflow()))
    assert [_clusters_of(route) for route in routes] == [{"org/llama-3.1/onprem"}, {"tiny/onprem"}]


def test_without_a_spill_pool_the_overflow_changes_no_byte() -> None:
    assert render(CONFIG) == render(
        replace(CONFIG, overflow=Overflow(clients=("batch",), retry_after_s=9, session_s=9))
    )


def test_retries_wait_a_millisecond_and_are_not_limited_below_the_requests() -> None:
    for route in _served_routes(SPILLING)[-4:-1]:
        policy = route["route"]["retry_policy"]
        assert policy["retry_back_off"]["base_interval"] == "0.001s"
        assert policy["num_retries"] == 1
        assert "reset-before-request" in policy["retry_on"]
        assert "5xx" not in policy["retry_on"]
    for cluster in _resources("clusters.yaml", SPILLING):
        (limits,) = cluster["circuit_breakers"]["thresholds"]
        assert limits["max_retries"] == limits["max_requests"] == 10_000


def test_a_changed_permission_of_a_client_changes_the_routes_only() -> None:
    one, two = render(SPILLING), render(replace(SPILLING, overflow=Overflow(clients=("batch",))))
    assert {name for name in one if one[name] != two[name]} == {"routes.yaml"}


def test_the_links_key_is_read_from_the_secret() -> None:
    paths = set(re.findall(r"path: (/etc/envoy/keys/\S+)", "".join(render(SPILLING).values())))
    files = render_api_keys({}, spill_key="sk-link-0123456789")
    assert paths == {f"/etc/envoy/keys/{name}" for name in files}


@pytest.mark.parametrize("key", ["", "short", "sk-with a space 0123", "k" * 513])
def test_an_unusable_key_of_the_link_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ValueError, match="the key of the spill pool is not usable") as error:
        render_api_keys({}, spill_key=key)
    assert not key or key not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"retry_after_s": 0}, "retry_after_s"),
        ({"session_s": 0}, "session_s"),
        ({"connect_timeout_s": 0.0}, "connect_timeout_s"),
        ({"health_failures": 0}, "health_failures"),
        ({"ready_hold_s": -1.0}, "ready_hold_s"),
    ],
)
def test_an_overflow_that_cannot_work_is_refused(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(ValueError, match=rf"^gateway: overflow.{key} is .*; allowed: .*; fix: "):
        Overflow(**changes)


def test_the_gate_needs_a_port_of_its_own() -> None:
    with pytest.raises(ValueError, match=r"gateway: overflow.gate_port is 8080; .*other than listen_port"):
        GatewayConfig(models=(), overflow=Overflow(gate_port=8080))
