"""The committed stack `sagemaker` under the real engine, over the AWS double."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rehearsal.aws.account import AwsDouble
from rehearsal.aws.clients import client, page
from runtime.cost.estimate import estimate
from runtime.cost.summary import money
from runtime.stack_resources import from_preview_events, from_state
from stacks.declared import declared
from tests.support.hosted import decided
from tests.support.stack_files import ROOT, stack_settings

pytestmark = pytest.mark.engine

# What `stacks/__main__.py` does, with a few settings changed from outside.
PROGRAM = f"""
import pulumi
import yaml

from stacks import sagemaker
from stacks.before_up import look
from stacks.settings import parse_sagemaker

with open({str(ROOT / "stacks" / "Pulumi.sagemaker.yaml")!r}) as file:
    given = yaml.safe_load(file)["config"]["spillway:platform"]
config = pulumi.Config()
given["models"][0]["contextLength"] = config.get_int("context") or given["models"][0]["contextLength"]
given["declare"] = config.get("declare") or "all"
chat, small = given["endpoints"]
chat["variants"][1]["weight"] = config.get_int("canary") or 1
given["gateway"]["clients"] += (config.get("clients") or "").split()
if config.get_bool("keepsNone"):
    del chat["capture"]
if config.get_bool("larger"):
    for model in given["models"][:2]:
        model["tensorParallel"] = 4
    for variant in chat["variants"]:
        variant["instanceType"] = "ml.g6e.12xlarge"
settings = parse_sagemaker(given)
look(settings)
sagemaker.deploy(settings).export()
"""

# An endpoint with its component and provider, and nothing around it.
ENDPOINT_ALONE = """
import pulumi
import pulumi_aws
from pulumi_aws import sagemaker

from components.kubernetes.ownership import stack_name
from runtime.ops.aws_account import Boto3Account
from stacks.endpoint_updates import clear_failed_creations, require_taken

account = Boto3Account("us-east-1")
require_taken(account)
clear_failed_creations(account)
tags = {"tags": {"spillway:stack": stack_name()}}
provider = pulumi_aws.Provider("aws", region="us-east-1", default_tags=tags)
on_aws = pulumi.ResourceOptions(provider=provider)
parent = pulumi.ComponentResource("spillway:aws:Endpoint", "llm-chat", None, on_aws)
child = pulumi.ResourceOptions(parent=parent, provider=provider)
role = "arn:aws:iam::123456789012:role/r"
image = {"image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/a:1"}
model = sagemaker.Model("m", execution_role_arn=role, primary_container=image, opts=child)
variant = {"variant_name": "a", "model_name": model.name, "instance_type": "ml.g6e.2xlarge"}
variants = [{**variant, "initial_instance_count": 1}]
configuration = sagemaker.EndpointConfiguration("llm-chat", production_variants=variants, opts=child)
sagemaker.Endpoint("llm-chat", name="llm-chat", endpoint_config_name=configuration.name, opts=child)
"""


@pytest.fixture
def pulumi(
    tmp_path: Path, pulumi_cli: Path, pulumi_env: dict[str, str], double: AwsDouble
) -> Callable[..., str]:
    folder = tmp_path / "project"
    folder.mkdir()
    runtime = {"name": "python", "options": {"toolchain": "pip", "virtualenv": sys.prefix}}
    (folder / "Pulumi.yaml").write_text(json.dumps({"name": "demo", "runtime": runtime}))
    (folder / "__main__.py").write_text(PROGRAM)
    env = {**os.environ, **pulumi_env, **double.environment, "PULUMI_ENABLE_STREAMING_JSON_PREVIEW": "true"}

    def run(*arguments: str, fails: bool = False) -> str:
        done = subprocess.run(
            [pulumi_cli, *arguments, "--non-interactive"],
            cwd=folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert (done.returncode != 0) == fails, done.stdout
        return done.stdout

    run("stack", "init", "dev")
    return run


def up(pulumi: Callable[..., str], *options: str, fails: bool = False) -> str:
    return pulumi("up", "--yes", "--skip-preview", "--suppress-progress", *options, fails=fails)


def sagemaker_of(double: AwsDouble) -> Any:
    return client("sagemaker", double.environment["AWS_ENDPOINT_URL"], "us-east-1")


def gateway_of(double: AwsDouble) -> Any:
    ecs = client("ecs", double.environment["AWS_ENDPOINT_URL"], "us-east-1")
    (service,) = ecs.describe_services(cluster="llm-gateway", services=["llm-gateway"])["services"]
    return service


def definition_of(double: AwsDouble) -> Any:
    """What the gateway's service runs now."""
    ecs = client("ecs", double.environment["AWS_ENDPOINT_URL"], "us-east-1")
    named = gateway_of(double)["taskDefinition"]
    return ecs.describe_task_definition(taskDefinition=named)["taskDefinition"]


