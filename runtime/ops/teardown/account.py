"""The AWS side of a stack: whose account it is, its GPU nodes' end, and what holds a network."""

import http
from collections.abc import Callable, Iterator
from typing import Any

import boto3  # pyright: ignore[reportMissingTypeStubs]
from botocore.config import Config  # pyright: ignore[reportMissingTypeStubs]
from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]

from runtime.instances import INSTANCES
from runtime.ops.progress import Step
from runtime.ops.teardown.ledger import Cloud
from runtime.ops.teardown.waiting import Patience, StepError

# boto3 makes the classes of its clients at run time, so there are no types to name.
Clients = Callable[[str], Any]
"""Gives the boto3 client of a service, as `ec2`."""

_CONFIG = Config(connect_timeout=5, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 4})
_LIVE = ["pending", "running", "shutting-down", "stopping", "stopped"]
# SageMaker has no code for it: a ValidationException says "Could not find endpoint …".
_ABSENT = ("NotFound", "ResourceNotFoundException", "NoSuchEntity", "does not exist", "Could not find")
_GPU_TAG = "k8s.io/cluster-autoscaler/node-template/resources/nvidia.com/gpu"


class AccountError(Exception):
    """The account is another one, or cannot be asked; the text is the whole message."""


def boto3_clients(cloud: Cloud) -> Clients:
    """Clients with the caller's own credentials, or in the stack's role."""
    made: dict[str, Any] = {}
    session: Any = boto3.Session(region_name=cloud.region)
    if cloud.role_arn is not None:
        external = {"ExternalId": cloud.external_id} if cloud.external_id else {}
        keys = session.client("sts", config=_CONFIG).assume_role(
            RoleArn=cloud.role_arn, RoleSessionName="spillway-teardown", **external
        )["Credentials"]
        session = boto3.Session(
            aws_access_key_id=keys["AccessKeyId"],
            aws_secret_access_key=keys["SecretAccessKey"],
            aws_session_token=keys["SessionToken"],
            region_name=cloud.region,
        )

    def client(service: str) -> Any:
        if service not in made:
            made[service] = session.client(service, config=_CONFIG)
        return made[service]

    return client


