"""Ends a site and proves that nothing of it is left, however it was left behind."""

import contextlib
import ctypes
import ctypes.util
import json
import re
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from rehearsal.site import cgroups, kernel_settings
from rehearsal.site.layout import SiteLayout
from rehearsal.site.network import NetworkNamespace
from rehearsal.site.processes import FoundProcess, end, find_site_processes
from runtime.ops.progress import Progress

GRACE_S = 3.0
ROUNDS = 5
CNI_CACHE = Path("/var/lib/cni")
CONTAINER_LOG_LINKS = Path("/var/log/containers")
SHIM_SOCKETS = Path("/run/containerd/s")
# What `keep_data` keeps: the objects, the authorities that signed what is in them, and the ports.
KEPT = ("etcd", "pki", "edge")
_MNT_DETACH = 2


@dataclass(frozen=True)
class Leftovers:
    """What of a site is there, by kind."""

    found: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def __bool__(self) -> bool:
        return any(self.found.values())

    def lines(self) -> list[str]:
        """One line per kind that was looked for, with what was found."""
        return [f"{kind}: {', '.join(items) if items else 'none'}" for kind, items in self.found.items()]


def tear_down(layout: SiteLayout, progress: Progress, *, keep_data: bool) -> Leftovers:
    """Ends everything of a site, removes what it made and looks again.

    Args:
        layout: The site.
        progress: Where the steps are shown.
        keep_data: Keep the cluster's objects, its certificates and its ports.
    """
    with progress.step("processes and containers") as step:
        step.update(f"{_end_processes(layout)} ended")
    with progress.step("mounts, network, cgroups, kernel settings"):
        shim_sockets = _shim_sockets(layout)
        unmount(layout)
        NetworkNamespace(layout).delete()
        cgroups.remove(layout)
        kernel_settings.restore(layout)
    with progress.step("files"):
        for path in [*shim_sockets, *_cni_cache(layout), *_container_log_links(layout)]:
            path.unlink(missing_ok=True)
        for folder in (
            CNI_CACHE / "results",
            CNI_CACHE,
            CONTAINER_LOG_LINKS,
            SHIM_SOCKETS,
            SHIM_SOCKETS.parent,
        ):
            # Only an empty one goes: somebody else's files keep it.
            with contextlib.suppress(OSError):
                folder.rmdir()
        _remove_state(layout, keep_data=keep_data)
    return look(layout, keep_data=keep_data, shim_sockets=shim_sockets)


def look(layout: SiteLayout, *, keep_data: bool = False, shim_sockets: list[Path] | None = None) -> Leftovers:
    """Looks for everything that a site can leave on a machine."""
    state = [layout.state] if layout.state.exists() else []
    if state and keep_data:
        state = [path for path in layout.state.iterdir() if path.name not in KEPT]
    return Leftovers(
        {
            "processes": [
                f"{found.identity.pid} {found.name} ({found.reason})" for found in _processes(layout)
            ],
            "containers": [path.name for path in _containers(layout)],
            "mounts": [str(path) for path in _mounts(layout)],
            "network namespaces": [str(layout.netns_path)] if layout.netns_path.exists() else [],
            "cgroups": [str(path) for path in cgroups.groups(layout)],
            "kernel settings": kernel_settings.changed(layout),
            "CNI files": [str(path) for path in _cni_cache(layout)],
            "container log links": [str(path) for path in _container_log_links(layout)],
            "containerd sockets": [
                str(path) for path in shim_sockets or _shim_sockets(layout) if path.exists()
            ],
            "state files": [str(path) for path in state],
        }
    )


def _end_processes(layout: SiteLayout) -> int:
    ended: set[int] = set()
    for number in range(ROUNDS):
        found = _processes(layout)
        if not found:
            break
        ended.update(process.identity.pid for process in found)
        # Components are asked first, so that etcd closes its files; containers and all that is met
        # in a later round, which something must have started meanwhile, are killed at once.
        if number == 0:
            end([process.identity for process in found if process.component], grace_s=GRACE_S)
        else:
            end([process.identity for process in found], grace_s=0.0)
    return len(ended)


def _processes(layout: SiteLayout) -> list[FoundProcess]:
    inodes = {NetworkNamespace(layout).inode()} | {
        _inode(path) for path in _mounts(layout) if _is_pod_netns(path)
    }
    return find_site_processes(
        layout,
        netns_inodes=frozenset(inode for inode in inodes if inode is not None),
        cgroup_pids=cgroups.processes(layout),
    )


def _is_pod_netns(path: Path) -> bool:
    # The host's own namespace is mounted below the state folder too: never take that for the site's.
    return path.parent.name == "netns"


def _inode(path: Path) -> int | None:
    with contextlib.suppress(OSError):
        return path.stat().st_ino
    return None


def _mounts(layout: SiteLayout) -> list[Path]:
    """Lists the mounts below the state folder, the innermost first."""
    points: list[Path] = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        # Blanks and the like are written as octal numbers (proc(5)).
        point = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), line.split()[4]))
        if point.is_relative_to(layout.state):
            points.append(point)
    return list(reversed(points))


def unmount(layout: SiteLayout) -> None:
    """Takes away every mount below the state folder, by force in the end."""
    libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
    for detach in (0, 0, _MNT_DETACH):
        points = _mounts(layout)
        if not points:
            return
        for point in points:
            libc.umount2(str(point).encode(), detach)
        if _mounts(layout):
            # The kernel may still be ending a process that had something open there.
            time.sleep(0.1)


def _containers(layout: SiteLayout) -> list[Path]:
    return sorted((layout.run / "runc" / "k8s.io").glob("*"))


def _shim_sockets(layout: SiteLayout) -> list[Path]:
    """Lists the sockets of the site's shims, which containerd keeps outside of the folders it is given."""
    found: list[Path] = []
    for file in (layout.run / "containerd").glob("io.containerd.runtime.v2.task/*/*/address"):
        with contextlib.suppress(OSError):
            found.append(Path(file.read_text().strip().removeprefix("unix://")))
    return [path for path in found if path.parent == SHIM_SOCKETS]


def _cni_cache(layout: SiteLayout) -> list[Path]:
    networks: dict[Path, tuple[str, str]] = {}
    for file in (CNI_CACHE / "results").glob("*"):
        with contextlib.suppress(OSError, ValueError):
            cached = json.loads(file.read_text())
            networks[file] = (str(cached.get("networkName")), str(cached.get("containerId")))
    sandboxes = {sandbox for network, sandbox in networks.values() if network == layout.cni_network}
    # A sandbox has an entry for its loopback too, under a name that all sites share.
    return [file for file, (_, sandbox) in networks.items() if sandbox in sandboxes]


def _container_log_links(layout: SiteLayout) -> list[Path]:
    if not CONTAINER_LOG_LINKS.is_dir():
        return []
    return [
        path
        for path in CONTAINER_LOG_LINKS.iterdir()
        if path.is_symlink() and path.readlink().is_relative_to(layout.pod_logs)
    ]


def _remove_state(layout: SiteLayout, *, keep_data: bool) -> None:
    if not layout.state.exists() or _mounts(layout):
        # Never remove files through a mount that could not be taken away.
        return
    for path in list(layout.state.iterdir()):
        if keep_data and path.name in KEPT:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        layout.state.rmdir()
    with contextlib.suppress(OSError):
        layout.state.parent.rmdir()