def test_endpoints_are_made_updated_in_place_and_taken_away_and_nothing_is_left(
    pulumi: Callable[..., str], double: AwsDouble
) -> None:
    previewed = from_preview_events(pulumi("preview", "--json").splitlines())
    assert previewed.errors == ()
    pulumi("config", "set", "declare", "foundation")
    said = up(pulumi)
    assert "aws:ecr:Repository" in said
    assert "aws:sagemaker" not in said
    pulumi("config", "rm", "declare")
    said = up(pulumi)
    assert "aws:sagemaker:Endpoint llm-chat created" in said
    exported = from_state(json.loads(pulumi("stack", "export")))
    declaration = declared(stack_settings("sagemaker"))
    for one in (estimate(previewed.after), estimate(exported), estimate(declaration)):
        assert one.unpriced == ()
        assert (money(one.hourly.floor), money(one.hourly.ceiling)) == ("$5.90", "$19.92")
    sagemaker = sagemaker_of(double)
    before = sagemaker.describe_endpoint(EndpointName="llm-chat")
    assert [one["CurrentWeight"] for one in before["ProductionVariants"]] == [9, 1]
    (component,) = sagemaker.list_inference_components()["InferenceComponents"]
    assert component["InferenceComponentName"] == "llm-small-qwen3-1-7b"
    pulumi("preview", "--expect-no-changes")

    # Autoscaling adds an instance, and an evaluation moves traffic: the count alone makes no update.
    now = [
        {"VariantName": "stable", "DesiredInstanceCount": 2, "DesiredWeight": 1},
        {"VariantName": "canary", "DesiredWeight": 3},
    ]
    sagemaker.update_endpoint_weights_and_capacities(EndpointName="llm-chat", DesiredWeightsAndCapacities=now)
    said = pulumi("preview", "--expect-no-changes")
    assert "endpoints[0].variants[0].weight: 1  # stable: 9" in said

    gateway = gateway_of(double)
    assert (gateway["desiredCount"], gateway["taskDefinition"].rpartition(":")[2]) == (2, "1")
    pulumi("config", "set", "clients", "evaluation")
    pulumi("config", "set", "canary", "3")
    said = up(pulumi)
    # Another configuration takes the place of the first, which goes when the endpoint has the new one.
    assert "aws:sagemaker:Endpoint llm-chat updated" in said
    after = sagemaker.describe_endpoint(EndpointName="llm-chat")
    assert after["EndpointConfigName"] != before["EndpointConfigName"]
    assert [one["CurrentWeight"] for one in after["ProductionVariants"]] == [9, 3]
    assert [one["CurrentInstanceCount"] for one in after["ProductionVariants"]] == [2, 1]
    left = [one["EndpointConfigName"] for one in sagemaker.list_endpoint_configs()["EndpointConfigs"]]
    assert before["EndpointConfigName"] not in left
    assert len(left) == 2
    # A new key is another version of the secret, which the new task definition names.
    assert gateway_of(double)["taskDefinition"].rpartition(":")[2] == "2"
    assert set(json.loads(pulumi("stack", "output", "apiKeys", "--show-secrets"))) == {
        "chat-app",
        "batch",
        "evaluation",
    }
    (files, *_) = definition_of(double)["containerDefinitions"]
    secret, _, version = files["secrets"][0]["valueFrom"].rpartition(":::")
    secrets = client("secretsmanager", double.environment["AWS_ENDPOINT_URL"], "us-east-1")
    kept = secrets.get_secret_value(SecretId=secret, VersionId=version)["SecretString"]
    assert "evaluation" in json.loads(kept)

    # SageMaker takes another instance type only while nothing scales the variant.
    pulumi("config", "set", "larger", "true")
    said = up(pulumi)
    assert "llm-chat: no scaling of stable until the update is through" in said
    assert "aws:sagemaker:Endpoint llm-chat updated" in said
    scaling = client("application-autoscaling", double.environment["AWS_ENDPOINT_URL"], "us-east-1")
    targets = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert "endpoint/llm-chat/variant/stable" in {one["ResourceId"] for one in targets}
    policies = scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    assert "llm-chat-stable-requests" in {one["PolicyName"] for one in policies}

    pulumi("destroy", "--yes", "--skip-preview", "--suppress-progress")
    assert double.leftovers() == []


