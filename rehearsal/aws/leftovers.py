"""What is left in the double's account, whosever it is: what a certificate of a teardown is judged by."""

from typing import Any

from rehearsal.aws import ACCOUNT
from rehearsal.aws.clients import client, page

# What costs money or keeps a VPC from being deleted: service, call, list in the answer, name in an item.
_LISTS: tuple[tuple[str, str, str, str], ...] = (
    ("eks", "list_clusters", "clusters", ""),
    ("autoscaling", "describe_auto_scaling_groups", "AutoScalingGroups", "AutoScalingGroupName"),
    ("ec2", "describe_vpcs", "Vpcs", "VpcId"),
    ("ec2", "describe_subnets", "Subnets", "SubnetId"),
    ("ec2", "describe_nat_gateways", "NatGateways", "NatGatewayId"),
    ("ec2", "describe_addresses", "Addresses", "AllocationId"),
    ("ec2", "describe_vpc_endpoints", "VpcEndpoints", "VpcEndpointId"),
    ("ec2", "describe_security_groups", "SecurityGroups", "GroupId"),
    ("ec2", "describe_launch_templates", "LaunchTemplates", "LaunchTemplateId"),
    ("ec2", "describe_volumes", "Volumes", "VolumeId"),
    ("ec2", "describe_vpn_connections", "VpnConnections", "VpnConnectionId"),
    ("elbv2", "describe_load_balancers", "LoadBalancers", "LoadBalancerArn"),
    ("elbv2", "describe_target_groups", "TargetGroups", "TargetGroupArn"),
    ("ecs", "list_task_definitions", "taskDefinitionArns", ""),
    ("secretsmanager", "list_secrets", "SecretList", "Name"),
    ("iam", "list_roles", "Roles", "RoleName"),
    ("kms", "list_keys", "Keys", "KeyId"),
    ("s3", "list_buckets", "Buckets", "Name"),
    ("ecr", "describe_repositories", "repositories", "repositoryName"),
    ("logs", "describe_log_groups", "logGroups", "logGroupName"),
    ("sns", "list_topics", "Topics", "TopicArn"),
    ("sqs", "list_queues", "QueueUrls", ""),
    ("sagemaker", "list_endpoints", "Endpoints", "EndpointName"),
    ("sagemaker", "list_endpoint_configs", "EndpointConfigs", "EndpointConfigName"),
    ("sagemaker", "list_models", "Models", "ModelName"),
    ("sagemaker", "list_model_package_groups", "ModelPackageGroupSummaryList", "ModelPackageGroupName"),
    ("sagemaker", "list_inference_components", "InferenceComponents", "InferenceComponentName"),
    ("cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName"),
    ("cloudwatch", "list_dashboards", "DashboardEntries", "DashboardName"),
)


def leftovers(endpoint: str, region: str = "us-east-1") -> list[str]:
    """Lists what is left, one line for each thing.

    The VPC that every account has, and what is in it, is not counted, nor keys that wait for their deletion.

    Args:
        endpoint: The double.
        region: The region to look in.

    Raises:
        DoubleError: The double does not answer.
    """
    lines = stored(endpoint)
    default = _default_vpcs(endpoint, region)
    for service, call, place, name in _LISTS:
        found: list[Any] = getattr(client(service, endpoint, region), call)().get(place, [])
        lines += [
            f"{service} {item[name] if name else item}"
            for item in found
            if not name or not _is_normal(item, default, endpoint, region)
        ]
    instances = client("ec2", endpoint, region).describe_instances()["Reservations"]
    lines += [
        f"ec2 {instance['InstanceId']} ({instance['InstanceType']})"
        for reservation in instances
        for instance in reservation["Instances"]
        if instance["State"]["Name"] != "terminated"
    ]
    lines += _ecs(endpoint, region)
    budgets = client("budgets", endpoint, region).describe_budgets(AccountId=ACCOUNT)["Budgets"]
    return lines + [f"budgets {budget['BudgetName']}" for budget in budgets]


def _ecs(endpoint: str, region: str) -> list[str]:
    """Clusters and services that are there; deleted ones are listed for a while."""
    ecs = client("ecs", endpoint, region)
    lines: list[str] = []
    for arn in ecs.list_clusters()["clusterArns"]:
        clusters: list[Any] = ecs.describe_clusters(clusters=[arn])["clusters"]
        lines += [f"ecs {one['clusterName']}" for one in clusters if one["status"] == "ACTIVE"]
        for service in ecs.list_services(cluster=arn)["serviceArns"]:
            services: list[Any] = ecs.describe_services(cluster=arn, services=[service])["services"]
            lines += [f"ecs service {one['serviceName']}" for one in services if one["status"] == "ACTIVE"]
    return lines


def stored(endpoint: str) -> list[str]:
    """What the stand-in provider keeps, one line for each thing.

    Raises:
        DoubleError: The double does not answer.
    """
    return [
        f"{record['type']} {record['id']} (in the provider's store, {record['urn']})"
        for record in page(endpoint, "GET", "store")["resources"]
    ]


def _default_vpcs(endpoint: str, region: str) -> set[str]:
    vpcs = client("ec2", endpoint, region).describe_vpcs()["Vpcs"]
    return {vpc["VpcId"] for vpc in vpcs if vpc["IsDefault"]}


def _is_normal(item: dict[str, Any], default: set[str], endpoint: str, region: str) -> bool:
    """Whether it is no leftover: of the default VPC, or gone as far as AWS lets it go at once."""
    if item.get("VpcId") in default or item.get("State") == "deleted":
        return True
    if "KeyArn" in item:
        key = client("kms", endpoint, region).describe_key(KeyId=item["KeyId"])["KeyMetadata"]
        return key["KeyState"] == "PendingDeletion" or key["KeyManager"] == "AWS"
    # The default security group of a VPC goes with the VPC, which is listed itself.
    return item.get("GroupName") == "default"
