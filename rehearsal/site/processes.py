"""Starts, recognises and ends the processes of a site.

A process is identified by pid, start time and boot, never by pid alone: a pid is reused.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rehearsal.site.layout import COMPONENT_VARIABLE, STATE_VARIABLE, SiteLayout
from rehearsal.site.network import program, replace_file

_POLL_S = 0.02
_OPEN_FILES = 1 << 20
_spawned: set[int] = set()


def boot_id() -> str:
    """Identifies the current boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True)
class ProcessIdentity:
    """One process, for good: `started` is its start time in clock ticks since boot `boot`."""

    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> "ProcessIdentity | None":
        """Identifies the process that has `pid` now; None if there is none or it has ended."""
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return None
        # The name in parentheses may itself hold blanks and parentheses.
        fields = text[text.rindex(")") + 2 :].split()
        if fields[0] in "ZX":
            _reap(pid)
            return None
        return cls(pid=pid, started=int(fields[19]), boot=boot_id())

    def running(self) -> bool:
        """Says whether this very process still runs."""
        return ProcessIdentity.of(self.pid) == self

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to this process and never to another one that got its pid."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except (ProcessLookupError, OSError):
            return
        try:
            # Checked while the descriptor is held: from here on the signal can only reach this one.
            if self.running():
                signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            pass
        finally:
            os.close(descriptor)


@dataclass(frozen=True)
class ProcessRecord:
    """What is kept on disk about a started component."""

    component: str
    identity: ProcessIdentity
    fingerprint: str
    since: float


def record_file(layout: SiteLayout, component: str) -> Path:
    """Where the record of a component is kept."""
    return layout.run / "processes" / f"{component}.json"


def load_record(layout: SiteLayout, component: str) -> ProcessRecord | None:
    """Returns the record of a component; None if there is none that can be read."""
    try:
        data = json.loads(record_file(layout, component).read_text())
        return ProcessRecord(
            component=str(data["component"]),
            identity=ProcessIdentity(**data["identity"]),
            fingerprint=str(data["fingerprint"]),
            since=float(data["since"]),
        )
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def spawn(
    layout: SiteLayout,
    component: str,
    command: Sequence[str],
    *,
    fingerprint: str,
    inside: bool,
    cgroup_files: Sequence[Path],
    environment: dict[str, str],
) -> ProcessRecord:
    """Starts a component detached from this process and records it.

    Args:
        layout: The site.
        component: Its name; its output goes to the log file of that name.
        command: Program and arguments.
        fingerprint: Identifies command and configuration, to notice later that they changed.
        inside: Whether it runs in the site's network namespace.
        cgroup_files: The `cgroup.procs` files of the cgroups that it joins.
        environment: Its whole environment, without the two variables that mark it as the site's.
    """
    layout.logs.mkdir(parents=True, exist_ok=True)
    # The shell joins the cgroups before the program exists, so that no child of it can miss them, and
    # every step is an exec, so that the pid stays the component's.
    joins = "".join(f"echo $$ > '{file}'; " for file in cgroup_files)
    enter = [program("nsenter", "util-linux"), f"--net={layout.netns_path}", "--"] if inside else []
    # Ray asks for many open files, and containers inherit their limit from containerd. Root may lack the
    # right to raise it beyond what it was given.
    limit = f'ulimit -n {_OPEN_FILES} 2>/dev/null || ulimit -n "$(ulimit -H -n)"; '
    launcher = ["/bin/sh", "-c", f'{joins}{limit}exec "$@"', "sh", *enter, *command]
    with layout.log(component).open("ab") as log:
        process = subprocess.Popen(
            launcher,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=layout.state,
            start_new_session=True,
            # What containerd and the kubelet make is read by the pods' users, whoever starts the site.
            umask=0o022,
            env={**environment, STATE_VARIABLE: str(layout.state), COMPONENT_VARIABLE: component},
        )
    _spawned.add(process.pid)
    identity = ProcessIdentity.of(process.pid) or ProcessIdentity(process.pid, 0, boot_id())
    record = ProcessRecord(component, identity, fingerprint, time.time())
    replace_file(record_file(layout, component), json.dumps(asdict(record)))
    return record


def end(
    processes: Iterable[ProcessIdentity], *, grace_s: float, kill_s: float = 10.0
) -> list[ProcessIdentity]:
    """Ends processes: asks, waits up to `grace_s` seconds, then kills and waits up to `kill_s`.

    Returns:
        Those that still run, which only an uninterruptible wait in the kernel can cause.
    """
    left = list(processes)
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, kill_s)):
        if wait_s <= 0:
            continue
        for process in left:
            process.signal(number)
        deadline = time.monotonic() + wait_s
        while (left := [process for process in left if process.running()]) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
    return left


@dataclass(frozen=True)
class FoundProcess:
    """A running process and why it counts as the site's."""

    identity: ProcessIdentity
    reason: str
    name: str
    component: str | None


def find_site_processes(
    layout: SiteLayout, *, netns_inodes: frozenset[int], cgroup_pids: frozenset[int]
) -> list[FoundProcess]:
    """Lists every process that belongs to a site.

    Args:
        layout: The site.
        netns_inodes: The site's network namespace and those of its pods.
        cgroup_pids: The processes in the site's cgroups.
    """
    recorded = {
        record.identity
        for file in record_file(layout, "any").parent.glob("*.json")
        if (record := load_record(layout, file.stem))
    }
    found: list[FoundProcess] = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        pid = int(folder.name)
        variables = environment_of(pid)
        if variables.get(STATE_VARIABLE) == str(layout.state):
            reason = "environment"
        elif pid in cgroup_pids:
            reason = "cgroup"
        elif netns_inode_of(pid) in netns_inodes:
            reason = "network namespace"
        else:
            reason = ""
        identity = ProcessIdentity.of(pid)
        if identity and not reason and identity in recorded:
            reason = "record"
        if identity and reason:
            found.append(FoundProcess(identity, reason, _name(pid), variables.get(COMPONENT_VARIABLE)))
    return found


def environment_of(pid: int) -> dict[str, str]:
    """Returns the environment that a process was started with; empty if it cannot be read."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (item.decode(errors="replace").partition("=") for item in raw.split(b"\0") if item)
    return {name: value for name, _, value in pairs}


def netns_inode_of(pid: int) -> int | None:
    """Returns which network namespace a process is in; None if it cannot be told."""
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    except OSError:
        return None


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "?"


def _reap(pid: int) -> None:
    # Only what `spawn` started here: any other child's exit status is someone else's to collect.
    if pid in _spawned:
        _spawned.discard(pid)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
