"""The gateway that stack `sagemaker` declares in front of its endpoints: who reaches what, and what runs."""

import json
from functools import cache
from typing import Any

import botocore.session  # pyright: ignore[reportMissingTypeStubs]
import pytest
from botocore.validate import ParamValidator  # pyright: ignore[reportMissingTypeStubs]

from runtime.sagemaker_gateway.admission import Admission
from runtime.sagemaker_gateway.config import STREAM_LIMIT_S
from runtime.sagemaker_gateway.metrics import Metrics, report_line
from stacks.endpoint_routes import answered
from stacks.settings import parse_sagemaker
from tests.support.stack_files import declare, platform_object
from tests.support.synth import Synthesized, generated, synth

DEFINITION = "aws:ecs/taskDefinition:TaskDefinition"
SERVICE = "aws:ecs/service:Service"
EGRESS = "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule"
INGRESS = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
ROLE_POLICY = "aws:iam/rolePolicy:RolePolicy"
LISTENER = "aws:lb/listener:Listener"
CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/12345678-1234-1234-1234-123456789012"
KEY = "sk-" + generated("llm-gateway-clients-key-chat-app", 40)


@cache
def _declared(platform: str) -> Synthesized:
    return synth(lambda: declare(parse_sagemaker(json.loads(platform))))


def declared(**gateway: Any) -> Synthesized:
    """The committed stack with another gateway; several tests look at one and none changes it."""
    platform = platform_object("sagemaker")
    platform["gateway"] |= gateway
    return _declared(json.dumps(platform))


@pytest.fixture
def stack() -> Synthesized:
    return declared()


def containers(stack: Synthesized) -> dict[str, Any]:
    listed = json.loads(stack.one(DEFINITION).inputs["containerDefinitions"])
    return {one["name"]: one for one in listed}


def reached(stack: Synthesized, who: str, kind: str) -> set[tuple[str, int]]:
    """Where rules of the security group lead to or come from, and the port."""
    group = f"llm-gateway-entrance-{who}-id"
    peers = ("cidrIpv4", "prefixListId", "referencedSecurityGroupId")
    return {
        (next(one.inputs[key] for key in peers if one.inputs.get(key)), one.inputs["fromPort"])
        for one in stack.of(kind)
        if one.inputs["securityGroupId"] == group and one.inputs["fromPort"] == one.inputs["toPort"]
    }


def rights(stack: Synthesized, role: str) -> dict[str, list[str]]:
    statements = json.loads(stack.one(ROLE_POLICY, f"llm-gateway-{role}").inputs["policy"])["Statement"]
    return {action: one["Resource"] for one in statements for action in one["Action"]}


# The way in


def test_only_the_named_networks_come_in_and_only_through_the_load_balancer(stack: Synthesized) -> None:
    assert reached(stack, "entrance", INGRESS) == {("10.0.0.0/8", 80)}
    tasks, door = "llm-gateway-entrance-tasks-id", "llm-gateway-entrance-entrance-id"
    assert reached(stack, "entrance", EGRESS) == {(tasks, 8080), (tasks, 9090)}
    assert reached(stack, "tasks", INGRESS) == {(door, 8080), (door, 9090)}


def test_tasks_reach_private_endpoints_and_s3_and_nothing_else(stack: Synthesized) -> None:
    assert reached(stack, "tasks", EGRESS) == {("10.30.0.0/16", 443), ("pl-llm-network-s3", 443)}
    services = {
        one.inputs["serviceName"].partition("us-east-1.")[2]
        for one in stack.of("aws:ec2/vpcEndpoint:VpcEndpoint")
    }
    assert {"secretsmanager", "ecr.api", "ecr.dkr", "logs", "sagemaker.runtime", "s3"} <= services


def test_neither_load_balancer_nor_tasks_have_a_public_address(stack: Synthesized) -> None:
    assert stack.one("aws:lb/loadBalancer:LoadBalancer").inputs["internal"] is True
    network = stack.one(SERVICE).inputs["networkConfiguration"]
    assert network["assignPublicIp"] is False
    assert len(network["subnets"]) == 2


