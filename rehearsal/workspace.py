"""Where one clone's Pulumi runs: its programs, plugins, self-managed backend, passphrase and stack copy."""

import contextlib
import fcntl
import importlib.metadata
import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import psutil
import yaml

from rehearsal.plugins import EXEC_SCRIPT
from rehearsal.plugins.launchers import write_launchers
from rehearsal.rehearsed_stack import as_rehearsed
from rehearsal.state_files import kept_whole, mend_state
from rehearsal.tools import Source, Toolbox
from runtime.ops.progress import Progress
from runtime.stack_file import StackFileError, list_mistakes, read_stack_file

PROJECT = Path(__file__).parents[1]

# All packs in one process (docs/adr/0019).
POLICY_PACK = PROJECT / "policies" / "pack"
POLICY_CONFIGS = PROJECT / "policies" / "config"
WAIVERS = PROJECT / "policies" / "waivers"
EXAMPLES = PROJECT / "examples"

# Set by the user, these decide where state lives and what encrypts it; Spillway's own are defaults.
_BACKEND = "PULUMI_BACKEND_URL"
_PASSPHRASE = "PULUMI_CONFIG_PASSPHRASE"  # noqa: S105 - the variable's name
_PASSPHRASE_FILE = "PULUMI_CONFIG_PASSPHRASE_FILE"  # noqa: S105 - the variable's name
_REHEARSAL = "-rehearsal"
_LANGUAGE_HOST = "pulumi-language-python"
_RANDOM = "pulumi-resource-random"
_AWS = "pulumi-resource-aws"
_KUBERNETES = "pulumi-resource-kubernetes"
_DYNAMIC = "pulumi-resource-pulumi-python"


@dataclass(frozen=True)
class StateLock:
    """Who holds the lock of a stack's state.

    Attributes:
        pid: The CLI's process, on its host.
        host: Host name of the machine or container that it runs in.
    """

    pid: int
    host: str

    @property
    def is_here(self) -> bool:
        """Whether the process is one of this machine, so that it can be told whether it lives."""
        return self.host == socket.gethostname()


class WorkspaceError(Exception):
    """A problem that the user can act on; its text is the whole message."""


