"""Where data is and goes: regions, copies, models' origin, and what programs report about themselves."""

import re
from collections.abc import Mapping
from typing import Any, Final, cast

import yaml

from policies.enforcement import ADVISORY, ADVISORY_IN_DEV
from policies.frameworks import gdpr
from policies.llm_security.pods import containers, pods_of
from policies.reading import Node, Unreadable, read
from policies.rule import Answer, ConfigKey, Found, NotApplicable, Problem, Resource, Rule, Severity
from policies.workloads import read_workload

AWS_PROVIDER: Final = "pulumi:providers:aws"
_REPLICATIONS: Final = frozenset(
    {
        "aws:s3/bucketReplicationConfig:BucketReplicationConfig",
        "aws:s3/bucketReplicationConfiguration:BucketReplicationConfiguration",
    }
)
_REGISTRY_REPLICATION: Final = "aws:ecr/replicationConfiguration:ReplicationConfiguration"
_REPLICA_KEY: Final = "aws:kms/replicaKey:ReplicaKey"
_KEY: Final = "aws:kms/key:Key"
_PROFILE: Final = "aws:bedrock/inferenceProfile:InferenceProfile"
_COPIES: Final = _REPLICATIONS | {_REGISTRY_REPLICATION, _REPLICA_KEY, _KEY, _PROFILE}
_REGION_IN_ARN: Final = re.compile(r"arn:aws[a-z-]*:[a-z0-9-]+:(?P<region>[a-z0-9-]+):")
_RAY: Final = re.compile(r"kubernetes:ray\.io/[^:]+:Ray(Service|Cluster|Job)")


def _check_region(resource: Resource, config: Node) -> Found:
    allowed = config.child("allowedRegions").texts()
    region = read(resource.props).child("region")
    if region.text() not in allowed:
        yield Problem(
            f"{region.path} is {region.text()}. Allowed regions: {', '.join(allowed) or 'none'}.",
            f'Add "{region.text()}" to allowedRegions of allowed-regions in the file given to '
            "--policy-pack-config, or use an allowed region.",
        )


def _check_copies(resource: Resource, config: Node) -> Found:
    allowed = config.child("allowedRegions").texts()
    root = read(resource.props)
    if resource.type == _KEY:
        if root.child("multiRegion").boolean(default=False):
            yield Problem(
                "multiRegion is true, so the key can be copied to other regions.", "Set it to false."
            )
    elif resource.type == _REGISTRY_REPLICATION:
        for rule in root.child("replicationConfiguration", "rules").items():
            for destination in rule.child("destinations").items():
                yield from _elsewhere(destination.child("region"), allowed)
    elif resource.type == _PROFILE:
        source = root.child("modelSource", "copyFrom")
        found = _REGION_IN_ARN.match(source.text())
        if found is None or found["region"] not in allowed:
            yield Problem(
                f"{source.path} may answer requests in other regions.",
                "Copy from a model of an allowed region, named by its ARN.",
            )
    elif not allowed:
        yield Problem(
            f"A {resource.type.rpartition(':')[2]} copies data, and no region is allowed to hold copies.",
            "Remove it, or name regions in allowedRegions of no-cross-region-copy.",
        )


def _elsewhere(region: Node, allowed: list[str]) -> Found:
    if region.text() not in allowed:
        yield Problem(
            f"{region.path} copies data to {region.text()}. Allowed: {', '.join(allowed) or 'none'}.",
            "Remove the copy, or name the region in allowedRegions of no-cross-region-copy.",
        )


def _check_origin(resource: Resource, _: Node) -> Answer:
    if _RAY.fullmatch(resource.type):
        serve = read(resource.props).child("spec", "serveConfigV2")
        return NotApplicable("It serves no model.") if serve.is_missing else _served_by_ray(serve)
    if read_workload(resource) is None:
        return NotApplicable("It serves no model.")
    return _served_by_vllm(resource)


def _served_by_ray(serve: Node) -> Found:
    try:
        config: Any = yaml.safe_load(serve.text())
    except yaml.YAMLError:
        raise Unreadable(serve.path, "is no YAML") from None
    root = read(cast("dict[str, object]", config), serve.path)
    for application in root.child("applications").items():
        for model in application.child("args", "llm_configs").items():
            source = model.child("model_loading_config", "model_source")
            if isinstance(source.value, str) and _is_on_hub(source.value):
                yield from _unpinned(source, model.child("engine_kwargs", "revision"))


def _served_by_vllm(resource: Resource) -> Found:
    for pool in pods_of(resource):
        for container in containers(pool.pod):
            words = [one for key in ("command", "args") for one in container.child(key).items()]
            texts = [one.text() for one in words]
            if "serve" in texts[:-1]:
                at = texts.index("serve") + 1
                pinned = any(text.startswith("--revision") for text in texts)
                if _is_on_hub(texts[at]) and not pinned:
                    yield from _unpinned(words[at], read({}).child("--revision"))


