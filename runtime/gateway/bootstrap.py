"""What Envoy reads once at its start: where the other files are, its limits, its admin interface."""

from runtime.gateway.clusters import endpoint
from runtime.gateway.config import GatewayConfig
from runtime.gateway.document import Tree, extension, text, watched
from runtime.gateway.listeners import ADMIN_CLUSTER

LISTENERS_FILE = "listeners.yaml"
CLUSTERS_FILE = "clusters.yaml"

_LOOPBACK = "127.0.0.1"
# Reading, and leaving in peace: what an operator needs through `kubectl port-forward` or a preStop
# hook. Not /quitquitquit, /logging, /runtime_modify or the profilers.
_ADMIN_PATHS = (
    "/ready",
    "/stats",
    "/stats/prometheus",
    "/server_info",
    "/clusters",
    "/listeners",
    "/memory",
    "/config_dump",
    "/healthcheck/fail",
    "/healthcheck/ok",
    "/drain_listeners",
)
_MONITORS = "envoy.extensions.resource_monitors"
_HEAP = "envoy.resource_monitors.fixed_heap"
_CONNECTIONS = "envoy.resource_monitors.global_downstream_max_connections"


def bootstrap_file(config: GatewayConfig) -> str:
    """Returns the text of `bootstrap.yaml`."""
    return text(
        {
            "node": {"id": "gateway", "cluster": "spillway"},
            "admin": {
                "address": {"socket_address": {"address": _LOOPBACK, "port_value": config.admin_port}},
                "allow_paths": [{"exact": path} for path in _ADMIN_PATHS],
            },
            "dynamic_resources": {
                "lds_config": watched(config.config_folder, LISTENERS_FILE),
                "cds_config": watched(config.config_folder, CLUSTERS_FILE),
            },
            "static_resources": {"clusters": [_admin_cluster(config)]},
            "stats_config": _stats(config),
            "overload_manager": _overload(config),
        }
    )


def _admin_cluster(config: GatewayConfig) -> dict[str, Tree]:
    return {
        "name": ADMIN_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": ADMIN_CLUSTER,
            "endpoints": [{"lb_endpoints": [endpoint(_LOOPBACK, config.admin_port)]}],
        },
    }


def _stats(config: GatewayConfig) -> dict[str, Tree]:
    # Envoy's own rule ends a cluster's name at the first dot, which model ids may hold; so the
    # rules are named one by one and the cluster's is replaced by model and pool.
    kinds = "onprem|spill|link|ready" if config.spills else "onprem|spill"
    return {
        "use_all_default_tags": False,
        "stats_tags": [
            {"tag_name": "envoy.response_code"},
            {"tag_name": "envoy.response_code_class"},
            {"tag_name": "envoy.http_conn_manager_prefix"},
            {"tag_name": "envoy.listener_address"},
            {"tag_name": "envoy.worker_id"},
            {"tag_name": "envoy.cluster_name", "regex": f"^cluster\\.(({ADMIN_CLUSTER})\\.)"},
            {"tag_name": "model", "regex": f"^cluster\\.((.+?)/(?:{kinds})\\.)"},
            {"tag_name": "pool", "regex": f"^cluster\\.(.+?/({kinds})\\.)"},
        ],
    }


def _overload(config: GatewayConfig) -> dict[str, Tree]:
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            extension(
                _HEAP,
                f"{_MONITORS}.fixed_heap.v3.FixedHeapConfig",
                {"max_heap_size_bytes": config.max_heap_bytes},
            ),
            extension(
                _CONNECTIONS,
                f"{_MONITORS}.downstream_connections.v3.DownstreamConnectionsConfig",
                {"max_active_downstream_connections": config.max_connections},
            ),
        ],
        "actions": [
            _action("shrink_heap", 0.85),
            _action("disable_http_keepalive", 0.9),
            _action("stop_accepting_requests", 0.95),
            _action("stop_accepting_connections", 0.98),
        ],
    }


def _action(name: str, threshold: float) -> dict[str, Tree]:
    return {
        "name": f"envoy.overload_actions.{name}",
        "triggers": [{"name": _HEAP, "threshold": {"value": threshold}}],
    }
