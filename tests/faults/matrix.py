"""The faults, the moments, and what a user must be able to read after each."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from rehearsal.site import cgroups
from rehearsal.site.api import ApiError, object_path
from rehearsal.site.components import COMPONENTS
from rehearsal.site.layout import API_PORT
from rehearsal.site.network import NetworkNamespace
from rehearsal.site.processes import end, find_site_processes, load_record
from rehearsal.tools.cache import RECEIPT
from tests.faults.driven import Driven
from tests.faults.terminal import Terminal

# Progress lines after which a fault may strike, for each phase; the empty one is the very beginning.
STAGES = {
    "up": (
        "",
        r"machine, network, certificates",
        r"done +etcd",
        r"done +kube-apiserver",
        r"images",
        r"done +kubelet",
        r"pulumi up: preview",
        r"pulumi up: [1-9]\d* resources",
        r"(Namespace|Release|Deployment|Service) \S+ since",
        r"RayService \S+ since",
        r"Job \S+ since",
        r"a streamed chat",
    ),
    "change": (
        "",
        r"pulumi up: preview",
        r"pulumi up: \d+ resources, (create|update|replace)",
        r"(RayService|Deployment|ConfigMap|Secret) \S+ since",
        r"Job \S+ since",
        r"a streamed chat",
    ),
    "down": (
        "",
        r"pulumi destroy: ",
        r"pulumi destroy: [1-9]\d* resources",
        r"delete (RayService|Namespace|Release|Deployment) \S+ since",
        r"done +pulumi destroy",
        r"done +processes and containers",
        r"done +mounts",
    ),
    "idle": ("",),
}
PHASES = tuple(STAGES)
# Before it has read its own code a command ends without a word; the terminal has shown ^C.
_GOOD_BYE = r"stopped; the same command goes on from here|\A(\s|\^C)*\Z"
_ENDED = r"A process of Pulumi ended in the middle|was ended by SIG"


@dataclass
class Scene:
    """Where a fault strikes."""

    driven: Driven
    chance: random.Random
    terminal: Terminal | None
    undo: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    others: list[Terminal] = field(default_factory=list[Terminal])
    note: str = ""


class NotStruckError(Exception):
    """There was nothing to strike at that moment."""


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        name: Its name in the counts.
        strike: Does it.
        phases: When it makes sense.
        words: What the command or the status must say; where the platform mends itself at once, nothing.
        weight: How often it is drawn, relative to the others.
        command_stops: Whether the command that was struck has to end by itself.
        engine: `real` or `simulated` where it makes sense with one of the two only.
    """

    name: str
    strike: Callable[[Scene], None]
    phases: tuple[str, ...]
    words: str | None
    weight: int = 1
    command_stops: bool = False
    engine: str = ""


def _site_pids(scene: Scene) -> list[psutil.Process]:
    layout = scene.driven.site.layout
    found = find_site_processes(
        layout,
        netns_inodes=frozenset({NetworkNamespace(layout).inode() or 0}),
        cgroup_pids=cgroups.processes(layout),
    )
    processes: list[psutil.Process] = []
    for one in found:
        with contextlib.suppress(psutil.Error):
            processes.append(psutil.Process(one.identity.pid))
    return processes


def _kill(processes: list[psutil.Process], scene: Scene) -> None:
    if not processes:
        raise NotStruckError
    for process in processes:
        with contextlib.suppress(psutil.Error):
            scene.note += f" {process.name()}"
            process.kill()


def _component_pid(scene: Scene, component: str) -> int:
    record = load_record(scene.driven.site.layout, component)
    if record is None or not record.identity.running():
        raise NotStruckError
    return record.identity.pid


def _kill_component(component: str) -> Callable[[Scene], None]:
    return lambda scene: os.kill(_component_pid(scene, component), signal.SIGKILL)


