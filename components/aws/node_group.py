"""Node groups: the CPU nodes that always run, and GPU nodes that the node autoscaler starts for pods."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_aws import autoscaling, ec2, eks, iam, vpc

from components.aws.account import CloudAccount
from components.aws.policies import CNI_POLICY, EC2, NODE_POLICIES, trust
from components.base import Component
from runtime.accelerators import ACCELERATORS
from runtime.node_groups import EFA_RESOURCE, NODE_GROUP_LABEL, NodeGroupSpec

SYSTEM_LABEL = "spillway.dev/system"
TAINT = "nvidia.com/gpu"

_AUTOSCALER_TAG = "k8s.io/cluster-autoscaler"
_ROOT_DEVICE = "/dev/xvda"


@dataclass(frozen=True, kw_only=True)
class NodeRoleArgs:
    """Arguments of NodeRole.

    Attributes:
        cloud: Account, region and names.
    """

    cloud: CloudAccount


class NodeRole(Component):
    """What nodes may do by themselves: join, set up pods' network, pull images. Pods do not get it.

    The metadata service answers one hop only, so a pod that is not on the host's network cannot ask for it.
    """

    arn: pulumi.Output[str]
    role_name: pulumi.Output[str]
    needs: list[pulumi.Resource]

    def __init__(self, name: str, args: NodeRoleArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("aws:NodeRole", name, {}, opts)
        role = iam.Role(
            name,
            name=name,
            assume_role_policy=trust(EC2, account=args.cloud.account),
            opts=self.child(),
        )
        self.needs = [
            iam.RolePolicyAttachment(
                f"{name}-{arn.rpartition('/')[2]}", role=role.name, policy_arn=arn, opts=self.child()
            )
            for arn in (*NODE_POLICIES, CNI_POLICY)
        ]
        self.arn, self.role_name = role.arn, role.name
        self.finish(arn=role.arn)


@dataclass(frozen=True, kw_only=True)
class NodesArgs:
    """What every node group needs.

    Attributes:
        cloud: Account, region and names.
        cluster: The cluster's name.
        role_arn: The nodes' role.
        volume_key: ARN of the key of their volumes.
        tags: Tags of instances and volumes, which no provider adds to what a launch template makes.
    """

    cloud: CloudAccount
    cluster: pulumi.Input[str]
    role_arn: pulumi.Input[str]
    volume_key: pulumi.Input[str]
    tags: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class SystemNodesArgs(NodesArgs):
    """Arguments of SystemNodes.

    Attributes:
        subnets: Subnets of the nodes.
        instance_type: EC2 type.
        minimum: Nodes at least.
        maximum: Nodes at most.
        disk_gib: Volume of a node.
    """

    subnets: Sequence[pulumi.Input[str]]
    instance_type: str
    minimum: int
    maximum: int
    disk_gib: int


class SystemNodes(Component):
    """The nodes of operator, Ray heads, ingress and node autoscaler. They carry a label and no taint."""

    autoscaling_group: pulumi.Output[str]

    def __init__(self, name: str, args: SystemNodesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        declared = {
            "instanceTypes": [args.instance_type],
            "capacity": "onDemand",
            "minNodes": args.minimum,
            "maxNodes": args.maximum,
        }
        super().__init__("aws:SystemNodes", name, declared, opts)
        template = ec2.LaunchTemplate(
            name,
            name=name,
            update_default_version=True,
            metadata_options=_METADATA,
            block_device_mappings=_volume(args.disk_gib, args.volume_key),
            tag_specifications=_tags(args.tags, name),
            opts=self.child(),
        )
        group = eks.NodeGroup(
            name,
            cluster_name=args.cluster,
            node_group_name=name,
            node_role_arn=args.role_arn,
            subnet_ids=list(args.subnets),
            ami_type="AL2023_x86_64_STANDARD",
            capacity_type="ON_DEMAND",
            instance_types=[args.instance_type],
            scaling_config={
                "min_size": args.minimum,
                "desired_size": args.minimum,
                "max_size": args.maximum,
            },
            update_config={"max_unavailable": 1},
            node_repair_config={"enabled": True},
            labels={SYSTEM_LABEL: "true"},
            launch_template=_pinned(template),
            opts=self.child(ignore_changes=_DESIRED),
        )
        self.autoscaling_group = _autoscaling_group(group)
        for index, (key, value) in enumerate(_discovery_tags(args.cloud.name).items()):
            _tag(self, f"{name}-tag-{index}", self.autoscaling_group, key, value)
        self.finish(name=group.node_group_name)


@dataclass(frozen=True, kw_only=True)
class GpuNodeGroupArgs(NodesArgs):
    """Arguments of GpuNodeGroup.

    Attributes:
        spec: What the stack file says of the group.
        subnets: Zone to subnet; the group takes those of its zones, or all.
        vpc_id: The VPC.
        cluster_security_group: The cluster's own security group.
        usd_per_hour: List price of one node, for policies; None if unpriced.
    """

    spec: NodeGroupSpec
    subnets: Mapping[str, pulumi.Input[str]]
    vpc_id: pulumi.Input[str]
    cluster_security_group: pulumi.Input[str]
    usd_per_hour: str | None


class GpuNodeGroup(Component):
    """GPU nodes, none at rest. Pulumi owns the least and the most, the node autoscaler what is between.

    From zero nodes the autoscaler knows of a node only what the Auto Scaling group's tags say, so labels,
    taint and devices stand there too.
    """

    autoscaling_group: pulumi.Output[str]

    def __init__(self, name: str, args: GpuNodeGroupArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        spec = args.spec
        declared = {
            "accelerator": spec.accelerator,
            "acceleratorsPerNode": spec.gpus,
            "instanceTypes": list(spec.instance_types),
            "capacity": spec.capacity,
            "minNodes": spec.min,
            "maxNodes": spec.max,
            "usdPerHour": args.usd_per_hour,
        }
        super().__init__("aws:GpuNodeGroup", name, declared, opts)
        template = self._template(name, args)
        zones = spec.zones or tuple(args.subnets)
        group = eks.NodeGroup(
            name,
            cluster_name=args.cluster,
            node_group_name=name,
            node_role_arn=args.role_arn,
            subnet_ids=[args.subnets[zone] for zone in zones],
            ami_type="AL2023_x86_64_NVIDIA",
            capacity_type=_CAPACITY[spec.capacity],
            instance_types=list(spec.instance_types),
            scaling_config={"min_size": spec.min, "desired_size": spec.min, "max_size": spec.max},
            # By default an update of running nodes goes above `max` for a while, and so above the ceiling.
            update_config={"max_unavailable": 1, "update_strategy": "MINIMAL"},
            node_repair_config={"enabled": True},
            labels=node_labels(spec),
            taints=[{"key": TAINT, "value": "present", "effect": "NO_SCHEDULE"}],
            launch_template=_pinned(template),
            opts=self.child(ignore_changes=_DESIRED),
        )
        self.autoscaling_group = _autoscaling_group(group)
        for index, (key, value) in enumerate(scaling_tags(args.cloud.name, spec).items()):
            _tag(self, f"{name}-tag-{index}", self.autoscaling_group, key, value)
        self.finish(name=group.node_group_name)

    def _template(self, name: str, args: GpuNodeGroupArgs) -> ec2.LaunchTemplate:
        spec = args.spec
        more: dict[str, Any] = {}
        if spec.capacity == "capacityBlock":
            more["instance_market_options"] = {"market_type": "capacity-block"}
            more["capacity_reservation_specification"] = {
                "capacity_reservation_target": {"capacity_reservation_id": spec.reservation_id}
            }
        if spec.efa:
            # Close together, or the fabric is no faster than the network.
            together = ec2.PlacementGroup(name, name=name, strategy="cluster", opts=self.child())
            fabric = self._fabric(name, args)
            more["placement"] = {"group_name": together.name}
            more["network_interfaces"] = [
                {
                    "device_index": 0 if card == 0 else 1,
                    "network_card_index": card,
                    "interface_type": "efa",
                    "security_groups": [args.cluster_security_group, fabric.id],
                    "delete_on_termination": "true",
                }
                for card in range(spec.efa_cards)
            ]
        return ec2.LaunchTemplate(
            name,
            name=name,
            update_default_version=True,
            metadata_options=_METADATA,
            block_device_mappings=_volume(spec.disk_gib, args.volume_key),
            tag_specifications=_tags(args.tags, name),
            opts=self.child(),
            **more,
        )

    def _fabric(self, name: str, args: GpuNodeGroupArgs) -> ec2.SecurityGroup:
        """Everything between the group's nodes and nothing else: EFA wants both directions, by group."""
        group = ec2.SecurityGroup(
            f"{name}-fabric",
            vpc_id=args.vpc_id,
            description="Elastic Fabric Adapter between the nodes of one group",
            tags={"Name": f"{name}-fabric"},
            opts=self.child(),
        )
        vpc.SecurityGroupIngressRule(
            f"{name}-fabric-in",
            security_group_id=group.id,
            referenced_security_group_id=group.id,
            ip_protocol="-1",
            opts=self.child(),
        )
        vpc.SecurityGroupEgressRule(
            f"{name}-fabric-out",
            security_group_id=group.id,
            referenced_security_group_id=group.id,
            ip_protocol="-1",
            opts=self.child(),
        )
        return group