def test_a_leaving_task_gets_no_more_requests_and_ends_those_that_it_has(stack: Synthesized) -> None:
    targets = stack.one("aws:lb/targetGroup:TargetGroup").inputs
    assert targets["deregistrationDelay"] >= STREAM_LIMIT_S + 60
    told = {one["name"]: one["value"] for one in containers(stack)["files"]["environment"]}
    # With a second request on a connection, a busy client would stay with the task until it is cut off.
    assert "max_requests_per_connection: 1\n" in told["ENVOY_LISTENERS"]
    assert targets["healthCheck"]["path"] == "/ready"
    assert targets["healthCheck"]["port"] == "9090"
    assert targets["targetType"] == "ip"


def test_a_target_group_that_is_replaced_has_another_name_while_the_listener_is_on_the_old_one(
    stack: Synthesized,
) -> None:
    assert "name" not in stack.one("aws:lb/targetGroup:TargetGroup").inputs


def test_without_a_certificate_the_url_is_the_load_balancers(stack: Synthesized) -> None:
    listener = stack.one(LISTENER).inputs
    assert (listener["protocol"], listener["port"]) == ("TCP", 80)
    assert stack.outputs["endpoint"] == "http://llm-gateway-entrance.elb.example.com"


def test_with_a_certificate_the_load_balancer_speaks_tls_and_the_url_has_the_name_in_it() -> None:
    made = declared(tls={"certificateArn": CERTIFICATE, "hostname": "llm.example.com"})
    listener = made.one(LISTENER).inputs
    assert (listener["protocol"], listener["port"]) == ("TLS", 443)
    assert listener["certificateArn"] == CERTIFICATE
    assert "TLS13" in listener["sslPolicy"]
    assert reached(made, "entrance", INGRESS) == {("10.0.0.0/8", 443)}
    assert made.outputs["endpoint"] == "https://llm.example.com"
    assert made.outputs["loadBalancer"] == "llm-gateway-entrance.elb.example.com"


# What runs


def test_ecs_knows_every_part_of_the_task_definition(stack: Synthesized) -> None:
    definition = stack.one(DEFINITION).inputs
    session: Any = botocore.session.get_session()  # pyright: ignore[reportUnknownMemberType]
    shape = session.get_service_model("ecs").shape_for("RegisterTaskDefinitionRequest")
    request = {
        "family": definition["family"],
        "containerDefinitions": json.loads(definition["containerDefinitions"]),
        "volumes": definition["volumes"],
        "requiresCompatibilities": definition["requiresCompatibilities"],
        "cpu": definition["cpu"],
        "memory": definition["memory"],
    }
    report: Any = ParamValidator().validate(request, shape)  # pyright: ignore[reportUnknownMemberType]
    assert not report.has_errors(), report.generate_report()


def test_no_container_is_root_writes_to_its_image_or_has_a_capability(stack: Synthesized) -> None:
    for one in containers(stack).values():
        assert not one["user"].startswith(("0", "root"))
        assert one["readonlyRootFilesystem"] is True
        assert one["privileged"] is False
        assert one["linuxParameters"]["capabilities"] == {"drop": ["ALL"]}


def test_files_come_first_then_the_adapter_then_envoy(stack: Synthesized) -> None:
    made = containers(stack)
    assert [one["name"] for one in made.values() if not one["essential"]] == ["files"]
    assert made["adapter"]["dependsOn"] == [{"containerName": "files", "condition": "SUCCESS"}]
    assert made["envoy"]["dependsOn"] == [
        {"containerName": "files", "condition": "SUCCESS"},
        {"containerName": "adapter", "condition": "HEALTHY"},
    ]


