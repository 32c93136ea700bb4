"""What sends a request on to the spill pool, what keeps it from there, and what is said if none takes it."""

import re
from collections.abc import Callable, Sequence

from runtime.gateway.config import (
    CLIENT_HEADER,
    POOL_HEADER,
    POOL_ON_PREM,
    POOL_SPILL,
    RESIDENCY_HEADER,
    SESSION_COOKIE,
    SESSION_HEADER,
    GatewayConfig,
    ModelRoute,
    Overflow,
)
from runtime.gateway.document import Tree, discovery, extension, seconds, typed, watched

FULL_FILTER = "envoy.filters.http.custom_response"
FULL_TYPE = "envoy.extensions.filters.http.custom_response.v3.CustomResponse"
SPILL_KEY_FILE = "spill_key.yaml"

METADATA = "spillway"
"""The namespace of what an endpoint says of itself to answers and to the access log."""

POOL_OF_UPSTREAM = f"%UPSTREAM_METADATA({METADATA}:pool)%"
"""Which pool answered, for headers and the access log."""

_SECRET_NAME = "spill"  # noqa: S105 - what Envoy calls it
_HTTP = "envoy.extensions.filters.http"
# With these a server says that it has not begun: it is full, or does not know the key while that is changed.
_NOT_BEGUN = (401, 429, 503)
_QUIET_S, _PROBE_INTERVAL_S, _PROBES = 10, 5, 2
# Of Linux, on which Envoy runs, whatever renders this.
_IPPROTO_TCP, _TCP_USER_TIMEOUT = 6, 18
# Nobody listens there, so it refuses at once.
_NOBODY: tuple[str, int] = ("127.0.0.1", 1)


def spilling_routes(
    model: ModelRoute,
    config: GatewayConfig,
    match: Callable[[Sequence[Tree]], dict[str, Tree]],
    retry_on: str,
) -> list[dict[str, Tree]]:
    """Returns the routes of a model whose requests may be spilled, most specific first.

    They match only requests of the clients that may. All others are left to the route after them, whose
    cluster has no endpoint but the model's own servers.

    Args:
        model: A model with a spill pool.
        config: The gateway's configuration.
        match: What matches a request for the model that fits further header matchers too.
        retry_on: When a request that reached no server is tried again.
    """
    overflow = config.overflow
    if model.spill is None or not overflow.clients:
        return []
    may_leave: list[Tree] = [_is_one_of(overflow.clients), _absent(RESIDENCY_HEADER)]
    in_session: dict[str, Tree] = {"name": SESSION_HEADER, "present_match": True}
    cookie: dict[str, Tree] = {"name": SESSION_COOKIE, "string_match": {"exact": POOL_SPILL}}
    here, there = (POOL_ON_PREM, model.on_prem_cluster), (POOL_SPILL, model.spill_cluster)

    def route(
        name: str, match: dict[str, Tree], order: Sequence[tuple[str, str]], cookie_of_pool: str | None = None
    ) -> dict[str, Tree]:
        groups: list[Tree] = [
            {"name": pool, "clusters": [{"cluster_name": cluster, "weight": 1}]} for pool, cluster in order
        ]
        return {
            "name": f"serve {model.name}, {name}",
            "match": match,
            "route": {
                # The first try goes to the first group, the second to the second.
                "inline_cluster_specifier_plugin": {
                    "extension": extension(
                        "envoy.router.cluster_specifier_plugin.priority_group",
                        "envoy.extensions.router.cluster_specifiers.priority_group.v3"
                        ".PriorityGroupClusterSpecifier",
                        {"priority_groups": groups},
                    )
                },
                "timeout": "0s",
                "idle_timeout": seconds(config.stream_idle_timeout_s),
                "retry_policy": {
                    "retry_on": f"{retry_on},retriable-status-codes",
                    "retriable_status_codes": list(_NOT_BEGUN),
                    # With a third try it would be the first group's turn again.
                    "num_retries": 1,
                    "refresh_cluster_on_retry": True,
                    # The default adds 15 ms to every spilled request.
                    "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"},
                },
            },
            **answer_headers(cookie_of_pool),
            "typed_per_filter_config": full_answers(of_two_pools=True),
        }

    return [
        route("spill first", {**match(may_leave), "cookies": [cookie]}, (there, here), "forget"),
        route("on-prem first, remember", match([*may_leave, in_session]), (here, there), "remember"),
        route("on-prem first", match(may_leave), (here, there)),
    ]


