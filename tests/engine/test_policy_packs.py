"""All policy packs under the real engine, on the AWS side of stack `hybrid` over the AWS double."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from policies import compliance
from policies.packs import ALL_RULES
from policies.results import Outcome
from policies.rule import StackRule
from rehearsal.aws.account import AwsDouble
from tests.engine.test_hybrid_aws_side import PROGRAM
from tests.support.stack_files import ROOT

pytestmark = pytest.mark.engine

Pulumi = Callable[..., tuple[int, str]]
CONFIG = ROOT / "policies" / "config" / "hybrid.json"


@pytest.fixture
def pulumi(tmp_path: Path, pulumi_cli: Path, pulumi_env: dict[str, str], double: AwsDouble) -> Pulumi:
    """Runs the CLI on the program; its stack file is that of stack `hybrid`."""
    folder = tmp_path / "project"
    folder.mkdir()
    runtime = {"name": "python", "options": {"toolchain": "pip", "virtualenv": sys.prefix}}
    (folder / "Pulumi.yaml").write_text(json.dumps({"name": "demo", "runtime": runtime}))
    (folder / "Pulumi.dev.yaml").write_text((ROOT / "stacks" / "Pulumi.hybrid.yaml").read_text())
    (folder / "__main__.py").write_text(PROGRAM)

    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [pulumi_cli, *arguments, "--non-interactive"],
            cwd=folder,
            env={**os.environ, **pulumi_env, **double.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        return done.returncode, done.stdout

    assert run("stack", "init", "dev")[0] == 0
    return run


JUDGED = ("--policy-pack", str(ROOT / "policies" / "pack"), "--policy-pack-config")


def test_the_aws_side_passes_at_preview_and_up_and_its_state_is_judged_the_same_way_twice(
    pulumi: Pulumi, tmp_path: Path
) -> None:
    status, said = pulumi("preview", *JUDGED, str(CONFIG))
    assert status == 0, said
    # The stack file says staging, so what is only for production is advice.
    assert "[advisory] [severity: high]  protect-data-prod  (aws:eks:Cluster: llm-burst)" in said
    assert "llm-burst-weights: least-privilege needs policy" in said
    assert "[mandatory]" not in said

    status, said = pulumi("up", "--yes", "--skip-preview", *JUDGED, str(CONFIG))
    assert status == 0, said
    assert "unknowns-accounted" not in said
    assert "[mandatory]" not in said

    status, exported = pulumi("stack", "export")
    assert status == 0
    state = tmp_path / "state.json"
    state.write_text(exported[exported.index("{") :])
    analyzed = engine_verdicts(pulumi, state)
    results, _, _ = compliance.check("hybrid", state=state)
    # The command judges by the environment of the stack file, `policy analyze` has none: rules that are off
    # in staging are left out.
    ours = {(one.rule.name, urn) for one in results for urn, _ in one.violations if urn != "the stack"}
    off = {one.rule.name for one in results if one.outcome is Outcome.OFF}
    assert {(name, urn) for name, urn in analyzed if name not in off} == ours
    assert ours

    assert pulumi("destroy", "--yes", "--skip-preview")[0] == 0


def engine_verdicts(pulumi: Pulumi, state: Path) -> set[tuple[str, str]]:
    """Rule and URN of everything that `pulumi policy analyze` finds on resources."""
    _, said = pulumi("policy", "analyze", "--file", str(state), "--json", *JUDGED, str(CONFIG))
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    events = [line["policyEvent"] for line in lines if "policyEvent" in line]
    stack_rules = {rule.name for rule in ALL_RULES if isinstance(rule, StackRule)}
    return {
        (event["policyName"], event["resourceUrn"])
        for event in events
        if event["policyName"] not in stack_rules
    }


def test_four_p5en_nodes_are_stopped_at_preview_by_the_default_caps(pulumi: Pulumi, tmp_path: Path) -> None:
    pulumi("config", "set", "demo:types", "p5en.48xlarge")
    config = tmp_path / "policies.json"
    allowed = {
        **json.loads(CONFIG.read_text()),
        "gpu-instance-allowlist": {"allowedAccelerators": ["nvidia-h200"]},
        "gpu-max-per-pool": {"maxGpusPerPool": 32},
    }
    config.write_text(json.dumps(allowed))
    status, said = pulumi("preview", *JUDGED, str(config))
    assert status != 0
    assert "llm-burst-l40s may cost $253.18 an hour. Allowed for one pool: $100." in said
    raised = {"maxUsdPerHour": 300}
    allowed |= {"gpu-pool-hourly-ceiling": raised, "gpu-hourly-ceiling": raised}
    config.write_text(json.dumps(allowed))
    status, said = pulumi("preview", *JUDGED, str(config))
    assert status == 0, said
