"""The AWS side of the committed stack `hybrid` under the real engine, over the AWS double."""

import json
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from rehearsal.aws.account import AwsDouble
from tests.support.stack_files import ROOT

pytestmark = pytest.mark.engine

# What `stacks/hybrid.py` declares of AWS, without the clusters on either side of it.
PROGRAM = f"""
import pulumi
import yaml

from components.aws.account import CloudAccount
from stacks import hybrid, onprem
from stacks.cloud_providers import aws_provider
from stacks.cloud_side import deploy_cloud_side
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
account = CloudAccount(
    account=settings.cloud.account_id, region=settings.cloud.region, name=hybrid.cloud_name(settings.name)
)
tags = hybrid.cloud_tags(onprem.tenure_of(settings), account)
paths = hybrid.staged_images(settings.cloud, account).repositories(images_of(settings, settings.cloud))
side = deploy_cloud_side(settings.cloud, account, aws_provider(settings.cloud, tags), tags, paths)
pulumi.export("group", side.groups["l40s"].autoscaling_group)
"""


@pytest.fixture
def double(tmp_path: Path) -> Generator[AwsDouble]:
    running = AwsDouble(tmp_path / "spillway")
    running.start()
    yield running
    running.stop()


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
    pulumi("up", "--yes", "--suppress-progress")
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
