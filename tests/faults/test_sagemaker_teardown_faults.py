"""Teardowns of stack `sagemaker` under faults, with no cluster in it: clean, or what is left is named.

Beside `test_teardown_faults.py`, whose stacks need embedded sites; the counts are in the same file.
"""

import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from rehearsal.aws.account import AwsDouble
from rehearsal.plugins import EXEC_SCRIPT, MODULES
from rehearsal.plugins.launchers import write_launchers
from rehearsal.state_files import mend_state
from rehearsal.tools import Toolbox
from tests.faults.taken_down import PATIENCE_S, left, named, problems, unproven
from tests.faults.teardown_ledger import GOOD, Ending, Run, TeardownLedger
from tests.faults.terminal import Terminal
from tests.support.engine import engine_environment
from tests.support.hosted_project import HostedProject

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]

SEED = int(os.environ.get("FAULT_SEED", "1"))
TITLE = "sagemaker"
DATA = "--delete-data"
PATIENCE = f"--patience={PATIENCE_S}"
LATE = "/aws/sagemaker/Endpoints/llm-chat"
STEPS = ("what a killed Pulumi was making", "endpoints", "staged copies", "buckets", "model registry")
_END_S = 400.0
_BY_HAND = {
    "SageMaker model": ("sagemaker", "delete_model", "ModelName"),
    "endpoint configuration": ("sagemaker", "delete_endpoint_config", "EndpointConfigName"),
}
"""What `up` makes at the moment at which it is killed here, and a teardown names and does not delete."""


class Drill:
    """The stack and its teardowns, each with its ending, judged by a look at all that the account holds."""

    def __init__(self, project: HostedProject) -> None:
        self.project, self.said = project, ""
        self._ledger, self._random = TeardownLedger(), random.Random(SEED)
        self._ledger.begin(TITLE)

    def teardown(self, fault: str, *options: str) -> dict[str, Any]:
        """One to its end, and its certificate."""
        before, started = self._certificates(), time.monotonic()
        done = self.project.teardown(PATIENCE, *options)
        self.said = done.stdout
        print(f"--- {fault}\n{done.stdout[:3000]}", flush=True)
        certificate = self.project.certificate() if self._certificates() != before else {}
        ending, witness = self._ending(certificate, done.returncode)
        self._add(fault, ending, time.monotonic() - started, named(certificate)[:10], witness)
        assert ending in GOOD, (ending, witness, done.stdout[-3000:])
        return certificate

    def kill(self, fault: str, pattern: str, within_s: float, *, tree: bool = False) -> None:
        """Kills one at a random moment after it has shown something."""
        command = self.project.teardown_command(PATIENCE, DATA)
        terminal = Terminal(command, self.project.project, self.project.environment)
        assert terminal.until(pattern, _END_S), terminal.text[-3000:]
        time.sleep(self._random.uniform(0, within_s))
        leader, *below = terminal.tree()
        _kill([leader, *below] if tree else [leader])
        assert terminal.wait(30)
        # While a Pulumi that lost its teardown works on it holds the lock, and the next would say just that.
        psutil.wait_procs(below, timeout=_END_S)
        assert terminal.process.returncode < 0, f"it had ended before: {terminal.text[-3000:]}"
        self._mend()
        self._add(fault, "killed", terminal.seconds)

    def killed_up(self, pattern: str) -> None:
        """Begins to bring the stack up, and kills Pulumi with all below it."""
        command = [self.project.cli, "up", "--yes", "--skip-preview", "--non-interactive", "--color=never"]
        terminal = Terminal(command, self.project.project, self.project.environment)
        assert terminal.until(pattern, _END_S), terminal.text[-3000:]
        _kill(terminal.tree())
        assert terminal.wait(30)
        self._mend()

    def _mend(self) -> None:
        """As `make` does before each command; Pulumi's own file may be cut off where it was killed."""
        backend = Path(self.project.environment["PULUMI_BACKEND_URL"].removeprefix("file://"))
        print("\n".join(mend_state(backend, "demo")), flush=True)

    def take_away(self, certificate: dict[str, Any]) -> None:
        """Deletes what a certificate named and no state knows, as its reader does."""
        for check in certificate["sweeps"][-1]["checks"]:
            for one in check["found"]:
                if one["state"] == "left":
                    service, call, key = _BY_HAND[one["kind"]]
                    getattr(self.project.client(service), call)(**{key: one["id"]})

    @contextmanager
    def scripted(self, **wrong: Any) -> Generator[None]:
        """The AWS double does something wrong."""
        self.project.double.put_script(wrong)
        try:
            yield
        finally:
            self.project.double.put_script({})

    def _ending(self, certificate: dict[str, Any], status: int) -> tuple[Ending, list[str]]:
        if not certificate:
            return "unnamed", []
        if certificate["clean"] or status == 0:
            witness = self.witness()
            good = certificate["clean"] and status == 0 and not witness
            return ("clean" if good else "falsely clean"), witness
        if not named(certificate):
            return "unnamed", []
        return ("named" if certificate["sweeps"][-1]["checks"] else "refused"), []

    def witness(self) -> list[str]:
        """What is left in the whole account and in the state, without any of the teardown's code."""
        ask = self.project.client
        scaled = ask("application-autoscaling").describe_scalable_targets(ServiceNamespace="sagemaker")
        versions = ask("sagemaker").list_model_packages(ModelPackageType="Both")["ModelPackageSummaryList"]
        state = json.loads(self.project.pulumi("stack", "export"))["deployment"]
        # The stand-in provider keeps its own records, also of what somebody else took away, as AWS does with
        # the filters of a log group; SageMaker itself is listed beside them.
        recorded = ("aws:sagemaker/", "aws:cloudwatch/logMetricFilter")
        there = [one for one in self.project.double.leftovers() if not one.startswith(recorded)]
        return [
            *there,
            *(f"target {one['ResourceId']}" for one in scaled["ScalableTargets"]),
            *(f"version {one['ModelPackageArn']}" for one in versions),
            *(f"state: {one['urn']}" for one in state.get("resources") or ()),
            *(f"pending: {one['resource']['urn']}" for one in state.get("pending_operations") or ()),
        ]

    def _add(
        self, fault: str, ending: Ending, seconds: float, names: list[str] | None = None, seen: Any = ()
    ) -> None:
        run = Run(stack=TITLE, fault=fault, ending=ending, seconds=round(seconds, 1), witness=list(seen))
        run.named = names or []
        self._ledger.add(run)

    def _certificates(self) -> dict[Path, int]:
        found = self.project.certificates.glob("dev-[0-9]*.json")
        return {file: file.stat().st_mtime_ns for file in found}


