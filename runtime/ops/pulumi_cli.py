"""Drives the Pulumi CLI as a subprocess and follows its event stream.

Not the Automation API: that one ignores `stackConfigDir` and would write stray stack files.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from runtime.ops.deletions import ObjectReference
from runtime.ops.progress import Progress

INTERRUPT_GRACE_S = 60.0
SLOW_S = 2.0

# Helm's records of an install or upgrade of KubeRay that was killed.
HALF_MADE_RELEASES = "owner=helm,name=kuberay-operator,status in (pending-install,pending-upgrade)"

# Words of others that do not tell a user what to do, and what does.
_REMEDIES = (
    (
        "cannot re-use a name that is still in use",
        "If an earlier install was killed, Helm keeps its name taken. Remove its record and run this again:\n"
        f"  kubectl -n kuberay-system delete secret -l '{HALF_MADE_RELEASES}'",
    ),
    (
        "error reading from server: EOF|transport is closing|exited prematurely|was ended by SIG",
        "A process of Pulumi ended in the middle: somebody killed it, or the machine had too little memory. "
        "What was made is in the state; run the same command again, it goes on from here.",
    ),
    (
        "no space left on device|disk quota exceeded",
        "The disk is full. Free some space and run the same command again, it goes on from here.",
    ),
)


class PulumiError(Exception):
    """The CLI failed; the message is what it said."""


@dataclass
class _Operation:
    name: str
    kind: str
    started: float = field(default_factory=time.monotonic)
    said: str = ""


class PulumiCli:
    """One stack of one project, with the environment that its CLI runs in."""

    def __init__(self, project: Path, stack: str, environment: Mapping[str, str]) -> None:
        self._project = project
        self._stack = stack
        self._environment = dict(environment)

    def output(self, *arguments: str) -> str:
        """Runs a command and returns what it printed.

        Raises:
            PulumiError: If it fails.
        """
        try:
            done = subprocess.run(
                ["pulumi", *arguments, "--non-interactive"],
                cwd=self._project,
                env=self._environment,
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            raise PulumiError(
                "there is no pulumi on PATH; source the file that `make env` names, or install Pulumi"
            ) from None
        if done.returncode != 0:
            raise PulumiError(_reason(arguments[0], done.returncode, done.stderr or done.stdout))
        return done.stdout

    def ensure_stack(self) -> None:
        """Makes the stack if it is not there yet, without touching its stack file."""
        if self._exists():
            return
        settings = yaml.safe_load((self._project / "Pulumi.yaml").read_text())
        with tempfile.TemporaryDirectory(prefix="spillway-") as elsewhere:
            # `stack init` writes a salt into the stack file of the project that it runs in. In a
            # project of the same name elsewhere, the committed file stays as it is.
            project = {"name": settings["name"], "runtime": "python"}
            (Path(elsewhere) / "Pulumi.yaml").write_text(yaml.safe_dump(project))
            self.output("stack", "init", self._stack, "--no-select", "--cwd", elsewhere)

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs with secrets in plain text."""
        return json.loads(self.output("stack", "output", "--json", "--show-secrets", "--stack", self._stack))

    def resource_count(self) -> int:
        """How many resources the state holds; 0 after a complete destroy, or where there is no stack."""
        return len(self.state()["deployment"].get("resources") or [])

    def state(self) -> dict[str, Any]:
        """The exported state with secrets in plain text; an empty one where there is no stack."""
        if not self._exists():
            return {"deployment": {}}
        return json.loads(self.output("stack", "export", "--show-secrets", "--stack", self._stack))

    def objects(self) -> list[ObjectReference]:
        """The Kubernetes objects that the state holds."""
        state = json.loads(self.output("stack", "export", "--stack", self._stack))
        resources: list[Mapping[str, Any]] = state["deployment"].get("resources") or []
        return [found for one in resources if (found := _object_of(one)) is not None]

    def settle_creations(self, progress: Progress, config_file: Path | None = None) -> None:
        """Finds out what became of objects that a killed CLI was making, where its state tells of any.

        They may be there although the state does not have them, and the CLI leaves it to the user to say so.
        Here their names are known, because Spillway generates none (docs/adr/0007). What cannot be looked up,
        such as a random password, is forgotten: the next update makes it again.

        Args:
            progress: Where it is shown.
            config_file: The stack file that the CLI may write to; None lets it take its own.

        Raises:
            PulumiError: The cluster or the CLI failed.
        """
        state = json.loads(self.output("stack", "export", "--stack", self._stack))
        operations: list[Mapping[str, Any]] = state["deployment"].get("pending_operations") or []
        begun = [one["resource"] for one in operations if one["type"] == "creating"]
        if not begun:
            return
        progress.line(f"  done    a Pulumi was killed while it made {', '.join(map(_name_of, begun))}")
        imports = [
            argument
            for one in begun
            if (name := _cluster_name(one))
            for part in (one["urn"], name)
            for argument in ("--import-pending-creates", part)
        ]
        # Not only these as targets: the CLI refuses a target that turns out not to be there.
        own = [] if config_file is None else ["--config-file", str(config_file)]
        self.update("refresh", progress, *own, "--clear-pending-creates", *imports)

    def _exists(self) -> bool:
        names = [str(stack["name"]) for stack in json.loads(self.output("stack", "ls", "--json"))]
        return self._stack in names

    def update(
        self,
        command: Literal["up", "destroy", "refresh"],
        progress: Progress,
        *arguments: str,
        trouble: Callable[[], str | None] = lambda: None,
    ) -> None:
        """Runs an update to its end, showing what it works on.

        Ctrl-C is passed to the CLI once, which finishes what it has begun and keeps its state.

        Args:
            command: What to do.
            progress: Where it is shown.
            arguments: Options of the CLI.
            trouble: Asked while it lasts for a reason why it may never end, in words, to be shown too.

        Raises:
            PulumiError: With every error that the engine reported.
        """
        follower = EventFollower(progress)
        # A file for stderr and not a pipe: nobody reads it meanwhile, and a full pipe would stop the CLI.
        with progress.step(f"pulumi {command}") as step, tempfile.TemporaryFile(mode="w+") as stderr:
            step.follow(lambda: "; ".join(filter(None, (follower.detail(), trouble()))))
            process = subprocess.Popen(
                ["pulumi", command, "--yes", "--json", "--stack", self._stack, *arguments],
                cwd=self._project,
                env={**self._environment, "PULUMI_ENABLE_STREAMING_JSON_PREVIEW": "true"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                # Out of the terminal's group, so that one Ctrl-C reaches the engine once, through us.
                start_new_session=True,
            )
            try:
                for event in _events(process):
                    follower.take(event)
            except BaseException:
                _interrupt(process)
                raise
            if (status := process.wait()) != 0:
                stderr.seek(0)
                raise PulumiError(_reason(command, status, "\n".join(follower.errors) or stderr.read()))


class EventFollower:
    """Turns engine events into a step's detail and into lines for what took long or was reported."""

    def __init__(self, progress: Progress) -> None:
        self.errors: list[str] = []
        self._progress = progress
        self._running: dict[str, _Operation] = {}
        self._finished = 0
        self._preview = True

    def take(self, event: Mapping[str, Any]) -> None:
        """Takes the next event."""
        if pre := event.get("resourcePreEvent"):
            self._preview = bool(pre.get("planning"))
            self._begin(pre["metadata"])
        elif out := event.get("resOutputsEvent"):
            self._end(out["metadata"])
        elif failed := event.get("resOpFailedEvent"):
            self._running.pop(failed["metadata"]["urn"], None)
        elif diagnostic := event.get("diagnosticEvent"):
            self._report(diagnostic)
        elif policy := event.get("policyEvent"):
            self._report_policy(policy)

    def _begin(self, metadata: Mapping[str, Any]) -> None:
        urn, kind = str(metadata["urn"]), str(metadata["op"])
        state: Mapping[str, Any] = metadata.get("new") or metadata.get("old") or {}
        # A component, the stack among them, lasts as long as its slowest child; that one is shown.
        if state.get("custom") and kind not in {"same", "read", "refresh"}:
            self._running[urn] = _Operation(_readable(urn), kind)

    def _end(self, metadata: Mapping[str, Any]) -> None:
        operation = self._running.pop(str(metadata["urn"]), None)
        if operation is None:
            return
        self._finished += 1
        seconds = time.monotonic() - operation.started
        if not self._preview and seconds > SLOW_S:
            self._progress.line(f"          {operation.kind} {operation.name} took {seconds:.1f} s")

    def _report(self, diagnostic: Mapping[str, Any]) -> None:
        message, severity = str(diagnostic.get("message", "")).strip(), diagnostic.get("severity")
        if not message:
            return
        urn = str(diagnostic.get("urn") or "")
        if severity == "error":
            self.errors.append(f"{_readable(urn)}: {message}" if urn else message)
        elif operation := self._running.get(urn):
            operation.said = message.splitlines()[-1]
        elif severity == "warning" and not diagnostic.get("ephemeral"):
            self._progress.line(f"          warning: {message.splitlines()[0]}")

    def _report_policy(self, policy: Mapping[str, Any]) -> None:
        message = str(policy.get("message", "")).strip()
        text = f"policy {policy.get('policyName')} on {_readable(str(policy.get('resourceUrn')))}: {message}"
        if policy.get("enforcementLevel") == "mandatory":
            self.errors.append(text)
        else:
            self._progress.line(f"          {text}")

    def detail(self) -> str:
        """How far the update is, and what it has been waiting for longest."""
        phase = "preview, " if self._preview else ""
        text = f"{phase}{self._finished} resources"
        running = list(self._running.values())  # another thread asks while events come in
        if running and not self._preview:
            longest = min(running, key=lambda operation: operation.started)
            seconds = time.monotonic() - longest.started
            said = f" ({longest.said[:90]})" if longest.said else ""
            text += f", {longest.kind} {longest.name} since {seconds:.0f} s{said}"
        return text


def _events(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    for line in process.stdout or ():
        if not line.startswith("{"):
            continue
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            # A preview that does not stream prints one indented document; its lines are no events.
            continue


def _reason(command: str, status: int, said: str) -> str:
    """Why the CLI failed, and what the user can do where its own words do not say so."""
    reason = said.strip() or f"pulumi {command} failed"
    if status < 0:
        # What it said before is no reason.
        reason = f"pulumi {command} was ended by {signal.Signals(-status).name}"
    remedy = next((remedy for words, remedy in _REMEDIES if re.search(words, reason)), None)
    return f"{reason}\n{remedy}" if remedy else reason


def _name_of(resource: Mapping[str, Any]) -> str:
    return _readable(str(resource["urn"]))


def _cluster_name(resource: Mapping[str, Any]) -> str | None:
    """How Pulumi's Kubernetes provider identifies an object; None for what is no object of the cluster."""
    if not str(resource["type"]).startswith("kubernetes:"):
        return None
    inputs: Mapping[str, Any] = resource.get("inputs") or {}
    # A Helm release has name and namespace beside its other inputs.
    where: Mapping[str, Any] = inputs.get("metadata") or inputs
    parts = [where.get("namespace"), where.get("name")]
    return "/".join(str(part) for part in parts if part) or None


def _object_of(resource: Mapping[str, Any]) -> ObjectReference | None:
    """The object behind a resource; None for what is none, such as a password or a Helm release."""
    inputs: Mapping[str, Any] = resource.get("inputs") or {}
    if not str(resource["type"]).startswith("kubernetes:") or not {"apiVersion", "kind"} <= inputs.keys():
        return None
    metadata = inputs["metadata"]
    return ObjectReference(inputs["apiVersion"], inputs["kind"], metadata.get("namespace"), metadata["name"])


def _interrupt(process: subprocess.Popen[str]) -> None:
    """Asks the CLI to stop in order; a second Ctrl-C, or a minute, ends it at once."""
    try:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(OSError):  # a closed terminal must not keep us from waiting
                print("\nstopping: Pulumi finishes what it has begun; Ctrl-C again ends it", file=sys.stderr)
            process.communicate(timeout=INTERRUPT_GRACE_S)
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _readable(urn: str) -> str:
    parts = urn.split("::")
    if len(parts) < 4:
        return urn
    kind = parts[2].rsplit("$", 1)[-1].rsplit(":", 1)[-1]
    return f"{kind} {parts[3]}"