@dataclass(frozen=True)
class Workspace:
    """The Pulumi of one stack in this clone.

    Attributes:
        home: Spillway's state folder; state and passphrase outlive the clone there.
        stack: The stack's name.
        kubeconfig: The cluster's kubeconfig; None for a stack that is on no cluster.
        context: Context in it, or None for the current one.
        rehearsal_of: The stack or example that this one rehearses on simulated nodes, or None. A rehearsal
            is a stack of its own, so that nothing of it gets near the state of the real one.
        cloud: What sends the stack to the AWS double; None where it has no AWS side, or a real one.
        weights: Folder with the tiny model's files, if a rehearsal's first model runs for real on-prem.
        canary: Revision that a rehearsal's canary has in place of the one in the stack file.
    """

    home: Path
    stack: str
    kubeconfig: Path | None
    context: str | None = None
    rehearsal_of: str | None = None
    cloud: Mapping[str, str] | None = None
    weights: Path | None = None
    canary: str | None = None

    @classmethod
    def rehearsing(cls, home: Path, name: str, kubeconfig: Path | None) -> "Workspace":
        """The Pulumi that rehearses the stack or example of that name."""
        return cls(home, f"{name}{_REHEARSAL}", kubeconfig, rehearsal_of=name)

    def with_cloud(self, environment: Mapping[str, str], weights: Path | None) -> "Workspace":
        """The same, with the AWS double as the only AWS that it knows."""
        return replace(self, cloud=environment, weights=weights)

    @property
    def stack_file(self) -> Path:
        """The committed stack file; of a rehearsal, the one that it rehearses."""
        name = self.rehearsal_of or self.stack
        example = EXAMPLES / f"{name}.yaml"
        if self.rehearsal_of is not None and example.is_file():
            return example
        return PROJECT / "stacks" / f"Pulumi.{name}.yaml"

    @property
    def policy_config(self) -> Path | None:
        """The policy pack's configuration for the stack; None where it has none."""
        name = self.rehearsal_of or self.stack
        places = [POLICY_CONFIGS / f"{name}.json"]
        if self.rehearsal_of is not None:
            places.append(EXAMPLES / f"{name}.policy.json")
        return next((place for place in places if place.is_file()), None)

    @property
    def waivers(self) -> Path | None:
        """The violations that the stack's owner has put up with; None where there are none."""
        file = WAIVERS / f"{self.rehearsal_of or self.stack}.yaml"
        return file if file.is_file() else None

    @property
    def environment_file(self) -> Path:
        """What a shell sources for plain Pulumi."""
        return self.home / "stacks" / f"{self.stack}.env"

    @property
    def cluster_file(self) -> Path:
        """The embedded site and cluster that the stack is on; not there when it is on none."""
        return self.home / "stacks" / f"{self.stack}.cluster"

    @property
    def is_unfinished(self) -> bool:
        """Whether the last update did not come to its end, so that the state may not know what it did."""
        return self._unfinished_file.exists()

    def forget_unfinished(self) -> None:
        """There is nothing left that the state could be wrong about."""
        self._unfinished_file.unlink(missing_ok=True)

    @property
    def _unfinished_file(self) -> Path:
        return self.home / "stacks" / f"{self.stack}.unfinished"

    @property
    def _backend(self) -> str:
        return f"file://{self.home / 'state'}"

    @property
    def _backend_is_ours(self) -> bool:
        # A shell that sourced the environment file has our own value set.
        return _is_unset_or(_BACKEND, self._backend)

    @property
    def _own(self) -> Path:
        return PROJECT / ".venv" / "spillway"

    @property
    def _pulumi_home(self) -> Path:
        # In a rehearsal's folder of plugins `aws` is the stand-in; the stack itself must not find it there.
        return self._own / ("pulumi" if self.rehearsal_of is None else "pulumi-rehearsal")

    @property
    def _passphrase_file(self) -> Path:
        return self.home / "passphrase"

    @property
    def _private_stack_file(self) -> Path:
        return self.home / "stacks" / f"Pulumi.{self.stack}.yaml"

    @property
    def was_installed(self) -> bool:
        """Whether this home, or a backend of the user's own, can hold a state at all."""
        return self._passphrase_file.is_file() or not self._backend_is_ours

    def check(self) -> None:
        """Refuses a stack without a stack file.

        Raises:
            WorkspaceError: With the stacks that there are.
        """
        if not self.stack_file.is_file():
            known = [
                path.name.removeprefix("Pulumi.").removesuffix(".yaml")
                for path in self.stack_file.parent.glob("Pulumi.*.yaml")
            ]
            if self.rehearsal_of is not None:
                known += [path.stem for path in EXAMPLES.glob("*.yaml")]
            raise WorkspaceError(
                f"STACK = {self.rehearsal_of or self.stack}: there is no "
                f"{self.stack_file.relative_to(PROJECT)}; allowed: {', '.join(sorted(known))}; take one of "
                "them or copy one to that name"
            )

    def check_settings(self) -> None:
        """Refuses a stack file with mistakes, before minutes of building and starting.

        Raises:
            WorkspaceError: With every mistake.
        """
        self.check()
        command = [sys.executable, "-m", "stacks.check", str(self.stack_file.relative_to(PROJECT))]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise WorkspaceError(done.stderr.strip())

    def staging_plan(self) -> dict[str, object] | None:
        """What of the stack has to be in S3 and ECR, by its stack file; None where it has no AWS side.

        Raises:
            WorkspaceError: The stack file has mistakes.
        """
        platform = platform_object(self.stack_file)
        if not platform.get("cloud") and platform.get("scenario") != "sagemaker":
            return None
        command = [sys.executable, "-m", "stacks.cloud_staging", str(self.copy_stack_file())]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise WorkspaceError(done.stderr.strip())
        return json.loads(done.stdout)

    def install(self, toolbox: Toolbox) -> None:
        """Puts the CLI and the plugins where Pulumi takes them for its own, and makes the backend's folder.

        The language host lies beside the CLI and the providers in Pulumi's plugin folder: from PATH the
        CLI would use them too, but with a warning for each on every run.
        """
        binaries = self._own / "bin"
        for program in ("pulumi", EXEC_SCRIPT, _DYNAMIC):
            _place(toolbox.path(program), binaries / program)
        self._place_plugin(toolbox, _KUBERNETES, "kubernetes", "pulumi-kubernetes")
        python = Path(sys.executable)
        if toolbox.source(_LANGUAGE_HOST) is Source.STAND_IN:
            write_launchers(binaries, python, toolbox.path(EXEC_SCRIPT), [_LANGUAGE_HOST])
        else:
            _place(toolbox.path(_LANGUAGE_HOST), binaries / _LANGUAGE_HOST)
        if toolbox.source(_RANDOM) is Source.STAND_IN:
            folder = self._plugin_folder("random", "pulumi-random")
            write_launchers(folder, python, toolbox.path(EXEC_SCRIPT), [_RANDOM])
        else:
            self._place_plugin(toolbox, _RANDOM, "random", "pulumi-random")
        if self.rehearsal_of is not None:
            # Always the stand-in: it refuses every endpoint that is not on this machine.
            write_launchers(
                self._plugin_folder("aws", "pulumi-aws"), python, toolbox.path(EXEC_SCRIPT), [_AWS]
            )
        (self.home / "state").mkdir(parents=True, exist_ok=True)
        (self.home / "stacks").mkdir(parents=True, exist_ok=True)
        self._make_passphrase()

    def variables(self) -> dict[str, str]:
        """What plain Pulumi needs in its environment, beside PATH."""
        values = {
            "PULUMI_HOME": str(self._pulumi_home),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            # What is installed is not what a stack needs: `local` needs no aws plugin of 200 MB and more.
            # One that is needed and not here is still got when its provider starts.
            "PULUMI_OPTION_SKIP_PLUGIN_PRE_INSTALL": "true",
        }
        if self.kubeconfig is not None:
            values["KUBECONFIG"] = str(self.kubeconfig)
        if self.context is not None:
            values["CONTEXT"] = self.context
        if self._backend_is_ours:
            values[_BACKEND] = self._backend
        if _PASSPHRASE not in os.environ and _is_unset_or(_PASSPHRASE_FILE, str(self._passphrase_file)):
            values[_PASSPHRASE_FILE] = str(self._passphrase_file)
        # The CLI takes any of its options from such a variable, so plain Pulumi is judged too.
        values["PULUMI_OPTION_POLICY_PACK"] = str(POLICY_PACK)
        if self.policy_config is not None:
            values["PULUMI_OPTION_POLICY_PACK_CONFIG"] = str(self.policy_config)
        if self.waivers is not None:
            values["SPILLWAY_WAIVERS"] = str(self.waivers)
        if self.rehearsal_of is not None:
            # It has no file in the project, and plain Pulumi would write one that holds nothing but a salt.
            values["PULUMI_OPTION_CONFIG_FILE"] = str(self._private_stack_file)
        return {**values, **(self.cloud or {})}

    def environment(self) -> dict[str, str]:
        """The environment to run the CLI in."""
        path = os.pathsep.join([*self._path(), os.environ.get("PATH", os.defpath)])
        # A CONTEXT of the shell names one in another kubeconfig, unless it was taken over.
        inherited = {name: value for name, value in os.environ.items() if name != "CONTEXT"}
        if self.cloud is not None:
            # Nothing of the user's own AWS: no profile, no role, no region.
            inherited = {name: value for name, value in inherited.items() if not name.startswith("AWS_")}
        return {**inherited, **self.variables(), "PATH": path}

    def write_environment_file(self) -> Path:
        """Writes what a shell sources, and returns where."""
        lines = [
            f"# Plain Pulumi for stack {self.stack}, written by `make up`. Use: . {self.environment_file}",
            "unset CONTEXT",
            *(["unset AWS_PROFILE AWS_SESSION_TOKEN AWS_ROLE_ARN"] if self.cloud is not None else []),
            *(f"export {name}={shlex.quote(value)}" for name, value in self.variables().items()),
            f'export PATH={shlex.quote(os.pathsep.join(self._path()))}:"$PATH"',
            f"export PULUMI_STACK={self.stack}",
        ]
        _write_private(self.environment_file, "\n".join(lines) + "\n")
        return self.environment_file

    def copy_stack_file(self, *, foundation: bool = False) -> Path:
        """Copies the stack file; Pulumi writes a salt into the copy, never into the original.

        Each copy gets a new salt, which costs nothing: the state carries the one that it is read with. The
        copy of a rehearsal names no cluster and takes the operator's chart from this repository.

        Args:
            foundation: Declare only what endpoints stand on, whatever the file says.
        """
        text = self.stack_file.read_text()
        content = None
        if self.rehearsal_of is not None:
            content = as_rehearsed(_content(self.stack_file), self.weights, self.canary)
        if foundation:
            content = content or _content(self.stack_file)
            content["config"]["spillway:platform"]["declare"] = "foundation"
        if content is not None:
            text = yaml.safe_dump(content, sort_keys=False)
        _write_private(self._private_stack_file, text)
        return self._private_stack_file

    def locks(self) -> list[StateLock]:
        """Who holds Pulumi's lock on the stack, the dead among them too.

        Only for Spillway's own backend; what locks another one is not known here.
        """
        if not self._backend_is_ours:
            return []
        folder = self.home / "state" / ".pulumi" / "locks" / "organization" / _project_name() / self.stack
        return [_read_lock(file) for file in folder.glob("*.json")]

    def mend_state(self) -> list[str]:
        """Mends a state that is half-written and returns what was done; only in Spillway's own backend.

        Raises:
            StateFileError: There is no whole copy of it.
        """
        return mend_state(self.home / "state", _project_name()) if self._backend_is_ours else []

    @contextmanager
    def updating(self) -> Generator[None]:
        """Around an update: keeps the last whole state meanwhile, and notes if the update does not finish.

        The state is kept in Spillway's own backend only.
        """
        self._unfinished_file.touch()
        kept = kept_whole(self.home / "state", _project_name(), self.stack)
        with kept if self._backend_is_ours else contextlib.nullcontext():
            yield
        self.forget_unfinished()

    def orphaned_plugins(self) -> list[psutil.Process]:
        """Providers whose Pulumi was killed; the official ones go on for as long as they like."""
        plugins = str(self._pulumi_home / "plugins")
        return [process for process in psutil.process_iter() if _is_orphan_below(process, plugins)]

    @contextmanager
    def locked(self, progress: Progress) -> Generator[None]:
        """Lets one `make up` or `make down` of the stack run at a time; the second waits and says so."""
        path = self.home / "stacks" / f"{self.stack}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                with progress.step(f"waiting for another make of stack {self.stack}"):
                    fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _make_passphrase(self) -> None:
        # Linked and not written, because two stacks may come up at once: what is encrypted with the first
        # passphrase cannot be read with a second one.
        temporary = self._passphrase_file.with_name(f".passphrase.{os.getpid()}")
        _write_private(temporary, secrets.token_urlsafe(32))
        with contextlib.suppress(FileExistsError):
            self._passphrase_file.hardlink_to(temporary)
        temporary.unlink()

    def _path(self) -> list[str]:
        return [str(self._own / "bin"), str(PROJECT / ".venv" / "bin")]

    def _plugin_folder(self, name: str, distribution: str) -> Path:
        version = importlib.metadata.version(distribution)
        return self._pulumi_home / "plugins" / f"resource-{name}-v{version}"

    def _place_plugin(self, toolbox: Toolbox, program: str, name: str, distribution: str) -> None:
        _place(toolbox.path(program), self._plugin_folder(name, distribution) / program)


