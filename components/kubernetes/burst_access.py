"""What the burst controller may do on the EKS side: ask Ray's dashboards, and count nodes."""

import base64
import json
from dataclasses import dataclass
from typing import Any, cast

import pulumi
import pulumi_kubernetes as kubernetes
import yaml

from components.base import Component
from components.kubernetes.metadata import object_meta
from runtime.labels import MODEL_LABEL
from runtime.model import ModelSpec
from runtime.serving.ray_service import DASHBOARD_PORT, head_service_name

_NAME = "burst-controller"


@dataclass(frozen=True, kw_only=True)
class BurstAccessArgs:
    """Arguments of BurstAccess.

    Attributes:
        platform: The platform's name on that cluster.
        namespace: Namespace of the models there.
        models: The models whose Ray heads may be asked.
        control_plane_cidr: Network that the API server's requests to pods come from.
        kubeconfig: Any kubeconfig of the cluster: its address and authority are taken from it.
    """

    platform: str
    namespace: str
    models: tuple[ModelSpec, ...]
    control_plane_cidr: str
    kubeconfig: pulumi.Input[str]


class BurstAccess(Component):
    """A ServiceAccount for the burst controller, which is not on this cluster, and a kubeconfig for it.

    It may send requests to the dashboards of the named Ray heads through the API server, and read pods, nodes
    and the node autoscaler's status. It may change nothing of Kubernetes. The dashboards need no port that
    anybody else could reach.
    """

    kubeconfig: pulumi.Output[str]

    def __init__(self, name: str, args: BurstAccessArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        names = [model.name for model in args.models]
        super().__init__("kubernetes:BurstAccess", name, {"models": names}, opts)
        self._args = args
        account = kubernetes.core.v1.ServiceAccount(
            f"{name}-account",
            metadata=object_meta(args.platform, _NAME, _NAME, namespace=args.namespace),
            automount_service_account_token=False,
            opts=self.child(),
        )
        proxied = [f"http:{head_service_name(model)}:{DASHBOARD_PORT}" for model in args.models]
        self._grant(
            name,
            "dashboards",
            args.namespace,
            [
                {
                    "api_groups": [""],
                    "resources": ["services/proxy"],
                    "resource_names": proxied,
                    "verbs": ["get", "create"],
                },
                {"api_groups": [""], "resources": ["pods"], "verbs": ["list"]},
            ],
        )
        self._grant(
            name,
            "autoscaler-status",
            "kube-system",
            [
                {
                    "api_groups": [""],
                    "resources": ["configmaps"],
                    "resource_names": ["cluster-autoscaler-status"],
                    "verbs": ["get"],
                }
            ],
        )
        self._grant(name, "nodes", None, [{"api_groups": [""], "resources": ["nodes"], "verbs": ["list"]}])
        self._let_the_api_server_in(name, names)
        token = kubernetes.core.v1.Secret(
            f"{name}-token",
            metadata=object_meta(
                args.platform,
                _NAME,
                f"{_NAME}-token",
                namespace=args.namespace,
                annotations={"kubernetes.io/service-account.name": _NAME},
            ),
            type="kubernetes.io/service-account-token",
            opts=self.child(depends_on=[account]),
        )
        self.kubeconfig = pulumi.Output.secret(
            pulumi.Output.all(args.kubeconfig, token.data).apply(
                lambda given: _with_token(str(given[0]), cast("dict[str, str] | None", given[1]))
            )
        )
        self.finish(account=f"{args.namespace}/{_NAME}")

    def _let_the_api_server_in(self, name: str, models: list[str]) -> None:
        args = self._args
        heads: kubernetes.meta.v1.LabelSelectorArgsDict = {
            "match_labels": {"ray.io/node-type": "head"},
            "match_expressions": [{"key": MODEL_LABEL, "operator": "In", "values": sorted(models)}],
        }
        kubernetes.networking.v1.NetworkPolicy(
            f"{name}-allow-dashboards",
            metadata=object_meta(
                args.platform, _NAME, "allow-api-server-to-dashboards", namespace=args.namespace
            ),
            spec={
                "pod_selector": heads,
                "policy_types": ["Ingress"],
                "ingress": [
                    {
                        "from_": [{"ip_block": {"cidr": args.control_plane_cidr}}],
                        "ports": [{"port": DASHBOARD_PORT, "protocol": "TCP"}],
                    }
                ],
            },
            opts=self.child(),
        )

    def _grant(
        self,
        name: str,
        what: str,
        namespace: str | None,
        rules: "list[kubernetes.rbac.v1.PolicyRuleArgsDict]",
    ) -> None:
        args = self._args
        object_name = f"{args.platform}-{_NAME}-{what}"
        meta = object_meta(args.platform, _NAME, object_name, namespace=namespace)
        subject: kubernetes.rbac.v1.SubjectArgsDict = {
            "kind": "ServiceAccount",
            "name": _NAME,
            "namespace": args.namespace,
        }
        group = "rbac.authorization.k8s.io"
        if namespace is None:
            role = kubernetes.rbac.v1.ClusterRole(
                f"{name}-{what}", metadata=meta, rules=rules, opts=self.child()
            )
            kubernetes.rbac.v1.ClusterRoleBinding(
                f"{name}-{what}-binding",
                metadata=meta,
                role_ref={"api_group": group, "kind": "ClusterRole", "name": object_name},
                subjects=[subject],
                opts=self.child(depends_on=[role]),
            )
            return
        role = kubernetes.rbac.v1.Role(f"{name}-{what}", metadata=meta, rules=rules, opts=self.child())
        kubernetes.rbac.v1.RoleBinding(
            f"{name}-{what}-binding",
            metadata=meta,
            role_ref={"api_group": group, "kind": "Role", "name": object_name},
            subjects=[subject],
            opts=self.child(depends_on=[role]),
        )


def _with_token(kubeconfig: str, data: dict[str, str] | None) -> str:
    """A kubeconfig of the same cluster that has the ServiceAccount's token in place of a user."""
    document = cast("dict[str, Any]", yaml.safe_load(kubeconfig))
    cluster = cast("dict[str, Any]", document["clusters"][0])
    token = base64.b64decode((data or {}).get("token", "")).decode()
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "eks",
            "clusters": [{"name": "eks", "cluster": cluster["cluster"]}],
            "users": [{"name": _NAME, "user": {"token": token}}],
            "contexts": [{"name": "eks", "context": {"cluster": "eks", "user": _NAME}}],
        }
    )
