"""The gateway's two listeners: the OpenAI API, and what a metrics scraper may see."""

from runtime.gateway.config import CLIENT_HEADER, GatewayConfig
from runtime.gateway.document import Tree, discovery, extension, seconds, typed, watched
from runtime.gateway.errors import local_replies
from runtime.gateway.gate import LOOPBACK, gate_manager
from runtime.gateway.keys import KEYS_FILE, KEYS_FILTER, KEYS_TYPE
from runtime.gateway.overflow import FULL_FILTER, FULL_TYPE, POOL_OF_UPSTREAM
from runtime.gateway.routes import (
    BUFFER_FILTER,
    JSON_FILTER,
    MODEL_KEY,
    PROBLEM_KEY,
    PROBLEM_NO_MODEL,
    ROUTES_NAME,
)
from runtime.gateway.tls import answering

ADMIN_CLUSTER = "admin"
ROUTES_FILE = "routes.yaml"
HEALTH_PATH = "/healthz"
METRICS_PATHS = ("/stats/prometheus", "/ready")

_HTTP = "envoy.extensions.filters.http"
_MANAGER_TYPE = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_SERVER_NAME = "spillway"
_HEADERS_LIMIT_KIB = 32
_HEADERS_TIMEOUT_S = 10.0
# Small, so that a slow reader holds little memory; the buffer filter raises it for request bodies.
_BUFFER_BYTES = 256 * 1024
_STREAMS_PER_CONNECTION = 256
_STREAM_WINDOW_BYTES = 256 * 1024
_CONNECTION_WINDOW_BYTES = 1024 * 1024


def listeners_file(config: GatewayConfig) -> str:
    """Returns the text of `listeners.yaml`."""
    listeners = [_openai_listener(config), _metrics_listener(config)]
    if config.spills:
        listeners.append(_listener("gate", LOOPBACK, config.overflow.gate_port, gate_manager(config)))
    return discovery(listeners)


def _openai_listener(config: GatewayConfig) -> dict[str, Tree]:
    manager: dict[str, Tree] = {
        "stat_prefix": "openai",
        **_hardening(),
        "stream_idle_timeout": seconds(config.stream_idle_timeout_s),
        "request_timeout": seconds(config.request_timeout_s),
        "request_headers_timeout": seconds(_HEADERS_TIMEOUT_S),
        "common_http_protocol_options": {
            "idle_timeout": seconds(config.connection_idle_timeout_s),
            "headers_with_underscores_action": "REJECT_REQUEST",
            **_limit_per_connection(config),
        },
        "http2_protocol_options": {
            "max_concurrent_streams": _STREAMS_PER_CONNECTION,
            "initial_stream_window_size": _STREAM_WINDOW_BYTES,
            "initial_connection_window_size": _CONNECTION_WINDOW_BYTES,
        },
        "xff_num_trusted_hops": config.trusted_proxies,
        "generate_request_id": True,
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "early_header_mutation_extensions": [_drop_claimed_headers()],
        "access_log": [_access_log(config)],
        "local_reply_config": local_replies(config),
        "rds": {
            "route_config_name": ROUTES_NAME,
            "config_source": watched(config.config_folder, ROUTES_FILE),
        },
        "http_filters": [
            # Before the keys: a probe has none. It answers 503 once the gateway was told to drain.
            extension(
                "envoy.filters.http.health_check",
                f"{_HTTP}.health_check.v3.HealthCheck",
                {
                    "pass_through_mode": False,
                    "headers": [
                        {"name": ":path", "string_match": {"exact": HEALTH_PATH}},
                        {"name": ":method", "string_match": {"exact": "GET"}},
                    ],
                },
            ),
            # Before anything that reads a body: who has no key costs no memory.
            {
                "name": KEYS_FILTER,
                "config_discovery": {
                    "config_source": watched(config.keys_folder, KEYS_FILE),
                    "type_urls": [f"type.googleapis.com/{KEYS_TYPE}"],
                },
            },
            {
                **extension(
                    BUFFER_FILTER,
                    f"{_HTTP}.buffer.v3.Buffer",
                    {"max_request_bytes": config.max_request_bytes},
                ),
                "disabled": True,
            },
            {**_model_from_body(), "disabled": True},
            *([extension(FULL_FILTER, FULL_TYPE)] if config.spills else []),
            extension(
                "envoy.filters.http.router", f"{_HTTP}.router.v3.Router", {"suppress_envoy_headers": True}
            ),
        ],
    }
    return _listener("openai", config.listen_address, config.listen_port, manager, answering(config))


def _limit_per_connection(config: GatewayConfig) -> dict[str, Tree]:
    limit = config.requests_per_connection
    return {} if limit is None else {"max_requests_per_connection": limit}


