"""The embedded site as a whole: start, stop, status, logs."""

import contextlib
import datetime
import fcntl
import hashlib
import http.client
import json
import os
import shutil
import struct
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rehearsal.site import cgroups, edge, kernel_settings, teardown
from rehearsal.site.api import ApiClient, ApiError, Json, object_path
from rehearsal.site.certificates import ensure_certificates
from rehearsal.site.components import (
    COMPONENTS,
    Component,
    component_environment,
    site_components,
    write_component_configuration,
)
from rehearsal.site.containers import write_container_configuration
from rehearsal.site.images import import_images, published_images, site_images, tag_images
from rehearsal.site.kubeconfigs import write_admin_kubeconfig, write_component_kubeconfigs
from rehearsal.site.layout import CLUSTER_DOMAIN, DNS_SERVICE_IP, STATE_VARIABLE, SiteError, SiteLayout
from rehearsal.site.manifests import bootstrap_documents
from rehearsal.site.network import HostPorts, NetworkNamespace, render_cni
from rehearsal.site.preflight import check_machine, check_privileges, check_programs
from rehearsal.site.processes import (
    ProcessRecord,
    boot_id,
    end,
    environment_of,
    find_site_processes,
    load_record,
    netns_inode_of,
    record_file,
    spawn,
)
from rehearsal.site.simulated_nodes import node_names, render_nodes
from rehearsal.site.toolbox import SiteTools, host_program_folders
from rehearsal.site.unwell import disk_problem, pod_problems
from runtime.ops.progress import Progress

READY_TIMEOUT_S = 120.0
NOT_STARTED = "not started"
_POLL_S = 0.1
_LOG_LINES = 12


@dataclass(frozen=True)
class ComponentStatus:
    """How one component is.

    Attributes:
        pid: Its process; None if it does not run.
        since: When it was started, in seconds since the epoch.
        problem: What is wrong; None if it is well.
        log: Its log file.
    """

    component: str
    pid: int | None
    since: float | None
    problem: str | None
    log: str


@dataclass(frozen=True)
class SiteStatus:
    """How a site is.

    Attributes:
        site: Its name.
        kubeconfig: Its administrator's kubeconfig.
        components: Its own programs.
        beyond: What else is wrong, in words: its disk, and pods that are not ready.
    """

    site: str
    kubeconfig: str
    components: list[ComponentStatus]
    beyond: list[str] = field(default_factory=list[str])

    @property
    def healthy(self) -> bool:
        """Whether every component is well; pods come and go while a platform changes."""
        return all(component.problem is None for component in self.components)

    def as_json(self) -> str:
        """Renders the status as a JSON document."""
        return json.dumps({"healthy": self.healthy, **asdict(self)}, indent=2)


