"""What stack `sagemaker` declares, and the pitfalls of SageMaker that it stays clear of, one test each."""

import json
from functools import cache
from itertools import pairwise
from typing import Any

import pytest

from runtime.sagemaker_gateway import AdapterConfig
from runtime.sagemaker_gateway.capture.config import ENTITIES
from stacks.settings import parse_sagemaker
from tests.support.stack_files import declare, platform_object
from tests.support.synth import Registered, Synthesized, synth

MODEL = "aws:sagemaker/model:Model"
CONFIGURATION = "aws:sagemaker/endpointConfiguration:EndpointConfiguration"
ENDPOINT = "aws:sagemaker/endpoint:Endpoint"
COMPONENT = "aws:cloudcontrol/resource:Resource"
TARGET = "aws:appautoscaling/target:Target"
POLICY = "aws:appautoscaling/policy:Policy"
ALARM = "aws:cloudwatch/metricAlarm:MetricAlarm"
ROLE_POLICY = "aws:iam/rolePolicy:RolePolicy"
REPOSITORIES = {
    "llm-storage-vllm",
    "llm-storage-djl-inference",
    "llm-storage-envoyproxy-envoy",
    "llm-storage-example-spillway-sagemaker-gateway",
}
DIGEST = "sha256:" + "2" * 64


@cache
def _declared(platform: str) -> Synthesized:
    return synth(lambda: declare(parse_sagemaker(json.loads(platform))))


def declared(platform: dict[str, Any]) -> Synthesized:
    """Several tests look at one variant; none of them changes it."""
    return _declared(json.dumps(platform))


@pytest.fixture
def stack() -> Synthesized:
    return declared(platform_object("sagemaker"))


def alone(**variant: Any) -> dict[str, Any]:
    """The committed stack with endpoint `chat` alone, of one variant and without a gateway."""
    platform = platform_object("sagemaker")
    del platform["gateway"]
    chat = platform["endpoints"][0]
    # Only a gateway masks.
    chat["capture"]["personalData"] = "raw"
    chat["variants"] = [
        {"name": "stable", "model": "qwen3-8b", "instanceType": "ml.g6e.2xlarge", **variant},
    ]
    return {**platform, "models": platform["models"][:1], "endpoints": [chat]}


# Pitfalls


def test_no_model_and_no_configuration_has_a_fixed_name_so_both_can_be_replaced(stack: Synthesized) -> None:
    for one in (*stack.of(MODEL), *stack.of(CONFIGURATION)):
        assert "name" not in one.inputs, one.name
    # The endpoint's own name stays, because alarms, clients and scaling go by it.
    assert {one.inputs["name"] for one in stack.of(ENDPOINT)} == {"llm-chat", "llm-small"}


def test_weights_are_whole_numbers_because_fractions_replace_the_configuration_at_each_update(
    stack: Synthesized,
) -> None:
    variants = stack.one(CONFIGURATION, "llm-chat").inputs["productionVariants"]
    assert [one["initialVariantWeight"] for one in variants] == [9, 1]


def test_a_model_for_neuron_devices_gets_their_driver_a_volume_key_and_its_own_servers_flags() -> None:
    platform = alone(instanceType="ml.inf2.8xlarge")
    platform["models"][0] |= {
        "accelerator": "aws-inferentia2",
        "container": "neuron",
        "image": f"763104351884.dkr.ecr.us-east-1.amazonaws.com/huggingface-vllm-inference-neuronx@{DIGEST}",
        "tensorParallel": 2,
        "contextLength": 4096,
        "maxSequences": 8,
    }
    stack = declared(platform)
    configuration = stack.one(CONFIGURATION, "llm-chat").inputs
    (variant,) = configuration["productionVariants"]
    assert variant["inferenceAmiVersion"] == "al2-ami-sagemaker-inference-neuron-2"
    assert configuration["kmsKeyArn"]
    told = stack.one(MODEL, "llm-qwen3-8b").inputs["primaryContainer"]["environment"]
    assert told["SM_ON_TENSOR_PARALLEL_SIZE"] == "2"
    # SageMaker publishes none of the metrics of GPUs for them.
    assert not [one for one in stack.of(ALARM) if "GPU" in json.dumps(one.inputs)]


