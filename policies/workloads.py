"""Finds the pods that a Kubernetes object creates, how many at most, and which accelerators each asks for."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Final, TypeAlias

from policies.accelerators import Family, family_of, named_products
from policies.reading import Node, Presence, Unreadable, read
from policies.rule import Resource


@dataclass(frozen=True, slots=True)
class Factor:
    """One factor of a pool's size.

    Attributes:
        node: The property.
        default: What Kubernetes takes if it is missing. None: no bound, so it must be given.
        minimum: The smallest value that makes sense.
    """

    node: Node
    default: int | None
    minimum: int = 0

    def value(self) -> int:
        """Reads it; raises Unreadable if it is unknown, or missing without default."""
        return self.node.integer(self.default, self.minimum)


@dataclass(frozen=True, slots=True)
class Request:
    """A container's request for accelerators.

    Attributes:
        family: What it asks for.
        path: Where it asks.
    """

    family: Family
    path: str


@dataclass(frozen=True, slots=True)
class Pool:
    """Pods of one template.

    Attributes:
        path: The property that declares the pool, for messages.
        pod: The pods' spec.
        factors: Their product is the largest number of pods; no factors mean one pod.
        unbounded: Why the number of pods has no bound, and what to do about it, if it has none.
        sidecar: Resources of a container that the operator adds to each pod.
    """

    path: str
    pod: Node
    factors: tuple[Factor, ...] = ()
    unbounded: tuple[str, str] | None = None
    sidecar: Node | None = None

    def size(self) -> int:
        """Returns the largest number of pods; raises Unreadable if it has no bound that can be read."""
        if self.unbounded is not None:
            raise Unreadable(self.path, *self.unbounded)
        return math.prod(factor.value() for factor in self.factors)

    def products(self, family: Family) -> set[str]:
        """Returns the products of a family that the pods may be placed on; see `named_products`."""
        return named_products(self.pod, family)

    def requests(self) -> list[Request]:
        """Returns every request for an accelerator of which the amount is not known to be zero.

        Raises:
            Unreadable: Whether there is one is unknown.
        """
        return [
            Request(family, node.path)
            for resources in self._containers()
            for quantities in (resources.child("limits"), resources.child("requests"))
            for key, node in quantities.entries().items()
            if (family := family_of(key)) is not None and _may_ask(node)
        ]

    def refuse_claims(self) -> None:
        """Raises Unreadable if the pods take devices by Dynamic Resource Allocation.

        A claim's devices are chosen by a DeviceClass and selectors that live in other objects, so neither
        the product nor the number can be told from the pod.
        """
        claims = self.pod.child("resourceClaims")
        if claims.items():
            raise Unreadable(
                claims.path,
                "takes devices by claim (DRA), which this pack cannot read",
                "Ask for the accelerator in the container's limits and select its product by node label.",
            )

    def accelerators(self) -> int:
        """Returns how many accelerators one pod asks for; a slice or a share of one counts as one.

        Raises:
            Unreadable: A number is unknown or is no quantity.
        """
        if self.pod.presence is Presence.MISSING:
            # A server-side-apply patch may set the size of pods whose template is not in it.
            given = [factor.node for factor in self.factors if factor.node.presence is not Presence.MISSING]
            if given:
                raise Unreadable(
                    given[0].path, "is given without the pod template, which may ask for accelerators"
                )
        running = Decimal(0)
        starting = Decimal(0)
        for container in self._pod_list("initContainers"):
            asked = _accelerators_in(container.child("resources"))
            # An init container that always restarts is a sidecar: it runs beside the others.
            if container.child("restartPolicy").text(default="") == "Always":
                running += asked
            else:
                starting = max(starting, asked)
        sidecars = running
        running += sum(
            _accelerators_in(container.child("resources")) for container in self._pod_list("containers")
        )
        if self.sidecar is not None:
            running += _accelerators_in(self.sidecar)
        return math.ceil(max(running, sidecars + starting))

    def counted_paths(self) -> tuple[str, ...]:
        """Returns the beginnings of the paths at which this pool looks for requests."""
        places = [self.pod.child(key) for key in ("initContainers", "containers", "resourceClaims")]
        return tuple(place.path for place in (places if self.sidecar is None else [*places, self.sidecar]))

    def _containers(self) -> list[Node]:
        containers = [*self._pod_list("initContainers"), *self._pod_list("containers")]
        resources = [container.child("resources") for container in containers]
        return resources if self.sidecar is None else [*resources, self.sidecar]

    def _pod_list(self, key: str) -> list[Node]:
        return self.pod.child(key).items()


@dataclass(frozen=True, slots=True)
class Workload:
    """What the rules need to know of one Kubernetes object.

    Attributes:
        kind: The object's kind.
        pools: The pods that it creates.
        stray: Requests for accelerators in places from which no pool was read, so that nobody could tell
            how many pods they stand for.
    """

    kind: str
    pools: list[Pool]
    stray: list[Node]


_PoolReader: TypeAlias = Callable[[Node], list[Pool]]
_TOKEN: Final = re.compile(r"kubernetes:(?P<group>[^/:]+)/[^:]+:(?P<kind>[A-Za-z0-9]+)")

# Components whose inputs hold whole objects, each of which is also registered as a resource of its own, and
# definitions, which hold schemas. Judging them as well would only repeat or mislead.
_CONTAINERS_OF_OBJECTS: Final = frozenset(
    {
        ("helm.sh", "Chart"),
        ("yaml", "ConfigFile"),
        ("yaml", "ConfigGroup"),
        ("kustomize", "Directory"),
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
    }
)


# The resource that was read last, and its workload: many rules in turn ask about the same one.
_last: tuple[Resource, Workload | None] | None = None


def read_workload(resource: Resource) -> Workload | None:
    """Reads the pools of a Kubernetes object.

    Args:
        resource: Any resource.

    Returns:
        The workload; None if the resource is not a Kubernetes object or creates no pods.

    Raises:
        Unreadable: A property without which the pools cannot be listed is unknown.
    """
    global _last
    if not resource.type.startswith("kubernetes:"):
        return None
    if _last is None or _last[0] is not resource:
        _last = (resource, _read_workload(resource))
    return _last[1]


def _read_workload(resource: Resource) -> Workload | None:
    token = _TOKEN.fullmatch(resource.type)
    if token is None or (token["group"], token["kind"]) in _CONTAINERS_OF_OBJECTS:
        return None
    group, kind = token["group"], token["kind"]
    root = read(resource.props)
    pools = _read_pools(root, group, kind)
    counted = tuple(path for pool in pools for path in pool.counted_paths())
    stray = [node for node in _requests_anywhere(root) if not node.path.startswith(counted)]
    return Workload(kind, pools, stray) if pools or stray else None


def _read_pools(root: Node, group: str, kind: str) -> list[Pool]:
    if (group, kind) in _READERS:
        return _READERS[group, kind](root)
    patched = kind.removesuffix("Patch")
    if (group, patched) in _READERS:
        return [_without_defaults(pool) for pool in _READERS[group, patched](root)]
    listed = kind.removesuffix("List")
    if (group, listed) in _READERS:
        return [pool for item in root.child("items").items() for pool in _READERS[group, listed](item)]
    return []


def _without_defaults(pool: Pool) -> Pool:
    # What a server-side-apply patch leaves out keeps a value that cannot be seen here.
    return replace(pool, factors=tuple(replace(factor, default=None) for factor in pool.factors))


def _replicated(root: Node) -> list[Pool]:
    spec = root.child("spec")
    replicas = Factor(spec.child("replicas"), 1)
    return [Pool(spec.path, spec.child("template", "spec"), (replicas,))]


def _pod(root: Node) -> list[Pool]:
    return [Pool(root.child("spec").path, root.child("spec"))]


def _daemon_set(root: Node) -> list[Pool]:
    spec = root.child("spec")
    unbounded = (
        "has one pod on every node that matches, without bound",
        "Ask for accelerators from a kind with a number of replicas.",
    )
    return [Pool(spec.path, spec.child("template", "spec"), unbounded=unbounded)]


def _job(root: Node) -> list[Pool]:
    spec = root.child("spec")
    parallelism = Factor(spec.child("parallelism"), 1)
    return [Pool(spec.path, spec.child("template", "spec"), (parallelism,))]


def _cron_job(root: Node) -> list[Pool]:
    spec = root.child("spec")
    job = spec.child("jobTemplate", "spec")
    parallelism = Factor(job.child("parallelism"), 1)
    overlap = spec.child("concurrencyPolicy")
    unbounded = (
        "may have runs that overlap, without bound",
        f"Set {spec.path}.concurrencyPolicy to Forbid or Replace.",
    )
    bounded = overlap.value in ("Forbid", "Replace")
    return [Pool(spec.path, job.child("template", "spec"), (parallelism,), None if bounded else unbounded)]


def _ray_cluster(root: Node) -> list[Pool]:
    return _ray_pools(root.child("spec"))


def _ray_service(root: Node) -> list[Pool]:
    return _ray_pools(root.child("spec", "rayClusterConfig"))


def _ray_job(root: Node) -> list[Pool]:
    spec = root.child("spec")
    submitter = spec.child("submitterPodTemplate")
    return [
        *_ray_pools(spec.child("rayClusterSpec")),
        # The submitter is a pod of its own; without a template KubeRay's default asks for CPU only.
        Pool(submitter.path, submitter.child("spec")),
    ]


def _ray_pools(cluster: Node) -> list[Pool]:
    head = cluster.child("headGroupSpec")
    # KubeRay adds the autoscaler's container to the head pod.
    autoscaler = cluster.child("autoscalerOptions", "resources")
    pools = [Pool(head.path, head.child("template", "spec"), sidecar=autoscaler)]
    for group in cluster.child("workerGroupSpecs").items():
        factors = (
            # KubeRay's default for a missing maxReplicas is 2147483647.
            Factor(group.child("maxReplicas"), None),
            Factor(group.child("numOfHosts"), 1, minimum=1),
        )
        pools.append(Pool(group.path, group.child("template", "spec"), factors))
    return pools


# By API group and kind, whatever the version.
_READERS: Final[dict[tuple[str, str], _PoolReader]] = {
    ("core", "Pod"): _pod,
    ("core", "ReplicationController"): _replicated,
    ("apps", "Deployment"): _replicated,
    ("apps", "ReplicaSet"): _replicated,
    ("apps", "StatefulSet"): _replicated,
    ("apps", "DaemonSet"): _daemon_set,
    ("extensions", "Deployment"): _replicated,
    ("extensions", "ReplicaSet"): _replicated,
    ("extensions", "DaemonSet"): _daemon_set,
    ("batch", "Job"): _job,
    ("batch", "CronJob"): _cron_job,
    ("ray.io", "RayCluster"): _ray_cluster,
    ("ray.io", "RayService"): _ray_service,
    ("ray.io", "RayJob"): _ray_job,
}


def _requests_anywhere(root: Node) -> list[Node]:
    found: list[Node] = []
    for key, node in root.descend():
        if key == "resources":
            for quantities in (_object_at(node, "limits"), _object_at(node, "requests")):
                found += [entry for name, entry in quantities.items() if family_of(name) and _may_ask(entry)]
        elif key == "resourceClaims" and node.value:
            found.append(node)
    return found


def _object_at(node: Node, key: str) -> dict[str, Node]:
    # `resources` means something else in many objects; only the shape of a container's counts.
    try:
        return node.child(key).entries()
    except Unreadable:
        return {}


def _may_ask(node: Node) -> bool:
    try:
        return quantity(node) > 0
    except Unreadable:
        return True


def _accelerators_in(resources: Node) -> Decimal:
    limits = resources.child("limits").entries()
    requests = resources.child("requests").entries()
    total = Decimal(0)
    for name in {*limits, *requests}:
        if family_of(name) is not None:
            # Kubernetes wants both equal; the larger one counts if they are not.
            total += max(quantity(side[name]) for side in (limits, requests) if name in side)
    return total


_QUANTITY: Final = re.compile(r"(?P<number>[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)(?P<suffix>[mkMGTPE]|[KMGTPE]i|)")
_SUFFIXES: Final = {
    "m": Decimal("0.001"),
    "": Decimal(1),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}


def quantity(node: Node) -> Decimal:
    """Reads a Kubernetes quantity, which may be a number or a string such as `1` or `2k`."""
    if node.presence is Presence.MISSING:
        return Decimal(0)
    text = (
        node.text()
        if isinstance(node.value, str) or node.presence is Presence.UNKNOWN
        else str(node.integer())
    )
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise Unreadable(node.path, "is not a Kubernetes quantity")
    try:
        amount = Decimal(match["number"]) * _SUFFIXES[match["suffix"]]
    except InvalidOperation:
        raise Unreadable(node.path, "is not a Kubernetes quantity") from None
    if amount < 0:
        raise Unreadable(node.path, "is below 0")
    return amount
