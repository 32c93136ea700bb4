"""The stand-in aws provider under the real engine, with an unmodified `pulumi_aws` program."""

import contextlib
import json
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from rehearsal.aws.account import AwsDouble
from rehearsal.aws.clients import DoubleError, client

pytestmark = pytest.mark.engine

NETWORK = """
    import json
    import pulumi
    import pulumi_aws as aws

    config = pulumi.Config()
    provider = aws.Provider("aws", region="us-east-1", default_tags={"tags": {"stack": "dev"}})
    own = pulumi.ResourceOptions(provider=provider)
    ask = pulumi.InvokeOptions(provider=provider)
    vpc = aws.ec2.Vpc("vpc", cidr_block=config.get("cidr") or "10.0.0.0/16", tags={"Name": "v"}, opts=own)
    subnets = [
        aws.ec2.Subnet(
            f"private-{zone}",
            vpc_id=vpc.id,
            cidr_block=vpc.cidr_block.apply(lambda block, i=index: block.replace("0.0/16", f"{i}.0/24")),
            availability_zone=zone,
            opts=own,
        )
        for index, zone in enumerate(aws.get_availability_zones(opts=ask).names[:2])
    ]
"""

STORAGE = """
    key = aws.kms.Key("key", description=config.get("description") or "one", opts=own)
    bucket = aws.s3.Bucket("weights", force_destroy=True, opts=own)
    aws.s3.BucketServerSideEncryptionConfiguration(
        "weights",
        bucket=bucket.bucket,
        rules=[
            {
                "apply_server_side_encryption_by_default": {
                    "sse_algorithm": "aws:kms", "kms_master_key_id": key.arn
                }
            }
        ],
        opts=own,
    )
    trust = aws.iam.get_policy_document(
        statements=[{
            "actions": ["sts:AssumeRole"],
            "principals": [{"type": "Service", "identifiers": ["eks.amazonaws.com"]}],
        }],
        opts=ask,
    )
    secret = config.require_secret("note")
    role = aws.iam.Role("role", assume_role_policy=trust.json, description=secret, opts=own)
    pulumi.export("bucket", bucket.bucket)
    pulumi.export("vpc", vpc.id)
    pulumi.export("account", aws.get_caller_identity(opts=ask).account_id)
    pulumi.export("note", role.description)
"""

CLUSTER = """
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    role = aws.iam.Role("role", assume_role_policy=trust, opts=own)
    cluster = aws.eks.Cluster(
        "c",
        name="c",
        role_arn=role.arn,
        vpc_config={"subnet_ids": [subnet.id for subnet in subnets], "endpoint_public_access": False},
        access_config={"authentication_mode": "API"},
        opts=own,
    )
    template = aws.ec2.LaunchTemplate("gpu", metadata_options={"http_tokens": "required"}, opts=own)
    group = aws.eks.NodeGroup(
        "gpu",
        cluster_name=cluster.name,
        node_role_arn=role.arn,
        subnet_ids=[subnet.id for subnet in subnets],
        instance_types=["g6e.12xlarge"],
        ami_type="AL2023_x86_64_NVIDIA",
        scaling_config={
            "min_size": 0,
            "desired_size": config.get_int("desired") or 0,
            "max_size": config.get_int("max") or 3,
        },
        labels={"spillway.dev/node-group": "l40s"},
        taints=[{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}],
        launch_template={"id": template.id, "version": template.latest_version.apply(str)},
        opts=pulumi.ResourceOptions(provider=provider, ignore_changes=["scalingConfig.desiredSize"]),
    )
    scaling_group = group.resources[0].autoscaling_groups[0].name
    aws.autoscaling.Tag(
        "gpus",
        autoscaling_group_name=scaling_group,
        tag={
            "key": "k8s.io/cluster-autoscaler/node-template/resources/nvidia.com/gpu",
            "value": "4",
            "propagate_at_launch": True,
        },
        opts=own,
    )
    pulumi.export("endpoint", cluster.endpoint)
    pulumi.export("group", scaling_group)
"""

# The program itself kills, so that each kill falls between two calls of the update on any machine.
KILLS = """
    import os
    import pathlib
    import signal

    def kill(_: str) -> None:
        record = json.loads(pathlib.Path(config.require("record")).read_text())
        os.kill(record["pid"], signal.SIGKILL)

    vpc.id.apply(kill)
    cluster.endpoint.apply(kill)
"""


