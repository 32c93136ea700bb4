"""Managed node groups whose instances come late, fail to come, and go; moto does it at once or not at all.

Each node group of EKS gets an Auto Scaling group in moto. Its desired size is a wish; `advance` is called
with the time and does what EC2 would have done by then. Nothing runs in between, so the same calls at the
same times give the same nodes.
"""

# moto gives no types.
# pyright: basic, reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from moto.autoscaling.models import FakeAutoScalingGroup, InstanceState, autoscaling_backends
from moto.ec2.models import ec2_backends
from moto.eks.models import Nodegroup, eks_backends

from rehearsal.aws.capacity import Script
from rehearsal.aws.instance_types import architecture, exists, node_resources, quota_code, vcpus

_EFFECTS = {
    "NO_SCHEDULE": "NoSchedule",
    "NO_EXECUTE": "NoExecute",
    "PREFER_NO_SCHEDULE": "PreferNoSchedule",
}
_KEPT_ACTIVITIES = 50


@dataclass
class Activity:
    """One entry of DescribeScalingActivities.

    Attributes:
        id: Its id.
        at: Seconds since the epoch.
        status: Successful or Failed.
        description: What was tried.
        message: Why it failed, in the words of EC2.
    """

    id: str
    at: float
    status: str
    description: str
    message: str = ""


@dataclass
class Member:
    """An instance of a group.

    Attributes:
        state: moto's record, which DescribeAutoScalingGroups shows.
        instance_type: Of the instance.
        zone: Its availability zone.
        ready_at: When its node joins the cluster, in seconds since the epoch.
        gone_at: When it is gone, if it was told to end.
    """

    state: InstanceState
    instance_type: str
    zone: str
    ready_at: float
    gone_at: float | None = None


class NodeGroupAsg(FakeAutoScalingGroup):
    """The Auto Scaling group of a node group. moto would start and end instances in the call itself."""

    def __init__(self, cluster: str, nodegroup: str, **arguments: Any) -> None:
        """Takes the names of the node group, and what moto's own group takes."""
        self.cluster = cluster
        self.nodegroup = nodegroup
        self.members: list[Member] = []
        self.activities: list[Activity] = []
        self.next_try = 0.0
        self.refused = ""
        super().__init__(**arguments)

    def set_desired_capacity(self, new_capacity: int | None) -> None:
        """Notes the wish; `advance` acts."""
        self.desired_capacity = self.min_size if new_capacity is None else new_capacity

    def replace_autoscaling_group_instances(
        self,
        count_needed: int,
        propagated_tags: dict[str, str],
    ) -> None:
        """Does nothing: `advance` sees that one is missing."""

    @property
    def wanted(self) -> int:
        """The desired size."""
        return self.desired_capacity or 0


def groups() -> Iterator[NodeGroupAsg]:
    """Every group of a node group, of all accounts and regions."""
    for account in autoscaling_backends.values():
        for backend in account.values():
            yield from (g for g in backend.autoscaling_groups.values() if isinstance(g, NodeGroupAsg))


def node_group(group: NodeGroupAsg) -> Nodegroup:
    """What EKS says about the group."""
    return eks_backends[group.account_id][group.region].clusters[group.cluster].nodegroups[group.nodegroup]


def open_group(account: str, region: str, node_group_: Nodegroup) -> NodeGroupAsg:
    """Makes the Auto Scaling group that EKS makes with a node group."""
    backend = autoscaling_backends[account][region]
    name = str(node_group_.resources["autoScalingGroups"][0]["name"])
    template = node_group_.launch_template
    if template:
        spec = {"LaunchTemplateId": template["id"], "Version": str(template.get("version", "$Default"))}
    else:
        # EKS makes one of its own, with the same name as the group.
        made = ec2_backends[account][region].create_launch_template(name, "", {}, {})
        spec = {"LaunchTemplateId": made.id, "Version": "1"}
    size = node_group_.scaling_config
    tags = {
        "eks:cluster-name": node_group_.cluster_name,
        "eks:nodegroup-name": node_group_.nodegroup_name,
        f"kubernetes.io/cluster/{node_group_.cluster_name}": "owned",
        f"k8s.io/cluster-autoscaler/{node_group_.cluster_name}": "owned",
        "k8s.io/cluster-autoscaler/enabled": "true",
    }
    group: NodeGroupAsg = NodeGroupAsg(  # pyright: ignore[reportAssignmentType]
        cluster=node_group_.cluster_name,
        nodegroup=node_group_.nodegroup_name,
        name=name,
        availability_zones=[],
        desired_capacity=size["desiredSize"],
        max_size=size["maxSize"],
        min_size=size["minSize"],
        launch_config_name="",
        launch_template=spec,
        vpc_zone_identifier=",".join(node_group_.subnets),
        default_cooldown=None,
        health_check_period=15,
        health_check_type="EC2",
        load_balancers=[],
        target_group_arns=[],
        placement_group=None,
        termination_policies=[],
        autoscaling_backend=backend,
        ec2_backend=backend.ec2_backend,
        tags=[{"Key": key, "Value": value, "PropagateAtLaunch": True} for key, value in tags.items()],  # pyright: ignore[reportArgumentType]
        mixed_instances_policy=None,
        capacity_rebalance=node_group_.capacity_type == "SPOT",
    )
    backend.autoscaling_groups[name] = group
    return group