def _metrics_listener(config: GatewayConfig) -> dict[str, Tree]:
    manager: dict[str, Tree] = {
        "stat_prefix": "metrics",
        **_hardening(),
        "request_timeout": "10s",
        "request_headers_timeout": seconds(_HEADERS_TIMEOUT_S),
        "route_config": {
            "name": "metrics",
            "virtual_hosts": [
                {
                    "name": "metrics",
                    "domains": ["*"],
                    "routes": [
                        {
                            "name": path,
                            "match": {
                                "path": path,
                                "headers": [{"name": ":method", "string_match": {"exact": "GET"}}],
                            },
                            "route": {"cluster": ADMIN_CLUSTER, "timeout": "10s"},
                        }
                        for path in METRICS_PATHS
                    ],
                }
            ],
        },
        "http_filters": [
            extension(
                "envoy.filters.http.router", f"{_HTTP}.router.v3.Router", {"suppress_envoy_headers": True}
            )
        ],
    }
    return {
        **_listener("metrics", config.listen_address, config.metrics_port, manager),
        # A gateway that is full has to say so.
        "bypass_overload_manager": True,
    }


def _listener(
    name: str, address: str, port: int, manager: dict[str, Tree], more: dict[str, Tree] | None = None
) -> dict[str, Tree]:
    socket: dict[str, Tree] = {"address": address, "port_value": port}
    if address == "::":
        socket["ipv4_compat"] = True
    return typed(
        "envoy.config.listener.v3.Listener",
        {
            "name": name,
            "address": {"socket_address": socket},
            "per_connection_buffer_limit_bytes": _BUFFER_BYTES,
            "filter_chains": [
                {
                    "filters": [
                        extension("envoy.filters.network.http_connection_manager", _MANAGER_TYPE, manager)
                    ],
                    **(more or {}),
                }
            ],
        },
    )


def _hardening() -> dict[str, Tree]:
    """Returns what Envoy recommends for a proxy that faces clients which it does not trust.

    Source: https://www.envoyproxy.io/docs/envoy/latest/configuration/best_practices/edge
    """
    return {
        "use_remote_address": True,
        # Internal addresses may steer Envoy by x-envoy-* headers, and an empty list means all private
        # ones. So the list names one address that no client has.
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]},
        "normalize_path": True,
        "merge_slashes": True,
        # Clients send a model id with '/' in a path as %2F; see also MODEL_PATHS.
        "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD",
        "server_header_transformation": "OVERWRITE",
        "server_name": _SERVER_NAME,
        "max_request_headers_kb": _HEADERS_LIMIT_KIB,
    }


def _drop_claimed_headers() -> dict[str, Tree]:
    return extension(
        "envoy.http.early_header_mutation.header_mutation",
        "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        {
            "mutations": [
                {"remove": CLIENT_HEADER},
                {"remove_on_match": {"key_matcher": {"prefix": "x-envoy-"}}},
            ]
        },
    )


def _model_from_body() -> dict[str, Tree]:
    return extension(
        JSON_FILTER,
        f"{_HTTP}.json_to_metadata.v3.JsonToMetadata",
        {
            "request_rules": {
                "rules": [
                    {
                        "selectors": [{"key": "model"}],
                        # The value with its type: a number must not pass for a name.
                        "on_present": {"key": MODEL_KEY, "type": "PROTOBUF_VALUE"},
                        "on_missing": {"key": PROBLEM_KEY, "value": PROBLEM_NO_MODEL},
                    }
                ],
                # The filter's own default refuses a charset.
                "allow_content_types_regex": {"regex": r"(?i)application/json\s*(;.*)?"},
            }
        },
    )


def _access_log(config: GatewayConfig) -> dict[str, Tree]:
    model = f"%DYNAMIC_METADATA({JSON_FILTER}:{MODEL_KEY}):200%"
    return {
        **extension(
            "envoy.access_loggers.stdout",
            "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
            {
                "log_format": {
                    "json_format": {
                        "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
                        "method": "%REQ(:METHOD)%",
                        "path": "%PATH(NQ:PATH):200%",
                        "protocol": "%PROTOCOL%",
                        "status": "%RESPONSE_CODE%",
                        "details": "%RESPONSE_CODE_DETAILS%",
                        "flags": "%RESPONSE_FLAGS%",
                        "duration_ms": "%DURATION%",
                        "first_byte_ms": "%RESPONSE_DURATION%",
                        "request_bytes": "%BYTES_RECEIVED%",
                        "response_bytes": "%BYTES_SENT%",
                        "model": model,
                        "client": f"%REQ({CLIENT_HEADER})%",
                        "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
                        "upstream_host": "%UPSTREAM_HOST%",
                        **({"route": "%ROUTE_NAME%", "pool": POOL_OF_UPSTREAM} if config.spills else {}),
                        "tries": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
                        "request_id": "%REQ(X-REQUEST-ID):64%",
                        "remote_address": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
                    }
                }
            },
        ),
        "filter": {"not_health_check_filter": {}},
    }