def test_the_adapter_never_sees_clients_keys_and_only_files_writes(stack: Synthesized) -> None:
    mounted = {
        name: {mount["sourceVolume"]: mount["readOnly"] for mount in one["mountPoints"]}
        for name, one in containers(stack).items()
    }
    assert mounted["adapter"] == {"adapter-config": True}
    assert mounted["envoy"] == {"envoy-config": True, "envoy-keys": True}
    assert mounted["files"] == {"envoy-config": False, "envoy-keys": False, "adapter-config": False}
    assert {one["name"] for one in stack.one(DEFINITION).inputs["volumes"]} == set(mounted["files"])


def test_keys_are_in_the_secret_and_nowhere_in_the_task_definition(stack: Synthesized) -> None:
    definition = stack.one(DEFINITION).inputs["containerDefinitions"]
    assert KEY not in definition
    (secret,) = containers(stack)["files"]["secrets"]
    # A version of its own, so that a new key makes a new definition, which is rolled out.
    assert secret["valueFrom"] == "arn:aws:secretsmanager:::llm-gateway-clients:::11111111-2222"
    version = stack.one("aws:secretsmanager/secretVersion:SecretVersion").inputs
    # As the engine gets a secret: marked, with the value inside.
    kept = json.loads(version["secretString"]["value"])
    assert set(kept) == {"chat-app", "batch"}
    assert kept["chat-app"] == KEY == stack.outputs["apiKey"]["value"]


def test_a_destroyed_stack_can_have_the_secrets_name_again_at_once(stack: Synthesized) -> None:
    secret = stack.one("aws:secretsmanager/secret:Secret").inputs
    assert secret["recoveryWindowInDays"] == 0
    assert secret["kmsKeyId"] == "arn:aws:kms:::llm-clients"


def test_each_model_goes_to_its_endpoint_and_variants_are_one_model(stack: Synthesized) -> None:
    told = {one["name"]: one["value"] for one in containers(stack)["files"]["environment"]}
    adapter = json.loads(told["ADAPTER_CONFIG"])
    assert adapter["models"] == [
        {"name": "Qwen/Qwen3-8B", "endpoint": "llm-chat"},
        {
            "name": "Qwen/Qwen3-1.7B",
            "endpoint": "llm-small",
            "inferenceComponent": "llm-small-qwen3-1-7b",
        },
    ]
    assert "Qwen/Qwen3-8B" in told["ENVOY_ROUTES"]
    assert stack.outputs["models"] == ["Qwen/Qwen3-8B", "Qwen/Qwen3-1.7B"]


def test_what_is_known_of_a_models_speed_is_told_to_the_token_guard() -> None:
    made = declared(speeds=[{"model": "Qwen/Qwen3-8B", "safeTokens": 9000, "firstTokenSeconds": 5}])
    told = {one["name"]: one["value"] for one in containers(made)["files"]["environment"]}
    first, second = json.loads(told["ADAPTER_CONFIG"])["models"]
    assert (first["safeTokens"], first["firstTokenS"]) == (9000, 5)
    assert "safeTokens" not in second


def test_a_lora_adapter_is_asked_for_by_its_own_name() -> None:
    platform = platform_object("sagemaker")
    platform["models"][2]["adapters"] = [{"name": "legal"}]
    made = _declared(json.dumps(platform))
    assert made.outputs["models"] == ["Qwen/Qwen3-8B", "Qwen/Qwen3-1.7B", "legal"]


def test_tasks_of_arm_are_declared_as_such() -> None:
    made = declared(architecture="ARM64", cpu=2048, memoryMib=8192).one(DEFINITION).inputs
    assert made["runtimePlatform"]["cpuArchitecture"] == "ARM64"
    assert (made["cpu"], made["memory"]) == ("2048", "8192")


# What roles may do


