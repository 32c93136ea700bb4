"""What runs on the EKS cluster of a hybrid stack: operator, gateway, and models without copies at rest."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pulumi
import pulumi_kubernetes as kubernetes
import pulumi_random as random

from components.aws.autoscaler import (
    ClusterAutoscaler,
    ClusterAutoscalerArgs,
    Karpenter,
    KarpenterArgs,
)
from components.aws.load_balancer import NODE_PORT
from components.aws.node_group import SYSTEM_LABEL, TAINT
from components.kubernetes.burst_access import BurstAccess, BurstAccessArgs
from components.kubernetes.chart import Chart
from components.kubernetes.device_plugin import DevicePlugin, DevicePluginArgs
from components.kubernetes.efa_plugin import EfaPlugin, EfaPluginArgs
from components.kubernetes.gateway import CERTIFICATE_FOLDER, Gateway, GatewayArgs
from components.kubernetes.kuberay import KubeRayOperator, KubeRayOperatorArgs
from components.kubernetes.model_service import ModelService, ModelServiceArgs
from components.kubernetes.namespace import PlatformNamespace, PlatformNamespaceArgs
from components.kubernetes.ownership import StackClaim
from components.kubernetes.ray_token import RayToken, RayTokenArgs
from components.kubernetes.spill_pool import SpillPort, SpillPortArgs
from components.kubernetes.staged_weights import StagedWeights, StagedWeightsArgs
from runtime import versions
from runtime.gateway import GatewayConfig, ModelRoute, Upstream
from runtime.model import ModelSpec
from runtime.node_groups import EFA_RESOURCE, NODE_GROUP_LABEL, group_of
from runtime.serving.endpoint import endpoint_of
from runtime.serving.ray_service import ExternalScaling, RayRuntime
from runtime.staging import StagedImages, is_staged, staged, weights_claim, weights_prefix
from runtime.surroundings import Surroundings
from runtime.versions import kuberay_image
from stacks.cloud_settings import ChartSettings, CloudSettings
from stacks.cloud_side import CloudSide
from stacks.onprem import chart_location, namespace_quota
from stacks.settings import PlatformSettings, QuotaSettings

# The client that the on-prem gateway is to the one over there.
ON_PREM_CLIENT = "on-prem"

_CLUSTER_AUTOSCALER = Chart(
    chart="cluster-autoscaler",
    repository="https://kubernetes.github.io/autoscaler",
    version=versions.CLUSTER_AUTOSCALER_CHART,
)
_KARPENTER = Chart(
    chart="oci://public.ecr.aws/karpenter/karpenter", repository=None, version=versions.KARPENTER
)
_EFA_PLUGIN = Chart(
    chart="aws-efa-k8s-device-plugin",
    repository="https://aws.github.io/eks-charts",
    version=versions.EFA_DEVICE_PLUGIN_CHART,
)
_DEVICE_PLUGIN = Chart(
    chart="nvidia-device-plugin",
    repository="https://nvidia.github.io/k8s-device-plugin",
    version=versions.NVIDIA_DEVICE_PLUGIN,
)


@dataclass(frozen=True, kw_only=True)
class EksSide:
    """What the burst controller needs of the EKS side.

    Attributes:
        models: The models that may spill, as they are served there.
        kubeconfig: Its access to the cluster.
        ray_token: Ray's token there.
    """

    models: list[ModelSpec]
    kubeconfig: pulumi.Output[str]
    ray_token: pulumi.Output[str]


def cloud_models(settings: PlatformSettings, cloud: CloudSettings, images: StagedImages) -> list[ModelSpec]:
    """The models that may spill, as the EKS side serves them: staged, and bound to their node group."""
    models: list[ModelSpec] = []
    for model in settings.models:
        there = model.in_cloud
        if there is None:
            continue
        group = group_of(there, cloud.node_groups, cloud.region)
        if group is None:
            raise AssertionError("the settings let no model through that no node group holds")
        models.append(
            staged(there).model_copy(
                update={
                    "node_selector": {NODE_GROUP_LABEL: group.name},
                    "image": images.of(there.image or settings.ray.image),
                }
            )
        )
    return models


def images_of(settings: PlatformSettings, cloud: CloudSettings) -> tuple[str, ...]:
    """Every image that the EKS side pulls, by the reference that it has now."""
    spilling = [there for model in settings.models if (there := model.in_cloud) is not None]
    serving = [model.image or settings.ray.image for model in spilling]
    operator = settings.kuberay.image or kuberay_image(settings.kuberay.version)
    scaler = {
        "cluster-autoscaler": versions.cluster_autoscaler_image(cloud.cluster.version),
        "karpenter": versions.KARPENTER_IMAGE,
    }[cloud.autoscaler.kind]
    further = [scaler] if cloud.autoscaler.release.install == "chart" else []
    further += [versions.NVIDIA_DEVICE_PLUGIN_IMAGE] if cloud.device_plugin.install == "chart" else []
    return tuple(dict.fromkeys([*serving, operator, settings.gateway.image, *further]))


def deploy_eks_side(
    settings: PlatformSettings,
    cloud: CloudSettings,
    side: CloudSide,
    images: StagedImages,
    cluster: kubernetes.Provider,
    generated: random.Provider,
    claim: StackClaim,
    key: pulumi.Output[str],
) -> EksSide:
    """Declares what runs in the cluster.

    Args:
        settings: The stack's settings.
        cloud: Their AWS side.
        side: What was declared of it.
        images: Where its nodes pull images from.
        cluster: Provider of the EKS cluster.
        generated: Provider of generated keys.
        claim: Whose the namespaces are.
        key: The key of the on-prem gateway.
    """
    platform, namespace = side.account.name, settings.namespace
    on_cluster = pulumi.ResourceOptions(providers=[cluster, generated])
    surroundings = Surroundings(offline=cloud.network.new is None or cloud.network.new.egress == "endpoints")
    models = cloud_models(settings, cloud, images)
    gateway_config = GatewayConfig(
        models=tuple(_route(model, namespace) for model in models),
        max_request_bytes=settings.gateway.max_request_bytes,
        stream_idle_timeout_s=settings.gateway.stream_idle_timeout_seconds,
        certificate_folder=cloud.tls and CERTIFICATE_FOLDER,
    )
    space = PlatformNamespace(
        f"{platform}-namespace",
        PlatformNamespaceArgs(
            platform=platform,
            namespace=namespace,
            models=tuple(models),
            operator_namespace=settings.kuberay.namespace,
            quota=namespace_quota(QuotaSettings(), models),
            gateway_port=gateway_config.listen_port,
            gateway_metrics_port=gateway_config.metrics_port,
            offline=surroundings.offline,
            claim=claim.annotations,
        ),
        on_cluster,
    )
    operator = KubeRayOperator(
        f"{platform}-kuberay",
        KubeRayOperatorArgs(
            platform=platform,
            namespace=settings.kuberay.namespace,
            chart=chart_location(settings.kuberay),
            repository=settings.kuberay.repository,
            version=settings.kuberay.version,
            image=images.of(settings.kuberay.image or kuberay_image(settings.kuberay.version)),
            claim=claim.annotations,
        ),
        on_cluster,
    )
    on_system = {SYSTEM_LABEL: "true"}
    ray = RayRuntime(
        version=settings.ray.version,
        image=images.of(settings.ray.image),
        auth_secret=f"{platform}-ray-auth",
        head_cpu=settings.ray.head_cpu,
        head_memory=settings.ray.head_memory,
        head_cpu_request=settings.ray.head_cpu_request,
        head_memory_request=settings.ray.head_memory_request,
        head_node_selector=on_system,
        surroundings=surroundings,
        external=ExternalScaling(ingress_node_selector=on_system),
    )
    token = RayToken(
        ray.auth_secret,
        RayTokenArgs(platform=platform, namespace=namespace),
        _after(on_cluster, space.shared),
    )
    nodes = _node_starters(cloud, side, images, cluster)
    Gateway(
        f"{platform}-gateway",
        GatewayArgs(
            platform=platform,
            namespace=namespace,
            image=images.of(settings.gateway.image),
            replicas=2,
            service="ClusterIP",
            clients=(ON_PREM_CLIENT,),
            given_keys={ON_PREM_CLIENT: key},
            config=gateway_config,
            certificate_secret=cloud.tls and cloud.tls.certificate_secret,
        ),
        _after(on_cluster, space.shared),
    )
    SpillPort(
        f"{platform}-port",
        SpillPortArgs(
            platform=platform,
            namespace=namespace,
            node_port=NODE_PORT,
            target_port=gateway_config.listen_port,
        ),
        _after(on_cluster, space.shared),
    )
    for model in models:
        needs: list[pulumi.Resource] = [*space.shared, space.of_model[model.name], token, operator, *nodes]
        if is_staged(model):
            needs.append(_weights(model, settings, side, _after(on_cluster, space.shared)))
        ModelService(
            f"{model.name}-burst",
            ModelServiceArgs(
                platform=platform,
                namespace=namespace,
                model=model,
                ray=replace(ray, worker_devices=_adapters(model, cloud)),
                ready_timeout_s=settings.ready_timeout_seconds,
            ),
            _after(on_cluster, needs),
        )
    access = BurstAccess(
        f"{platform}-access",
        BurstAccessArgs(
            platform=platform,
            namespace=namespace,
            models=tuple(models),
            control_plane_cidr=cloud.network.cidr,
            # The private endpoint, which is reached over the link.
            kubeconfig=side.cluster.kubeconfig,
        ),
        _after(on_cluster, space.shared),
    )
    return EksSide(models=models, kubeconfig=access.kubeconfig, ray_token=token.value)


def _node_starters(
    cloud: CloudSettings,
    side: CloudSide,
    images: StagedImages,
    cluster: kubernetes.Provider,
) -> list[pulumi.Resource]:
    """What makes nodes come and offer their GPUs. Models wait for it, so it outlives their pods."""
    platform = side.account.name
    on_both = pulumi.ResourceOptions(providers=[cluster, side.provider])
    needs: list[pulumi.Resource] = list(side.groups.values())
    if cloud.device_plugin.install == "chart":
        needs.append(
            DevicePlugin(
                f"{platform}-device-plugin",
                DevicePluginArgs(
                    chart=_chart(_DEVICE_PLUGIN, cloud.device_plugin),
                    image=images.of(versions.NVIDIA_DEVICE_PLUGIN_IMAGE),
                    node_label=NODE_GROUP_LABEL,
                    taint=TAINT,
                ),
                pulumi.ResourceOptions(provider=cluster),
            )
        )
    with_adapters = tuple(group.name for group in cloud.node_groups if group.efa)
    if with_adapters and cloud.efa_plugin.install == "chart":
        needs.append(
            EfaPlugin(
                f"{platform}-efa-plugin",
                EfaPluginArgs(
                    chart=_chart(_EFA_PLUGIN, cloud.efa_plugin),
                    # Not staged: nodes reach AWS' own registry as they do for the add-ons.
                    image=cloud.efa_plugin.image or versions.efa_device_plugin_image(cloud.region),
                    node_label=NODE_GROUP_LABEL,
                    groups=with_adapters,
                    taint=TAINT,
                ),
                pulumi.ResourceOptions(provider=cluster),
            )
        )
    if cloud.autoscaler.release.install == "none":
        return needs
    if cloud.autoscaler.kind == "cluster-autoscaler":
        scaler = ClusterAutoscaler(
            f"{platform}-autoscaler",
            ClusterAutoscalerArgs(
                cloud=side.account,
                cluster=side.cluster.name,
                chart=_chart(_CLUSTER_AUTOSCALER, cloud.autoscaler.release),
                image=images.of(versions.cluster_autoscaler_image(cloud.cluster.version)),
                scale_down_minutes=cloud.autoscaler.scale_down_minutes,
            ),
            _after(on_both, needs),
        )
        return [*needs, scaler]
    karpenter = Karpenter(
        f"{platform}-karpenter",
        KarpenterArgs(
            cloud=side.account,
            cluster=side.cluster.name,
            chart=_chart(_KARPENTER, cloud.autoscaler.release),
            image=images.of(versions.KARPENTER_IMAGE),
            scale_down_minutes=cloud.autoscaler.scale_down_minutes,
            platform=platform,
            groups=cloud.node_groups,
            node_role_arn=side.node_role.arn,
            node_role_name=side.node_role.role_name,
            subnets=side.place.subnets,
            security_group_id=side.cluster.security_group_id,
            volume_key=side.volume_key,
            tags=side.tags,
        ),
        _after(on_both, needs),
    )
    return [*needs, karpenter, *karpenter.pools]


def _adapters(model: ModelSpec, cloud: CloudSettings) -> dict[str, int]:
    group = group_of(model, cloud.node_groups, cloud.region)
    count = group.adapters_per_pod(model) if group is not None else 0
    return {EFA_RESOURCE: count} if count else {}


def _weights(
    model: ModelSpec, settings: PlatformSettings, side: CloudSide, options: pulumi.ResourceOptions
) -> StagedWeights:
    original = next(one for one in settings.models if one.name == model.name)
    return StagedWeights(
        weights_claim(model),
        StagedWeightsArgs(
            platform=side.account.name,
            namespace=settings.namespace,
            claim=weights_claim(model),
            bucket=side.storage.bucket,
            prefix=weights_prefix(original),
            region=side.account.region,
        ),
        options,
    )


def _route(model: ModelSpec, namespace: str) -> ModelRoute:
    endpoint = endpoint_of(model)
    host = f"{endpoint.service}.{namespace}.svc.cluster.local"
    return ModelRoute(name=model.model_id, upstream=Upstream(host=host, port=endpoint.port))


def _chart(published: Chart, given: ChartSettings) -> Chart:
    version = given.version or published.version
    if given.chart is None:
        return Chart(chart=published.chart, repository=published.repository, version=version)
    # A path is relative to the project, and the program runs in stacks/.
    relative = not given.chart.startswith("/") and "://" not in given.chart
    return Chart(chart=f"../{given.chart}" if relative else given.chart, repository=None, version=version)


def _after(options: pulumi.ResourceOptions, needs: Sequence[pulumi.Resource]) -> pulumi.ResourceOptions:
    return pulumi.ResourceOptions.merge(options, pulumi.ResourceOptions(depends_on=list(needs)))
