"""The upstream clusters: one per model and pool, and Envoy's own admin interface for the metrics."""

from collections.abc import Mapping

from runtime.gateway.config import GatewayConfig, ModelRoute, Upstream
from runtime.gateway.document import Tree, discovery, seconds, typed
from runtime.gateway.gate import gate_address, gate_check, questions
from runtime.gateway.overflow import (
    dead_link,
    keyless_filters,
    on_prem_metadata,
    refusing_endpoint,
    spill_key_filters,
    spill_metadata,
)
from runtime.gateway.tls import asking


def clusters_file(config: GatewayConfig) -> str:
    """Returns the text of `clusters.yaml`."""
    clusters: list[Tree] = []
    for model in config.sorted_models:
        clusters.append(_on_prem(model, config))
        if model.spill is not None:
            clusters.append(_spill(model, model.spill, config))
            clusters += [
                {
                    **_cluster(name, whom, config, connect_timeout_s=config.overflow.health_timeout_s),
                    **(asking(config.overflow.tls) if name == model.link_cluster else {}),
                    **asked,
                }
                for name, (whom, asked) in questions(model, config).items()
            ]
    return discovery(clusters)


def _on_prem(model: ModelRoute, config: GatewayConfig) -> dict[str, Tree]:
    own = endpoint(model.upstream.host, model.upstream.port)
    if config.spills:
        own |= on_prem_metadata()
    return _cluster(
        model.on_prem_cluster,
        model.upstream,
        config,
        connect_timeout_s=config.connect_timeout_s,
        idle_timeout_s=config.upstream_idle_timeout_s,
        endpoints=[{"lb_endpoints": [own]}, *([refusing_endpoint()] if model.spill else [])],
        http_filters=keyless_filters() if model.spill else None,
    )


def _spill(model: ModelRoute, upstream: Upstream, config: GatewayConfig) -> dict[str, Tree]:
    overflow = config.overflow
    there = endpoint(upstream.host, upstream.port, gate_address(config)) | spill_metadata(overflow)
    return {
        **_cluster(
            model.spill_cluster,
            upstream,
            config,
            connect_timeout_s=overflow.connect_timeout_s,
            idle_timeout_s=overflow.idle_timeout_s,
            endpoints=[{"lb_endpoints": [there]}, refusing_endpoint()],
            http_filters=spill_key_filters(config),
        ),
        **asking(overflow.tls),
        **gate_check(model, overflow.tls),
        **dead_link(),
    }


def _cluster(
    name: str,
    upstream: Upstream,
    config: GatewayConfig,
    *,
    connect_timeout_s: float,
    idle_timeout_s: float | None = None,
    endpoints: list[Tree] | None = None,
    http_filters: list[Tree] | None = None,
) -> dict[str, Tree]:
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
            "name": name,
            **discovery_type,
            "connect_timeout": seconds(connect_timeout_s),
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
                            "idle_timeout": seconds(idle_timeout_s or config.upstream_idle_timeout_s)
                        },
                        "explicit_http_config": {"http_protocol_options": {}},
                        **({"http_filters": http_filters} if http_filters else {}),
                    },
                )
            },
            "load_assignment": {
                "cluster_name": name,
                "endpoints": endpoints or [{"lb_endpoints": [endpoint(upstream.host, upstream.port)]}],
            },
        },
    )


def endpoint(host: str, port: int, checked: Mapping[str, Tree] | None = None) -> dict[str, Tree]:
    """Returns one endpoint of a cluster's load assignment.

    Args:
        host: An address or a DNS name.
        port: The TCP port.
        checked: The part of it that says how it is checked.
    """
    return {
        "endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}, **(checked or {})}
    }