def test_an_image_with_cuda_13_gets_the_driver_for_it_and_not_the_older_default(stack: Synthesized) -> None:
    for one in stack.of(CONFIGURATION):
        for variant in one.inputs["productionVariants"]:
            assert variant["inferenceAmiVersion"] == "al2023-ami-sagemaker-inference-gpu-4-1"


def test_weights_are_loaded_uncompressed_from_a_folder_that_ends_with_a_slash(stack: Synthesized) -> None:
    for model in stack.of(MODEL):
        (source,) = model.inputs["primaryContainer"]["modelDataSource"]["s3DataSources"]
        assert (source["s3DataType"], source["compressionType"]) == ("S3Prefix", "None")
        assert source["s3Uri"].startswith("s3://llm-models-123456789012-us-east-1/models/")
        assert source["s3Uri"].endswith("/")


def test_a_container_without_network_asks_no_hub_and_loads_from_its_folder(stack: Synthesized) -> None:
    for model in stack.of(MODEL):
        assert model.inputs["enableNetworkIsolation"] is True
        environment = model.inputs["primaryContainer"]["environment"]
        where = environment.get("SM_VLLM_MODEL") or environment["HF_MODEL_ID"]
        assert where == "/opt/ml/model"
        assert environment["HF_HUB_OFFLINE"] == "1"


def test_local_disks_get_no_key_and_no_size_because_sagemaker_refuses_both(stack: Synthesized) -> None:
    for one in stack.of(CONFIGURATION):
        assert "kmsKeyArn" not in one.inputs
        assert all("volumeSizeInGb" not in variant for variant in one.inputs["productionVariants"])
    assert "llm-volumes" not in {one.name for one in stack.of("aws:kms/key:Key")}


def test_a_configuration_is_there_before_its_endpoint_and_components_go_before_it(stack: Synthesized) -> None:
    endpoint = stack.one(ENDPOINT, "llm-small")
    component = stack.one(COMPONENT)
    target = stack.one(TARGET, "llm-small-qwen3-1-7b-copies")
    policies = [one for one in stack.of(POLICY) if one.name.startswith("llm-small")]
    order = [stack.one(CONFIGURATION, "llm-small"), endpoint, component, target]
    for first, then in pairwise(order):
        assert first.urn in stack.before(then), f"{then.name} must go before {first.name}"
    assert len(policies) == 2
    for policy in policies:
        assert target.urn in stack.before(policy)


def test_the_alarms_that_take_an_update_back_are_there_before_the_endpoint_and_are_about_it(
    stack: Synthesized,
) -> None:
    endpoint = stack.one(ENDPOINT, "llm-chat")
    rollback = endpoint.inputs["deploymentConfig"]["autoRollbackConfiguration"]["alarms"]
    names = {one["alarmName"] for one in rollback}
    assert names == {"llm-chat-errors", "llm-chat-stable-first-token", "llm-chat-canary-first-token"}
    for name in names:
        assert stack.one(ALARM, name).urn in stack.before(endpoint)
    queries = stack.one(ALARM, "llm-chat-stable-first-token").inputs["metricQueries"]
    assert {one["id"]: one["metric"]["stat"] for one in queries if "metric" in one} == {
        "slow": "p95",
        "count": "SampleCount",
    }


