"""The way to the gateway from outside: an HTTPRoute or an Ingress, for what the cluster already has."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from components.base import Component
from components.kubernetes.metadata import object_meta
from components.kubernetes.namespace import GATEWAY


@dataclass(frozen=True, kw_only=True)
class ParentGateway:
    """An existing Gateway of the Gateway API.

    Attributes:
        name: Its name.
        namespace: Its namespace, or None for the platform's.
        listener: One of its listeners, or None for all that match.
    """

    name: str
    namespace: str | None
    listener: str | None


@dataclass(frozen=True, kw_only=True)
class IngressOptions:
    """What an Ingress needs beside host names.

    Attributes:
        class_name: IngressClass, or None for the cluster's default.
        tls_secret: Existing Secret with the certificate, or None for the controller's own.
    """

    class_name: str | None
    tls_secret: str | None


@dataclass(frozen=True, kw_only=True)
class GatewayRouteArgs:
    """Arguments of GatewayRoute.

    Attributes:
        platform: The platform's name.
        namespace: The platform's namespace.
        service: The gateway's Service.
        port: Its port.
        hostnames: Host names that clients use.
        by: What the cluster has: a Gateway to attach to, or an ingress controller.
        annotations: Further annotations, such as a controller's timeouts.
    """

    platform: str
    namespace: str
    service: str
    port: int
    hostnames: tuple[str, ...]
    by: ParentGateway | IngressOptions
    annotations: Mapping[str, str]


class GatewayRoute(Component):
    """Sends all paths of the host names to the gateway's Service. Pass the gateway in `depends_on`."""

    def __init__(self, name: str, args: GatewayRouteArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kubernetes:GatewayRoute", name, {"hostnames": list(args.hostnames)}, opts)
        metadata = object_meta(
            args.platform, GATEWAY, name, namespace=args.namespace, annotations=args.annotations
        )
        if isinstance(args.by, ParentGateway):
            self._http_route(name, args, args.by, metadata)
        else:
            self._ingress(name, args, args.by, metadata)
        self.finish()

    def _http_route(
        self,
        name: str,
        args: GatewayRouteArgs,
        parent: ParentGateway,
        metadata: kubernetes.meta.v1.ObjectMetaArgsDict,
    ) -> None:
        reference = {"name": parent.name, "namespace": parent.namespace, "sectionName": parent.listener}
        kubernetes.apiextensions.CustomResource(
            name,
            api_version="gateway.networking.k8s.io/v1",
            kind="HTTPRoute",
            metadata=metadata,
            spec={
                "parentRefs": [{key: value for key, value in reference.items() if value is not None}],
                "hostnames": list(args.hostnames),
                "rules": [{"backendRefs": [{"name": args.service, "port": args.port}]}],
            },
            opts=self.child(),
        )

    def _ingress(
        self,
        name: str,
        args: GatewayRouteArgs,
        options: IngressOptions,
        metadata: kubernetes.meta.v1.ObjectMetaArgsDict,
    ) -> None:
        hostnames = list(args.hostnames)
        backend: kubernetes.networking.v1.IngressBackendArgsDict = {
            "service": {"name": args.service, "port": {"number": args.port}}
        }
        spec: kubernetes.networking.v1.IngressSpecArgsDict = {
            "rules": [
                {"host": host, "http": {"paths": [{"path": "/", "path_type": "Prefix", "backend": backend}]}}
                for host in hostnames
            ]
        }
        if options.class_name is not None:
            spec["ingress_class_name"] = options.class_name
        if options.tls_secret is not None:
            spec["tls"] = [{"hosts": hostnames, "secret_name": options.tls_secret}]
        kubernetes.networking.v1.Ingress(name, metadata=metadata, spec=spec, opts=self.child())
