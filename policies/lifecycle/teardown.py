"""Data that must stay, and everything else that must be able to go."""

from collections.abc import Mapping
from typing import Final

from policies.enforcement import MANDATORY, ONLY_IN_DEV, ONLY_IN_PROD
from policies.frameworks import gdpr
from policies.llm_security.cluster import CLUSTER
from policies.llm_security.storage import BUCKET, KEY, REPOSITORY
from policies.reading import Node, read
from policies.rule import (
    Answer,
    ConfigKey,
    Found,
    NotApplicable,
    Problem,
    Resource,
    Rule,
    Severity,
    Stack,
    StackRule,
    Step,
)

_RELEASE: Final = "kubernetes:helm.sh/v3:Release"
_VOLUME: Final = "kubernetes:core/v1:PersistentVolume"
_CLAIM: Final = "kubernetes:core/v1:PersistentVolumeClaim"
_CLASS: Final = "kubernetes:storage.k8s.io/v1:StorageClass"
# Objects that only a running operator can delete, and the chart that brings it.
_OPERATORS: Final[Mapping[str, str]] = {
    "kubernetes:ray.io/": "kuberay-operator",
    "kubernetes:karpenter.sh/": "karpenter",
    "kubernetes:karpenter.k8s.aws/": "karpenter",
}
# Volumes that are paid for until they are deleted.
_BILLED_DRIVERS: Final = frozenset({"ebs.csi.aws.com", "efs.csi.aws.com", "fsx.csi.aws.com"})
_DATA: Final = frozenset(
    {
        BUCKET,
        KEY,
        REPOSITORY,
        _CLAIM,
        _VOLUME,
        "aws:ebs/volume:Volume",
        "aws:efs/fileSystem:FileSystem",
        "aws:fsx/lustreFileSystem:LustreFileSystem",
        "aws:rds/instance:Instance",
        "aws:rds/cluster:Cluster",
    }
)
_DESTROYING: Final = frozenset({"delete", "replace", "delete-replaced", "create-replacement"})
_LEAST_WINDOW_DAYS: Final = 7


def _check_order(stack: Stack, _: Node) -> Answer:
    held = [(one, chart) for one in stack.resources if (chart := _operator_of(one.type)) is not None]
    return (
        _out_of_order(stack, held) if held else NotApplicable("It declares nothing that an operator deletes.")
    )


def _operator_of(kind: str) -> str | None:
    return next((chart for prefix, chart in _OPERATORS.items() if kind.startswith(prefix)), None)


def _out_of_order(stack: Stack, held: list[tuple[Resource, str]]) -> Found:
    known = {one.urn: one for one in stack.resources}
    for resource, chart in held:
        releases = {
            one.urn
            for one in stack.of(_RELEASE)
            if one.provider == resource.provider
            and read(one.props).child("chart").text().rpartition("/")[2] == chart
        }
        # Without one in the stack the operator is somebody else's, and stays.
        if releases and not releases & _needs(resource, known):
            yield Problem(
                f"{resource.type.rpartition(':')[2]} {resource.name} does not depend on operator {chart}, "
                "so a destroy may take the operator first, and nothing removes its finalizer then.",
                "Let its component depend on the operator's.",
                resource.urn,
            )


def _needs(resource: Resource, known: Mapping[str, Resource]) -> set[str]:
    """All that a resource is deleted before: what it, its parents and its provider depend on.

    A dependency on a component is one on everything in it.
    """
    children: dict[str, list[str]] = {}
    for one in known.values():
        children.setdefault(one.parent, []).append(one.urn)
    found: set[str] = set()
    left = [resource.urn]
    while left:
        one = known.get(left.pop())
        if one is None:
            continue
        for urn in (*one.dependencies, one.provider):
            inside = [urn, *(children.get(urn, []) if urn in known else [])]
            left += [each for each in inside if each not in found and each in known]
            found.update(inside)
        if one.parent in known and one.parent not in found:
            left.append(one.parent)
    return found


def _check_reclaim(resource: Resource, _: Node) -> Found:
    root = read(resource.props)
    if resource.type == _CLASS:
        policy, driver = root.child("reclaimPolicy"), root.child("provisioner")
    else:
        policy = root.child("spec", "persistentVolumeReclaimPolicy")
        driver = root.child("spec", "csi", "driver")
    if policy.text(default="Delete") == "Retain" and driver.text(default="") in _BILLED_DRIVERS:
        yield Problem(
            f"{policy.path} is Retain, so the volume is paid for after the stack is gone.",
            f"Set {policy.path} to Delete, or environment: prod where the data matters.",
        )