def test_prompts_outlive_the_last_capture_with_their_end_and_their_key_until_somebody_empties_the_bucket(
    pulumi: Callable[..., str], double: AwsDouble
) -> None:
    endpoint, bucket = double.environment["AWS_ENDPOINT_URL"], "llm-prompts-123456789012-us-east-1"
    s3 = client("s3", endpoint, "us-east-1")

    def kept() -> set[str]:
        """What the double has of the bucket's parts, and the key's alias."""
        return {
            one["type"].rpartition(":")[2]
            for one in page(endpoint, "GET", "store")["resources"]
            if one["id"] in (bucket, "alias/llm-prompts")
        }

    pulumi("config", "set", "declare", "foundation")
    up(pulumi)
    before = kept()
    assert {"BucketLifecycleConfiguration", "BucketPolicy", "BucketPublicAccessBlock", "Alias"} <= before
    version = s3.put_object(Bucket=bucket, Key="capture/llm-chat/one.jsonl", Body=b"{}")["VersionId"]
    pulumi("config", "set", "keepsNone", "true")
    with pytest.raises(AssertionError) as failed:
        up(pulumi)
    assert f"bucket {bucket} is not empty, and the stack file keeps no prompts" in str(failed.value)
    assert "BucketNotEmpty" in str(failed.value)
    assert kept() == before
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"

    s3.delete_object(Bucket=bucket, Key="capture/llm-chat/one.jsonl", VersionId=version)
    up(pulumi)
    assert kept() == set()
    pulumi("destroy", "--yes", "--skip-preview", "--suppress-progress")
    assert double.leftovers() == []