def answer_headers(cookie: str | None = None) -> dict[str, Tree]:
    """Returns the part of a route that says in the answer which pool gave it.

    Args:
        cookie: Which of the endpoint's cookies goes with it; one that an endpoint lacks is not sent.
    """
    headers: list[Tree] = [
        {
            "header": {"key": POOL_HEADER, "value": POOL_OF_UPSTREAM},
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        }
    ]
    if cookie is not None:
        headers.append(
            {
                "header": {"key": "set-cookie", "value": f"%UPSTREAM_METADATA({METADATA}:{cookie})%"},
                "append_action": "APPEND_IF_EXISTS_OR_ADD",
            }
        )
    return {"response_headers_to_add": headers}


def full_answers(*, of_two_pools: bool) -> dict[str, Tree]:
    """Returns the part of a route that says 429 with Retry-After instead of 503.

    A server's own 429 stays as it is, if it says when to try again.

    Args:
        of_two_pools: Whether there was another pool to go to. If not, the gateway's own 503 stays: the
            model's servers cannot be reached then, and no waiting mends it.
    """
    if of_two_pools:
        # No model server asks for a key, so the 401 is about this gateway's, which is no client's business.
        full = _any_of(_status(503), _status(401))
    else:
        full = _all_of(_status(503), _answered_by_server())
    return {
        FULL_FILTER: typed(
            FULL_TYPE,
            {
                "custom_response_matcher": {
                    "matcher_list": {
                        "matchers": [
                            {
                                "predicate": _any_of(
                                    full, _all_of(_status(429), {"not_matcher": _names_a_time()})
                                ),
                                # What this answer says is in the rewriting of the gateway's own answers.
                                "on_match": {
                                    "action": extension(
                                        "full",
                                        "envoy.extensions.http.custom_response"
                                        ".local_response_policy.v3.LocalResponsePolicy",
                                        {"status_code": 429},
                                    )
                                },
                            }
                        ]
                    }
                }
            },
        )
    }


def _status(status: int) -> dict[str, Tree]:
    return _predicate(
        extension("status", "envoy.type.matcher.v3.HttpResponseStatusCodeMatchInput"), {"exact": str(status)}
    )


def _names_a_time() -> dict[str, Tree]:
    return _predicate(
        extension(
            "retry-after",
            "envoy.type.matcher.v3.HttpResponseHeaderMatchInput",
            {"header_name": "retry-after"},
        ),
        {"safe_regex": {"google_re2": {}, "regex": ".+"}},
    )


def _answered_by_server() -> dict[str, Tree]:
    """An answer is a server's: `response.code_details == "via_upstream"`, parsed, as Envoy wants it."""
    details: dict[str, Tree] = {
        "operand": {"id": 3, "ident_expr": {"name": "response"}},
        "field": "code_details",
    }
    equal: dict[str, Tree] = {
        "id": 1,
        "call_expr": {
            "function": "_==_",
            "args": [
                {"id": 2, "select_expr": details},
                {"id": 4, "const_expr": {"string_value": "via_upstream"}},
            ],
        },
    }
    return {
        "single_predicate": {
            "input": extension("answer", "xds.type.matcher.v3.HttpAttributesCelMatchInput"),
            "custom_match": extension(
                "by server",
                "xds.type.matcher.v3.CelMatcher",
                {"expr_match": {"cel_expr_parsed": {"expr": equal}}},
            ),
        }
    }


def _predicate(what: dict[str, Tree], value: dict[str, Tree]) -> dict[str, Tree]:
    return {"single_predicate": {"input": what, "value_match": value}}


def _all_of(*predicates: dict[str, Tree]) -> dict[str, Tree]:
    return {"and_matcher": {"predicate": list(predicates)}}


def on_prem_metadata() -> dict[str, Tree]:
    """Returns what the model's own servers say of themselves."""
    return _metadata({"pool": POOL_ON_PREM, "forget": f"{SESSION_COOKIE}=; Path=/; Max-Age=0; HttpOnly"})


