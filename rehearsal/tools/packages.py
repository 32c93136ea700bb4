"""Debian packages whose programs the embedded site and the image build take from the system."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from rehearsal.tools.cache import Cache
from rehearsal.tools.catalogue import PACKAGES, SystemPackage
from rehearsal.tools.errors import ToolError
from rehearsal.tools.process import output_of, run_logged
from runtime.ops.progress import Progress

# An ordinary user's PATH often lacks these, but the programs in them are what is looked for.
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def system_program(name: str) -> Path | None:
    """A program of the system, on PATH or in its `sbin` folders."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *SYSTEM_FOLDERS]))
    return Path(found) if found else None


def package_folder(package: SystemPackage) -> Path | None:
    """The folder that has everything that a package keeps off PATH."""
    for folder in package.folders:
        if all((folder / name).exists() for name in package.folder_names):
            return folder
    return None


def is_present(package: SystemPackage) -> bool:
    """Whether the system has what a package brings, however it was installed."""
    programs = all(system_program(name) for name in package.programs)
    return programs and (not package.folder_names or package_folder(package) is not None)


def installed_version(package: SystemPackage) -> str:
    """The version that the package manager knows; empty where it knows none."""
    if not shutil.which("dpkg-query"):
        return ""
    printed = output_of(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", package.name])
    status, _, version = printed.partition(" ")
    return version.strip() if status == "installed" else ""


def install_packages(
    cache: Cache,
    progress: Progress,
    wanted: Iterable[SystemPackage] = PACKAGES,
    purpose: str = "the embedded site",
) -> None:
    """Installs the packages whose programs are missing.

    Args:
        cache: Cache that keeps the log and the lock.
        progress: Shows the work.
        wanted: The packages.
        purpose: What needs them, for the error.

    Raises:
        ToolError: They cannot be installed here, by this user or at all.
    """
    wanted = tuple(wanted)
    missing = [package.name for package in wanted if not is_present(package)]
    if not missing:
        return
    command = ("apt-get", "install", "-y", "--no-install-recommends", *missing)
    if not shutil.which("apt-get"):
        raise ToolError(
            f"{purpose} needs the programs of {', '.join(missing)} (names of Debian's packages); "
            "install them with this system's package manager"
        )
    if os.geteuid() != 0:
        raise ToolError(f"{purpose} needs packages that only root can install: {' '.join(command)}")
    log = cache.logs / "packages.log"
    with progress.step(f"Debian packages {', '.join(missing)}") as step, cache.locked("packages", step):
        for arguments in (("apt-get", "update"), command):
            run_logged(
                [arguments[0], "-o", "DPkg::Lock::Timeout=300", *arguments[1:]],
                title="installation of Debian packages",
                log=log,
                cwd=Path("/"),
                environment=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
                on_line=lambda line: step.update(line.strip()[:80]),
            )
    still = [package.name for package in wanted if not is_present(package)]
    if still:
        raise ToolError(
            f"after installing them, the programs of {', '.join(still)} are still missing; log: {log}"
        )
