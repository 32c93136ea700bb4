"""The questions that a look for leftovers asks of AWS: one for each kind of thing, of its own service."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from runtime.ops.teardown import endpoint_questions, gateway_questions
from runtime.ops.teardown.asked_cloud import AskedCloud
from runtime.ops.teardown.findings import Finding, Tags
from runtime.pricing import (
    COMPOSITE_ALARM,
    CONTROL_PLANE,
    DASHBOARD,
    GP3_GIB,
    INTERFACE_ENDPOINT,
    KMS_KEY,
    LOAD_BALANCER,
    METRIC_ALARM,
    NAT_GATEWAY,
    VPN_CONNECTION,
)
from runtime.tenure import STACK_TAG


def _instances(sweep: AskedCloud) -> Iterator[Finding]:
    for reservation in sweep.pages("ec2", "describe_instances", "Reservations"):
        for one in reservation["Instances"]:
            if one["State"]["Name"] != "terminated" and sweep.is_ours(Tags.read(one.get("Tags"))):
                yield sweep.find(
                    "instance",
                    one["InstanceId"],
                    f"{one['InstanceType']}, {one['State']['Name']}",
                    price_item=one["InstanceType"],
                    billed=one["State"]["Name"] in ("pending", "running", "stopping"),
                )


def _volumes(sweep: AskedCloud) -> Iterator[Finding]:
    for one in sweep.ec2("describe_volumes", "Volumes", "VolumeId"):
        if one["State"] != "deleted":
            gp3 = one.get("VolumeType") == "gp3"
            yield sweep.find(
                "volume",
                one["VolumeId"],
                f"{one['Size']} GiB {one.get('VolumeType', '')}, {one['AvailabilityZone']}",
                price_item=GP3_GIB if gp3 else None,
                amount=Decimal(one["Size"]),
            )


def _snapshots(sweep: AskedCloud) -> Iterator[Finding]:
    for one in sweep.pages("ec2", "describe_snapshots", "Snapshots", OwnerIds=["self"]):
        if sweep.is_ours(Tags.read(one.get("Tags"))):
            yield sweep.find("snapshot", one["SnapshotId"], f"{one['VolumeSize']} GiB")


def _addresses(sweep: AskedCloud) -> Iterator[Finding]:
    for one in sweep.ec2("describe_addresses", "Addresses", "AllocationId", "aws:ec2/eip:Eip"):
        yield sweep.find("address", one["AllocationId"], one.get("PublicIp", ""))


def _interfaces(sweep: AskedCloud) -> Iterator[Finding]:
    # SageMaker and ECS put no tags of the stack's on theirs, but its security groups.
    groups = set(sweep.cloud.ids("aws:ec2/securityGroup:SecurityGroup"))
    for one in sweep.pages("ec2", "describe_network_interfaces", "NetworkInterfaces"):
        in_ours = groups & {str(group["GroupId"]) for group in one.get("Groups") or ()}
        if in_ours or sweep.is_ours(Tags.read(one.get("TagSet"))):
            yield sweep.find("network interface", one["NetworkInterfaceId"], one["Status"], billed=False)


def _nat_gateways(sweep: AskedCloud) -> Iterator[Finding]:
    for one in sweep.ec2(
        "describe_nat_gateways", "NatGateways", "NatGatewayId", "aws:ec2/natGateway:NatGateway"
    ):
        if one["State"] != "deleted":
            ending = one["State"] == "deleting"
            yield sweep.find(
                "NAT gateway",
                one["NatGatewayId"],
                one["State"],
                price_item=NAT_GATEWAY,
                state="ending" if ending else "left",
            )


def _endpoints(sweep: AskedCloud) -> Iterator[Finding]:
    for one in sweep.ec2(
        "describe_vpc_endpoints", "VpcEndpoints", "VpcEndpointId", "aws:ec2/vpcEndpoint:VpcEndpoint"
    ):
        state = str(one.get("State", "")).lower()
        if state != "deleted":
            interface = one["VpcEndpointType"] == "Interface"
            yield sweep.find(
                "VPC endpoint",
                one["VpcEndpointId"],
                f"{one['ServiceName']}, {state}",
                billed=interface,
                price_item=INTERFACE_ENDPOINT,
                amount=Decimal(len(one.get("SubnetIds") or [1])),
                state="ending" if state == "deleting" else "left",
            )


def _vpn(sweep: AskedCloud) -> Iterator[Finding]:
    for one in sweep.ec2(
        "describe_vpn_connections", "VpnConnections", "VpnConnectionId", "aws:ec2/vpnConnection:VpnConnection"
    ):
        if one["State"] not in ("deleted", "deleting"):
            yield sweep.find(
                "VPN connection", one["VpnConnectionId"], one["State"], price_item=VPN_CONNECTION
            )


def _of_ec2(
    kind: str, call: str, key: str, id_: str, type_: str = "", *, billed: bool = False
) -> Callable[[AskedCloud], Iterator[Finding]]:
    def ask(sweep: AskedCloud) -> Iterator[Finding]:
        for one in sweep.ec2(call, key, id_, type_):
            if one.get("State") not in ("deleted", "cancelled", "expired"):
                yield sweep.find(
                    kind, one[id_], str(one.get("GroupName") or one.get("CidrBlock") or ""), billed=billed
                )

    return ask


def _clusters(sweep: AskedCloud) -> Iterator[Finding]:
    for name in sweep.pages("eks", "list_clusters", "clusters"):
        described = sweep.exists("eks", "describe_cluster", name=name)
        cluster = (described or {}).get("cluster")
        if cluster and (name in sweep.cloud.clusters or sweep.is_ours(Tags.read(cluster.get("tags")))):
            ending = cluster.get("status") == "DELETING"
            yield sweep.find(
                "EKS cluster",
                name,
                f"{cluster.get('version', '')}, {cluster.get('status', '')}",
                price_item=CONTROL_PLANE,
                state="left" if not ending else "ending",
            )
            for group in sweep.pages("eks", "list_nodegroups", "nodegroups", clusterName=name):
                found = sweep.exists("eks", "describe_nodegroup", clusterName=name, nodegroupName=group)
                status = (found or {}).get("nodegroup", {}).get("status", "gone")
                yield sweep.find("node group", f"{name}/{group}", status, billed=False)


def _scaling_groups(sweep: AskedCloud) -> Iterator[Finding]:
    for one in sweep.pages("autoscaling", "describe_auto_scaling_groups", "AutoScalingGroups"):
        if sweep.is_ours(Tags.read(one["Tags"])):
            size = f"{one['DesiredCapacity']} of at most {one['MaxSize']} instances"
            yield sweep.find("Auto Scaling group", one["AutoScalingGroupName"], size, billed=False)


def _balancers(sweep: AskedCloud) -> Iterator[Finding]:
    known = set(sweep.cloud.ids("aws:lb/loadBalancer:LoadBalancer"))
    for one in _tagged_balancers(sweep, "describe_load_balancers", "LoadBalancers", "LoadBalancerArn", known):
        network = one["Type"] == "network"
        yield sweep.find(
            "load balancer",
            one["LoadBalancerArn"],
            f"{one['LoadBalancerName']}, {one['Type']}",
            price_item=LOAD_BALANCER if network else None,
        )


def _target_groups(sweep: AskedCloud) -> Iterator[Finding]:
    known = set(sweep.cloud.ids("aws:lb/targetGroup:TargetGroup"))
    for one in _tagged_balancers(sweep, "describe_target_groups", "TargetGroups", "TargetGroupArn", known):
        yield sweep.find("target group", one["TargetGroupArn"], one["TargetGroupName"], billed=False)


def _tagged_balancers(
    sweep: AskedCloud, call: str, key: str, arn: str, known: set[str]
) -> Iterator[dict[str, Any]]:
    listed = list(sweep.pages("elbv2", call, key))
    for start in range(0, len(listed), _TAGS_AT_ONCE):
        some = {str(one[arn]): one for one in listed[start : start + _TAGS_AT_ONCE]}
        described = sweep.clients("elbv2").describe_tags(ResourceArns=list(some))["TagDescriptions"]
        for one in described:
            if one["ResourceArn"] in known or sweep.is_ours(Tags.read(one.get("Tags"))):
                yield some[one["ResourceArn"]]


# What DescribeTags of either load balancing API takes at once.
_TAGS_AT_ONCE = 20


def _classic_balancers(sweep: AskedCloud) -> Iterator[Finding]:
    names = [
        str(one["LoadBalancerName"])
        for one in sweep.pages("elb", "describe_load_balancers", "LoadBalancerDescriptions")
    ]
    for start in range(0, len(names), _TAGS_AT_ONCE):
        some = names[start : start + _TAGS_AT_ONCE]
        for one in sweep.clients("elb").describe_tags(LoadBalancerNames=some)["TagDescriptions"]:
            if sweep.is_ours(Tags.read(one.get("Tags"))):
                yield sweep.find("classic load balancer", one["LoadBalancerName"])


def _buckets(sweep: AskedCloud) -> Iterator[Finding]:
    known = set(sweep.cloud.ids("aws:s3/bucket:Bucket"))
    prefix = f"{sweep.cloud.platform}-"
    for one in sweep.pages("s3", "list_buckets", "Buckets"):
        name = str(one["Name"])
        ours = name in known
        if not ours and sweep.cloud.platform and name.startswith(prefix):
            tags = sweep.exists("s3", "get_bucket_tagging", Bucket=name)
            ours = tags is not None and sweep.is_ours(Tags.read(tags.get("TagSet")))
        if ours:
            yield sweep.find("bucket", name, "what is in it is billed by size")


def _repositories(sweep: AskedCloud) -> Iterator[Finding]:
    known = set(sweep.cloud.ids("aws:ecr/repository:Repository"))
    for one in sweep.pages("ecr", "describe_repositories", "repositories"):
        name = str(one["repositoryName"])
        if name in known or (sweep.cloud.platform and name.startswith(f"{sweep.cloud.platform}/")):
            yield sweep.find("image repository", name, "images in it are billed by size")


def _log_groups(sweep: AskedCloud) -> Iterator[Finding]:
    known = {*sweep.cloud.ids("aws:cloudwatch/logGroup:LogGroup"), *_groups_of_services(sweep)}
    # EKS and Container Insights make theirs again, without tags, when a cluster's last words come late.
    made = tuple(
        f"/aws/{kind}/{name}/" for name in sweep.cloud.clusters for kind in ("eks", "containerinsights")
    )
    if not sweep.cloud.resources:  # nobody knows the names any more, but how they begin
        made += tuple(f"{one}{sweep.cloud.platform}-" for one in (_OF_ENDPOINTS, _OF_COMPONENTS))
    for one in sweep.pages("logs", "describe_log_groups", "logGroups"):
        name = str(one["logGroupName"])
        if name in known or (made and name.startswith(made)):
            yield sweep.find("log group", name, f"{one.get('storedBytes', 0)} bytes")


_OF_ENDPOINTS, _OF_COMPONENTS = "/aws/sagemaker/Endpoints/", "/aws/sagemaker/InferenceComponents/"


def _groups_of_services(sweep: AskedCloud) -> Iterator[str]:
    """What SageMaker and Container Insights make themselves, without tags, and again after a late word."""
    yield from (f"{_OF_ENDPOINTS}{name}" for name in sweep.cloud.ids(endpoint_questions.ENDPOINT))
    for id_ in sweep.cloud.ids(endpoint_questions.COMPONENT):
        yield f"{_OF_COMPONENTS}{id_.rpartition('/')[2]}"
    for arn in sweep.cloud.ids(gateway_questions.CLUSTER):
        yield f"/aws/ecs/containerinsights/{arn.rpartition('/')[2]}/performance"


def _keys(sweep: AskedCloud) -> Iterator[Finding]:
    for key in dict.fromkeys([*sweep.cloud.ids("aws:kms/key:Key"), *_tagged_keys(sweep)]):
        found = sweep.exists("kms", "describe_key", KeyId=key)
        if found is None:
            continue
        state, gone = found["KeyMetadata"]["KeyState"], found["KeyMetadata"].get("DeletionDate")
        if state == "PendingDeletion":
            until = f"deleted on {gone:%Y-%m-%d}, can be had back until then" if gone else state
            yield sweep.find("KMS key", key, until, state="ending")
        else:
            yield sweep.find("KMS key", key, state, price_item=KMS_KEY)


def _tagged_keys(sweep: AskedCloud) -> Iterator[str]:
    """Keys with the stack's tags. KMS tells tags key by key only; the tagging API names them, gone or not."""
    if not sweep.cloud.stack:
        return
    tags = [{"Key": STACK_TAG, "Values": [sweep.cloud.stack]}]
    call, asked = "get_resources", {"TagFilters": tags, "ResourceTypeFilters": ["kms"]}
    for one in sweep.pages("resourcegroupstaggingapi", call, "ResourceTagMappingList", **asked):
        if sweep.is_ours(Tags.read(one.get("Tags"))):
            yield str(one["ResourceARN"]).rpartition("/")[2]