def node_labels(spec: NodeGroupSpec) -> dict[str, str]:
    """Labels of a group's nodes: the group, and the product, which pods of the accelerator select by."""
    return {NODE_GROUP_LABEL: spec.name, **ACCELERATORS[spec.accelerator].node_labels}


def scaling_tags(cluster: str, spec: NodeGroupSpec) -> dict[str, str]:
    """Tags by which the cluster autoscaler finds a group, and knows its nodes while there are none.

    Source: kubernetes/autoscaler, cluster-autoscaler/cloudprovider/aws/README.md, auto-discovery setup.
    """
    template = f"{_AUTOSCALER_TAG}/node-template"
    return {
        **_discovery_tags(cluster),
        **{f"{template}/label/{key}": value for key, value in node_labels(spec).items()},
        f"{template}/taint/{TAINT}": "present:NoSchedule",
        f"{template}/resources/{TAINT}": str(spec.gpus),
        **({f"{template}/resources/{EFA_RESOURCE}": str(spec.efa_cards)} if spec.efa else {}),
    }


def _discovery_tags(cluster: str) -> dict[str, str]:
    return {f"{_AUTOSCALER_TAG}/enabled": "true", f"{_AUTOSCALER_TAG}/{cluster}": "owned"}


def _tag(parent: Component, name: str, group: pulumi.Output[str], key: str, value: str) -> None:
    autoscaling.Tag(
        name,
        autoscaling_group_name=group,
        tag={"key": key, "value": value, "propagate_at_launch": False},
        opts=parent.child(),
    )