class LiveCloud:
    """An account and region that a stack has something in.

    Args:
        cloud: What the stack has there.
        clients: How to ask.
    """

    def __init__(self, cloud: Cloud, clients: Clients) -> None:
        self.cloud = cloud
        self.clients = clients

    def require_account(self) -> None:
        """Refuses credentials of another account, or none at all.

        Raises:
            AccountError: With the account that it has to be.
        """
        try:
            caller = str(self.clients("sts").get_caller_identity()["Account"])
        except (BotoCoreError, ClientError) as error:
            raise AccountError(
                f"AWS cannot be asked whose credentials these are ({error}); nothing is touched. Log in to "
                f"account {self.cloud.account}, and run the command again"
            ) from None
        if caller != self.cloud.account:
            raise AccountError(
                f"the credentials are of account {caller}, and the stack is in {self.cloud.account}; nothing "
                f"is touched. Use those of {self.cloud.account}"
            )

    def has_cluster(self, name: str) -> bool:
        """Whether an EKS cluster is there, whatever its state.

        Raises:
            ClientError, BotoCoreError: AWS cannot be asked.
        """
        try:
            self.clients("eks").describe_cluster(name=name)
        except ClientError as error:
            if is_absent(error):
                return False
            raise
        return True

    def protected_clusters(self) -> list[str]:
        """EKS clusters with deletion protection."""
        found: list[str] = []
        for name in self.cloud.clusters:
            try:
                described = self.clients("eks").describe_cluster(name=name)["cluster"]
            except ClientError as error:
                if is_absent(error):
                    continue
                raise
            if described.get("deletionProtection"):
                found.append(name)
        return found

    def stop_gpu_groups(self) -> list[str]:
        """Sets the size of every Auto Scaling group of GPU nodes to 0 at most, and names them.

        EKS itself takes no maximum below 1, so the group behind a node group is told.
        """
        autoscaling, done = self.clients("autoscaling"), list[str]()
        for group in self._gpu_groups():
            name = str(group["AutoScalingGroupName"])
            if group["MaxSize"] or group["DesiredCapacity"]:
                autoscaling.update_auto_scaling_group(
                    AutoScalingGroupName=name, MinSize=0, MaxSize=0, DesiredCapacity=0
                )
            done.append(name)
        return done

    def _gpu_groups(self) -> Iterator[dict[str, Any]]:
        pages = self.clients("autoscaling").get_paginator("describe_auto_scaling_groups").paginate()
        for group in (one for page in pages for one in page["AutoScalingGroups"]):
            tags = {str(tag["Key"]): str(tag["Value"]) for tag in group["Tags"]}
            ours = any(
                tags.get("eks:cluster-name") == name or f"kubernetes.io/cluster/{name}" in tags
                for name in self.cloud.clusters
            )
            if ours and _GPU_TAG in tags:
                yield group

    def await_no_gpus(self, step: Step, patience: Patience) -> None:
        """Waits until no instance with GPUs of the stack's clusters is left. Raises StepError if one is."""

        def look() -> list[str]:
            return [
                f"{one['InstanceId']} ({one['InstanceType']}, {one['State']['Name']})"
                for one in self.instances()
                if (known := INSTANCES.get(str(one["InstanceType"]))) is None or known.gpus
            ]

        def why() -> list[str]:
            return [
                f"instance {one} does not end; see it in EC2, and run the same command again"
                for one in look()
            ]

        try:
            patience.until_none(step, look, why)
        except (ClientError, BotoCoreError) as error:
            raise StepError([f"AWS cannot be asked for GPU instances: {error}"]) from None

    def instances(self) -> list[dict[str, Any]]:
        """Instances of the stack's clusters that are not gone."""
        found: dict[str, dict[str, Any]] = {}
        states = {"Name": "instance-state-name", "Values": _LIVE}
        for name in self.cloud.clusters:
            for key in ("tag:eks:cluster-name", "tag:aws:eks:cluster-name", "tag:eks:eks-cluster-name"):
                self._instances(found, [states, {"Name": key, "Values": [name]}])
            self._instances(found, [states, {"Name": "tag-key", "Values": [f"kubernetes.io/cluster/{name}"]}])
        return list(found.values())

    def _instances(self, found: dict[str, dict[str, Any]], filters: list[dict[str, Any]]) -> None:
        pages = self.clients("ec2").get_paginator("describe_instances").paginate(Filters=filters)
        for page in pages:
            for reservation in page["Reservations"]:
                found.update({str(one["InstanceId"]): one for one in reservation["Instances"]})

    def clear_network(self) -> list[str]:
        """Deletes what clusters leave in a network and nobody owns any more: loose interfaces and groups.

        Only those that bear a tag of one of the stack's clusters; an interface in use is never touched.

        Returns:
            What was deleted, one line each.
        """
        ec2, done = self.clients("ec2"), list[str]()
        for name in self.cloud.clusters:
            for tag in (
                f"kubernetes.io/cluster/{name}",
                "cluster.k8s.amazonaws.com/name",
                "elbv2.k8s.aws/cluster",
            ):
                owned = [{"Name": "tag-key", "Values": [tag]}]
                if not tag.startswith("kubernetes.io"):
                    owned = [{"Name": f"tag:{tag}", "Values": [name]}]
                loose = {"Name": "status", "Values": ["available"]}
                for one in _all(ec2, "describe_network_interfaces", "NetworkInterfaces", [*owned, loose]):
                    ec2.delete_network_interface(NetworkInterfaceId=one["NetworkInterfaceId"])
                    done.append(f"network interface {one['NetworkInterfaceId']}")
                if self.has_cluster(name):
                    continue  # its security groups are in use, and go with it
                for one in _all(ec2, "describe_security_groups", "SecurityGroups", owned):
                    if one["GroupId"] in self.cloud.ids("aws:ec2/securityGroup:SecurityGroup"):
                        continue
                    try:
                        ec2.delete_security_group(GroupId=one["GroupId"])
                        done.append(f"security group {one['GroupId']} ({one['GroupName']})")
                    except ClientError as error:
                        if error.response["Error"]["Code"] != "DependencyViolation":
                            raise
        return done


def is_absent(error: ClientError) -> bool:
    """Whether AWS says that there is no such thing."""
    response: dict[str, Any] = error.response
    said = f"{response['Error'].get('Code', '')} {response['Error'].get('Message', '')}"
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status == http.HTTPStatus.NOT_FOUND or any(word in said for word in _ABSENT)


def _all(client: Any, call: str, key: str, filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for page in client.get_paginator(call).paginate(Filters=filters) for one in page[key]]