class Site:
    """One embedded site.

    Args:
        name: Its name.
        home: Spillway's home folder.
        of_cloud: It stands for a cluster in a cloud: it has no simulated nodes of its own, because nodes come
            and go with node groups, and no model runs in it.
        further: Components beside a site's own.
    """

    def __init__(
        self, name: str, home: Path, *, of_cloud: bool = False, further: Sequence[Component] = ()
    ) -> None:
        self.layout = SiteLayout(name, home)
        self._of_cloud = of_cloud
        self._further = further

    @property
    def _names(self) -> list[str]:
        return [*COMPONENTS, *(component.name for component in self._further)]

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig of the running site, for its administrator."""
        return self.layout.admin_kubeconfig

    def api(self, user: str = "admin") -> ApiClient:
        """A client of the site's API server, as the user of that certificate."""
        return ApiClient.inside(self.layout, user)

    def start(self, tools: SiteTools, progress: Progress) -> None:
        """Makes the site run: what is alive and well stays, what is not is started.

        Raises:
            SiteError: The machine cannot run a site, or a part of it did not become ready; the message
                says which and shows the end of its log.
        """
        check_privileges()
        self.layout.require_short_paths()
        with locked(self.layout, progress):
            with progress.step("machine, network, certificates"):
                check_programs()
                check_machine()
                self._refuse_foreign_site()
                api_port = self._prepare(tools)
                components = [*site_components(self.layout, tools, api_port=api_port), *self._further]
            starter = _Starter(self.layout, tools, progress, self.api(), of_cloud=self._of_cloud)
            starter.run(components)
            write_admin_kubeconfig(self.layout, api_port)

    def stop(self, progress: Progress, *, keep_data: bool = False) -> teardown.Leftovers:
        """Ends everything of the site and looks whether something is left.

        Args:
            progress: Where the steps are shown.
            keep_data: Keep the cluster's objects, its certificates and its ports for the next start.

        Returns:
            What is left; nothing of it in the normal case.

        Raises:
            SiteError: This is not root on Linux, or the site of this name runs from another home.
        """
        check_privileges()
        with locked(self.layout, progress):
            self._refuse_foreign_site()
            return teardown.tear_down(self.layout, progress, keep_data=keep_data)

    def stand_in(self, images: Mapping[str, str]) -> None:
        """Lets the running site's own images answer to other names.

        Args:
            images: Name as pods write it, to the site's image that stands in for it.

        Raises:
            SiteError: containerd refuses one.
        """
        tag_images(self.layout, images)

    def status(self, tools: SiteTools | None = None) -> SiteStatus:
        """Looks at every component; without `tools` only whether its process runs."""
        ports = HostPorts(self.layout.name, self.layout.edge / "ports.json").table()
        checks: dict[str, Component] = {}
        if tools and edge.API_KEY in ports and self.layout.pki.exists():
            made = site_components(self.layout, tools, api_port=ports[edge.API_KEY])
            checks = {component.name: component for component in [*made, *self._further]}
        found = [self._component_status(name, checks.get(name)) for name in self._names]
        return SiteStatus(
            self.layout.name, str(self.layout.admin_kubeconfig), found, self._beyond_components(found)
        )

    def ended(self) -> list[str]:
        """Lists the components that were started and do not run any more; quick enough to ask often."""
        records = [record for name in self._names if (record := load_record(self.layout, name))]
        return [record.component for record in records if not record.identity.running()]

    def logs(self, component: str) -> Path:
        """Returns the log file of a component.

        Raises:
            SiteError: There is no such component or it has no log yet.
        """
        if component not in self._names:
            raise SiteError(f"no component {component!r}: one of {', '.join(self._names)}")
        path = self.layout.log(component)
        if not path.exists():
            raise SiteError(f"{component} of site {self.layout.name!r} has no log: it was not started")
        return path

    def _beyond_components(self, components: Sequence[ComponentStatus]) -> list[str]:
        disk = disk_problem(self.layout.state)
        lines = [disk] if disk else []
        if any(one.problem for one in components if one.component in ("etcd", "kube-apiserver")):
            return [*lines, "pods: unknown while the API server does not answer"]
        try:
            return [*lines, *pod_problems(self.api().get("/api/v1/pods")["items"])]
        except (ApiError, OSError) as error:
            return [*lines, f"pods: unknown, the API server answers {error}"]

    def _component_status(self, name: str, component: Component | None) -> ComponentStatus:
        record = load_record(self.layout, name)
        log = str(self.layout.log(name))
        if record is None or not record.identity.running():
            problem = NOT_STARTED if record is None else "ended; `make up` starts it again"
            return ComponentStatus(name, None, None, problem, log)
        problem = component.check() if component else None
        return ComponentStatus(name, record.identity.pid, record.since, problem, log)

    def _refuse_foreign_site(self) -> None:
        # The same name under another home would share namespace, cgroup and node names with ours.
        pids = set(cgroups.processes(self.layout))
        if inode := NetworkNamespace(self.layout).inode():
            running = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdecimal()]
            pids.update(pid for pid in running if netns_inode_of(pid) == inode)
        for pid in pids:
            owner = environment_of(pid).get(STATE_VARIABLE)
            if owner and owner != str(self.layout.state):
                raise SiteError(
                    f"a site named {self.layout.name!r} already runs from {owner}: stop that one or "
                    "choose another name: SITE=NAME"
                )

    def _prepare(self, tools: SiteTools) -> int:
        layout = self.layout
        layout.state.mkdir(parents=True, exist_ok=True)
        layout.state.chmod(0o711)  # whatever the umask
        boot_file = layout.run / "boot"
        if boot_file.exists() and boot_file.read_text() != boot_id():
            # After a reboot the run-time state describes containers and processes that are no more.
            teardown.unmount(layout)
            shutil.rmtree(layout.run)
        for folder in (layout.run / "tmp", layout.config, layout.edge, layout.pod_logs, layout.logs):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o755)
        boot_file.write_text(boot_id())
        kernel_settings.remember(layout)
        hierarchies = cgroups.detect()
        cgroups.ensure_cgroups(layout, hierarchies)
        NetworkNamespace(layout).ensure()
        edge.ensure_host_namespace_file(layout)
        ensure_certificates(layout)
        write_component_kubeconfigs(layout)
        write_container_configuration(
            layout, hierarchies, host_programs=host_program_folders(tools), cni=render_cni(layout)
        )
        write_component_configuration(layout)
        ports = HostPorts(layout.name, layout.edge / "ports.json")
        kept = ports.table().get(edge.API_KEY)
        ours = kept is not None and edge.active_ports(layout).get(edge.API_KEY) == kept
        api_port = ports.ensure(edge.API_KEY, listening=ours)
        if api_port != kept or not edge.listeners_file(layout).exists():
            # The loop of before would go on telling Envoy the old port.
            if loop := load_record(layout, "load-balancer"):
                end([loop.identity], grace_s=1.0)
            edge.write_forwards(layout, [edge.api_forward(api_port)])
        return api_port


