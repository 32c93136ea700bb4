"""One rehearsed stack and its teardowns, each with its ending: what it said, judged by the witness."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from rehearsal.aws.clients import client
from rehearsal.cloud import RehearsedCloud
from rehearsal.site.layout import SiteLayout
from rehearsal.site.processes import load_record
from rehearsal.workspace import POLICY_CONFIGS, Workspace
from tests.faults.teardown_ledger import GOOD, Ending, Run, TeardownLedger
from tests.faults.terminal import Terminal
from tests.faults.witness import REGION, Witness
from tests.support.stack_files import ROOT
from tests.support.stage import Stage

PATIENCE_S = 20
END_S = 900.0
"""A run that takes longer is one that never ends."""


class TakenDown:
    """A stack of its own on a stage.

    Args:
        stage: Where.
        title: What the counts call it.
        platform: The object of its stack file.
        ledger: Where every run is written.
        seed: Of the moments at which runs are killed.
    """

    def __init__(
        self, stage: Stage, title: str, platform: dict[str, Any], ledger: TeardownLedger, seed: int
    ) -> None:
        self.stage, self.title, self._ledger = stage, title, ledger
        self._random = random.Random(seed)
        self._name = f"test-{stage.name}-{title.partition(' ')[0]}"
        self._stack_file = ROOT / "stacks" / f"Pulumi.{self._name}.yaml"
        self._stack_file.write_text(yaml.safe_dump({"config": {"spillway:platform": platform}}))
        self._policy_config = POLICY_CONFIGS / f"{self._name}.json"
        if platform.get("cloud"):
            self._policy_config.write_text((POLICY_CONFIGS / "hybrid.json").read_text())
        self.workspace = Workspace.rehearsing(stage.home, self._name, stage.site.kubeconfig)
        self.cloud = RehearsedCloud(stage.home, stage.site, REGION) if platform.get("cloud") else None
        self.folder = stage.home / "teardown"
        self.said = ""

    def begin(self) -> None:
        """Starts what it will be on, and looks what is there before it."""
        self._ledger.begin(self.title)
        self.stage.run("env", *self.words)
        self.witness = Witness(self.workspace, self.stage.site, self.cloud)

    @property
    def words(self) -> list[str]:
        """The options of `python -m rehearsal`."""
        return ["--simulated", "--stack", self._name, "--site", self.stage.name]

    def forget(self) -> None:
        """Removes its files from the project; the stage ends its site."""
        self._stack_file.unlink(missing_ok=True)
        self._policy_config.unlink(missing_ok=True)

    def up(self) -> None:
        """Brings it up."""
        self.stage.run("up", *self.words)

    def killed_up(self, pattern: str) -> None:
        """Begins to bring it up, and kills that with all below it."""
        terminal = Terminal([sys.executable, "-m", "rehearsal", "up", *self.words], ROOT, self._environment)
        assert terminal.until(pattern, 400), terminal.text[-3000:]
        _kill(terminal.tree())
        assert terminal.wait(30)

    # Teardowns

    def teardown(self, fault: str, *options: str) -> dict[str, Any]:
        """One to its end, as `make teardown` runs it, and its certificate."""
        return self._ended(fault, self._command(options))

    def plain_teardown(self, fault: str, *options: str) -> dict[str, Any]:
        """The same by the command for plain Pulumi, which mends no site before."""
        return self._ended(fault, self._plain(options))

    def struck(self, fault: str, pattern: str, strike: psutil.Process, *options: str) -> dict[str, Any]:
        """One in whose middle another process is killed."""
        before = self._certificates()
        terminal = Terminal(self._command(options), ROOT, self._environment)
        assert terminal.until(pattern, 300), terminal.text[-3000:]
        strike.kill()
        if not terminal.wait(END_S):
            _kill(terminal.tree())
            self._add(fault, "never ended", terminal.seconds)
        return self._judged(fault, terminal.process.returncode, terminal.text, terminal.seconds, before)

    def kill(self, fault: str, pattern: str, within_s: float, *options: str, tree: bool = False) -> None:
        """Kills one at a random moment after it has shown something."""
        before = self._certificates()
        terminal = Terminal(self._command(options), ROOT, self._environment)
        shown = terminal.until(pattern, 400)
        assert shown, terminal.text[-3000:]
        time.sleep(self._random.uniform(0, within_s))
        if terminal.ended():
            self._judged(fault, terminal.process.returncode, terminal.text, terminal.seconds, before)
            return
        _kill(terminal.tree() if tree else terminal.tree()[:1])
        assert terminal.wait(30)
        written = [file for file, when in self._certificates().items() if before.get(file) != when]
        # One that it wrote just before is judged like any other.
        if written and (ending := self._ending(_read(written[-1]), 0))[0] not in GOOD:
            self._add(fault, ending[0], terminal.seconds, witness=ending[1])
        self._add(fault, "killed", terminal.seconds)

    def reaper(self, *options: str) -> str:
        """The reaper, and what it said; a stack that it takes down is judged like any teardown."""
        before, started = self._certificates(), time.monotonic()
        done = self._run(self._shell(f"reaper --folder {self.folder} {' '.join(options)}"))
        self.said = done.stdout
        print(done.stdout[-3000:], flush=True)
        if self._certificates() != before:
            seconds = time.monotonic() - started
            self._judged("expired, by the reaper", done.returncode, done.stdout, seconds, before)
        return done.stdout

    def age(self, hours: float) -> None:
        """Lets the last update be so many hours longer ago, for the reaper."""
        stacks = self.stage.home / "state" / ".pulumi" / "stacks" / "spillway"
        file = stacks / f"{self.workspace.stack}.json"
        state = json.loads(file.read_text())
        manifest = state["checkpoint"]["latest"]["manifest"]
        then = time.strptime(manifest["time"][:19], "%Y-%m-%dT%H:%M:%S")
        earlier = time.localtime(time.mktime(then) - hours * 3600)
        manifest["time"] = time.strftime("%Y-%m-%dT%H:%M:%S", earlier) + manifest["time"][19:]
        file.write_text(json.dumps(state))

    # Faults

    def client(self, service: str) -> Any:
        """A boto3 client of the AWS double."""
        assert self.cloud is not None
        return client(service, self.cloud.double.endpoint, REGION)

    @contextmanager
    def frozen(self, layout: SiteLayout) -> Generator[None]:
        """The API server of a site takes connections and answers nothing."""
        process = api_server(layout)
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    @contextmanager
    def scripted(self, **wrong: Any) -> Generator[None]:
        """The AWS double does something wrong."""
        assert self.cloud is not None
        script = self.cloud.double.script()
        self.cloud.double.put_script({**script, **wrong})
        try:
            yield
        finally:
            self.cloud.double.put_script(script)

    # How a run ended

    def _ended(self, fault: str, command: Sequence[str]) -> dict[str, Any]:
        before, started = self._certificates(), time.monotonic()
        try:
            done = self._run(command)
        except subprocess.TimeoutExpired:
            self._add(fault, "never ended", END_S)
            raise
        return self._judged(fault, done.returncode, done.stdout, time.monotonic() - started, before)

    def _judged(
        self, fault: str, status: int, said: str, seconds: float, before: dict[Path, int]
    ) -> dict[str, Any]:
        self.said = said
        print(f"--- {self.title}: {fault}\n{said[-2500:]}", flush=True)
        written = [file for file, when in self._certificates().items() if before.get(file) != when]
        certificate = _read(written[-1]) if written else {}
        ending, witness = self._ending(certificate, status)
        self._add(fault, ending, seconds, named(certificate)[:10], witness)
        assert ending in GOOD, (ending, witness, said[-3000:])
        return certificate

    def _ending(self, certificate: dict[str, Any], status: int) -> tuple[Ending, list[str]]:
        if not certificate:
            return "unnamed", []
        if certificate["clean"] or status == 0:
            witness = self.witness.looks()
            good = certificate["clean"] and status == 0 and not witness
            return ("clean" if good else "falsely clean"), witness
        if not certificate["sweeps"][-1]["checks"]:
            return ("refused" if named(certificate) else "unnamed"), []
        return ("named" if named(certificate) else "unnamed"), []

    def _add(
        self,
        fault: str,
        ending: Ending,
        seconds: float,
        named: Sequence[str] = (),
        witness: Sequence[str] = (),
    ) -> None:
        self._ledger.add(
            Run(
                stack=self.title,
                fault=fault,
                ending=ending,
                seconds=round(seconds, 1),
                named=list(named),
                witness=list(witness),
            )
        )

    def _certificates(self) -> dict[Path, int]:
        """Certificate to when it was written, the newest last."""
        found = {
            file: file.stat().st_mtime_ns for file in self.folder.glob(f"{self.workspace.stack}-[0-9]*.json")
        }
        return dict(sorted(found.items(), key=lambda one: one[1]))

    # Commands

    @property
    def _environment(self) -> dict[str, str]:
        return self.stage.environment

    def _command(self, options: Sequence[str]) -> list[str]:
        patience = f"--patience={PATIENCE_S}"
        return [sys.executable, "-m", "rehearsal", "teardown", *self.words, patience, *options]

    def _plain(self, options: Sequence[str]) -> list[str]:
        written = self.stage.home / "stacks" / f"Pulumi.{self.workspace.stack}.yaml"
        words = f"--patience {PATIENCE_S} --folder {self.folder} --config-file {written} {' '.join(options)}"
        return self._shell(f"teardown --stack {self.workspace.stack} {words}")

    def _shell(self, words: str) -> list[str]:
        script = f". {self.workspace.environment_file}; {sys.executable} -m runtime.ops {words}"
        return ["bash", "-euc", script]

    def _run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=END_S,
            check=False,
        )


def api_server(layout: SiteLayout) -> psutil.Process:
    """The process of a site's API server."""
    record = load_record(layout, "kube-apiserver")
    assert record is not None, "the API server does not run"
    return psutil.Process(record.identity.pid)


def left(certificate: dict[str, Any]) -> list[str]:
    """Ids of everything that the newest look found and that stays."""
    checks = certificate["sweeps"][-1]["checks"]
    return [one["id"] for check in checks for one in check["found"] if one["state"] == "left"]


def unproven(certificate: dict[str, Any]) -> str:
    """What the newest look could not look at, and why."""
    checks = certificate["sweeps"][-1]["checks"]
    return "\n".join(f"{one['service']} {one['where']}: {one['problem']}" for one in checks if one["problem"])


def problems(certificate: dict[str, Any]) -> str:
    """What the newest run did not do, and why."""
    return "\n".join(certificate["sweeps"][-1]["problems"])


def named(certificate: dict[str, Any]) -> list[str]:
    """Everything that a certificate that is not clean names."""
    if not certificate:
        return []
    texts = [problems(certificate), unproven(certificate)]
    lines = [line for text in texts for line in text.splitlines()]
    return [*(f"left: {one}" for one in left(certificate)), *lines]


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text())


def _kill(processes: Sequence[psutil.Process]) -> None:
    for one in processes:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
