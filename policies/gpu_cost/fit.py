"""Whether what is asked for fits: pods in their node group, machines and namespaces in their quotas."""

from typing import Final

from policies.accelerators import family_of
from policies.enforcement import ADVISORY
from policies.gpu_cost.money import priced_stack
from policies.node_pools import NODE_GROUP, NodePool, read_node_pools
from policies.reading import Node, Unreadable, read
from policies.rule import (
    Answer,
    ConfigKey,
    Found,
    NotApplicable,
    Problem,
    Resource,
    Severity,
    Stack,
    StackRule,
)
from policies.workloads import Pool, quantity, read_workload
from runtime.instances import Capacity

_GROUP_LABEL: Final = "spillway.dev/node-group"
_QUOTA: Final = "kubernetes:core/v1:ResourceQuota"
_NAMESPACE: Final = "kubernetes:core/v1:Namespace"
_NOT_DECLARED: Final = "What the account has is not declared."
_NO_MACHINES: Final = NotApplicable("It starts no machines.")


def _check_capacity(stack: Stack, _: Node) -> Answer:
    groups = {
        label: resource
        for resource in stack.of(NODE_GROUP)
        if isinstance(label := read(resource.props).child("labels", _GROUP_LABEL).value, str)
    }
    return _too_large(stack, groups) if groups else NotApplicable("It has no node groups of its own.")


def _too_large(stack: Stack, groups: dict[str, Resource]) -> Found:
    asked: dict[str, int] = dict.fromkeys(groups, 0)
    for resource in stack.resources:
        for pool in _pools_of(resource):
            label = pool.pod.child("nodeSelector", _GROUP_LABEL)
            if label.is_missing:
                continue
            try:
                devices = pool.accelerators()
                if devices and label.text() in asked:
                    asked[label.text()] += pool.size() * devices
            except Unreadable as problem:
                yield problem
    for name, resource in groups.items():
        there = sum(pool.accelerators_at_most() for pool in read_node_pools(resource) or [])
        if asked[name] > there:
            yield Problem(
                f"Pods on node group {name} may ask for {asked[name]} accelerators, and it grows to {there}.",
                "Raise max of the node group, or lower maxReplicas of the models on it.",
                resource.urn,
            )


def _pools_of(resource: Resource) -> list[Pool]:
    workload = read_workload(resource)
    return [] if workload is None else workload.pools


def _check_quota(stack: Stack, config: Node) -> Answer:
    pools = [pool for resource in stack.resources for pool in read_node_pools(resource) or []]
    return _beyond_quotas(stack, pools, config) if pools else _NO_MACHINES


def _beyond_quotas(stack: Stack, pools: list[NodePool], config: Node) -> Found:
    of_endpoints = config.child("endpointQuotas").entries()
    of_ec2 = [pool for pool in pools if not any(one.text().startswith("ml.") for one in pool.types)]
    yield from _beyond_quota(of_ec2, config.child("vcpuQuotas").entries())
    if len(of_ec2) < len(pools):
        yield from _beyond_endpoint_quota(stack, of_endpoints)


def _beyond_endpoint_quota(stack: Stack, quotas: dict[str, Node]) -> Found:
    """SageMaker counts machines of each type, those of an update's second fleet among them."""
    wanted: dict[str, int] = {}
    for charge in priced_stack(stack).estimate.charges:
        if charge.place == "SageMaker" and charge.accelerator and charge.count.ceiling is not None:
            wanted[charge.item] = wanted.get(charge.item, 0) + int(charge.count.ceiling)
    for kind, machines in wanted.items():
        allowed = quotas[kind].integer() if kind in quotas else 0
        if machines > allowed:
            said = f"The account's limit: {allowed}." if kind in quotas else _NOT_DECLARED
            yield Problem(
                f"Endpoints of the stack may grow to {machines} machines {kind}, with the second fleet of an "
                f"update. {said}",
                f"Look at Service Quotas for {kind} for endpoint usage, ask for more if need be, and write "
                "what there is to endpointQuotas of gpu-quota-fit.",
            )


def _beyond_quota(pools: list[NodePool], quotas: dict[str, Node]) -> Found:
    wanted: dict[str, int] = {}
    for pool in pools:
        bought: Capacity = (
            "spot" if pool.spot is not None and "spot" in pool.spot.text("").lower() else "onDemand"
        )
        most: dict[str, int] = {}
        for instance in pool.instances():
            quota = instance.quota(bought)
            if instance.gpus and quota is not None:
                most[quota[0]] = max(most.get(quota[0], 0), instance.vcpus)
        for code, vcpus in most.items():
            wanted[code] = wanted.get(code, 0) + pool.nodes_at_most() * vcpus
    for code, vcpus in wanted.items():
        allowed = quotas[code].integer() if code in quotas else 0
        if vcpus > allowed:
            said = f"The account's limit: {allowed}." if code in quotas else _NOT_DECLARED
            yield Problem(
                f"Machines of the stack may grow to {vcpus} vCPUs of quota {code}. {said}",
                "Look at Service Quotas, ask for more if need be, and write what there is to vcpuQuotas of "
                "gpu-quota-fit.",
            )