def close_group(account: str, region: str, node_group_: Nodegroup) -> None:
    """Ends a node group's instances and removes its Auto Scaling group."""
    name = str(node_group_.resources["autoScalingGroups"][0]["name"])
    backend = autoscaling_backends[account][region]
    group = backend.autoscaling_groups.pop(name, None)
    if isinstance(group, NodeGroupAsg):
        for member in group.members:
            _terminate(group, member)
        if not node_group_.launch_template and group.ec2_launch_template is not None:
            ec2_backends[account][region].delete_launch_template("", group.ec2_launch_template.id)


def end_instance(instance_id: str, *, decrement: bool) -> NodeGroupAsg | None:
    """Ends one instance, as TerminateInstanceInAutoScalingGroup asks.

    Returns:
        Its group; None where no node group has the instance.
    """
    for group in groups():
        for member in group.members:
            if member.state.instance.id == instance_id:
                member.gone_at = 0.0  # `advance` knows the time and the delay.
                member.state.lifecycle_state = "Terminating"
                if decrement:
                    group.desired_capacity = max(group.wanted - 1, group.min_size or 0)
                return group
    return None


def advance(script: Script, now: float) -> None:
    """Does what would have happened until `now`, in seconds since the epoch."""
    for group in list(groups()):
        _notice_what_others_ended(group)
        for member in group.members:
            if member.gone_at == 0.0:
                member.gone_at = now + script.terminate_seconds
            if member.gone_at is None and member.ready_at <= now:
                member.state.lifecycle_state = "InService"
        staying = [member for member in group.members if member.gone_at is None]
        for member in _to_go(group, staying):
            member.gone_at = now + script.terminate_seconds
            member.state.lifecycle_state = "Terminating"
            staying.remove(member)
        for _ in range(group.wanted - len(staying)):
            if now < group.next_try or not _launch(group, script, now):
                break
        for member in [m for m in group.members if m.gone_at is not None and m.gone_at <= now]:
            _terminate(group, member)
            group.members.remove(member)
        group.instance_states = [member.state for member in group.members]
        _report(group, now)


def _to_go(group: NodeGroupAsg, staying: list[Member]) -> list[Member]:
    """The members beyond the desired size: first those that are not ready, then the youngest."""
    surplus = len(staying) - group.wanted
    free = [member for member in staying if not member.state.protected_from_scale_in]
    return sorted(free, key=lambda member: -member.ready_at)[: max(surplus, 0)]


def _notice_what_others_ended(group: NodeGroupAsg) -> None:
    there = {state.instance.id for state in group.instance_states}
    group.members = [
        m for m in group.members if m.state.instance.id in there and m.state.instance._state.code == 16
    ]  # pyright: ignore[reportPrivateUsage]


