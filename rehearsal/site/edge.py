"""The edge: one Envoy that lets the host into the site, and nothing else out of it.

Envoy runs in the site's network namespace, where it dials; its listeners are sockets of the host's
namespace, at 127.0.0.1 only. No link, address or rule is added to the host. A site that another one is
linked to has listeners in its own namespace too: its private load balancer.
"""

import http.client
import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rehearsal.site.layout import API_PORT, NODE_IP, SiteLayout
from rehearsal.site.network import program, replace_file, run_command

API_KEY = "api"
_TYPES = "type.googleapis.com/envoy"
_MANY = 1 << 20


@dataclass(frozen=True)
class Forward:
    """A port and the address inside the site that it leads to.

    Attributes:
        name: Identifies it.
        host_port: Port of the host's loopback or, with `private`, of every address of the site.
        address: Where it leads to.
        port: The port there.
        private: It is for what comes over a link, and the host has no such port.
    """

    name: str
    host_port: int
    address: str
    port: int
    private: bool = False


def api_forward(host_port: int) -> Forward:
    """The way to the API server."""
    return Forward(API_KEY, host_port, NODE_IP, API_PORT)


def private_ports_file(layout: SiteLayout) -> Path:
    """The private load balancer: its ports, each with the node port that it leads to."""
    return layout.edge / "private.json"


def private_forwards(layout: SiteLayout) -> list[Forward]:
    """The listeners for what comes over a link."""
    try:
        ports: dict[str, int] = json.loads(private_ports_file(layout).read_text())
    except (FileNotFoundError, ValueError):
        return []
    return [
        Forward(f"private/{port}", int(port), NODE_IP, target, private=True)
        for port, target in sorted(ports.items())
    ]


def write_private_ports(layout: SiteLayout, ports: Mapping[int, int]) -> None:
    """Tells the load balancer of the site which private ports there are, and their node ports."""
    replace_file(private_ports_file(layout), json.dumps({str(port): ports[port] for port in sorted(ports)}))


def bootstrap_file(layout: SiteLayout) -> Path:
    """Envoy's own configuration."""
    return layout.edge / "envoy.json"


def listeners_file(layout: SiteLayout) -> Path:
    """The listeners; Envoy follows its changes."""
    return layout.edge / "listeners.json"


def clusters_file(layout: SiteLayout) -> Path:
    """The upstream clusters; Envoy follows its changes."""
    return layout.edge / "clusters.json"


def admin_socket(layout: SiteLayout) -> Path:
    """Envoy's administration socket."""
    return layout.run / "envoy.sock"


def render_bootstrap(layout: SiteLayout) -> str:
    """Renders Envoy's own configuration."""

    def source(path: Path) -> dict[str, object]:
        return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}

    return json.dumps(
        {
            "node": {"id": layout.netns, "cluster": layout.netns},
            "admin": {"address": {"pipe": {"path": str(admin_socket(layout)), "mode": 0o600}}},
            "dynamic_resources": {
                "cds_config": source(clusters_file(layout)),
                "lds_config": source(listeners_file(layout)),
            },
        },
        indent=2,
    )


def render_listeners(layout: SiteLayout, forwards: Sequence[Forward]) -> str:
    """Renders the listeners of the forwards."""
    return _response("config.listener.v3.Listener", [_listener(layout, forward) for forward in forwards])


def render_clusters(forwards: Sequence[Forward]) -> str:
    """Renders the upstream clusters of the forwards."""
    return _response("config.cluster.v3.Cluster", [_cluster(forward) for forward in forwards])


def write_forwards(layout: SiteLayout, forwards: Sequence[Forward]) -> None:
    """Tells Envoy the forwards."""
    ordered = sorted(forwards, key=lambda forward: forward.name)
    # A listener may only name a cluster that is there.
    replace_file(clusters_file(layout), render_clusters(ordered))
    replace_file(listeners_file(layout), render_listeners(layout, ordered))


def ask_envoy(layout: SiteLayout, path: str, timeout_s: float = 2.0) -> bytes:
    """Asks Envoy's administration interface.

    Raises:
        OSError: Envoy does not answer, or not with status 200.
    """
    connection = http.client.HTTPConnection("envoy", timeout=timeout_s)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.settimeout(timeout_s)
        connection.sock.connect(str(admin_socket(layout)))
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    except http.client.HTTPException as error:
        raise ConnectionError(repr(error)) from error
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise ConnectionError(f"{path} answered {answer.status}: {body.decode(errors='replace').strip()}")
    return body


def active_ports(layout: SiteLayout) -> dict[str, int]:
    """Returns the ports that Envoy listens at, by the name of the forward; empty if it cannot be asked."""
    try:
        answer = json.loads(ask_envoy(layout, "/listeners?format=json"))
        return {
            str(status["name"]): int(status["local_address"]["socket_address"]["port_value"])
            for status in answer.get("listener_statuses", [])
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def ensure_host_namespace_file(layout: SiteLayout) -> None:
    """Mounts the host's network namespace where Envoy opens it.

    A path below /proc would need a process that never ends and that Envoy may look into.
    """
    path = layout.host_netns_path
    own = Path("/proc/self/ns/net").stat()
    if path.exists():
        found = path.stat()
        if (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino):
            return
        if found.st_dev == own.st_dev:
            run_command(program("umount", "mount"), path)
    path.touch()
    run_command(program("mount", "mount"), "--bind", "/proc/self/ns/net", path)


def _response(kind: str, resources: Sequence[dict[str, object]]) -> str:
    typed = [{"@type": f"{_TYPES}.{kind}", **resource} for resource in resources]
    return json.dumps({"resources": typed}, indent=2)


def _listener(layout: SiteLayout, forward: Forward) -> dict[str, object]:
    address: dict[str, object] = {
        "address": "0.0.0.0" if forward.private else "127.0.0.1",  # noqa: S104 - in the site's namespace
        "port_value": forward.host_port,
    }
    if not forward.private:
        address["network_namespace_filepath"] = str(layout.host_netns_path)
    return {
        "name": forward.name,
        # Shared ports would let two sites' Envoys listen at the same one and split its connections.
        "enable_reuse_port": False,
        "address": {"socket_address": address},
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "tcp",
                        "typed_config": {
                            "@type": f"{_TYPES}.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                            "stat_prefix": "edge",
                            "cluster": forward.name,
                            # A watch or a token stream may be silent for as long as it likes.
                            "idle_timeout": "0s",
                        },
                    }
                ]
            }
        ],
    }


def _cluster(forward: Forward) -> dict[str, object]:
    # The default circuit breaker admits 1024 connections; the edge is no place for a limit.
    thresholds = [
        {"max_connections": _MANY, "max_pending_requests": _MANY, "max_requests": _MANY, "max_retries": 3}
    ]
    endpoint = {"address": {"socket_address": {"address": forward.address, "port_value": forward.port}}}
    return {
        "name": forward.name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": thresholds},
        "load_assignment": {
            "cluster_name": forward.name,
            "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
        },
    }
