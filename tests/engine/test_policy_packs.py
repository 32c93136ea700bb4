"""All policy packs under the real engine, on the AWS side of stack `hybrid` over the AWS double."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from rehearsal.aws.account import AwsDouble
from tests.engine.test_hybrid_aws_side import PROGRAM
from tests.support.stack_files import ROOT

pytestmark = pytest.mark.engine

Pulumi = Callable[..., tuple[int, str]]
CONFIG = ROOT / "policies" / "config" / "hybrid.json"


@pytest.fixture
def double(tmp_path: Path) -> Generator[AwsDouble]:
    running = AwsDouble(tmp_path / "spillway")
    running.start()
    yield running
    running.stop()


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


def test_try(pulumi: Pulumi) -> None:
    judged = ("--policy-pack", str(ROOT / "policies"), "--policy-pack-config", str(CONFIG))
    status, said = pulumi("preview", *judged)
    print(said)
    assert status == 5