def platform_object(stack_file: Path) -> dict[str, object]:
    """The object under `spillway:platform`, unchecked: the program itself says what is wrong with it.

    Raises:
        WorkspaceError: The file is no YAML.
    """
    try:
        platform: object = _content(stack_file)["config"]["spillway:platform"]
    except (KeyError, TypeError):
        return {}
    return cast("dict[str, object]", platform) if isinstance(platform, dict) else {}


def _content(stack_file: Path) -> Any:
    try:
        return read_stack_file(stack_file)[0]
    except StackFileError as error:
        inside = stack_file.is_relative_to(PROJECT)
        place = stack_file.relative_to(PROJECT) if inside else stack_file
        raise WorkspaceError(list_mistakes(place, [str(error)])) from None


def _project_name() -> str:
    return str(yaml.safe_load((PROJECT / "Pulumi.yaml").read_text())["name"])


def _is_unset_or(variable: str, value: str) -> bool:
    return os.environ.get(variable, value) == value


def _place(source: Path, target: Path) -> None:
    """Links a file, or copies it to another file system; a right one is left alone."""
    target.parent.mkdir(parents=True, exist_ok=True)
    there = target.stat() if target.exists() else None
    origin = source.stat()
    if there and (there.st_size, there.st_mtime_ns) == (origin.st_size, origin.st_mtime_ns):
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        temporary.hardlink_to(source)
    except OSError:
        shutil.copy2(source, temporary)
    temporary.replace(target)


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.touch(mode=0o600)
    temporary.write_text(text)
    temporary.replace(path)


def _is_orphan_below(process: psutil.Process, folder: str) -> bool:
    try:
        ours = any(part.startswith(folder) for part in (process.exe(), *process.cmdline()[:3]))
        return ours and not any(parent.name() == "pulumi" for parent in process.parents())
    except psutil.Error:
        return False  # it ended meanwhile, or was never ours to look at


def _read_lock(file: Path) -> StateLock:
    try:
        content = json.loads(file.read_text())
        return StateLock(pid=int(content["pid"]), host=str(content["hostname"]))
    except (ValueError, KeyError):
        return StateLock(pid=0, host=socket.gethostname())  # half-written by a Pulumi that was killed