def _check_data(resource: Resource, _: Node) -> Found:
    root = read(resource.props)
    if resource.type == CLUSTER:
        if not root.child("deletionProtection").boolean(default=False):
            yield Problem(
                "deletionProtection is not true, so one command deletes the cluster.",
                "Set cloud.cluster.deletionProtection to true; take it back before a destroy.",
            )
    elif resource.type == KEY:
        window = root.child("deletionWindowInDays")
        if window.integer(default=30) < _LEAST_WINDOW_DAYS:
            yield Problem(
                f"{window.path} is {window.integer()}. Allowed: {_LEAST_WINDOW_DAYS} or more.", "Raise it."
            )
    else:
        key = "forceDestroy" if resource.type == BUCKET else "forceDelete"
        if root.child(key).boolean(default=False):
            yield Problem(f"{key} is true, so a destroy deletes what is in it.", f"Set {key} to false.")


def _check_steps(stack: Stack, config: Node) -> Answer:
    if stack.steps is None:
        return NotApplicable("Only a preview's events show deletions.")
    return _destroyed(stack.steps, config)


def _destroyed(steps: tuple[Step, ...], config: Node) -> Found:
    allowed = set(config.child("allowedUrns").texts())
    told: set[str] = set()
    for step in steps:
        if step.type in _DATA and step.operation in _DESTROYING and step.urn not in allowed | told:
            told.add(step.urn)
            kind, name = step.type.rpartition(":")[2], step.urn.rpartition("::")[2]
            yield Problem(
                f"{kind} {name} would be {'deleted' if step.operation == 'delete' else 'replaced'}, with "
                "the data in it.",
                "Undo the change, or move the data and name the URN in allowedUrns of no-destructive-data.",
                step.urn,
            )


_RAY_SERVICE: Final = Resource("kubernetes:ray.io/v1:RayService", "qwen3", {}, urn="model")
_OPERATOR: Final = Resource(_RELEASE, "kuberay", {"chart": "kuberay-operator"}, urn="operator")

TEARDOWN_SAFE_ORDER: Final = StackRule(
    name="teardown-safe-order",
    description="What only an operator can delete is deleted before the operator.",
    severity=Severity.HIGH,
    remediation="Let the component of the object depend on the operator's.",
    enforcement=MANDATORY,
    check=_check_order,
    example=Stack((_RAY_SERVICE, _OPERATOR)),
)

RECLAIM_DELETE_DEV: Final = Rule(
    name="reclaim-delete-dev",
    description="In development no volume is paid for after its stack is gone.",
    severity=Severity.MEDIUM,
    remediation="Set the reclaim policy to Delete.",
    enforcement=ONLY_IN_DEV,
    check=_check_reclaim,
    types=frozenset({_VOLUME, _CLASS}),
    example=Resource(_CLASS, "models", {"provisioner": "ebs.csi.aws.com", "reclaimPolicy": "Retain"}),
)

PROTECT_DATA_PROD: Final = Rule(
    name="protect-data-prod",
    description="In production no single command deletes data, keys or the cluster.",
    severity=Severity.HIGH,
    remediation="Set forceDestroy and forceDelete to false, and deletionProtection to true.",
    enforcement=ONLY_IN_PROD,
    controls=gdpr(32),
    check=_check_data,
    types=frozenset({BUCKET, KEY, REPOSITORY, CLUSTER}),
    example=Resource(BUCKET, "weights", {"forceDestroy": True}),
)

NO_DESTRUCTIVE_DATA: Final = StackRule(
    name="no-destructive-data",
    description="A change deletes or replaces nothing that holds data.",
    severity=Severity.CRITICAL,
    remediation="Undo the change, or move the data and name the URN in allowedUrns.",
    controls=gdpr(32),
    check=_check_steps,
    example=Stack(
        (), steps=(Step("delete", "urn:pulumi:prod::spillway::aws:s3/bucket:Bucket::weights", BUCKET),)
    ),
    config={
        "allowedUrns": ConfigKey(
            schema={
                "type": "array",
                "items": {"type": "string", "minLength": 1},
                "default": [],
                "description": "URNs that may be deleted or replaced now.",
            },
            example=["urn:pulumi:prod::spillway::aws:s3/bucket:Bucket::weights"],
        )
    },
)
