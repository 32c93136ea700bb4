"""Hard caps: which accelerators may be asked for, and how many at most in one pool.

Both judge the Kubernetes objects, whoever made them, and the machines that are started for them; for an
earlier and clearer message also what `components` declares as the intent of a model service.
"""

from typing import Final

from policies.accelerators import FAMILIES, judged_name
from policies.node_pools import NodePool, read_node_pools
from policies.reading import Node, Unreadable, read
from policies.rule import Answer, ConfigKey, Found, NotApplicable, Problem, Resource, Rule, Severity
from policies.workloads import Pool, Workload, read_workload

MODEL_SERVICES: Final = frozenset(
    {
        "spillway:kubernetes:ModelService",
        "spillway:kubernetes:PlainVLLM",
        # What Application Auto Scaling may add to an endpoint stands nowhere else.
        "spillway:aws:EndpointScaling",
    }
)

# One standard server of any vendor holds eight: a whole-server model replica fits, and whatever needs a
# second server is a decision that somebody writes down.
DEFAULT_MAX_GPUS_PER_POOL: Final = 8

_NOTHING: Final = NotApplicable("It creates no pods and starts no machines.")


def _check_allow_list(resource: Resource, config: Node) -> Answer:
    declared = resource.type in MODEL_SERVICES
    workload = read_workload(resource)
    machines = read_node_pools(resource)
    if workload is None and machines is None and not declared:
        return _NOTHING
    return _not_on_list(resource, workload, machines, config)


def _not_on_list(
    resource: Resource, workload: Workload | None, machines: list[NodePool] | None, config: Node
) -> Found:
    allowed = {entry.lower() for entry in config.child("allowedAccelerators").texts()}
    if machines is not None:
        for pool in machines:
            yield from _machines_not_allowed(pool, allowed)
    elif workload is None:
        yield from _intent_not_allowed(resource, allowed)
    else:
        yield from _strays(workload, "which product it asks for")
        for pool in workload.pools:
            try:
                pool.refuse_claims()
                yield from _products_not_allowed(pool, allowed)
            except Unreadable as problem:
                yield problem


def _machines_not_allowed(pool: NodePool, allowed: set[str]) -> Found:
    for node, instance in zip(pool.types, pool.instances(), strict=True):
        product = judged_name(instance.accelerator)
        if instance.gpus and product not in allowed:
            yield _not_allowed(node.path, product, allowed)


def _products_not_allowed(pool: Pool, allowed: set[str]) -> Found:
    requests = pool.requests()
    for family in FAMILIES:
        request = next((request for request in requests if request.family is family), None)
        # Without a request a label still puts the pod on, and scales up, a node with that product.
        products = pool.products(family) if request is not None or family.labels else set[str]()
        where = request.path if request is not None else pool.pod.path
        if request is not None and not products:
            yield Problem(
                f"{where} asks for an accelerator without naming the product, so it could run on any.",
                f"Select the product in {pool.pod.path}.nodeSelector by one of: {', '.join(family.labels)}.",
            )
        for product in sorted(products - allowed):
            yield _not_allowed(where, product, allowed)


def _intent_not_allowed(resource: Resource, allowed: set[str]) -> Found:
    accelerator = read(resource.props).child("accelerator")
    # What is not declared here is judged on the Kubernetes objects.
    product = judged_name(accelerator.text(default="cpu").lower())
    if product not in {"cpu", *allowed}:
        yield _not_allowed(accelerator.path, product, allowed)


def _not_allowed(where: str, product: str, allowed: set[str]) -> Problem:
    # "cpu" may stand in the list for the reader's sake; it needs no permission.
    names = ", ".join(sorted(allowed - {"cpu"})) or "none, only CPU"
    return Problem(
        f"{where} asks for {product}, which is not allowed. Allowed accelerators: {names}.",
        f'Add "{product}" to allowedAccelerators of gpu-instance-allowlist in the file given to '
        "--policy-pack-config, or use an allowed accelerator.",
    )


def _check_max_gpus(resource: Resource, config: Node) -> Answer:
    declared = resource.type in MODEL_SERVICES
    workload = read_workload(resource)
    machines = read_node_pools(resource)
    if workload is None and machines is None and not declared:
        return _NOTHING
    return _too_many(resource, workload, machines, config)


