"""The questions that a look for leftovers asks of AWS: one for each kind of thing, of its own service."""

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from runtime.ops.teardown.asked_cloud import AskedCloud
from runtime.ops.teardown.findings import Finding, Tags
from runtime.pricing import (
    CONTROL_PLANE,
    GP3_GIB,
    INTERFACE_ENDPOINT,
    KMS_KEY,
    LOAD_BALANCER,
    NAT_GATEWAY,
    VPN_CONNECTION,
)


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
    for one in sweep.ec2("describe_network_interfaces", "NetworkInterfaces", "NetworkInterfaceId"):
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


def _sagemaker(sweep: AskedCloud) -> Iterator[Finding]:
    for kind, call, key, name in (
        ("SageMaker endpoint", "list_endpoints", "Endpoints", "EndpointName"),
        ("SageMaker notebook", "list_notebook_instances", "NotebookInstances", "NotebookInstanceName"),
    ):
        for one in sweep.pages("sagemaker", call, key):
            arn = str(one[name.replace("Name", "Arn")])
            tags = sweep.exists("sagemaker", "list_tags", ResourceArn=arn)
            if tags and sweep.is_ours(Tags.read(tags.get("Tags"))):
                status = one.get("EndpointStatus") or one.get("NotebookInstanceStatus") or ""
                yield sweep.find(kind, one[name], status)


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
    known = set(sweep.cloud.ids("aws:cloudwatch/logGroup:LogGroup"))
    # EKS and Container Insights make theirs again, without tags, when a cluster's last words come late.
    made = tuple(
        f"/aws/{kind}/{name}/" for name in sweep.cloud.clusters for kind in ("eks", "containerinsights")
    )
    for one in sweep.pages("logs", "describe_log_groups", "logGroups"):
        name = str(one["logGroupName"])
        if name in known or (made and name.startswith(made)):
            yield sweep.find("log group", name, f"{one.get('storedBytes', 0)} bytes")


def _keys(sweep: AskedCloud) -> Iterator[Finding]:
    for key in sweep.cloud.ids("aws:kms/key:Key"):
        found = sweep.exists("kms", "describe_key", KeyId=key)
        if found is None:
            continue
        state, gone = found["KeyMetadata"]["KeyState"], found["KeyMetadata"].get("DeletionDate")
        if state == "PendingDeletion":
            until = f"deleted on {gone:%Y-%m-%d}, can be had back until then" if gone else state
            yield sweep.find("KMS key", key, until, state="ending")
        else:
            yield sweep.find("KMS key", key, state, price_item=KMS_KEY)


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
        if one["TopicArn"] in known:
            yield sweep.find("topic", one["TopicArn"], billed=False)


def _alarms(sweep: AskedCloud) -> Iterator[Finding]:
    known = set(sweep.cloud.ids("aws:cloudwatch/metricAlarm:MetricAlarm"))
    for one in sweep.pages("cloudwatch", "describe_alarms", "MetricAlarms"):
        if one["AlarmName"] in known:
            yield sweep.find("alarm", one["AlarmName"])


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
    ("sagemaker", "endpoints and notebooks", _sagemaker),
    ("s3", "buckets", _buckets),
    ("ecr", "repositories", _repositories),
    ("logs", "log groups", _log_groups),
    ("kms", f"keys{ONLY_THE_STATE_KNEW}", _keys),
    ("efs", "file systems", _file_systems),
    ("cloudwatch", f"alarms{ONLY_THE_STATE_KNEW}", _alarms),
    ("budgets", f"budgets{ONLY_THE_STATE_KNEW}", _budgets),
    ("iam", f"roles{ONLY_THE_STATE_KNEW}", _roles),
    ("sqs", f"queues{ONLY_THE_STATE_KNEW}", _queues),
    ("sns", f"topics{ONLY_THE_STATE_KNEW}", _topics),
)
"""Service, what is asked, and how: the whole list of what a certificate's AWS side stands on."""