def _budgets(sweep: AskedCloud) -> Iterator[Finding]:
    names = {id_.rpartition(":")[2] for id_ in sweep.cloud.ids("aws:budgets/budget:Budget")}
    for one in sweep.pages("budgets", "describe_budgets", "Budgets", AccountId=sweep.cloud.account):
        if one["BudgetName"] in names:
            yield sweep.find("budget", one["BudgetName"], billed=False)


def _roles(sweep: AskedCloud) -> Iterator[Finding]:
    for name in sweep.cloud.ids("aws:iam/role:Role"):
        if sweep.exists("iam", "get_role", RoleName=name) is not None:
            yield sweep.find("IAM role", name, billed=False)


def _queues(sweep: AskedCloud) -> Iterator[Finding]:
    known = set(sweep.cloud.ids("aws:sqs/queue:Queue"))
    for url in sweep.pages("sqs", "list_queues", "QueueUrls"):
        if url in known:
            yield sweep.find("queue", url, billed=False)


def _topics(sweep: AskedCloud) -> Iterator[Finding]:
    known = set(sweep.cloud.ids("aws:sns/topic:Topic"))
    for one in sweep.pages("sns", "list_topics", "Topics"):
        arn = str(one["TopicArn"])
        if arn in known or (_has_our_name(sweep, arn) and _has_our_tags(sweep, "sns", ResourceArn=arn)):
            yield sweep.find("topic", one["TopicArn"], billed=False)