def _kill_all_components(scene: Scene) -> None:
    pids: list[int] = []
    for component in COMPONENTS:
        with contextlib.suppress(NotStruckError):
            pids.append(_component_pid(scene, component))
    if not pids:
        raise NotStruckError
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def _kill_named(*words: str) -> Callable[[Scene], None]:
    """Kills the site's processes that are no components and whose command line has one of the words."""

    def strike(scene: Scene) -> None:
        found: list[psutil.Process] = []
        components: set[int] = set()
        for component in COMPONENTS:
            with contextlib.suppress(NotStruckError):
                components.add(_component_pid(scene, component))
        for process in _site_pids(scene):
            with contextlib.suppress(psutil.Error):
                line = " ".join(process.cmdline())
                if process.pid not in components and any(word in line for word in words):
                    found.append(process)
        _kill(found, scene)

    return strike


def _delete_pods(selector: str) -> Callable[[Scene], None]:
    """Takes pods away at once, as a node that dies does; on simulated nodes they have no process."""

    def strike(scene: Scene) -> None:
        api = scene.driven.site.api()
        try:
            pods = api.get("/api/v1/pods", labelSelector=selector)["items"]
            for pod in pods:
                metadata = pod["metadata"]
                path = object_path("v1", "Pod", metadata["namespace"], metadata["name"])
                api.delete(path, gracePeriodSeconds=0)
        except (ApiError, OSError) as error:
            raise NotStruckError from error
        if not pods:
            raise NotStruckError

    return strike


def _kill_of_command(*words: str) -> Callable[[Scene], None]:
    """Kills processes below the command whose command line has one of the words."""

    def strike(scene: Scene) -> None:
        while scene.terminal and not scene.terminal.ended():
            found: list[psutil.Process] = []
            for process in scene.terminal.tree()[1:]:
                with contextlib.suppress(psutil.Error):
                    if any(word in " ".join(process.cmdline()) for word in words):
                        found.append(process)
            if found:
                _kill(found, scene)
                return
            time.sleep(0.02)
        raise NotStruckError

    return strike


def _kill_engine(scene: Scene) -> None:
    while scene.terminal and not scene.terminal.ended():
        for process in scene.terminal.tree()[1:]:
            with contextlib.suppress(psutil.Error):
                if process.name() == "pulumi":
                    process.kill()
                    return
        time.sleep(0.02)
    raise NotStruckError


def _struck_terminal(scene: Scene) -> Terminal:
    if scene.terminal is None or scene.terminal.ended():
        raise NotStruckError
    return scene.terminal


def _kill_rehearsal(scene: Scene) -> None:
    _struck_terminal(scene).signal(signal.SIGKILL)


def _kill_everything_of_command(scene: Scene) -> None:
    """What the kernel's OOM killer or a container's end does: nobody below gets to say a word."""
    tree = _struck_terminal(scene).tree()
    spared = {process.pid for process in _site_pids(scene)}
    for process in tree:
        if process.pid not in spared:
            with contextlib.suppress(psutil.Error):
                process.kill()


def _ctrl_c(times: int) -> Callable[[Scene], None]:
    def strike(scene: Scene) -> None:
        terminal = _struck_terminal(scene)
        for number in range(times):
            if number:
                time.sleep(scene.chance.uniform(0.05, 2.5))
            terminal.ctrl_c()

    return strike


def _terminate(scene: Scene) -> None:
    _struck_terminal(scene).signal(signal.SIGTERM)


def _close_terminal(scene: Scene) -> None:
    _struck_terminal(scene).close()


def _second(command: str) -> Callable[[Scene], None]:
    def strike(scene: Scene) -> None:
        _struck_terminal(scene)
        scene.others.append(scene.driven.start(command))

    return strike


def _freeze(component: str) -> Callable[[Scene], None]:
    def strike(scene: Scene) -> None:
        os.kill(_component_pid(scene, component), signal.SIGSTOP)

    return strike


def _drop_packets(scene: Scene) -> None:
    """Drops what goes to the API server, inside the site's network namespace."""
    layout = scene.driven.site.layout
    if not layout.netns_path.exists():
        raise NotStruckError
    nft = ["nsenter", f"--net={layout.netns_path}", "nft"]
    rules = (
        "add table inet fault; add chain inet fault in { type filter hook input priority -200; }; "
        f"add rule inet fault in tcp dport {API_PORT} drop"
    )
    subprocess.run([*nft, rules], check=True)
    scene.undo.append(lambda: _run_quietly([*nft, "delete table inet fault"]))


