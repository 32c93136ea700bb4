"""The typed settings of a stack: the one object `spillway:platform`, and the only reader of config."""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal, Self, TypeVar, cast, get_args
from urllib.parse import urlsplit

from pulumi.runtime.config import CONFIG, get_config_env, is_config_secret
from pydantic import (
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from runtime import versions
from runtime.burst.policy import BurstPolicy
from runtime.capacity import NodePool, capacity_mistakes
from runtime.gateway import GatewayConfig, Overflow
from runtime.images import registry_host, tag_of
from runtime.model import (
    ContradictionError,
    ContradictionsError,
    CpuQuantity,
    Image,
    MemoryQuantity,
    Mistake,
    ModelSpec,
    NodeLabels,
    NodeToleration,
    ObjectName,
    Spec,
    refuse_above,
)
from runtime.quantities import cpus, memory_bytes
from runtime.serving.ray_service import RayRuntime
from runtime.stack_file import list_mistakes
from runtime.versions import VLLM_OF_RAY
from stacks.cloud_settings import MAX_CLOUD_NAME, CloudSettings, burst_mistakes
from stacks.cost_settings import CostSettings
from stacks.mistakes import ENCRYPTED, FULL_KEY, config_mistakes, explain, nearest
from stacks.sagemaker_settings import SageMakerSettings
from stacks.setting_types import (
    DnsLabel,
    Expires,
    HostName,
    KubeconfigPath,
    PlatformName,
    ProxyUrl,
    RegistryPath,
    TagValue,
    refuse_wrong_end,
)

SAGEMAKER = "sagemaker"
_Root = TypeVar("_Root", bound=Spec)


class ClusterSettings(Spec):
    """Which Kubernetes cluster the platform goes to."""

    kubeconfig: KubeconfigPath | None = Field(
        default=None, description="Path of the kubeconfig; without it `KUBECONFIG` or ~/.kube/config."
    )
    context: str | None = Field(
        default=None, description="Context in it; without it `CONTEXT`, else the current one."
    )
    access: Literal["cluster-admin", "namespace"] = Field(
        default="cluster-admin",
        description="`namespace`: the identity may act in `namespace` only, which must exist. Nothing "
        "outside of it is declared, nor its quota; KubeRay must be there already.",
    )


class ImagesSettings(Spec):
    """Where images are pulled from."""

    mirror: RegistryPath | None = Field(
        default=None,
        description="Takes the place of the registry in every image reference: `quay.io/kuberay/operator:v1` "
        "is pulled as `MIRROR/kuberay/operator:v1`, `redis:8` as `MIRROR/library/redis:8`.",
    )
    pull_secrets: tuple[ObjectName, ...] = Field(
        default=(),
        description="Existing Secrets of type `kubernetes.io/dockerconfigjson`, in `namespace` and, where "
        "Spillway installs the operator, in `kuberay.namespace`; put on every pod.",
    )


class ProxySettings(Spec):
    """The HTTP proxy that pods leave the cluster by."""

    http: ProxyUrl | None = Field(default=None, description="For http URLs.")
    https: ProxyUrl | None = Field(
        default=None, description="For https URLs; most proxies are named by http://."
    )
    no_proxy: tuple[str, ...] = Field(
        default=(),
        description="Hosts, suffixes and CIDRs that are reached directly. The cluster's own always are.",
    )

    @model_validator(mode="after")
    def _at_least_one(self) -> Self:
        if self.http is None and self.https is None:
            raise ValueError("names no proxy; set http, https or both, or remove proxy")
        return self


class CaBundleSettings(Spec):
    """A private certificate authority: a PEM bundle in an existing ConfigMap, in place of the image's own."""

    config_map: ObjectName = Field(description="Existing ConfigMap in `namespace`.")
    key: str = Field(default="ca.crt", description="Key that holds the bundle.")


class NetworkSettings(Spec):
    """The way out of the cluster, for the pods that download a model."""

    offline: bool = Field(
        default=False,
        description="There is no internet: whatever would need it is refused, and no pod tries to reach it.",
    )
    proxy: ProxySettings | None = Field(default=None, description="HTTP proxy.")
    ca_bundle: CaBundleSettings | None = Field(default=None, description="Private certificate authority.")


class KubeRaySettings(Spec):
    """Where the KubeRay operator comes from."""

    install: Literal["chart", "existing"] = Field(
        default="chart",
        description="`chart` installs the operator by Helm; `existing` uses one that watches the namespace. "
        "Without a model that Ray serves, neither is done.",
    )
    chart: str = Field(
        default="kuberay-operator",
        description="Chart name in `repository`, or a path relative to the project.",
    )
    repository: str | None = Field(
        default="https://ray-project.github.io/kuberay-helm/",
        description="Helm repository; null where `chart` is a path.",
    )
    version: str = Field(
        default=versions.KUBERAY, description=f"Chart version; {versions.KUBERAY} is the tested one."
    )
    namespace: DnsLabel = Field(
        default="kuberay-system", description="Namespace of the operator, an existing one's too."
    )
    image: Image | None = Field(
        default=None, description="Operator image where the chart's own cannot be pulled."
    )

    @model_validator(mode="after")
    def _path_or_repository(self) -> Self:
        is_path = self.chart.startswith((".", "/")) or "/" in self.chart
        if self.install == "chart" and is_path and self.repository is not None:
            raise ContradictionError("chart", "is a path, which is in no repository; set repository to null")
        if self.install == "chart" and not is_path and self.repository is None:
            raise ContradictionError(
                "repository",
                f"chart {self.chart} is a name in one; name a repository, or give chart as ./PATH",
            )
        return self


class RaySettings(Spec):
    """The serving image, shared by all models, and the size of each Ray head."""

    version: str = Field(
        default=versions.RAY, description="Ray version in `image`, with the vLLM that belongs to it."
    )
    image: Image = Field(description="Serving image with Ray and vLLM.")
    head_cpu: CpuQuantity = Field(default=RayRuntime.head_cpu, description="CPU limit of a Ray head.")
    head_memory: MemoryQuantity = Field(
        default=RayRuntime.head_memory, description="Memory limit of a Ray head."
    )
    head_cpu_request: CpuQuantity = Field(
        default=RayRuntime.head_cpu_request, description="CPU request of a Ray head."
    )
    head_memory_request: MemoryQuantity = Field(
        default=RayRuntime.head_memory_request, description="Memory request of a Ray head."
    )
    node_selector: NodeLabels = Field(
        default_factory=dict[str, str], description="Labels of the nodes for Ray heads, such as a CPU pool."
    )
    tolerations: tuple[NodeToleration, ...] = Field(default=(), description="Taints that Ray heads tolerate.")

    @model_validator(mode="after")
    def _tested_pair(self) -> Self:
        if self.version not in VLLM_OF_RAY:
            pairs = ", ".join(f"Ray {ray} with vLLM {vllm}" for ray, vllm in VLLM_OF_RAY.items())
            raise ContradictionError("version", f"has no tested vLLM; allowed: {pairs}; take one of them")
        return self

    @model_validator(mode="after")
    def _cpu_request_within_limit(self) -> Self:
        refuse_above("headCpuRequest", self.head_cpu_request, "headCpu", self.head_cpu, cpus)
        return self

    @model_validator(mode="after")
    def _memory_request_within_limit(self) -> Self:
        refuse_above(
            "headMemoryRequest", self.head_memory_request, "headMemory", self.head_memory, memory_bytes
        )
        return self

    @model_validator(mode="after")
    def _image_is_that_ray(self) -> Self:
        named = re.match(r"\d+\.\d+\.\d+", tag_of(self.image))
        if named is not None and named[0] != self.version and self.version in VLLM_OF_RAY:
            raise ContradictionError(
                "image",
                f"is Ray {named[0]} but version says {self.version}; make the two agree, the operator's "
                "probes and authentication follow version",
            )
        return self


class HttpRouteSettings(Spec):
    """An HTTPRoute of the Gateway API, attached to a Gateway that exists."""

    gateway: ObjectName = Field(description="Name of the existing Gateway.")
    namespace: DnsLabel | None = Field(
        default=None, description="Its namespace; without it the platform's. It must allow routes from there."
    )
    listener: str | None = Field(default=None, description="One of its listeners; without it all that match.")


class IngressSettings(Spec):
    """An Ingress for a controller that exists."""

    class_name: ObjectName | None = Field(
        default=None, description="IngressClass; without it the cluster's default one."
    )
    tls_secret: ObjectName | None = Field(
        default=None, description="Existing Secret with the certificate; without it the controller's own."
    )


class RouteSettings(Spec):
    """The way to the gateway from outside, by what the cluster already has: one of httpRoute and ingress."""

    hostnames: tuple[HostName, ...] = Field(
        min_length=1, description="Host names that clients use; the first one is the stack's endpoint."
    )
    scheme: Literal["https", "http"] = Field(
        default="https", description="How clients reach it; TLS ends at the Gateway or Ingress."
    )
    http_route: HttpRouteSettings | None = Field(default=None, description="HTTPRoute of the Gateway API.")
    ingress: IngressSettings | None = Field(default=None, description="Ingress.")
    annotations: dict[str, str] = Field(
        default_factory=dict[str, str],
        description="Further annotations of that object, such as a controller's timeouts. Streams are long.",
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.http_route is None) == (self.ingress is None):
            given = (
                "names both httpRoute and ingress" if self.ingress else "names neither httpRoute nor ingress"
            )
            raise ValueError(f"{given}; give exactly one of the two")
        if self.scheme == "http" and self.ingress is not None and self.ingress.tls_secret is not None:
            raise ValueError("scheme http does not go with ingress.tlsSecret; remove one of the two")
        return self


class ClientSettings(Spec):
    """A client and where its requests may go. A name alone means that they stay on-prem."""

    name: DnsLabel = Field(description="Its name.")
    spill: Literal["allowed", "never"] = Field(
        default="never",
        description="`allowed`: its requests may leave on-prem, for models that may. A request header can "
        "only forbid it.",
    )


def _kind_of_client(value: object) -> str:
    return "object" if isinstance(value, dict | ClientSettings) else "name"


Client = Annotated[
    Annotated[DnsLabel, Tag("name")] | Annotated[ClientSettings, Tag("object")],
    Discriminator(_kind_of_client),
]


class OverflowSettings(Spec):
    """How requests leave on-prem, and what is said where they may not or cannot."""

    retry_after_seconds: int = Field(
        default=Overflow.retry_after_s,
        ge=1,
        le=3600,
        description="What `Retry-After` says where every server that may take a request is full (429).",
    )
    session_seconds: int = Field(
        default=Overflow.session_s,
        ge=1,
        le=86_400,
        description="How long a conversation (header `x-spillway-session`) goes to the spill pool first, "
        "after it was spilled.",
    )
    connect_timeout_seconds: float = Field(
        default=Overflow.connect_timeout_s,
        ge=0.05,
        le=60,
        description="Longest time to open a connection to the spill pool.",
    )
    prometheus_rule: bool = Field(
        default=False,
        description="Declare the gateway's alerts as a PrometheusRule, for a Prometheus operator that is "
        "there. Without it they are a rule file in a ConfigMap.",
    )


class GatewaySettings(Spec):
    """The Envoy gateway in front of all models."""

    image: Image = Field(default=versions.ENVOY_IMAGE, description="Envoy image.")
    replicas: int = Field(default=2, ge=1, le=50, description="Gateway pods.")
    service: Literal["ClusterIP", "LoadBalancer", "NodePort"] = Field(
        default="ClusterIP",
        description="How clients outside the cluster reach it; ClusterIP: by `route` or your own ingress.",
    )
    route: RouteSettings | None = Field(
        default=None, description="HTTPRoute or Ingress in front of the Service."
    )
    clients: tuple[Client, ...] = Field(
        default=("default",),
        min_length=1,
        description="The clients; each gets an API key of its own. A name alone may not spill.",
    )
    overflow: OverflowSettings = Field(
        default_factory=lambda: OverflowSettings(), description="What happens when on-prem is full."
    )
    max_request_bytes: int = Field(
        default=GatewayConfig.max_request_bytes,
        ge=1024,
        le=16 * 1024 * 1024,
        description="Largest request body in bytes.",
    )
    stream_idle_timeout_seconds: int = Field(
        default=int(GatewayConfig.stream_idle_timeout_s),
        ge=1,
        le=3600,
        description="A stream that is silent for this long is cut.",
    )

    @property
    def client_names(self) -> tuple[str, ...]:
        """The names of the clients, in the file's order."""
        return tuple(client if isinstance(client, str) else client.name for client in self.clients)

    @property
    def spilling_clients(self) -> tuple[str, ...]:
        """The names of the clients whose requests may leave on-prem."""
        return tuple(
            client.name
            for client in self.clients
            if isinstance(client, ClientSettings) and client.spill == "allowed"
        )

    @model_validator(mode="after")
    def _unique_clients(self) -> Self:
        names = [client if isinstance(client, str) else client.name for client in self.clients]
        twice = _repeated(names)
        if twice:
            raise ContradictionError(
                "clients", f"names {', '.join(twice)} more than once; name each client once"
            )
        return self


class QuotaSettings(Spec):
    """ResourceQuota of the platform's namespace. Left out, a value is not limited."""

    cpu: CpuQuantity | None = Field(default=None, description="Sum of CPU limits.")
    memory: MemoryQuantity | None = Field(default=None, description="Sum of memory limits.")
    accelerators: int | None = Field(
        default=None,
        ge=0,
        description="Accelerators of each kind that a model uses; defaults to what the models may use at "
        "most, plus an upgrade's surge. Kinds that no model uses get none.",
    )
    pods: int = Field(default=200, ge=1, description="Pods.")


class PlatformSettings(Spec):
    """One LLM platform. `scenario` picks what `pulumi up` declares."""

    scenario: Literal["onprem", "hybrid"] = Field(
        description="Which scenario this stack is; `hybrid` goes with `cloud` and `burst`, `sagemaker` with "
        "other keys.",
        # Whoever writes something else is told of all three.
        json_schema_extra={"enum": ["onprem", "hybrid", SAGEMAKER]},
    )
    name: PlatformName = Field(default="llm", description="Prefix of the platform's resources.")
    namespace: DnsLabel = Field(
        default="llm",
        description="Kubernetes namespace; Spillway declares it, unless `cluster.access` is `namespace`.",
    )
    owner: TagValue = Field(description="Team or person who answers for the stack.")
    cost_centre: TagValue = Field(description="Who pays.")
    environment: Literal["dev", "staging", "prod"] = Field(
        description="What it is for; `prod` is never taken down by itself, the others are when they expire."
    )
    expires: Expires | None = Field(
        default=None,
        description="When it may be taken down by itself: a day, to its end in UTC, or so long after the "
        "last `up`. All but `prod` need it.",
    )
    cluster: ClusterSettings = Field(
        default_factory=lambda: ClusterSettings(), description="The Kubernetes cluster."
    )
    images: ImagesSettings = Field(
        default_factory=lambda: ImagesSettings(), description="Registry mirror and pull secrets."
    )
    network: NetworkSettings = Field(
        default_factory=lambda: NetworkSettings(), description="Proxy, private CA, or no internet at all."
    )
    kuberay: KubeRaySettings = Field(
        default_factory=lambda: KubeRaySettings(), description="The KubeRay operator."
    )
    ray: RaySettings = Field(description="Serving image and Ray heads.")
    gateway: GatewaySettings = Field(
        default_factory=lambda: GatewaySettings(), description="The gateway in front of the models."
    )
    quota: QuotaSettings = Field(
        default_factory=lambda: QuotaSettings(), description="ResourceQuota of the namespace."
    )
    check_image: Image | None = Field(
        default=None,
        description="Image with `python3` for the serving check; without it the model's own, which has one.",
    )
    controller_image: Image | None = Field(
        default=None,
        description="Image of the burst controller; scenario `hybrid` needs it, others do not use it. "
        "`make images` builds it ([images](images.md)).",
    )
    models: tuple[ModelSpec, ...] = Field(min_length=1, description="What is served.")
    capacity: tuple[NodePool, ...] = Field(
        default=(),
        description="The nodes there are. With them a preview refuses models that do not fit at their most, "
        "with an upgrade's surge; without them only a model's memory is judged.",
    )
    cloud: CloudSettings | None = Field(default=None, description="The AWS side, with scenario `hybrid`.")
    burst: BurstPolicy | None = Field(
        default=None, description="When the AWS side is used and what it may cost, with scenario `hybrid`."
    )
    cost: CostSettings = Field(
        default_factory=lambda: CostSettings(), description="Your own figures for the cost estimate."
    )
    ready_timeout_seconds: int = Field(
        default=3600,
        ge=60,
        le=6 * 3600,
        description="Seconds that `pulumi up` waits for a RayService, and then again for the serving check.",
    )

    @property
    def uses_ray(self) -> bool:
        """Whether a model is served by Ray, so that the stack needs KubeRay and a token."""
        return any(not model.is_plain for model in self.models)

    @property
    def installs_kuberay(self) -> bool:
        """Whether the stack brings the operator."""
        return self.uses_ray and self.kuberay.install == "chart"

    @model_validator(mode="after")
    def _expires_unless_in_production(self) -> Self:
        refuse_wrong_end(self.environment, self.expires)
        return self

    @model_validator(mode="after")
    def _distinct_models(self) -> Self:
        for attribute, key in (("name", "name"), ("model_id", "servedName")):
            seen: dict[str, int] = {}
            for index, model in enumerate(self.models):
                first = seen.setdefault(getattr(model, attribute), index)
                if first != index:
                    raise ContradictionError(
                        f"models.{index}.{key}",
                        f"is the {key} of models[{first}] too; give each model its own",
                    )
        return self

    @model_validator(mode="after")
    def _operator_outlives_the_platform(self) -> Self:
        if self.installs_kuberay and self.kuberay.namespace == self.namespace:
            raise ContradictionError(
                "namespace",
                "is also kuberay.namespace; teardown removes the platform's namespace while the operator "
                "must outlive it, so use two",
            )
        return self

    @model_validator(mode="after")
    def _has_somewhere_to_spill(self) -> Self:
        if self.scenario == "onprem" and (found := list(_nowhere_to_spill(self))):
            raise ContradictionsError(found)
        return self

    @model_validator(mode="after")
    def _only_a_hybrid_has_a_cloud(self) -> Self:
        found = list(_of_another_scenario(self))
        if found:
            raise ContradictionsError(found)
        return self

    @model_validator(mode="after")
    def _bursts_within_its_means(self) -> Self:
        if self.scenario == "hybrid" and self.cloud is not None and self.burst is not None:
            found = list(burst_mistakes(self.models, self.cloud, self.burst))
            if found:
                raise ContradictionsError(found)
        return self

    @model_validator(mode="after")
    def _somebody_may_spill(self) -> Self:
        if self.scenario == "hybrid" and not self.gateway.spilling_clients:
            raise ContradictionError(
                "gateway.clients",
                "has none that may spill, so nothing could use the cloud; write one as {name: NAME, spill: "
                "allowed}, or use scenario onprem",
            )
        return self

    @model_validator(mode="after")
    def _name_fits_aws(self) -> Self:
        if self.scenario == "hybrid" and len(self.name) > MAX_CLOUD_NAME:
            raise ContradictionError(
                "name",
                f"has {len(self.name)} characters, and names of AWS resources are made of it, which leaves "
                f"{MAX_CLOUD_NAME}; shorten it",
            )
        return self

    @model_validator(mode="after")
    def _fits_the_hardware(self) -> Self:
        found = capacity_mistakes(self.models, self.capacity, self.quota.accelerators)
        if found:
            raise ContradictionsError(found)
        return self

    @model_validator(mode="after")
    def _stays_in_its_namespace(self) -> Self:
        if self.cluster.access == "namespace" and (found := list(_beyond_the_namespace(self))):
            raise ContradictionsError(found)
        return self

    @model_validator(mode="after")
    def _stays_off_the_internet(self) -> Self:
        if self.network.offline and (found := list(_needs_the_internet(self))):
            raise ContradictionsError(found)
        return self


def _of_another_scenario(settings: PlatformSettings) -> Iterator[Mistake]:
    """What a hybrid stack lacks, or what only a hybrid stack has."""
    if settings.scenario == "hybrid":
        if settings.cloud is None:
            yield Mistake(
                ("cloud",),
                "is missing, and scenario is hybrid; say where load goes, or use scenario onprem",
            )
        if settings.burst is None:
            yield Mistake(
                ("burst",),
                "is missing, and scenario is hybrid; give it a ceilingUsdPerHour, without which nothing "
                "spills, or use scenario onprem",
            )
        if settings.controller_image is None:
            yield Mistake(
                ("controllerImage",),
                "is missing, and scenario is hybrid; build and publish it with `make images PUSH=…`, which "
                "prints the line to set",
            )
        return
    why = f"goes only with scenario hybrid, and this is {settings.scenario}; remove it or change scenario"
    for key, value in (("cloud", settings.cloud), ("burst", settings.burst)):
        if value is not None:
            yield Mistake((key,), why)
    for index, model in enumerate(settings.models):
        if model.spill is not None:
            yield Mistake(("models", index, "spill"), why)


def _nowhere_to_spill(settings: PlatformSettings) -> Iterator[Mistake]:
    """What says how requests leave on-prem, in a scenario in which there is nowhere else."""
    why = f"scenario is {settings.scenario}, which has nowhere to spill"
    for index, client in enumerate(settings.gateway.clients):
        if isinstance(client, ClientSettings) and client.spill == "allowed":
            yield Mistake(
                ("gateway", "clients", index, "spill"), f"is allowed, but {why}; set it to never or remove it"
            )
    if settings.gateway.overflow != OverflowSettings():
        yield Mistake(("gateway", "overflow"), f"says how requests spill, but {why}; remove it")


def _beyond_the_namespace(settings: PlatformSettings) -> Iterator[Mistake]:
    """What an identity that may act in one namespace only cannot declare."""
    why = "cluster.access is namespace"
    if settings.installs_kuberay:
        yield Mistake(
            ("kuberay", "install"),
            f"chart installs an operator for the whole cluster, but {why}; set it to existing and let an "
            "administrator install KubeRay",
        )
    if settings.quota != QuotaSettings():
        yield Mistake(
            ("quota",),
            f"would limit the namespace, but {why}, so the quota is the administrator's; remove it",
        )
    for index, model in enumerate(settings.models):
        if model.source.host_folder is not None:
            yield Mistake(
                ("models", index, "source", "hostFolder"),
                f"needs a PersistentVolume, which belongs to no namespace, but {why}; let an administrator "
                "make the volume and name its claim with volumeClaim",
            )


def _needs_the_internet(settings: PlatformSettings) -> Iterator[Mistake]:
    """What cannot work where there is no internet."""
    why = "network.offline is true"
    for index, model in enumerate(settings.models):
        if model.source.hugging_face is not None:
            yield Mistake(
                ("models", index, "source", "huggingFace"),
                f"is downloaded from the internet, but {why}; put the weights on a volume (volumeClaim) or "
                "into the serving image (path)",
            )
    if settings.network.proxy is not None:
        yield Mistake(("network", "proxy"), f"leads to the internet, but {why}; remove one of the two")
    repository, mirror = settings.kuberay.repository, settings.images.mirror
    if settings.installs_kuberay and repository is not None:
        internal = mirror is not None and urlsplit(repository).netloc == registry_host(f"{mirror}/image")
        if not internal and not repository.startswith("oci://"):
            yield Mistake(
                ("kuberay", "repository"),
                f"is not on images.mirror, but {why}; name a repository on the mirror's host, or set it to "
                "null with a chart of oci://REGISTRY/PATH or ./PATH, or set kuberay.install to existing",
            )


Settings = PlatformSettings | SageMakerSettings
"""What a stack file may hold: each scenario without a cluster has a root of its own."""


class SettingsError(Exception):
    """The stack file cannot be used; one line per mistake."""


def load() -> Settings:
    """Reads the settings of the stack that runs.

    Raises:
        SettingsError: With every mistake in the stack's config, before any provider is called.
    """
    config: dict[str, object] = {**get_config_env(), **CONFIG.get()}
    if is_config_secret(FULL_KEY):
        # Pulumi hands it over decrypted: what is wrong with it cannot be said without telling it.
        raise _refusal([ENCRYPTED])
    given = config.get(FULL_KEY)
    if isinstance(given, str):
        with contextlib.suppress(ValueError):
            config[FULL_KEY] = json.loads(given)
    settings, mistakes = read(config)
    if settings is None:
        raise _refusal(mistakes)
    return settings


def read(config: Mapping[str, object]) -> tuple[Settings | None, list[str]]:
    """Validates everything under `config:` of a stack file: the settings, or every mistake."""
    unread, given = config_mistakes(config)
    settings, mistakes = _validated(root_of(given[0]), given[0]) if given else (None, [])
    return (None if unread else settings), [*unread, *mistakes]


def root_of(value: object) -> type[Settings]:
    """The settings that the object under `spillway:platform` means to be, by its `scenario`."""
    scenario = cast("Mapping[str, object]", value).get("scenario") if isinstance(value, dict) else None
    known = [*get_args(PlatformSettings.model_fields["scenario"].annotation), SAGEMAKER]
    meant = nearest(scenario, known) if isinstance(scenario, str) else None
    return SageMakerSettings if meant == SAGEMAKER else PlatformSettings


def parse(value: object) -> PlatformSettings:
    """Validates the object under `spillway:platform` of a scenario with a cluster.

    Raises:
        SettingsError: With every mistake in it.
    """
    return _parsed(PlatformSettings, value)


def parse_sagemaker(value: object) -> SageMakerSettings:
    """Validates the object under `spillway:platform` of scenario `sagemaker`.

    Raises:
        SettingsError: With every mistake in it.
    """
    return _parsed(SageMakerSettings, value)


def _parsed(root: type[_Root], value: object) -> _Root:
    settings, mistakes = _validated(root, value)
    if settings is None:
        raise _refusal(mistakes)
    return settings


def _validated(root: type[_Root], value: object) -> tuple[_Root | None, list[str]]:
    try:
        # Through JSON, because strict validation there still takes a list for a tuple.
        text = json.dumps(value)
        return root.model_validate_json(text, by_alias=True, by_name=False), []
    except ValidationError as error:
        # Pydantic's own words are better than none, should `explain` miss what they are about.
        return None, explain(root, value) or [str(error)]


def _refusal(lines: Sequence[str]) -> SettingsError:
    return SettingsError(list_mistakes("the stack's settings", lines))


def _repeated(values: Sequence[str]) -> list[str]:
    return sorted({value for value in values if values.count(value) > 1})
