"""The two ends of the spill: a name on-prem for the entrance over there, and the node port behind it."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from components.api_keys import api_key
from components.base import Component
from components.kubernetes.metadata import object_meta
from components.kubernetes.namespace import GATEWAY
from components.naming import selector


class SpillKey(Component):
    """The key by which the gateway on-prem is known to the one over there; made before either."""

    value: pulumi.Output[str]

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kubernetes:SpillKey", name, {}, opts)
        self.value = api_key(self, f"{name}-letters")
        self.finish()


@dataclass(frozen=True, kw_only=True)
class SpillPoolArgs:
    """Arguments of SpillPool.

    Attributes:
        platform: The platform's name.
        namespace: The platform's namespace.
        service: Name of the Service that stands for the other side.
        addresses: Private addresses of the entrance there.
        port: Its port.
    """

    platform: str
    namespace: str
    service: str
    addresses: Sequence[str]
    port: int


class SpillPool(Component):
    """A Service without pods: its name gives the addresses of the entrance on the other side of the link.

    The gateway's configuration so names no address of AWS, and only its pods may go there.
    """

    def __init__(self, name: str, args: SpillPoolArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            "kubernetes:SpillPool", name, {"addresses": list(args.addresses), "port": args.port}, opts
        )
        kubernetes.core.v1.Service(
            f"{name}-service",
            metadata=object_meta(
                args.platform,
                "spill",
                args.service,
                namespace=args.namespace,
                # Without pods it would never count as ready.
                annotations={"pulumi.com/skipAwait": "true"},
            ),
            spec={"cluster_ip": "None", "ports": [{"name": "http", "port": args.port}]},
            opts=self.child(),
        )
        kubernetes.discovery.v1.EndpointSlice(
            f"{name}-endpoints",
            metadata=object_meta(
                args.platform,
                "spill",
                args.service,
                namespace=args.namespace,
                extra_labels={
                    "kubernetes.io/service-name": args.service,
                    "endpointslice.kubernetes.io/managed-by": "spillway",
                },
            ),
            address_type="IPv4",
            ports=[{"name": "http", "port": args.port, "protocol": "TCP"}],
            endpoints=[{"addresses": [address], "conditions": {"ready": True}} for address in args.addresses],
            opts=self.child(),
        )
        kubernetes.networking.v1.NetworkPolicy(
            f"{name}-allow",
            metadata=object_meta(args.platform, "platform", "allow-spill", namespace=args.namespace),
            spec={
                "pod_selector": {"match_labels": selector(args.platform, GATEWAY)},
                "policy_types": ["Egress"],
                "egress": [
                    {
                        "to": [{"ip_block": {"cidr": f"{address}/32"}} for address in args.addresses],
                        "ports": [{"port": args.port, "protocol": "TCP"}],
                    }
                ],
            },
            opts=self.child(),
        )
        self.finish(service=args.service)


@dataclass(frozen=True, kw_only=True)
class SpillPortArgs:
    """Arguments of SpillPort.

    Attributes:
        platform: The platform's name.
        namespace: The platform's namespace.
        node_port: Port of every node that leads to the gateway.
        target_port: Port of the gateway's pods.
    """

    platform: str
    namespace: str
    node_port: int
    target_port: int


class SpillPort(Component):
    """The node port by which the entrance reaches the gateway of the EKS side."""

    def __init__(self, name: str, args: SpillPortArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kubernetes:SpillPort", name, {"nodePort": args.node_port}, opts)
        kubernetes.core.v1.Service(
            f"{name}-service",
            metadata=object_meta(
                args.platform, GATEWAY, f"{args.platform}-entrance", namespace=args.namespace
            ),
            spec={
                "type": "NodePort",
                "selector": selector(args.platform, GATEWAY),
                "ports": [
                    {
                        "name": "http",
                        "port": 80,
                        "target_port": args.target_port,
                        "node_port": args.node_port,
                    }
                ],
            },
            opts=self.child(),
        )
        self.finish(nodePort=args.node_port)
