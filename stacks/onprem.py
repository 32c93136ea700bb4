"""On-prem: KubeRay, Ray Serve LLM on vLLM, and the gateway, on one Kubernetes cluster."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import pulumi

from components.kubernetes.gateway import SERVICE_PORT, Gateway, GatewayArgs
from components.kubernetes.gateway_route import (
    GatewayRoute,
    GatewayRouteArgs,
    IngressOptions,
    ParentGateway,
)
from components.kubernetes.kuberay import KubeRayOperator, KubeRayOperatorArgs
from components.kubernetes.model_service import ModelService, ModelServiceArgs
from components.kubernetes.namespace import PlatformNamespace, PlatformNamespaceArgs
from components.kubernetes.ownership import StackClaim, stack_name
from components.kubernetes.plain_vllm import PlainVLLM, PlainVLLMArgs
from components.kubernetes.ray_token import RayToken, RayTokenArgs
from components.kubernetes.serving_check import ServingCheck, ServingCheckArgs
from components.kubernetes.spill_pool import SpillPool, SpillPoolArgs
from runtime.accelerators import ACCELERATORS
from runtime.capacity import summary
from runtime.gateway import GatewayConfig, LinkTls, ModelRoute, Overflow, Upstream
from runtime.images import mirrored
from runtime.model import ModelSpec, Spec
from runtime.serving.endpoint import endpoint_of
from runtime.serving.ray_service import RayRuntime
from runtime.surroundings import CaBundle, Proxy, Surroundings
from runtime.tenure import Tenure
from runtime.versions import kuberay_image
from stacks.outputs import PlatformOutputs
from stacks.providers import Providers
from stacks.settings import (
    GatewaySettings,
    IngressSettings,
    KubeRaySettings,
    PlatformSettings,
    QuotaSettings,
    RouteSettings,
)

Owner = TypeVar("Owner", bound=Spec)


@dataclass(frozen=True, kw_only=True)
class SpillTarget:
    """Where requests go that there is no room for.

    Attributes:
        addresses: IPv4 addresses of the entrance on the other side of the link.
        port: Its port.
        key: The key that the gateway there knows this one by.
        ready: Who says which models have servers there now: the burst controller.
        tls: How the entrance is known; None speaks plain HTTP to it.
    """

    addresses: tuple[str, ...]
    port: int
    key: pulumi.Input[str]
    ready: Upstream | None = None
    tls: LinkTls | None = None


@dataclass(frozen=True, kw_only=True)
class OnPremSide:
    """The platform as it was declared, for what a caller adds to it.

    Attributes:
        outputs: What the stack exports.
        ready: What must be there before anything else runs in the namespace.
        ray_secret: Secret with Ray's token.
        gateway_metrics_port: Port of the metrics of the gateway's pods.
        pull_secrets: Existing Secrets for the registry.
    """

    outputs: PlatformOutputs
    ready: list[pulumi.Resource]
    ray_secret: str
    gateway_metrics_port: int
    pull_secrets: tuple[str, ...]


def deploy(settings: PlatformSettings) -> PlatformOutputs:
    """Declares the platform."""
    return declare(settings).outputs


def tenure_of(settings: PlatformSettings) -> Tenure:
    """What the stack says of itself on all that it makes."""
    return Tenure(
        stack=stack_name(),
        owner=settings.owner,
        cost_centre=settings.cost_centre,
        environment=settings.environment,
        expires=settings.expires,
    )


def declare(
    settings: PlatformSettings, providers: Providers | None = None, spill: SpillTarget | None = None
) -> OnPremSide:
    """Declares the platform; the order of deletion is the reverse of what each part depends on.

    Args:
        settings: The stack's settings.
        providers: Those of the cluster, where a caller needs them too.
        spill: Where requests may go beside the models' own servers; None keeps all of them here.
    """
    settings = _on_mirror(settings)
    providers = providers or Providers.of(settings.cluster)
    on_cluster = pulumi.ResourceOptions(providers=[providers.cluster, providers.generated])
    surroundings = _surroundings(settings)
    gateway_config = _gateway_config(settings, spill)
    claim = StackClaim(f"{settings.name}-claim", tenure_of(settings), on_cluster)
    namespace = PlatformNamespace(
        settings.name,
        PlatformNamespaceArgs(
            platform=settings.name,
            namespace=settings.namespace,
            models=settings.models,
            operator_namespace=settings.kuberay.namespace,
            quota=namespace_quota(settings.quota, settings.models)
            if settings.cluster.access == "cluster-admin"
            else None,
            gateway_port=gateway_config.listen_port,
            gateway_metrics_port=gateway_config.metrics_port,
            proxy_ports=surroundings.proxy.ports if surroundings.proxy else (),
            offline=surroundings.offline,
            claim=claim.annotations,
        ),
        on_cluster,
    )
    ray = RayRuntime(
        version=settings.ray.version,
        image=settings.ray.image,
        auth_secret=f"{settings.name}-ray-auth",
        head_cpu=settings.ray.head_cpu,
        head_memory=settings.ray.head_memory,
        head_cpu_request=settings.ray.head_cpu_request,
        head_memory_request=settings.ray.head_memory_request,
        surroundings=surroundings,
        head_node_selector=settings.ray.node_selector,
        head_tolerations=settings.ray.tolerations,
    )
    needs = list(namespace.shared)
    if settings.uses_ray:
        token = RayToken(
            ray.auth_secret,
            RayTokenArgs(platform=settings.name, namespace=settings.namespace),
            _after(on_cluster, namespace.shared),
        )
        needs.append(token)
    if settings.installs_kuberay:
        # RayServices depend on the operator, so a destroy keeps it alive until their finalizers are done.
        needs.append(_operator(settings, claim, on_cluster))
    if spill is not None:
        _spill_pool(settings, spill, _after(on_cluster, namespace.shared))
    route = settings.gateway.route
    gateway = Gateway(
        f"{settings.name}-gateway",
        GatewayArgs(
            platform=settings.name,
            namespace=settings.namespace,
            image=settings.gateway.image,
            replicas=settings.gateway.replicas,
            service=settings.gateway.service,
            clients=settings.gateway.client_names,
            config=gateway_config,
            pull_secrets=surroundings.pull_secrets,
            url=f"{route.scheme}://{route.hostnames[0]}" if route else None,
            spill_key=spill and spill.key,
            prometheus_rule=settings.gateway.overflow.prometheus_rule,
        ),
        _after(on_cluster, namespace.shared),
    )
    if route is not None:
        _route_to_gateway(settings, route, _after(on_cluster, [gateway]))
    for model in settings.models:
        memory = summary(model)
        if memory is not None:
            pulumi.log.info(memory)
        service = _served(settings, model, ray, on_cluster, namespace, needs)
        ServingCheck(
            f"{model.name}-check",
            ServingCheckArgs(
                platform=settings.name,
                namespace=settings.namespace,
                model=model,
                ray=ray,
                image=settings.check_image,
                gateway_url=gateway.internal_url,
                gateway_secret=gateway.secret_name,
                gateway_revision=gateway.revision,
                client=settings.gateway.client_names[0],
                timeout_s=settings.ready_timeout_seconds,
            ),
            _after(on_cluster, [service, gateway]),
        )
    outputs = PlatformOutputs(
        endpoint=gateway.endpoint,
        models=[model.model_id for model in settings.models],
        api_keys=gateway.api_keys,
        api_key_secret=f"{settings.namespace}/{gateway.secret_name}",
        namespace=settings.namespace,
    )
    return OnPremSide(
        outputs=outputs,
        ready=namespace.shared,
        ray_secret=ray.auth_secret,
        gateway_metrics_port=gateway_config.metrics_port,
        pull_secrets=surroundings.pull_secrets,
    )


def namespace_quota(given: QuotaSettings, models: Sequence[ModelSpec]) -> dict[str, str]:
    """Hard limits of a namespace: pods, CPU, memory, and each kind of accelerator.

    Without `quota.accelerators`, a kind may be used as much as all its models at their most, with
    what an upgrade runs beside them. A kind that no model uses gets nothing.
    """
    quota = {"pods": str(given.pods)}
    if given.cpu is not None:
        quota["limits.cpu"] = given.cpu
    if given.memory is not None:
        quota["limits.memory"] = given.memory
    most = {
        profile.kubernetes_resource: 0 for profile in ACCELERATORS.values() if profile.kubernetes_resource
    }
    for model in models:
        resource = model.profile.kubernetes_resource
        if resource is not None:
            most[resource] += model.peak_accelerators
    for resource, count in most.items():
        allowed = count if given.accelerators is None or count == 0 else given.accelerators
        quota[f"requests.{resource}"] = str(allowed)
    return quota


def spill_service(settings: PlatformSettings) -> str:
    """The Service that stands for the entrance of the other side."""
    return f"{settings.name}-spill"


def _spill_pool(settings: PlatformSettings, spill: SpillTarget, options: pulumi.ResourceOptions) -> None:
    SpillPool(
        spill_service(settings),
        SpillPoolArgs(
            platform=settings.name,
            namespace=settings.namespace,
            service=spill_service(settings),
            addresses=spill.addresses,
            port=spill.port,
        ),
        options,
    )


def _served(
    settings: PlatformSettings,
    model: ModelSpec,
    ray: RayRuntime,
    on_cluster: pulumi.ResourceOptions,
    namespace: PlatformNamespace,
    ray_needs: list[pulumi.Resource],
) -> pulumi.Resource:
    """The component that serves the model; only one with Ray waits for operator and token."""
    if model.is_plain:
        return PlainVLLM(
            model.name,
            PlainVLLMArgs(
                platform=settings.name,
                namespace=settings.namespace,
                model=model,
                image=ray.image_of(model),
                surroundings=ray.surroundings,
                ready_timeout_s=settings.ready_timeout_seconds,
                usd_per_gpu_hour=settings.cost.rate_of(model.accelerator),
            ),
            _after(on_cluster, [*namespace.shared, namespace.of_model[model.name]]),
        )
    return ModelService(
        model.name,
        ModelServiceArgs(
            platform=settings.name,
            namespace=settings.namespace,
            model=model,
            ray=ray,
            ready_timeout_s=settings.ready_timeout_seconds,
            usd_per_gpu_hour=settings.cost.rate_of(model.accelerator),
        ),
        _after(on_cluster, [*ray_needs, namespace.of_model[model.name]]),
    )


def _gateway_config(settings: PlatformSettings, spill: SpillTarget | None) -> GatewayConfig:
    return GatewayConfig(
        models=tuple(_route(settings, model, spill) for model in settings.models),
        max_request_bytes=settings.gateway.max_request_bytes,
        stream_idle_timeout_s=settings.gateway.stream_idle_timeout_seconds,
        overflow=_overflow(settings.gateway, spill),
    )


def _overflow(gateway: GatewaySettings, spill: SpillTarget | None) -> Overflow:
    return Overflow(
        ready=spill and spill.ready,
        tls=spill and spill.tls,
        clients=gateway.spilling_clients,
        retry_after_s=gateway.overflow.retry_after_seconds,
        session_s=gateway.overflow.session_seconds,
        connect_timeout_s=gateway.overflow.connect_timeout_seconds,
    )


def _route(settings: PlatformSettings, model: ModelSpec, spill: SpillTarget | None) -> ModelRoute:
    endpoint = endpoint_of(model)
    there = spill if model.spill is not None else None
    return ModelRoute(
        name=model.model_id,
        upstream=Upstream(host=_in_cluster(settings, endpoint.service), port=endpoint.port),
        spill=there and Upstream(host=_in_cluster(settings, spill_service(settings)), port=there.port),
    )


def _in_cluster(settings: PlatformSettings, service: str) -> str:
    return f"{service}.{settings.namespace}.svc.cluster.local"


def _on_mirror(settings: PlatformSettings) -> PlatformSettings:
    """The settings with every image where the mirror has it, if there is one."""
    mirror, kuberay = settings.images.mirror, settings.kuberay
    if mirror is None:
        return settings
    # What the chart would pull by itself is named too.
    operator = kuberay.image or kuberay_image(kuberay.version)

    def on_mirror(part: Owner, image: str) -> Owner:
        return part.model_copy(update={"image": mirrored(image, mirror)})

    return settings.model_copy(
        update={
            "ray": on_mirror(settings.ray, settings.ray.image),
            "gateway": on_mirror(settings.gateway, settings.gateway.image),
            "kuberay": on_mirror(kuberay, operator),
            "check_image": settings.check_image and mirrored(settings.check_image, mirror),
            "models": tuple(
                on_mirror(model, model.image) if model.image else model for model in settings.models
            ),
        }
    )


def _surroundings(settings: PlatformSettings) -> Surroundings:
    network = settings.network
    return Surroundings(
        pull_secrets=settings.images.pull_secrets,
        proxy=network.proxy
        and Proxy(http=network.proxy.http, https=network.proxy.https, no_proxy=network.proxy.no_proxy),
        ca_bundle=network.ca_bundle
        and CaBundle(config_map=network.ca_bundle.config_map, key=network.ca_bundle.key),
        offline=network.offline,
    )


def _route_to_gateway(
    settings: PlatformSettings, route: RouteSettings, options: pulumi.ResourceOptions
) -> None:
    by: ParentGateway | IngressOptions
    if route.http_route is not None:
        parent = route.http_route
        by = ParentGateway(name=parent.gateway, namespace=parent.namespace, listener=parent.listener)
    else:
        ingress = route.ingress or IngressSettings()
        by = IngressOptions(class_name=ingress.class_name, tls_secret=ingress.tls_secret)
    GatewayRoute(
        f"{settings.name}-gateway-route",
        GatewayRouteArgs(
            platform=settings.name,
            namespace=settings.namespace,
            service=f"{settings.name}-gateway",
            port=SERVICE_PORT,
            hostnames=route.hostnames,
            by=by,
            annotations=route.annotations,
        ),
        options,
    )


def _operator(
    settings: PlatformSettings, claim: StackClaim, on_cluster: pulumi.ResourceOptions
) -> KubeRayOperator:
    kuberay = settings.kuberay
    return KubeRayOperator(
        "kuberay",
        KubeRayOperatorArgs(
            platform=settings.name,
            namespace=kuberay.namespace,
            chart=chart_location(kuberay),
            repository=kuberay.repository,
            version=kuberay.version,
            image=kuberay.image,
            pull_secrets=settings.images.pull_secrets,
            claim=claim.annotations,
        ),
        on_cluster,
    )


def chart_location(kuberay: KubeRaySettings) -> str:
    """The operator's chart as the program, which runs in stacks/, finds it."""
    if kuberay.repository is not None or kuberay.chart.startswith("/") or "://" in kuberay.chart:
        return kuberay.chart
    # A chart in the project is named from the project's root, but the program runs in stacks/.
    return f"../{kuberay.chart}"


def _after(options: pulumi.ResourceOptions, needs: list[pulumi.Resource]) -> pulumi.ResourceOptions:
    return pulumi.ResourceOptions.merge(options, pulumi.ResourceOptions(depends_on=needs))