class _Starter:
    """Starts the components of one site, each as soon as what it needs is there."""

    def __init__(
        self,
        layout: SiteLayout,
        tools: SiteTools,
        progress: Progress,
        api: ApiClient,
        *,
        of_cloud: bool = False,
    ) -> None:
        self._of_cloud = of_cloud
        self._layout = layout
        self._tools = tools
        self._progress = progress
        self._api = api
        self._given_up = threading.Event()
        self._cgroup_files = cgroups.component_files(layout, cgroups.detect())
        self._environment = component_environment(layout)
        self._inode = NetworkNamespace(layout).inode()

    def run(self, components: Sequence[Component]) -> None:
        """Starts everything and waits until the site is ready."""
        work: dict[str, tuple[Sequence[str], Callable[[], None]]] = {
            component.name: (component.after, lambda component=component: self._ensure(component))
            for component in components
        }
        work["images"] = (["containerd"], self._images)
        work["bootstrap"] = (["kube-apiserver"], self._bootstrap)
        work["custom resources"] = (["kube-apiserver"], self._custom_resources)
        work["node"] = (["kubelet", "kube-proxy"], self._node)
        work["cluster DNS"] = (["coredns", "kube-proxy"], self._dns)
        if not self._of_cloud:
            work["simulated nodes"] = (["kwok"], self._simulated_nodes)
        (manager,) = (one for one in components if one.name == "kube-controller-manager")
        work["service accounts"] = ([manager.name], lambda: self._service_accounts(manager))
        started: dict[str, Future[None]] = {}

        def perform(name: str, after: Sequence[str], action: Callable[[], None]) -> None:
            for needed in after:
                started[needed].result()
            if self._given_up.is_set():
                raise _GivenUpError
            try:
                action()
            except (ApiError, OSError) as error:
                self._given_up.set()
                # All that is not a component of its own is asked of the API server.
                log = self._layout.log(name if name in COMPONENTS else "kube-apiserver")
                raise SiteError(f"{name} failed: {error}\n{_log_end(log)}") from error

        with ThreadPoolExecutor(max_workers=len(work)) as pool:
            # Submitted so that whatever a piece of work waits for is known before it runs.
            for name in _ordered({name: after for name, (after, _) in work.items()}):
                started[name] = pool.submit(perform, name, *work[name])
            try:
                for future in started.values():
                    future.exception()
            except BaseException:
                # Ctrl-C: what runs stays for the next start or for stop.
                self._given_up.set()
                raise
            failures = [error for future in started.values() if (error := future.exception())]
        for failure in failures:
            if not isinstance(failure, _GivenUpError):
                raise failure
        for component in components:
            self._start_again(component)

    def _start_again(self, component: Component) -> None:
        """Starts what ended since it was well, as a kubelet would.

        Where the disk keeps etcd waiting for seconds, what asks the API server for a lease or a token ends
        itself.
        """
        record = load_record(self._layout, component.name)
        if record is not None and not record.identity.running():
            self._ensure(component)

    def _ensure(self, component: Component) -> None:
        layout = self._layout
        record = load_record(layout, component.name)
        fingerprint = component.fingerprint()
        if record and self._usable(record, component, fingerprint):
            return
        with self._step(component.name) as update:
            self._end_earlier(component.name)
            component.prepare()
            record = spawn(
                layout,
                component.name,
                component.command,
                fingerprint=fingerprint,
                inside=component.inside,
                cgroup_files=self._cgroup_files,
                environment=self._environment,
            )
            problem = self._wait(component.check, component.patience_s, update, record)
            if problem:
                self._given_up.set()
                raise SiteError(
                    f"{component.name} is not well: {problem}\n{_log_end(layout.log(component.name))}"
                )

    def _usable(self, record: ProcessRecord, component: Component, fingerprint: str) -> bool:
        if not record.identity.running() or record.fingerprint != fingerprint:
            return False
        # A process in a network namespace that was since made anew cannot be reached any more.
        if component.inside and netns_inode_of(record.identity.pid) != self._inode:
            return False
        # One that an interrupted start has just started gets the time that it would have had.
        left_s = max(3.0, component.patience_s - (time.time() - record.since))
        return self._wait(component.check, left_s, lambda _: None, record) is None

    def _end_earlier(self, name: str) -> None:
        found = find_site_processes(self._layout, netns_inodes=frozenset(), cgroup_pids=frozenset())
        # containerd's shims inherit its marks but outlive it on purpose: they hold running containers.
        ended = [
            process.identity
            for process in found
            if process.component == name and not process.name.startswith("containerd-shim")
        ]
        if end(ended, grace_s=5.0):
            raise SiteError(f"an earlier {name} cannot be ended")
        record_file(self._layout, name).unlink(missing_ok=True)

    def _wait(
        self,
        check: Callable[[], str | None],
        seconds: float,
        update: Callable[[str], None],
        record: ProcessRecord | None = None,
    ) -> str | None:
        deadline = time.monotonic() + seconds
        while True:
            if record and not record.identity.running():
                return "it ended"
            problem = check()
            if problem is None:
                return None
            if time.monotonic() > deadline:
                return problem
            if self._given_up.is_set():
                raise _GivenUpError
            update(problem.splitlines()[0][:100])
            time.sleep(_POLL_S)

    def _ready(self, name: str, check: Callable[[], str | None]) -> None:
        if check() is None:
            return
        with self._step(name) as update:
            problem = self._wait(check, READY_TIMEOUT_S, update)
            if problem:
                self._given_up.set()
                raise SiteError(f"{name} not ready after {READY_TIMEOUT_S:.0f} s: {problem}")

    @contextmanager
    def _step(self, name: str) -> Generator[Callable[[str], None]]:
        with self._progress.step(name) as step:
            yield step.update
            step.update("")

    def _images(self) -> None:
        with self._step("images"):
            import_images(self._layout, [*site_images(self._tools), *published_images()])

    def _bootstrap(self) -> None:
        # The API server makes these two itself, a moment after it says that it is ready.
        for namespace in ("default", "kube-system"):
            path = object_path("v1", "Namespace", None, namespace)
            self._ready(f"namespace {namespace}", lambda path=path: self._missing(path))
        for document in bootstrap_documents(runs_models=not self._of_cloud):
            self._api.apply(document)

    def _custom_resources(self) -> None:
        files = sorted(self._tools.folder("kuberay-operator").rglob("ray.io_*.yaml"))
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
        record: Json = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "spillway-site", "namespace": "kube-system"},
            "data": {"kuberay-definitions": digest},
        }
        with contextlib.suppress(ApiError):
            if (
                self._api.get(object_path("v1", "ConfigMap", "kube-system", "spillway-site"))["data"]
                == record["data"]
            ):
                return
        collection = object_path("apiextensions.k8s.io/v1", "CustomResourceDefinition", None)
        with self._step("KubeRay's resource definitions") as update:
            for number, file in enumerate(files, 1):
                update(f"{number} of {len(files)}")
                text = file.read_bytes()
                try:
                    # These are megabytes: creating them costs the API server a fraction of applying them.
                    self._api.request(
                        "POST", collection, text, content_type="application/yaml", timeout_s=READY_TIMEOUT_S
                    )
                except ApiError as error:
                    if error.status != http.client.CONFLICT:
                        raise
                    name = file.stem.partition("_")[2] + ".ray.io"
                    self._api.apply_text(f"{collection}/{name}", text, timeout_s=READY_TIMEOUT_S)
        self._api.apply(record)

    def _node(self) -> None:
        record = load_record(self._layout, "kubelet")
        # A Ready from before the kubelet's start says nothing about it.
        since = record.since if record else 0.0
        self._ready("node", lambda: self._node_problem(self._layout.node_name, since))

    def _simulated_nodes(self) -> None:
        for node, status in render_nodes(self._layout):
            self._api.apply(node)
            path = object_path("v1", "Node", None, node["metadata"]["name"])
            self._api.request("PATCH", f"{path}/status", status, content_type="application/merge-patch+json")
        for name in node_names(self._layout):
            self._ready(name, lambda name=name: self._node_problem(name, 0.0))

    def _service_accounts(self, made_by: Component) -> None:
        path = object_path("v1", "ServiceAccount", "default", "default")

        def missing() -> str | None:
            self._start_again(made_by)
            return self._missing(path)

        self._ready("service accounts", missing)

    def _dns(self) -> None:
        self._ready("cluster DNS", lambda: dns_problem(self._layout))

    def _node_problem(self, name: str, since: float) -> str | None:
        try:
            node = self._api.get(object_path("v1", "Node", None, name))
            conditions: list[Json] = node.get("status", {}).get("conditions", [])
            ready = next((condition for condition in conditions if condition["type"] == "Ready"), None)
            # A kubelet that finds nothing changed renews only its lease.
            if ready is None or (
                _seconds(ready["lastHeartbeatTime"]) < int(since) and self._lease_renewed(name) < since
            ):
                return "has not reported yet"
        except (ApiError, OSError) as error:
            return str(error)
        return None if ready["status"] == "True" else str(ready.get("message") or ready.get("reason"))

    def _lease_renewed(self, name: str) -> float:
        path = f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}"
        renewed: str = self._api.get(path)["spec"]["renewTime"]
        return _seconds(renewed)

    def _missing(self, path: str) -> str | None:
        try:
            self._api.get(path)
        except (ApiError, OSError) as error:
            return str(error)
        return None


