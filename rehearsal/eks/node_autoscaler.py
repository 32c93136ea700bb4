"""A stand-in for the cluster autoscaler: pending pods make node groups grow, empty nodes make them shrink.

The real one is in no registry that can be reached. This one decides from what that one reads: a group takes
part only with the `enabled` tag on its Auto Scaling group, and a group without nodes is judged by its
`node-template` tags alone (cluster-autoscaler 1.34, cloudprovider/aws/README.md). So a tag that is missing
or wrong keeps the group at zero here as it does there. It is greedy and simple where the real one simulates
the scheduler: labels, taints, CPU, memory and devices count, affinities do not.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rehearsal.site.api import Json
from runtime.quantities import cpus, memory_bytes

ENABLED_TAG = "k8s.io/cluster-autoscaler/enabled"
_TEMPLATE = "k8s.io/cluster-autoscaler/node-template"
_ENDED = ("Succeeded", "Failed")
Amounts = dict[str, float]


@dataclass(frozen=True)
class NodeTemplate:
    """What a new node of a group will be."""

    labels: Mapping[str, str]
    taints: Sequence[tuple[str, str, str]]
    room: Mapping[str, float]


@dataclass(frozen=True)
class Group:
    """One Auto Scaling group.

    Attributes:
        name: Its name.
        least: Nodes at least.
        most: Nodes at most.
        desired: Nodes that are asked for now.
        tags: Its tags.
        machine: CPUs, bytes of memory and devices of its instance type.
        existing: Names of the nodes that have joined the cluster.
        failed: Ids of its launches that failed.
    """

    name: str
    least: int
    most: int
    desired: int
    tags: Mapping[str, str]
    machine: Mapping[str, float]
    existing: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()

    @property
    def enabled(self) -> bool:
        """Whether the autoscaler may touch it."""
        return ENABLED_TAG in self.tags

    @property
    def template(self) -> NodeTemplate:
        """What its tags say of a new node; devices count only if a tag names them."""
        labels: dict[str, str] = {}
        taints: list[tuple[str, str, str]] = []
        room = {name: amount for name, amount in self.machine.items() if name in ("cpu", "memory")}
        for key, value in self.tags.items():
            if key.startswith(f"{_TEMPLATE}/label/"):
                labels[key.removeprefix(f"{_TEMPLATE}/label/")] = value
            elif key.startswith(f"{_TEMPLATE}/taint/"):
                text, _, effect = value.partition(":")
                taints.append((key.removeprefix(f"{_TEMPLATE}/taint/"), text, effect))
            elif key.startswith(f"{_TEMPLATE}/resources/"):
                room[key.removeprefix(f"{_TEMPLATE}/resources/")] = float(value)
        return NodeTemplate(labels, taints, room)


@dataclass(frozen=True)
class Plan:
    """What to do next.

    Attributes:
        desired: Group to the number of nodes to ask for, where it differs.
        remove: Nodes to end, each with its group.
        unplaced: Pods that no group could take, each with the reason.
    """

    desired: Mapping[str, int] = field(default_factory=dict[str, int])
    remove: Sequence[tuple[str, str]] = ()
    unplaced: Mapping[str, str] = field(default_factory=dict[str, str])


def plan(
    groups: Sequence[Group],
    pods: Sequence[Json],
    empty_for_s: Mapping[str, float],
    unneeded_s: float,
    backed_off: Collection[str] = (),
) -> Plan:
    """Decides once.

    Args:
        groups: All groups of the cluster.
        pods: All its pods.
        empty_for_s: Node to the seconds for which only pods of daemons were on it.
        unneeded_s: After so long an empty node goes (the real one's `--scale-down-unneeded-time`).
        backed_off: Groups whose launches failed: what was asked for in vain is given up, and nothing more
            is asked for now.
    """
    usable = [
        replace(group, desired=len(group.existing), most=len(group.existing))
        if group.name in backed_off
        else group
        for group in groups
        if group.enabled
    ]
    # Room on nodes that are there, and nodes that are on their way, count before new ones are asked for.
    coming = [(group, _room_left(group, node, pods)) for group in usable for node in sorted(group.existing)]
    coming += [
        (group, dict(group.template.room))
        for group in usable
        for _ in range(max(0, group.desired - len(group.existing)))
    ]
    desired = {group.name: group.desired for group in usable}
    unplaced: dict[str, str] = {}
    for pod in _largest_first(pods):
        if any(_fits(pod, group) and _take(room, pod) for group, room in coming):
            continue
        for group in usable:
            room = dict(group.template.room)
            if desired[group.name] < group.most and _fits(pod, group) and _take(room, pod):
                desired[group.name] += 1
                coming.append((group, room))
                break
        else:
            unplaced[pod["metadata"]["name"]] = _why_not(pod, usable, desired)
    waiting = bool(_pending(pods))
    remove: list[tuple[str, str]] = []
    for group in usable:
        spare = desired[group.name] - group.least
        idle = [node for node in sorted(group.existing) if empty_for_s.get(node, 0.0) >= unneeded_s]
        # While pods wait nothing goes: the real one holds too after a scale-up.
        remove += [(group.name, node) for node in idle[: max(0, spare)] if not waiting]
    asked = {group.name: group.desired for group in groups}
    changed = {name: count for name, count in desired.items() if count != asked[name]}
    return Plan(changed, remove, unplaced)


def is_movable(pod: Json) -> bool:
    """Whether a pod keeps its node from being empty: those of daemons and those that ended do not."""
    owners: Iterable[Json] = pod["metadata"].get("ownerReferences", [])
    daemon = any(owner["kind"] == "DaemonSet" for owner in owners)
    return not daemon and pod.get("status", {}).get("phase") not in _ENDED


def _pending(pods: Sequence[Json]) -> list[Json]:
    def unschedulable(pod: Json) -> bool:
        conditions: list[Json] = pod.get("status", {}).get("conditions", [])
        return "deletionTimestamp" not in pod["metadata"] and any(
            one["type"] == "PodScheduled"
            and one["status"] == "False"
            and one.get("reason") == "Unschedulable"
            for one in conditions
        )

    return [pod for pod in pods if unschedulable(pod)]


def _largest_first(pods: Sequence[Json]) -> list[Json]:
    def order(pod: Json) -> tuple[float, str]:
        asked = requests_of(pod)
        devices = sum(amount for name, amount in asked.items() if "/" in name)
        return -devices, pod["metadata"]["name"]

    return sorted(_pending(pods), key=order)


def requests_of(pod: Json) -> Amounts:
    """What the scheduler sets aside for a pod: CPUs, bytes, devices."""
    total: Amounts = {}
    for container in pod["spec"]["containers"]:
        resources: Json = container.get("resources", {})
        asked: dict[str, str] = {**resources.get("limits", {}), **resources.get("requests", {})}
        for name, amount in asked.items():
            value = cpus(amount) if name == "cpu" else memory_bytes(amount)
            total[name] = total.get(name, 0.0) + float(value)
    return total


def _room_left(group: Group, node: str, pods: Sequence[Json]) -> Amounts:
    room = dict(group.template.room)
    for pod in pods:
        if pod["spec"].get("nodeName") == node and pod.get("status", {}).get("phase") not in _ENDED:
            for name, amount in requests_of(pod).items():
                room[name] = room.get(name, 0.0) - amount
    return room


def _fits(pod: Json, group: Group) -> bool:
    template = group.template
    selector: dict[str, str] = pod["spec"].get("nodeSelector", {})
    tolerations: list[Json] = pod["spec"].get("tolerations", [])
    return _selected(selector, template) and all(
        any(_tolerates(toleration, taint) for toleration in tolerations) for taint in template.taints
    )


def _selected(selector: Mapping[str, str], template: NodeTemplate) -> bool:
    # What kwok's own selector asks for is written onto the simulated nodes by the rehearsal.
    wanted = {key: value for key, value in selector.items() if (key, value) != ("type", "kwok")}
    return wanted.items() <= template.labels.items()


def _tolerates(toleration: Json, taint: tuple[str, str, str]) -> bool:
    key, value, effect = taint
    if toleration.get("effect") not in (None, "", effect):
        return False
    if toleration.get("key") not in (None, "", key):
        return False
    return toleration.get("operator", "Equal") == "Exists" or toleration.get("value", "") == value


def _take(room: Amounts, pod: Json) -> bool:
    asked = requests_of(pod)
    if any(room.get(name, 0.0) < amount for name, amount in asked.items() if name != "ephemeral-storage"):
        return False
    for name, amount in asked.items():
        room[name] = room.get(name, 0.0) - amount
    return True


def _why_not(pod: Json, groups: Sequence[Group], desired: Mapping[str, int]) -> str:
    reasons: list[str] = []
    for group in groups:
        if not _fits(pod, group):
            reasons.append(f"{group.name}: its node-template tags do not match the pod's selector or taints")
        elif desired[group.name] >= group.most:
            reasons.append(f"{group.name}: is at its most, {group.most}")
        else:
            reasons.append(
                f"{group.name}: its node-template tags leave too little room for {requests_of(pod)}"
            )
    return "; ".join(reasons) or "no group has the enabled tag"