class Project:
    """A Pulumi project over the double, with the stack `dev`."""

    def __init__(self, folder: Path, cli: Path, env: dict[str, str]) -> None:
        self.folder, self.cli, self.env = folder, cli, env
        folder.mkdir()
        runtime = {"name": "python", "options": {"toolchain": "pip", "virtualenv": sys.prefix}}
        (folder / "Pulumi.yaml").write_text(json.dumps({"name": "demo", "runtime": runtime}))
        self.write("")
        self.pulumi("stack", "init", "dev")

    def write(self, *parts: str) -> None:
        (self.folder / "__main__.py").write_text("".join(textwrap.dedent(part) for part in parts))

    def pulumi(self, *arguments: str, fails: bool = False, env: dict[str, str] | None = None) -> str:
        done = subprocess.run(
            [self.cli, *arguments, "--non-interactive"],
            cwd=self.folder,
            env={**self.env, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert (done.returncode != 0) == fails, done.stdout
        return done.stdout

    def up(self, *arguments: str) -> str:
        return self.pulumi("up", "--yes", "--skip-preview", "--suppress-progress", *arguments)

    def output(self) -> dict[str, Any]:
        command = [self.cli, "stack", "output", "--json"]
        done = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, check=True)
        return json.loads(done.stdout)


@pytest.fixture
def project(tmp_path: Path, pulumi_cli: Path, pulumi_env: dict[str, str], double: AwsDouble) -> Project:
    return Project(tmp_path / "project", pulumi_cli, {**pulumi_env, **double.environment})


def test_resources_live_from_preview_to_destroy_and_nothing_is_left(
    project: Project, double: AwsDouble
) -> None:
    project.write(NETWORK, STORAGE)
    project.pulumi("config", "set", "--secret", "note", "hunter2")
    said = project.pulumi("preview", "--diff")
    assert "+ aws:ec2/vpc:Vpc: (create)" in said
    assert double.leftovers() == [], "a preview makes nothing"

    project.up()
    outputs = project.output()
    assert outputs["account"] == "123456789012"
    assert outputs["note"] == "[secret]"
    assert f"s3 {outputs['bucket']}" in double.leftovers()
    assert "hunter2" not in project.pulumi("stack", "export")

    project.pulumi("preview", "--expect-no-changes")
    project.up("--refresh", "--expect-no-changes")

    project.pulumi("config", "set", "description", "two")
    project.pulumi("config", "set", "cidr", "10.1.0.0/16")
    said = project.pulumi("preview", "--diff")
    assert "~ aws:kms/key:Key: (update)" in said
    assert '~ description: "one" => "two"' in said
    assert "+-aws:ec2/vpc:Vpc: (replace)" in said
    project.up()
    kms = client("kms", double.endpoint, "us-east-1")
    (key,) = kms.list_keys()["Keys"]
    assert kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]["Description"] == "two"
    assert project.output()["vpc"] != outputs["vpc"]
    assert f"ec2 {outputs['vpc']}" not in double.leftovers()

    said = project.pulumi("destroy", "--yes", "--skip-preview")
    assert "deleted" in said
    assert double.leftovers() == []


def test_what_somebody_else_changed_is_seen_by_a_refresh_and_put_right(
    project: Project, double: AwsDouble
) -> None:
    project.write(NETWORK)
    project.up()
    ec2 = client("ec2", double.endpoint, "us-east-1")
    subnets = ec2.describe_subnets(Filters=[{"Name": "cidr-block", "Values": ["10.0.*"]}])["Subnets"]
    ec2.delete_subnet(SubnetId=subnets[0]["SubnetId"])
    said = project.up("--refresh")
    assert "1 created" in said
    project.pulumi("destroy", "--yes", "--skip-preview")
    assert double.leftovers() == []


def test_an_existing_vpc_is_imported_and_kept(project: Project, double: AwsDouble) -> None:
    ec2 = client("ec2", double.endpoint, "us-east-1")
    vpc = ec2.create_vpc(CidrBlock="10.5.0.0/16")["Vpc"]["VpcId"]
    project.write(f"""
        import pulumi
        import pulumi_aws as aws
        provider = aws.Provider("aws", region="us-east-1")
        aws.ec2.Vpc(
            "vpc",
            cidr_block="10.5.0.0/16",
            opts=pulumi.ResourceOptions(provider=provider, import_="{vpc}", retain_on_delete=True),
        )
        got = aws.ec2.Vpc.get("got", "{vpc}", opts=pulumi.ResourceOptions(provider=provider))
        pulumi.export("got", got.cidr_block)
    """)
    assert "1 imported" in project.up()
    assert project.output()["got"] == "10.5.0.0/16"
    project.pulumi("destroy", "--yes", "--skip-preview")
    assert ec2.describe_vpcs(VpcIds=[vpc])["Vpcs"]


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ('aws.ec2.Vpc("x", cidr_block=16, opts=own)', "cidrBlock: 16 is not a string"),
        (
            # The SDK itself sees what is missing outside, and nothing of what is inside.
            'aws.eks.NodeGroup("x", cluster_name="c", node_role_arn="r", subnet_ids=["s"], '
            'scaling_config={"min_size": 0, "desired_size": 0, "maxNodes": 2}, opts=own)',
            "scalingConfig.maxSize: missing in NodeGroupScalingConfig",
        ),
        ('aws.rds.Instance("x", instance_class="c", opts=own)', "aws:rds/instance:Instance is not served by"),
        ("aws.ec2.get_ami(opts=ask)", "aws:ec2/getAmi:getAmi is not served by the stand-in"),
    ],
)
def test_a_mistake_fails_the_preview_with_what_is_wrong(project: Project, program: str, said: str) -> None:
    project.write(f"""
        import pulumi
        import pulumi_aws as aws
        provider = aws.Provider("aws", region="us-east-1")
        own = pulumi.ResourceOptions(provider=provider)
        ask = pulumi.InvokeOptions(provider=provider)
        {program}
    """)
    assert said in project.pulumi("preview", fails=True)


