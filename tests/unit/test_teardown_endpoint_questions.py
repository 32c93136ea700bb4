"""The look for leftovers of SageMaker endpoints and of the gateway beside them, over the double."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from moto.cloudwatch.models import cloudwatch_backends  # pyright: ignore[reportMissingTypeStubs]
from moto.sagemaker.models import sagemaker_backends  # pyright: ignore[reportMissingTypeStubs]

from rehearsal.aws.clients import client
from runtime.ops.teardown import leftovers
from runtime.ops.teardown.findings import Finding, Look, Sweep
from runtime.ops.teardown.ledger import AwsResource, Cloud
from runtime.ops.teardown.questions import OF_CLUSTERS, QUESTIONS
from runtime.ops.teardown.sweep import CloudSweep
from tests.support.aws import RunningDouble

ACCOUNT, REGION, STACK, PLATFORM = "123456789012", "us-east-1", "organization/spillway/sagemaker", "llm"
OURS = [{"Key": "spillway:stack", "Value": STACK}, {"Key": "spillway:platform", "Value": PLATFORM}]
THEIRS = [{"Key": "spillway:stack", "Value": "organization/spillway/other"}]
ROLE = f"arn:aws:iam::{ACCOUNT}:role/llm-endpoints"
VARIANT = "sagemaker:variant:DesiredInstanceCount"
KEY = AwsResource("aws:kms/key:Key", "gone-long-ago")


def sweep(double: RunningDouble, *resources: AwsResource) -> CloudSweep:
    cloud = Cloud(account=ACCOUNT, region=REGION, stack=STACK, platform=PLATFORM, resources=resources)
    return CloudSweep(cloud, lambda service: client(service, double.endpoint, REGION, None, 1))


def asked(double: RunningDouble, query: str, *resources: AwsResource) -> list[Finding]:
    """What one question finds."""
    (ask,) = [ask for _, words, ask in QUESTIONS if words.startswith(query)]
    return list(ask(sweep(double, *resources)))


def ids(findings: Sequence[Finding]) -> list[str]:
    return [one.id for one in findings]


def endpoint(
    double: RunningDouble, name: str, tags: list[dict[str, str]], type_: str = "ml.g6e.2xlarge"
) -> None:
    sagemaker = double.client("sagemaker")
    sagemaker.create_model(ModelName=f"{name}-m", ExecutionRoleArn=ROLE, Tags=tags)
    variant = {"VariantName": "stable", "ModelName": f"{name}-m", "InstanceType": type_}
    sagemaker.create_endpoint_config(
        EndpointConfigName=f"{name}-c",
        ProductionVariants=[{**variant, "InitialInstanceCount": 2, "InitialVariantWeight": 1}],
        Tags=tags,
    )
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=f"{name}-c", Tags=tags)


def test_an_endpoint_is_found_by_its_tags_and_each_variant_priced_by_its_machines(
    double: RunningDouble,
) -> None:
    endpoint(double, "llm-chat", OURS)
    endpoint(double, "llm-theirs", THEIRS)
    itself, machines = asked(double, "endpoints")
    assert (itself.kind, itself.id, itself.usd_per_hour) == ("SageMaker endpoint", "llm-chat", Decimal(0))
    assert (machines.id, machines.detail) == ("llm-chat/stable", "2 x ml.g6e.2xlarge")
    assert machines.usd_per_hour == 2 * Decimal("2.8026")


def test_an_endpoint_of_a_type_without_a_price_is_unpriced_and_never_free(double: RunningDouble) -> None:
    endpoint(double, "llm-chat", OURS, "ml.g5.24xlarge")
    assert [one.price_words for one in asked(double, "endpoints")] == ["not billed", "unpriced"]


def test_models_and_configurations_are_found_by_id_or_by_tags(double: RunningDouble) -> None:
    endpoint(double, "llm-chat", OURS)
    endpoint(double, "llm-theirs", THEIRS)
    endpoint(double, "made-by-hand", [])
    assert ids(asked(double, "endpoint configurations")) == ["llm-chat-c"]
    known = AwsResource("aws:sagemaker/model:Model", "made-by-hand-m")
    assert ids(asked(double, "models", known)) == ["llm-chat-m", "made-by-hand-m"]


def test_a_component_is_found_by_its_tags_and_by_the_name_or_the_arn_that_the_state_has(
    double: RunningDouble,
) -> None:
    endpoint(double, "llm-small", OURS)
    for name, tags in (("llm-small-a", OURS), ("b", []), ("c", []), ("llm-small-theirs", THEIRS)):
        double.client("sagemaker").create_inference_component(
            InferenceComponentName=name,
            EndpointName="llm-small",
            VariantName="stable",
            Specification={"ModelName": "llm-small-m"},
            RuntimeConfig={"CopyCount": 1},
            Tags=tags,
        )
    token = "aws:cloudcontrol/resource:Resource"
    known = [
        AwsResource(token, "b"),
        AwsResource(token, f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:inference-component/c"),
    ]
    assert ids(asked(double, "inference components", *known)) == ["llm-small-a", "b", "c"]


def job(double: RunningDouble, name: str, role: str, bucket: str, status: str, tags: Any = ()) -> None:
    double.client("sagemaker").create_processing_job(
        ProcessingJobName=name,
        RoleArn=role,
        AppSpecification={"ImageUri": "i"},
        ProcessingOutputConfig={
            "Outputs": [
                {
                    "OutputName": "o",
                    "S3Output": {
                        "S3Uri": f"s3://{bucket}/evaluations",
                        "LocalPath": "/o",
                        "S3UploadMode": "EndOfJob",
                    },
                }
            ]
        },
        ProcessingResources={
            "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}
        },
        Tags=list(tags),
    )
    sagemaker_backends[ACCOUNT][REGION].processing_jobs[name].processing_job_status = status


def test_a_job_that_runs_is_found_by_tags_role_or_bucket_and_one_that_has_ended_is_not(
    double: RunningDouble,
) -> None:
    other = f"arn:aws:iam::{ACCOUNT}:role/other"
    job(double, "by-tags", other, "theirs", "InProgress", OURS)
    job(double, "by-role", ROLE, "theirs", "Stopping")
    job(double, "by-bucket", other, "llm-models", "InProgress")
    job(double, "theirs", other, "theirs", "InProgress", THEIRS)
    job(double, "ended", ROLE, "llm-models", "Completed", OURS)
    known = [
        AwsResource("aws:iam/role:Role", "llm-endpoints"),
        AwsResource("aws:s3/bucket:Bucket", "llm-models"),
    ]
    found = asked(double, "jobs", *known)
    assert sorted(ids(found)) == ["by-bucket", "by-role", "by-tags"]
    assert {one.kind for one in found} == {"processing job"}
    assert all(one.billed for one in found)


def test_a_group_of_the_registry_is_found_with_the_number_of_its_versions(double: RunningDouble) -> None:
    sagemaker = double.client("sagemaker")
    for name, tags in (("llm-qwen", OURS), ("llm-theirs", THEIRS)):
        sagemaker.create_model_package_group(ModelPackageGroupName=name, Tags=tags)
        sagemaker.create_model_package(ModelPackageGroupName=name)
    (one,) = asked(double, "model package groups")
    assert (one.id, one.detail, one.billed) == ("llm-qwen", "1 versions", False)


def test_a_target_and_its_schedules_are_found_by_what_the_state_knew(double: RunningDouble) -> None:
    scaling = double.client("application-autoscaling")
    for name in ("llm-chat", "theirs"):
        which = {
            "ServiceNamespace": "sagemaker",
            "ResourceId": f"endpoint/{name}/variant/stable",
            "ScalableDimension": VARIANT,
        }
        endpoint(double, name, [])
        scaling.register_scalable_target(**which, MinCapacity=1, MaxCapacity=2)
        scaling.put_scheduled_action(
            **which,
            ScheduledActionName="evening",
            Schedule="cron(0 20 * * ? *)",
            ScalableTargetAction={"MinCapacity": 1, "MaxCapacity": 1},
        )
    known = AwsResource("aws:appautoscaling/target:Target", "endpoint/llm-chat/variant/stable")
    (target,) = asked(double, "targets", known)
    assert (target.id, target.detail) == ("endpoint/llm-chat/variant/stable", "1 to 2")
    (action,) = asked(double, "scheduled actions", known)
    assert action.id == "evening of endpoint/llm-chat/variant/stable"


def alarm(double: RunningDouble, name: str, tags: Any = ()) -> None:
    double.client("cloudwatch").put_metric_alarm(
        AlarmName=name,
        ComparisonOperator="GreaterThanThreshold",
        EvaluationPeriods=1,
        MetricName="m",
        Namespace="n",
        Period=60,
        Statistic="Sum",
        Threshold=1,
        Tags=list(tags),
    )


def test_alarms_are_found_by_id_by_tags_and_as_made_by_a_scaling_policy_with_their_price(
    double: RunningDouble,
) -> None:
    alarm(double, "llm-chat-errors", OURS)
    alarm(double, "by-id")
    alarm(double, "TargetTracking-endpoint/llm-chat/variant/stable-AlarmHigh-1")
    alarm(double, "llm-theirs", THEIRS)
    known = [
        AwsResource("aws:cloudwatch/metricAlarm:MetricAlarm", "by-id"),
        AwsResource("aws:appautoscaling/target:Target", "endpoint/llm-chat/variant/stable"),
    ]
    found = asked(double, "alarms", *known)
    assert sorted(ids(found)) == [
        "TargetTracking-endpoint/llm-chat/variant/stable-AlarmHigh-1",
        "by-id",
        "llm-chat-errors",
    ]
    assert {one.usd_per_hour for one in found} == {Decimal("0.10") / 730}


def test_a_composite_alarm_is_found_although_cloudwatch_lists_it_apart(double: RunningDouble) -> None:
    for name in ("llm-chat-unhealthy", "theirs-unhealthy"):
        alarm(double, name)
        # moto has the list and no call that makes one.
        cloudwatch_backends[ACCOUNT][REGION].alarms[name].rule = 'ALARM("a")'  # pyright: ignore[reportAttributeAccessIssue]
    known = AwsResource("aws:cloudwatch/compositeAlarm:CompositeAlarm", "llm-chat-unhealthy")
    (one,) = asked(double, "composite alarms", known)
    assert (one.id, one.usd_per_hour) == ("llm-chat-unhealthy", Decimal("0.50") / 730)


def test_a_dashboard_is_found_with_its_price(double: RunningDouble) -> None:
    for name in ("llm", "theirs"):
        double.client("cloudwatch").put_dashboard(DashboardName=name, DashboardBody='{"widgets": []}')
    (one,) = asked(double, "dashboards", AwsResource("aws:cloudwatch/dashboard:Dashboard", "llm"))
    assert (one.id, one.usd_per_hour) == ("llm", Decimal(3) / 730)


@pytest.mark.parametrize(
    ("group", "token", "id_"),
    [
        ("/aws/sagemaker/Endpoints/llm-chat", "aws:sagemaker/endpoint:Endpoint", "llm-chat"),
        ("/aws/sagemaker/InferenceComponents/llm-a", "aws:cloudcontrol/resource:Resource", "llm-a"),
        (
            "/aws/sagemaker/InferenceComponents/llm-a",
            "aws:cloudcontrol/resource:Resource",
            f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:inference-component/llm-a",
        ),
        (
            "/aws/ecs/containerinsights/llm/performance",
            "aws:ecs/cluster:Cluster",
            f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/llm",
        ),
    ],
)
def test_a_log_group_that_a_service_made_again_without_tags_is_found_by_its_name(
    double: RunningDouble, group: str, token: str, id_: str
) -> None:
    for name in (group, group.replace("llm", "llm-and-theirs")):
        double.client("logs").create_log_group(logGroupName=name)
    assert ids(asked(double, "log groups", AwsResource(token, id_))) == [group]


def test_a_topic_is_found_by_id_or_tags_and_its_subscriptions_also_where_nobody_confirmed_them(
    double: RunningDouble,
) -> None:
    sns = double.client("sns")
    by_id, by_tags, theirs = (
        str(sns.create_topic(Name=name, Tags=tags)["TopicArn"])
        for name, tags in (("alerts", []), ("llm-alerts", OURS), ("llm-theirs", THEIRS))
    )
    known = AwsResource("aws:sns/topic:Topic", by_id)
    assert sorted(ids(asked(double, "topics", known))) == sorted([by_id, by_tags])
    for topic in (by_id, theirs):
        sns.subscribe(TopicArn=topic, Protocol="email", Endpoint="llm-on-call@example.com")
    (one,) = asked(double, "subscriptions", known)
    assert one.id.endswith(f"of llm-on-call@example.com to {by_id}")


def test_an_ecs_cluster_is_found_with_its_services_and_one_that_is_gone_is_not(double: RunningDouble) -> None:
    ecs = double.client("ecs")
    listed = [{"key": one["Key"], "value": one["Value"]} for one in OURS]
    arns = {
        name: ecs.create_cluster(clusterName=name, tags=listed if name != "theirs" else [])["cluster"][
            "clusterArn"
        ]
        for name in ("llm", "llm-gone", "theirs")
    }
    container = [{"name": "envoy", "image": "i", "memory": 64}]
    for family, tags in (("llm-gateway", listed), ("llm-theirs", [])):
        ecs.register_task_definition(family=family, containerDefinitions=container, tags=tags)
    for name in ("llm", "theirs"):
        ecs.create_service(cluster=name, serviceName="gateway", taskDefinition="llm-gateway", desiredCount=0)
    ecs.delete_cluster(cluster="llm-gone")
    found = asked(double, "clusters, services and tasks")
    assert [(one.kind, one.id.rpartition("/")[2]) for one in found] == [
        ("ECS cluster", "llm"),
        ("ECS service", "gateway"),
    ]
    assert ids(found)[0] == arns["llm"]
    (definition,) = asked(double, "task definitions")
    assert definition.id.endswith("task-definition/llm-gateway:1")
    ecs.deregister_task_definition(taskDefinition="llm-gateway:1")
    assert asked(double, "task definitions") == []


def test_a_task_that_runs_is_named_and_billed(double: RunningDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    # moto starts tasks only on container instances, which Fargate has none of.
    task = {"taskArn": "arn:task/1", "lastStatus": "RUNNING", "cpu": "512", "memory": "1024"}
    stopped = {**task, "taskArn": "arn:task/2", "lastStatus": "STOPPED"}
    listed: dict[str, list[str]] = {
        "list_clusters": ["arn:cluster/llm"],
        "list_services": [],
        "list_tasks": ["a", "b"],
    }

    class Ecs:
        def describe_clusters(self, clusters: list[str], include: list[str]) -> Any:
            return {"clusters": [{"clusterName": "llm", "status": "ACTIVE"}]}

        def describe_tasks(self, cluster: str, tasks: list[str]) -> Any:
            return {"tasks": [task, stopped]}

    def pages(service: str, call: str, key: str, **request: Any) -> list[str]:
        return listed[call]

    def clients(service: str) -> Ecs:
        return Ecs()

    looking = sweep(double, AwsResource("aws:ecs/cluster:Cluster", "arn:cluster/llm"))
    monkeypatch.setattr(looking, "clients", clients)
    monkeypatch.setattr(looking, "pages", pages)
    (ask,) = [ask for _, words, ask in QUESTIONS if words == "clusters, services and tasks"]
    _, one = ask(looking)
    assert (one.kind, one.id, one.detail) == ("ECS task", "arn:task/1", "RUNNING, 512 CPU units, 1024 MiB")
    assert one.billed


def test_a_secret_that_waits_for_its_deletion_is_named_and_not_billed_and_one_that_does_not_is(
    double: RunningDouble,
) -> None:
    manager = double.client("secretsmanager")
    arns = {
        name: manager.create_secret(Name=name, SecretString="s", Tags=tags)["ARN"]
        for name, tags in (("llm-keys", OURS), ("by-id", []), ("theirs", THEIRS))
    }
    manager.delete_secret(SecretId="llm-keys", RecoveryWindowInDays=7)
    found = asked(double, "secrets", AwsResource("aws:secretsmanager/secret:Secret", arns["by-id"]))
    by_id = {one.id: one for one in found}
    assert sorted(by_id) == ["by-id", "llm-keys"]
    assert (by_id["llm-keys"].state, by_id["llm-keys"].price_words) == ("ending", "not billed")
    assert by_id["by-id"].state == "left"


def test_an_interface_that_a_service_made_in_the_stacks_security_group_is_found_without_tags(
    double: RunningDouble,
) -> None:
    (subnet,) = double.network("a")
    ec2 = double.client("ec2")
    vpc = ec2.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["VpcId"]
    groups = {
        name: ec2.create_security_group(GroupName=name, Description="d", VpcId=vpc)["GroupId"]
        for name in ("ours", "theirs")
    }
    made = {
        name: ec2.create_network_interface(SubnetId=subnet, Groups=[group])["NetworkInterface"][
            "NetworkInterfaceId"
        ]
        for name, group in groups.items()
    }
    known = AwsResource("aws:ec2/securityGroup:SecurityGroup", groups["ours"])
    assert ids(asked(double, "network interfaces", known)) == [made["ours"]]


def looks(double: RunningDouble, *resources: AwsResource) -> list[Look]:
    return list(sweep(double, *resources).looks())


def test_a_stack_without_a_cluster_is_asked_nothing_that_only_clusters_have(double: RunningDouble) -> None:
    found = looks(double)
    assert not {look.service for look in found} & OF_CLUSTERS
    assert Sweep("now", tuple(found)).clean


@pytest.mark.parametrize(
    ("service", "name", "code"),
    [
        ("sagemaker", "sagemaker", "AccessDeniedException"),
        ("application-autoscaling", "application-autoscaling", "AccessDeniedException"),
        ("ecs", "ecs", "AccessDeniedException"),
        ("secretsmanager", "secretsmanager", "AccessDeniedException"),
        ("monitoring", "cloudwatch", "AccessDenied"),
        ("sns", "sns", "AuthorizationError"),
    ],
)
def test_a_service_that_may_not_be_asked_is_not_proven(
    double: RunningDouble, service: str, name: str, code: str
) -> None:
    double.script(outages=[{"service": service, "status": 403, "code": code}])
    refused = [look for look in looks(double) if look.problem]
    assert {look.service for look in refused} == {name}
    assert all(code in look.problem for look in refused)


def test_without_a_state_what_bears_tags_or_begins_with_the_platforms_name_is_listed(
    double: RunningDouble,
) -> None:
    endpoint(double, "llm-chat", OURS)
    double.client("logs").create_log_group(logGroupName="/aws/sagemaker/Endpoints/llm-chat")
    cloud = Cloud(account=ACCOUNT, region=REGION, stack=STACK, platform=PLATFORM, clusters=(PLATFORM,))
    lines = list(
        leftovers.found(cloud, lambda _: lambda name: client(name, double.endpoint, REGION, None, 1))
    )
    text = "\n".join(lines)
    assert lines[1].startswith(
        "  machines of an endpoint llm-chat/stable (2 x ml.g6e.2xlarge) in 123456789012"
    )
    for one in (
        "SageMaker model llm-chat-m",
        "endpoint configuration llm-chat-c",
        "log group /aws/sagemaker/",
    ):
        assert one in text
    for unproven in ("application-autoscaling targets", "cloudwatch dashboards", "sns subscriptions"):
        assert f"  {unproven} that the state knew" in text