def _launch(group: NodeGroupAsg, script: Script, now: float) -> bool:
    """Starts one instance of the first type and in the emptiest zone that can be had."""
    eks = node_group(group)
    zones = Counter(dict.fromkeys(eks.subnets, 0))
    ec2 = group.ec2_backend
    found = ec2.describe_subnets(subnet_ids=list(eks.subnets))
    zone_of = {subnet.id: str(subnet.availability_zone) for subnet in found}
    zones.update(member.state.instance.subnet_id for member in group.members)
    refused = ""
    for instance_type in _types(eks, group):
        for subnet, _ in reversed(zones.most_common()):
            zone = zone_of[subnet]
            why = _refusal(instance_type, zone, eks.capacity_type, zone_of.values(), script, now)
            if why:
                refused = refused or why
                continue
            tags = {tag["Key"]: tag["Value"] for tag in group.tags if tag.get("PropagateAtLaunch")}
            reservation = ec2.run_instances(
                "ami-12345678",
                1,
                None,
                [],
                instance_type=instance_type,
                placement=zone,
                subnet_id=subnet,
                is_instance_type_default=False,
                tags={"instance": {**tags, "aws:autoscaling:groupName": group.name}},
            )
            instance = reservation.instances[0]
            instance.autoscaling_group = group  # pyright: ignore[reportAttributeAccessIssue]
            delay = script.launch_seconds_of.get(instance_type, script.launch_seconds)
            state = InstanceState(instance, "Pending" if delay else "InService", autoscaling_group=group)
            group.members.append(Member(state, instance_type, zone, now + delay))
            group.refused = ""
            _note(group, now, "Successful", f"Launching a new EC2 instance: {instance.id}")
            return True
    group.refused = refused
    group.next_try = now + script.retry_seconds
    _note(group, now, "Failed", "Launching a new EC2 instance", refused)
    return False


def _types(eks: Nodegroup, group: NodeGroupAsg) -> list[str]:
    template = group.ec2_launch_template
    if eks.launch_template and template is not None:
        version = template.get_version(str(eks.launch_template.get("version", "$Default")))
        named = version.data.get("InstanceType")
        if named:
            return [str(named)]
    return [str(name) for name in eks.instance_types]


def _refusal(
    instance_type: str, zone: str, capacity_type: str, zones: Any, script: Script, now: float
) -> str:
    """Why EC2 does not launch one more, in its words; empty if it does."""
    kind = "Spot" if capacity_type == "SPOT" else "On-Demand"
    if not exists(instance_type):
        return (
            f"Could not launch {kind} Instances. InvalidParameterValue - The instance type "
            f"'{instance_type}' does not exist. Launching EC2 instance failed."
        )
    running = [(member, node_group(g).capacity_type) for g in groups() for member in g.members]
    code = quota_code(instance_type, spot=capacity_type == "SPOT")
    limit = script.quotas.get(code) if code else None
    used = sum(
        vcpus(member.instance_type)
        for member, of in running
        if quota_code(member.instance_type, spot=of == "SPOT") == code
    )
    if limit is not None and used + vcpus(instance_type) > limit:
        return (
            f"Could not launch {kind} Instances. VcpuLimitExceeded - You have requested more vCPU capacity "
            f"than your current vCPU limit of {limit:.0f} allows for the instance bucket that the specified "
            "instance type belongs to. Please visit http://aws.amazon.com/contact-us/ec2-request to request "
            "an adjustment to this limit. Launching EC2 instance failed."
        )
    same = [member for member, of in running if member.instance_type == instance_type and of == capacity_type]
    shortage = script.shortage(
        instance_type,
        zone,
        capacity_type,
        in_zone=sum(member.zone == zone for member in same),
        everywhere=len(same),
        now=now,
    )
    if shortage is None:
        return ""
    others = sorted(set(zones) - {zone}) if shortage.availability_zone else []
    elsewhere = (
        f"You can currently get {instance_type} capacity by not specifying an Availability Zone in your "
        f"request or choosing {', '.join(others)}. "
        if others
        else ""
    )
    return (
        f"Could not launch {kind} Instances. InsufficientInstanceCapacity - We currently do not have "
        f"sufficient {instance_type} capacity in the Availability Zone you requested ({zone}). Our system "
        f"will be working on provisioning additional capacity. {elsewhere}Launching EC2 instance failed."
    )


def _terminate(group: NodeGroupAsg, member: Member) -> None:
    instance = member.state.instance
    # Through the instance: the backend's own call tells the group, which would launch another one.
    instance.terminate()
    _note(group, member.gone_at or 0.0, "Successful", f"Terminating EC2 instance: {instance.id}")


def _note(group: NodeGroupAsg, at: float, status: str, description: str, message: str = "") -> None:
    number = len(group.activities) + 1
    group.activities.append(Activity(f"{group.name}-{number}-{at:.3f}", at, status, description, message))
    del group.activities[:-_KEPT_ACTIVITIES]


