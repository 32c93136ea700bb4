"""Process identity, the lock of a site, kept ports and what makes a component restart."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from io import StringIO
from multiprocessing.synchronize import Event
from pathlib import Path
from unittest.mock import Mock

import pytest

from rehearsal.site import cgroups
from rehearsal.site import site as site_module
from rehearsal.site.api import ApiClient, ApiError
from rehearsal.site.components import Component
from rehearsal.site.layout import STATE_VARIABLE, SiteError, SiteLayout
from rehearsal.site.network import HostPorts, port_is_free
from rehearsal.site.preflight import check_machine, check_privileges
from rehearsal.site.processes import ProcessIdentity, boot_id, end, load_record, record_file, spawn
from rehearsal.site.site import Site, locked
from runtime.ops.progress import Progress


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


def test_a_reused_pid_is_another_process_and_gets_no_signal() -> None:
    process = sleeper()
    try:
        identity = ProcessIdentity.of(process.pid)
        assert identity is not None
        assert identity.running()
        stranger = ProcessIdentity(process.pid, identity.started - 1, identity.boot)
        assert not stranger.running()
        stranger.signal(signal.SIGKILL)
        assert end([stranger], grace_s=0.0) == []
        assert process.poll() is None
        earlier_boot = ProcessIdentity(process.pid, identity.started, "another boot")
        assert not earlier_boot.running()
    finally:
        process.kill()
        process.wait()


def test_a_process_that_ignores_the_request_is_killed() -> None:
    ignoring = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    code = ignoring + "print('on', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    identity = ProcessIdentity.of(process.pid)
    assert identity is not None
    assert end([identity], grace_s=0.2) == []
    assert process.wait() == -signal.SIGKILL


def test_a_zombie_does_not_run() -> None:
    process = sleeper()
    process.kill()
    deadline = time.monotonic() + 60
    while ProcessIdentity.of(process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ProcessIdentity.of(process.pid) is None
    assert process.wait() == -signal.SIGKILL, "the exit status is its parent's to collect"


def test_a_damaged_record_counts_as_none(tmp_path: Path) -> None:
    layout = SiteLayout("probe", tmp_path)
    file = record_file(layout, "etcd")
    file.parent.mkdir(parents=True)
    for text in ("", "[]", '{"component": "etcd"}', json.dumps({"identity": {"pid": 1}})):
        file.write_text(text)
        assert load_record(layout, "etcd") is None


def test_boot_is_identified() -> None:
    assert len(boot_id()) == 36


def test_a_port_is_kept_and_is_the_same_again_without_the_table(tmp_path: Path) -> None:
    ports = HostPorts("probe", tmp_path / "ports.json")
    first = ports.ensure("default/web/80", listening=False)
    assert ports.ensure("default/web/80", listening=False) == first
    assert HostPorts("probe", tmp_path / "other.json").ensure("default/web/80", listening=False) == first
    assert ports.ensure("default/other/80", listening=False) != first


def test_a_port_that_another_program_took_is_replaced_and_the_new_one_kept(tmp_path: Path) -> None:
    ports = HostPorts("probe", tmp_path / "ports.json")
    first = ports.ensure("api", listening=False)
    with socket.socket() as other:
        other.bind(("127.0.0.1", first))
        other.listen()
        assert not port_is_free(first)
        assert ports.ensure("api", listening=True) == first, "in use by our own Envoy"
        second = ports.ensure("api", listening=False)
        assert second != first
    assert ports.ensure("api", listening=False) == second


def hold(home: Path, held: Event, release: Event) -> None:
    with locked(SiteLayout("probe", home), Progress(StringIO())):
        held.set()
        release.wait(60)
        (home / "released").touch()


class Releasing(StringIO):
    """A terminal that lets the holder go on once it shows that somebody waits."""

    def __init__(self, release: Event) -> None:
        super().__init__()
        self._release = release

    def write(self, text: str) -> int:
        if "waiting for" in text:
            self._release.set()
        return super().write(text)


def test_a_second_start_waits_and_says_for_whom(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    holder = context.Process(target=hold, args=(tmp_path, held, release))
    holder.start()
    assert held.wait(60)
    out = Releasing(release)
    with locked(SiteLayout("probe", tmp_path), Progress(out)):
        assert (tmp_path / "released").exists()
    assert f"waiting for pid {holder.pid}" in out.getvalue()
    holder.join()
    assert not SiteLayout("probe", tmp_path).lock_file.exists()


def test_the_lock_excludes_even_when_the_holder_removes_its_file(tmp_path: Path) -> None:
    layout = SiteLayout("probe", tmp_path)
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(20):
            with locked(layout, Progress(StringIO())):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert not layout.lock_file.exists()


def test_a_component_restarts_when_its_configuration_changed(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("a")

    def component(*arguments: str) -> Component:
        return Component("x", [sys.executable, *arguments], lambda: None, inputs=[config])

    first = component("-c").fingerprint()
    assert component("-c").fingerprint() == first
    assert component("-d").fingerprint() != first
    elsewhere = tmp_path / "python"
    elsewhere.symlink_to(sys.executable)
    assert Component("x", [str(elsewhere), "-c"], lambda: None, inputs=[config]).fingerprint() == first
    config.write_text("b")
    assert component("-c").fingerprint() != first


def test_without_root_there_is_one_clear_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SiteError, match="needs root"):
        check_privileges()


def test_elsewhere_than_on_linux_there_is_one_clear_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SiteError, match="needs Linux"):
        check_privileges()


def test_a_site_that_never_started_says_so_everywhere(tmp_path: Path) -> None:
    site = Site("probe", tmp_path)
    status = site.status()
    assert not status.healthy
    assert {component.problem for component in status.components} == {"not started"}
    assert json.loads(status.as_json())["healthy"] is False
    with pytest.raises(SiteError, match="no component"):
        site.logs("nothing")
    with pytest.raises(SiteError, match="not started"):
        site.logs("etcd")


def test_a_site_of_the_same_name_from_another_home_is_not_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {**os.environ, STATE_VARIABLE: "/elsewhere/sites/probe"}
    command = [sys.executable, "-c", "print(flush=True); import time; time.sleep(60)"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()

    def in_cgroup(_: SiteLayout) -> frozenset[int]:
        return frozenset({process.pid})

    monkeypatch.setattr(cgroups, "processes", in_cgroup)
    monkeypatch.setattr(site_module, "check_privileges", lambda: None)
    try:
        with pytest.raises(SiteError, match="already runs from /elsewhere/sites/probe"):
            Site(f"probe-{os.getpid()}", tmp_path).stop(Progress(StringIO()))
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_a_component_has_the_usual_umask_whoever_starts_the_site(tmp_path: Path) -> None:
    layout = SiteLayout("probe", tmp_path)
    layout.state.mkdir(parents=True)
    before = os.umask(0o077)
    try:
        record = spawn(
            layout,
            "etcd",
            ["/bin/sh", "-c", "umask"],
            fingerprint="",
            inside=False,
            cgroup_files=[],
            environment={},
        )
    finally:
        os.umask(before)
    deadline = time.monotonic() + 60
    while record.identity.running() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert layout.log("etcd").read_text().strip() == "0022"


@pytest.mark.parametrize(
    "error", [ApiError(500, "etcdserver: no leader"), ConnectionResetError("it is gone")]
)
def test_an_api_server_that_fails_meanwhile_is_reported_with_its_log(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = SiteLayout("probe", tmp_path)

    def fail(*_: object) -> None:
        raise error

    def nothing(*_: object) -> None: ...

    starter_class = site_module._Starter  # pyright: ignore[reportPrivateUsage]
    steps = ("_ensure", "_images", "_custom_resources", "_node", "_dns", "_simulated_nodes")
    for name in (*steps, "_service_accounts"):
        monkeypatch.setattr(starter_class, name, nothing)
    monkeypatch.setattr(starter_class, "_bootstrap", fail)

    def none(_: SiteLayout, __: object) -> list[Path]:
        return []

    monkeypatch.setattr(cgroups, "component_files", none)
    monkeypatch.setattr(cgroups, "detect", lambda: None)
    names = ("kube-apiserver", "containerd", "kubelet", "kube-proxy", "coredns", "kwok")
    components = [Component(name, [], lambda: None) for name in (*names, "kube-controller-manager")]
    api = ApiClient.__new__(ApiClient)
    starter = starter_class(layout, None, Progress(StringIO()), api)  # pyright: ignore[reportArgumentType]
    with pytest.raises(SiteError) as raised:
        starter.run(components)
    assert str(error) in str(raised.value)
    assert str(layout.log("kube-apiserver")) in str(raised.value)


def test_a_component_that_ended_while_others_started_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = SiteLayout("probe", tmp_path)
    starter_class = site_module._Starter  # pyright: ignore[reportPrivateUsage]
    started: list[str] = []

    def start(_: object, component: Component) -> None:
        started.append(component.name)

    def nothing(*_: object) -> None: ...

    monkeypatch.setattr(starter_class, "_ensure", start)
    for name in ("_images", "_custom_resources", "_bootstrap", "_node", "_dns", "_simulated_nodes"):
        monkeypatch.setattr(starter_class, name, nothing)
    monkeypatch.setattr(starter_class, "_missing", Mock(side_effect=["404", None]))
    monkeypatch.setattr(cgroups, "component_files", Mock(return_value=[]))
    monkeypatch.setattr(cgroups, "detect", lambda: None)

    def recorded(_: SiteLayout, name: str) -> Mock:
        # etcd kept it waiting once; it is well again when it was started a second time.
        ended = name == "kube-controller-manager" and started.count(name) < 2
        return Mock(**{"identity.running.return_value": not ended})

    monkeypatch.setattr(site_module, "load_record", recorded)
    names = ("kube-apiserver", "containerd", "kubelet", "kube-proxy", "coredns", "kwok")
    components = [Component(name, [], lambda: None) for name in (*names, "kube-controller-manager")]
    api = ApiClient.__new__(ApiClient)
    starter = starter_class(layout, None, Progress(StringIO()), api)  # pyright: ignore[reportArgumentType]
    starter.run(components)
    assert started.count("kube-controller-manager") == 2
    assert started.count("kubelet") == 1


def test_the_machine_is_checked_without_the_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(cgroups, "detect", lambda: None)
    monkeypatch.setattr("rehearsal.site.preflight._installed", lambda _: False)  # pyright: ignore
    monkeypatch.setattr("rehearsal.site.preflight._overlay_available", lambda: True)
    check_machine()
    monkeypatch.setattr("rehearsal.site.preflight._overlay_available", lambda: False)
    with pytest.raises(SiteError, match="overlay"):
        check_machine()