def test_an_update_may_take_longer_than_all_its_waits(stack: Synthesized) -> None:
    policy = stack.one(ENDPOINT, "llm-chat").inputs["deploymentConfig"]["blueGreenUpdatePolicy"]
    routing = policy["trafficRoutingConfiguration"]
    waits = routing["waitIntervalInSeconds"] + policy["terminationWaitInSeconds"]
    assert routing["type"] == "CANARY"
    assert routing["canarySize"] == {"type": "CAPACITY_PERCENT", "value": 10}
    assert waits < policy["maximumExecutionTimeoutInSeconds"] <= 14_400


def test_scarce_machines_are_updated_in_batches_and_not_beside_a_second_fleet() -> None:
    platform = alone()
    platform["endpoints"][0]["deployment"] = {"strategy": "rolling"}
    deployment = declared(platform).one(ENDPOINT).inputs["deploymentConfig"]
    assert "blueGreenUpdatePolicy" not in deployment
    policy = deployment["rollingUpdatePolicy"]
    assert policy["maximumBatchSize"] == {"type": "CAPACITY_PERCENT", "value": 50}
    assert 600 < policy["maximumExecutionTimeoutInSeconds"] <= 14_400


def test_what_rests_at_none_has_a_second_policy_for_its_first_copy(stack: Synthesized) -> None:
    alarm = stack.one(ALARM, "llm-small-qwen3-1-7b-copies-no-capacity")
    assert alarm.inputs["metricName"] == "NoCapacityInvocationFailures"
    assert alarm.inputs["dimensions"] == {"InferenceComponentName": "llm-small-qwen3-1-7b"}
    assert alarm.inputs["period"] == 60
    first = stack.one(POLICY, "llm-small-qwen3-1-7b-copies-first")
    assert first.inputs["policyType"] == "StepScaling"
    assert first.urn in stack.before(alarm)
    assert stack.one(TARGET, "llm-small-qwen3-1-7b-copies").inputs["minCapacity"] == 0


def test_machines_of_components_scale_from_none_and_run_in_the_endpoints_role(stack: Synthesized) -> None:
    configuration = stack.one(CONFIGURATION, "llm-small").inputs
    (variant,) = configuration["productionVariants"]
    assert "modelName" not in variant
    assert configuration["executionRoleArn"]
    scaling = variant["managedInstanceScaling"]
    assert scaling == {"status": "ENABLED", "minInstanceCount": 0, "maxInstanceCount": 1}


def test_requests_at_a_time_are_what_is_scaled_by_and_not_requests_a_minute(stack: Synthesized) -> None:
    policy = stack.one(POLICY, "llm-chat-stable-requests").inputs
    tracking = policy["targetTrackingScalingPolicyConfiguration"]
    measured = tracking["predefinedMetricSpecification"]["predefinedMetricType"]
    assert measured == "SageMakerVariantConcurrentRequestsPerModelHighResolution"
    # Three quarters of maxSequences, as Ray Serve's autoscaler has it on-prem.
    assert tracking["targetValue"] == 48


def test_a_log_group_is_there_before_sagemaker_makes_one_without_an_end_and_without_a_key(
    stack: Synthesized,
) -> None:
    endpoint = stack.one(ENDPOINT, "llm-chat")
    group = stack.one("aws:cloudwatch/logGroup:LogGroup", "llm-chat-logs")
    assert group.inputs["name"] == "/aws/sagemaker/Endpoints/llm-chat"
    assert group.inputs["retentionInDays"] == 90
    assert group.inputs["kmsKeyId"]
    assert group.urn in stack.before(endpoint)


def test_a_component_has_a_log_of_its_own_before_it_where_its_containers_write(stack: Synthesized) -> None:
    name = "llm-small-qwen3-1-7b"
    group = stack.one("aws:cloudwatch/logGroup:LogGroup", f"{name}-logs")
    assert group.inputs["name"] == f"/aws/sagemaker/InferenceComponents/{name}"
    assert group.inputs["retentionInDays"] == 90
    assert group.inputs["kmsKeyId"]
    assert group.urn in stack.before(stack.one(COMPONENT))


