"""The reference of the stack file, `configuration.md`, and its JSON Schema, from `stacks.settings`."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from docs.generator import markdown
from runtime.accelerators import ACCELERATORS, ENDPOINT_ACCELERATORS
from runtime.capacity import NodePool
from runtime.instances import INSTANCES, RECORDED, REGIONS
from runtime.model import (
    RESERVED_ENGINE_ARGUMENTS,
    AcceleratorName,
    CpuQuantity,
    EngineArgument,
    Image,
    MemoryOrNone,
    MemoryQuantity,
    ModelSource,
    ModelSpec,
    ObjectName,
    SpillSpec,
)
from runtime.node_groups import GroupName, InstanceTypeName, NodeGroupSpec, ReservationId, ZoneName
from runtime.pricing import price_of
from runtime.sagemaker.endpoints import Schedule as ScheduleTime
from runtime.sagemaker.endpoints import SharedInstances, SizeSchedule, Variant
from runtime.sagemaker.instances import ENDPOINT_TYPES, EndpointType, has_neuron
from runtime.sagemaker.models import EndpointAccelerator, EndpointModel, PartName, PipelineContainer
from runtime.versions import VLLM_OF_RAY
from stacks.cloud_settings import (
    AccountId,
    Cidr,
    CloudSettings,
    ClusterVersion,
    DirectConnectGatewayId,
    Email,
    PrincipalArn,
    PrivateAddress,
    PublicAddress,
    RegionName,
    RoleArn,
    SubnetId,
    SystemNodes,
    VpcId,
)
from stacks.mistakes import FULL_KEY
from stacks.sagemaker_settings import PrefixListId, SageMakerSettings
from stacks.settings import (
    SAGEMAKER,
    Client,
    DnsLabel,
    Expires,
    HostName,
    KubeconfigPath,
    PlatformName,
    PlatformSettings,
    ProxyUrl,
    RaySettings,
    RegistryPath,
    TagValue,
)

PAGE = "configuration.md"
SAGEMAKER_PAGE = "configuration-sagemaker.md"
SCHEMA = "platform.schema.json"

# What a validator or pattern behind a named type allows, in words. The error messages say the same.
_NAMED: Mapping[object, str] = {
    DnsLabel: "1 to 63 lower-case letters, digits and `-`",
    Client: "a name of 1 to 63 lower-case letters, digits and `-`, or an object",
    AcceleratorName: "a name of the table of accelerators below",
    Image: "`NAME:TAG` or `NAME@sha256:DIGEST`, with a fixed version",
    ObjectName: "a Kubernetes object's name",
    RegistryPath: "`REGISTRY[/PATH]`, without `https://`",
    ProxyUrl: "`http://HOST:PORT`, without user and password",
    HostName: "a host name such as `llm.example.com`",
    PlatformName: "1 to 40 lower-case letters, digits and `-`, first a letter",
    CpuQuantity: "CPUs: `4`, `1.5`, `500m`",
    MemoryQuantity: "bytes: `16Gi`, `512Mi`",
    MemoryOrNone: "bytes: `16Gi`, `512Mi`",
    KubeconfigPath: "an absolute path, or one that begins with `~`",
    AccountId: "12 digits, in quotes",
    Cidr: "an IPv4 network such as `10.20.0.0/16`",
    ClusterVersion: "a version such as `1.35`, in quotes",
    DirectConnectGatewayId: "the id of a Direct Connect gateway",
    Email: "an e-mail address",
    Expires: "a day such as `2026-12-31`, or a duration such as `14d` or `8h`",
    GroupName: "1 to 30 lower-case letters, digits and `-`, first a letter",
    InstanceTypeName: "a type of the table below",
    PrincipalArn: "the ARN of an IAM role or user",
    PrivateAddress: "a private IPv4 address",
    PublicAddress: "a public IPv4 address",
    RegionName: "a region of the table of instance types below",
    ReservationId: "`cr-…`",
    RoleArn: "the ARN of an IAM role",
    SubnetId: "`subnet-…`",
    TagValue: "1 to 200 letters, digits, blanks and `_.:/=+@-`",
    VpcId: "`vpc-…`",
    ZoneName: "a zone such as `us-east-1a`",
    PartName: "1 to 30 lower-case letters, digits and `-`, first a letter",
    EndpointType: "a type of the table of EC2 types with `ml.` before it, or "
    + ", ".join(f"`{name}`" for name in ENDPOINT_TYPES if has_neuron(name)),
    EndpointAccelerator: "a name of the table of accelerators, or "
    + ", ".join(f"`{name}`" for name in ENDPOINT_ACCELERATORS if name not in ACCELERATORS),
    PrefixListId: "`pl-…`",
    ScheduleTime: "`cron(…)`, `rate(…)` or `at(…)`",
}
# The same for the keys whose validators stand in their model.
_KEYS: Mapping[tuple[type[BaseModel], str], str] = {
    (RaySettings, "version"): ", ".join(f"`{version}`" for version in VLLM_OF_RAY),
    (ModelSpec, "name"): "lower-case letters, digits and `-`, first a letter",
    (ModelSpec, "servedName"): "at most 120 letters, digits, `.`, `_`, `-` in parts joined by `/`",
    (ModelSource, "path"): "absolute path without `..`",
    (ModelSource, "huggingFace"): "`ORGANISATION/NAME`",
    (ModelSource, "hostFolder"): "absolute path without `..`",
    (ModelSpec, "nodeSelector"): "label keys and values",
    (RaySettings, "nodeSelector"): "label keys and values",
    (ModelSpec, "engineArguments"): "names in lower case with `_`, none of the reserved ones below",
    (PipelineContainer, "environment"): "names in capitals with `_`",
    (SizeSchedule, "timezone"): "a time zone such as `Europe/Berlin`",
}
_PRICED_REGION = "us-east-1"
_SCALARS: Mapping[object, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}


@dataclass(frozen=True)
class Row:
    """One key of the stack file.

    Attributes:
        path: Where it stands, such as `models[].source.path`.
        type: Its type in YAML's words.
        default: What holds where it is left out, or `required`.
        allowed: Range or choices.
        description: What it does.
    """

    path: str
    type: str
    default: str
    allowed: str
    description: str


@dataclass(frozen=True)
class Section:
    """One object of the stack file: where it stands, what it is, and its keys in reading order."""

    path: str
    description: str
    rows: tuple[Row, ...]


def sections(model: type[BaseModel] = PlatformSettings, path: str = "") -> Iterator[Section]:
    """Every object that a stack file can hold, each before what is inside of it."""
    properties: Mapping[str, Any] = model.model_json_schema(by_alias=True)["properties"]
    hints = get_type_hints(model, include_extras=True)
    rows: list[Row] = []
    inner: list[tuple[type[BaseModel], str]] = []
    for name, field in model.model_fields.items():
        alias = field.alias or name
        child = _object_in(hints[name])
        if child is not None:
            inner.append((child, f"{path}{alias}{'[]' if _is_list(hints[name]) else ''}."))
        rows.append(
            Row(
                path=f"{path}{alias}",
                type=_type(hints[name]),
                default=_default(field),
                allowed=_words(model, alias) or _allowed(hints[name], properties[alias]),
                description=field.description or "",
            )
        )
    yield Section(path.removesuffix("."), _first_paragraph(model), tuple(rows))
    for child, place in inner:
        yield from sections(child, place)


def _words(model: type[BaseModel], alias: str) -> str:
    """What is said of a key whose validator stands in its model, or in one that this one extends."""
    return next((_KEYS[base, alias] for base in model.__mro__ if (base, alias) in _KEYS), "")


def schema() -> dict[str, Any]:
    """JSON Schema of a whole stack file, for editors; what spans several keys is left to `pulumi preview`."""
    generated = PlatformSettings.model_json_schema(by_alias=True)
    hosted = SageMakerSettings.model_json_schema(by_alias=True)
    definitions: dict[str, Any] = {
        name: _plain(value) for one in (hosted, generated) for name, value in one.pop("$defs").items()
    }
    for model, accelerators in (
        (ModelSpec, ACCELERATORS),
        (EndpointModel, ENDPOINT_ACCELERATORS),
        (NodePool, ACCELERATORS),
    ):
        definitions[model.__name__]["properties"]["accelerator"]["enum"] = list(accelerators)
    definitions[SageMakerSettings.__name__] = _plain(hosted)
    cloud_choices: tuple[tuple[type[BaseModel], str, tuple[str, ...]], ...] = (
        (CloudSettings, "region", REGIONS),
        (NodeGroupSpec, "instanceTypes", tuple(name for name, row in INSTANCES.items() if row.gpus)),
        (SystemNodes, "instanceType", tuple(name for name, row in INSTANCES.items() if not row.gpus)),
        (SageMakerSettings, "region", REGIONS),
        (Variant, "instanceType", ENDPOINT_TYPES),
        (SharedInstances, "instanceType", ENDPOINT_TYPES),
    )
    for model, key, choices in cloud_choices:
        described = definitions[model.__name__]["properties"][key]
        described.get("items", described)["enum"] = list(choices)
    for described in definitions[SpillSpec.__name__]["properties"]["accelerator"]["anyOf"]:
        if described["type"] == "string":
            described["enum"] = [name for name in ACCELERATORS if name.startswith("nvidia-")]
    # Names are told by a pattern; pydantic leaves out that no others go.
    for model, key in (
        (ModelSpec, "engineArguments"),
        (ModelSpec, "nodeSelector"),
        (EndpointModel, "engineArguments"),
        (EndpointModel, "nodeSelector"),
        (PipelineContainer, "environment"),
        (RaySettings, "nodeSelector"),
    ):
        definitions[model.__name__]["properties"][key]["additionalProperties"] = False
    definitions[PlatformSettings.__name__] = _plain(generated)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Spillway stack file (stacks/Pulumi.STACK.yaml)",
        "type": "object",
        "required": ["config"],
        "properties": {
            "config": {
                "type": "object",
                "required": [FULL_KEY],
                "properties": {FULL_KEY: _one_of_the_roots()},
            }
        },
        "$defs": dict(sorted(definitions.items())),
    }


def _one_of_the_roots() -> dict[str, Any]:
    """By the scenario, so that an editor offers the keys of that one and says what is wrong with it."""
    return {
        "if": {"type": "object", "properties": {"scenario": {"const": SAGEMAKER}}, "required": ["scenario"]},
        "then": {"$ref": f"#/$defs/{SageMakerSettings.__name__}"},
        "else": {"$ref": f"#/$defs/{PlatformSettings.__name__}"},
    }


def schema_text() -> str:
    """The bytes of `docs/platform.schema.json`."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def page_text() -> str:
    """The bytes of `docs/configuration.md`."""
    parts = [
        "# Configuration",
        "Written by `make docs` from `stacks/settings.py` and `runtime/model.py`: edit those, not this page.",
        f"Every key stands under `config:`, `{FULL_KEY}:` in `stacks/Pulumi.STACK.yaml`. Any other key\n"
        "there is an error. Types are strict: a quantity such as `4` is a string, so quote it.",
        f"Scenario `{SAGEMAKER}` has keys of its own: [{SAGEMAKER_PAGE}]({SAGEMAKER_PAGE}).",
        f"[{SCHEMA}]({SCHEMA}) describes the same for editors. Name it in a stack file:",
        markdown.fence("yaml", f"# yaml-language-server: $schema=../docs/{SCHEMA}"),
        "The schema knows types, ranges, choices and the form of names. What spans several keys (exactly\n"
        "one model source, distinct model names, requests within limits) is checked by\n"
        "`make validate STACK=…` (or `FILE=…`) within a second, and by every `make preview` and `make up`.",
    ]
    for section in sections():
        parts += [f"## {_title(section)}", section.description, _table(section.rows)]
    parts += [_accelerators(), _instances(), _reserved(), _versions()]
    return markdown.page(*parts)