def _autoscaling_group(group: eks.NodeGroup) -> pulumi.Output[str]:
    def name(made: Sequence[Any]) -> str:
        return str(made[0].autoscaling_groups[0].name)

    return group.resources.apply(name)


def _volume(gib: int, key: pulumi.Input[str]) -> list[ec2.LaunchTemplateBlockDeviceMappingArgsDict]:
    return [
        {
            "device_name": _ROOT_DEVICE,
            "ebs": {
                "volume_type": "gp3",
                "volume_size": gib,
                "encrypted": "true",
                "kms_key_id": key,
                "delete_on_termination": "true",
            },
        }
    ]


def _tags(tags: Mapping[str, str], name: str) -> list[ec2.LaunchTemplateTagSpecificationArgsDict]:
    named = {**tags, "Name": name}
    return [{"resource_type": kind, "tags": named} for kind in ("instance", "volume")]


def _pinned(template: ec2.LaunchTemplate) -> eks.NodeGroupLaunchTemplateArgsDict:
    """A number, not `$Latest`, which would let nodes differ from what the group says."""
    return {"id": template.id, "version": template.latest_version.apply(str)}


# Tokens are needed, and they end at the first hop, so pods have to use Pod Identity.
_METADATA: ec2.LaunchTemplateMetadataOptionsArgsDict = {
    "http_endpoint": "enabled",
    "http_tokens": "required",
    "http_put_response_hop_limit": 1,
}
_DESIRED = ["scalingConfig.desiredSize"]
_CAPACITY = {"onDemand": "ON_DEMAND", "spot": "SPOT", "capacityBlock": "CAPACITY_BLOCK"}