def _subscriptions(sweep: AskedCloud) -> Iterator[Finding]:
    # By the topic too: one that nobody confirmed yet has no name of its own.
    known = set(sweep.cloud.ids("aws:sns/topicSubscription:TopicSubscription"))
    topics = set(sweep.cloud.ids("aws:sns/topic:Topic"))
    for one in sweep.pages("sns", "list_subscriptions", "Subscriptions"):
        if one["SubscriptionArn"] in known or one["TopicArn"] in topics:
            id_ = f"{one['SubscriptionArn']} of {one['Endpoint']} to {one['TopicArn']}"
            yield sweep.find("subscription", id_, str(one["Protocol"]), billed=False)


def _alarms(sweep: AskedCloud) -> Iterator[Finding]:
    known = set(sweep.cloud.ids("aws:cloudwatch/metricAlarm:MetricAlarm"))
    # A policy of Application Auto Scaling makes two of its own, which go with it.
    made = tuple(f"TargetTracking-{one}-Alarm" for one in sweep.cloud.ids("aws:appautoscaling/target:Target"))
    asked = {"AlarmTypes": ["MetricAlarm"]}
    for one in sweep.pages("cloudwatch", "describe_alarms", "MetricAlarms", **asked):
        if _is_our_alarm(sweep, one, known) or (made and one["AlarmName"].startswith(made)):
            yield sweep.find("alarm", one["AlarmName"], price_item=METRIC_ALARM)