def test_tasks_may_ask_the_stacks_own_endpoints_write_copies_of_one_and_do_nothing_else(
    stack: Synthesized,
) -> None:
    sagemaker = "arn:aws:sagemaker:us-east-1:123456789012:"
    everything = [
        f"{sagemaker}endpoint/llm-chat",
        f"{sagemaker}endpoint/llm-small",
        f"{sagemaker}inference-component/llm-small-qwen3-1-7b",
    ]
    assert rights(stack, "ask") == {
        "sagemaker:InvokeEndpoint": everything,
        "sagemaker:InvokeEndpointWithResponseStream": everything,
        # Masked copies of one endpoint's prompts.
        "s3:PutObject": ["arn:aws:s3:::llm-prompts-123456789012-us-east-1/capture/llm-chat/llm-chat/*"],
        "kms:GenerateDataKey": ["arn:aws:kms:::llm-prompts"],
    }


def test_ecs_may_read_one_secret_pull_two_images_and_write_two_logs(stack: Synthesized) -> None:
    may = rights(stack, "start")
    assert may["secretsmanager:GetSecretValue"] == ["arn:aws:secretsmanager:::llm-gateway-clients"]
    assert [one.rpartition("repository/")[2] for one in may["ecr:BatchGetImage"]] == [
        "llm/envoyproxy/envoy",
        "llm/example/spillway-sagemaker-gateway",
    ]
    assert len(may["logs:PutLogEvents"]) == 2
    assert {action for action, where in may.items() if where == ["*"]} == {"ecr:GetAuthorizationToken"}


# How it is kept running


def test_a_deployment_that_fails_goes_back_and_never_runs_fewer_tasks(stack: Synthesized) -> None:
    service = stack.one(SERVICE).inputs
    assert service["deploymentCircuitBreaker"] == {"enable": True, "rollback": True}
    assert service["deploymentMinimumHealthyPercent"] == 100
    assert service["deploymentMaximumPercent"] == 200
    assert service["desiredCount"] == 2


def test_cpu_use_and_requests_in_flight_decide_how_many_tasks_there_are(stack: Synthesized) -> None:
    assert stack.one(SERVICE).ignored_changes == ("desiredCount",)
    target = stack.one("aws:appautoscaling/target:Target", "llm-gateway").inputs
    assert (target["minCapacity"], target["maxCapacity"]) == (2, 4)
    assert target["resourceId"] == "service/llm-gateway/llm-gateway"
    tracked = "targetTrackingScalingPolicyConfiguration"
    cpu = stack.one("aws:appautoscaling/policy:Policy", "llm-gateway-cpu").inputs[tracked]
    assert cpu["predefinedMetricSpecification"] == {"predefinedMetricType": "ECSServiceAverageCPUUtilization"}
    busy = stack.one("aws:appautoscaling/policy:Policy", "llm-gateway-busy").inputs[tracked]
    counted = stack.one("aws:cloudwatch/logMetricFilter:LogMetricFilter", "llm-gateway-busy").inputs
    assert counted["logGroupName"] == "/spillway/llm/gateway/adapter"
    meant = counted["metricTransformation"]
    assert busy["customizedMetricSpecification"] == {
        "metricName": meant["name"],
        "namespace": meant["namespace"],
        "statistic": "Average",
    }
    nobody = Admission(max_requests=4, max_held_bytes=1, retry_after_s=1)
    assert meant["value"].removeprefix("$.") in json.loads(report_line(nobody, {}, Metrics()))


def test_a_fixed_number_of_tasks_is_kept_without_a_policy() -> None:
    made = declared(replicas={"min": 3, "max": 3})
    assert made.one("aws:appautoscaling/target:Target", "llm-gateway").inputs["minCapacity"] == 3
    assert not [one for one in made.of("aws:appautoscaling/policy:Policy") if "gateway" in one.name]


def test_the_service_waits_for_rights_rules_and_endpoints_and_goes_before_them(stack: Synthesized) -> None:
    before = stack.before(stack.one(SERVICE))
    for kind, name in (
        (LISTENER, "llm-gateway-entrance"),
        (ROLE_POLICY, "llm-gateway-start"),
        (ROLE_POLICY, "llm-gateway-ask"),
        (EGRESS, "llm-gateway-entrance-to-endpoints"),
        ("aws:ec2/vpcEndpoint:VpcEndpoint", "llm-network-secretsmanager"),
        ("aws:sagemaker/endpoint:Endpoint", "llm-chat"),
        ("aws:cloudcontrol/resource:Resource", "llm-small-qwen3-1-7b"),
    ):
        assert stack.one(kind, name).urn in before, name


