"""The site's cgroups: made before the kubelet starts, emptied and removed on stop.

`<root>/spillway-<site>/components` holds the components, `…/pods/kubepods` the containers. With
cgroup v1 each controller has its own tree; components join only `pids` there, because the memory
account of whoever started the site shall go on counting them.
"""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rehearsal.site.layout import SiteError, SiteLayout

MOUNT = Path("/sys/fs/cgroup")
REQUIRED = frozenset({"cpu", "cpuset", "memory", "pids"})
_COMPONENTS = "components"
_PODS = "pods"


@dataclass(frozen=True)
class Hierarchies:
    """How cgroups are mounted on this machine."""

    unified: bool
    folders: tuple[Path, ...]


def detect(mount_info: str | None = None, unified_controllers: str | None = None) -> Hierarchies:
    """Reads from the mount table whether this is cgroup v1 or v2 and where it is mounted.

    Args:
        mount_info: The mount table; this machine's without it.
        unified_controllers: The controllers that cgroup v2 offers; this machine's without it.

    Raises:
        SiteError: No cgroups, or a controller that the kubelet needs is missing.
    """
    text = Path("/proc/self/mounts").read_text() if mount_info is None else mount_info
    mounts = [line.split()[1:4] for line in text.splitlines()]
    if any(kind == "cgroup2" and folder == str(MOUNT) for folder, kind, _ in mounts):
        offered = (
            (MOUNT / "cgroup.controllers").read_text() if unified_controllers is None else unified_controllers
        )
        if missing := REQUIRED - set(offered.split()):
            raise SiteError(
                f"cgroup v2 offers no {', '.join(sorted(missing))} in {MOUNT}/cgroup.controllers: boot the "
                "kernel with cgroup v2 alone (cgroup_no_v1=all); in a container, run it with the host's "
                "cgroup namespace"
            )
        return Hierarchies(unified=True, folders=(MOUNT,))
    version1 = {folder: set(options.split(",")) for folder, kind, options in mounts if kind == "cgroup"}
    if missing := REQUIRED - set[str]().union(*version1.values()):
        raise SiteError(f"cgroup controllers are missing or not mounted: {', '.join(sorted(missing))}")
    # Controllers mounted together (cpu,cpuacct) have links beside their folder; one mount is one folder.
    return Hierarchies(unified=False, folders=tuple(Path(folder) for folder in sorted(version1)))


def pods_cgroup(layout: SiteLayout) -> str:
    """The kubelet's cgroup root."""
    return f"/{layout.cgroup}/{_PODS}"


def ensure_cgroups(layout: SiteLayout, hierarchies: Hierarchies) -> None:
    """Creates the site's cgroups in every hierarchy.

    Raises:
        SiteError: The kernel refuses to hand a controller down that the kubelet needs.
    """
    for folder in hierarchies.folders:
        for name in ("", _COMPONENTS, _PODS):
            (folder / layout.cgroup / name).mkdir(exist_ok=True)
        if hierarchies.unified:
            _delegate(folder)
            _delegate(folder / layout.cgroup)
        elif (folder / "cpuset.cpus").exists():
            # A v1 cpuset starts empty, and nothing can run in it until it is filled from above.
            for group in (
                folder / layout.cgroup,
                folder / layout.cgroup / _COMPONENTS,
                folder / layout.cgroup / _PODS,
            ):
                for setting in ("cpuset.cpus", "cpuset.mems"):
                    if not (group / setting).read_text().strip():
                        (group / setting).write_text((group.parent / setting).read_text())


def component_files(layout: SiteLayout, hierarchies: Hierarchies) -> Sequence[Path]:
    """The `cgroup.procs` files that a component's process is written to."""
    return [
        folder / layout.cgroup / _COMPONENTS / "cgroup.procs"
        for folder in hierarchies.folders
        if hierarchies.unified or folder.name == "pids"
    ]


def groups(layout: SiteLayout) -> list[Path]:
    """Lists the site's cgroup folders, children first, whatever hierarchies they are in."""
    roots = [MOUNT / layout.cgroup, *MOUNT.glob(f"*/{layout.cgroup}")]
    # Links to combined controllers would list the same folder twice.
    real = {root.resolve() for root in roots if root.is_dir()}
    found = [folder for root in real for folder in [*root.rglob("*"), root] if folder.is_dir()]
    return sorted(found, key=lambda folder: len(folder.parts), reverse=True)


def processes(layout: SiteLayout) -> frozenset[int]:
    """Lists the pids in the site's cgroups."""
    pids: set[int] = set()
    for group in groups(layout):
        with contextlib.suppress(OSError):
            pids.update(int(pid) for pid in (group / "cgroup.procs").read_text().split())
    return frozenset(pids - {0})


def remove(layout: SiteLayout, *, wait_s: float = 5.0) -> None:
    """Removes the site's cgroup folders; the kernel lets go of an emptied one only after a moment."""
    deadline = time.monotonic() + wait_s
    while remaining := groups(layout):
        for group in remaining:
            with contextlib.suppress(OSError):
                group.rmdir()
        if time.monotonic() > deadline:
            return
        if groups(layout):
            time.sleep(0.05)


def _delegate(group: Path) -> None:
    handed_down = (group / "cgroup.subtree_control").read_text().split()
    for controller in (group / "cgroup.controllers").read_text().split():
        if controller in handed_down:
            continue
        try:
            (group / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError as error:
            if controller in REQUIRED:
                raise SiteError(
                    f"cgroup v2 does not hand {controller!r} down from {group} ({error.strerror}): no "
                    "process may be in that group itself; a container needs the host's cgroup namespace"
                ) from error