def _is_our_alarm(sweep: AskedCloud, alarm: Mapping[str, Any], known: set[str]) -> bool:
    arn = str(alarm["AlarmArn"])
    named = alarm["AlarmName"] in known
    return named or (_has_our_name(sweep, arn) and _has_our_tags(sweep, "cloudwatch", ResourceARN=arn))


def _has_our_name(sweep: AskedCloud, arn: str) -> bool:
    """Whether it is called as the stack calls things; tags are a call for each, and are asked of no other."""
    return arn.rpartition(":")[2].startswith(f"{sweep.cloud.platform}-")


def _has_our_tags(sweep: AskedCloud, service: str, **arn: str) -> bool:
    found = sweep.exists(service, "list_tags_for_resource", **arn)
    return found is not None and sweep.is_ours(Tags.read(found.get("Tags")))


def _composite_alarms(sweep: AskedCloud) -> Iterator[Finding]:
    known = set(sweep.cloud.ids("aws:cloudwatch/compositeAlarm:CompositeAlarm"))
    asked = {"AlarmTypes": ["CompositeAlarm"]}
    for one in sweep.pages("cloudwatch", "describe_alarms", "CompositeAlarms", **asked):
        if _is_our_alarm(sweep, one, known):
            yield sweep.find("composite alarm", one["AlarmName"], price_item=COMPOSITE_ALARM)


def _dashboards(sweep: AskedCloud) -> Iterator[Finding]:
    known = set(sweep.cloud.ids("aws:cloudwatch/dashboard:Dashboard"))
    for one in sweep.pages("cloudwatch", "list_dashboards", "DashboardEntries"):
        if one["DashboardName"] in known:
            yield sweep.find("dashboard", one["DashboardName"], price_item=DASHBOARD)


def _file_systems(sweep: AskedCloud) -> Iterator[Finding]:
    for one in sweep.pages("efs", "describe_file_systems", "FileSystems"):
        if sweep.is_ours(Tags.read(one.get("Tags"))):
            yield sweep.find("file system", one["FileSystemId"])


