"""Looks, before anything is started, whether this machine can run a site at all."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from rehearsal.site import cgroups
from rehearsal.site.layout import SiteError
from rehearsal.site.network import cni_plugins, program

# Program and Debian package.
PROGRAMS = (
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("containerd-shim-runc-v2", "containerd"),
    ("runc", "runc"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("mount", "mount"),
)


def check_privileges() -> None:
    """Checks for Linux and root.

    Raises:
        SiteError: One of them is missing.
    """
    if sys.platform != "linux":
        raise SiteError(
            f"the embedded site needs Linux, this is {sys.platform}: give the stack a kubeconfig instead"
        )
    if os.geteuid() != 0:
        raise SiteError(
            "the embedded site needs root, because it starts real containers: run this with sudo, "
            "or give the stack a kubeconfig instead"
        )


def check_programs() -> None:
    """Checks the programs of the machine that a site runs.

    Raises:
        SiteError: One is missing; the message names it and what brings it.
    """
    for name, package in PROGRAMS:
        program(name, package)
    cni_plugins()


def check_machine() -> None:
    """Checks the kernel; needs none of the tools, so that it can be asked before they are made.

    What takes a program to find out is left out while that program is not installed.

    Raises:
        SiteError: The kernel lacks something; the message names it.
    """
    cgroups.detect()
    if not _overlay_available():
        raise SiteError("the kernel lacks the overlay file system (CONFIG_OVERLAY_FS)")
    if not Path("/proc/sys/kernel/seccomp").exists():
        raise SiteError("the kernel lacks seccomp filters (CONFIG_SECCOMP_FILTER)")
    # Tried in a namespace of their own, which ends with the command: the only sure way to know.
    attempts = {
        "virtual network links (CONFIG_VETH)": [
            "ip",
            "link",
            "add",
            "probe0",
            "type",
            "veth",
            "peer",
            "name",
            "probe1",
        ],
        "nftables with address translation (CONFIG_NF_TABLES, CONFIG_NFT_NAT)": [
            "nft",
            "add table ip probe; add chain ip probe nat { type nat hook output priority -100; }; "
            "add rule ip probe nat fib daddr type local numgen random mod 2 0 dnat to 127.0.0.1",
        ],
    }
    for feature, command in attempts.items():
        if not (_installed("unshare") and _installed(command[0])):
            continue
        failure = _fails_in_own_network(command)
        if failure:
            raise SiteError(f"the kernel lacks {feature}: {failure}")


def _installed(name: str) -> bool:
    try:
        program(name, name)
    except SiteError:
        return False
    return True


def _overlay_available() -> bool:
    filesystems = Path("/proc/filesystems")
    if "\toverlay\n" in filesystems.read_text():
        return True
    if modprobe := shutil.which("modprobe", path="/usr/sbin:/sbin"):
        subprocess.run([modprobe, "overlay"], capture_output=True, check=False, timeout=20)
    return "\toverlay\n" in filesystems.read_text()


def _fails_in_own_network(command: list[str]) -> str | None:
    tool = program(command[0], command[0])
    done = subprocess.run(
        [program("unshare", "util-linux"), "--net", tool, *command[1:]],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    return None if done.returncode == 0 else (done.stderr.strip() or f"{command[0]} failed")
