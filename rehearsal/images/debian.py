"""Debian's files: a whole system by debootstrap, of which images take those of the packages they list."""

import os
import re
import shutil
import stat
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from rehearsal.images.recipes import DEBIAN, PackageList
from rehearsal.tools.errors import ToolError
from rehearsal.tools.process import output_of, run_logged
from runtime.ops.progress import Step

MIRROR = "DEBIAN_MIRROR"
KEYRING = "debian-archive-keyring.gpg"
_TARGETS = "$(LABEL)|$(REPO_URI)"
# What nobody reads in a container; licences stay. `gconv` converts character sets that nothing here uses.
_LEFT_OUT = re.compile(
    r"usr/share/(man|info|lintian|locale|bash-completion|base-files|dict|pixmaps|applications)(/|$)"
    r"|usr/share/doc/[^/]+/(?!copyright$)"
    r"|usr/(include|src|games)(/|$)"
    r"|usr/lib/[^/]+/gconv(/|$)"
    r"|usr/sbin/.|etc/(update-motd\.d|profile\.d|skel)(/|$)"
)


@dataclass(frozen=True)
class Archive:
    """Where Debian's packages come from: the archive and its security updates."""

    main: str
    security: str


def find_archive(log: Path) -> Archive | None:
    """The archive that DEBIAN_MIRROR names, else the one that this machine's apt uses, if there is one.

    Args:
        log: Log for what apt prints.

    Raises:
        ToolError: Apt cannot read the archives that it is told to use.
    """
    command, named = ("apt-get", "indextargets", "--format", _TARGETS), os.environ.get(MIRROR)
    found = archive_of(output_of(command), named)
    if found or not shutil.which("apt-get"):
        return found
    # Labels are in what an update fetches, and images of containers often come without that.
    run_logged(
        ["apt-get", "-o", "DPkg::Lock::Timeout=300", "update"],
        title="update of apt's lists",
        log=log,
        cwd=Path("/"),
        environment=os.environ,
    )
    return archive_of(output_of(command), named)


def archive_of(targets: str, named: str | None) -> Archive | None:
    """Picks Debian's own archives out of what apt says.

    Args:
        targets: One line a source, `LABEL|ADDRESS`; the label is what the archive's signed release file says.
        named: Address that was asked for, which comes first.
    """
    if named:
        return _beside(named)
    found: dict[str, str] = {}
    for line in targets.splitlines():
        label, _, address = line.partition("|")
        if re.match(r"(https?|file):", address):
            found.setdefault(label, address.rstrip("/"))
    if "Debian" not in found:
        return None
    return Archive(found["Debian"], found.get("Debian-Security") or _beside(found["Debian"]).security)


def _beside(address: str) -> Archive:
    """An archive with its security updates where Debian's mirrors have them."""
    return Archive(address.rstrip("/"), f"{address.rstrip('/')}-security")


def make_system(root: Path, archive: Archive | None, packages: Iterable[str], log: Path, step: Step) -> None:
    """Makes a whole Debian with all updates in a folder; the images take their files from it.

    Args:
        root: A folder that does not exist yet.
        archive: Where packages come from; None leaves that to debootstrap, which knows Debian's own.
        packages: Packages that must be in it.
        log: Log for the output.
        step: Shown what is done.

    Raises:
        ToolError: The archive cannot be reached, or a package cannot be had.
    """
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    mirror = [archive.main] if archive else []
    origin = archive.main if archive else "debootstrap's own mirror"

    def run(*command: str | Path) -> None:
        run_logged(
            # Of its own mounts, so that /proc does not stay mounted when this is killed.
            ["unshare", "--mount", *command],
            title=f"making of a Debian {DEBIAN} from {origin} (another: make images {MIRROR}=ADDRESS)",
            log=log,
            cwd=root.parent,
            environment=environment,
            on_line=lambda line: step.update(line.removeprefix("I: ").strip()[:80]),
        )

    keyring = Path("/usr/share/keyrings") / KEYRING
    signed = (f"--keyring={keyring}", "--force-check-gpg")
    run("debootstrap", "--variant=minbase", *signed, DEBIAN, root, *mirror)
    sources = root / "etc/apt/sources.list"
    sources.write_text(render_sources(archive or written_archive(sources.read_text())))
    run("chroot", root, "apt-get", "update")
    # debootstrap knows only the release itself, without its updates.
    run("chroot", root, "apt-get", "--yes", "--no-install-recommends", "dist-upgrade")
    run("chroot", root, "apt-get", "--yes", "--no-install-recommends", "install", *sorted(packages))
    step.update(debian_version(root))


