"""The platform's namespace: quota, Pod Security, and network policies that deny by default."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from components.base import Component
from components.kubernetes.metadata import object_meta, pod_security_labels
from components.naming import selector
from runtime.labels import MODEL_LABEL
from runtime.model import ModelSpec
from runtime.serving.endpoint import endpoint_of
from runtime.serving.ray_service import DASHBOARD_PORT

GATEWAY = "gateway"
SERVING_CHECK = "serving-check"


@dataclass(frozen=True, kw_only=True)
class PlatformNamespaceArgs:
    """Arguments of PlatformNamespace.

    Attributes:
        platform: The platform's name.
        namespace: The namespace.
        models: The models that will run in it.
        operator_namespace: Where KubeRay runs; it must reach the Ray heads.
        quota: Hard limits of the ResourceQuota, Kubernetes resource to quantity. None where the namespace
            and its quota are an administrator's: neither is declared then.
        gateway_port: Port of the gateway's pods.
        gateway_metrics_port: Port of their metrics.
        proxy_ports: Ports of the proxies that downloads go by.
        offline: Whether nothing outside the cluster's private networks may be reached.
        claim: Annotation that says whose the platform is.
    """

    platform: str
    namespace: str
    models: tuple[ModelSpec, ...]
    operator_namespace: str
    quota: Mapping[str, str] | None
    gateway_port: int
    gateway_metrics_port: int
    proxy_ports: tuple[int, ...] = ()
    offline: bool = False
    claim: Mapping[str, pulumi.Input[str]]


class PlatformNamespace(Component):
    """Namespace with ResourceQuota and Pod Security labels, and NetworkPolicies.

    In a namespace of an administrator's, a ConfigMap without content holds the claim in its place.

    What runs in it depends on `shared` and, where it belongs to a model, on `of_model`. Not on the whole
    component: each of N models would then wait for the policies of all N.
    """

    shared: list[pulumi.Resource]
    of_model: dict[str, pulumi.Resource]

    def __init__(
        self, name: str, args: PlatformNamespaceArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        declared = {"namespace": args.namespace, "quota": dict(args.quota or {})}
        super().__init__("kubernetes:PlatformNamespace", name, declared, opts)
        self._args = args
        around = self._existing(name) if args.quota is None else self._namespace(name, args.quota)
        self._claimed = around[0]
        self.shared = [
            *around,
            *self._deny_by_default(),
            self._allow_gateway(),
            self._allow_serving_check(),
        ]
        self.of_model = {model.name: self._allow_model(model) for model in args.models}
        self.finish(name=args.namespace)

    def _namespace(self, name: str, quota: Mapping[str, str]) -> list[pulumi.Resource]:
        args = self._args
        namespace = kubernetes.core.v1.Namespace(
            name,
            metadata=object_meta(
                args.platform,
                "platform",
                args.namespace,
                extra_labels=pod_security_labels(),
                annotations=args.claim,
            ),
            opts=self.child(),
        )
        limits = kubernetes.core.v1.ResourceQuota(
            f"{name}-quota",
            metadata=object_meta(
                args.platform,
                "platform",
                args.platform,
                namespace=args.namespace,
                # The provider gives the quota controller one minute to count, whatever the timeouts say, and
                # fails the update where a control plane that has just started takes longer. Nothing needs
                # the wait: until then pods are refused, and their controllers ask again.
                annotations={"pulumi.com/skipAwait": "true"},
            ),
            spec={"hard": dict(quota)},
            opts=self.child(depends_on=[namespace]),
        )
        return [namespace, limits]

    def _existing(self, name: str) -> list[pulumi.Resource]:
        args = self._args
        claim = kubernetes.core.v1.ConfigMap(
            f"{name}-claim",
            metadata=object_meta(
                args.platform,
                "platform",
                f"{args.platform}-claim",
                namespace=args.namespace,
                annotations=args.claim,
            ),
            opts=self.child(),
        )
        return [claim]

    def _deny_by_default(self) -> list[pulumi.Resource]:
        deny = self._policy("default-deny", {"pod_selector": {}, "policy_types": ["Ingress", "Egress"]})
        allow_dns = self._policy(
            "allow-dns",
            {
                "pod_selector": {},
                "policy_types": ["Egress"],
                # Any destination: node-local DNS caches listen on link-local addresses.
                "egress": [{"ports": [_port(53, "UDP"), _port(53)]}],
            },
        )
        return [deny, allow_dns]

    def _allow_gateway(self) -> pulumi.Resource:
        ports = [_port(self._args.gateway_port), _port(self._args.gateway_metrics_port)]
        return self._policy(
            "allow-gateway",
            {
                "pod_selector": self._pods(GATEWAY),
                "policy_types": ["Ingress", "Egress"],
                "ingress": [{"ports": ports}],
                "egress": [{"to": [_peer(_ALL_MODELS)], "ports": self._serving_ports()}],
            },
        )

    def _allow_serving_check(self) -> pulumi.Resource:
        return self._policy(
            "allow-serving-check",
            {
                "pod_selector": self._pods(SERVING_CHECK),
                "policy_types": ["Egress"],
                "egress": [
                    {"to": [_peer(self._pods(GATEWAY))], "ports": [_port(self._args.gateway_port)]},
                    {"to": [_peer(_ALL_MODELS)], "ports": self._checked_ports()},
                ],
            },
        )

    def _allow_model(self, model: ModelSpec) -> pulumi.Resource:
        pods: _LabelSelector = {"match_labels": {MODEL_LABEL: model.name}}
        serving = [_port(endpoint_of(model).port)]
        ingress: list[_IngressRule] = [
            {"from_": [_peer(self._pods(GATEWAY))], "ports": serving},
            {"from_": [_peer(self._pods(SERVING_CHECK))], "ports": [_port(_checked_port(model))]},
        ]
        egress: list[_EgressRule] = []
        if not model.is_plain:
            operator: _Peer = {
                "namespace_selector": {
                    "match_labels": {"kubernetes.io/metadata.name": self._args.operator_namespace}
                }
            }
            ingress = [
                {"from_": [_peer(pods)]},
                *ingress,
                {"from_": [operator], "ports": [_port(DASHBOARD_PORT), *serving]},
            ]
            egress.append({"to": [_peer(pods)]})
        if model.source.leaves_cluster:
            egress.append({"ports": [_port(port) for port in sorted({443, *self._args.proxy_ports})]})
        if model.replicas.min < model.replicas.max:
            # The Ray autoscaler in the head pod patches the RayCluster; the API server's address is
            # not known here, its port is one of these two.
            api: _EgressRule = {"ports": [_port(443), _port(6443)]}
            if self._args.offline:
                api["to"] = [{"ip_block": {"cidr": cidr}} for cidr in _PRIVATE]
            egress.append(api)
        return self._policy(
            f"allow-model-{model.name}",
            {
                "pod_selector": pods,
                "policy_types": ["Ingress", "Egress"],
                "ingress": ingress,
                "egress": egress,
            },
        )

    def _serving_ports(self) -> "list[_Port]":
        return [_port(port) for port in sorted({endpoint_of(model).port for model in self._args.models})]

    def _checked_ports(self) -> "list[_Port]":
        return [_port(port) for port in sorted({_checked_port(model) for model in self._args.models})]

    def _policy(self, name: str, spec: kubernetes.networking.v1.NetworkPolicySpecArgsDict) -> pulumi.Resource:
        return kubernetes.networking.v1.NetworkPolicy(
            f"{self._args.platform}-{name}",
            metadata=object_meta(self._args.platform, "platform", name, namespace=self._args.namespace),
            spec=spec,
            opts=self.child(depends_on=[self._claimed]),
        )

    def _pods(self, component: str) -> "_LabelSelector":
        return {"match_labels": selector(self._args.platform, component)}


_LabelSelector = kubernetes.meta.v1.LabelSelectorArgsDict
_Peer = kubernetes.networking.v1.NetworkPolicyPeerArgsDict
_EgressRule = kubernetes.networking.v1.NetworkPolicyEgressRuleArgsDict
_IngressRule = kubernetes.networking.v1.NetworkPolicyIngressRuleArgsDict
_Port = kubernetes.networking.v1.NetworkPolicyPortArgsDict
# Addresses that no packet leaves a site by: RFC 1918, RFC 6598 (shared), RFC 4193 (IPv6).
_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
_ALL_MODELS: _LabelSelector = {"match_expressions": [{"key": MODEL_LABEL, "operator": "Exists"}]}


def _peer(pods: _LabelSelector) -> _Peer:
    return {"pod_selector": pods}


def _port(port: int, protocol: str = "TCP") -> _Port:
    return {"port": port, "protocol": protocol}


def _checked_port(model: ModelSpec) -> int:
    """What the serving check asks: Ray's dashboard, or vLLM itself."""
    return endpoint_of(model).port if model.is_plain else DASHBOARD_PORT