def _report(group: NodeGroupAsg, now: float) -> None:
    """Writes what became of the group into what EKS says about it."""
    eks = node_group(group)
    short = group.wanted > len([m for m in group.members if m.gone_at is None])
    if not short:
        group.refused = ""
    eks.scaling_config = {
        "minSize": group.min_size or 0,
        "maxSize": group.max_size or 0,
        "desiredSize": group.wanted,
    }
    issue = {
        "code": "AsgInstanceLaunchFailures",
        "message": group.refused,
        "resourceIds": [group.name],
    }
    eks.health = {"issues": [issue] if group.refused else []}
    ready = len([m for m in group.members if m.gone_at is None and m.ready_at <= now])
    if eks.status == "CREATING" and group.refused:
        eks.status = "CREATE_FAILED"
    elif eks.status == "CREATING" and ready >= group.wanted:
        eks.status = "ACTIVE"
    elif eks.status in ("ACTIVE", "DEGRADED"):
        eks.status = "DEGRADED" if group.refused else "ACTIVE"


def nodes(now: float) -> list[dict[str, Any]]:
    """Every node that is there at `now`: joined, and not gone yet.

    Returns:
        For each: name, cluster, nodeGroup, instanceId, instanceType, availabilityZone, capacityType,
        state (Ready or Terminating), joined (seconds since the epoch), and labels, taints and resources
        as a Node object has them.
    """
    return [_node(group, member) for group in groups() for member in group.members if member.ready_at <= now]


def _node(group: NodeGroupAsg, member: Member) -> dict[str, Any]:
    eks = node_group(group)
    instance = member.state.instance
    name = str(instance.private_dns_name)
    labels = {
        **eks.labels,
        "eks.amazonaws.com/nodegroup": eks.nodegroup_name,
        "eks.amazonaws.com/capacityType": eks.capacity_type,
        "node.kubernetes.io/instance-type": member.instance_type,
        "topology.kubernetes.io/region": group.region,
        "topology.kubernetes.io/zone": member.zone,
        "kubernetes.io/arch": architecture(member.instance_type),
        "kubernetes.io/os": "linux",
        "kubernetes.io/hostname": name,
    }
    taints = [
        {"key": taint["key"], "value": taint.get("value", ""), "effect": _EFFECTS[taint["effect"]]}
        for taint in eks.taints
    ]
    return {
        "name": name,
        "cluster": group.cluster,
        "nodeGroup": group.nodegroup,
        "instanceId": instance.id,
        "instanceType": member.instance_type,
        "availabilityZone": member.zone,
        "capacityType": eks.capacity_type,
        "state": "Ready" if member.gone_at is None else "Terminating",
        "joined": member.ready_at,
        "labels": labels,
        "taints": taints,
        "resources": node_resources(member.instance_type),
    }


def summaries(now: float) -> list[dict[str, Any]]:
    """Each node group with its wish and what became of it.

    Returns:
        For each: cluster, nodeGroup, autoScalingGroup, minSize, maxSize, desiredSize, launching, ready,
        terminating, status and health (as DescribeNodegroup), and instanceTypes, labels and taints that a
        node would have.
    """
    found: list[dict[str, Any]] = []
    for group in groups():
        eks = node_group(group)
        staying = [m for m in group.members if m.gone_at is None]
        ready = [m for m in staying if m.ready_at <= now]
        found.append(
            {
                "cluster": group.cluster,
                "nodeGroup": group.nodegroup,
                "autoScalingGroup": group.name,
                **eks.scaling_config,
                "launching": len(staying) - len(ready),
                "ready": len(ready),
                "terminating": len(group.members) - len(staying),
                "status": eks.status,
                "health": eks.health,
                "instanceTypes": _types(eks, group),
                "labels": eks.labels,
                "taints": eks.taints,
            }
        )
    return found


def activities(group: NodeGroupAsg) -> list[dict[str, Any]]:
    """The group's activities as DescribeScalingActivities lists them, the newest first."""
    return [
        {
            "ActivityId": activity.id,
            "AutoScalingGroupName": group.name,
            "Description": activity.description,
            "Cause": f"a difference between desired and actual capacity of {group.name}",
            "StartTime": datetime.fromtimestamp(activity.at, UTC),
            "EndTime": datetime.fromtimestamp(activity.at, UTC),
            "StatusCode": activity.status,
            **({"StatusMessage": activity.message} if activity.message else {}),
            "Progress": 100,
        }
        for activity in reversed(group.activities)
    ]
