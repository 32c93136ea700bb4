"""Teardowns of rehearsed stacks under faults: each run ends in a clean certificate or names what is left.

The account and the cluster are looked at in another way than the certificate's, so that one that calls clean
what is not is caught. Counts are printed.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rehearsal.cloud import RehearsedCloud
from rehearsal.site import SiteError
from rehearsal.site.api import ApiError, object_path
from rehearsal.site.processes import load_record
from rehearsal.workspace import Workspace
from runtime.ops.progress import Progress
from tests.faults.terminal import Terminal
from tests.support.stack_files import ROOT
from tests.support.stage import Stage

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]

STEPS = (
    "what a killed Pulumi was making",
    "no more GPU nodes",
    "staged copies",
    "models",
    "GPU nodes",
    "load balancers",
    "volumes",
)
PATIENCE_S = 20
FINALIZER = "faults.example.com/held"


@dataclass
class Drilled:
    """One rehearsed stack, its teardowns, and what another look found after each."""

    stage: Stage
    stack: str
    cloud: RehearsedCloud | None
    runs: int = 0
    clean: int = 0
    leaks: int = 0
    killed: int = 0
    said: list[str] = field(default_factory=list[str])

    @property
    def workspace(self) -> Workspace:
        return Workspace.rehearsing(self.stage.home, self.stack, self.stage.site.kubeconfig)

    @property
    def folder(self) -> Path:
        return self.stage.home / "teardown"

    def command(self, name: str) -> list[str]:
        words = ["--simulated", "--stack", self.stack, "--site", self.stage.name]
        return [sys.executable, "-m", "rehearsal", name, *words, f"--patience={PATIENCE_S}"]

    def kill_after(self, pattern: str) -> None:
        """Starts a teardown and kills it when it has shown something."""
        terminal = Terminal(self.command("teardown"), ROOT, self.stage.environment)
        assert terminal.until(pattern, 300), terminal.text[-2000:]
        if not terminal.ended():
            self.killed += 1
        terminal.process.kill()
        assert terminal.wait(30)
        self.runs += 1

    def teardown(self) -> dict[str, Any]:
        """One teardown to its end, and its certificate, judged by another look."""
        return self._ran(self.command("teardown"))

    def plain_teardown(self) -> dict[str, Any]:
        """The same by the command for plain Pulumi, which mends no site before."""
        command = f"{sys.executable} -m runtime.ops teardown --stack {self.workspace.stack}"
        script = f". {self.workspace.environment_file}; {command} --patience {PATIENCE_S}"
        return self._ran(["bash", "-euc", f"{script} --folder {self.folder}"])

    def _ran(self, command: Sequence[str]) -> dict[str, Any]:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.stage.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
            check=False,
        )
        return self._judged(done.returncode, done.stdout)

    def _judged(self, status: int, said: str) -> dict[str, Any]:
        self.runs += 1
        self.said.append(said)
        print(said[-1500:], flush=True)
        files = sorted(
            self.folder.glob(f"{self.workspace.stack}-[0-9]*.json"), key=lambda f: f.stat().st_mtime
        )
        certificate: dict[str, Any] = json.loads(files[-1].read_text())
        assert certificate["clean"] == (status == 0), said[-3000:]
        if certificate["clean"]:
            self.clean += 1
            assert self.other_look() == [], "called clean, and it is not"
        else:
            self.leaks += 1
            assert "NOT CLEAN" in said
        return certificate

    def other_look(self) -> list[str]:
        """What is in the account, and the stack's namespaces, asked without any of the teardown's code."""
        found = self.cloud.double.leftovers() if self.cloud else []
        api = self.stage.site.api()
        for namespace in ("llm", "kuberay-system"):
            try:
                api.get(object_path("v1", "Namespace", None, namespace))
            except ApiError as error:
                assert error.status == 404  # noqa: PT017 - any other answer is no look
            else:
                found.append(f"namespace {namespace}")
        return found

    def ray_service(self) -> str:
        services = self.stage.site.api().get("/apis/ray.io/v1/namespaces/llm/rayservices")["items"]
        return str(services[0]["metadata"]["name"])

    def hold(self, finalizers: list[str]) -> None:
        """Sets the finalizers of the on-prem model beside the operator's."""
        path = object_path("ray.io/v1", "RayService", "llm", self.model)
        body = {"metadata": {"finalizers": finalizers}}
        merge = "application/merge-patch+json"
        self.stage.site.api().request("PATCH", path, body, content_type=merge)

    model: str = ""