def sagemaker_page_text() -> str:
    """The bytes of `docs/configuration-sagemaker.md`."""
    parts = [
        "# Configuration of scenario sagemaker",
        "Written by `make docs` from `stacks/sagemaker_settings.py` and `runtime/sagemaker`: edit those.",
        f"What stands under `{FULL_KEY}:` where `scenario` is `{SAGEMAKER}`. [{PAGE}]({PAGE}) is about all\n"
        "other scenarios, and has the tables of accelerators, instance types and reserved engine arguments.\n"
        "Keys of a model that are about pods (`worker`, `nodeSelector` and others) are listed, because a\n"
        "model is written alike everywhere, and refused with a message.",
    ]
    for section in sections(SageMakerSettings):
        parts += [f"## {_title(section)}", section.description, _table(section.rows)]
    return markdown.page(*parts)


def files() -> dict[str, str]:
    """All three files by their path below `docs/`."""
    return {PAGE: page_text(), SAGEMAKER_PAGE: sagemaker_page_text(), SCHEMA: schema_text()}


def _object_in(hint: object) -> type[BaseModel] | None:
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return hint
    return next((found for part in get_args(hint) if (found := _object_in(part))), None)


def _is_list(hint: Any) -> bool:
    return get_origin(hint) is tuple


def _type(hint: Any) -> str:
    if get_origin(hint) is Annotated:
        return _type(get_args(hint)[0])
    if hint == EngineArgument:
        return "string, number or boolean"
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return "object"
    parts: list[Any] = [part for part in get_args(hint) if part not in (NoneType, ...)]
    if _is_list(hint):
        return f"list of {' or '.join(f'{_type(one)}s' for one in _alternatives(parts[0]))}"
    if get_origin(hint) is dict:
        return f"map of name to {_type(parts[1])}"
    if NoneType in get_args(hint):
        return f"{_type(parts[0])} or null"
    if get_origin(hint) is Literal:
        return "string"
    return _SCALARS[hint]


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """The members of a union that is a type of its own, such as that of a client."""
    inner = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return get_args(inner) if get_origin(inner) is Union and inner != EngineArgument else (hint,)


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if field.default_factory is not None:
        return "its own defaults" if _object_in(field.annotation) else "empty"
    if value is PydanticUndefined:
        return "**required**"
    if value is None:
        return "null"
    # As it is written in YAML: 4 would be a number there.
    plain = isinstance(value, str) and isinstance(yaml.safe_load(value), str)
    return f"`{value if plain else json.dumps(value)}`"


