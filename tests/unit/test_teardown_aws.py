"""A teardown with an AWS side, over the double: whose account it is, GPU nodes first, and the network."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime.ops.teardown import account, sweep
from runtime.ops.teardown.certificate import Certificate
from runtime.ops.teardown.ledger import read_ledger, resources_of
from runtime.ops.teardown.run import RefusedError
from tests.support.aws import RunningDouble
from tests.support.torn_down import TornDown, aws_resource, kubernetes_object, state_of

CLUSTER = aws_resource("aws:eks/cluster:Cluster", "c")
OF_CLUSTER = [{"Key": "kubernetes.io/cluster/c", "Value": "owned"}]
GPU_TAG = "k8s.io/cluster-autoscaler/node-template/resources/nvidia.com/gpu"


class Hybrid(TornDown):
    """A stack with an EKS cluster of one GPU node group, in the double."""

    def __init__(self, folder: Path, double: RunningDouble) -> None:
        super().__init__(folder, state_of(CLUSTER, aws=True), double)
        self.aws = double
        self.group = double.node_group(desired=1)
        self.tag({GPU_TAG: "4"})
        self.sizes_at_destroy: list[int] = []
        self.deletes_in_aws = self._delete

    def tag(self, tags: dict[str, str]) -> None:
        listed = [
            {"ResourceId": self.group, "ResourceType": "auto-scaling-group", "Key": key, "Value": value}
            for key, value in tags.items()
        ]
        for one in listed:
            one["PropagateAtLaunch"] = False  # pyright: ignore[reportArgumentType]
        self.aws.client("autoscaling").create_or_update_tags(Tags=listed)

    def _delete(self) -> None:
        self.sizes_at_destroy.append(self.aws.group()["maxSize"])
        eks = self.aws.client("eks")
        eks.delete_nodegroup(clusterName="c", nodegroupName="n")
        eks.delete_cluster(name="c")

    def certificate(self, **wishes: Any) -> Certificate:
        certificate = self.teardown(**wishes).run()
        assert certificate is not None
        return certificate


@pytest.fixture(autouse=True)
def few_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that these tests are about; every one has its own test, and each costs time here."""
    asked = {
        "instances",
        "volumes",
        "clusters and node groups",
        "Auto Scaling groups",
        "keys",
    }
    monkeypatch.setattr(sweep, "QUESTIONS", [one for one in sweep.QUESTIONS if one[1] in asked])


@pytest.fixture(name="stack")
def fixture_stack(tmp_path: Path, double: RunningDouble) -> Hybrid:
    return Hybrid(tmp_path / "certificates", double)


def test_gpu_nodes_go_before_anything_else_and_the_account_is_empty_at_the_end(stack: Hybrid) -> None:
    certificate = stack.certificate()
    assert certificate.clean, certificate.text()
    assert stack.sizes_at_destroy == [0]
    reservations = stack.aws.client("ec2").describe_instances()["Reservations"]
    states = {one["State"]["Name"] for reservation in reservations for one in reservation["Instances"]}
    assert states <= {"terminated"}


def test_credentials_of_another_account_are_refused_and_nothing_is_touched(stack: Hybrid) -> None:
    provider = stack.exported["deployment"]["resources"][5]
    provider["inputs"]["allowedAccountIds"] = '["999999999999"]'
    with pytest.raises(RefusedError, match="of account 123456789012, and the stack is in 999999999999"):
        stack.teardown().run()
    assert stack.aws.group()["desiredSize"] == 1
    assert stack.cluster.deleted == []


def test_a_look_with_credentials_of_another_account_proves_nothing(stack: Hybrid) -> None:
    """Of a stack that is down, that account has nothing, and no cluster of the name."""
    state = state_of(CLUSTER, aws=True)
    ledger = read_ledger("dev", resources_of(state))
    ledger = replace(ledger, sites=(replace(ledger.sites[0], eks="c"),))
    stack.exported["deployment"]["resources"] = []
    asked = {"RoleArn": "arn:aws:iam::999999999999:role/other", "RoleSessionName": "other"}
    keys = stack.aws.client("sts").assume_role(**asked)["Credentials"]
    stack.credentials = (keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])
    sweep = stack.teardown().look(ledger)
    assert not sweep.clean
    assert [look.service for look in sweep.unproven] == ["sts"]
    assert "account 999999999999, and the stack is in 123456789012" in sweep.unproven[0].problem
    assert not [look for look in sweep.looks if "is gone" in look.said]


def test_an_account_that_cannot_be_asked_is_refused(stack: Hybrid) -> None:
    stack.aws.script(outages=[{"service": "sts"}])
    with pytest.raises(RefusedError, match="cannot be asked whose credentials these are"):
        stack.teardown().run()
    assert stack.destroys == 0


