"""How pools with accelerators grow and shrink: bounded, down to nothing, and for nobody else's pods."""

import re
from typing import Final

from policies.enforcement import ADVISORY, ONLY_IN_DEV
from policies.node_pools import KARPENTER_POOL, NODE_GROUP, NODE_POOL_TYPES, read_node_pools
from policies.reading import Node, Unreadable, read
from policies.rule import Answer, ConfigKey, Found, NotApplicable, Problem, Resource, Rule, Severity
from policies.workloads import read_workload

_TARGET: Final = "aws:appautoscaling/target:Target"
_RELEASE: Final = "kubernetes:helm.sh/v3:Release"
_DURATION: Final = re.compile(r"(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m)?(?:(?P<s>\d+)s)?")

_NO_POOL: Final = NotApplicable("It is no pool with accelerators.")
_ONE_NODE: Final[dict[str, object]] = {
    "capacityType": "ON_DEMAND",
    "instanceTypes": ["g6e.4xlarge"],
    "scalingConfig": {"minSize": 1, "maxSize": 2, "desiredSize": 1},
}
_PLAIN_VALUES: Final = "Make values plain that the message calls not known."


def _check_bounded(resource: Resource, _: Node) -> Answer:
    if resource.type == _TARGET:
        return _bounded_target(read(resource.props))
    pools = read_node_pools(resource)
    if pools is not None:
        return _bounded_machines(resource)
    workload = read_workload(resource)
    return _NO_POOL if workload is None else _bounded_pods(resource)


def _bounded_target(root: Node) -> Found:
    # Reading it is the check: a missing or unknown capacity is reported with its path.
    root.child("maxCapacity").integer()
    return []


def _bounded_machines(resource: Resource) -> Found:
    for pool in read_node_pools(resource) or []:
        if not pool.has_accelerators():
            continue
        if not pool.bounded:
            yield Problem(
                f"{pool.path} has accelerators and no limit, so only the account's quota bounds it.",
                'Set limits["nvidia.com/gpu"] of a Karpenter pool, managedInstanceScaling.maxInstanceCount '
                "of an endpoint's variant.",
            )
        else:
            pool.nodes_at_most()


def _bounded_pods(resource: Resource) -> Found:
    workload = read_workload(resource)
    for pool in workload.pools if workload is not None else []:
        try:
            if pool.accelerators():
                pool.size()
        except Unreadable as problem:
            yield problem


def _check_to_zero(resource: Resource, config: Node) -> Answer:
    if resource.type == _RELEASE:
        return _idle_time(resource, config)
    return _down_to_zero(resource, config)


def _down_to_zero(resource: Resource, config: Node) -> Found:
    limit = _most_minutes(config)
    for pool in read_node_pools(resource) or []:
        if pool.has_accelerators() and pool.least.value() > 0:
            yield Problem(
                f"{pool.path} keeps {pool.least.value()} machines with accelerators while nobody asks. "
                "Allowed at rest in development: 0.",
                f"Set {pool.least.node.path} to 0.",
            )
    if resource.type == KARPENTER_POOL:
        idle = read(resource.props).child("spec", "disruption", "consolidateAfter")
        yield from _too_long(idle, limit)


def _idle_time(resource: Resource, config: Node) -> Answer:
    root = read(resource.props)
    if root.child("chart").text(default="") != "cluster-autoscaler":
        return _NO_POOL
    return _too_long(root.child("values", "extraArgs", "scale-down-unneeded-time"), _most_minutes(config))


def _most_minutes(config: Node) -> int:
    return config.child("maxIdleMinutes").integer(default=_IDLE_MINUTES)


def _too_long(idle: Node, limit: int) -> Found:
    # Ten minutes are the autoscaler's default, nothing at all Karpenter's.
    match = _DURATION.fullmatch(idle.text(default="10m"))
    if match is None or not match[0]:
        raise Unreadable(idle.path, "is no duration such as 10m", f"Write {idle.path} as 10m.")
    minutes = int(match["h"] or 0) * 60 + int(match["m"] or 0) + int(match["s"] or 0) / 60
    if minutes > limit:
        yield Problem(
            f"{idle.path} keeps machines for {minutes:g} minutes after their last pod. Allowed: {limit}.",
            f"Lower {idle.path}, or raise maxIdleMinutes of gpu-scale-to-zero-dev in the file given to "
            "--policy-pack-config.",
        )


