"""Least privilege: every policy document is read; what it opens wide must be on a list with its reason."""

import inspect
import json
from collections.abc import Iterator
from typing import Any

import pytest

from components.aws import policies

ACCOUNT, REGION, CLUSTER = "123456789012", "us-east-1", "llm-burst"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/k"
BUCKET = "arn:aws:s3:::weights"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{CLUSTER}"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/nodes"
REPOSITORY = f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{CLUSTER}/ray"

DOCUMENTS = {
    "alarm_publisher": policies.alarm_publisher(f"arn:aws:sns:{REGION}:{ACCOUNT}:llm", ACCOUNT),
    "cluster_key_user": policies.cluster_key_user(KEY),
    "flow_log_writer": policies.flow_log_writer(f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/flow"),
    "key_policy of the cluster": policies.key_policy(ACCOUNT, policies.log_key_use(ACCOUNT, REGION)),
    "key_policy of the nodes": policies.key_policy(ACCOUNT, *policies.node_key_use(ACCOUNT)),
    "node_group_scaler": policies.node_group_scaler(ACCOUNT, REGION, CLUSTER),
    "node_launcher": policies.node_launcher(ACCOUNT, REGION, CLUSTER, ROLE, QUEUE),
    "only_over_tls": policies.only_over_tls(BUCKET),
    "only_this_account": policies.only_this_account(ACCOUNT),
    "queue_of_interruptions": policies.queue_of_interruptions(QUEUE, ACCOUNT),
    "trust": policies.trust(policies.EKS, account=ACCOUNT),
    "weights_reader": policies.weights_reader(BUCKET, KEY),
    "weights_stager": policies.weights_stager(BUCKET, KEY, [REPOSITORY]),
}
ALLOWED = [
    (name, statement)
    for name, text in DOCUMENTS.items()
    for statement in json.loads(text)["Statement"]
    if statement["Effect"] == "Allow"
]

# Actions of which IAM knows no resource, so that `*` is the narrowest there is (AWS, Service Authorization
# Reference).
WITHOUT_RESOURCE = {
    "autoscaling:DescribeAutoScalingGroups",
    "autoscaling:DescribeAutoScalingInstances",
    "autoscaling:DescribeLaunchConfigurations",
    "autoscaling:DescribeScalingActivities",
    "autoscaling:DescribeTags",
    "ec2:DescribeCapacityReservations",
    "ec2:DescribeImages",
    "ec2:DescribeInstanceTypeOfferings",
    "ec2:DescribeInstanceTypes",
    "ec2:DescribeInstances",
    "ec2:DescribeLaunchTemplateVersions",
    "ec2:DescribeLaunchTemplates",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSpotPriceHistory",
    "ec2:DescribeSubnets",
    "ec2:GetInstanceTypesFromInstanceRequirements",
    "ecr:GetAuthorizationToken",
    "pricing:GetProducts",
}
# Where everything of a kind is meant: in a key's policy `*` is the key itself, and an endpoint's policy only
# narrows what callers may do anyway.
WIDE_BY_NATURE = {"key_policy of the cluster", "key_policy of the nodes", "only_this_account"}


def actions(statement: dict[str, Any]) -> list[str]:
    given = statement["Action"]
    return [given] if isinstance(given, str) else given


def resources(statement: dict[str, Any]) -> list[str]:
    given = statement.get("Resource", [])
    return [given] if isinstance(given, str) else given


def named(name: str, text: str) -> Iterator[dict[str, Any]]:
    yield from json.loads(text)["Statement"]


def test_every_function_that_writes_a_document_is_read_here() -> None:
    written = {
        name
        for name, value in inspect.getmembers(policies, inspect.isfunction)
        if value.__module__ == policies.__name__ and inspect.signature(value).return_annotation is str
    }
    assert written - {"document"} == {name.partition(" ")[0] for name in DOCUMENTS}


@pytest.mark.parametrize(("name", "statement"), ALLOWED, ids=lambda value: str(value)[:60])
def test_no_statement_allows_all_actions_of_a_service(name: str, statement: dict[str, Any]) -> None:
    if name not in WIDE_BY_NATURE:
        assert not [action for action in actions(statement) if "*" in action]


@pytest.mark.parametrize(("name", "statement"), ALLOWED, ids=lambda value: str(value)[:60])
def test_all_resources_are_meant_only_where_iam_knows_none(name: str, statement: dict[str, Any]) -> None:
    if name not in WIDE_BY_NATURE and "*" in resources(statement):
        assert set(actions(statement)) <= WITHOUT_RESOURCE


def test_the_endpoints_open_themselves_to_this_account_only() -> None:
    (statement,) = named("", DOCUMENTS["only_this_account"])
    assert statement["Condition"] == {"StringEquals": {"aws:PrincipalAccount": ACCOUNT}}


@pytest.mark.parametrize("name", ["only_over_tls", "queue_of_interruptions"])
def test_what_comes_without_tls_is_refused(name: str) -> None:
    refused = [one for one in named(name, DOCUMENTS[name]) if one["Effect"] == "Deny"]
    assert [one["Condition"] for one in refused] == [{"Bool": {"aws:SecureTransport": "false"}}]


def test_the_autoscaler_moves_the_groups_of_its_cluster_only() -> None:
    first = next(named("", DOCUMENTS["node_group_scaler"]))
    assert first["Condition"]["StringEquals"] == {
        f"aws:ResourceTag/k8s.io/cluster-autoscaler/{CLUSTER}": "owned"
    }


def test_karpenter_ends_only_instances_that_it_started_for_this_cluster() -> None:
    (ending,) = (
        one for one in named("", DOCUMENTS["node_launcher"]) if "ec2:TerminateInstances" in one["Action"]
    )
    assert ending["Condition"]["StringEquals"] == {
        f"aws:ResourceTag/kubernetes.io/cluster/{CLUSTER}": "owned"
    }


def test_karpenter_hands_on_the_nodes_role_and_no_other() -> None:
    (passing,) = (one for one in named("", DOCUMENTS["node_launcher"]) if one["Action"] == ["iam:PassRole"])
    assert passing["Resource"] == [ROLE]


def test_pods_read_the_weights_and_never_write_them() -> None:
    read = {action for one in named("", DOCUMENTS["weights_reader"]) for action in one["Action"]}
    assert read == {"s3:ListBucket", "s3:GetObject", "kms:Decrypt"}


def test_the_nodes_key_names_no_principal_that_a_new_account_lacks() -> None:
    for statement in named("", DOCUMENTS["key_policy of the nodes"]):
        if statement["Principal"] == {"AWS": "*"}:
            assert statement["Condition"]["StringEquals"]["kms:CallerAccount"] == ACCOUNT
            assert (
                "AWSServiceRoleForAutoScaling" in statement["Condition"]["StringEquals"]["aws:PrincipalArn"]
            )


def test_a_role_is_taken_on_for_this_account_only() -> None:
    (statement,) = named("", DOCUMENTS["trust"])
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
    assert statement["Principal"] == {"Service": "eks.amazonaws.com"}


def test_pod_identity_may_tag_its_sessions() -> None:
    (statement,) = json.loads(policies.trust(policies.POD_IDENTITY, account=ACCOUNT))["Statement"]
    assert statement["Action"] == ["sts:AssumeRole", "sts:TagSession"]
