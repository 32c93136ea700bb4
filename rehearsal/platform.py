"""Brings a stack up and takes it down again: tools, site, Pulumi, and one real chat request."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import psutil

from rehearsal import staging
from rehearsal.burst_cycle import BurstCycle, BurstDriver
from rehearsal.cloud import RehearsedCloud
from rehearsal.endpoints.cycle import PROMOTED, ROLLED_BACK, canary_of
from rehearsal.places import (
    EmbeddedSite,
    OwnCluster,
    Place,
    RehearsedAccount,
    Remains,
    cluster_api,
    own_cluster,
    scenario_of,
    text_at,
)
from rehearsal.site import Site, SiteError, default_home
from rehearsal.site.unwell import disk_problem
from rehearsal.tools import Group, ensure
from rehearsal.workspace import PROJECT, Workspace, WorkspaceError, platform_object
from rehearsal.workspace_stack import WorkspaceStack
from runtime.ops.chat import ChatError, StreamedAnswer, stream_chat
from runtime.ops.ecr import Ecr
from runtime.ops.progress import Progress, Step
from runtime.ops.pulumi_cli import PulumiCli
from runtime.ops.stage import Registry, Staged, StagingPlan, unstage
from runtime.ops.staged_weights import StagedWeights
from runtime.ops.teardown.certificate import Certificate, newest
from runtime.ops.teardown.command import reach_cluster
from runtime.ops.teardown.plan import Plan
from runtime.ops.teardown.run import Reach, Teardown, Wishes
from runtime.ops.teardown.waiting import Patience

_PROMPT = "Say hello."
_ANSWER_TOKENS = 24
# A killed Ray head takes its workers along; the operator has the whole cluster back within minutes.
_RECOVERY_S = 900.0
_ASK_AGAIN_S = 2.0


@dataclass(frozen=True)
class Running:
    """A platform that is up.

    Attributes:
        workspace: Its Pulumi.
        endpoint: Base URL without `/v1`.
        model: The first model that it serves.
        client: Name of the client whose key `apiKey` is.
        namespace: Kubernetes namespace of the platform; None without a cluster.
        api_key_secret: Name of the Secret with the keys, or of the one in AWS Secrets Manager.
        answer: What the model said; None where the endpoint is one that this machine does not reach.
        site: The embedded site's name, or None on a cluster of the user's own.
        simulated: Where the models' pods are if their hardware is simulated, one line a model; then the
            answer is a stand-in's.
    """

    workspace: Workspace
    endpoint: str
    model: str
    client: str
    namespace: str | None
    api_key_secret: str
    answer: StreamedAnswer | None
    site: str | None
    simulated: tuple[str, ...] = ()


class Platform:
    """One stack, on the embedded site or on a cluster of the user's own.

    Args:
        stack: Name of the stack, or of an example where it is rehearsed.
        site: Name of the embedded site.
        progress: Where the steps are shown.
        simulated: Rehearse it on the simulated nodes of the embedded site, whatever its hardware.
        real_engine: Where a rehearsed stack has an AWS side too, run its first model on-prem for real, as the
            tiny one on the CPU.
        patience: How long a teardown waits.
    """

    def __init__(
        self,
        stack: str,
        site: str,
        progress: Progress,
        *,
        simulated: bool = False,
        real_engine: bool = False,
        patience: Patience | None = None,
    ) -> None:
        self._home = default_home().expanduser().absolute()
        self._site_name = site
        self._site = Site(site, self._home)
        self._progress = progress
        self._patience = patience or Patience()
        self._state_is_old = False
        self._cloud: RehearsedCloud | None = None
        self.workspace, self._place = self._rehearsed(stack, real_engine) if simulated else self._real(stack)

    def _real(self, stack: str) -> tuple[Workspace, Place]:
        stack_file = Workspace(self._home, stack, None).stack_file
        if scenario_of(stack_file) == "sagemaker":
            return Workspace(self._home, stack, None), Place()
        own = own_cluster(stack_file, self._site.kubeconfig)
        if own is None:
            workspace = Workspace(self._home, stack, self._site.kubeconfig)
            return workspace, EmbeddedSite(workspace, self._site)
        workspace = Workspace(self._home, stack, *own)
        return workspace, OwnCluster(workspace)

    def _rehearsed(self, name: str, real_engine: bool) -> tuple[Workspace, Place]:
        workspace = Workspace.rehearsing(self._home, name, self._site.kubeconfig)
        platform = platform_object(workspace.stack_file) if workspace.stack_file.is_file() else {}
        if scenario_of(workspace.stack_file) == "sagemaker":
            region, own_name = text_at(platform, "region") or "", text_at(platform, "name") or "llm"
            account = RehearsedAccount(self._home, region, own_name)
            workspace = Workspace.rehearsing(self._home, name, None).with_cloud(account.environment, None)
            return replace(workspace, canary=staging.WORSE_REVISION), account
        if region := text_at(platform, "cloud", "region"):
            self._cloud = RehearsedCloud(self._home, self._site, region)
            weights = staging.rehearsed_weights(self._home, self._first_model()) if real_engine else None
            workspace = workspace.with_cloud(self._cloud.environment, weights)
        return workspace, EmbeddedSite(workspace, self._site, self._cloud)

    def up(self, folder: Path | None = None) -> Running | None:
        """Makes everything that is missing and returns once a model has answered through the gateway.

        Args:
            folder: Folder with weights for endpoints in an AWS account, as `stage` takes it.

        Returns:
            The platform; None where the stack declares no gateway.
        """
        self.workspace.check_settings()
        with self.workspace.locked(self._progress):
            cli = self._prepare()
            self._settle(cli)
            options = self._options()
            # Before the first object: what a killed `up` leaves must be found on the same cluster again.
            self._remember_place()
            if self._hosts_endpoints:
                self._stage_first(cli, options, folder)
            self._update(cli, "up", options)
            return self._running(cli)

    @property
    def is_foundation(self) -> bool:
        """Whether the stack file declares no more than what endpoints stand on."""
        return text_at(self._platform_object(), "declare") == "foundation"

    @property
    def _hosts_endpoints(self) -> bool:
        return scenario_of(self.workspace.stack_file) == "sagemaker"

    def _stage_first(self, cli: PulumiCli, options: Sequence[str], folder: Path | None) -> None:
        """Brings weights and images over: SageMaker starts no endpoint whose weights are not there."""
        if self.is_foundation:
            return
        if "cloudBucket" not in cli.outputs():
            self._progress.line("  first   what endpoints stand on: keys, network, bucket, repositories")
            self.workspace.copy_stack_file(foundation=True)
            self._update(cli, "up", options)
            self.workspace.copy_stack_file()
        self._staged(folder)

    def prepare(self) -> Workspace:
        """Tools, site, an empty stack and the environment file: what plain Pulumi needs."""
        self.workspace.check()
        with self.workspace.locked(self._progress):
            self._prepare()
        return self.workspace

    def preview(self) -> int:
        """Shows what `up` would change; returns the CLI's exit status."""
        return self._look("pulumi", "preview", "--diff")

    def comment(self, out: Path | None) -> int:
        """Writes what reviewers read of what `up` would change; returns the status of `preview-comment`."""
        where = [] if out is None else ["--out", str(out.absolute())]
        return self._look(sys.executable, "-m", "runtime.ops", "preview-comment", *where)

    def _look(self, *command: str) -> int:
        self.workspace.check_settings()
        workspace = self.prepare()
        done = subprocess.run(
            [*command, "--stack", workspace.stack, *self._options()],
            cwd=PROJECT,
            env=workspace.environment(),
            check=False,
        )
        return done.returncode

    def exercise(self, running: Running) -> list[str]:
        """Puts a rehearsed stack through what its scenario is for; returns what was seen, a line each.

        Raises:
            TimeoutError: A step of it does not happen.
            CycleError: A step of it ends otherwise than it should.
        """
        if isinstance(self._place, RehearsedAccount):
            return ["The endpoints:", *self._exercise_endpoints(self._place, running)]
        cycle = self._burst(running)
        return [] if cycle is None else ["The burst:", *cycle.lines()]

    def _exercise_endpoints(self, place: RehearsedAccount, running: Running) -> list[str]:
        cli = self._cli()
        outputs = cli.outputs()
        driver = place.driver(str(outputs["apiKey"]))
        lines = [f"more than fits the time limit: {driver.guarded(running.model)}"]
        for endpoint in outputs["endpoints"].values():
            for model, component in endpoint["components"].items():
                lines += driver.rested(model, component)
        canary = canary_of(self._platform_object())
        if canary is None:
            return lines
        driver.dataset(canary)
        bad = driver.judged(canary, staging.WORSE_REVISION, ROLLED_BACK)
        lines.append(f"a canary with wrong answers is taken back: {bad}")
        self.workspace = replace(self.workspace, canary=staging.BETTER_REVISION)
        with self.workspace.locked(self._progress):
            self._staged(None)
            self._update(self._cli(), "up", self._options())
        good = driver.judged(canary, staging.BETTER_REVISION, PROMOTED)
        lines.append(f"the next one, with right answers, is promoted: {good}")
        if (bucket := outputs.get("promptsBucket")) and canary.captured:
            lines.append(f"what the gateway keeps: {driver.kept(bucket, canary.endpoint)}")
        driver.forget()
        return lines

    def _burst(self, running: Running) -> BurstCycle | None:
        """Rehearses the burst of a stack with an AWS side; None where it has none."""
        if self._cloud is None or running.namespace is None:
            return None
        self.stage(None)
        platform = str(self._platform_object().get("name", "llm"))
        driver = BurstDriver(
            self._site, self._cloud, running.namespace, f"{platform}-gateway", running.model, self._progress
        )
        return driver.cycle(running.client)

    def stage(self, folder: Path | None) -> Staged:
        """Brings weights and images to the AWS side of a stack, and arms its burst where it has its cluster.

        Bucket and repositories have to be there; all else may still be missing, or wait for an image.

        Args:
            folder: Folder with the weights, or with a folder for each model; None where they are known.

        Raises:
            WorkspaceError: The stack has no AWS side, or its file has mistakes.
            StagingError: Something could not be brought over or verified.
        """
        self.workspace.check_settings()
        return self._staged(folder)

    def _staged(self, folder: Path | None) -> Staged:
        found = self.workspace.staging_plan()
        if found is None:
            raise WorkspaceError(
                f"STACK = {self.workspace.stack}: there is nothing to stage; name a stack with an AWS side"
            )
        plan = StagingPlan.read(found)
        s3, registry = self._stores(plan)
        return staging.run(
            plan,
            s3,
            registry,
            staging.folder_of(folder, self._home if self._place.double else None),
            lambda: cluster_api(self.workspace),
            self._progress,
        )

    def teardown(self, wishes: Wishes | None = None) -> Certificate | None:
        """Takes the stack down and proves by reading that nothing is left; the site stays.

        Args:
            wishes: What the user said beside it.

        Returns:
            The certificate, with one more look where the stack is down already; None where it never was up.

        Raises:
            RefusedError: Nothing was touched, and why.
        """
        self.workspace.check()
        with self.workspace.locked(self._progress):
            return self._teardown(wishes or Wishes()) or self.look_again()

    def plan_teardown(self, wishes: Wishes) -> Plan:
        """What a teardown would do; changes nothing. Raises RefusedError where its places are others'."""
        self.workspace.check()
        with self.workspace.locked(self._progress):
            self._prepare()
            return self._teardown_of(self._cli(), wishes).plan()

    def look_again(self) -> Certificate | None:
        """Looks for leftovers once more and adds it to the last certificate; None where there is none."""
        last = newest(self.certificates, self.workspace.stack)
        if last is None:
            return None
        self.workspace.install(ensure([Group.PULUMI], self._progress))
        sweep = self._teardown_of(self._cli(), Wishes()).look(last[1].ledger)
        certificate = last[1].and_again(sweep)
        certificate.write(self.certificates)
        return certificate

    @property
    def certificates(self) -> Path:
        """The folder with journals and certificates."""
        return self._home / "teardown"

    def down(self) -> Remains:
        """Takes the stack down, stops the site, and looks for what could be left of either."""
        self.workspace.check()
        with self.workspace.locked(self._progress):
            # What lies in a rehearsal's buckets is the rehearsal's own.
            data_too = isinstance(self._place, RehearsedAccount)
            self._place.silence()
            certificate = self._teardown(Wishes(delete_data=data_too))
            lines: list[str] = []
            clean = True
            if certificate is not None:
                lines.append(f"certificate: {self.certificates / self.workspace.stack}-*.txt")
                if not certificate.clean:
                    # The site stays: the same command goes on there.
                    return Remains((*lines, *certificate.text().splitlines()), clean=False)
            self.workspace.forget_unfinished()
            self.workspace.cluster_file.unlink(missing_ok=True)
            kept = self._parts_of_others()
            for part, stacks in kept.items():
                lines.append(f"{self._place.parts[part]}: still runs for stack {', '.join(stacks)}")
            remains = self._place.stop(self._progress, certificate, kept.keys())
            lines, clean = [*lines, *remains.lines], remains.clean
            locks = [lock.pid for lock in self.workspace.locks()]
            plugins = [process.pid for process in self.workspace.orphaned_plugins()]
            for kind, pids in (("Pulumi locks", locks), ("Pulumi plugins", plugins)):
                lines.append(f"{kind}: {', '.join(map(str, pids)) or 'none'}")
                clean = clean and not pids
            return Remains(lines=tuple(lines), clean=clean)

    def _teardown(self, wishes: Wishes) -> Certificate | None:
        if not self.workspace.was_installed:
            self._progress.line(f"  done    nothing was ever brought up from {self._home}")
            return None
        self.workspace.install(ensure([Group.PULUMI], self._progress))
        cli = self._cli()
        self._clear_what_a_kill_left(cli)
        begun = self._teardown_of(cli, wishes).was_begun
        if cli.resource_count() == 0 and not begun:
            self._progress.line(f"  done    stack {self.workspace.stack} has no resources")
            return None
        # The operator and the API server do the deleting, so a site that is down is started once more.
        try:
            self._prepare()
        except SiteError as error:
            if self._place.site is None or self._parts_of_others():
                raise
            self._progress.line(f"  failed  {error}\n  ...     the site goes away with all that was on it")
            self._site.stop(self._progress)
            self._prepare()
        return self._teardown_of(cli, replace(wishes, gone={**self._renewed(), **wishes.gone})).run()

    def _teardown_of(self, cli: PulumiCli, wishes: Wishes) -> Teardown:
        stack = WorkspaceStack(
            cli,
            self.workspace.stack,
            self._progress,
            settled=lambda: self._settle(cli),
            destroyed=lambda: self._destroyed(cli),
            unstaged=lambda: self._unstage(cli),
        )
        return Teardown(
            stack,
            self.certificates,
            Reach(api=reach_cluster, clients=self._place.clients),
            self._progress,
            wishes,
            self._patience,
        )

    def _destroyed(self, cli: PulumiCli) -> None:
        # A try may come after one in which Pulumi was killed.
        self._clear_what_a_kill_left(cli)
        if cli.resource_count():
            options = self._options()
            self._update(cli, "destroy", options if "--refresh" in options else [*options, "--refresh"])

    def _renewed(self) -> dict[str, str]:
        """The clusters of a stack whose site was stopped and started: what was on them is no more."""
        if self._place.site is None or not self._is_another_place():
            return {}
        why = "the embedded site that it was on is gone with all its processes"
        return dict.fromkeys(("cluster", "eks"), why)

    def _unstage(self, cli: PulumiCli) -> None:
        """Empties the bucket of the weights that `stage` brought; AWS deletes no full one."""
        # What the last `up` knew that came to its end, and what the stack file says now.
        found = [cli.outputs().get("cloudStaging")]
        with contextlib.suppress(WorkspaceError):  # mistakes in the file keep nobody from a teardown
            found.append(self.workspace.staging_plan())
        for plan in dict.fromkeys(StagingPlan.read(one) for one in found if one):
            s3, _ = self._stores(plan)
            unstage(plan, partial(StagedWeights, s3, plan.bucket), self._progress)

    def _stores(self, plan: StagingPlan) -> tuple[Any, Registry]:
        double = self._place.double
        s3, ecr = staging.clients(plan, double)
        return s3, staging.RehearsedRegistry(ecr) if double else Ecr(ecr)

    def _update(self, cli: PulumiCli, command: Literal["up", "destroy"], options: Sequence[str]) -> None:
        with self.workspace.updating():
            cli.update(command, self._progress, *options, trouble=self._place.trouble)

    def _prepare(self) -> PulumiCli:
        if problem := disk_problem(self._home):
            raise WorkspaceError(problem)
        self._place.check()  # before minutes of building, not after
        toolbox = ensure([Group.PULUMI, *self._place.groups], self._progress)
        self.workspace.install(toolbox)
        self._place.start(toolbox, self._progress)
        self.workspace.write_environment_file()
        cli = self._cli()
        self._clear_what_a_kill_left(cli)
        cli.ensure_stack()
        return cli

    def _first_model(self) -> str:
        models: Any = self._platform_object().get("models")
        return str(models[0]["name"])

    def _platform_object(self) -> dict[str, object]:
        file = self.workspace.stack_file
        return platform_object(file) if file.is_file() else {}

    def _options(self) -> list[str]:
        options = ["--config-file", str(self.workspace.copy_stack_file())]
        if self._is_another_place():
            # A site that was stopped and started is another cluster: what the state has is not in it.
            self._progress.line("  done    the site is a new one; Pulumi looks at what is still there")
            options.append("--refresh")
        elif self._state_is_old or self.workspace.is_unfinished:
            # What was begun may have come to its end in the cluster, and the state does not know.
            self._progress.line("  done    the last update did not finish; Pulumi looks at what is there")
            options.append("--refresh")
        elif scenario_of(self.workspace.stack_file) == "hybrid":
            # Nodes come and go without Pulumi. An update of a node group sends its size along, and the one in
            # the state may be that of before a burst.
            options.append("--refresh")
        return options

    def _is_another_place(self) -> bool:
        known, now = self.workspace.cluster_file, self._place.identity()
        return now is not None and known.is_file() and known.read_text() != now

    def _remember_place(self) -> None:
        if identity := self._place.identity():
            self.workspace.cluster_file.write_text(identity)

    def _parts_of_others(self) -> dict[str, list[str]]:
        """The parts of the stack's place that other stacks are in too, and which stacks."""
        own = self.workspace.cluster_file
        found: dict[str, list[str]] = {}
        for file in sorted(own.parent.glob("*.cluster")):
            if file != own:
                for part in self._place.shared(file.read_text()):
                    found.setdefault(part, []).append(file.stem)
        return found

    def _cli(self) -> PulumiCli:
        return PulumiCli(PROJECT, self.workspace.stack, self.workspace.environment())

    def _clear_what_a_kill_left(self, cli: PulumiCli) -> None:
        """A killed Pulumi leaves its lock and its providers behind; one that still runs is waited for."""
        locks = self.workspace.locks()
        foreign = [lock for lock in locks if not lock.is_here]
        if foreign:
            raise WorkspaceError(
                f"stack {self.workspace.stack} is locked by process {foreign[0].pid} on {foreign[0].host}; "
                "wait for it, or, if that machine is gone, source the environment file and `pulumi cancel`"
            )
        alive = [lock.pid for lock in locks if _is_pulumi(lock.pid)]
        if alive:
            with self._progress.step(f"waiting for pulumi {alive[0]}, which works on the stack"):
                while any(_is_pulumi(pid) for pid in alive):
                    time.sleep(0.5)
        for orphan in self.workspace.orphaned_plugins():
            with contextlib.suppress(psutil.Error):
                orphan.kill()
                self._progress.line(f"  done    ended plugin {orphan.pid}, whose Pulumi was killed")
        for mended in self.workspace.mend_state():
            self._state_is_old = True
            self._progress.line(f"  done    {mended}")
        if self.workspace.locks():
            cli.output("cancel", "--yes", "--stack", self.workspace.stack)
            self._progress.line("  done    removed the lock of a Pulumi that was killed; its state is kept")

    def _settle(self, cli: PulumiCli) -> None:
        """Finds out which of the objects that a killed Pulumi was making are in the cluster."""
        self._place.settle(cli, self.workspace, self._progress)

    def _running(self, cli: PulumiCli) -> Running | None:
        outputs = cli.outputs()
        if "endpoint" not in outputs:
            return None
        endpoint, model, key = (str(outputs[name]) for name in ("endpoint", "model", "apiKey"))
        namespace = outputs.get("namespace")
        reached = self._place.reach(endpoint)
        return Running(
            workspace=self.workspace,
            endpoint=endpoint,
            model=model,
            client=next(name for name, value in outputs["apiKeys"].items() if value == key),
            namespace=namespace,
            api_key_secret=str(outputs["apiKeySecret"]).rpartition("/")[2],
            answer=None if reached is None else self._first_answer(reached, key, model),
            site=self._place.site,
            simulated=() if namespace is None else self._place.models_seen(namespace),
        )

    def _first_answer(self, endpoint: str, key: str, model: str) -> StreamedAnswer:
        with self._progress.step("a streamed chat completion through the gateway") as step:
            answer = _ask_until_answered(endpoint, key, model, step)
            step.update(f"{answer.chunks} chunks, the first after {answer.first_chunk_s * 1000:.0f} ms")
            return answer


def _ask_until_answered(endpoint: str, key: str, model: str, step: Step) -> StreamedAnswer:
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


def _is_pulumi(pid: int) -> bool:
    try:
        return "pulumi" in psutil.Process(pid).name()
    except psutil.NoSuchProcess:
        return False
