"""What the EKS cluster's own programs ask of the AWS double: its nodes, its groups, its load balancers."""

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import (  # pyright: ignore[reportMissingTypeStubs]
    BotoCoreError,
    ClientError,
)

from rehearsal.aws.clients import DoubleError, client, page
from rehearsal.eks.node_autoscaler import Group
from runtime.quantities import cpus, memory_bytes

Json = dict[str, Any]


class AwsError(Exception):
    """The double does not answer; the text says how."""


class Aws:
    """The double at an address of the loopback, in one region.

    Args:
        endpoint: Its URL.
        region: The region, as in `us-east-1`.
    """

    def __init__(self, endpoint: str, region: str) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._region = region

    def nodes(self) -> list[Json]:
        """Nodes that have joined and are not gone, of all clusters."""
        try:
            return page(self._endpoint, "GET", "nodes")["nodes"]
        except DoubleError as error:
            raise AwsError(str(error)) from error

    def groups(self, nodes: list[Json]) -> list[Group]:
        """The Auto Scaling groups of node groups.

        Args:
            nodes: What `nodes` said.
        """
        aws = self._client("autoscaling")
        answer = self._ask(aws.describe_auto_scaling_groups)
        machines = {str(node["instanceType"]): _machine(node["resources"]) for node in nodes}
        failed = self._failed_launches()
        groups: list[Group] = []
        for group in answer["AutoScalingGroups"]:
            tags = {tag["Key"]: tag["Value"] for tag in group["Tags"]}
            if "eks:nodegroup-name" not in tags:
                continue
            name = str(group["AutoScalingGroupName"])
            instances = {instance["InstanceId"] for instance in group["Instances"]}
            its_type = self._instance_type(tags["eks:cluster-name"], tags["eks:nodegroup-name"])
            groups.append(
                Group(
                    name=name,
                    least=int(group["MinSize"]),
                    most=int(group["MaxSize"]),
                    desired=int(group["DesiredCapacity"]),
                    tags=tags,
                    machine=machines.get(its_type) or self._machine_of(its_type),
                    existing=frozenset(
                        str(node["name"])
                        for node in nodes
                        if node["instanceId"] in instances and node["state"] == "Ready"
                    ),
                    failed=failed.get(name, frozenset()),
                )
            )
        return groups

    def ask_for(self, group: str, nodes: int) -> None:
        """Sets how many nodes a group shall have."""
        aws = self._client("autoscaling")
        self._ask(aws.set_desired_capacity, AutoScalingGroupName=group, DesiredCapacity=nodes)

    def end(self, instance: str) -> None:
        """Ends one instance, so that its group gets smaller."""
        aws = self._client("autoscaling")
        self._ask(
            aws.terminate_instance_in_auto_scaling_group,
            InstanceId=instance,
            ShouldDecrementDesiredCapacity=True,
        )

    def networks(self) -> list[str]:
        """The networks of all VPCs but the one that every account has."""
        vpcs: list[Json] = self._ask(self._client("ec2").describe_vpcs)["Vpcs"]
        return sorted(str(vpc["CidrBlock"]) for vpc in vpcs if not vpc["IsDefault"])

    def balanced_ports(self) -> dict[int, int]:
        """Port of each listener of an internal load balancer to the port of the nodes that it leads to."""
        aws = self._client("elbv2")
        targets = {
            str(group["TargetGroupArn"]): int(group["Port"])
            for group in self._ask(aws.describe_target_groups)["TargetGroups"]
        }
        ports: dict[int, int] = {}
        for balancer in self._ask(aws.describe_load_balancers)["LoadBalancers"]:
            listeners = self._ask(aws.describe_listeners, LoadBalancerArn=balancer["LoadBalancerArn"])
            for listener in listeners["Listeners"]:
                arn = str(listener["DefaultActions"][0].get("TargetGroupArn"))
                if balancer["Scheme"] == "internal" and arn in targets:
                    ports[int(listener["Port"])] = targets[arn]
        return ports

    def _failed_launches(self) -> dict[str, frozenset[str]]:
        told = self._ask(self._client("autoscaling").describe_scaling_activities)
        found: dict[str, frozenset[str]] = {}
        for one in told["Activities"]:
            if one["StatusCode"] == "Failed":
                name = str(one["AutoScalingGroupName"])
                found[name] = found.get(name, frozenset()) | {str(one["ActivityId"])}
        return found

    def _instance_type(self, cluster: str, group: str) -> str:
        aws = self._client("eks")
        found = self._ask(aws.describe_nodegroup, clusterName=cluster, nodegroupName=group)["nodegroup"]
        if named := found.get("instanceTypes"):
            return str(named[0])
        template: Mapping[str, str] = found["launchTemplate"]
        versions = self._ask(
            self._client("ec2").describe_launch_template_versions,
            LaunchTemplateId=template["id"],
            Versions=[str(template["version"])],
        )
        return str(versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]["InstanceType"])

    def _machine_of(self, instance_type: str) -> dict[str, float]:
        aws = self._client("ec2")
        found = self._ask(aws.describe_instance_types, InstanceTypes=[instance_type])["InstanceTypes"][0]
        memory = found["MemoryInfo"]["SizeInMiB"] * 2**20
        return {"cpu": float(found["VCpuInfo"]["DefaultVCpus"]), "memory": float(memory)}

    def _client(self, service: str) -> Any:
        return client(service, self._endpoint, self._region)

    def _ask(self, call: Any, **request: Any) -> Json:
        try:
            return call(**request)
        except (BotoCoreError, ClientError) as error:
            raise AwsError(str(error)) from error


def _machine(resources: Mapping[str, str]) -> dict[str, float]:
    return {
        name: float(cpus(amount) if name == "cpu" else memory_bytes(amount))
        for name, amount in resources.items()
    }
