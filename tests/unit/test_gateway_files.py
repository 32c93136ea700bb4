"""The rendered files: their names, their determinism, and the parts on which other code relies."""

import textwrap
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import yaml

from runtime.gateway import GatewayConfig, ModelRoute, Upstream, arguments, render, render_api_keys

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