def _check_namespaces(stack: Stack, _: Node) -> Answer:
    names = {_name(resource): resource for resource in stack.of(_NAMESPACE)}
    return _without_quota(stack) if names else NotApplicable("It declares no namespace.")


def _without_quota(stack: Stack) -> Found:
    quotas: set[tuple[str, str, str]] = set()
    for resource in stack.of(_QUOTA):
        root = read(resource.props)
        for key in root.child("spec", "hard").entries():
            quotas.add((resource.provider, _namespace(root), key.removeprefix("requests.")))
    declared = {(resource.provider, _name(resource)) for resource in stack.of(_NAMESPACE)}
    told: set[tuple[str, str, str]] = set()
    for resource in stack.resources:
        root = read(resource.props) if resource.type.startswith("kubernetes:") else None
        if root is None:
            continue
        where = (resource.provider, _namespace(root))
        if where not in declared:
            continue
        for device in _devices(resource):
            missing = (*where, device)
            if missing not in quotas and missing not in told:
                told.add(missing)
                yield Problem(
                    f"Namespace {where[1]} has pods that ask for {device}, and no ResourceQuota bounds it.",
                    f"Declare a ResourceQuota in {where[1]} with requests.{device}.",
                    resource.urn,
                )


def _devices(resource: Resource) -> set[str]:
    return {
        name
        for pool in _pools_of(resource)
        for container in pool.pod.child("containers").items()
        for name, amount in container.child("resources", "limits").entries().items()
        if family_of(name) is not None and quantity(amount)
    }


def _name(resource: Resource) -> str:
    return read(resource.props).child("metadata", "name").text()


def _namespace(root: Node) -> str:
    namespace = root.child("metadata", "namespace")
    return namespace.text(default="default") if not root.child("metadata").is_missing else "default"


def _group(most: int) -> Resource:
    return Resource(
        NODE_GROUP,
        "l40s",
        {
            "instanceTypes": ["g6e.4xlarge"],
            "labels": {_GROUP_LABEL: "l40s"},
            "scalingConfig": {"minSize": 0, "maxSize": most, "desiredSize": 0},
        },
    )


def _deployment(replicas: int) -> Resource:
    return Resource(
        "kubernetes:apps/v1:Deployment",
        "vllm",
        {
            "metadata": {"name": "vllm", "namespace": "llm"},
            "spec": {
                "replicas": replicas,
                "template": {
                    "spec": {
                        "nodeSelector": {_GROUP_LABEL: "l40s"},
                        "containers": [{"name": "vllm", "resources": {"limits": {"nvidia.com/gpu": "1"}}}],
                    }
                },
            },
        },
    )


GPU_CAPACITY_FIT: Final = StackRule(
    name="gpu-capacity-fit",
    description="A node group can grow to as many accelerators as the pods on it may ask for.",
    severity=Severity.HIGH,
    remediation="Raise max of the node group, or lower maxReplicas of the models on it.",
    check=_check_capacity,
    example=Stack((_group(2), _deployment(4))),
)

GPU_QUOTA_FIT: Final = StackRule(
    name="gpu-quota-fit",
    description="The account's quota has room for all machines with accelerators of the stack.",
    severity=Severity.MEDIUM,
    remediation=(
        "Ask AWS for a higher quota and write it to vcpuQuotas, or lower the pools' max.\n"
        "Codes: L-DB2E81BA for G and VT on demand, L-417A185B for P on demand; runtime/instances.py has all."
    ),
    enforcement=ADVISORY,
    check=_check_quota,
    example=Stack((_group(4),)),
    config={
        "vcpuQuotas": ConfigKey(
            schema={
                "type": "object",
                "additionalProperties": {"type": "integer", "minimum": 0},
                "default": {},
                "description": "The account's limits in vCPUs, by quota code.",
            },
            example={"L-DB2E81BA": 96},
        ),
        "endpointQuotas": ConfigKey(
            schema={
                "type": "object",
                "additionalProperties": {"type": "integer", "minimum": 0},
                "default": {},
                "description": "The account's limits in machines for endpoint usage, by instance type.",
            },
            example={"ml.g6e.2xlarge": 8},
        ),
    },
)

NAMESPACE_GPU_QUOTA: Final = StackRule(
    name="namespace-gpu-quota",
    description="Each namespace with pods that ask for accelerators bounds them by a ResourceQuota.",
    severity=Severity.HIGH,
    remediation="Declare a ResourceQuota with requests.DEVICE in the namespace.",
    check=_check_namespaces,
    example=Stack((Resource(_NAMESPACE, "llm", {"metadata": {"name": "llm"}}), _deployment(1))),
)
