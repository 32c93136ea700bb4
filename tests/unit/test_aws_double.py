"""The AWS double: node groups that launch late, fail and go; the shim; what survives a kill."""

import inspect
import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError  # pyright: ignore[reportMissingTypeStubs]

from rehearsal.aws import shim
from rehearsal.aws.account import AwsDouble
from rehearsal.aws.capacity import Script
from rehearsal.aws.clients import DoubleError, client
from rehearsal.aws.instance_types import node_resources, quota_code
from rehearsal.aws.leftovers import leftovers
from tests.support.aws import RunningDouble, running_double

POLICY = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"


@pytest.fixture
def double(tmp_path: Path) -> Generator[RunningDouble]:
    with running_double(tmp_path / "aws") as running:
        yield running


def refused(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return str(caught.value)


def test_moto_has_gained_nothing_of_what_the_shim_adds() -> None:
    assert shim.gained() == []


def test_the_shim_would_notice_what_moto_gains() -> None:
    class Gained:
        def list_addons(self) -> None: ...

    added = {"list_addons": shim.ADDED[shim.EKSResponse]["list_addons"]}
    assert shim.gains(Gained, added, {}, {"list_addons": Gained.list_addons}) == ["Gained.list_addons"]
    replaced = {"list_addons": (Gained.list_addons, "def list_addons")}
    assert shim.gains(Gained, {}, replaced, {"list_addons": Gained.list_addons}) == ["Gained.list_addons"]
    assert shim.gains(Gained, added, {}, {"list_addons": None}) == []


def test_every_action_of_the_shim_is_one_of_aws() -> None:
    for class_, actions in {**shim.ADDED, **shim.REPLACED}.items():
        service = class_().boto3_service_name  # pyright: ignore[reportAttributeAccessIssue]
        known = dir(client(service, "http://127.0.0.1:1", "us-east-1"))
        assert set(actions) <= set(known), class_


def test_nodes_of_a_group_appear_after_the_delay_and_go_after_theirs(double: RunningDouble) -> None:
    double.script(launchSeconds=180, terminateSeconds=30)
    group = double.node_group()
    assert double.nodes() == []
    double.want(group, 2)
    assert (double.group()["launching"], double.group()["ready"]) == (2, 0)
    double.clock.sleep(179)
    assert double.nodes() == []
    double.clock.sleep(1)
    first, second = double.nodes()
    assert {first["availabilityZone"], second["availabilityZone"]} == {"us-east-1a", "us-east-1b"}
    double.want(group, 1)
    assert sorted(node["state"] for node in double.nodes()) == ["Ready", "Terminating"]
    double.clock.sleep(30)
    (left,) = double.nodes()
    assert left["state"] == "Ready"
    described = double.client("ec2").describe_instances(InstanceIds=[left["instanceId"]])
    assert described["Reservations"][0]["Instances"][0]["State"]["Name"] == "running"


def test_a_node_has_labels_taints_and_the_resources_of_its_instance_type(double: RunningDouble) -> None:
    taint = {"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}
    double.node_group(1, labels={"spillway.dev/node-group": "l40s"}, taints=[taint], capacityType="SPOT")
    (node,) = double.nodes()
    assert node["labels"]["spillway.dev/node-group"] == "l40s"
    assert node["labels"]["eks.amazonaws.com/nodegroup"] == "n"
    assert node["labels"]["eks.amazonaws.com/capacityType"] == "SPOT"
    assert node["labels"]["node.kubernetes.io/instance-type"] == "g6e.12xlarge"
    assert node["taints"] == [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]
    assert node["resources"]["nvidia.com/gpu"] == "4"
    assert node["resources"]["cpu"] == "48"
    assert node["resources"]["memory"] == "393216Mi"


def test_resources_and_quotas_come_from_the_instance_type() -> None:
    assert node_resources("p5.48xlarge")["nvidia.com/gpu"] == "8"
    assert node_resources("trn1.32xlarge")["aws.amazon.com/neuron"] == "16"
    assert "nvidia.com/gpu" not in node_resources("m7i.large")
    with pytest.raises(KeyError):
        node_resources("g99.large")
    assert quota_code("g6e.12xlarge", spot=False) == "L-DB2E81BA"
    assert quota_code("p5.48xlarge", spot=False) == "L-417A185B"
    assert quota_code("g6e.12xlarge", spot=True) == "L-3819A6DF"
    assert quota_code("m7i.large", spot=False) == "L-1216C47A"


def test_the_size_of_the_update_call_leads_to_nodes_as_that_of_the_scaling_group(
    double: RunningDouble,
) -> None:
    double.node_group()
    eks = double.client("eks")
    update = eks.update_nodegroup_config(
        clusterName="c", nodegroupName="n", scalingConfig={"minSize": 0, "maxSize": 3, "desiredSize": 3}
    )["update"]
    assert eks.describe_update(name="c", updateId=update["id"])["update"]["status"] == "Successful"
    assert len(double.nodes()) == 3


def test_eks_shows_the_size_that_an_autoscaler_set(double: RunningDouble) -> None:
    double.want(double.node_group(), 2)
    described = double.client("eks").describe_nodegroup(clusterName="c", nodegroupName="n")["nodegroup"]
    assert described["scalingConfig"]["desiredSize"] == 2


def test_no_wish_beyond_the_bounds_of_a_group_is_taken(double: RunningDouble) -> None:
    group = double.node_group()
    scaling, eks = double.client("autoscaling"), double.client("eks")
    said = refused(scaling.set_desired_capacity, AutoScalingGroupName=group, DesiredCapacity=5)
    assert "New SetDesiredCapacity value 5 is above max value 4" in said
    names = {"clusterName": "c", "nodegroupName": "n"}
    said = refused(eks.update_nodegroup_config, **names, scalingConfig={"desiredSize": 5})
    assert "desired capacity 5 can't be greater than max size 4" in said
    said = refused(eks.update_nodegroup_config, **names, scalingConfig={"minSize": 1})
    assert "Minimum capacity 1 can't be greater than desired size 0" in said
    assert double.group()["desiredSize"] == 0


def test_scaling_groups_list_their_instances_and_take_the_autoscalers_tags(double: RunningDouble) -> None:
    double.script(launchSeconds=10)
    name = double.node_group(1)
    scaling = double.client("autoscaling")
    key = "k8s.io/cluster-autoscaler/node-template/resources/nvidia.com/gpu"
    tag = {"ResourceId": name, "ResourceType": "auto-scaling-group", "PropagateAtLaunch": True}
    scaling.create_or_update_tags(Tags=[{**tag, "Key": key, "Value": "4"}])
    (group,) = scaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
    assert {item["Key"]: item["Value"] for item in group["Tags"]}[key] == "4"
    assert [item["LifecycleState"] for item in group["Instances"]] == ["Pending"]
    double.clock.sleep(10)
    (group,) = scaling.describe_auto_scaling_groups()["AutoScalingGroups"]
    assert [item["LifecycleState"] for item in group["Instances"]] == ["InService"]


def test_an_instance_that_the_autoscaler_ends_is_not_launched_again(double: RunningDouble) -> None:
    double.node_group(2)
    gone, kept = (node["instanceId"] for node in double.nodes())
    end = double.client("autoscaling").terminate_instance_in_auto_scaling_group
    end(InstanceId=gone, ShouldDecrementDesiredCapacity=True)
    assert [node["instanceId"] for node in double.nodes()] == [kept]
    assert double.group()["desiredSize"] == 1


def test_an_instance_that_somebody_else_ends_is_replaced(double: RunningDouble) -> None:
    double.node_group(1)
    (lost,) = double.nodes()
    double.client("ec2").terminate_instances(InstanceIds=[lost["instanceId"]])
    (fresh,) = double.nodes()
    assert fresh["instanceId"] != lost["instanceId"]


def test_a_scripted_shortage_shows_as_eks_and_the_scaling_group_show_it(double: RunningDouble) -> None:
    group = double.node_group()
    double.script(shortages=[{"instanceType": "g6e.12xlarge", "available": 1}], retrySeconds=10)
    double.want(group, 2)
    assert len(double.nodes()) == 1
    described = double.client("eks").describe_nodegroup(clusterName="c", nodegroupName="n")["nodegroup"]
    (issue,) = described["health"]["issues"]
    assert described["status"] == "DEGRADED"
    assert issue["code"] == "AsgInstanceLaunchFailures"
    assert issue["resourceIds"] == [group]
    assert (
        "InsufficientInstanceCapacity - We currently do not have sufficient g6e.12xlarge" in issue["message"]
    )
    activities = double.client("autoscaling").describe_scaling_activities(AutoScalingGroupName=group)
    failed = [a for a in activities["Activities"] if a["StatusCode"] == "Failed"]
    assert failed[0]["StatusMessage"] == issue["message"]
    double.want(group, 1)
    assert double.group()["health"] == {"issues": []}
    assert double.group()["status"] == "ACTIVE"


def test_a_shortage_ends_with_its_time_and_the_group_tries_again_by_itself(double: RunningDouble) -> None:
    group = double.node_group()
    double.script(shortages=[{"instanceType": "*", "startsIn": 5, "lasts": 60}], retrySeconds=10)
    double.want(group, 1)
    assert len(double.nodes()) == 1, "before it starts"
    double.clock.sleep(6)
    double.want(group, 2)
    assert len(double.nodes()) == 1
    double.clock.sleep(54)
    assert len(double.nodes()) == 1, "one second before its end"
    double.clock.sleep(10)
    assert len(double.nodes()) == 2


def test_a_shortage_of_one_zone_leads_to_the_others(double: RunningDouble) -> None:
    shortage = {"instanceType": "g6e.12xlarge", "availabilityZone": "us-east-1a"}
    double.script(shortages=[shortage])
    double.node_group(3)
    assert {node["availabilityZone"] for node in double.nodes()} == {"us-east-1b"}


def test_a_shortage_of_one_type_leads_to_the_next_of_the_group(double: RunningDouble) -> None:
    double.script(shortages=[{"instanceType": "g6e.12xlarge", "capacityType": "SPOT"}])
    double.node_group(1, instanceTypes=["g6e.12xlarge", "g6.12xlarge"], capacityType="SPOT")
    assert [node["instanceType"] for node in double.nodes()] == ["g6.12xlarge"]


def test_slow_launches_of_one_type_are_slow_for_that_type_only(double: RunningDouble) -> None:
    double.script(launchSeconds=10, launchSecondsOf={"g6e.12xlarge": 600})
    double.node_group(1)
    double.clock.sleep(599)
    assert double.nodes() == []
    double.clock.sleep(1)
    assert len(double.nodes()) == 1


def test_a_quota_is_read_and_kept(double: RunningDouble) -> None:
    double.script(quotas={"L-DB2E81BA": 48})
    quotas = double.client("service-quotas")
    read = quotas.get_service_quota(ServiceCode="ec2", QuotaCode="L-DB2E81BA")["Quota"]
    assert read["Value"] == 48
    assert {q["QuotaCode"] for q in quotas.list_service_quotas(ServiceCode="ec2")["Quotas"]} >= {"L-417A185B"}
    default = quotas.get_aws_default_service_quota(ServiceCode="ec2", QuotaCode="L-417A185B")["Quota"]
    assert default["Value"] == 0
    double.node_group(2)
    assert len(double.nodes()) == 1
    assert "VcpuLimitExceeded" in double.group()["health"]["issues"][0]["message"]


def test_a_group_that_cannot_start_is_created_failed(double: RunningDouble) -> None:
    double.script(shortages=[{"instanceType": "*"}])
    double.node_group(1)
    assert double.group()["status"] == "CREATE_FAILED"


def test_a_group_without_nodes_is_active_and_one_with_slow_nodes_is_being_made(double: RunningDouble) -> None:
    double.script(launchSeconds=60)
    double.node_group(1)
    assert double.group()["status"] == "CREATING"
    double.clock.sleep(60)
    assert double.group()["status"] == "ACTIVE"


def test_a_deleted_group_takes_its_instances_and_its_scaling_group_along(double: RunningDouble) -> None:
    double.node_group(2)
    double.client("eks").delete_nodegroup(clusterName="c", nodegroupName="n")
    assert double.nodes() == []
    assert double.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"] == []
    assert not [line for line in leftovers(double.endpoint) if "g6e" in line or "lt-" in line]


def test_an_outage_is_answered_by_the_named_service_only(double: RunningDouble) -> None:
    double.node_group()
    double.script(outages=[{"service": "eks", "lasts": 1}])
    assert double.client("ec2").describe_vpcs()["Vpcs"]
    statuses: list[int] = []

    def wait(response_dict: dict[str, Any], **_: Any) -> None:
        statuses.append(response_dict["status_code"])
        double.clock.sleep(1)

    eks = double.client("eks")
    eks.meta.events.register("before-parse.eks", wait)
    found = eks.list_clusters()["clusters"]
    eks.meta.events.unregister("before-parse.eks", wait)
    assert statuses == [503, 200]
    assert found == ["c"], "the client tried again until the outage was over"


def test_the_cluster_names_the_api_of_the_embedded_site(double: RunningDouble) -> None:
    double.cluster()
    double.script(clusterApi={"endpoint": "https://127.0.0.1:7443", "certificateAuthority": "UEVN"})
    cluster = double.client("eks").describe_cluster(name="c")["cluster"]
    assert cluster["endpoint"] == "https://127.0.0.1:7443"
    assert cluster["certificateAuthority"]["data"] == "UEVN"


def test_a_cluster_keeps_what_moto_would_drop(double: RunningDouble) -> None:
    subnets = double.network()
    eks = double.client("eks")
    eks.create_cluster(
        name="c",
        roleArn=double.role(),
        resourcesVpcConfig={"subnetIds": subnets, "endpointPublicAccess": False},
        accessConfig={"authenticationMode": "API"},
        upgradePolicy={"supportType": "STANDARD"},
        deletionProtection=True,
    )
    eks.update_cluster_config(name="c", resourcesVpcConfig={"endpointPrivateAccess": True})
    cluster = eks.describe_cluster(name="c")["cluster"]
    assert cluster["accessConfig"]["authenticationMode"] == "API"
    assert cluster["upgradePolicy"] == {"supportType": "STANDARD"}
    assert cluster["resourcesVpcConfig"]["endpointPublicAccess"] is False
    assert cluster["resourcesVpcConfig"]["clusterSecurityGroupId"].startswith("sg-")
    assert cluster["version"] == shim.KUBERNETES_VERSIONS[-1]
    assert "deletion protection" in refused(eks.delete_cluster, name="c")
    eks.update_cluster_config(name="c", deletionProtection=False)
    eks.delete_cluster(name="c")
    assert eks.list_clusters()["clusters"] == []


def test_versions_of_cluster_and_group_can_be_raised(double: RunningDouble) -> None:
    double.node_group(version="1.33")
    eks = double.client("eks")
    eks.update_cluster_version(name="c", version="1.34")
    eks.update_nodegroup_version(clusterName="c", nodegroupName="n", version="1.34")
    assert eks.describe_nodegroup(clusterName="c", nodegroupName="n")["nodegroup"]["version"] == "1.34"
    assert "1.34" in [v["clusterVersion"] for v in eks.describe_cluster_versions()["clusterVersions"]]


def test_addons_are_made_changed_listed_and_removed(double: RunningDouble) -> None:
    double.cluster()
    eks = double.client("eks")
    eks.create_addon(clusterName="c", addonName="vpc-cni", configurationValues="{}")
    assert "already exists" in refused(eks.create_addon, clusterName="c", addonName="vpc-cni")
    eks.update_addon(clusterName="c", addonName="vpc-cni", configurationValues='{"a": 1}')
    addon = eks.describe_addon(clusterName="c", addonName="vpc-cni")["addon"]
    assert (addon["status"], addon["configurationValues"]) == ("ACTIVE", '{"a": 1}')
    assert eks.list_addons(clusterName="c")["addons"] == ["vpc-cni"]
    eks.delete_addon(clusterName="c", addonName="vpc-cni")
    assert "ResourceNotFound" in refused(eks.describe_addon, clusterName="c", addonName="vpc-cni")


def test_access_entries_and_their_policies_are_made_listed_and_removed(double: RunningDouble) -> None:
    double.cluster()
    eks = double.client("eks")
    who = {"clusterName": "c", "principalArn": double.role("path-role")}
    eks.create_access_entry(**who, kubernetesGroups=["viewers"])
    eks.update_access_entry(**who, kubernetesGroups=["admins"])
    assert eks.describe_access_entry(**who)["accessEntry"]["kubernetesGroups"] == ["admins"]
    assert eks.list_access_entries(clusterName="c")["accessEntries"] == [who["principalArn"]]
    scope = {"type": "namespace", "namespaces": ["llm"]}
    eks.associate_access_policy(**who, policyArn=POLICY, accessScope=scope)
    (policy,) = eks.list_associated_access_policies(**who)["associatedAccessPolicies"]
    assert (policy["policyArn"], policy["accessScope"]) == (POLICY, scope)
    eks.disassociate_access_policy(**who, policyArn=POLICY)
    assert eks.list_associated_access_policies(**who)["associatedAccessPolicies"] == []
    eks.delete_access_entry(**who)
    assert "ResourceNotFound" in refused(eks.describe_access_entry, **who)


def test_pod_identities_are_made_changed_listed_and_removed(double: RunningDouble) -> None:
    double.cluster()
    eks = double.client("eks")
    pod = {"clusterName": "c", "namespace": "llm", "serviceAccount": "reader"}
    role = "arn:aws:iam::123456789012:role/r"
    made = eks.create_pod_identity_association(**pod, roleArn=role)["association"]
    assert "already exists" in refused(eks.create_pod_identity_association, **pod, roleArn=role)
    which = {"clusterName": "c", "associationId": made["associationId"]}
    eks.update_pod_identity_association(**which, roleArn=f"{role}2")
    assert eks.describe_pod_identity_association(**which)["association"]["roleArn"] == f"{role}2"
    assert len(eks.list_pod_identity_associations(clusterName="c")["associations"]) == 1
    eks.delete_pod_identity_association(**which)
    assert eks.list_pod_identity_associations(clusterName="c")["associations"] == []


def test_a_budget_is_changed_and_read(double: RunningDouble) -> None:
    budgets = double.client("budgets")
    account = {"AccountId": "123456789012"}
    limit = {"Amount": "10", "Unit": "USD"}
    budget = {"BudgetName": "b", "BudgetType": "COST", "TimeUnit": "MONTHLY", "BudgetLimit": limit}
    notice = {"NotificationType": "ACTUAL", "ComparisonOperator": "GREATER_THAN", "Threshold": 80.0}
    reader = {"SubscriptionType": "EMAIL", "Address": "a@b.example"}
    notices = [{"Notification": notice, "Subscribers": [reader]}]
    budgets.create_budget(**account, Budget=budget, NotificationsWithSubscribers=notices)
    budgets.update_budget(**account, NewBudget={**budget, "BudgetLimit": {**limit, "Amount": "20"}})
    read = budgets.describe_budget(**account, BudgetName="b")["Budget"]
    assert read["BudgetLimit"]["Amount"] == "20"
    told = budgets.describe_subscribers_for_notification(**account, BudgetName="b", Notification=notice)
    assert told["Subscribers"] == [reader]
    arn = "arn:aws:budgets::123456789012:budget/b"
    assert budgets.list_tags_for_resource(ResourceARN=arn)["ResourceTags"] == []


def test_a_script_with_a_mistake_is_refused_and_the_old_one_stays(double: RunningDouble) -> None:
    double.script(launchSeconds=7)
    with pytest.raises(DoubleError, match="launchSecs"):
        double.script(launchSecs=3)
    with pytest.raises(DoubleError, match="greater than or equal to 0"):
        double.script(shortages=[{"instanceType": "g6e.xlarge", "available": -1}])
    assert double.page("GET", "script")["launchSeconds"] == 7


def test_what_was_answered_is_there_after_a_restart(tmp_path: Path) -> None:
    with running_double(tmp_path / "aws") as double:
        double.script(launchSeconds=60)
        group = double.node_group(1)
        double.client("eks").create_addon(clusterName="c", addonName="vpc-cni")
        key = double.client("kms").create_key()["KeyMetadata"]["KeyId"]
        sealed = double.client("kms").encrypt(KeyId=key, Plaintext=b"text")["CiphertextBlob"]
        double.client("s3").create_bucket(Bucket="weights")
        double.client("s3").put_object(Bucket="weights", Key="a", Body=b"content")
        double.client("ecr").create_repository(repositoryName="images")
        double.client("sqs").create_queue(QueueName="q")
        double.page("PUT", "store/aws%3Ax%7Ci", {"type": "aws:x", "id": "i"})
        before = double.group()
    with running_double(tmp_path / "aws") as double:
        assert double.group() == before
        assert double.client("eks").list_addons(clusterName="c")["addons"] == ["vpc-cni"]
        assert double.client("kms").decrypt(CiphertextBlob=sealed)["Plaintext"] == b"text"
        assert double.client("s3").get_object(Bucket="weights", Key="a")["Body"].read() == b"content"
        assert double.page("GET", "store")["resources"] == [{"type": "aws:x", "id": "i"}]
        double.clock.sleep(60)
        assert len(double.nodes()) == 1
        double.want(group, 0)
        assert double.nodes() == []


def test_a_call_that_is_repeated_because_its_answer_was_lost_is_done_once(double: RunningDouble) -> None:
    queues = double.client("ec2")
    lost = [True]

    def lose(**_: Any) -> int | None:
        # The first answer never reaches the client, which then asks again, as botocore does.
        return 0 if lost and lost.pop() else None

    queues.meta.events.register_first("needs-retry.ec2.CreateVpc", lose)
    made = queues.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    queues.meta.events.unregister("needs-retry.ec2.CreateVpc", lose)
    found = [vpc["VpcId"] for vpc in queues.describe_vpcs()["Vpcs"] if vpc["CidrBlock"] == "10.9.0.0/16"]
    assert lost == []
    assert found == [made]


def test_what_is_left_is_listed_and_an_empty_account_has_nothing(double: RunningDouble) -> None:
    assert leftovers(double.endpoint) == []
    double.node_group(1)
    left = "\n".join(leftovers(double.endpoint))
    for sign in (
        "eks c",
        "autoscaling eks-",
        "ec2 vpc-",
        "ec2 subnet-",
        "iam r",
        "(g6e.12xlarge)",
        "ec2 vol-",
    ):
        assert sign in left
    double.client("eks").delete_nodegroup(clusterName="c", nodegroupName="n")
    double.client("eks").delete_cluster(name="c")
    ec2 = double.client("ec2")
    for subnet in ec2.describe_subnets(Filters=[{"Name": "cidr-block", "Values": ["10.0.*"]}])["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    for vpc in ec2.describe_vpcs(Filters=[{"Name": "cidr", "Values": ["10.0.0.0/16"]}])["Vpcs"]:
        ec2.delete_vpc(VpcId=vpc["VpcId"])
    double.client("iam").delete_role(RoleName="r")
    assert leftovers(double.endpoint) == []


def test_the_process_keeps_its_port_and_its_state_through_a_kill(tmp_path: Path) -> None:
    double = AwsDouble(tmp_path)
    try:
        endpoint = double.start()
        made = client("ec2", endpoint, "us-east-1").create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        first = double.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
        assert double.pid is None
        assert not double.is_healthy()
        assert double.start() == endpoint
        assert double.pid != first
        assert f"ec2 {made}" in double.leftovers()
    finally:
        double.stop()
    assert not double.folder.exists()


def test_a_client_of_the_double_takes_no_other_endpoint() -> None:
    with pytest.raises(ValueError, match="is not on this machine"):
        client("ec2", "https://ec2.us-east-1.amazonaws.com", "us-east-1")


def test_the_documented_fields_of_a_script_are_all_there_are() -> None:
    documented = inspect.getdoc(Script) or ""
    for name in Script.model_fields:
        assert name == "put_at" or f"{name}:" in documented
