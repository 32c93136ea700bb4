"""The upstream clusters: one per model and pool, and Envoy's own admin interface for the metrics."""

from runtime.gateway.config import GatewayConfig, ModelRoute
from runtime.gateway.document import Tree, discovery, seconds, typed


def clusters_file(config: GatewayConfig) -> str:
    """Returns the text of `clusters.yaml`."""
    return discovery([_model_cluster(model, config) for model in config.sorted_models])


def _model_cluster(model: ModelRoute, config: GatewayConfig) -> dict[str, Tree]:
    upstream = model.upstream
    limit = config.max_upstream_requests
    discovery_type: dict[str, Tree] = (
        {"type": "STATIC"}
        if upstream.is_address
        else {
            "type": "STRICT_DNS",
            "dns_lookup_family": "V4_PREFERRED",
        }
    )
    return typed(
        "envoy.config.cluster.v3.Cluster",
        {
            "name": model.on_prem_cluster,
            **discovery_type,
            "connect_timeout": seconds(config.connect_timeout_s),
            "per_connection_buffer_limit_bytes": 256 * 1024,
            # Envoy's defaults (1024 requests, 3 retries) refuse ordinary load of a streaming API.
            "circuit_breakers": {
                "thresholds": [
                    {
                        # Above the number of requests: at this limit a request would wait for a
                        # free connection instead of being refused.
                        "max_connections": 2 * limit,
                        "max_pending_requests": limit,
                        "max_requests": limit,
                        "max_retries": limit,
                    }
                ]
            },
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
                    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    {
                        "common_http_protocol_options": {
                            "idle_timeout": seconds(config.upstream_idle_timeout_s)
                        },
                        "explicit_http_config": {"http_protocol_options": {}},
                    },
                )
            },
            "load_assignment": {
                "cluster_name": model.on_prem_cluster,
                "endpoints": [{"lb_endpoints": [endpoint(upstream.host, upstream.port)]}],
            },
        },
    )


def endpoint(host: str, port: int) -> dict[str, Tree]:
    """Returns one endpoint of a cluster's load assignment."""
    return {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}}
