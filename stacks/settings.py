"""The typed settings of a stack: the one object `spillway:platform`, and the only reader of config."""

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self, get_args

import pulumi
from pydantic import AfterValidator, BaseModel, Field, ValidationError, field_validator, model_validator

from runtime import versions
from runtime.model import CpuQuantity, MemoryQuantity, ModelSpec, Spec
from runtime.serving.ray_service import VLLM_OF_RAY

CONFIG_KEY = "platform"
_IMAGE = re.compile(
    r"(?P<name>[a-z0-9]+([.:/_-][a-zA-Z0-9]+)*?)(:(?P<tag>[\w][\w.-]{0,127}))?(@(?P<digest>sha256:[0-9a-f]{64}))?"
)


def _pinned_image(value: str) -> str:
    match = _IMAGE.fullmatch(value)
    if match is None:
        raise ValueError("is no image reference; write REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:DIGEST")
    if match["digest"] is None and match["tag"] in {None, "latest", "main", "master", "nightly"}:
        raise ValueError("has no fixed version; write a version tag or, better, a digest (NAME@sha256:…)")
    return value


def _dns_label(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", value):
        raise ValueError("must be 1 to 63 lower-case letters, digits and '-'")
    return value


def _service_prefix(value: str) -> str:
    # Services are named after it with a suffix, and must start with a letter (RFC 1035).
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", value):
        raise ValueError("must be 1 to 40 lower-case letters, digits and '-', starting with a letter")
    return value


Image = Annotated[str, AfterValidator(_pinned_image)]
DnsLabel = Annotated[str, AfterValidator(_dns_label)]
PlatformName = Annotated[str, AfterValidator(_service_prefix)]


class ClusterSettings(Spec):
    """Which Kubernetes cluster the platform goes to."""

    kubeconfig: str | None = Field(
        default=None, description="Path of the kubeconfig; without it `KUBECONFIG` or ~/.kube/config."
    )
    context: str | None = Field(
        default=None, description="Context in it; without it `CONTEXT`, else the current one."
    )


class KubeRaySettings(Spec):
    """Where the KubeRay operator comes from."""

    install: Literal["chart", "existing"] = Field(
        default="chart",
        description="`chart` installs the operator by Helm; `existing` uses one that watches the namespace.",
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
        path = self.chart.startswith((".", "/")) or "/" in self.chart
        if self.install == "chart" and path == (self.repository is not None):
            fix = "set repository to null" if path else "name a repository, or give chart as ./PATH"
            raise ValueError(f"chart {self.chart!r} with repository {self.repository!r} is ambiguous; {fix}")
        return self


class RaySettings(Spec):
    """The serving image, shared by all models, and the size of each Ray head."""

    version: str = Field(default="2.60.0", description="Ray version in `image`.")
    vllm_version: str | None = Field(
        default=None, description="vLLM version in `image`; defaults to the one that belongs to `version`."
    )
    image: Image = Field(description="Serving image with Ray and vLLM.")
    head_cpu: CpuQuantity = Field(default="4", description="CPU limit of a Ray head.")
    head_memory: MemoryQuantity = Field(default="16Gi", description="Memory limit of a Ray head.")
    head_cpu_request: CpuQuantity = Field(default="1", description="CPU request of a Ray head.")
    head_memory_request: MemoryQuantity = Field(default="4Gi", description="Memory request of a Ray head.")

    @model_validator(mode="after")
    def _tested_pair(self) -> Self:
        pairs = ", ".join(f"Ray {ray} with vLLM {vllm}" for ray, vllm in VLLM_OF_RAY.items())
        if self.version not in VLLM_OF_RAY:
            raise ValueError(f"version {self.version} has no tested vLLM; allowed: {pairs}")
        if self.vllm_version not in {None, VLLM_OF_RAY[self.version]}:
            raise ValueError(
                f"vllmVersion {self.vllm_version} does not import with Ray {self.version}; allowed: {pairs}"
            )
        tag = _IMAGE.fullmatch(self.image)
        named = re.match(r"\d+\.\d+\.\d+", (tag["tag"] or "") if tag else "")
        if named is not None and named[0] != self.version:
            raise ValueError(
                f"image {self.image} is Ray {named[0]} but version says {self.version}; make the two agree, "
                "the operator's probes and authentication follow version"
            )
        return self


class GatewaySettings(Spec):
    """The Envoy gateway in front of all models."""

    image: Image = Field(default=versions.ENVOY_IMAGE, description="Envoy image.")
    replicas: int = Field(default=2, ge=1, le=50, description="Gateway pods.")
    service: Literal["ClusterIP", "LoadBalancer", "NodePort"] = Field(
        default="ClusterIP",
        description="How clients outside the cluster reach it; ClusterIP: by your own ingress.",
    )
    clients: tuple[DnsLabel, ...] = Field(
        default=("default",),
        min_length=1,
        description="Names of the clients; each gets an API key of its own.",
    )
    max_request_bytes: int = Field(
        default=10 * 1024 * 1024, ge=1024, le=16 * 1024 * 1024, description="Largest request body in bytes."
    )
    stream_idle_timeout_seconds: int = Field(
        default=600, ge=1, le=3600, description="A stream that is silent for this long is cut."
    )

    @model_validator(mode="after")
    def _unique_clients(self) -> Self:
        twice = _repeated(self.clients)
        if twice:
            raise ValueError(f"clients names {', '.join(twice)} more than once; each client once")
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

    scenario: Literal["onprem"] = Field(description="Which scenario this stack is.")
    name: PlatformName = Field(default="llm", description="Prefix of the platform's resources.")
    namespace: DnsLabel = Field(default="llm", description="Kubernetes namespace; Spillway declares it.")
    cluster: ClusterSettings = Field(
        default_factory=lambda: ClusterSettings(), description="The Kubernetes cluster."
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
    models: tuple[ModelSpec, ...] = Field(min_length=1, description="What is served.")
    ready_timeout_seconds: int = Field(
        default=3600,
        ge=60,
        le=6 * 3600,
        description="Seconds that `pulumi up` waits for a RayService, and then again for the serving check.",
    )

    @field_validator("models")
    @classmethod
    def _distinct_models(cls, value: tuple[ModelSpec, ...]) -> tuple[ModelSpec, ...]:
        for attribute, key in (("name", "name"), ("model_id", "servedName")):
            twice = _repeated([str(getattr(model, attribute)) for model in value])
            if twice:
                raise ValueError(f"models share the {key} {', '.join(twice)}; give each model its own")
        return value

    @model_validator(mode="after")
    def _operator_outlives_the_platform(self) -> Self:
        if self.kuberay.install == "chart" and self.kuberay.namespace == self.namespace:
            raise ValueError(
                f"namespace {self.namespace} is also kuberay.namespace; teardown removes the platform's "
                "namespace while the operator must outlive it. Use two"
            )
        return self


class SettingsError(Exception):
    """The stack file cannot be used; one line per mistake."""


def load(config: pulumi.Config | None = None) -> PlatformSettings:
    """Reads the stack's settings.

    Raises:
        SettingsError: With every mistake in the stack file, before any provider is called.
    """
    value = (config or pulumi.Config()).get_object(CONFIG_KEY)
    if value is None:
        raise SettingsError(
            f"{_key(())} is not set; add it under `config:` in stacks/Pulumi.{pulumi.get_stack()}.yaml "
            "(stacks/Pulumi.local.yaml is an example)"
        )
    return parse(value)


def parse(value: object) -> PlatformSettings:
    """Validates the object under `spillway:platform`.

    Raises:
        SettingsError: With every mistake in it.
    """
    try:
        # Through JSON, because strict validation there still takes a list for a tuple.
        return PlatformSettings.model_validate_json(json.dumps(value))
    except ValidationError as error:
        # Members that failed on their own do not count, so pydantic also calls their list too short.
        problems = [
            problem
            for problem in error.errors()
            if not (problem["type"] == "too_short" and _at(value, problem["loc"]))
        ]
        lines = [_explain(value, problem["loc"], problem) for problem in problems]
        raise SettingsError(
            f"{len(lines)} mistake{'s' if len(lines) > 1 else ''} in the stack's settings:\n"
            + "\n".join(f"  - {line}" for line in lines)
        ) from None


def _explain(value: object, location: tuple[int | str, ...], problem: Mapping[str, Any]) -> str:
    """One mistake as: key, value, what is allowed, the fix."""
    kind = str(problem["type"])
    context: Mapping[str, Any] = problem.get("ctx") or {}
    if kind == "extra_forbidden":
        known = sorted(_keys_at(location[:-1]))
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        fix = f"did you mean {near[0]}?" if near else "remove it"
        return f"{_key(location)} is not a setting; allowed here: {', '.join(known)}; {fix}"
    if kind == "missing":
        described = _description(location)
        return f"{_key(location)} is missing; add it{f': {described}' if described else ''}"
    shown = _shown(_at(value, location))
    if kind == "value_error":
        # A long object says nothing that the message does not say better.
        subject = f"{_key(location)} = {shown}" if not shown.endswith("...") else _key(location)
        return f"{subject}: {context['error']}"
    if kind == "literal_error":
        allowed = [word.strip(" '") for word in re.split(r",|\bor\b", str(context["expected"]))]
        near = difflib.get_close_matches(str(_at(value, location)), allowed, n=1)
        fix = f"; did you mean {near[0]}?" if near else ""
        return f"{_key(location)} = {shown}: allowed: {', '.join(allowed)}{fix}"
    if kind == "string_pattern_mismatch":
        example = (
            "CPUs such as 500m, 4 or 1.5" if "cpu" in str(location[-1]).lower() else "bytes such as 16Gi"
        )
        return f"{_key(location)} = {shown}: allowed: {example}; write it so"
    expected = str(problem["msg"]).removeprefix("Input should be ")
    return f"{_key(location)} = {shown}: must be {expected}; change it"


def _key(location: Sequence[int | str]) -> str:
    text = f"spillway:{CONFIG_KEY}"
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text


def _at(value: object, location: Sequence[int | str]) -> object:
    here: Any = value
    for part in location:
        try:
            here = here[part]
        except (KeyError, IndexError, TypeError):
            return None
    return here


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _models_at(location: Sequence[int | str]) -> Iterator[type[BaseModel]]:
    """The settings classes that can stand at a place in the file."""
    here: list[type[BaseModel]] = [PlatformSettings]
    for part in location:
        if isinstance(part, int):
            continue
        here = [
            child
            for model in here
            for field in model.model_fields.values()
            if field.alias == part
            for child in _settings_in(field.annotation)
        ]
    yield from here


def _settings_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _settings_in(argument)


def _keys_at(location: Sequence[int | str]) -> set[str]:
    return {
        field.alias or name for model in _models_at(location) for name, field in model.model_fields.items()
    }


def _description(location: Sequence[int | str]) -> str | None:
    for model in _models_at(location[:-1]):
        for field in model.model_fields.values():
            if field.alias == location[-1]:
                return field.description
    return None


def _repeated(values: Sequence[str]) -> list[str]:
    return sorted({value for value in values if values.count(value) > 1})
