"""Brings a stack up and takes it down again: tools, site, Pulumi, and one real chat request."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from rehearsal.site import Site, default_home
from rehearsal.tools import Group, ensure
from rehearsal.workspace import PROJECT, Workspace, WorkspaceError
from runtime.ops.chat import ChatError, StreamedAnswer, stream_chat
from runtime.ops.progress import Progress, Step
from runtime.ops.pulumi_cli import PulumiCli

POLICY_PACK = PROJECT / "policies" / "gpu_cost"
POLICY_CONFIGS = PROJECT / "policies" / "config"
_PROMPT = "Say hello."
_ANSWER_TOKENS = 24
# A killed Ray head takes its workers along; the operator has the whole cluster back within minutes.
_RECOVERY_S = 900.0
_ASK_AGAIN_S = 2.0


@dataclass(frozen=True)
class Running:
    """A platform that is up and has answered.

    Attributes:
        workspace: Its Pulumi.
        endpoint: Base URL without `/v1`.
        model: The model that answered.
        client: Name of the client whose key was used.
        api_key_secret: Where the keys are in the cluster, as NAMESPACE/NAME.
        answer: What the model said.
        site: The embedded site's name, or None on a cluster of the user's own.
    """

    workspace: Workspace
    endpoint: str
    model: str
    client: str
    api_key_secret: str
    answer: StreamedAnswer
    site: str | None


@dataclass(frozen=True)
class Remains:
    """What was looked for after a teardown, one line a kind, and whether nothing was found."""

    lines: tuple[str, ...]
    clean: bool


class Platform:
    """One stack, on the embedded site or on the cluster that KUBECONFIG names."""

    def __init__(self, stack: str, site: str, progress: Progress) -> None:
        self._home = default_home().expanduser().absolute()
        self._site_name = site
        self._site = Site(site, self._home)
        self._progress = progress
        given = os.environ.get("KUBECONFIG")
        # A shell that sourced the environment file names the site's own kubeconfig.
        self._embedded = given is None or Path(given) == self._site.kubeconfig
        kubeconfig = self._site.kubeconfig if self._embedded or given is None else Path(given).absolute()
        if not self._embedded and not kubeconfig.is_file():
            raise WorkspaceError(
                f"KUBECONFIG = {given}: there is no such file; name an existing kubeconfig, or unset "
                "KUBECONFIG to use the embedded site"
            )
        context = None if self._embedded else os.environ.get("CONTEXT")
        self.workspace = Workspace(self._home, stack, kubeconfig, context)

    def up(self) -> Running:
        """Makes everything that is missing and returns once a model has answered through the gateway."""
        self.workspace.check()
        with self.workspace.locked(self._progress):
            self._prepare()
            cli = PulumiCli(PROJECT, self.workspace.stack, self.workspace.environment())
            cli.ensure_stack()
            self._clear_what_a_kill_left(cli)
            stack_file = self.workspace.copy_stack_file()
            cli.update(
                "up", self._progress, "--config-file", str(stack_file), *policy_arguments(self.workspace)
            )
            return self._ask(cli)

    def prepare(self) -> Workspace:
        """Tools, site and environment file, without touching the stack: what plain Pulumi needs."""
        self.workspace.check()
        with self.workspace.locked(self._progress):
            self._prepare()
        return self.workspace

    def down(self) -> Remains:
        """Destroys the stack, stops the site, and looks for what could be left of either."""
        with self.workspace.locked(self._progress):
            self._destroy()
            lines: list[str] = []
            clean = True
            if self._embedded:
                leftovers = self._site.stop(self._progress)
                lines, clean = leftovers.lines(), not leftovers
            locks = self.workspace.updating_pids()
            plugins = [str(process.pid) for process in self.workspace.orphaned_plugins()]
            for kind, found in (("Pulumi locks", [str(pid) for pid in locks]), ("Pulumi plugins", plugins)):
                lines.append(f"{kind}: {', '.join(found) or 'none'}")
                clean = clean and not found
            return Remains(lines=tuple(lines), clean=clean)

    def _destroy(self) -> None:
        if not (self._home / "state").is_dir() and "PULUMI_BACKEND_URL" not in os.environ:
            self._progress.line(f"  done    no state in {self._home}: nothing to destroy")
            return
        toolbox = ensure([Group.PULUMI], self._progress)
        self.workspace.install(toolbox)
        cli = PulumiCli(PROJECT, self.workspace.stack, self.workspace.environment())
        self._clear_what_a_kill_left(cli)
        if cli.resource_count() == 0:
            self._progress.line(f"  done    stack {self.workspace.stack} has no resources")
            return
        # The operator and the API server do the deleting, so a site that is down is started once more.
        self._prepare()
        stack_file = self.workspace.copy_stack_file()
        cli.update("destroy", self._progress, "--config-file", str(stack_file))

    def _prepare(self) -> None:
        groups = [Group.PULUMI, Group.SITE, Group.SERVING] if self._embedded else [Group.PULUMI]
        toolbox = ensure(groups, self._progress)
        self.workspace.install(toolbox)
        if self._embedded:
            self._site.start(toolbox, self._progress)
        self.workspace.write_environment_file()

    def _clear_what_a_kill_left(self, cli: PulumiCli) -> None:
        """A killed Pulumi leaves its lock and its providers behind; one that still runs is waited for."""
        pids = self.workspace.updating_pids()
        alive = [pid for pid in pids if _is_pulumi(pid)]
        if alive:
            with self._progress.step(f"waiting for pulumi {alive[0]}, which works on the stack"):
                while any(_is_pulumi(pid) for pid in alive):
                    time.sleep(0.5)
        for orphan in self.workspace.orphaned_plugins():
            self._progress.line(f"  done    ended {orphan.name()} {orphan.pid}, whose Pulumi was killed")
            orphan.kill()
        if self.workspace.updating_pids():
            cli.output("cancel", "--yes", "--stack", self.workspace.stack)
            self._progress.line("  done    removed the lock of a Pulumi that was killed; its state is kept")

    def _ask(self, cli: PulumiCli) -> Running:
        outputs = cli.outputs()
        endpoint, model = str(outputs["endpoint"]), str(outputs["models"][0])
        client, key = next(iter(outputs["apiKeys"].items()))
        if not endpoint.startswith("http") or ".svc" in endpoint:
            raise WorkspaceError(
                f"the platform is up and its own check passed, but {endpoint} cannot be reached from here; "
                "use `kubectl port-forward` or your ingress"
            )
        with self._progress.step("a streamed chat completion through the gateway") as step:
            answer = _first_answer(endpoint, key, model, step)
            step.update(f"{answer.chunks} chunks, the first after {answer.first_chunk_s * 1000:.0f} ms")
        return Running(
            workspace=self.workspace,
            endpoint=endpoint,
            model=model,
            client=client,
            api_key_secret=str(outputs["apiKeySecret"]),
            answer=answer,
            site=self._site_name if self._embedded else None,
        )


def _first_answer(endpoint: str, key: str, model: str, step: Step) -> StreamedAnswer:
    """Asks until there is an answer: an unchanged stack is not awaited by Pulumi, yet may be recovering."""
    deadline = time.monotonic() + _RECOVERY_S
    while True:
        try:
            return stream_chat(endpoint, key, model, _PROMPT, _ANSWER_TOKENS)
        except ChatError as error:
            if time.monotonic() > deadline:
                raise
            step.update(f"not yet: {str(error)[:120]}")
            time.sleep(_ASK_AGAIN_S)


def policy_arguments(workspace: Workspace) -> list[str]:
    """Options that make Pulumi judge the stack by the policy packs, with the stack's config if it has one."""
    config = POLICY_CONFIGS / f"{workspace.stack}.json"
    options = ["--policy-pack", str(POLICY_PACK)]
    return [*options, "--policy-pack-config", str(config)] if config.is_file() else options


def _is_pulumi(pid: int) -> bool:
    try:
        return "pulumi" in psutil.Process(pid).name()
    except psutil.NoSuchProcess:
        return False