@pytest.fixture(name="stage", scope="module")
def fixture_stage() -> Generator[Stage]:
    with (
        tempfile.TemporaryDirectory(prefix="tdn-") as home,
        Stage.on(f"tdn-{os.getpid() % 10000}", Path(home)) as stage,
    ):
        yield stage


def problems(certificate: dict[str, Any]) -> str:
    return "\n".join(certificate["sweeps"][-1]["problems"])


def left(certificate: dict[str, Any]) -> dict[str, str]:
    """Id to price of everything that the newest look found."""
    checks = certificate["sweeps"][-1]["checks"]
    return {
        one["id"]: one["usdPerHour"] for check in checks for one in check["found"] if one["state"] == "left"
    }


@pytest.mark.parametrize("stack", ["local", "hybrid"])
def test_a_teardown_under_faults_ends_clean_or_names_what_is_left(stack: str, stage: Stage) -> None:
    cloud = RehearsedCloud(stage.home, stage.site, "us-east-1") if stack == "hybrid" else None
    drilled = Drilled(stage, stack, cloud)
    try:
        stage.run("up", "--simulated", "--stack", stack, "--site", stage.name)
        drilled.model = drilled.ray_service()
        _faults_on_the_cluster(drilled)
        _kills(drilled)
        if cloud is not None:
            _faults_in_aws(drilled, cloud)
        assert drilled.teardown()["clean"]
        assert drilled.teardown()["clean"], "once more is the same"
        said = stage.run("down", "--simulated", "--stack", stack, "--site", stage.name)
        assert "Nothing is left" in said
    finally:
        if cloud is not None:
            cloud.stop(Progress())
        ends = f"{drilled.killed} killed, {drilled.leaks} named leaks, {drilled.clean} clean"
        print(f"{stack}: {drilled.runs} runs, {ends}", flush=True)


def _faults_on_the_cluster(drilled: Drilled) -> None:
    record = load_record(drilled.stage.site.layout, "kube-apiserver")
    if record is None:
        raise SiteError("the API server does not run")
    os.kill(record.identity.pid, signal.SIGSTOP)
    try:
        done = subprocess.run(
            ["bash", "-euc", _plain(drilled)],
            cwd=ROOT,
            env=drilled.stage.environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
    finally:
        os.kill(record.identity.pid, signal.SIGCONT)
    drilled.runs += 1
    drilled.leaks += 1
    assert done.returncode == 1, done.stdout
    assert "no answer from" in done.stdout, done.stdout + done.stderr
    assert "could not be checked" in done.stdout
    drilled.hold(["ray.io/rayservice-finalizer", FINALIZER])
    held = drilled.teardown()
    assert f"finalizer {FINALIZER} is removed by the controller of faults.example.com" in problems(held)
    assert f"llm/{drilled.model}" in left(held)
    drilled.hold([])


def _plain(drilled: Drilled) -> str:
    command = f"{sys.executable} -m runtime.ops teardown --stack {drilled.workspace.stack}"
    folder = f"--folder {drilled.folder} --patience {PATIENCE_S}"
    return f". {drilled.workspace.environment_file}; {command} {folder}"


def _kills(drilled: Drilled) -> None:
    """At the beginning, after each step, and in the middle of the destroy."""
    drilled.kill_after(r"(done|\.\.\.) +(machine|etcd|site|all tools|tools)|what a killed")
    for step in STEPS:
        drilled.kill_after(rf"done +{step}")
    drilled.kill_after(r"pulumi destroy: ")


def _faults_in_aws(drilled: Drilled, cloud: RehearsedCloud) -> None:
    script = cloud.double.script()
    groups = [str(group["nodeGroup"]) for group in cloud.double.node_groups()]
    if groups:
        cloud.double.put_script({**script, "undeletable": groups})
        stuck = drilled.teardown()
        assert "DELETE_FAILED" in problems(stuck)
        assert any(group in one for one in left(stuck) for group in groups)
    refused = {"service": "kms", "status": 403, "code": "AccessDeniedException"}
    cloud.double.put_script({**script, "outages": [refused]})
    assert not drilled.teardown()["clean"]
    cloud.double.put_script(script)
    tags = [{"Key": "kubernetes.io/cluster/llm-burst", "Value": "owned"}]
    ec2 = cloud.clients(None)("ec2")  # pyright: ignore[reportArgumentType]
    volume = ec2.create_volume(
        AvailabilityZone="us-east-1a",
        Size=200,
        VolumeType="gp3",
        TagSpecifications=[{"ResourceType": "volume", "Tags": tags}],
    )["VolumeId"]
    assert list(left(drilled.teardown())) == [volume]
    ec2.delete_volume(VolumeId=volume)