def _allowed(hint: object, described: Mapping[str, Any]) -> str:
    """The choices, the range, or the words of the named type inside."""
    parts: list[Mapping[str, Any]] = [described, *described.get("anyOf", [])]
    none: list[str] = []
    choices: list[str] = next((part["enum"] for part in parts if "enum" in part), none)
    choices = choices or ([described["const"]] if "const" in described else [])
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    limits = next((part for part in parts if "minimum" in part), None)
    if limits is not None:
        least, most = limits["minimum"], limits.get("maximum")
        return f"{least} and more" if most is None else f"{least} to {most}"
    words = next((words for part in (hint, *get_args(hint)) if (words := _NAMED.get(part))), "")
    if "minItems" not in described:
        return words
    return f"at least {described['minItems']}" + (f"; each {words}" if words else "")


def _first_paragraph(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").strip().split("\n\n")[0].split())


def _title(section: Section) -> str:
    return f"`{section.path}`" if section.path else f"`{FULL_KEY}`"


def _table(rows: tuple[Row, ...]) -> str:
    return markdown.table(
        ("key", "type", "default", "allowed", "description"),
        ((f"`{row.path}`", row.type, row.default, row.allowed, row.description) for row in rows),
    )


def _accelerators() -> str:
    rows: list[tuple[str, ...]] = []
    for profile in ACCELERATORS.values():
        labels = ", ".join(f"`{key}={value}`" for key, value in profile.node_labels.items()) or "none"
        resource = "none" if profile.is_cpu else f"`{profile.kubernetes_resource}`"
        memory = "none" if profile.is_cpu else f"{profile.memory_gib} GiB"
        served = "RayServeLLM, PlainVLLM" if profile.serve_llm else "PlainVLLM"
        image = f"{'needed' if profile.needs_own_image else 'optional'}: {profile.vllm_image}"
        rows.append((f"`{profile.name}`", resource, labels, memory, served, image))
    head = (
        "`accelerator`",
        "Kubernetes resource",
        "node labels",
        "memory of one device",
        "served by",
        "`models[].image`",
    )
    return (
        "## Accelerators\n\n"
        "Where Ray Serve LLM cannot place an accelerator, PlainVLLM serves it. `models[].image` must be set\n"
        "where the last column says so, and may be elsewhere. It starts from the image named there; with\n"
        "RayServeLLM, `ray[serve,default]` of `ray.version` must be installed into it.\n\n"
        + markdown.table(head, rows)
    )


def _instances() -> str:
    rows = (
        (
            f"`{row.name}`",
            f"{row.gpus} x `{row.accelerator}`" if row.gpus else "none",
            f"{row.vcpus}",
            f"{row.memory_gib} GiB",
            f"{row.efa_cards or 'none'}",
            price_of(row.name, _PRICED_REGION).words,
        )
        for row in INSTANCES.values()
    )
    head = ("type", "devices", "vCPUs", "memory", "EFA", f"list price in {_PRICED_REGION}")
    alike: dict[frozenset[str], list[str]] = {}
    for row in INSTANCES.values():
        alike.setdefault(row.regions, []).append(row.name if row.family == "p5" else row.family)
    offered = (
        (", ".join(f"`{name}`" for name in dict.fromkeys(names)), ", ".join(sorted(regions)))
        for regions, names in alike.items()
    )
    (date,) = {price_of(name, _PRICED_REGION).date for name in INSTANCES}
    return (
        "## EC2 instance types\n\n"
        "What `cloud.nodeGroups[].instanceTypes` and `cloud.systemNodes.instanceType` may be. Sizes and\n"
        f"regions are those of {RECORDED}, prices those of {date}, on demand, Linux. Where a region has no\n"
        "list price, `cloud.nodeGroups[].usdPerHour` must say what a node costs.\n\n"
        + markdown.table(head, rows)
        + "\n\n"
        + markdown.table(("family or type", "regions"), offered)
    )


def _reserved() -> str:
    rows = ((f"`{argument}`", f"`models[].{key}`") for argument, key in RESERVED_ENGINE_ARGUMENTS.items())
    return (
        "## Reserved engine arguments\n\n"
        "`models[].engineArguments` may not set these, because another key decides them.\n\n"
        + markdown.table(("engine argument", "key"), rows)
    )


def _versions() -> str:
    rows = ((f"`{ray}`", f"`{vllm}`") for ray, vllm in VLLM_OF_RAY.items())
    return (
        "## Ray and vLLM\n\n"
        "Ray Serve LLM imports vLLM's internals, so the two are a pair. "
        "`ray.version` must be one of these.\n\n" + markdown.table(("`ray.version`", "vLLM"), rows)
    )


def _plain(value: Any) -> Any:
    """Without the titles that pydantic derives from names, and with descriptions on one line."""
    if isinstance(value, list):
        return [_plain(item) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    plain: dict[str, Any] = {}
    for key, item in cast("dict[str, Any]", value).items():
        if key == "description" and isinstance(item, str):
            plain[key] = " ".join(item.split())
        elif key != "title" or not isinstance(item, str):
            plain[key] = _plain(item)
    return plain