def test_errors_are_counted_in_envoys_log_and_those_of_begun_answers_in_the_adapters(
    stack: Synthesized,
) -> None:
    counted = {
        one.name.removeprefix("llm-gateway-alarms-"): (
            one.inputs["metricTransformation"]["name"],
            one.inputs["logGroupName"],
            one.inputs["pattern"],
        )
        for one in stack.of("aws:cloudwatch/logMetricFilter:LogMetricFilter")
        if one.name.startswith("llm-gateway")
    }
    logs = {
        name: one["logConfiguration"]["options"]["awslogs-group"] for name, one in containers(stack).items()
    }
    broken = (
        '($.outcome = "model_failed") || ($.outcome = "stream_broken") || ($.outcome = "stream_failed") || '
        '($.outcome = "time_limit")'
    )
    assert counted == {
        "requests": ("gateway-requests", logs["envoy"], "{ $.status = * }"),
        "errors": ("gateway-errors", logs["envoy"], "{ $.status >= 500 }"),
        "broken": ("gateway-errors", logs["adapter"], f"{{ ($.status = 200) && ({broken}) }}"),
        "copies-kept": ("gateway-copies-kept", logs["adapter"], "{ $.copies_kept > 0 }"),
        "copies-lost": ("gateway-copies-lost", logs["adapter"], "{ $.copies_lost > 0 }"),
        "llm-gateway-busy": ("gateway-busy", logs["adapter"], "{ $.busy_percent >= 0 }"),
    }
    assert logs["envoy"] != logs["adapter"]


def test_lost_copies_are_alarmed_of(stack: Synthesized) -> None:
    alarm = stack.one("aws:cloudwatch/metricAlarm:MetricAlarm", "llm-gateway-alarms-copies-lost").inputs
    assert (alarm["metricName"], alarm["threshold"]) == ("gateway-copies-lost", 0)
    lost = stack.one("aws:cloudwatch/logMetricFilter:LogMetricFilter", "llm-gateway-alarms-copies-lost")
    assert lost.inputs["metricTransformation"]["value"] == "$.copies_lost"


def test_logs_are_encrypted_and_have_an_end(stack: Synthesized) -> None:
    for one in stack.of("aws:cloudwatch/logGroup:LogGroup"):
        assert one.inputs["kmsKeyId"] == "arn:aws:kms:::llm-logs"
        assert one.inputs["retentionInDays"] == 90


def test_without_a_gateway_there_is_nothing_of_it() -> None:
    platform = platform_object("sagemaker")
    del platform["gateway"]
    del platform["endpoints"][0]["capture"]
    made = _declared(json.dumps(platform))
    kinds = ("aws:ecs/", "aws:lb/", "aws:secretsmanager/", "random:")
    assert not [one for one in made.resources if one.type.startswith(kinds)]
    assert "endpoint" not in made.outputs
    assert made.outputs["models"] == ["Qwen/Qwen3-1.7B", "Qwen/Qwen3-8B"]


def test_a_model_with_a_pipeline_in_one_variant_is_not_streamed() -> None:
    platform = platform_object("sagemaker")
    guard = {
        "name": "guard",
        "image": f"123456789012.dkr.ecr.us-east-1.amazonaws.com/guard@sha256:{'3' * 64}",
    }
    platform["models"][1]["before"] = [guard]
    settings = parse_sagemaker(platform)
    streams = {one.name: one.streams for one in answered("llm", settings.models, settings.endpoints)}
    assert streams == {"Qwen/Qwen3-8B": False, "Qwen/Qwen3-1.7B": True}
