"""The pack's rules: which accelerators may be asked for, and how many at most in one pool.

Both judge the Kubernetes objects, whoever made them, and for an earlier and clearer message also what
`components` declares as the intent of a model service. Both fail closed.
"""

from collections.abc import Iterator
from typing import Final

from policies.gpu_cost.accelerators import FAMILIES, judged_name
from policies.gpu_cost.workloads import Pool, Workload, read_workload
from policies.reading import Node, Unreadable, read
from policies.rule import ConfigKey, Finding, NotApplicable, Resource, Rule, Severity, Verdict

MODEL_SERVICES: Final = frozenset({"spillway:kubernetes:ModelService", "spillway:kubernetes:PlainVLLM"})

# One standard server of any vendor holds eight: a whole-server model replica fits, and whatever needs a
# second server is a decision that somebody writes down.
DEFAULT_MAX_GPUS_PER_POOL: Final = 8

_NO_PODS: Final = NotApplicable("It creates no pods.")


def _check_allow_list(resource: Resource, config: Node) -> Verdict:
    declared = resource.type in MODEL_SERVICES
    workload = read_workload(resource)
    if workload is None and not declared:
        return _NO_PODS
    allowed = {entry.text().lower() for entry in config.child("allowedAccelerators").items()}
    if workload is None:
        return _findings_of_intent(resource, allowed)
    findings = _stray_findings(ACCELERATOR_ALLOW_LIST, workload, "which product it asks for")
    for pool in workload.pools:
        try:
            pool.refuse_claims()
            findings += _findings_of_products(pool, allowed)
        except Unreadable as problem:
            findings.append(ACCELERATOR_ALLOW_LIST.unreadable(problem))
    return findings


def _findings_of_products(pool: Pool, allowed: set[str]) -> Iterator[Finding]:
    requests = pool.requests()
    for family in FAMILIES:
        request = next((request for request in requests if request.family is family), None)
        # Without a request a label still puts the pod on, and scales up, a node with that product.
        products = pool.products(family) if request is not None or family.labels else set[str]()
        where = request.path if request is not None else pool.pod.path
        if request is not None and not products:
            yield ACCELERATOR_ALLOW_LIST.finding(
                f"{where} asks for an accelerator without naming the product, so it could run on any.",
                f"Select the product in {pool.pod.path}.nodeSelector by one of: {', '.join(family.labels)}.",
            )
        for product in sorted(products - allowed):
            yield _not_allowed(where, product, allowed)


def _findings_of_intent(resource: Resource, allowed: set[str]) -> list[Finding]:
    accelerator = read(resource.props).child("accelerator")
    # What is not declared here is judged on the Kubernetes objects.
    product = judged_name(accelerator.text(default="cpu").lower())
    if product == "cpu" or product in allowed:
        return []
    return [_not_allowed(accelerator.path, product, allowed)]


def _not_allowed(where: str, product: str, allowed: set[str]) -> Finding:
    # "cpu" may stand in the list for the reader's sake; it needs no permission.
    names = ", ".join(sorted(allowed - {"cpu"})) or "none, only CPU"
    return ACCELERATOR_ALLOW_LIST.finding(
        f"{where} asks for {product}, which is not allowed. Allowed accelerators: {names}.",
        f'Add "{product}" to allowedAccelerators of accelerator-allow-list in the file given to '
        "--policy-pack-config, or use an allowed accelerator.",
    )


def _check_max_gpus(resource: Resource, config: Node) -> Verdict:
    declared = resource.type in MODEL_SERVICES
    workload = read_workload(resource)
    if workload is None and not declared:
        return _NO_PODS
    limit = config.child("maxGpusPerPool").integer(default=DEFAULT_MAX_GPUS_PER_POOL)
    if workload is None:
        intent = read(resource.props)
        gpus = intent.child("acceleratorsPerCopy").integer(default=0)
        replicas = intent.child("maxReplicas").integer(default=0) if gpus else 0
        return _over_limit("the model service", replicas, gpus, limit)
    findings = _stray_findings(MAX_GPUS_PER_POOL, workload, "how many pods it stands for")
    for pool in workload.pools:
        try:
            pool.refuse_claims()
            gpus = pool.accelerators()
            # The size matters only where accelerators are asked for: a CPU pool may grow without bound.
            findings += _over_limit(pool.path, pool.size(), gpus, limit) if gpus else []
        except Unreadable as problem:
            findings.append(MAX_GPUS_PER_POOL.unreadable(problem))
    return findings


def _over_limit(where: str, pods: int, gpus: int, limit: int) -> list[Finding]:
    if pods * gpus <= limit:
        return []
    return [
        MAX_GPUS_PER_POOL.finding(
            f"{where} may grow to {pods} pods with {gpus} accelerators each, {pods * gpus} in all. "
            f"Allowed in one pool: {limit}.",
            "Lower the largest number of pods or the accelerators of each, or raise maxGpusPerPool of "
            "max-gpus-per-pool in the file given to --policy-pack-config.",
        )
    ]


def _stray_findings(rule: Rule, workload: Workload, untold: str) -> list[Finding]:
    return [
        rule.finding(
            f"{request.path} asks for an accelerator in a part of a {workload.kind} that this pack cannot "
            f"read, so it cannot tell {untold}.",
            "Declare the pods as a kind that the pack reads (its README lists them); a Helm chart as "
            "helm.v4.Chart, whose objects are visible, instead of a Release.",
        )
        for request in workload.stray
    ]


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

ACCELERATOR_ALLOW_LIST: Final = Rule(
    name="accelerator-allow-list",
    description="Pods ask only for accelerators that are on the allow-list.",
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

MAX_GPUS_PER_POOL: Final = Rule(
    name="max-gpus-per-pool",
    description="No pool of pods may grow to more accelerators than its limit.",
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

# In the order of the documentation.
RULES: Final = (ACCELERATOR_ALLOW_LIST, MAX_GPUS_PER_POOL)
