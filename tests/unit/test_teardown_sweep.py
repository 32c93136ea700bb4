"""The look for leftovers in AWS, over the double: what is found, by what, and what is not proven."""

from collections.abc import Generator
from decimal import Decimal
from typing import Any

import pytest
from moto.core.base_backend import BackendDict  # pyright: ignore[reportMissingTypeStubs]

from rehearsal.aws.clients import client
from runtime.ops.teardown import leftovers, sweep
from runtime.ops.teardown.account import AccountError, Clients
from runtime.ops.teardown.findings import Finding, Look, Sweep
from runtime.ops.teardown.ledger import AwsResource, Cloud
from runtime.ops.teardown.sweep import QUESTIONS, CloudSweep
from tests.support.aws import RunningDouble, running_double

STACK, PLATFORM, REGION = "organization/spillway/hybrid", "llm-burst", "us-east-1"
OURS = [
    {"Key": "spillway:stack", "Value": STACK},
    {"Key": "spillway:platform", "Value": PLATFORM},
]
OF_CLUSTER = [{"Key": f"kubernetes.io/cluster/{PLATFORM}", "Value": "owned"}]


@pytest.fixture(name="double", scope="module")
def fixture_double(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningDouble]:
    with running_double(tmp_path_factory.mktemp("double")) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_else(double: RunningDouble) -> Generator[None]:
    double.script()
    yield
    BackendDict.reset()
    double.script()


def looks(double: RunningDouble, *resources: AwsResource) -> list[Look]:
    cloud = Cloud(
        account="123456789012",
        region=REGION,
        stack=STACK,
        platform=PLATFORM,
        clusters=(PLATFORM,),
        resources=resources,
    )

    return list(CloudSweep(cloud, double_clients(double)).looks())


def double_clients(double: RunningDouble) -> Clients:
    return lambda service: client(service, double.endpoint, REGION, None, 1)


def found(double: RunningDouble, *resources: AwsResource) -> list[Finding]:
    return [one for look in looks(double, *resources) for one in look.findings]


def tagged(kind: str, tags: list[dict[str, str]]) -> list[dict[str, Any]]:
    return [{"ResourceType": kind, "Tags": tags}]


def volume(double: RunningDouble, tags: list[dict[str, str]], size: int = 100) -> str:
    made = double.client("ec2").create_volume(
        AvailabilityZone=f"{REGION}a",
        Size=size,
        VolumeType="gp3",
        TagSpecifications=tagged("volume", tags),
    )
    return str(made["VolumeId"])


def test_an_empty_account_is_asked_every_question_and_answers_each_with_nothing(
    double: RunningDouble,
) -> None:
    asked = looks(double)
    assert [look.words for look in asked if look.problem or look.findings] == []
    assert len(asked) == len(QUESTIONS) + 1
    assert Sweep("now", tuple(asked)).clean


def test_a_volume_that_a_cluster_made_is_found_by_its_tag_and_named_with_size_and_price(
    double: RunningDouble,
) -> None:
    made = volume(double, OF_CLUSTER)
    volume(double, [{"Key": "kubernetes.io/cluster/other", "Value": "owned"}])
    (one,) = found(double)
    assert (one.kind, one.id, one.detail) == ("volume", made, "100 GiB gp3, us-east-1a")
    assert one.usd_per_hour == Decimal("0.08") / 730 * 100
    assert one.words.startswith(f"volume {made} (100 GiB gp3, us-east-1a) in 123456789012 us-east-1: $0.011")


def test_what_bears_the_tags_of_a_stack_of_the_same_name_and_another_platform_is_not_ours(
    double: RunningDouble,
) -> None:
    volume(double, [OURS[0], {"Key": "spillway:platform", "Value": "theirs-burst"}])
    assert found(double) == []


def test_loose_interfaces_addresses_and_balancers_are_found_by_the_tags_of_their_controllers(
    double: RunningDouble,
) -> None:
    ec2 = double.client("ec2")
    subnets = double.network()
    ec2.create_network_interface(
        SubnetId=subnets[0], TagSpecifications=tagged("network-interface", OF_CLUSTER)
    )
    ec2.allocate_address(Domain="vpc", TagSpecifications=tagged("elastic-ip", OURS))
    double.client("elbv2").create_load_balancer(
        Name="k8s-llm",
        Subnets=subnets,
        Type="network",
        Tags=[{"Key": "elbv2.k8s.aws/cluster", "Value": PLATFORM}],
    )
    kinds = sorted(one.kind for one in found(double))
    assert kinds == ["address", "load balancer", "network interface"]


def test_a_log_group_that_eks_made_again_without_tags_is_found_by_its_name(double: RunningDouble) -> None:
    double.client("logs").create_log_group(logGroupName=f"/aws/eks/{PLATFORM}/cluster")
    double.client("logs").create_log_group(logGroupName=f"/aws/eks/{PLATFORM}-2/cluster")
    (one,) = found(double)
    assert (one.kind, one.id) == ("log group", f"/aws/eks/{PLATFORM}/cluster")


def test_a_key_that_waits_for_its_deletion_is_named_and_not_billed_and_one_that_does_not_is(
    double: RunningDouble,
) -> None:
    kms = double.client("kms")
    ending, stays = (str(kms.create_key()["KeyMetadata"]["KeyId"]) for _ in range(2))
    kms.schedule_key_deletion(KeyId=ending, PendingWindowInDays=30)
    known = [AwsResource("aws:kms/key:Key", key) for key in (ending, stays)]
    by_id = {one.id: one for one in found(double, *known)}
    assert (by_id[ending].state, by_id[ending].price_words) == ("ending", "not billed")
    assert "can be had back until then" in by_id[ending].detail
    assert (by_id[stays].state, by_id[stays].usd_per_hour) == ("left", Decimal(1) / 730)