def test_an_endpoint_elsewhere_fails_the_preview_before_any_call(project: Project) -> None:
    project.write('import pulumi_aws as aws\naws.Provider("aws", region="us-east-1")')
    away = {"AWS_ENDPOINT_URL": "https://eks.us-east-1.amazonaws.com"}
    said = project.pulumi("preview", fails=True, env=away)
    assert "AWS_ENDPOINT_URL: https://eks.us-east-1.amazonaws.com is not on this machine" in said
    project.write("""
        import pulumi_aws as aws
        aws.Provider("aws", region="us-east-1", endpoints=[{"eks": "http://10.0.0.1:5000"}])
    """)
    assert "endpoints: http://10.0.0.1:5000 is not on this machine" in project.pulumi("preview", fails=True)


def test_nodes_follow_the_autoscaler_and_an_up_in_the_middle_of_a_burst_does_not_undo_it(
    project: Project, double: AwsDouble
) -> None:
    double.put_script({"launchSeconds": 2})
    project.write(NETWORK, CLUSTER)
    project.up()
    outputs = project.output()
    assert outputs["endpoint"].startswith("https://")
    assert double.nodes() == []
    scaling = client("autoscaling", double.endpoint, "us-east-1")
    (group,) = scaling.describe_auto_scaling_groups()["AutoScalingGroups"]
    assert group["AutoScalingGroupName"] == outputs["group"]
    assert "k8s.io/cluster-autoscaler/node-template/resources/nvidia.com/gpu" in [
        t["Key"] for t in group["Tags"]
    ]

    scaling.set_desired_capacity(AutoScalingGroupName=outputs["group"], DesiredCapacity=2)
    deadline = time.monotonic() + 120
    while len(double.nodes()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert {node["resources"]["nvidia.com/gpu"] for node in double.nodes()} == {"4"}

    project.up("--expect-no-changes")
    assert len(double.nodes()) == 2
    project.pulumi("config", "set", "max", "5")
    project.up("--refresh")
    (summary,) = double.node_groups()
    assert (summary["maxSize"], summary["desiredSize"], summary["ready"]) == (5, 2, 2)

    project.pulumi("destroy", "--yes", "--skip-preview")
    assert double.leftovers() == []


def test_a_group_without_capacity_fails_the_update_with_the_words_of_ec2_and_can_be_destroyed(
    project: Project, double: AwsDouble
) -> None:
    double.put_script({"shortages": [{"instanceType": "*"}]})
    project.write(NETWORK, CLUSTER)
    project.pulumi("config", "set", "desired", "1")
    said = project.pulumi("up", "--yes", "--skip-preview", fails=True)
    assert "InsufficientInstanceCapacity - We currently do not have sufficient g6e.12xlarge capacity" in said
    assert "aws:eks/nodeGroup:NodeGroup" in project.pulumi("stack", "export")
    project.pulumi("destroy", "--yes", "--skip-preview")
    assert double.leftovers() == []


def test_a_double_that_is_killed_in_the_middle_of_an_update_costs_time_and_nothing_else(
    project: Project, double: AwsDouble
) -> None:
    project.pulumi("config", "set", "record", str(double.folder / "process.json"))
    project.write(NETWORK, CLUSTER, KILLS)
    over = threading.Event()
    kills = 0

    def start_again() -> None:
        nonlocal kills
        while not over.wait(0.1):
            if double.pid is None:
                kills += 1
                # The second kill may come while the first start still waits for an answer.
                with contextlib.suppress(DoubleError):
                    double.start()

    starter = threading.Thread(target=start_again)
    starter.start()
    try:
        said = project.up()
    finally:
        over.set()
        starter.join()
    assert kills == 2
    assert "10 created" in said
    project.write(NETWORK, CLUSTER)
    project.up("--refresh", "--expect-no-changes")
    project.pulumi("destroy", "--yes", "--skip-preview")
    assert double.leftovers() == []