@pytest.fixture(name="drill")
def fixture_drill() -> Generator[Drill]:
    with tempfile.TemporaryDirectory(prefix="smt-") as home:
        folder = Path(home)
        cli = Toolbox.load(["pulumi"]).path("pulumi")
        plugins = folder / "plugins"
        plugins.mkdir()
        write_launchers(plugins, Path(sys.executable), cli.with_name(EXEC_SCRIPT), MODULES)
        double = AwsDouble(folder)
        double.start()
        try:
            environment = engine_environment(cli, plugins, folder / "pulumi")
            yield Drill(HostedProject(folder / "hosted", cli, environment, double))
        finally:
            double.stop()


def test_a_teardown_of_endpoints_under_faults_ends_clean_or_names_what_is_left(drill: Drill) -> None:
    drill.killed_up(r"aws:sagemaker:Endpoint llm-\w+ created")
    locked = drill.teardown("lock of an `up` that was killed, with plain Pulumi", DATA)
    assert "pulumi cancel" in problems(locked)
    drill.project.pulumi("cancel", "--yes")
    drill.take_away(drill.teardown("an `up` that was killed at its endpoints", DATA))
    drill.project.up()
    _data_is_refused(drill)
    _aws_does_not_answer(drill)
    _kills(drill)
    _aws_may_not_be_asked(drill)
    assert drill.teardown("none", DATA)["clean"]
    _late_words(drill)
    assert drill.teardown("none, and nothing is there any more", DATA)["clean"]


def _data_is_refused(drill: Drill) -> None:
    sagemaker = drill.project.client("sagemaker")
    (group, _) = sagemaker.list_model_package_groups()["ModelPackageGroupSummaryList"]
    for _ in range(3):
        sagemaker.create_model_package(ModelPackageGroupName=group["ModelPackageGroupName"])
    s3 = drill.project.client("s3")
    prompts = next(one["Name"] for one in s3.list_buckets()["Buckets"] if "prompts" in one["Name"])
    s3.put_object(Bucket=prompts, Key="capture/llm-chat/1.jsonl", Body=b"{}")
    refused = drill.teardown("data that nobody gave up")
    assert "3 versions with their decisions" in problems(refused)
    assert "1 object in 1 version, 2 bytes" in problems(refused)
    assert len(sagemaker.list_endpoints()["Endpoints"]) == 2


def _aws_does_not_answer(drill: Drill) -> None:
    with drill.scripted(outages=[{"service": "sts", "status": 403, "code": "ExpiredToken"}]):
        drill.teardown("credentials that ran out", DATA)
    assert "nothing is touched" in drill.said
    with drill.scripted(outages=[{"service": "api.sagemaker"}, {"service": "sagemaker"}]):
        away = drill.teardown("AWS' SageMaker away", DATA)
    assert "SageMaker" in problems(away)
    assert "pulumi destroy: not run" in problems(away)
    with drill.scripted(
        outages=[{"service": "application-autoscaling", "status": 403, "code": "AccessDeniedException"}]
    ):
        refused = drill.teardown("scaling may not be taken away", DATA)
    assert "AccessDeniedException" in problems(refused)
    assert len(drill.project.client("sagemaker").list_endpoints()["Endpoints"]) == 2


def _kills(drill: Drill) -> None:
    """At the beginning, after each step, a moment later, and in the destroy."""
    drill.kill("killed at its start", r"(done|\.\.\.) +\S", 1.0)
    for step in STEPS:
        drill.kill(f"killed after step {step}", rf"done +{step}", 0.5)
    drill.kill("killed with Pulumi in pulumi destroy", r"pulumi destroy: \d+ res", 0.5, tree=True)
    locked = drill.teardown("lock of a killed Pulumi, with plain Pulumi", DATA)
    assert "pulumi cancel" in problems(locked)
    drill.project.pulumi("cancel", "--yes")
    # Its Pulumi ends with the terminal, and leaves its lock.
    drill.kill("killed in pulumi destroy", r"pulumi destroy: \d+ res", 0.5)
    drill.project.pulumi("cancel", "--yes")


def _aws_may_not_be_asked(drill: Drill) -> None:
    with drill.scripted(
        outages=[{"service": "secretsmanager", "status": 403, "code": "AccessDeniedException"}]
    ):
        refused = drill.teardown("secrets may not be listed", DATA)
    assert "AccessDeniedException" in unproven(refused)


def _late_words(drill: Drill) -> None:
    drill.project.client("logs").create_log_group(logGroupName=LATE)
    assert left(drill.teardown("a log group that SageMaker made again", "--again")) == [LATE]
    drill.project.client("logs").delete_log_group(logGroupName=LATE)
    assert drill.teardown("none, looked at once more", "--again")["clean"]


def _kill(processes: list[psutil.Process]) -> None:
    for one in processes:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