def test_metrics_are_read_where_containers_write_and_the_dashboard_shows_them() -> None:
    platform = platform_object("sagemaker")
    platform["models"][2] |= {"container": "vllm", "image": platform["models"][0]["image"]}
    stack = declared(platform)
    watched = {
        one.inputs["metricTransformation"]["name"]: one.inputs["logGroupName"]
        for one in stack.of("aws:cloudwatch/logMetricFilter:LogMetricFilter")
        if "gateway" not in one.name
    }
    part, logs = "llm-small-qwen3-1-7b", "/aws/sagemaker"
    kinds = ("out-of-memory", "prompt-tokens-per-second", "generation-tokens-per-second")
    assert watched == {
        **{f"llm-chat-{kind}": f"{logs}/Endpoints/llm-chat" for kind in kinds},
        **{f"{part}-{kind}": f"{logs}/InferenceComponents/{part}" for kind in kinds},
    }
    board = stack.one("aws:cloudwatch/dashboard:Dashboard").inputs["dashboardBody"]
    for name in watched:
        assert name in board or name.endswith("out-of-memory")


def test_masked_prompts_are_not_captured_by_the_endpoint_which_could_not_mask_them(
    stack: Synthesized,
) -> None:
    assert "dataCaptureConfig" not in stack.one(CONFIGURATION, "llm-chat").inputs
    # The bucket is there, with an end for what the gateway will write.
    rules = stack.one(
        "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration", "llm-prompts-lifecycle"
    ).inputs["rules"]
    # The second is for endpoints that captured once.
    ends = [(one["filter"]["prefix"], one["expiration"]["days"]) for one in rules]
    assert ends == [("capture/llm-chat/", 14), ("", 365)]


def test_a_bucket_that_cannot_be_deleted_keeps_what_protects_and_ends_its_content(
    stack: Synthesized,
) -> None:
    for name, key in (("llm-prompts", "llm-prompts"), ("llm-storage", "llm-storage")):
        bucket = stack.one("aws:s3/bucket:Bucket", name)
        parts = [one for one in stack.resources if one.type.startswith("aws:s3/") and one.parent == name]
        assert {one.deleted_with for one in parts if one is not bucket} == {bucket.urn}
        assert len(parts) == 7
        before = stack.before(bucket)
        assert stack.one("aws:kms/key:Key", key).urn in before
        assert stack.one("aws:kms/alias:Alias", f"{key}-alias").urn in before


