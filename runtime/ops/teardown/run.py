"""The teardown of one stack: refuses what is not its own, stops the spending, drains, destroys, looks."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]

from runtime.cluster import ClusterError, KubeconfigError
from runtime.ops.deletions import DeletionError
from runtime.ops.progress import Progress, Step
from runtime.ops.pulumi_cli import PulumiError
from runtime.ops.staged_weights import StagingError
from runtime.ops.teardown.account import AccountError, Clients, LiveCloud
from runtime.ops.teardown.buckets import OwnBuckets
from runtime.ops.teardown.certificate import Certificate, newest
from runtime.ops.teardown.data import DataStore, said_of
from runtime.ops.teardown.endpoints import OwnEndpoints
from runtime.ops.teardown.findings import Look, Sweep
from runtime.ops.teardown.journal import Journal
from runtime.ops.teardown.ledger import (
    Cloud,
    Ledger,
    Resource,
    Site,
    access_of,
    begun_of,
    merged,
    pending_of,
    providers_of,
    read_ledger,
    resources_of,
)
from runtime.ops.teardown.plan import Plan, planned
from runtime.ops.teardown.registry import OwnRegistry
from runtime.ops.teardown.repositories import OwnRepositories
from runtime.ops.teardown.site import Api, LiveSite, NotOursError
from runtime.ops.teardown.sweep import CloudSweep
from runtime.ops.teardown.waiting import Patience, StepError

_TROUBLE = (
    StepError,
    ClusterError,
    KubeconfigError,
    ClientError,
    BotoCoreError,
    PulumiError,
    StagingError,
    DeletionError,
)
DESTROY = "pulumi destroy"


class RefusedError(Exception):
    """Nothing was touched; the text is the whole message, one line for each reason."""


class Stack(Protocol):
    """A stack, as far as its teardown drives it."""

    @property
    def name(self) -> str:
        """As the CLI takes it."""
        ...

    def state(self) -> Mapping[str, Any]:
        """What `pulumi stack export --show-secrets` prints; without resources where there is no stack."""
        ...

    def settle(self) -> None:
        """Finds out what became of what a killed Pulumi was making."""
        ...

    def unstage(self) -> None:
        """Removes the copies of weights that were staged, and nothing else."""
        ...

    def destroy(self) -> None:
        """Runs `pulumi destroy --refresh` once. Raises PulumiError."""
        ...


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the user said.

    Attributes:
        delete_data: Whether volume claims in the stack's own namespaces, and what is in its own buckets and
            groups of the model registry, may go.
        gone: Clusters that are known to be gone, and how that is known; empty: the user says so.
    """

    delete_data: bool = False
    gone: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How the places are reached that a stack is in.

    Attributes:
        api: Gives the API of a cluster, from the kubeconfig's content where the state has it.
        clients: Gives boto3's clients for an account and region.
    """

    api: Callable[[Site, str | None], Api]
    clients: Callable[[Cloud], Clients]


class Teardown:
    """One run. A run after one that was killed goes on where that one was.

    Args:
        stack: The stack.
        folder: Where journal and certificates are.
        reach: How its places are reached.
        progress: Where the steps are shown.
        wishes: What the user said.
        patience: How long to wait.
    """

    def __init__(
        self,
        stack: Stack,
        folder: Path,
        reach: Reach,
        progress: Progress,
        wishes: Wishes | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._stack = stack
        self._folder = folder
        self._reach = reach
        self._progress = progress
        self._wishes = wishes or Wishes()
        self._patience = patience or Patience()
        self._journal = Journal(folder / f"{stack.name}.journal.json")
        self._sites: list[LiveSite] = []
        self._gone: dict[str, str] = {}
        self._unreachable: dict[str, str] = {}
        self._problems: list[str] = []
        self._clouds: list[LiveCloud] = []
        self._endpoints: list[OwnEndpoints] = []
        self._repositories: list[OwnRepositories] = []
        self._buckets: list[DataStore] = []
        self._registries: list[DataStore] = []
        self._has_clusters = True
        self._forbidden: list[str] = []

    @property
    def was_begun(self) -> bool:
        """Whether an earlier run was begun and has not come to a clean end."""
        return self._journal.load() is not None

    def plan(self) -> Plan:
        """What a run would do, and why it would be refused; changes nothing.

        Raises:
            RefusedError: The account or a cluster is not the stack's, so nothing can be said of it.
        """
        resources, ledger = self._read()
        self._meet(resources, ledger)
        data = self._data()
        refused = self._reasons(resources, data)
        lines = [*planned(ledger, resources, self.was_begun), *(f"would lose {one}" for one in data)]
        lines += [f"cluster {name} cannot be asked: {why}" for name, why in self._unreachable.items()]
        return Plan((*lines, *self._problems), tuple(refused))

    def run(self) -> Certificate | None:
        """Takes the stack down and looks for what is left.

        Returns:
            The certificate, written into the folder; None where there is nothing on record to take down.

        Raises:
            RefusedError: Nothing was touched, and why.
            JournalError: The journal of an earlier run cannot be read.
        """
        resources, ledger = self._read()
        if not ledger:
            return None
        begun = _now()
        try:
            self._meet(resources, ledger)
            self._refuse(self._reasons(resources, self._data()))
        except RefusedError as error:
            held = self._held()
            sweep = Sweep(begun, (), held, (), tuple(str(error).splitlines()))
            Certificate(ledger, begun, (sweep,)).write(self._folder)
            raise
        ledger = self._known(ledger)
        entry = self._journal.begin(ledger, (one.changed for one in resources), begun)
        for name, work in self._steps():
            if name in entry.done:
                self._progress.line(f"  done    {name}, by an earlier run")
                continue
            try:
                with self._progress.step(name) as step:
                    work(step)
            except _TROUBLE as error:
                lines = error.lines if isinstance(error, StepError) else (str(error),)
                self._problems += [f"{name}: {line}" for line in lines]
                continue
            self._journal.note(name)
        last = newest(self._folder, self._stack.name)
        before = last[1].sweeps if last and last[1].begun == entry.begun else ()
        certificate = Certificate(ledger, entry.begun, (*before, self.look(ledger)))
        certificate.write(self._folder)
        # What was learned is kept until nothing is left of it.
        self._journal.close() if certificate.clean else self._journal.again()
        return certificate

    def look(self, ledger: Ledger) -> Sweep:
        """Looks at everything once, whatever was done before."""
        looks: list[Look] = []
        with self._progress.step("looking for what is left") as step:
            proven: list[LiveCloud] = []
            for cloud in ledger.clouds:
                try:
                    live = LiveCloud(cloud, self._reach.clients(cloud))
                    live.require_account()
                except (AccountError, ClientError, BotoCoreError) as error:
                    # In another account there is nothing of the stack, and that proves nothing.
                    looks.append(_unasked(cloud, error))
                    continue
                proven.append(live)
                for look in CloudSweep(cloud, live.clients).looks():
                    step.update(f"{look.service} {look.query}")
                    looks.append(look)
            for site in ledger.sites:
                step.update(f"cluster {site.name}")
                looks.append(self._look_at(site, proven))
            try:
                state = self._stack.state()
                held, pending = len(resources_of(state)), tuple(pending_of(state))
            except PulumiError as error:
                held, pending = None, ()
                self._problems.append(f"the state cannot be read: {error}")
            step.update(f"{len(looks)} questions")
        return Sweep(_now(), tuple(looks), held, pending, tuple(dict.fromkeys(self._problems)))

    # Before anything is touched

    def _read(self) -> tuple[list[Resource], Ledger]:
        state = self._stack.state()
        resources, earlier = resources_of(state), self._journal.load()
        now = read_ledger(self._stack.name, [*resources, *begun_of(state)])
        return resources, merged(earlier and earlier.ledger, now)

    def _meet(self, resources: Sequence[Resource], ledger: Ledger) -> None:
        """Finds out which of the stack's places answer, and refuses the ones that are not its own."""
        self._has_clusters = bool(ledger.sites) or any(cloud.clusters for cloud in ledger.clouds)
        for cloud in ledger.clouds:
            try:
                live = LiveCloud(cloud, self._reach.clients(cloud))
                live.require_account()
            except AccountError as error:
                raise RefusedError(str(error)) from None
            except (ClientError, BotoCoreError) as error:
                raise RefusedError(f"the role of the stack cannot be taken on: {error}") from None
            self._clouds.append(live)
            self._repositories.append(OwnRepositories(cloud, live.clients, resources))
            self._buckets.append(OwnBuckets(cloud, live.clients, resources))
            if not cloud.clusters:
                self._endpoints.append(OwnEndpoints(cloud, live.clients, resources))
                self._registries.append(OwnRegistry(cloud, live.clients, resources))
        contents = {one.name: access_of(one)[1] for one in providers_of(resources)}
        for site in ledger.sites:
            if (why := self._is_gone(site)) is not None:
                self._gone[site.name] = why
                continue
            if site.kubeconfig is None and site.name not in contents:
                # A destroy got as far as its provider, and so everything that was on it went before.
                continue
            try:
                live_site = LiveSite(site, self._reach.api(site, contents.get(site.name)))
                uid = live_site.identify()
            except NotOursError as error:
                raise RefusedError(f"{error}; nothing is touched") from None
            except (ClusterError, KubeconfigError) as error:
                self._unreachable[site.name] = str(error)
                continue
            live_site.uid = uid
            self._sites.append(live_site)

    def _is_gone(self, site: Site) -> str | None:
        if site.name in self._wishes.gone:
            return self._wishes.gone[site.name]
        for cloud in self._clouds:
            if site.eks is not None and site.eks in cloud.cloud.clusters:
                try:
                    if not cloud.has_cluster(site.eks):
                        return f"EKS cluster {site.eks} is gone"
                except (ClientError, BotoCoreError) as error:
                    self._unreachable[site.name] = str(error)
        return None

    def _known(self, ledger: Ledger) -> Ledger:
        uids = {live.site.name: live.uid for live in self._sites}
        sites = tuple(_with_uid(site, uids.get(site.name)) for site in ledger.sites)
        return Ledger(stack=ledger.stack, tenure=ledger.tenure, clouds=ledger.clouds, sites=sites)

    @staticmethod
    def _refuse(reasons: Sequence[str]) -> None:
        if reasons:
            raise RefusedError("\n".join(reasons))

    def _reasons(self, resources: Sequence[Resource], data: Sequence[str]) -> list[str]:
        """Why nothing may be touched, one line each."""
        lines = [
            f"{one.words} is protected, and a destroy stops at it; take the protection away: "
            f"pulumi state unprotect '{one.urn}'"
            for one in resources
            if one.protect
        ]
        for cloud in self._clouds:
            try:
                lines += [
                    f"EKS cluster {name} has deletion protection; set spillway:platform.cloud.cluster."
                    "deletionProtection to false and run `make up` first"
                    for name in cloud.protected_clusters()
                ]
            except (ClientError, BotoCoreError) as error:
                self._problems.append(f"EKS cannot be asked: {error}")
        lines += self._forbidden
        if not self._wishes.delete_data:
            lines += [f"{one} would be lost; move the data, or say --delete-data" for one in data]
        return lines

    def _data(self) -> list[str]:
        found: list[str] = []
        for site in self._sites:
            try:
                found += site.data()
            except ClusterError as error:
                self._unreachable[site.site.name] = str(error)
        lost, self._forbidden, troubles = said_of([*self._buckets, *self._registries])
        self._problems += troubles
        return [*found, *lost]

    # The steps

    def _steps(self) -> Iterator[tuple[str, Callable[[Step], None]]]:
        """In the order in which nothing is left behind; each may be done twice."""
        yield "what a killed Pulumi was making", lambda _: self._stack.settle()
        if self._endpoints:
            yield "endpoints", self._end_endpoints
        if self._has_clusters:
            yield "no more GPU nodes", self._stop_spending
        yield "staged copies", self._remove_copies
        if self._has_clusters:
            yield from self._cluster_steps()
        yield "buckets", lambda step: self._empty(self._buckets, step)
        if self._registries:
            yield "model registry", lambda step: self._empty(self._registries, step)
        yield DESTROY, self._destroy
        if self._has_clusters:
            yield "network", self._clear_network

    def _cluster_steps(self) -> Iterator[tuple[str, Callable[[Step], None]]]:
        yield "models", lambda step: self._on_sites(lambda site: site.end_models(step, self._patience))
        yield "GPU nodes", self._await_gpu_nodes
        yield (
            "load balancers",
            lambda step: self._on_sites(lambda site: site.end_balancers(step, self._patience)),
        )
        yield "volumes", self._end_volumes

    def _end_endpoints(self, step: Step) -> None:
        lines: list[str] = []
        for one in self._endpoints:
            try:
                one.end(step, self._patience)
            except StepError as error:
                lines += error.lines
        if lines:
            raise StepError(lines)

    def _remove_copies(self, step: Step) -> None:
        self._stack.unstage()
        for one in self._repositories:
            one.empty(step, self._patience)

    def _stop_spending(self, step: Step) -> None:
        """Everywhere, whatever fails at one place: this is what stops the bill."""
        lines: list[str] = []
        done: list[str] = []
        for act in (
            *(site.switch_off_burst for site in self._sites),
            *(site.close_pools for site in self._sites),
            *(cloud.stop_gpu_groups for cloud in self._clouds),
        ):
            try:
                done += act()
            except (ClusterError, ClientError, BotoCoreError) as error:
                lines.append(str(error))
        step.update(", ".join(done) or "there are none")
        if lines:
            raise StepError(lines)

    def _await_gpu_nodes(self, step: Step) -> None:
        self._on_sites(lambda site: site.end_pools(step, self._patience))
        for cloud in self._clouds:
            cloud.await_no_gpus(step, self._patience)

    def _end_volumes(self, step: Step) -> None:
        self._on_sites(
            lambda site: site.end_volumes(step, self._patience, delete_data=self._wishes.delete_data)
        )

    def _empty(self, stores: Sequence[DataStore], step: Step) -> None:
        for one in stores:
            if self._wishes.delete_data:
                one.empty(step)
            elif data := one.data():
                lines = [f"{line} would be lost; move it, or say --delete-data" for line in data.values()]
                raise StepError(lines)

    def _on_sites(self, work: Callable[[LiveSite], None]) -> None:
        lines = [f"cluster {name} cannot be asked: {why}" for name, why in self._unreachable.items()]
        for site in self._sites:
            try:
                work(site)
            except StepError as error:
                lines += error.lines
            except ClusterError as error:
                lines.append(str(error))
        if lines:
            raise StepError(lines)

    def _destroy(self, step: Step) -> None:
        if self._problems:
            # It would wait for the same things, and drop from the state what it cannot see.
            raise StepError(["not run, because of what is named above; run the same command again"])
        for left in reversed(range(self._patience.destroys)):
            if self._tried_destroy(step, left):
                return

    def _tried_destroy(self, step: Step, left: int) -> bool:
        try:
            self._stack.destroy()
        except PulumiError as error:
            if not left:
                raise StepError([str(error), *self._stuck()]) from None
            cleared = [line for cloud in self._clouds for line in cloud.clear_network()]
            self._progress.line(f"  failed  {DESTROY}: {str(error)[:300]}")
            step.update(f"removed {', '.join(cleared)}; tried again" if cleared else "tried again")
            if self._wishes.delete_data:
                # What still ran writes after they were emptied, as a gateway does its last copies of prompts.
                self._empty(self._buckets, step)
            self._patience.sleep(self._patience.look_s)
            return False
        return True

    def _stuck(self) -> list[str]:
        lines: list[str] = []
        for site in self._sites:
            try:
                lines += site.stuck()
            except ClusterError as error:
                lines.append(str(error))
        return lines

    def _clear_network(self, step: Step) -> None:
        cleared = [line for cloud in self._clouds for line in cloud.clear_network()]
        step.update(", ".join(cleared) or "nothing of clusters is left in it")

    # After it

    def _look_at(self, site: Site, clouds: Sequence[LiveCloud]) -> Look:
        def look(**answer: Any) -> Look:
            return Look(service="cluster", where=site.name, query="what the stack had there", **answer)

        if not site.claims and not site.objects:
            return look(said="the stack never had anything there")
        if site.eks is not None and site.name not in self._wishes.gone:
            for live in clouds:
                try:
                    if site.eks in live.cloud.clusters and not live.has_cluster(site.eks):
                        return look(said=f"EKS cluster {site.eks} is gone, and everything on it")
                except (ClientError, BotoCoreError) as error:
                    return look(problem=str(error))
        if (why := self._gone.get(site.name)) is not None:
            return look(said=why) if why else look(problem="it is said to be gone, and nobody looked")
        if site.name in self._unreachable:
            return look(problem=self._unreachable[site.name])
        try:
            met = next((one.api for one in self._sites if one.site.name == site.name), None)
            live = LiveSite(site, met or self._reach.api(site, None))
            live.identify()
            return look(findings=tuple(live.leftovers()))
        except (ClusterError, KubeconfigError, NotOursError) as error:
            return look(problem=str(error))

    def _held(self) -> int | None:
        try:
            return len(resources_of(self._stack.state()))
        except PulumiError:
            return None


def _unasked(cloud: Cloud, error: Exception) -> Look:
    where, query = f"{cloud.account} {cloud.region}", "whose account it is, and so all that is in it,"
    return Look(service="sts", where=where, query=query, problem=str(error))


def _with_uid(site: Site, uid: str | None) -> Site:
    return site if uid is None else replace(site, uid=uid)


def _now() -> str:
    return datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