def _run_quietly(command: list[str]) -> None:
    subprocess.run(command, check=False, capture_output=True)


def _fill_disk(scene: Scene) -> None:
    filler = scene.driven.home / "filler"
    scene.undo.append(lambda: filler.unlink(missing_ok=True))
    with filler.open("wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * (1 << 20))
            file.flush()


def _suspend(scene: Scene) -> None:
    """A laptop whose lid is closed: everything stands still for a while."""
    processes = _site_pids(scene) + (scene.terminal.tree() if scene.terminal else [])
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)
        if number is signal.SIGSTOP:
            time.sleep(scene.chance.uniform(5.0, 15.0))


def _lose_power(scene: Scene) -> None:
    """Leaves what a machine leaves that lost its power: files, and nothing that runs."""
    if scene.terminal:
        _kill_everything_of_command(scene)
        scene.terminal.wait(10.0)
    layout = scene.driven.site.layout
    for _ in range(3):
        found = find_site_processes(
            layout,
            netns_inodes=frozenset({NetworkNamespace(layout).inode() or 0}),
            cgroup_pids=cgroups.processes(layout),
        )
        end([process.identity for process in found], grace_s=0.0)
    NetworkNamespace(layout).delete()
    cgroups.remove(layout)
    boot = layout.run / "boot"
    if boot.exists():
        boot.write_text("the boot before")


def _lose_site(scene: Scene) -> None:
    command = [sys.executable, "-m", "rehearsal.site", "stop", "--site", scene.driven.name]
    subprocess.run(command, env=scene.driven.environment, check=True, capture_output=True)


def _state_file(scene: Scene) -> Path:
    files = list((scene.driven.home / "state/.pulumi/stacks").glob(f"*/{scene.driven.stack}.json"))
    if not files:
        raise NotStruckError
    return files[0]


def _cut_state(scene: Scene) -> None:
    file = _state_file(scene)
    os.truncate(file, scene.chance.randrange(file.stat().st_size))


def _zero_state(scene: Scene) -> None:
    """What a power cut leaves on many file systems: the length is right, the content is not there."""
    file = _state_file(scene)
    file.write_bytes(b"\0" * file.stat().st_size)


def _cut_state_attributes(scene: Scene) -> None:
    os.truncate(_state_file(scene).with_name(f"{scene.driven.stack}.json.attrs"), 0)


def _tool(scene: Scene, name: str) -> Path:
    if scene.driven.cache is None:
        raise NotStruckError
    return next((scene.driven.cache / "tools").glob(f"{name}-*"))


def _cut_tool(scene: Scene) -> None:
    folder = _tool(scene, "envoy")
    program = folder / "envoy"
    content = program.read_bytes()
    program.unlink()  # it may run, and a running program cannot be written to
    program.write_bytes(content[: scene.chance.randrange(len(content))])
    program.chmod(0o755)


def _cut_receipt(scene: Scene) -> None:
    os.truncate(_tool(scene, "envoy") / RECEIPT, scene.chance.randrange(40))


def _half_made_tool(scene: Scene) -> None:
    """A download and a build that were killed, and a finished folder that went away."""
    folder = _tool(scene, "envoy")
    half = folder.with_name(f".making-{folder.name}")
    half.mkdir(exist_ok=True)
    (half / "envoy").write_bytes(b"\x7fELF half of it")
    downloads = folder.parents[1] / "downloads"
    downloads.mkdir(exist_ok=True)
    (downloads / "00000000-envoy.part").write_bytes(b"half")
    shutil.rmtree(folder)


_COMMANDS = ("up", "change", "down")