def spill_metadata(overflow: Overflow) -> dict[str, Tree]:
    """Returns what the servers of the spill pool say of themselves."""
    return _metadata(
        {
            "pool": POOL_SPILL,
            "remember": f"{SESSION_COOKIE}={POOL_SPILL}; Path=/; Max-Age={overflow.session_s}; HttpOnly",
        }
    )


def dead_link() -> dict[str, Tree]:
    """Returns the part of a cluster that notices a link which swallows what is sent on an open connection.

    Else a request that was under way when the link was cut would end only with its idle timeout.
    """
    return {
        "upstream_connection_options": {
            "tcp_keepalive": {
                "keepalive_time": _QUIET_S,
                "keepalive_interval": _PROBE_INTERVAL_S,
                "keepalive_probes": _PROBES,
            }
        },
        # Keep-alive asks only while nothing waits for its acknowledgement; this is for what does.
        "upstream_bind_config": {
            "socket_options": [
                {
                    "description": "TCP_USER_TIMEOUT",
                    "level": _IPPROTO_TCP,
                    "name": _TCP_USER_TIMEOUT,
                    "int_value": (_QUIET_S + _PROBES * _PROBE_INTERVAL_S) * 1000,
                    "state": "STATE_PREBIND",
                }
            ]
        },
    }


def refusing_endpoint() -> dict[str, Tree]:
    """Returns what takes the requests of a pool that is not there: an endpoint that refuses them.

    Nothing is there while the gate is closed, or while a name has no address. Envoy answers 503 by itself if
    a cluster has no healthy endpoint, but tries the next pool after a refused connection. As one endpoint is
    always well, Envoy does not panic either and send to those that are not.
    """
    address, port = _NOBODY
    return {
        "priority": 1,
        "lb_endpoints": [
            {
                "endpoint": {
                    "address": {"socket_address": {"address": address, "port_value": port}},
                    "health_check_config": {"disable_active_health_check": True},
                }
            }
        ],
    }


def spill_key_filters(config: GatewayConfig) -> list[Tree]:
    """Returns the filters that put the other side's key into what goes there, and only there."""
    return [
        extension(
            "envoy.filters.http.credential_injector",
            f"{_HTTP}.credential_injector.v3.CredentialInjector",
            {
                "overwrite": True,
                "allow_request_without_credential": False,
                "credential": extension(
                    "envoy.http.injected_credentials.generic",
                    "envoy.extensions.http.injected_credentials.generic.v3.Generic",
                    {
                        "credential": {
                            "name": _SECRET_NAME,
                            "sds_config": watched(config.keys_folder, SPILL_KEY_FILE),
                        },
                        "header_value_prefix": "Bearer ",
                    },
                ),
            },
        ),
        _codec(),
    ]


def keyless_filters() -> list[Tree]:
    """Returns the filters that keep the other side's key from the model's own servers.

    A request that the spill pool did not take still has it, because all tries share their headers.
    """
    return [
        extension(
            "envoy.filters.http.header_mutation",
            f"{_HTTP}.header_mutation.v3.HeaderMutation",
            {"mutations": {"request_mutations": [{"remove": "authorization"}]}},
        ),
        _codec(),
    ]


def _codec() -> dict[str, Tree]:
    return extension("envoy.filters.http.upstream_codec", f"{_HTTP}.upstream_codec.v3.UpstreamCodec")


def spill_key_file(key: str) -> str:
    """Returns the text of the file with the key that the other side knows this gateway by."""
    return discovery(
        [
            typed(
                "envoy.extensions.transport_sockets.tls.v3.Secret",
                {"name": _SECRET_NAME, "generic_secret": {"secret": {"inline_string": key}}},
            )
        ]
    )


def _any_of(*predicates: dict[str, Tree]) -> dict[str, Tree]:
    return {"or_matcher": {"predicate": list(predicates)}}


def _is_one_of(clients: Sequence[str]) -> dict[str, Tree]:
    pattern = "|".join(re.escape(client) for client in sorted(clients))
    return {"name": CLIENT_HEADER, "string_match": {"safe_regex": {"regex": pattern}}}


def _absent(header: str) -> dict[str, Tree]:
    return {"name": header, "present_match": True, "invert_match": True}


def _metadata(fields: dict[str, Tree]) -> dict[str, Tree]:
    return {"metadata": {"filter_metadata": {METADATA: fields}}}
