"""The burst controller on-prem: two pods of which one decides, what they may do, and what they are told."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import pulumi
import pulumi_kubernetes as kubernetes

from components.base import Component
from components.kubernetes.metadata import object_meta
from components.kubernetes.namespace import GATEWAY
from components.kubernetes.pods import restricted_container, restricted_pod
from components.kubernetes.ray_token import TOKEN_KEY
from components.naming import selector
from runtime.burst.config import (
    CONFIG_FILE,
    CloudConfig,
    ControllerConfig,
    GroupConfig,
    ModelConfig,
    OnPremConfig,
)
from runtime.burst.policy import BurstPolicy
from runtime.digest import short_digest
from runtime.labels import MODEL_LABEL, SERVING_LABEL
from runtime.model import ModelSpec
from runtime.serving.plain_vllm import PLAIN_PORT
from runtime.serving.ray_service import (
    APPLICATION,
    DASHBOARD_PORT,
    METRICS_PORT,
    deployment_name,
    head_service_name,
)

BURST_CONTROLLER = "burst-controller"
LISTEN_PORT = 8080
SERVICE_PORT = 80
CONFIG_ANNOTATION = "spillway.dev/burst-config"

_USER = 65532
_EKS_FOLDER = "/etc/spillway/eks"
_RAY_FOLDER = "/etc/spillway/ray"
_API_PORTS = (443, 6443)


@dataclass(frozen=True, kw_only=True)
class SpillingModel:
    """One model that may spill.

    Attributes:
        here: As it is served on-prem.
        there: As it is served on EKS.
        group: Its node group.
        devices_per_pod: Share of a node that one pod takes, in devices: what CPU and memory leave unused of a
            node counts too.
        staged: What must have been verified in the cloud before it gets a replica.
    """

    here: ModelSpec
    there: ModelSpec
    group: str
    devices_per_pod: int
    staged: str


@dataclass(frozen=True, kw_only=True)
class BurstControllerArgs:
    """Arguments of BurstController.

    Attributes:
        platform: The platform's name.
        namespace: The platform's namespace.
        image: Image with Python, pydantic, PyYAML and the package `runtime`.
        policy: The stack's `burst`.
        groups: The node groups on EKS, with prices.
        models: The models that may spill.
        cloud_namespace: Namespace of the models on EKS.
        kubeconfig: Access to the EKS API server.
        cloud_ray_token: Ray's token on EKS.
        ray_secret: Secret with Ray's token on-prem.
        gateway_metrics_port: Port of the metrics of the gateway's pods.
        pull_secrets: Existing Secrets for the registry.
    """

    platform: str
    namespace: str
    image: str
    policy: BurstPolicy
    groups: tuple[GroupConfig, ...]
    models: tuple[SpillingModel, ...]
    cloud_namespace: str
    kubeconfig: pulumi.Input[str]
    cloud_ray_token: pulumi.Input[str]
    ray_secret: str
    gateway_metrics_port: int
    pull_secrets: tuple[str, ...] = ()


class BurstController(Component):
    """Deployment of two pods; a Lease says which one decides, a ConfigMap what it must not forget.

    The ConfigMap `NAME-state` outlives the pods and goes with the stack. What others write into it, the
    manual switch and what is armed, Pulumi leaves as it is.
    """

    url: str
    state: str

    def __init__(
        self, name: str, args: BurstControllerArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        declared = {
            "ceilingUsdPerHour": args.policy.ceiling_usd_per_hour,
            "burstHoursPerMonth": args.policy.burst_hours_per_month,
            "maxNodes": args.policy.max_nodes,
            "models": [model.here.name for model in args.models],
        }
        super().__init__("kubernetes:BurstController", name, declared, opts)
        self._name = name
        self._args = args
        self.state = state_name(name)
        self.url = f"http://{name}.{args.namespace}.svc"
        config = controller_config(name, args)
        text = config.model_dump_json(by_alias=True, exclude_none=True)
        needs = [
            *self._identity(),
            *self._memory(),
            kubernetes.core.v1.ConfigMap(
                f"{name}-config",
                metadata=self._meta(f"{name}-config"),
                data={CONFIG_FILE.name: text},
                opts=self.child(),
            ),
            kubernetes.core.v1.Secret(
                f"{name}-eks",
                metadata=self._meta(f"{name}-eks"),
                string_data={"kubeconfig": args.kubeconfig, TOKEN_KEY: args.cloud_ray_token},
                opts=self.child(),
            ),
            *self._metrics_services(config),
            *self._policies(),
        ]
        deployment = self._deployment(short_digest(text), needs)
        kubernetes.core.v1.Service(
            f"{name}-service",
            metadata=self._meta(name),
            spec={
                "selector": selector(args.platform, BURST_CONTROLLER),
                "ports": [{"name": "http", "port": SERVICE_PORT, "target_port": LISTEN_PORT}],
            },
            opts=self.child(depends_on=[deployment]),
        )
        self.finish(state=f"{args.namespace}/{self.state}")

    def _identity(self) -> list[pulumi.Resource]:
        name, args = self._name, self._args
        account = kubernetes.core.v1.ServiceAccount(
            f"{name}-account",
            metadata=self._meta(name),
            automount_service_account_token=False,
            opts=self.child(),
        )
        role = kubernetes.rbac.v1.Role(
            f"{name}-role",
            metadata=self._meta(name),
            rules=[
                {
                    "api_groups": ["coordination.k8s.io"],
                    "resources": ["leases"],
                    "resource_names": [name],
                    "verbs": ["get", "update"],
                },
                {
                    "api_groups": [""],
                    "resources": ["configmaps"],
                    "resource_names": [self.state],
                    "verbs": ["get", "patch"],
                },
                {"api_groups": [""], "resources": ["events"], "verbs": ["create"]},
            ],
            opts=self.child(),
        )
        binding = kubernetes.rbac.v1.RoleBinding(
            f"{name}-binding",
            metadata=self._meta(name),
            role_ref={"api_group": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            subjects=[{"kind": "ServiceAccount", "name": name, "namespace": args.namespace}],
            opts=self.child(depends_on=[account, role]),
        )
        return [account, role, binding]

    def _memory(self) -> list[pulumi.Resource]:
        lease = kubernetes.coordination.v1.Lease(
            f"{self._name}-lease",
            metadata=self._meta(self._name),
            spec={},
            # The pods write who holds it.
            opts=self.child(ignore_changes=["spec"]),
        )
        state = kubernetes.core.v1.ConfigMap(
            self.state,
            metadata=self._meta(self.state),
            data={},
            # The leader, the manual switch and the staging write it.
            opts=self.child(ignore_changes=["data"]),
        )
        return [lease, state]

    def _metrics_services(self, config: ControllerConfig) -> list[pulumi.Resource]:
        """Names that resolve to every pod: a Service with an address of its own would give one of them."""
        args = self._args
        pods: dict[str, tuple[Mapping[str, str], int]] = {
            config.gateway_host: (selector(args.platform, GATEWAY), config.gateway_port)
        }
        for model, told in zip(args.models, config.models, strict=True):
            kind = {SERVING_LABEL: "PlainVLLM"} if model.here.is_plain else {"ray.io/node-type": "worker"}
            pods[told.on_prem.metrics_host] = (
                {MODEL_LABEL: model.here.name, **kind},
                told.on_prem.metrics_port,
            )
        return [
            kubernetes.core.v1.Service(
                host.partition(".")[0],
                metadata=object_meta(
                    args.platform,
                    BURST_CONTROLLER,
                    host.partition(".")[0],
                    namespace=args.namespace,
                    # A model may have no copy when this is made.
                    annotations={"pulumi.com/skipAwait": "true"},
                ),
                spec={
                    "cluster_ip": "None",
                    "selector": dict(labels),
                    "ports": [{"name": "metrics", "port": port}],
                },
                opts=self.child(),
            )
            for host, (labels, port) in pods.items()
        ]

    def _policies(self) -> list[pulumi.Resource]:
        args = self._args
        mine: kubernetes.meta.v1.LabelSelectorArgsDict = {
            "match_labels": selector(args.platform, BURST_CONTROLLER)
        }
        gateway: kubernetes.meta.v1.LabelSelectorArgsDict = {"match_labels": selector(args.platform, GATEWAY)}
        models: kubernetes.meta.v1.LabelSelectorArgsDict = {
            "match_expressions": [
                {
                    "key": MODEL_LABEL,
                    "operator": "In",
                    "values": sorted(model.here.name for model in args.models),
                }
            ]
        }
        asked = [_port(port) for port in (METRICS_PORT, PLAIN_PORT, DASHBOARD_PORT)]
        egress: list[kubernetes.networking.v1.NetworkPolicyEgressRuleArgsDict] = [
            {"to": [{"pod_selector": gateway}], "ports": [_port(args.gateway_metrics_port)]},
            {"to": [{"pod_selector": models}], "ports": asked},
            # The API servers of both sides, whose addresses are not known here.
            {"ports": [_port(port) for port in _API_PORTS]},
        ]
        if args.policy.signals.prometheus is not None:
            url = urlsplit(args.policy.signals.prometheus)
            egress.append({"ports": [_port(url.port or (443 if url.scheme == "https" else 80))]})
        return [
            kubernetes.networking.v1.NetworkPolicy(
                f"{self._name}-allow",
                metadata=self._meta("allow-burst-controller"),
                spec={
                    "pod_selector": mine,
                    "policy_types": ["Ingress", "Egress"],
                    "ingress": [{"ports": [_port(LISTEN_PORT)]}],
                    "egress": egress,
                },
                opts=self.child(),
            ),
            kubernetes.networking.v1.NetworkPolicy(
                f"{self._name}-allow-models",
                metadata=self._meta("allow-burst-controller-to-models"),
                spec={
                    "pod_selector": models,
                    "policy_types": ["Ingress"],
                    "ingress": [{"from_": [{"pod_selector": mine}], "ports": asked}],
                },
                opts=self.child(),
            ),
            # It asks whether a model has replicas on EKS before it sends a request there.
            kubernetes.networking.v1.NetworkPolicy(
                f"{self._name}-allow-gateway",
                metadata=self._meta("allow-gateway-to-burst-controller"),
                spec={
                    "pod_selector": gateway,
                    "policy_types": ["Egress"],
                    "egress": [{"to": [{"pod_selector": mine}], "ports": [_port(LISTEN_PORT)]}],
                },
                opts=self.child(),
            ),
        ]

    def _deployment(self, digest: str, needs: list[pulumi.Resource]) -> kubernetes.apps.v1.Deployment:
        name, args = self._name, self._args
        pods = selector(args.platform, BURST_CONTROLLER)
        well: kubernetes.core.v1.HTTPGetActionArgsDict = {"path": "/healthz", "port": LISTEN_PORT}
        container: kubernetes.core.v1.ContainerArgsDict = {
            "name": BURST_CONTROLLER,
            "image": args.image,
            "image_pull_policy": "IfNotPresent",
            "command": ["python3", "-u", "-m", "runtime.burst", "serve"],
            "ports": [{"name": "http", "container_port": LISTEN_PORT}],
            "readiness_probe": {"http_get": well, "period_seconds": 5},
            "liveness_probe": {"http_get": well, "period_seconds": 10, "failure_threshold": 6},
            "resources": {
                "limits": {"cpu": "500m", "memory": "256Mi"},
                "requests": {"cpu": "50m", "memory": "96Mi"},
            },
            "security_context": restricted_container(),
            "volume_mounts": [
                {"name": "config", "mount_path": str(CONFIG_FILE.parent), "read_only": True},
                {"name": "eks", "mount_path": _EKS_FOLDER, "read_only": True},
                {"name": "ray", "mount_path": _RAY_FOLDER, "read_only": True},
            ],
        }
        volumes: list[kubernetes.core.v1.VolumeArgsDict] = [
            {"name": "config", "config_map": {"name": f"{name}-config"}},
            {"name": "eks", "secret": {"secret_name": f"{name}-eks"}},
            # Where no model has Ray on-prem there is no such Secret.
            {"name": "ray", "secret": {"secret_name": args.ray_secret, "optional": True}},
        ]
        pod = restricted_pod(_USER, container, volumes, args.pull_secrets)
        pod["service_account_name"] = name
        pod["automount_service_account_token"] = True
        pod["affinity"] = {
            "pod_anti_affinity": {
                "preferred_during_scheduling_ignored_during_execution": [
                    {
                        "weight": 100,
                        "pod_affinity_term": {
                            "label_selector": {"match_labels": pods},
                            "topology_key": "kubernetes.io/hostname",
                        },
                    }
                ]
            }
        }
        return kubernetes.apps.v1.Deployment(
            name,
            metadata=self._meta(name),
            spec={
                "replicas": 2,
                "selector": {"match_labels": pods},
                "template": {
                    # What it is told is read once, so another text needs new pods.
                    "metadata": object_meta(
                        args.platform, BURST_CONTROLLER, name, annotations={CONFIG_ANNOTATION: digest}
                    ),
                    "spec": pod,
                },
            },
            opts=self.child(depends_on=needs),
        )

    def _meta(self, name: str) -> kubernetes.meta.v1.ObjectMetaArgsDict:
        return object_meta(self._args.platform, BURST_CONTROLLER, name, namespace=self._args.namespace)


def state_name(name: str) -> str:
    """Name of the ConfigMap of a controller of that name, with what it must not forget."""
    return f"{name}-state"


def controller_config(name: str, args: BurstControllerArgs) -> ControllerConfig:
    """What the controller is told."""
    return ControllerConfig(
        platform=args.platform,
        namespace=args.namespace,
        lease=name,
        state=state_name(name),
        policy=args.policy,
        groups=args.groups,
        models=tuple(_model(model, args) for model in args.models),
        gateway_host=_host(f"{args.platform}-gateway-metrics", args),
        gateway_port=args.gateway_metrics_port,
        kubeconfig=f"{_EKS_FOLDER}/kubeconfig",
        ray_token=f"{_EKS_FOLDER}/{TOKEN_KEY}",
        on_prem_ray_token=f"{_RAY_FOLDER}/{TOKEN_KEY}",
        listen_port=LISTEN_PORT,
    )


def _model(model: SpillingModel, args: BurstControllerArgs) -> ModelConfig:
    here, there = model.here, model.there
    metrics = _host(f"{here.name}-metrics", args)
    if here.is_plain:
        on_prem = OnPremConfig(
            slots=here.max_sequences,
            queue=here.queue_limit,
            serving="plain",
            metrics_host=metrics,
            metrics_port=PLAIN_PORT,
        )
    else:
        on_prem = OnPremConfig(
            slots=here.max_sequences,
            queue=here.queue_limit,
            serving="ray",
            dashboard=f"http://{head_service_name(here)}.{args.namespace}.svc:{DASHBOARD_PORT}",
            metrics_host=metrics,
            metrics_port=METRICS_PORT,
            application=APPLICATION,
            deployment=deployment_name(here),
        )
    return ModelConfig(
        name=here.name,
        model_id=here.model_id,
        on_prem=on_prem,
        cloud=CloudConfig(
            group=model.group,
            max_replicas=there.replicas.max,
            slots=there.max_sequences,
            queue=there.queue_limit,
            devices_per_pod=model.devices_per_pod,
            pods_per_replica=there.pipeline_parallel,
            namespace=args.cloud_namespace,
            service=head_service_name(there),
            port=DASHBOARD_PORT,
            application=APPLICATION,
            deployment=deployment_name(there),
            staged=model.staged,
        ),
    )


def _host(service: str, args: BurstControllerArgs) -> str:
    return f"{service}.{args.namespace}.svc"


def _port(port: int) -> kubernetes.networking.v1.NetworkPolicyPortArgsDict:
    return {"port": port, "protocol": "TCP"}
