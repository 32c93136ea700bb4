"""ECS clusters, task definitions and services, made in moto. No container runs: tasks are counted only.

A task definition goes through the AWS SDK, which refuses what the API does not know.
"""

# Every handler has the same methods, with all parameters, needed or not.
# ruff: noqa: ARG002

import json
from typing import Any

from rehearsal.aws.clients import DoubleError
from rehearsal.aws.resources.kind import (
    Absent,
    Aws,
    Properties,
    camel,
    first,
    given,
    items,
    kind,
    name_of,
    part,
)


def _tags(inputs: Properties) -> Properties:
    # ECS alone writes keys and values of tags small.
    tags = [{"key": key, "value": value} for key, value in part(inputs, "tags").items()]
    return {"tags": tags} if tags else {}


class Cluster:
    """aws.ecs.Cluster. Its id is its ARN."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes one."""
        made = aws.client("ecs").create_cluster(
            clusterName=name_of(inputs), **given(inputs, settings="settings"), **_tags(inputs)
        )
        return str(made["cluster"]["clusterArn"])

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it; a deleted one is listed as such for a while."""
        found = aws.client("ecs").describe_clusters(clusters=[id_])["clusters"]
        cluster = first([one for one in found if one["status"] == "ACTIVE"])
        return {"name": cluster["clusterName"], "arn": id_}

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Changes its settings."""
        aws.client("ecs").update_cluster(cluster=id_, **given(new, settings="settings"))

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it; AWS refuses while it has services."""
        ecs = aws.client("ecs")
        for arn in ecs.list_services(cluster=id_)["serviceArns"]:
            # moto lists deleted services on.
            services: list[Any] = ecs.describe_services(cluster=id_, services=[arn])["services"]
            if any(one["status"] == "ACTIVE" for one in services):
                raise DoubleError(f"ClusterContainsServicesException: {id_} has services; delete them first")
        ecs.delete_cluster(cluster=id_)


class TaskDefinition:
    """aws.ecs.TaskDefinition. Its id is FAMILY:REVISION, in the provider the family alone."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Registers a revision."""
        made = aws.client("ecs").register_task_definition(
            containerDefinitions=json.loads(inputs["containerDefinitions"]),
            **_tags(inputs),
            **given(
                inputs,
                family="family",
                cpu="cpu",
                memory="memory",
                networkMode="networkMode",
                executionRoleArn="executionRoleArn",
                taskRoleArn="taskRoleArn",
                requiresCompatibilities="requiresCompatibilities",
                runtimePlatform="runtimePlatform",
                volumes="volumes",
            ),
        )
        definition = made["taskDefinition"]
        return f"{definition['family']}:{definition['revision']}"

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes the revision."""
        found = aws.client("ecs").describe_task_definition(taskDefinition=id_)["taskDefinition"]
        if found.get("status") == "INACTIVE":
            raise Absent
        arn = found["taskDefinitionArn"]
        return {
            "arn": arn,
            "arnWithoutRevision": arn.rpartition(":")[0],
            "family": found["family"],
            "revision": found["revision"],
            "networkMode": found.get("networkMode", ""),
        }

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Tags are in the state only."""

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Deregisters the revision."""
        self.read(aws, id_, known)
        aws.client("ecs").deregister_task_definition(taskDefinition=id_)


def _network(inputs: Properties) -> Properties:
    network = part(inputs, "networkConfiguration")
    if not network:
        return {}
    public = "ENABLED" if network.get("assignPublicIp") else "DISABLED"
    wanted = given(network, subnets="subnets", securityGroups="securityGroups")
    return {"networkConfiguration": {"awsvpcConfiguration": {**wanted, "assignPublicIp": public}}}


def _deployment(inputs: Properties) -> Properties:
    breaker = given(inputs, deploymentCircuitBreaker="deploymentCircuitBreaker")
    shares = given(
        inputs,
        minimumHealthyPercent="deploymentMinimumHealthyPercent",
        maximumPercent="deploymentMaximumPercent",
    )
    whole = {key: int(value) for key, value in shares.items()}
    return {"deploymentConfiguration": {**breaker, **whole}} if breaker or whole else {}


def _balancers(inputs: Properties) -> Properties:
    listed = [
        {
            **given(one, targetGroupArn="targetGroupArn", containerName="containerName"),
            "containerPort": int(one["containerPort"]),
        }
        for one in items(inputs, "loadBalancers")
    ]
    return {"loadBalancers": listed} if listed else {}


class Service:
    """aws.ecs.Service. Its id is its ARN. Its tasks run as soon as they are wished for."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes one, if the target groups that it names have a load balancer, as ECS asks."""
        self._check_balancers(aws, inputs)
        made = aws.client("ecs").create_service(
            serviceName=name_of(inputs),
            desiredCount=int(inputs.get("desiredCount") or 0),
            **self._wanted(inputs),
        )
        return str(made["service"]["serviceArn"])

    def _wanted(self, inputs: Properties) -> Properties:
        return {
            **given(
                inputs,
                cluster="cluster",
                taskDefinition="taskDefinition",
                launchType="launchType",
                platformVersion="platformVersion",
                propagateTags="propagateTags",
            ),
            **_network(inputs),
            **_deployment(inputs),
            **_balancers(inputs),
            **_tags(inputs),
        }

    def _check_balancers(self, aws: Aws, inputs: Properties) -> None:
        for one in items(inputs, "loadBalancers"):
            arn = one["targetGroupArn"]
            (group,) = aws.client("elbv2").describe_target_groups(TargetGroupArns=[arn])["TargetGroups"]
            if not group.get("LoadBalancerArns"):
                raise DoubleError(
                    f"InvalidParameterException: the target group {arn} does not have an associated load "
                    "balancer; the listener must be there before the service"
                )

    def _found(self, aws: Aws, id_: str, known: Properties) -> Any:
        cluster = known.get("cluster") or id_.split("/")[1]
        services = aws.client("ecs").describe_services(cluster=cluster, services=[id_])["services"]
        return first([one for one in services if one["status"] == "ACTIVE"])

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it."""
        service = self._found(aws, id_, known)
        live: Properties = {
            "name": service["serviceName"],
            "arn": id_,
            "cluster": service["clusterArn"],
            "desiredCount": service["desiredCount"],
            "taskDefinition": service["taskDefinition"],
        }
        if "launchType" in service:
            live["launchType"] = service["launchType"]
        return camel(live)

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Changes what it runs and where."""
        self._check_balancers(aws, new)
        own = ("launchType", "tags")
        wanted = {key: value for key, value in self._wanted(new).items() if key not in own}
        aws.client("ecs").update_service(service=id_, **wanted)

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Takes its tasks away and removes it."""
        cluster = self._found(aws, id_, known)["clusterArn"]
        aws.client("ecs").update_service(cluster=cluster, service=id_, desiredCount=0)
        aws.client("ecs").delete_service(cluster=cluster, service=id_)


KINDS = (
    kind("aws:ecs/cluster:Cluster", Cluster(), "name", "ecs.UpdateCluster", name_length=255),
    kind(
        "aws:ecs/taskDefinition:TaskDefinition",
        TaskDefinition(),
        "containerDefinitions family cpu memory networkMode executionRoleArn taskRoleArn runtimePlatform"
        " volumes requiresCompatibilities ephemeralStorage ipcMode pidMode placementConstraints"
        " proxyConfiguration enableFaultInjection",
        name_length=255,
    ),
    kind(
        "aws:ecs/service:Service",
        Service(),
        "name cluster launchType iamRole schedulingStrategy",
        "ecs.UpdateService",
        name_length=255,
    ),
)