def _check_spot(resource: Resource, _: Node) -> Answer:
    pools = read_node_pools(resource)
    if pools is None or resource.type not in {NODE_GROUP, KARPENTER_POOL}:
        return _NO_POOL
    return _on_demand(resource)


def _on_demand(resource: Resource) -> Found:
    for pool in read_node_pools(resource) or []:
        if not pool.has_accelerators() or pool.spot is None:
            continue
        bought = pool.spot.text(default="ON_DEMAND")
        if bought.upper() != "SPOT":
            yield Problem(
                f"{pool.spot.path} is {bought}. Allowed for accelerators in development: SPOT.",
                "Set capacity: spot of the node group, or turn the rule off for the stack where "
                "an interruption costs more than it saves.",
            )


def _check_tainted(resource: Resource, _: Node) -> Answer:
    pools = read_node_pools(resource)
    if pools is None or resource.type not in {NODE_GROUP, KARPENTER_POOL}:
        return _NO_POOL
    return _untainted(resource)


def _untainted(resource: Resource) -> Found:
    for pool in read_node_pools(resource) or []:
        if not pool.has_accelerators() or pool.taints is None:
            continue
        effects = {taint.child("effect").text().replace("_", "").upper() for taint in pool.taints.items()}
        if not effects & {"NOSCHEDULE", "NOEXECUTE"}:
            yield Problem(
                f"{pool.taints.path} keeps no pod off, so pods without accelerators may hold these machines.",
                f"Add the taint nvidia.com/gpu with effect NoSchedule to {pool.taints.path}.",
            )


_IDLE_MINUTES: Final = 30

GPU_AUTOSCALER_BOUNDED: Final = Rule(
    name="gpu-autoscaler-bounded",
    description="Whatever starts pods or machines with accelerators by itself has an upper bound.",
    severity=Severity.CRITICAL,
    remediation=(
        "Give every Ray worker group with accelerators a maxReplicas, every Karpenter pool limits, and every "
        f"scalable endpoint a maximum.\n{_PLAIN_VALUES}"
    ),
    check=_check_bounded,
    example=Resource(
        KARPENTER_POOL,
        "gpus",
        {
            "spec": {
                "template": {
                    "spec": {
                        "requirements": [
                            {
                                "key": "node.kubernetes.io/instance-type",
                                "operator": "In",
                                "values": ["g6e.4xlarge"],
                            }
                        ]
                    }
                }
            }
        },
    ),
)

GPU_SCALE_TO_ZERO_DEV: Final = Rule(
    name="gpu-scale-to-zero-dev",
    description="In development no machine with accelerators is paid for while nobody asks.",
    severity=Severity.HIGH,
    remediation=f"Set the least number of machines to 0, and let idle ones go soon.\n{_PLAIN_VALUES}",
    enforcement=ONLY_IN_DEV,
    check=_check_to_zero,
    types=NODE_POOL_TYPES | {_RELEASE},
    example=Resource(NODE_GROUP, "gpus", _ONE_NODE),
    config={
        "maxIdleMinutes": ConfigKey(
            schema={
                "type": "integer",
                "minimum": 1,
                "default": _IDLE_MINUTES,
                "description": "Minutes that a machine may be kept after its last pod.",
            },
            example=10,
        )
    },
)

GPU_SPOT_REQUIRED_DEV: Final = Rule(
    name="gpu-spot-required-dev",
    description="In development machines with accelerators are Spot instances.",
    severity=Severity.MEDIUM,
    remediation=(
        "Set capacity: spot of the node group.\n"
        "Where an interruption costs more than it saves, turn the rule off for the stack."
    ),
    enforcement=ONLY_IN_DEV,
    check=_check_spot,
    types=frozenset({NODE_GROUP, KARPENTER_POOL}),
    example=Resource(NODE_GROUP, "gpus", _ONE_NODE),
)

GPU_NODE_TAINTED: Final = Rule(
    name="gpu-node-tainted",
    description="Machines with accelerators are tainted, so that other pods do not hold them.",
    severity=Severity.MEDIUM,
    remediation="Add a taint with effect NoSchedule, such as nvidia.com/gpu.",
    enforcement=ADVISORY,
    check=_check_tainted,
    types=frozenset({NODE_GROUP, KARPENTER_POOL}),
    example=Resource(NODE_GROUP, "gpus", _ONE_NODE),
)