def test_deletion_protection_is_told_before_anything_is_touched(stack: Hybrid) -> None:
    stack.aws.client("eks").update_cluster_config(name="c", deletionProtection=True)
    with pytest.raises(RefusedError, match="EKS cluster c has deletion protection"):
        stack.teardown().run()
    assert stack.aws.group()["desiredSize"] == 1


def test_a_node_group_that_will_not_delete_is_a_named_leak_with_its_price_and_its_instances_are_gone(
    stack: Hybrid,
) -> None:
    stack.aws.script(undeletable=["n"])
    stack.failures = ["node group n: its state is DELETE_FAILED"] * 9
    certificate = stack.certificate()
    assert not certificate.clean
    left = {one.kind: one for one in certificate.sweeps[-1].left}
    assert left["node group"].id == "c/n"
    assert left["EKS cluster"].price_words == "$0.1/h"
    assert "instance" not in left
    assert "pulumi destroy: node group n: its state is DELETE_FAILED" in certificate.sweeps[-1].problems
    stack.aws.script()
    stack.failures = []
    assert stack.certificate().clean


def test_a_destroy_that_ended_between_what_is_on_eks_and_eks_itself_goes_on(
    stack: Hybrid,
) -> None:
    urn = "urn:pulumi:dev::spillway::pulumi:providers:kubernetes::eks"
    provider: dict[str, Any] = {
        "urn": urn,
        "type": "pulumi:providers:kubernetes",
        "custom": True,
        "id": "id",
        "inputs": {"kubeconfig": '{"kind": "Config"}'},
        "dependencies": [CLUSTER["urn"]],
    }
    there = {**kubernetes_object("v1", "Secret", "llm", "keys"), "provider": f"{urn}::id"}
    resources = stack.exported["deployment"]["resources"]
    resources += [provider, there]
    stack.failures = ["node group n: its state is DELETE_FAILED"] * 9
    assert not stack.certificate().clean
    # The engine deletes a provider after what it made, and before the cluster that it needs.
    del resources[-2:]
    stack.failures = []
    certificate = stack.certificate()
    assert certificate.clean, certificate.text()
    assert "EKS cluster c is gone, and everything on it" in certificate.text()


def test_a_service_that_may_not_be_asked_keeps_the_certificate_from_being_clean(stack: Hybrid) -> None:
    stack.aws.script(outages=[{"service": "kms", "status": 403, "code": "AccessDeniedException"}])
    stack.exported["deployment"]["resources"].append(aws_resource("aws:kms/key:Key", "k"))
    certificate = stack.certificate()
    assert [look.service for look in certificate.sweeps[-1].unproven] == ["kms"]
    assert "could not be checked, AccessDeniedException" in certificate.text()


def test_a_volume_that_a_cluster_left_is_named_after_everything_else_is_gone(stack: Hybrid) -> None:
    made = stack.aws.client("ec2").create_volume(
        AvailabilityZone="us-east-1a",
        Size=200,
        VolumeType="gp3",
        TagSpecifications=[{"ResourceType": "volume", "Tags": OF_CLUSTER}],
    )
    certificate = stack.certificate()
    assert [one.id for one in certificate.sweeps[-1].left] == [made["VolumeId"]]
    assert certificate.text().splitlines()[2].startswith("NOT CLEAN: 1 left, $0.0219/h.")


def test_loose_interfaces_and_groups_of_the_cluster_are_removed_and_others_stay(stack: Hybrid) -> None:
    ec2 = stack.aws.client("ec2")
    subnet = ec2.describe_subnets()["Subnets"][-1]
    tags = [{"ResourceType": "network-interface", "Tags": OF_CLUSTER}]
    ours = ec2.create_network_interface(SubnetId=subnet["SubnetId"], TagSpecifications=tags)
    theirs = ec2.create_network_interface(SubnetId=subnet["SubnetId"])
    left = [{"ResourceType": "security-group", "Tags": OF_CLUSTER}]
    group = ec2.create_security_group(
        GroupName="k8s-elb", Description="left", VpcId=subnet["VpcId"], TagSpecifications=left
    )
    assert stack.certificate().clean
    ids = {one["NetworkInterfaceId"] for one in ec2.describe_network_interfaces()["NetworkInterfaces"]}
    assert ours["NetworkInterface"]["NetworkInterfaceId"] not in ids
    assert theirs["NetworkInterface"]["NetworkInterfaceId"] in ids
    groups = {one["GroupId"] for one in ec2.describe_security_groups()["SecurityGroups"]}
    assert group["GroupId"] not in groups


def test_only_not_found_counts_as_gone() -> None:
    assert account.is_absent(error("ResourceNotFoundException", 404))
    assert not account.is_absent(error("AccessDeniedException", 403))


def error(code: str, status: int) -> Any:
    from botocore.exceptions import ClientError  # pyright: ignore[reportMissingTypeStubs]

    answer: Any = {
        "Error": {"Code": code, "Message": "said"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(answer, "DescribeCluster")
