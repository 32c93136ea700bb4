"""The command `preview-comment` under the real engine: a pool of p5en nodes over the AWS double.

With --update-golden it records both previews for the fast tests, without what the CLI says of itself.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rehearsal.aws.account import AwsDouble
from tests.support.stack_files import ROOT

pytestmark = pytest.mark.engine

PROGRAM = """
import pulumi
import pulumi_aws as aws
import pulumi_random as random

own = {"stack": "organization/demo/dev", "owner": "ml-platform", "cost-centre": "4711", "environment": "dev"}
tags = {f"spillway:{key}": value for key, value in {**own, "expires": "30d"}.items()}
provider = aws.Provider("aws", region="us-east-1", default_tags={"tags": tags})
on_aws = pulumi.ResourceOptions(provider=provider)
random.RandomPassword("key", length=32)
aws.cloudwatch.LogGroup(
    "requests",
    name="/demo/requests",
    retention_in_days=7,
    tags={"token": pulumi.Config().require_secret("token")},
    opts=on_aws,
)
aws.eks.NodeGroup(
    "p5en",
    cluster_name="llm",
    node_group_name="p5en",
    node_role_arn="arn:aws:iam::123456789012:role/nodes",
    subnet_ids=["subnet-1"],
    instance_types=["p5en.48xlarge"],
    capacity_type="SPOT",
    disk_size=200,
    scaling_config={"min_size": 0, "desired_size": 0, "max_size": 4},
    update_config={"max_unavailable": 1, "update_strategy": "MINIMAL"},
    taints=[{"key": "nvidia.com/gpu", "value": "true", "effect": "NO_SCHEDULE"}],
    opts=on_aws,
)
"""
RULES = {
    "allowed-regions": {"allowedRegions": ["us-east-1"]},
    "gpu-instance-allowlist": {"allowedAccelerators": ["nvidia-h200"]},
    "gpu-max-per-pool": {"maxGpusPerPool": 32},
    "gpu-exposure-to-ttl": {"maxUsd": 900000},
}
RAISED = {name: {"maxUsdPerHour": 600} for name in ("gpu-pool-hourly-ceiling", "gpu-hourly-ceiling")}
SECRET = "a-known-secret"
RECORDED = ROOT / "tests" / "unit" / "previews"


def test_a_pool_is_refused_by_the_default_cap_and_passes_with_a_raised_one(
    tmp_path: Path,
    pulumi_cli: Path,
    pulumi_env: dict[str, str],
    double: AwsDouble,
    request: pytest.FixtureRequest,
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    runtime = {"name": "python", "options": {"toolchain": "pip", "virtualenv": sys.prefix}}
    (folder / "Pulumi.yaml").write_text(json.dumps({"name": "demo", "runtime": runtime}))
    (folder / "__main__.py").write_text(PROGRAM)
    (folder / "default.json").write_text(json.dumps(RULES))
    (folder / "raised.json").write_text(json.dumps({**RULES, **RAISED}))
    env = {**os.environ, **pulumi_env, **double.environment, "PYTHONPATH": str(ROOT)}
    env["PULUMI_OPTION_POLICY_PACK"] = str(ROOT / "policies")
    for command in (
        ["stack", "init", "dev"],
        ["config", "set", "token", SECRET, "--secret"],
        ["config", "set", "spillway:platform", json.dumps({"environment": "dev"})],
    ):
        subprocess.run([pulumi_cli, *command], cwd=folder, env=env, check=True, capture_output=True)

    for config, name, status in (("default", "refused", 1), ("raised", "raised", 0)):
        events = folder / f"{name}.ndjson"
        options = ["--policy-config", f"{config}.json", "--keep-events", str(events)]
        command = [sys.executable, "-m", "runtime.ops", "preview-comment", "--stack", "dev", *options]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        assert "**$253.27**" in done.stdout
        assert "0 → **32**" in done.stdout
        assert ("maxUsdPerHour = 600" in done.stdout) == (config == "raised")
        assert SECRET not in done.stdout + done.stderr
        if request.config.getoption("--update-golden"):
            _record(events, RECORDED / events.name)


def _record(events: Path, target: Path) -> None:
    kept: list[str] = []
    for line in events.read_text().splitlines():
        event = json.loads(line)
        chatter = event.get("diagnosticEvent", {}).get("severity") in {"debug", "warning", "info"}
        if chatter or "policyRemediateSummaryEvent" in event:
            continue
        if "summaryEvent" in event:
            event["summaryEvent"].pop("PolicyPacks", None)
        kept.append(json.dumps({**event, "sequence": len(kept), "timestamp": 0}, separators=(",", ":")))
    target.write_text("\n".join(kept) + "\n")
