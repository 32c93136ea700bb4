"""The AWS side of the committed stack `hybrid` under the real engine, over the AWS double."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from rehearsal.aws.account import AwsDouble
from runtime.cost.estimate import estimate
from runtime.cost.summary import money
from runtime.stack_resources import PreviewedStack, StackResource, from_preview_events, from_state
from stacks.declared import declared
from tests.support.stack_files import ROOT, platform_settings

pytestmark = pytest.mark.engine

# What `stacks/hybrid.py` declares of AWS, without the clusters on either side of it.
PROGRAM = f"""
import pulumi
import yaml

from stacks import hybrid, onprem
from stacks.cloud_providers import aws_provider
from stacks.cloud_side import deploy_cloud_side, deploy_foundation
from stacks.cloud_staging import cloud_account, staged_images
from stacks.eks_side import images_of
from stacks.settings import parse

with open({str(ROOT / "stacks" / "Pulumi.hybrid.yaml")!r}) as file:
    given = yaml.safe_load(file)["config"]["spillway:platform"]
config = pulumi.Config()
given["cloud"]["cluster"]["deletionProtection"] = False
given["cloud"]["network"]["new"]["egress"] = config.get("egress") or "endpoints"
given["cloud"]["nodeGroups"][0]["max"] = config.get_int("max") or 4
if types := config.get("types"):
    given["cloud"]["nodeGroups"][0]["instanceTypes"] = [types]
    given["models"][0]["spill"]["accelerator"] = "nvidia-h200"
    given["burst"]["ceilingUsdPerHour"] = 300
settings = parse(given)
cloud = settings.cloud
account = cloud_account(settings, cloud)
tags = hybrid.cloud_tags(onprem.tenure_of(settings), account)
paths = staged_images(cloud, account).repositories(images_of(settings, cloud))
aws = aws_provider(cloud, tags)
foundation = deploy_foundation(cloud, account, aws, tags, paths)
if not config.get_bool("foundation"):
    side = deploy_cloud_side(cloud, account, aws, tags, foundation)
    pulumi.export("group", side.groups["l40s"].autoscaling_group)
"""


def costs_the_same_in_all_three(previewed: PreviewedStack, exported: Sequence[StackResource]) -> None:
    """The AWS side as the engine previews it, as it is afterwards, and as its stack file declares it."""
    of_aws = ("aws:", "pulumi:providers:aws", "spillway:aws:")
    declaration = [one for one in declared(platform_settings("hybrid")) if one.type.startswith(of_aws)]
    assert previewed.errors == ()
    assert previewed.before == ()
    estimates = [estimate(one) for one in (previewed.after, exported, declaration)]
    assert [one.unpriced for one in estimates] == [(), (), ()]
    for one in estimates:
        assert (money(one.hourly.floor), money(one.hourly.ceiling)) == ("$1.15", "$15.23")
        assert [(count.accelerator, count.count.ceiling) for count in one.devices] == [("nvidia-l40s", 4)]


def test_the_aws_side_is_made_changed_and_taken_away_and_nothing_is_left(
    tmp_path: Path, pulumi_cli: Path, pulumi_env: dict[str, str], double: AwsDouble
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    runtime = {"name": "python", "options": {"toolchain": "pip", "virtualenv": sys.prefix}}
    (folder / "Pulumi.yaml").write_text(json.dumps({"name": "demo", "runtime": runtime}))
    (folder / "__main__.py").write_text(PROGRAM)
    env = {**os.environ, **pulumi_env, **double.environment}

    def pulumi(*arguments: str) -> str:
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
        assert done.returncode == 0, done.stdout
        return done.stdout

    pulumi("stack", "init", "dev")
    env["PULUMI_ENABLE_STREAMING_JSON_PREVIEW"] = "true"
    previewed = from_preview_events(pulumi("preview", "--json").splitlines())
    pulumi("config", "set", "foundation", "true")
    said = pulumi("up", "--yes", "--skip-preview", "--suppress-progress")
    assert "aws:ecr:Repository" in said
    assert "aws:eks" not in said
    pulumi("config", "rm", "foundation")
    said = pulumi("up", "--yes", "--skip-preview", "--suppress-progress")
    assert "aws:eks:Cluster llm-burst created" in said
    assert not re.search(r"updated|replaced|deleted", said), said
    exported = from_state(json.loads(pulumi("stack", "export")))
    costs_the_same_in_all_three(previewed, exported)
    (group,) = [one for one in double.node_groups() if one["nodeGroup"] == "llm-burst-l40s"]
    assert (group["minSize"], group["maxSize"], group["desiredSize"]) == (0, 4, 0)
    pulumi("preview", "--expect-no-changes")

    pulumi("config", "set", "max", "5")
    pulumi("config", "set", "egress", "nat")
    said = pulumi("up", "--yes", "--skip-preview", "--suppress-progress")
    assert "aws:eks:NodeGroup llm-burst-l40s updated" in said
    assert "aws:eks:Cluster llm-burst updated" not in said

    pulumi("destroy", "--yes", "--skip-preview", "--suppress-progress")
    assert double.leftovers() == []