def test_a_decision_moves_what_the_program_declared_until_the_program_says_otherwise(
    pulumi: Callable[..., str], double: AwsDouble, tmp_path: Path
) -> None:
    up(pulumi)
    revisions = [one.source.revision for one in stack_settings("sagemaker").models]
    results = decided("promote", tmp_path / "results", revision=revisions[1], baseline=revisions[0])
    command = [sys.executable, "-m", "runtime.ops", "evaluate", "apply", str(results)]
    applied = subprocess.run(
        [*command, "--endpoint-name", "llm-chat", "--steps", "50", "--bake", "0"],
        env={**os.environ, **double.environment, "AWS_DEFAULT_REGION": "us-east-1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert applied.returncode == 0, applied.stdout
    assert "recorded as version 1 of llm-Qwen-Qwen3-8B: Approved" in applied.stdout
    assert "no rollback alarms" not in applied.stdout
    assert "In endpoints, chat, variants:\n  stable: weight: 1\n  canary: weight: 1\n" in applied.stdout

    def weights() -> list[float]:
        found = sagemaker_of(double).describe_endpoint(EndpointName="llm-chat")["ProductionVariants"]
        return [one["CurrentWeight"] for one in found]

    assert weights() == [5, 5]
    pulumi("preview", "--refresh", "--expect-no-changes")
    up(pulumi)
    assert weights() == [5, 5]
    pulumi("config", "set", "canary", "2")
    up(pulumi)
    assert weights() == [9, 2]


def test_an_update_that_sagemaker_took_back_fails_and_what_runs_is_kept_until_one_is_taken(
    pulumi: Callable[..., str], double: AwsDouble
) -> None:
    sagemaker = sagemaker_of(double)

    def runs() -> str:
        """The configuration of the endpoint, which is there with its models."""
        name = sagemaker.describe_endpoint(EndpointName="llm-chat")["EndpointConfigName"]
        found = sagemaker.describe_endpoint_config(EndpointConfigName=name)["ProductionVariants"]
        for one in found:
            sagemaker.describe_model(ModelName=one["ModelName"])
        return name

    up(pulumi)
    before = runs()
    double.put_script({"takenBack": {"llm-chat": "an alarm went off"}})
    pulumi("config", "set", "context", "16384")
    said = up(pulumi, fails=True)
    assert f"endpoint llm-chat runs {before}, and was given " in said
    assert "SageMaker took the update back: an alarm went off" in said
    assert "llm-chat-errors is " in said
    assert "Traceback" not in said
    assert runs() == before
    # Pulumi takes the update for done, and would delete now what it replaced.
    assert "pulumi up --refresh" in up(pulumi, fails=True)
    assert runs() == before
    # Tried again, and taken back again.
    up(pulumi, "--refresh", fails=True)
    assert runs() == before

    double.put_script({})
    up(pulumi, "--refresh")
    assert runs() != before
    left = [one["EndpointConfigName"] for one in sagemaker.list_endpoint_configs()["EndpointConfigs"]]
    assert (before in left, len(left)) == (False, 2)
    pulumi("preview", "--expect-no-changes")

    # Or the stack file is put back.
    double.put_script({"takenBack": {"llm-chat": "an alarm went off"}})
    pulumi("config", "rm", "context")
    up(pulumi, fails=True)
    double.put_script({})
    pulumi("config", "set", "context", "16384")
    up(pulumi)
    runs()
    assert len(sagemaker.list_endpoint_configs()["EndpointConfigs"]) == 2


def test_an_endpoint_whose_creation_failed_is_made_anew_and_one_that_came_late_can_be_adopted(
    pulumi: Callable[..., str], double: AwsDouble, tmp_path: Path
) -> None:
    (tmp_path / "project" / "__main__.py").write_text(ENDPOINT_ALONE)
    sagemaker = sagemaker_of(double)
    double.put_script({"failing": {"llm-chat": "no image"}})
    assert "no image" in up(pulumi, fails=True)
    double.put_script({})
    assert "llm-chat: deleted, because its creation had failed" in up(pulumi)
    made = sagemaker.describe_endpoint(EndpointName="llm-chat")
    assert made["EndpointStatus"] == "InService"

    # As where it was in service only after the provider had given up.
    parent = "spillway:aws:Endpoint"
    urn = f"urn:pulumi:dev::demo::{parent}$aws:sagemaker/endpoint:Endpoint::llm-chat"
    pulumi("state", "delete", urn, "--yes", "--target-dependents")
    said = up(pulumi, fails=True)
    assert "endpoint llm-chat is there, InService, and Pulumi's state does not have it" in said
    (line,) = {one.strip() for one in said.splitlines() if one.strip().startswith("pulumi import")}
    pulumi(*shlex.split(line)[1:], "--yes", "--skip-preview")
    up(pulumi, "--refresh", "--expect-no-changes")
    after = sagemaker.describe_endpoint(EndpointName="llm-chat")
    assert after["CreationTime"] == made["CreationTime"]