def test_the_gateway_keeps_masked_prompts_and_may_write_them_there_and_nothing_else(
    stack: Synthesized,
) -> None:
    containers = json.loads(stack.one("aws:ecs/taskDefinition:TaskDefinition").inputs["containerDefinitions"])
    told = {one["name"]: one["value"] for one in containers[0]["environment"]}
    capture = AdapterConfig.model_validate_json(told["ADAPTER_CONFIG"]).capture
    assert capture is not None
    assert [(one.endpoint, one.percent, one.prefix) for one in capture.endpoints] == [
        ("llm-chat", 5, "capture/llm-chat/")
    ]
    assert capture.bucket == stack.one("aws:s3/bucket:Bucket", "llm-prompts").inputs["bucket"]
    [alias] = [one.inputs["name"] for one in stack.of("aws:kms/alias:Alias") if "prompts" in one.name]
    assert capture.kms_key_id.endswith(f":{alias}")
    assert capture.entities == ENTITIES, "all that can be masked"
    rights = json.loads(stack.one("aws:iam/rolePolicy:RolePolicy", "llm-gateway-ask").inputs["policy"])
    told_of_s3 = [one for one in rights["Statement"] if "sagemaker" not in json.dumps(one["Action"])]
    assert [(one["Action"], one["Resource"], one.get("Condition")) for one in told_of_s3] == [
        (["s3:PutObject"], [f"arn:aws:s3:::{capture.bucket}/capture/llm-chat/llm-chat/*"], None),
        (
            ["kms:GenerateDataKey"],
            told_of_s3[1]["Resource"],
            {"StringEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}},
        ),
    ]


def test_a_gateway_of_endpoints_that_keep_nothing_may_write_nothing() -> None:
    platform = platform_object("sagemaker")
    del platform["endpoints"][0]["capture"]
    rights = declared(platform).one("aws:iam/rolePolicy:RolePolicy", "llm-gateway-ask").inputs["policy"]
    assert "s3:" not in rights
    assert "kms:" not in rights


def test_raw_prompts_are_captured_as_text_and_encrypted_and_only_a_part_of_them() -> None:
    platform = alone()
    platform["endpoints"][0]["capture"] = {"percent": 5, "personalData": "raw"}
    capture = declared(platform).one(CONFIGURATION).inputs["dataCaptureConfig"]
    assert capture["initialSamplingPercentage"] == 5
    # Without the header JSON is captured in base64.
    assert "application/json" in capture["captureContentTypeHeader"]["jsonContentTypes"]
    assert capture["kmsKeyId"]
    assert capture["destinationS3Uri"].endswith("/capture/llm-chat")


def test_nothing_is_kept_of_prompts_where_nothing_says_so() -> None:
    platform = alone()
    del platform["endpoints"][0]["capture"]
    made = declared(platform)
    assert {one.name for one in made.of("aws:s3/bucket:Bucket")} == {"llm-storage"}
    assert {one.name for one in made.of("aws:kms/key:Key")} == {"llm-logs", "llm-storage"}


# Variants of other kinds


def test_a_pipeline_is_several_containers_in_a_row_with_the_models_among_them() -> None:
    platform = alone()
    image = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/mask@{DIGEST}"
    platform["models"][0]["before"] = [{"name": "mask", "image": image, "environment": {"LEVEL": "high"}}]
    platform["models"][0]["after"] = [{"name": "guard", "image": image}]
    made = declared(platform)
    model = made.one(MODEL).inputs
    assert "primaryContainer" not in model
    assert [one["containerHostname"] for one in model["containers"]] == ["mask", "model", "guard"]
    assert model["inferenceExecutionConfig"] == {"mode": "Serial"}
    # A pipeline answers as a whole, so nothing may wait for a first token.
    assert not [one for one in made.of(ALARM) if "first-token" in one.name]
    assert made.outputs["endpoints"]["chat"]["streams"] is False


def test_a_shadow_gets_copies_of_requests_beside_one_variant() -> None:
    platform = platform_object("sagemaker")
    platform["endpoints"][0]["variants"][1] |= {"name": "shadow", "shadow": True}
    configuration = declared(platform).one(CONFIGURATION, "llm-chat").inputs
    assert [one["variantName"] for one in configuration["productionVariants"]] == ["stable"]
    assert [one["variantName"] for one in configuration["shadowProductionVariants"]] == ["shadow"]


def test_asynchronous_requests_lie_in_the_bucket_and_may_find_no_machine_at_rest() -> None:
    platform = alone(replicas={"min": 0, "max": 2})
    platform["endpoints"][0]["asynchronous"] = {"retentionDays": 3}
    del platform["endpoints"][0]["capture"]
    made = declared(platform)
    configuration = made.one(CONFIGURATION).inputs
    assert configuration["productionVariants"][0]["initialInstanceCount"] == 1
    written = configuration["asyncInferenceConfig"]["outputConfig"]
    assert written["s3OutputPath"].endswith("/async/llm-chat/answers")
    assert written["notificationConfig"]["errorTopic"]
    assert made.one(TARGET).inputs["minCapacity"] == 0
    # SageMaker publishes a failure in the containers' role.
    assert "sns:Publish" in {action for one in rights(made) for action in one["Action"]}
    metrics = {one.inputs.get("metricName") for one in made.of(ALARM)}
    # Metrics of live requests are not published for such an endpoint.
    assert {"HasBacklogWithoutCapacity", "InvocationFailures"} <= metrics
    assert not metrics & {"ModelLatency", "FirstChunkLatency", "Invocations"}


def test_adapters_are_told_to_both_images_by_the_folder_beside_the_weights() -> None:
    platform = alone()
    platform["models"][0]["adapters"] = [{"name": "legal"}]
    environment = declared(platform).one(MODEL).inputs["primaryContainer"]["environment"]
    assert environment["SM_VLLM_ENABLE_LORA"] == "true"
    assert environment["SM_VLLM_LORA_MODULES"] == "legal=/opt/ml/model/adapters/legal"
    platform["models"][0] |= {"container": "lmi", "adapters": [{"name": "legal"}, {"name": "medical"}]}
    environment = declared(platform).one(MODEL).inputs["primaryContainer"]["environment"]
    assert environment["OPTION_ENABLE_LORA"] == "true"
    assert environment["HF_MODEL_ID"] == "/opt/ml/model"


def test_the_first_up_can_make_only_what_staging_needs() -> None:
    made = declared({**platform_object("sagemaker"), "declare": "foundation"})
    assert not [one for one in made.resources if one.type.startswith(("aws:sagemaker/", "aws:appauto"))]
    assert made.outputs["cloudStaging"]["bucket"] == "llm-models-123456789012-us-east-1"
    assert not [one for one in made.resources if one.type.startswith(("aws:ecs/", "aws:lb/"))]
    assert names_of(made.of("aws:ecr/repository:Repository")) == REPOSITORIES


# Safe by default


def rights(stack: Synthesized) -> list[dict[str, Any]]:
    return json.loads(stack.one(ROLE_POLICY, "llm-hosting-role").inputs["policy"])["Statement"]


def test_containers_may_read_weights_below_one_folder_and_write_nowhere_but_to_kept_prompts(
    stack: Synthesized,
) -> None:
    for statement in rights(stack):
        for action in statement["Action"]:
            assert "*" not in action
        if {"s3:GetObject", "s3:PutObject"} & set(statement["Action"]):
            assert all(
                "/models/" in one or "/capture/" in one or "/async/" in one for one in statement["Resource"]
            )
    # What IAM knows no resource for, and nothing else.
    everywhere = {one for each in rights(stack) if each["Resource"] == ["*"] for one in each["Action"]}
    assert {one for one in everywhere if not one.startswith("ec2:Describe")} == {
        "cloudwatch:PutMetricData",
        "ecr:GetAuthorizationToken",
    }


def test_containers_may_write_the_logs_of_endpoints_and_of_components(stack: Synthesized) -> None:
    (logs,) = (one["Resource"] for one in rights(stack) if "logs:PutLogEvents" in one["Action"])
    every = "arn:aws:logs:us-east-1:123456789012:log-group:/aws/sagemaker"
    for group in (f"{every}/Endpoints/llm-*", f"{every}/InferenceComponents/llm-*"):
        assert {group, f"{group}:*"} <= set(logs)


def test_the_role_may_look_at_the_alarms_that_take_an_update_back_and_at_no_others(
    stack: Synthesized,
) -> None:
    (seen,) = (one["Resource"] for one in rights(stack) if "cloudwatch:DescribeAlarms" in one["Action"])
    assert seen == ["arn:aws:cloudwatch:us-east-1:123456789012:alarm:llm-*"]
    rollback = stack.one(ENDPOINT, "llm-chat").inputs["deploymentConfig"]["autoRollbackConfiguration"]
    assert rollback["alarms"]
    assert all(one["alarmName"].startswith("llm-") for one in rollback["alarms"])


def test_a_stack_that_keeps_no_prompts_lets_its_containers_write_none() -> None:
    platform = alone()
    del platform["endpoints"][0]["capture"]
    actions = {action for one in rights(declared(platform)) for action in one["Action"]}
    assert not {"s3:PutObject", "sns:Publish"} & actions
    assert "kms:GenerateDataKey" not in actions


def test_containers_reach_s3_and_private_endpoints_and_no_address_beside_them(stack: Synthesized) -> None:
    egress = [
        one
        for one in stack.of("aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule")
        if one.inputs["securityGroupId"] == "llm-hosting-containers-id"
    ]
    assert [one.inputs.get("cidrIpv4") for one in egress] in (["10.30.0.0/16", None], [None, "10.30.0.0/16"])
    assert all((one.inputs["fromPort"], one.inputs["toPort"]) == (443, 443) for one in egress)
    entered = stack.of("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule")
    assert not [one for one in entered if one.inputs["securityGroupId"] == "llm-hosting-containers-id"]
    assert not stack.of("aws:ec2/natGateway:NatGateway")
    assert not stack.of("aws:ec2/internetGateway:InternetGateway")


def test_an_existing_network_is_used_and_nothing_of_it_is_changed() -> None:
    subnets = [
        {"id": f"subnet-0123456789abcdef{n}", "zone": f"us-east-1{zone}"} for n, zone in enumerate("ab")
    ]
    existing = {
        "vpcId": "vpc-0123456789abcdef0",
        "cidr": "10.9.0.0/16",
        "s3PrefixList": "pl-63a5400a",
        "subnets": subnets,
    }
    made = declared({**platform_object("sagemaker"), "network": {"existing": existing}})
    assert not made.of("aws:ec2/vpc:Vpc")
    assert not made.of("aws:ec2/vpcEndpoint:VpcEndpoint")
    for model in made.of(MODEL):
        assert model.inputs["vpcConfig"]["subnets"] == [one["id"] for one in subnets]
    reached = {
        one.inputs.get("cidrIpv4") or one.inputs["prefixListId"]
        for one in made.of("aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule")
        if "referencedSecurityGroupId" not in one.inputs
    }
    assert reached == {"10.9.0.0/16", "pl-63a5400a"}


def test_every_alarm_tells_somebody_or_is_part_of_one_that_does(stack: Synthesized) -> None:
    rules = " ".join(
        one.inputs["alarmRule"] for one in stack.of("aws:cloudwatch/compositeAlarm:CompositeAlarm")
    )
    for alarm in stack.of(ALARM):
        assert alarm.inputs.get("alarmActions") or f'ALARM("{alarm.inputs["name"]}")' in rules, alarm.name


def test_a_component_bears_the_stacks_tags_but_not_its_expiry_which_would_replace_it(
    stack: Synthesized,
) -> None:
    state = json.loads(stack.one(COMPONENT).inputs["desiredState"])
    keys = {one["Key"] for one in state["Tags"]}
    assert {"spillway:platform", "spillway:stack"} <= keys
    assert "spillway:expires" not in keys


def test_outputs_say_where_a_model_is_answered(stack: Synthesized) -> None:
    assert stack.outputs["models"] == ["Qwen/Qwen3-8B", "Qwen/Qwen3-1.7B"]
    chat, small = stack.outputs["endpoints"]["chat"], stack.outputs["endpoints"]["small"]
    assert (chat["name"], chat["models"], chat["streams"]) == ("llm-chat", ["Qwen/Qwen3-8B"], True)
    assert small["components"] == {"Qwen/Qwen3-1.7B": "llm-small-qwen3-1-7b"}


def names_of(resources: list[Registered]) -> set[str]:
    return {one.name for one in resources}


def test_both_images_are_pulled_by_digest_from_the_accounts_own_registry(stack: Synthesized) -> None:
    for model in stack.of(MODEL):
        image = model.inputs["primaryContainer"]["image"]
        assert image.startswith("123456789012.dkr.ecr.us-east-1.amazonaws.com/llm/")
        assert "@sha256:" in image
    assert names_of(stack.of("aws:ecr/repository:Repository")) == REPOSITORIES
