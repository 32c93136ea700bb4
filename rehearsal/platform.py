"""Brings a stack up and takes it down again: tools, site, Pulumi, and one real chat request."""

import contextlib
import os
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import psutil

from rehearsal import staging
from rehearsal.aws import ACCOUNT
from rehearsal.burst_cycle import BurstCycle, BurstDriver
from rehearsal.cloud import RehearsedCloud
from rehearsal.site import Site, SiteError, default_home
from rehearsal.site.api import ApiError, object_path
from rehearsal.site.images import CONTROLLER_IMAGE, ENVOY_IMAGE, OPERATOR_IMAGE, RAY_IMAGE
from rehearsal.site.layout import SITE_IMAGES
from rehearsal.site.preflight import check_machine, check_privileges
from rehearsal.site.unwell import disk_problem
from rehearsal.tools import Group, ensure
from rehearsal.workspace import PROJECT, Workspace, WorkspaceError, platform_object
from rehearsal.workspace_stack import WorkspaceStack
from runtime import versions
from runtime.cluster import ClusterApi, read_kubeconfig
from runtime.images import mirrored
from runtime.labels import MODEL_LABEL
from runtime.ops.chat import ChatError, StreamedAnswer, stream_chat
from runtime.ops.deletions import await_deletions
from runtime.ops.ecr import Ecr
from runtime.ops.progress import Progress, Step
from runtime.ops.pulumi_cli import HALF_MADE_RELEASES, PulumiCli
from runtime.ops.stage import Registry, Staged, StagingPlan, unstage
from runtime.ops.staged_weights import StagedWeights
from runtime.ops.teardown.account import boto3_clients
from runtime.ops.teardown.certificate import Certificate, newest
from runtime.ops.teardown.command import reach_cluster
from runtime.ops.teardown.run import Plan, Reach, Teardown, Wishes
from runtime.ops.teardown.waiting import Patience
from runtime.staging import StagedImages

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
        namespace: Kubernetes namespace of the platform.
        api_key_secret: Name of the Secret with the keys.
        answer: What the model said; None where the endpoint is one inside the cluster.
        site: The embedded site's name, or None on a cluster of the user's own.
        simulated: Where the models' pods are if their hardware is simulated, one line a model; then the
            answer is a stand-in's.
    """

    workspace: Workspace
    endpoint: str
    model: str
    client: str
    namespace: str
    api_key_secret: str
    answer: StreamedAnswer | None
    site: str | None
    simulated: tuple[str, ...] = ()


@dataclass(frozen=True)
class Remains:
    """What was looked for after a teardown, one line a kind, and whether nothing was found."""

    lines: tuple[str, ...]
    clean: bool


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
        if simulated:
            self._embedded = True
            self.workspace = Workspace.rehearsing(self._home, stack, self._site.kubeconfig)
            if region := _text_at(self._platform_object(), "cloud", "region"):
                self._cloud = RehearsedCloud(self._home, self._site, region)
                weights = staging.rehearsed_weights(self._home, self._first_model()) if real_engine else None
                self.workspace = self.workspace.with_cloud(self._cloud.environment, weights)
            return
        stack_file = Workspace(self._home, stack, self._site.kubeconfig).stack_file
        own = _own_cluster(stack_file, self._site.kubeconfig)
        self._embedded = own is None
        kubeconfig, context = own or (self._site.kubeconfig, None)
        self.workspace = Workspace(self._home, stack, kubeconfig, context)

    def up(self) -> Running:
        """Makes everything that is missing and returns once a model has answered through the gateway."""
        self.workspace.check_settings()
        with self.workspace.locked(self._progress):
            cli = self._prepare()
            self._settle(cli)
            options = self._options()
            # Before the first object: what a killed `up` leaves must be found on the same cluster again.
            self._remember_cluster()
            self._update(cli, "up", options)
            return self._running(cli)

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

    def burst(self, running: Running) -> BurstCycle | None:
        """Rehearses the burst of a stack with an AWS side; None where it has none.

        Raises:
            TimeoutError: A step of it does not happen.
        """
        if self._cloud is None:
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
            staging.folder_of(folder, self._home if self._cloud else None),
            ClusterApi(read_kubeconfig(self.workspace.kubeconfig, self.workspace.context)),
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
            certificate = self._teardown(Wishes())
            lines: list[str] = []
            clean = True
            if certificate is not None:
                lines.append(f"certificate: {self.certificates / self.workspace.stack}-*.txt")
                if not certificate.clean:
                    # The site stays: the same command goes on there.
                    return Remains((*lines, *certificate.text().splitlines()), clean=False)
            self.workspace.forget_unfinished()
            if self._embedded:
                self.workspace.cluster_file.unlink(missing_ok=True)
                others = self._other_stacks()
                if others:
                    lines.append(f"site {self._site_name}: still runs for stack {', '.join(others)}")
                else:
                    if self._cloud is not None:
                        remains = self._cloud.stop(self._progress, proven=certificate is not None)
                        lines, clean = [*lines, *remains.lines], remains.clean
                    leftovers = self._site.stop(self._progress)
                    lines, clean = [*lines, *leftovers.lines()], clean and not leftovers
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
            if not self._embedded or self._other_stacks():
                raise
            self._progress.line(f"  failed  {error}\n  ...     the site goes away with all that was on it")
            self._site.stop(self._progress)
            self._prepare()
        return self._teardown_of(cli, replace(wishes, gone={**self._renewed(), **wishes.gone})).run()

    def _teardown_of(self, cli: PulumiCli, wishes: Wishes) -> Teardown:
        clients = self._cloud.clients if self._cloud else boto3_clients
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
            Reach(api=reach_cluster, clients=clients),
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
        known = self.workspace.cluster_file
        if not self._embedded or not known.is_file() or known.read_text() == self._cluster_identity():
            return {}
        why = "the embedded site that it was on is gone with all its processes"
        return dict.fromkeys(("cluster", "eks"), why)

    def _unstage(self, cli: PulumiCli) -> None:
        """Empties bucket and repositories of what `stage` brought; AWS deletes no full one."""
        # What the last `up` knew that came to its end, and what the stack file says now.
        found = [cli.outputs().get("cloudStaging")]
        with contextlib.suppress(WorkspaceError):  # mistakes in the file keep nobody from a teardown
            found.append(self.workspace.staging_plan())
        for plan in dict.fromkeys(StagingPlan.read(one) for one in found if one):
            s3, registry = self._stores(plan)
            unstage(plan, partial(StagedWeights, s3, plan.bucket), registry, self._progress)

    def _stores(self, plan: StagingPlan) -> tuple[Any, Registry]:
        double = self._cloud.environment if self._cloud else None
        s3, ecr = staging.clients(plan, double)
        return s3, staging.RehearsedRegistry(ecr) if double else Ecr(ecr)

    def _update(self, cli: PulumiCli, command: Literal["up", "destroy"], options: Sequence[str]) -> None:
        with self.workspace.updating():
            cli.update(command, self._progress, *options, trouble=self._site_trouble)

    def _prepare(self) -> PulumiCli:
        if problem := disk_problem(self._home):
            raise WorkspaceError(problem)
        groups = [Group.PULUMI]
        if self._embedded:
            check_privileges()  # before minutes of building, not after
            check_machine()
            groups += [Group.SITE, Group.SERVING]
        else:
            context = f", context {self.workspace.context}" if self.workspace.context else ""
            self._progress.line(f"  cluster {self.workspace.kubeconfig}{context}")
        toolbox = ensure(groups, self._progress)
        self.workspace.install(toolbox)
        if self._embedded:
            self._site.start(toolbox, self._progress)
            if self.workspace.rehearsal_of is not None:
                images = stand_in_images(self._platform_object())
                self._site.stand_in(images)
                if self._cloud is not None:
                    self._cloud.start(toolbox, cloud_images(self._platform_object(), images), self._progress)
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

    def _site_trouble(self) -> str | None:
        ended = self._site.ended() if self._embedded else []
        return (
            f"{', '.join(ended)} of the site ended: Ctrl-C and the same command again mends it"
            if ended
            else None
        )

    def _options(self) -> list[str]:
        options = ["--config-file", str(self.workspace.copy_stack_file())]
        known = self.workspace.cluster_file
        if self._embedded and known.is_file() and known.read_text() != self._cluster_identity():
            # A site that was stopped and started is another cluster: what the state has is not in it.
            self._progress.line("  done    the site is a new one; Pulumi looks at what is still there")
            options.append("--refresh")
        elif self._state_is_old or self.workspace.is_unfinished:
            # What was begun may have come to its end in the cluster, and the state does not know.
            self._progress.line("  done    the last update did not finish; Pulumi looks at what is there")
            options.append("--refresh")
        elif _text_at(self._platform_object(), "scenario") == "hybrid":
            # Nodes come and go without Pulumi. An update of a node group sends its size along, and the one in
            # the state may be that of before a burst.
            options.append("--refresh")
        return options

    def _remember_cluster(self) -> None:
        if self._embedded:
            self.workspace.cluster_file.write_text(self._cluster_identity())

    def _cluster_identity(self) -> str:
        try:
            namespace = self._site.api().get(object_path("v1", "Namespace", None, "kube-system"))
        except (ApiError, OSError) as error:
            raise SiteError(
                f"site {self._site_name} does not answer: {error}; run the command again"
            ) from error
        return f"{self._site_name} {namespace['metadata']['uid']}"

    def _other_stacks(self) -> list[str]:
        """Stacks beside this one that are on the same site."""
        files = self.workspace.cluster_file.parent.glob("*.cluster")
        return sorted(
            file.stem
            for file in files
            if file != self.workspace.cluster_file and file.read_text().startswith(f"{self._site_name} ")
        )

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
        if self._embedded:
            self._forget_half_made_releases()
        cli.settle_creations(self._progress, self.workspace.copy_stack_file())
        if self.workspace.is_unfinished:
            access = read_kubeconfig(self.workspace.kubeconfig, self.workspace.context)
            await_deletions(cli.objects(), ClusterApi(access), self._progress)

    def _forget_half_made_releases(self) -> None:
        """Drops Helm's record of an install that was killed: Helm refuses the name for ever otherwise.

        What the install had made already carries Helm's ownership marks, so the next one takes it over.
        """
        api = self._site.api()
        try:
            pending = api.get("/api/v1/secrets", labelSelector=HALF_MADE_RELEASES)
            for secret in pending["items"]:
                metadata = secret["metadata"]
                api.delete(object_path("v1", "Secret", metadata["namespace"], metadata["name"]))
                self._progress.line(f"  done    removed {metadata['name']}, a Helm install that was killed")
        except (ApiError, OSError) as error:
            raise SiteError(f"site {self._site_name} does not answer: {error}; try again") from error

    def _running(self, cli: PulumiCli) -> Running:
        outputs = cli.outputs()
        endpoint, model, key = (str(outputs[name]) for name in ("endpoint", "model", "apiKey"))
        inside = (urllib.parse.urlsplit(endpoint).hostname or "").endswith(".svc")
        return Running(
            workspace=self.workspace,
            endpoint=endpoint,
            model=model,
            client=next(name for name, value in outputs["apiKeys"].items() if value == key),
            namespace=str(outputs["namespace"]),
            api_key_secret=str(outputs["apiKeySecret"]).partition("/")[2],
            answer=None if inside else self._first_answer(endpoint, key, model),
            site=self._site_name if self._embedded else None,
            simulated=self._simulated_models(str(outputs["namespace"])),
        )

    def _simulated_models(self, namespace: str) -> tuple[str, ...]:
        if self.workspace.rehearsal_of is None:
            return ()
        path = object_path("v1", "Pod", namespace)
        return pods_by_model(self._site.api().get(path, labelSelector=MODEL_LABEL)["items"])

    def _first_answer(self, endpoint: str, key: str, model: str) -> StreamedAnswer:
        with self._progress.step("a streamed chat completion through the gateway") as step:
            answer = _ask_until_answered(endpoint, key, model, step)
            step.update(f"{answer.chunks} chunks, the first after {answer.first_chunk_s * 1000:.0f} ms")
            return answer


def stand_in_images(platform: Mapping[str, Any]) -> dict[str, str]:
    """The images that a stack's pods name, and which of the site's own stands in for each.

    Pods of models do not run on a rehearsal's site; the serving check does, in the image of its model.
    """
    named = {
        _text_at(platform, "gateway", "image") or versions.ENVOY_IMAGE: ENVOY_IMAGE,
        _text_at(platform, "kuberay", "image") or versions.kuberay_image(): OPERATOR_IMAGE,
        _text_at(platform, "ray", "image"): RAY_IMAGE,
        _text_at(platform, "checkImage"): RAY_IMAGE,
        _text_at(platform, "controllerImage"): CONTROLLER_IMAGE,
    }
    models: Sequence[Mapping[str, str]] = platform.get("models") or ()
    named.update({model.get("image"): RAY_IMAGE for model in models})
    mirror = _text_at(platform, "images", "mirror")
    return {
        mirrored(name, mirror): image
        for name, image in named.items()
        if name and not name.startswith(SITE_IMAGES)
    }


def cloud_images(platform: Mapping[str, Any], images: Mapping[str, str]) -> dict[str, str]:
    """The same images as the nodes of the EKS side pull them: from their own repositories in ECR.

    Args:
        platform: The object under `spillway:platform`.
        images: What `stand_in_images` says of it.
    """
    region = _text_at(platform, "cloud", "region")
    registry = f"{ACCOUNT}.dkr.ecr.{region}.amazonaws.com/{platform.get('name', 'llm')}-burst"
    staged = StagedImages(registry=registry)
    return {**images, **{staged.of(name): image for name, image in images.items()}}


def pods_by_model(pods: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """One line for each model: which of its pods are on which nodes, and with what devices."""
    lines: dict[str, dict[str, int]] = {}
    for pod in pods:
        limits: Mapping[str, str] = pod["spec"]["containers"][0].get("resources", {}).get("limits", {})
        devices = [f" with {count} {name}" for name, count in limits.items() if "/" in name]
        role = pod["metadata"]["labels"].get("ray.io/node-type", "server")
        where = f"{role} on {pod['spec'].get('nodeName', 'no node')}{''.join(devices)}"
        counts = lines.setdefault(pod["metadata"]["labels"][MODEL_LABEL], {})
        counts[where] = counts.get(where, 0) + 1
    return tuple(
        f"{model}: {', '.join(f'{count} {where}' for where, count in sorted(counts.items()))}"
        for model, counts in sorted(lines.items())
    )


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


def _own_cluster(stack_file: Path, site_kubeconfig: Path) -> tuple[Path, str | None] | None:
    """Kubeconfig and context of the user's own cluster, or None where a stack goes to the embedded site.

    The stack file decides before KUBECONFIG and CONTEXT, as it does in the program. Without either, a stack
    whose serving image is one of the site's own goes there; any other one has to name its cluster.

    Raises:
        WorkspaceError: The kubeconfig is not there, or none is named.
    """
    platform = platform_object(stack_file) if stack_file.is_file() else {}
    context = _text_at(platform, "cluster", "context") or os.environ.get("CONTEXT") or None
    if named := _text_at(platform, "cluster", "kubeconfig"):
        return Path(named).expanduser(), context
    given = os.environ.get("KUBECONFIG")
    # A shell that sourced the environment file names the site's own kubeconfig.
    if given and Path(given) != site_kubeconfig:
        if Path(given).parent.parent == site_kubeconfig.parent.parent:
            other = Path(given).parent.name
            raise WorkspaceError(
                f"KUBECONFIG = {given}: that is the embedded site {other}; "
                f"unset KUBECONFIG, or say SITE={other}"
            )
        if not Path(given).is_file():
            raise WorkspaceError(
                f"KUBECONFIG = {given}: there is no such file; name one existing kubeconfig, or unset "
                "KUBECONFIG to use the embedded site"
            )
        return Path(given).absolute(), context
    image = _text_at(platform, "ray", "image")
    if image and not image.startswith(SITE_IMAGES):
        raise WorkspaceError(
            f"{stack_file.name} names no cluster and serves with {image}, which the embedded site does not "
            "have; set KUBECONFIG to your cluster's, or spillway:platform.cluster.kubeconfig there"
        )
    return None


def _text_at(platform: Mapping[str, object], *path: str) -> str | None:
    value: object = platform
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None  # pyright: ignore
    return value if isinstance(value, str) else None


def _is_pulumi(pid: int) -> bool:
    try:
        return "pulumi" in psutil.Process(pid).name()
    except psutil.NoSuchProcess:
        return False