class _GivenUpError(Exception):
    """Another part failed; this one was not pursued."""


def dns_problem(layout: SiteLayout) -> str | None:
    """Asks the cluster's DNS, at its Service address, for the API server's name; None if it answers."""
    labels = ["kubernetes", "default", "svc", *CLUSTER_DOMAIN.split(".")]
    name = b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"
    # Identifier 1, recursion desired, one question of type A, class IN (RFC 1035, 4.1).
    question = struct.pack(">HHHHHH", 1, 0x0100, 1, 0, 0, 0) + name + struct.pack(">HH", 1, 1)
    try:
        with NetworkNamespace(layout).connect(DNS_SERVICE_IP, 53, 2.0) as connection:
            connection.sendall(struct.pack(">H", len(question)) + question)
            answer = connection.recv(4096)
    except OSError as error:
        return str(error)
    if len(answer) < 14:
        return "closed the connection"
    flags, _, answers = struct.unpack(">HHH", answer[4:10])
    if flags & 0xF or not answers:
        return f"answered with code {flags & 0xF} and {answers} addresses"
    return None


@contextmanager
def locked(layout: SiteLayout, progress: Progress) -> Generator[None]:
    """Keeps other starts and stops of the site out; waits for one that is at work and says so."""
    path = layout.lock_file
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another process"
                progress.line(f"  waiting for {holder}, which is starting or stopping site {layout.name!r}")
                fcntl.flock(file, fcntl.LOCK_EX)
            # The holder before may have removed the file that was waited for; then the lock is another.
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                    file.truncate(0)
                    file.write(f"pid {os.getpid()}")
                    file.flush()
                    try:
                        yield
                    finally:
                        path.unlink(missing_ok=True)
                    return


def _ordered(after: dict[str, Sequence[str]]) -> list[str]:
    ordered: list[str] = []
    while len(ordered) < len(after):
        ordered += [
            name
            for name, needed in after.items()
            if name not in ordered and all(one in ordered for one in needed)
        ]
    return ordered


def _seconds(timestamp: str) -> float:
    return datetime.datetime.fromisoformat(timestamp).timestamp()


def _log_end(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").splitlines()[-_LOG_LINES:]
    except FileNotFoundError:
        lines = []
    return "\n".join([f"the end of {path}:", *(f"  {line[:300]}" for line in lines)])
