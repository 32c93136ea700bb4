"""The committed stack `sagemaker` as a project of its own: plain Pulumi, its teardown, and the AWS double."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rehearsal.aws.account import AwsDouble
from rehearsal.aws.clients import client
from tests.support.stack_files import ROOT

REGION = "us-east-1"

# What `stacks/__main__.py` does.
PROGRAM = f"""
import yaml

from stacks import sagemaker
from stacks.before_up import look
from stacks.settings import parse_sagemaker

with open({str(ROOT / "stacks" / "Pulumi.sagemaker.yaml")!r}) as file:
    settings = parse_sagemaker(yaml.safe_load(file)["config"]["spillway:platform"])
look(settings)
sagemaker.deploy(settings).export()
"""


class HostedProject:
    """A stack `dev` in a file backend. No cluster is in it, and no kubeconfig in its shell.

    Args:
        folder: Where project and certificates are.
        cli: The Pulumi CLI.
        environment: For the CLI: backend, passphrase, plugins.
        double: The account.
    """

    def __init__(self, folder: Path, cli: Path, environment: Mapping[str, str], double: AwsDouble) -> None:
        self.double, self.cli = double, str(cli)
        self.project, self.certificates = folder / "project", folder / "certificates"
        self.project.mkdir(parents=True)
        runtime = {"name": "python", "options": {"toolchain": "pip", "virtualenv": sys.prefix}}
        (self.project / "Pulumi.yaml").write_text(json.dumps({"name": "demo", "runtime": runtime}))
        (self.project / "__main__.py").write_text(PROGRAM)
        self.environment = {**os.environ, **environment, **double.environment, "PYTHONPATH": str(ROOT)}
        self.environment.pop("KUBECONFIG", None)
        self.pulumi("stack", "init", "dev")

    def pulumi(self, *arguments: str) -> str:
        """Runs the CLI to a good end, and returns what it said."""
        done = self._run([self.cli, *arguments, "--non-interactive"])
        assert done.returncode == 0, done.stdout
        return done.stdout

    def up(self) -> None:
        """Brings the stack up."""
        self.pulumi("up", "--yes", "--skip-preview", "--suppress-progress")

    def teardown(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Runs the teardown, whatever its end."""
        return self._run(self.teardown_command(*options))

    def teardown_command(self, *options: str) -> list[str]:
        """The command of a teardown."""
        place = ["--project", str(self.project), "--folder", str(self.certificates)]
        return [sys.executable, "-m", "runtime.ops", "teardown", "--stack", "dev", *place, *options]

    def certificate(self) -> dict[str, Any]:
        """The newest certificate."""
        found = sorted(self.certificates.glob("dev-[0-9]*.json"), key=lambda file: file.stat().st_mtime_ns)
        return json.loads(found[-1].read_text())

    def client(self, service: str) -> Any:
        """A boto3 client of the double."""
        return client(service, self.double.environment["AWS_ENDPOINT_URL"], REGION)

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.project,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=500,
            check=False,
        )
