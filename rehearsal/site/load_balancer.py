"""Serves Services of type LoadBalancer: gives each of their ports a port of the host's loopback.

Runs as a component of the site: `python -m rehearsal.site.load_balancer --site NAME --home FOLDER
--api-port PORT`. It runs in the host's network namespace, because it looks for free ports there.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rehearsal.site.api import ApiClient, ApiError, Json
from rehearsal.site.edge import Forward, active_ports, api_forward, private_forwards, write_forwards
from rehearsal.site.layout import NODE_IP, SiteLayout
from rehearsal.site.network import HostPorts

WATCH_S = 10
RETRY_S = 1.0
SERVICES = "/api/v1/services"


@dataclass(frozen=True)
class BalancedPort:
    """One port of one Service of type LoadBalancer."""

    namespace: str
    service: str
    port: int
    address: str
    target_port: int

    @property
    def key(self) -> str:
        """Identifies the port: the host port is kept under this key."""
        return f"{self.namespace}/{self.service}/{self.port}"


def heartbeat_file(layout: SiteLayout) -> Path:
    """Touched after each round, so that a loop that hangs is noticed."""
    return layout.run / "load-balancer.heartbeat"


def balanced_ports(services: Sequence[Json]) -> list[BalancedPort]:
    """Lists what is to be forwarded: the TCP ports of the Services that ask for a load balancer.

    A Service with a class is another controller's; UDP and SCTP are not forwarded.
    """
    found: list[BalancedPort] = []
    for service in services:
        spec, metadata = service["spec"], service["metadata"]
        if (
            spec.get("type") != "LoadBalancer"
            or spec.get("loadBalancerClass")
            or metadata.get("deletionTimestamp")
        ):
            continue
        for port in spec.get("ports", []):
            if port.get("protocol", "TCP") != "TCP":
                continue
            # Without a node port (allocateLoadBalancerNodePorts: false) the cluster address does as well.
            node_port = port.get("nodePort")
            address, target = (NODE_IP, node_port) if node_port else (spec["clusterIP"], port["port"])
            found.append(BalancedPort(metadata["namespace"], metadata["name"], port["port"], address, target))
    return found


def ingress_status(ports: Sequence[int]) -> Json:
    """Renders the status of a Service that is reached at these ports of the host's loopback."""
    if not ports:
        return {"loadBalancer": {}}
    # An address of the loopback is refused as `ip` by some clients' own checks; a name is always valid.
    entries = [{"port": port, "protocol": "TCP"} for port in ports]
    return {"loadBalancer": {"ingress": [{"hostname": "localhost", "ports": entries}]}}


class LoadBalancer:
    """Keeps edge and Services in step."""

    def __init__(self, layout: SiteLayout, api: ApiClient, api_port: int) -> None:
        self._layout = layout
        self._api = api
        self._api_port = api_port
        self._ports = HostPorts(layout.name, layout.edge / "ports.json")

    def round(self) -> str:
        """Brings the edge and all Services up to date once and returns the version that was seen."""
        listed = self._api.get(SERVICES)
        wanted = balanced_ports(listed["items"])
        active = active_ports(self._layout)
        forwards = [api_forward(self._api_port), *private_forwards(self._layout)]
        host_ports: dict[tuple[str, str], list[int]] = {}
        kept = self._ports.table()
        for port in wanted:
            ours = kept.get(port.key) is not None and active.get(port.key) == kept.get(port.key)
            host_port = self._ports.ensure(port.key, listening=ours)
            forwards.append(Forward(port.key, host_port, port.address, port.target_port))
            host_ports.setdefault((port.namespace, port.service), []).append(host_port)
        write_forwards(self._layout, forwards)
        for service in listed["items"]:
            if service["spec"].get("type") == "LoadBalancer" and not service["spec"].get("loadBalancerClass"):
                self._publish(
                    service,
                    host_ports.get((service["metadata"]["namespace"], service["metadata"]["name"]), []),
                )
        return listed["metadata"]["resourceVersion"]

    def run(self) -> None:
        """Works until it is killed."""
        while True:
            try:
                version = self.round()
                heartbeat_file(self._layout).touch()
                # Any change, or the end of the watch, starts the next round; each round reads everything,
                # so that nothing depends on having seen every single change.
                for change in self._api.watch(SERVICES, resource_version=version, seconds=WATCH_S):
                    if change.get("type") != "BOOKMARK":
                        break
            except (ApiError, OSError) as error:
                print(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {error}", file=sys.stderr, flush=True)
                time.sleep(RETRY_S)

    def _publish(self, service: Json, host_ports: Sequence[int]) -> None:
        status = ingress_status(host_ports)
        if service.get("status", {}).get("loadBalancer", {}) == status["loadBalancer"]:
            return
        metadata = service["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/services/{metadata['name']}/status"
        try:
            self._api.request("PATCH", path, {"status": status}, content_type="application/merge-patch+json")
        except ApiError as error:
            # Deleted meanwhile: the next round does not see it any more.
            if error.status != 404:
                raise
        reached = ", ".join(f"127.0.0.1:{port}" for port in host_ports) or "nothing"
        print(f"{metadata['namespace']}/{metadata['name']}: {reached}", flush=True)


def main() -> None:
    """Runs the loop for one site."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--site", required=True)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--api-port", type=int, required=True)
    options = parser.parse_args()
    layout = SiteLayout(options.site, options.home)
    LoadBalancer(layout, ApiClient.inside(layout, "load-balancer"), options.api_port).run()


if __name__ == "__main__":
    main()