def _too_many(
    resource: Resource, workload: Workload | None, machines: list[NodePool] | None, config: Node
) -> Found:
    limit = config.child("maxGpusPerPool").integer(default=DEFAULT_MAX_GPUS_PER_POOL)
    if machines is not None:
        for machine_pool in machines:
            most = machine_pool.accelerators_at_most()
            if most > limit:
                yield _over(f"{machine_pool.path} may grow to {most} accelerators.", limit)
    elif workload is None:
        intent = read(resource.props)
        gpus = intent.child("acceleratorsPerCopy").integer(default=0)
        replicas = intent.child("maxReplicas").integer(default=0) if gpus else 0
        yield from _over_limit("the model service", replicas, gpus, limit)
    else:
        yield from _strays(workload, "how many pods it stands for")
        for pool in workload.pools:
            try:
                pool.refuse_claims()
                gpus = pool.accelerators()
                # The size matters only where accelerators are asked for: a CPU pool may grow without bound.
                yield from _over_limit(pool.path, pool.size(), gpus, limit) if gpus else ()
            except Unreadable as problem:
                yield problem


def _over_limit(where: str, pods: int, gpus: int, limit: int) -> Found:
    if pods * gpus > limit:
        yield _over(
            f"{where} may grow to {pods} pods with {gpus} accelerators each, {pods * gpus} in all.", limit
        )


def _over(what: str, limit: int) -> Problem:
    return Problem(
        f"{what} Allowed in one pool: {limit}.",
        "Lower the largest number of pods or nodes or the accelerators of each, or raise maxGpusPerPool of "
        "gpu-max-per-pool in the file given to --policy-pack-config.",
    )


def _strays(workload: Workload, untold: str) -> Found:
    for request in workload.stray:
        yield Problem(
            f"{request.path} asks for an accelerator in a part of a {workload.kind} that this pack cannot "
            f"read, so it cannot tell {untold}.",
            "Declare the pods as a kind that the pack reads (its README lists them); a Helm chart as "
            "helm.v4.Chart, whose objects are visible, instead of a Release.",
        )


# For the documentation: four pods of a whole eight-GPU server each.
_EXAMPLE: Final = Resource(
    "kubernetes:apps/v1:Deployment",
    "vllm",
    {
        "spec": {
            "replicas": 4,
            "template": {
                "spec": {
                    "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
                    "containers": [{"name": "vllm", "resources": {"limits": {"nvidia.com/gpu": "8"}}}],
                }
            },
        }
    },
)

GPU_INSTANCE_ALLOWLIST: Final = Rule(
    name="gpu-instance-allowlist",
    description="Pods and machines have only accelerators that are on the allow-list.",
    severity=Severity.HIGH,
    remediation=(
        "Add the accelerator to allowedAccelerators in the file given to --policy-pack-config,"
        " or use an allowed one.\n"
        "Name the product of every accelerator that a pod asks for with a node selector.\n"
        "Make values plain that the message calls not known."
    ),
    check=_check_allow_list,
    example=_EXAMPLE,
    config={
        "allowedAccelerators": ConfigKey(
            schema={
                "type": "array",
                "items": {"type": "string", "minLength": 1},
                "default": [],
                "description": "Accelerators that pods may ask for, as vendor-product. Empty: only CPU.",
            },
            example=["nvidia-l4", "nvidia-h100"],
        )
    },
)

GPU_MAX_PER_POOL: Final = Rule(
    name="gpu-max-per-pool",
    description="No pool of pods or machines may grow to more accelerators than its limit.",
    severity=Severity.CRITICAL,
    remediation=(
        "Lower maxReplicas, numOfHosts, replicas or the accelerators per pod, or raise maxGpusPerPool"
        " in the file given to --policy-pack-config.\n"
        "Give every Ray worker group with accelerators a maxReplicas: without it nothing bounds the group.\n"
        "Make values plain that the message calls not known."
    ),
    check=_check_max_gpus,
    example=_EXAMPLE,
    config={
        "maxGpusPerPool": ConfigKey(
            schema={
                "type": "integer",
                "minimum": 0,
                "default": DEFAULT_MAX_GPUS_PER_POOL,
                "description": "Most accelerators in one pool: pods at most times accelerators of each.",
            },
            example=16,
        )
    },
)