def written_archive(sources: str) -> Archive:
    """The archive that debootstrap chose, from the sources that it wrote.

    Raises:
        ToolError: It wrote none.
    """
    found = re.search(r"^deb (\S+) ", sources, re.MULTILINE)
    if not found:
        raise ToolError(f"debootstrap names no archive; name one: make images {MIRROR}=ADDRESS")
    return _beside(found[1])


def render_sources(archive: Archive) -> str:
    """The sources of a release with its updates and security updates."""
    return "".join(
        f"deb {address} {suite} main\n"
        for address, suite in (
            (archive.main, DEBIAN),
            (archive.main, f"{DEBIAN}-updates"),
            (archive.security, f"{DEBIAN}-security"),
        )
    )


def pack(root: Path, wanted: PackageList, archive: Path, epoch: int) -> None:
    """Packs the files of some packages, in order and without anything that differs between two builds.

    Args:
        root: The system.
        wanted: What to take.
        archive: The tar archive to write.
        epoch: Time that all files get, in seconds since 1970.

    Raises:
        ToolError: A package is not in the system, or its files are not where it says.
    """
    root = root.resolve()
    paths = {
        path for name in wanted.packages for path in listed_files(root, name) if not _LEFT_OUT.match(path)
    }
    for folder in wanted.folders:
        below = (root / folder).rglob("*")
        paths |= {folder, *(str(path.relative_to(root)) for path in below)}
    stanzas = _stanzas((root / "var/lib/dpkg/status").read_text())
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(paths):
            source = root / path
            if source.parent.resolve() != source.parent:
                # Unpacked over the base, a folder would take the place of the link.
                raise ToolError(
                    f"/{path} of Debian's packages lies below a link, and images cannot hold it so"
                )
            entry = tar.gettarinfo(source, path)
            _make_plain(entry, epoch)
            if entry.isreg():
                with source.open("rb") as file:
                    tar.addfile(entry, file)
            else:
                tar.addfile(entry)
        # Where scanners look for packages in an image without dpkg; the convention is distroless'.
        for name in sorted(wanted.packages):
            entry = tarfile.TarInfo(f"var/lib/dpkg/status.d/{name}")
            content = stanzas[name].encode()
            entry.size = len(content)
            _make_plain(entry, epoch)
            tar.addfile(entry, BytesIO(content))


def listed_files(root: Path, package: str) -> list[str]:
    """The paths that a package has brought, without a leading slash.

    Raises:
        ToolError: The system does not have it.
    """
    folder = root / "var/lib/dpkg/info"
    found = [*folder.glob(f"{package}.list"), *folder.glob(f"{package}:*.list")]
    if len(found) != 1:
        raise ToolError(f"Debian {DEBIAN} has no package {package} installed; mend images/*/packages")
    paths = (line.strip().lstrip("/") for line in found[0].read_text().splitlines())
    return [path for path in paths if path not in {"", "."}]


def debian_version(root: Path) -> str:
    """The system's point release, such as 13.2."""
    return (root / "etc/debian_version").read_text().strip()


def _stanzas(status: str) -> Mapping[str, str]:
    """What dpkg knows of each package, by name."""
    blocks = (block.strip() + "\n" for block in status.split("\n\n") if block.strip())
    return {block.partition("\n")[0].removeprefix("Package: "): block for block in blocks}


def _make_plain(entry: tarfile.TarInfo, epoch: int) -> None:
    """No names of this machine's users, no time of its own, and nothing that gives a program more rights."""
    entry.uname = entry.gname = ""
    entry.mtime = epoch
    entry.mode &= ~(stat.S_ISUID | stat.S_ISGID)


def copy_plainly(source: Path, target: Path) -> None:
    """Copies a file or a folder with the same permissions whatever the user's umask was at check-out."""
    if source.is_dir():
        target.mkdir(exist_ok=True)
        for path in sorted(source.iterdir()):
            copy_plainly(path, target / path.name)
    else:
        shutil.copyfile(source, target)
        with target.open("rb") as file:
            program = file.read(4) == b"\x7fELF"
        target.chmod(0o755 if program else 0o644)
