"""Whether requests may go to the spill pool now: it can be reached, and has servers for the model.

Two clusters per model that carry no request ask these two questions. A listener on the loopback gives both
answers as one, and that is what the endpoints of the spill pool are checked by. So no request pays for a dead
link, or waits for a node. A server that is full is there: no answer to a request closes the gate.
"""

import math
from collections.abc import Mapping

from runtime.gateway.config import GatewayConfig, LinkTls, ModelRoute, Upstream
from runtime.gateway.document import Tree, extension, seconds
from runtime.gateway.tls import plain_to_gate

LOOPBACK = "127.0.0.1"
LINK_PATH = "/healthz"
"""What the gateway of the other side answers without a key."""
GATE_INTERVAL_S = 0.5
"""How often each gateway pod asks its gate."""

_HTTP = "envoy.extensions.filters.http"
_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


def questions(model: ModelRoute, config: GatewayConfig) -> dict[str, tuple[Upstream, dict[str, Tree]]]:
    """Returns the clusters that ask: by name, whom, and their part that says what and how often."""
    overflow = config.overflow
    found: dict[str, tuple[Upstream, dict[str, Tree]]] = {}
    if model.spill is not None:
        found[model.link_cluster] = (model.spill, _asked(config, LINK_PATH, overflow.health_failures))
        if overflow.ready is not None:
            # A 503 counts at once; only answers that are missing are counted.
            silences = math.ceil(
                overflow.ready_hold_s / (overflow.health_interval_s + overflow.health_timeout_s)
            )
            found[model.ready_cluster] = (
                overflow.ready,
                _asked(config, f"/ready/{model.name}", max(1, silences)),
            )
    return found


def gate_check(model: ModelRoute, tls: LinkTls | None) -> dict[str, Tree]:
    """Returns the part of the spill pool's cluster that asks the gate."""
    sockets, criteria = plain_to_gate(tls)
    asked = _health_check(
        _gate_path(model), interval_s=GATE_INTERVAL_S, timeout_s=1.0, failures=1, more=criteria
    )
    return {**sockets, **asked}


def gate_address(config: GatewayConfig) -> dict[str, Tree]:
    """Returns the part of an endpoint that has it checked at the gate and not where it is."""
    address: dict[str, Tree] = {"address": LOOPBACK, "port_value": config.overflow.gate_port}
    return {"health_check_config": {"address": {"socket_address": address}}}


def gate_manager(config: GatewayConfig) -> dict[str, Tree]:
    """Returns the connection manager of the gate's listener."""
    return {
        "stat_prefix": "gate",
        "route_config": {
            "name": "gate",
            "virtual_hosts": [
                {
                    "name": "gate",
                    "domains": ["*"],
                    "routes": [
                        {
                            "name": "no such model",
                            "match": {"prefix": "/"},
                            "direct_response": {"status": 404},
                        }
                    ],
                }
            ],
        },
        "http_filters": [
            *(_gate(model, config) for model in config.sorted_models if model.spill is not None),
            extension("envoy.filters.http.router", f"{_HTTP}.router.v3.Router"),
        ],
    }


def _gate(model: ModelRoute, config: GatewayConfig) -> dict[str, Tree]:
    return extension(
        f"gate of {model.name}",
        f"{_HTTP}.health_check.v3.HealthCheck",
        {
            "pass_through_mode": False,
            "headers": [{"name": ":path", "string_match": {"exact": _gate_path(model)}}],
            "cluster_min_healthy_percentages": {name: {"value": 1} for name in questions(model, config)},
        },
    )


def _gate_path(model: ModelRoute) -> str:
    return f"/gate/{model.name}"


def _asked(config: GatewayConfig, path: str, failures: int) -> dict[str, Tree]:
    overflow = config.overflow
    return _health_check(
        path,
        interval_s=overflow.health_interval_s,
        timeout_s=overflow.health_timeout_s,
        failures=failures,
    )


def _health_check(
    path: str,
    *,
    interval_s: float,
    timeout_s: float,
    failures: int,
    more: Mapping[str, Tree] | None = None,
) -> dict[str, Tree]:
    interval = seconds(interval_s)
    return {
        "health_checks": [
            {
                "timeout": seconds(timeout_s),
                "interval": interval,
                # The default asks once a minute while nothing is spilled.
                "no_traffic_interval": interval,
                "no_traffic_healthy_interval": interval,
                "unhealthy_threshold": failures,
                "healthy_threshold": 1,
                "http_health_check": {"host": "spillway", "path": path},
                **(more or {}),
            }
        ],
    }