FAULTS: tuple[Fault, ...] = (
    *(
        Fault(
            f"kill -9 {component}",
            _kill_component(component),
            ("idle", "up", "change") if component not in {"kwok"} else ("idle",),
            rf"{component} .*ended|{component} is not well|{component} failed|done +{component} \(",
        )
        for component in COMPONENTS
    ),
    Fault("kill -9 of all components", _kill_all_components, ("idle", "change"), r"ended; `make up`"),
    Fault("kill -9 of containerd's shims", _kill_named("containerd-shim"), ("idle", "change"), None),
    Fault("kill -9 of the gateway", _kill_named("/etc/envoy/config"), ("idle", "change"), None),
    Fault("kill -9 of the operator", _kill_named("/manager"), ("idle", "up", "change", "down"), None, 2),
    Fault("kill -9 of the Ray head", _kill_named("gcs_server"), ("idle", "change"), None, engine="real"),
    Fault("kill -9 of the Ray worker", _kill_named("ray::"), ("idle", "change"), None, engine="real"),
    Fault(
        "the Ray head's pod is gone",
        _delete_pods("ray.io/node-type=head"),
        ("idle", "change"),
        None,
        engine="simulated",
    ),
    Fault(
        "the Ray worker's pod is gone",
        _delete_pods("ray.io/node-type=worker"),
        ("idle", "change"),
        None,
        engine="simulated",
    ),
    Fault("kill -9 of pulumi", _kill_engine, _COMMANDS, _ENDED, 4, command_stops=True),
    Fault(
        "kill -9 of the language host",
        _kill_of_command("pulumi-language-python"),
        ("up", "change"),
        _ENDED,
        2,
        command_stops=True,
    ),
    Fault(
        "kill -9 of the Kubernetes provider",
        _kill_of_command("pulumi-resource-kubernetes"),
        _COMMANDS,
        _ENDED,
        3,
        command_stops=True,
    ),
    Fault(
        "kill -9 of the random provider",
        _kill_of_command("pulumi-resource-random"),
        ("up", "change"),
        None,
        command_stops=False,
    ),
    Fault("kill -9 of python -m rehearsal", _kill_rehearsal, _COMMANDS, None, 4, command_stops=True),
    Fault(
        "kill -9 of the command and all below it",
        _kill_everything_of_command,
        _COMMANDS,
        None,
        4,
        command_stops=True,
    ),
    Fault("Ctrl-C", _ctrl_c(1), _COMMANDS, _GOOD_BYE, 5, command_stops=True),
    Fault("Ctrl-C twice", _ctrl_c(2), _COMMANDS, _GOOD_BYE, 5, command_stops=True),
    Fault("Ctrl-C four times", _ctrl_c(4), _COMMANDS, _GOOD_BYE, 2, command_stops=True),
    Fault("SIGTERM", _terminate, _COMMANDS, _GOOD_BYE, 2, command_stops=True),
    Fault("the terminal is closed", _close_terminal, _COMMANDS, None, 3, command_stops=True),
    Fault("a second up", _second("up"), ("up", "change", "down"), None, 3),
    Fault("a down beside", _second("down"), ("up", "change"), None, 2),
    Fault("the API server is frozen", _freeze("kube-apiserver"), ("idle", "change"), r"does not answer", 2),
    Fault("etcd is frozen", _freeze("etcd"), ("idle", "change"), r"etcd .*does not answer"),
    Fault("packets to the API server are dropped", _drop_packets, ("idle", "change"), r"does not answer", 2),
    Fault("the disk is full", _fill_disk, ("up", "change", "down", "idle"), r"disk|space", 4),
    Fault("suspend", _suspend, ("idle", "change", "up"), None, 2),
    Fault("power loss", _lose_power, ("idle", "change", "up", "down"), r"ended|does not run", 3),
    Fault("the site was stopped behind the stack", _lose_site, ("idle",), r"does not run"),
    Fault("state file cut off", _cut_state, ("idle",), None, 2),
    Fault("state file of zeros", _zero_state, ("idle",), None),
    Fault("attributes of the state file cut off", _cut_state_attributes, ("idle",), None),
    Fault("a tool cut off", _cut_tool, ("idle",), None),
    Fault("a tool's receipt cut off", _cut_receipt, ("idle",), None),
    Fault("a tool half made", _half_made_tool, ("idle",), None),
)
