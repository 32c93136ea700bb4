"""The Envoy gateway: one API key per client, rendered configuration, Deployment and Service."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pulumi
import pulumi_kubernetes as kubernetes

from components.api_keys import api_key
from components.base import Component
from components.kubernetes.metadata import object_meta
from components.kubernetes.namespace import GATEWAY
from components.kubernetes.pods import restricted_container, restricted_pod
from components.naming import selector
from runtime.digest import short_digest
from runtime.gateway import (
    BOOTSTRAP_FILE,
    GatewayConfig,
    alert_groups,
    arguments,
    render,
    render_alerts,
    render_api_keys,
)

SERVICE_PORT = 80
CERTIFICATE_FOLDER = "/etc/envoy/certificate"
BOOTSTRAP_ANNOTATION = "spillway.dev/envoy-bootstrap"

_LEAVE_S = 10
# `envoy` of the published image.
_ENVOY_USER = 101
_CONFIG_VOLUME = "config"
_KEYS_VOLUME = "keys"
_CERTIFICATE_VOLUME = "certificate"


@dataclass(frozen=True, kw_only=True)
class GatewayArgs:
    """Arguments of Gateway.

    Attributes:
        platform: The platform's name.
        namespace: The platform's namespace.
        image: Envoy image.
        replicas: Pods.
        service: How the Service is exposed.
        clients: Client names; each gets an API key.
        config: What Envoy is configured with.
        pull_secrets: Existing Secrets for the registry.
        url: URL that clients outside the cluster reach it by, where a route in front of it decides that.
        given_keys: Keys of clients that are made elsewhere; all others are generated here.
        spill_key: The key that the gateway of the spill pool knows this one by, one of its clients' keys;
            needed if a model of `config` spills, and only then.
        certificate_secret: Existing Secret of type kubernetes.io/tls, with `config.certificate_folder`.
        prometheus_rule: Whether the alerts are declared as a PrometheusRule, which needs the Prometheus
            operator. Without it they are a rule file in a ConfigMap.

    Raises:
        ValueError: A model spills and there is no key for it, or there is a key and none spills; or there is
            a certificate without a folder for it, or a folder without one.
    """

    platform: str
    namespace: str
    image: str
    replicas: int
    service: Literal["ClusterIP", "LoadBalancer", "NodePort"]
    clients: tuple[str, ...]
    config: GatewayConfig
    pull_secrets: tuple[str, ...] = ()
    url: str | None = None
    given_keys: Mapping[str, pulumi.Output[str]] = field(default_factory=dict[str, pulumi.Output[str]])
    spill_key: pulumi.Input[str] | None = None
    certificate_secret: str | None = None
    prometheus_rule: bool = False

    def __post_init__(self) -> None:
        if self.config.spills != (self.spill_key is not None):
            raise ValueError(
                "gateway: spill_key and the models' spill go together; allowed: both or neither; fix: give "
                "the gateway the spill pool's key where a model spills"
            )
        if (self.config.certificate_folder is None) != (self.certificate_secret is None):
            raise ValueError(
                "gateway: certificate_secret and config.certificate_folder go together; allowed: both or "
                "neither; fix: give both for TLS"
            )


class Gateway(Component):
    """Envoy in front of all models, and the API keys of its clients.

    Models and keys can change without a restart: Envoy watches the mounted files.
    """

    api_keys: Mapping[str, pulumi.Output[str]]
    deployment: kubernetes.apps.v1.Deployment
    service: kubernetes.core.v1.Service
    secret_name: str
    revision: str
    endpoint: pulumi.Output[str]
    internal_url: str

    def __init__(self, name: str, args: GatewayArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            "kubernetes:Gateway",
            name,
            {
                "replicas": args.replicas,
                "service": args.service,
                "models": [model.name for model in args.config.models],
            },
            opts,
        )
        self._name = name
        self._args = args
        self.secret_name = f"{name}-api-keys"
        self.internal_url = f"http://{name}.{args.namespace}.svc:{SERVICE_PORT}"
        files = render(args.config)
        self.revision = short_digest([files, args.image, sorted(args.clients)])
        self.api_keys = {client: self._api_key(client) for client in args.clients}
        config = kubernetes.core.v1.ConfigMap(
            f"{name}-config",
            metadata=object_meta(args.platform, GATEWAY, f"{name}-config", namespace=args.namespace),
            data=files,
            opts=self.child(),
        )
        # For people: `kubectl get secret` shows one readable key per client.
        keys = kubernetes.core.v1.Secret(
            self.secret_name,
            metadata=object_meta(args.platform, GATEWAY, self.secret_name, namespace=args.namespace),
            string_data=dict(self.api_keys),
            opts=self.child(),
        )
        # For Envoy: the same keys as the configuration of its filter, so that none is in a ConfigMap.
        envoy_keys = kubernetes.core.v1.Secret(
            f"{name}-envoy-keys",
            metadata=object_meta(args.platform, GATEWAY, f"{name}-envoy-keys", namespace=args.namespace),
            string_data=self._envoy_keys(),
            opts=self.child(),
        )
        if args.config.spills:
            self._alerts()
        self.deployment = self._deployment([config, keys, envoy_keys], short_digest(files[BOOTSTRAP_FILE]))
        self.service = self._service()
        self.endpoint = (
            self.service.status.apply(_load_balancer_url)
            if args.service == "LoadBalancer" and args.url is None
            else pulumi.Output.from_input(args.url or self.internal_url)
        )
        self.finish(endpoint=self.endpoint)

    def _api_key(self, client: str) -> pulumi.Output[str]:
        given = self._args.given_keys.get(client)
        if given is not None:
            return given
        return api_key(self, f"{self._name}-key-{client}")

    def _envoy_keys(self) -> pulumi.Output[dict[str, str]]:
        keys = pulumi.Output.all(**self.api_keys)
        if self._args.spill_key is None:
            return keys.apply(render_api_keys)

        def render_both(both: Sequence[Any]) -> dict[str, str]:
            return render_api_keys(both[0], spill_key=both[1])

        return pulumi.Output.all(keys, self._args.spill_key).apply(render_both)

    def _alerts(self) -> None:
        args = self._args
        meta = object_meta(args.platform, GATEWAY, f"{self._name}-alerts", namespace=args.namespace)
        if args.prometheus_rule:
            kubernetes.apiextensions.CustomResource(
                f"{self._name}-alerts",
                api_version="monitoring.coreos.com/v1",
                kind="PrometheusRule",
                metadata=meta,
                spec={"groups": alert_groups()},
                opts=self.child(),
            )
        else:
            kubernetes.core.v1.ConfigMap(
                f"{self._name}-alerts", metadata=meta, data=render_alerts(), opts=self.child()
            )

    def _deployment(self, needs: list[pulumi.Resource], bootstrap: str) -> kubernetes.apps.v1.Deployment:
        args, config = self._args, self._args.config
        pods = selector(args.platform, GATEWAY)
        ready: kubernetes.core.v1.HTTPGetActionArgsDict = {"path": "/ready", "port": config.metrics_port}
        mounts: list[kubernetes.core.v1.VolumeMountArgsDict] = [
            {"name": _CONFIG_VOLUME, "mount_path": config.config_folder, "read_only": True},
            {"name": _KEYS_VOLUME, "mount_path": config.keys_folder, "read_only": True},
        ]
        container: kubernetes.core.v1.ContainerArgsDict = {
            "name": "envoy",
            "image": args.image,
            "image_pull_policy": "IfNotPresent",
            "command": ["envoy"],
            "args": list(arguments(config)),
            "ports": [
                {"name": "http", "container_port": config.listen_port},
                {"name": "metrics", "container_port": config.metrics_port},
            ],
            "readiness_probe": {"http_get": ready, "period_seconds": 2},
            "liveness_probe": {"http_get": ready, "period_seconds": 10, "failure_threshold": 6},
            # SIGTERM ends Envoy and its streams at once; until then the Service forgets the pod.
            "lifecycle": {"pre_stop": {"sleep": {"seconds": _LEAVE_S}}},
            # Envoy's own budget of memory and its threads (GatewayConfig) are made to fit these limits.
            "resources": {
                "limits": {"cpu": "2", "memory": "1Gi"},
                "requests": {"cpu": "100m", "memory": "128Mi"},
            },
            "security_context": restricted_container(),
            "volume_mounts": mounts,
        }
        volumes: list[kubernetes.core.v1.VolumeArgsDict] = [
            {"name": _CONFIG_VOLUME, "config_map": {"name": f"{self._name}-config"}},
            {"name": _KEYS_VOLUME, "secret": {"secret_name": f"{self._name}-envoy-keys"}},
        ]
        if args.certificate_secret is not None and config.certificate_folder is not None:
            mounts.append(
                {"name": _CERTIFICATE_VOLUME, "mount_path": config.certificate_folder, "read_only": True}
            )
            volumes.append({"name": _CERTIFICATE_VOLUME, "secret": {"secret_name": args.certificate_secret}})
        pod = restricted_pod(_ENVOY_USER, container, volumes, args.pull_secrets)
        pod["termination_grace_period_seconds"] = _LEAVE_S + 10
        return kubernetes.apps.v1.Deployment(
            self._name,
            metadata=object_meta(args.platform, GATEWAY, self._name, namespace=args.namespace),
            spec={
                "replicas": args.replicas,
                "selector": {"match_labels": pods},
                "strategy": {
                    "type": "RollingUpdate",
                    "rolling_update": {"max_unavailable": 0, "max_surge": 1},
                },
                "template": {
                    # Envoy follows its other files, but reads the bootstrap once: a new one needs new pods.
                    "metadata": object_meta(
                        args.platform, GATEWAY, self._name, annotations={BOOTSTRAP_ANNOTATION: bootstrap}
                    ),
                    "spec": pod,
                },
            },
            opts=self.child(depends_on=needs),
        )

    def _service(self) -> kubernetes.core.v1.Service:
        args = self._args
        return kubernetes.core.v1.Service(
            f"{self._name}-service",
            metadata=object_meta(args.platform, GATEWAY, self._name, namespace=args.namespace),
            spec={
                "type": args.service,
                "selector": selector(args.platform, GATEWAY),
                "ports": [{"name": "http", "port": SERVICE_PORT, "target_port": "http"}],
            },
            opts=self.child(depends_on=[self.deployment]),
        )


def _load_balancer_url(status: kubernetes.core.v1.outputs.ServiceStatus | None) -> str:
    """The URL that a load balancer gave; its own port where it names one (the embedded site does)."""
    ingresses = status.load_balancer.ingress if status and status.load_balancer else None
    if not ingresses:
        return "pending: the load balancer has not given an address"
    first = ingresses[0]
    host = first.hostname or first.ip
    port = first.ports[0].port if first.ports else SERVICE_PORT
    return f"http://{host}" if port == SERVICE_PORT else f"http://{host}:{port}"