def _is_on_hub(source: str) -> bool:
    return not source.startswith("/") and "://" not in source


def _unpinned(source: Node, revision: Node) -> Found:
    if revision.is_missing:
        yield Problem(
            f"{source.path} takes {source.text()} from the hub without a revision, so the hub decides what "
            "you serve.",
            "Name the commit that you tested in models[].source.revision, or stage the weights.",
        )


def _check_telemetry(resource: Resource, _: Node) -> Answer:
    return NotApplicable("It creates no pods.") if read_workload(resource) is None else _telemetry(resource)


def _telemetry(resource: Resource) -> Found:
    ray = _RAY.fullmatch(resource.type) is not None
    for pool in pods_of(resource):
        for container in containers(pool.pod):
            env = {one.child("name").text(): one.child("value") for one in container.child("env").items()}
            words = [one.text() for key in ("command", "args") for one in container.child(key).items()]
            head = pool.sidecar is not None
            if ray and not _is(env, "RAY_USAGE_STATS_ENABLED", "0"):
                yield _reports(container, "Ray", "RAY_USAGE_STATS_ENABLED to 0")
            silent = _is(env, "VLLM_NO_USAGE_STATS", "1") or _is(env, "DO_NOT_TRACK", "1")
            if ((ray and not head) or "vllm" in words) and not silent:
                yield _reports(container, "vLLM", "VLLM_NO_USAGE_STATS to 1")


def _is(env: dict[str, Node], name: str, value: str) -> bool:
    return name in env and env[name].text(default="") == value


def _reports(container: Node, program: str, setting: str) -> Problem:
    return Problem(
        f"{container.path}.env lets {program} report what runs here to its makers.", f"Set {setting}."
    )


_REGIONS: Final[Mapping[str, object]] = {
    "type": "array",
    "items": {"type": "string", "pattern": "^[a-z]{2}(-[a-z]+)+-[0-9]$"},
    "default": [],
}

ALLOWED_REGIONS: Final = Rule(
    name="allowed-regions",
    description="AWS is used only in regions that the stack's policy configuration names.",
    severity=Severity.CRITICAL,
    remediation="Add the region to allowedRegions, or use an allowed one.",
    controls=gdpr(44),
    check=_check_region,
    types=frozenset({AWS_PROVIDER}),
    example=Resource(AWS_PROVIDER, "aws", {"region": "us-east-1"}),
    config={
        "allowedRegions": ConfigKey(
            schema={**_REGIONS, "description": "Regions that may be used. Empty: none."},
            example=["eu-central-1"],
        )
    },
)

NO_CROSS_REGION_COPY: Final = Rule(
    name="no-cross-region-copy",
    description="Nothing copies data, images, keys or requests to another region by itself.",
    severity=Severity.HIGH,
    remediation="Remove the copy, or name the region in allowedRegions.",
    controls=gdpr(44),
    check=_check_copies,
    types=_COPIES,
    example=Resource(_KEY, "weights", {"multiRegion": True}),
    config={
        "allowedRegions": ConfigKey(
            schema={**_REGIONS, "description": "Regions that may hold copies. Empty: none."},
            example=["eu-west-1"],
        )
    },
)

MODEL_ORIGIN_DECLARED: Final = Rule(
    name="model-origin-declared",
    description="A model from the hub is named with the commit that was tested.",
    severity=Severity.MEDIUM,
    remediation="Name the commit in models[].source.revision, or stage the weights.",
    enforcement=ADVISORY,
    controls=gdpr(32),
    check=_check_origin,
    example=Resource(
        "kubernetes:ray.io/v1:RayService",
        "qwen3",
        {
            "spec": {
                "serveConfigV2": "applications:\n- args:\n    llm_configs:\n    - model_loading_config:\n"
                "        model_source: Qwen/Qwen3-8B\n"
            }
        },
    ),
)

TELEMETRY_OFF: Final = Rule(
    name="telemetry-off",
    description="vLLM and Ray report nothing about what runs to their makers.",
    severity=Severity.MEDIUM,
    remediation="Set VLLM_NO_USAGE_STATS to 1 and RAY_USAGE_STATS_ENABLED to 0.",
    enforcement=ADVISORY_IN_DEV,
    controls=gdpr(5, 44),
    check=_check_telemetry,
    example=Resource(
        "kubernetes:apps/v1:Deployment",
        "vllm",
        {
            "spec": {
                "template": {"spec": {"containers": [{"name": "vllm", "command": ["vllm", "serve", "/m"]}]}}
            }
        },
    ),
)