def test_a_key_that_no_state_knows_is_found_by_its_tags(double: RunningDouble) -> None:
    kms = double.client("kms")
    tags = [{"TagKey": one["Key"], "TagValue": one["Value"]} for one in OURS]
    made = str(kms.create_key(Tags=tags)["KeyMetadata"]["KeyId"])
    kms.create_key()
    assert [(one.kind, one.id) for one in found(double)] == [("KMS key", made)]


def test_what_the_state_knew_by_id_is_found_without_any_tag(double: RunningDouble) -> None:
    double.client("s3").create_bucket(Bucket="weights")
    (one,) = found(double, AwsResource("aws:s3/bucket:Bucket", "weights"))
    assert (one.kind, one.id) == ("bucket", "weights")


def test_a_node_group_and_its_instances_are_found_with_what_they_cost(double: RunningDouble) -> None:
    double.node_group(desired=1, tags={"spillway:stack": STACK})
    cloud = Cloud(account="123456789012", region=REGION, stack=STACK, platform=PLATFORM, clusters=("c",))
    of_cluster = CloudSweep(cloud, lambda service: client(service, double.endpoint, REGION, None, 1))
    by_kind = {one.kind: one for look in of_cluster.looks() for one in look.findings}
    assert by_kind["instance"].usd_per_hour == Decimal("10.49264")
    assert by_kind["node group"].id == "c/n"
    assert by_kind["EKS cluster"].usd_per_hour == Decimal("0.10")
    assert "Auto Scaling group" in by_kind


@pytest.mark.parametrize(
    ("service", "name", "code"),
    [
        ("ec2", "ec2", "UnauthorizedOperation"),
        ("eks", "eks", "AccessDeniedException"),
        ("elasticloadbalancing", "elbv2", "AccessDenied"),
        ("s3", "s3", "AccessDenied"),
        ("kms", "kms", "AccessDeniedException"),
        ("tagging", "resourcegroupstaggingapi", "AccessDeniedException"),
    ],
)
def test_a_service_that_refuses_is_not_proven_and_is_named_with_its_words(
    double: RunningDouble, service: str, name: str, code: str
) -> None:
    double.script(outages=[{"service": service, "status": 403, "code": code}])
    asked = looks(double, AwsResource("aws:kms/key:Key", "k"))
    refused = [look for look in asked if look.problem]
    assert name in {look.service for look in refused}
    assert all(code in look.problem for look in refused)
    assert not Sweep("now", tuple(asked)).clean


def test_an_api_that_is_not_there_is_not_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "QUESTIONS", QUESTIONS[:1])
    cloud = Cloud(account="123456789012", region=REGION, stack=STACK, platform=PLATFORM, clusters=(PLATFORM,))
    nobody = CloudSweep(cloud, lambda service: client(service, "http://127.0.0.1:9", REGION, None, 1))
    asked = list(nobody.looks())
    assert all(look.problem for look in asked)
    assert not Sweep("now", tuple(asked)).clean


def test_what_only_the_tagging_api_names_is_a_ghost_where_its_service_was_asked_and_unproven_where_not(
    double: RunningDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    arns = [
        "arn:aws:backup:us-east-1:123456789012:backup-vault:weights",
        "arn:aws:ec2:us-east-1:123456789012:natgateway/nat-0123",
        "arn:aws:ec2:us-east-1:123456789012:security-group-rule/sgr-0123",
        "arn:aws:ec2:us-east-1:123456789012:vpc-flow-log/fl-0123",
    ]
    original = CloudSweep.pages

    def pages(self: CloudSweep, service: str, call: str, key: str, **request: Any) -> Any:
        if service == "resourcegroupstaggingapi":
            return iter([{"ResourceARN": arn, "Tags": OURS} for arn in arns])
        return original(self, service, call, key, **request)

    monkeypatch.setattr(CloudSweep, "pages", pages)
    assert {one.id for one in found(double)} == {arns[0]}


def cloud_without_a_state(account: str = "123456789012") -> Cloud:
    return Cloud(
        account=account, region=REGION, stack=STACK, platform=PLATFORM, clusters=(PLATFORM,), resources=()
    )


def test_without_a_state_what_bears_tags_is_named_and_what_only_the_state_knew_is_not_proven(
    double: RunningDouble,
) -> None:
    made = volume(double, OF_CLUSTER, size=200)
    lines = list(leftovers.found(cloud_without_a_state(), lambda _: double_clients(double)))
    assert lines[0] == "1 found, $0.0219/h of what has a price"
    assert f"volume {made}" in lines[1]
    unproven = "\n".join(
        lines[lines.index("This is no certificate: without the state nothing is proven of") :]
    )
    for kind in ("iam roles", "budgets", "sqs queues", "clusters outside of AWS"):
        assert kind in unproven
    assert "ec2 volumes" not in unproven


def test_without_a_state_another_accounts_credentials_are_refused(double: RunningDouble) -> None:
    with pytest.raises(AccountError, match="of account 123456789012"):
        list(leftovers.found(cloud_without_a_state("999999999999"), lambda _: double_clients(double)))
