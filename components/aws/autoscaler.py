"""What starts GPU nodes for pods that wait and stops empty ones: the cluster autoscaler, or Karpenter."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi_aws import cloudwatch, eks, iam, sqs

from components.aws.account import CloudAccount
from components.aws.node_group import SYSTEM_LABEL, TAINT, node_labels
from components.aws.policies import (
    POD_IDENTITY,
    node_group_scaler,
    node_launcher,
    queue_of_interruptions,
    trust,
)
from components.base import Component
from components.kubernetes.chart import Chart, ReleaseIn, release
from components.kubernetes.metadata import object_meta
from runtime.node_groups import NodeGroupSpec

_NAMESPACE = "kube-system"
# What EC2 says before it takes a node away, as event patterns (Karpenter's CloudFormation reference).
_INTERRUPTIONS = {
    "health": {"source": ["aws.health"], "detail-type": ["AWS Health Event"]},
    "spot": {"source": ["aws.ec2"], "detail-type": ["EC2 Spot Instance Interruption Warning"]},
    "rebalance": {"source": ["aws.ec2"], "detail-type": ["EC2 Instance Rebalance Recommendation"]},
    "state": {"source": ["aws.ec2"], "detail-type": ["EC2 Instance State-change Notification"]},
    "reservation": {
        "source": ["aws.ec2"],
        "detail-type": ["EC2 Capacity Reservation Instance Interruption Warning"],
    },
}


@dataclass(frozen=True, kw_only=True)
class AutoscalerArgs:
    """What both autoscalers need. Their options name providers of AWS and of the EKS cluster.

    Attributes:
        cloud: Account, region and names.
        cluster: The EKS cluster's name.
        chart: Where the chart comes from.
        image: Image as REPOSITORY:TAG, or None for the chart's own.
        scale_down_minutes: Minutes after which a node without pods goes.
    """

    cloud: CloudAccount
    cluster: pulumi.Input[str]
    chart: Chart
    image: str | None
    scale_down_minutes: int


@dataclass(frozen=True, kw_only=True)
class ClusterAutoscalerArgs(AutoscalerArgs):
    """Arguments of ClusterAutoscaler."""


class ClusterAutoscaler(Component):
    """The cluster autoscaler, with a role of its own by Pod Identity. It moves groups that carry its tags."""

    def __init__(
        self, name: str, args: ClusterAutoscalerArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("aws:ClusterAutoscaler", name, {"version": args.chart.version}, opts)
        cloud, account = args.cloud, "cluster-autoscaler"
        role = _pod_role(
            self, name, args, account, node_group_scaler(cloud.account, cloud.region, cloud.name)
        )
        values: dict[str, pulumi.Input[object]] = {
            "autoDiscovery": {"clusterName": cloud.name},
            "awsRegion": cloud.region,
            "rbac": {"serviceAccount": {"name": account}},
            "nodeSelector": {SYSTEM_LABEL: "true"},
            "extraArgs": {
                "expander": "least-waste",
                "scale-down-unneeded-time": f"{args.scale_down_minutes}m",
                "scale-down-delay-after-add": f"{args.scale_down_minutes}m",
                # An empty GPU node goes, whatever CPU its daemons take.
                "skip-nodes-with-system-pods": "false",
                "balance-similar-node-groups": "false",
            },
        }
        if args.image is not None:
            repository, _, tag = args.image.rpartition(":")
            values["image"] = {"repository": repository, "tag": tag}
        release(
            name,
            args.chart,
            ReleaseIn(name="cluster-autoscaler", namespace=_NAMESPACE, values=values),
            self.child(depends_on=[role]),
        )
        self.finish(namespace=_NAMESPACE)


@dataclass(frozen=True, kw_only=True)
class KarpenterArgs(AutoscalerArgs):
    """Arguments of Karpenter.

    Attributes:
        platform: Name that the Kubernetes objects are labelled with.
        groups: The groups, each of which becomes a NodePool with the same limits.
        node_role_arn: Role of the nodes.
        node_role_name: Its name.
        subnets: Zone to subnet.
        security_group_id: The cluster's security group.
        volume_key: ARN of the key of the nodes' volumes.
        tags: Tags of instances and volumes.
    """

    platform: str
    groups: Sequence[NodeGroupSpec]
    node_role_arn: pulumi.Input[str]
    node_role_name: pulumi.Input[str]
    subnets: Mapping[str, pulumi.Input[str]]
    security_group_id: pulumi.Input[str]
    volume_key: pulumi.Input[str]
    tags: Mapping[str, str]


class Karpenter(Component):
    """Karpenter, its queue of interruptions, and a NodePool with limits for each group.

    Its nodes are not in Pulumi's state. A NodePool's finalizer ends them, so the pools go while Karpenter
    still runs.
    """

    pools: list[pulumi.Resource]

    def __init__(self, name: str, args: KarpenterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        declared = {
            "version": args.chart.version,
            "maxNodes": {group.name: group.max for group in args.groups},
        }
        super().__init__("aws:Karpenter", name, declared, opts)
        cloud = args.cloud
        queue = sqs.Queue(
            name,
            name=name,
            message_retention_seconds=300,
            sqs_managed_sse_enabled=True,
            opts=self.child(),
        )
        sqs.QueuePolicy(
            name,
            queue_url=queue.url,
            policy=queue.arn.apply(lambda arn: queue_of_interruptions(arn, cloud.account)),
            opts=self.child(),
        )
        for kind, pattern in _INTERRUPTIONS.items():
            rule = cloudwatch.EventRule(
                f"{name}-{kind}",
                name=f"{name}-{kind}",
                event_pattern=json.dumps(pattern),
                opts=self.child(),
            )
            cloudwatch.EventTarget(f"{name}-{kind}", rule=rule.name, arn=queue.arn, opts=self.child())
        policy = pulumi.Output.all(args.node_role_arn, queue.arn).apply(
            lambda given: node_launcher(cloud.account, cloud.region, cloud.name, str(given[0]), str(given[1]))
        )
        role = _pod_role(self, name, args, "karpenter", policy)
        eks.AccessEntry(
            f"{name}-nodes",
            cluster_name=args.cluster,
            principal_arn=args.node_role_arn,
            type="EC2_LINUX",
            opts=self.child(),
        )
        values: dict[str, pulumi.Input[object]] = {
            "settings": {"clusterName": cloud.name, "interruptionQueue": queue.name},
            "serviceAccount": {"name": "karpenter"},
            "nodeSelector": {SYSTEM_LABEL: "true"},
        }
        if args.image is not None:
            repository, _, tag = args.image.rpartition(":")
            values["controller"] = {"image": {"repository": repository, "tag": tag}}
        running = release(
            name,
            args.chart,
            ReleaseIn(name="karpenter", namespace=_NAMESPACE, values=values),
            self.child(depends_on=[role]),
        )
        self.pools = [self._pool(name, group, args, running) for group in args.groups]
        self.finish(queue=queue.name)

    def _pool(
        self, name: str, group: NodeGroupSpec, args: KarpenterArgs, running: pulumi.Resource
    ) -> pulumi.Resource:
        zones = group.zones or tuple(args.subnets)
        block = group.capacity == "capacityBlock"
        spec: dict[str, pulumi.Input[object]] = {
            "amiSelectorTerms": [{"alias": "al2023@latest"}],
            "role": args.node_role_name,
            "subnetSelectorTerms": [{"id": args.subnets[zone]} for zone in zones],
            "securityGroupSelectorTerms": [{"id": args.security_group_id}],
            "metadataOptions": {"httpTokens": "required", "httpPutResponseHopLimit": 1},
            "blockDeviceMappings": [
                {
                    "deviceName": "/dev/xvda",
                    "ebs": {
                        "volumeType": "gp3",
                        "volumeSize": f"{group.disk_gib}Gi",
                        "encrypted": True,
                        "kmsKeyID": args.volume_key,
                        "deleteOnTermination": True,
                    },
                }
            ],
            "tags": {**args.tags, "Name": f"{args.cloud.name}-{group.name}"},
        }
        if block:
            spec["capacityReservationSelectorTerms"] = [{"id": group.reservation_id}]
        node_class = kubernetes.apiextensions.CustomResource(
            f"{name}-{group.name}-class",
            api_version="karpenter.k8s.aws/v1",
            kind="EC2NodeClass",
            metadata=object_meta(args.platform, "nodes", group.name),
            spec=spec,
            opts=self.child(depends_on=[running]),
        )
        bought = {"onDemand": "on-demand", "spot": "spot", "capacityBlock": "reserved"}[group.capacity]
        return kubernetes.apiextensions.CustomResource(
            f"{name}-{group.name}-pool",
            api_version="karpenter.sh/v1",
            kind="NodePool",
            metadata=object_meta(args.platform, "nodes", group.name),
            spec={
                "template": {
                    "metadata": {"labels": node_labels(group)},
                    "spec": {
                        "nodeClassRef": {
                            "group": "karpenter.k8s.aws",
                            "kind": "EC2NodeClass",
                            "name": group.name,
                        },
                        "taints": [{"key": TAINT, "value": "present", "effect": "NoSchedule"}],
                        "requirements": [
                            _one_of("node.kubernetes.io/instance-type", group.instance_types),
                            _one_of("karpenter.sh/capacity-type", [bought]),
                        ],
                    },
                },
                # What Pulumi's `max` is to a node group: without it nothing bounds the pool.
                "limits": karpenter_limits(group),
                # It does not look at what GPUs do, so only an empty node may go.
                "disruption": {
                    "consolidationPolicy": "WhenEmpty",
                    "consolidateAfter": f"{args.scale_down_minutes}m",
                    "budgets": [{"nodes": "1"}],
                },
            },
            opts=self.child(depends_on=[node_class]),
        )


def karpenter_limits(group: NodeGroupSpec) -> dict[str, str]:
    """A NodePool's limits that let as many nodes start as the group's `max`, of its smallest type.

    Karpenter sums what nodes have, so the limit is in devices, of which all types of a group have the same
    number, and so bounds nodes exactly.
    """
    return {TAINT: str(group.max * group.gpus)}


def _one_of(key: str, values: Sequence[str]) -> dict[str, object]:
    return {"key": key, "operator": "In", "values": list(values)}


def _pod_role(
    parent: Component, name: str, args: AutoscalerArgs, service_account: str, policy: pulumi.Input[str]
) -> pulumi.Resource:
    """A role that the pods of one service account in kube-system get, and nobody else."""
    role = iam.Role(
        f"{name}-pods",
        name=name,
        assume_role_policy=trust(POD_IDENTITY, account=args.cloud.account),
        opts=parent.child(),
    )
    allowed = iam.RolePolicy(f"{name}-pods", role=role.id, policy=policy, opts=parent.child())
    return eks.PodIdentityAssociation(
        f"{name}-pods",
        cluster_name=args.cluster,
        namespace=_NAMESPACE,
        service_account=service_account,
        role_arn=role.arn,
        opts=parent.child(depends_on=[allowed]),
    )