ONLY_THE_STATE_KNEW = " that the state knew"
"""How a question ends that asks by ids from the state, and finds nothing without one."""

Question = tuple[str, str, Callable[[AskedCloud], Iterator[Finding]]]
QUESTIONS: Sequence[Question] = (
    ("ec2", "instances", _instances),
    ("ec2", "volumes", _volumes),
    ("ec2", "snapshots", _snapshots),
    ("ec2", "addresses", _addresses),
    ("ec2", "network interfaces", _interfaces),
    ("ec2", "NAT gateways", _nat_gateways),
    ("ec2", "VPC endpoints", _endpoints),
    ("ec2", "VPN connections", _vpn),
    (
        "ec2",
        "VPN gateways",
        _of_ec2(
            "VPN gateway",
            "describe_vpn_gateways",
            "VpnGateways",
            "VpnGatewayId",
            "aws:ec2/vpnGateway:VpnGateway",
        ),
    ),
    (
        "ec2",
        "launch templates",
        _of_ec2(
            "launch template",
            "describe_launch_templates",
            "LaunchTemplates",
            "LaunchTemplateId",
            "aws:ec2/launchTemplate:LaunchTemplate",
        ),
    ),
    (
        "ec2",
        "security groups",
        _of_ec2(
            "security group",
            "describe_security_groups",
            "SecurityGroups",
            "GroupId",
            "aws:ec2/securityGroup:SecurityGroup",
        ),
    ),
    ("ec2", "subnets", _of_ec2("subnet", "describe_subnets", "Subnets", "SubnetId", "aws:ec2/subnet:Subnet")),
    ("ec2", "VPCs", _of_ec2("VPC", "describe_vpcs", "Vpcs", "VpcId", "aws:ec2/vpc:Vpc")),
    (
        "ec2",
        "internet gateways",
        _of_ec2(
            "internet gateway",
            "describe_internet_gateways",
            "InternetGateways",
            "InternetGatewayId",
            "aws:ec2/internetGateway:InternetGateway",
        ),
    ),
    ("eks", "clusters and node groups", _clusters),
    ("autoscaling", "Auto Scaling groups", _scaling_groups),
    ("elbv2", "load balancers", _balancers),
    ("elbv2", "target groups", _target_groups),
    ("elb", "classic load balancers", _classic_balancers),
    ("sagemaker", "endpoints and their machines", endpoint_questions.endpoints),
    ("sagemaker", "inference components", endpoint_questions.components),
    ("sagemaker", "endpoint configurations", endpoint_questions.configurations),
    ("sagemaker", "models", endpoint_questions.models),
    ("sagemaker", "jobs that run", endpoint_questions.jobs),
    ("sagemaker", "model package groups", endpoint_questions.package_groups),
    ("sagemaker", "notebooks", endpoint_questions.notebooks),
    (
        "application-autoscaling",
        f"targets{ONLY_THE_STATE_KNEW}",
        endpoint_questions.scaling_targets,
    ),
    (
        "application-autoscaling",
        f"scheduled actions{ONLY_THE_STATE_KNEW}",
        endpoint_questions.scheduled_actions,
    ),
    ("ecs", "clusters, services and tasks", gateway_questions.container_clusters),
    ("ecs", "task definitions", gateway_questions.task_definitions),
    ("secretsmanager", "secrets", gateway_questions.secrets),
    ("s3", "buckets", _buckets),
    ("ecr", "repositories", _repositories),
    ("logs", "log groups", _log_groups),
    ("kms", "keys", _keys),
    ("efs", "file systems", _file_systems),
    ("cloudwatch", "alarms", _alarms),
    ("cloudwatch", "composite alarms", _composite_alarms),
    ("cloudwatch", f"dashboards{ONLY_THE_STATE_KNEW}", _dashboards),
    ("budgets", f"budgets{ONLY_THE_STATE_KNEW}", _budgets),
    ("iam", f"roles{ONLY_THE_STATE_KNEW}", _roles),
    ("sqs", f"queues{ONLY_THE_STATE_KNEW}", _queues),
    ("sns", "topics", _topics),
    ("sns", f"subscriptions{ONLY_THE_STATE_KNEW}", _subscriptions),
)
"""Service, what is asked, and how: the whole list of what a certificate's AWS side stands on."""

OF_CLUSTERS = frozenset({"eks", "autoscaling", "elb", "efs"})
"""Services that only a stack with an EKS cluster has anything of; no other has to be allowed to ask them."""
