"""The per-user cache: one folder per tool and version, made whole or not at all."""

import fcntl
import hashlib
import json
import os
import platform
import shutil
import stat
import sys
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from rehearsal.tools.catalogue import Tool
from rehearsal.tools.errors import ToolError
from runtime.ops.progress import Step

RECEIPT = "receipt.json"
LOCK_POLL_S = 0.2

_HEX = "[0-9a-f]" * 8
# All that Spillway makes in a cache, by folder: only that is removed, wherever SPILLWAY_CACHE points.
# The locks are the last, and `bin` is from before tools were used where they lie.
_OURS = {
    "bin": (_HEX,),
    "downloads": (f"{_HEX}-*",),
    "go": ("build", "mod", "path"),
    "images": ("layout", ".making-*"),
    "logs": ("*.log",),
    "tools": (f"*-{_HEX}",),
    "locks": ("*",),
}


class Source(StrEnum):
    """Where a tool came from."""

    PATH = "path"
    DOWNLOAD = "download"
    BUILD = "build"
    WHEEL = "wheel"
    PACKAGE = "package"
    VENV = "venv"
    STAND_IN = "stand-in"


class FileRecord(BaseModel):
    """What a file was when it was made; `size` is in bytes."""

    model_config = ConfigDict(frozen=True)

    sha256: str
    size: int


class Receipt(BaseModel):
    """What was made and from where; written last, so a folder without it is half-written.

    Attributes:
        name: The tool.
        version: Its version.
        source: Where it came from.
        detail: Why this source and not an earlier one, and what exactly was taken.
        files: Its files by relative path; of a large tree only some that show whether it is whole.
        seconds: How long it took to make.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    version: str
    source: Source
    detail: str
    files: dict[str, FileRecord]
    seconds: float


@dataclass(frozen=True)
class Made:
    """What the making of a tool says about itself.

    Attributes:
        source: Where the tool came from.
        detail: Why, and what was taken.
        recorded: Glob patterns of the files that the receipt names.
    """

    source: Source
    detail: str
    recorded: tuple[str, ...] = ("**/*",)


@dataclass(frozen=True)
class Cache:
    """Folders of the cache below `root`."""

    root: Path

    @classmethod
    def locate(cls) -> "Cache":
        """The user's cache: $SPILLWAY_CACHE, else `spillway` in $XDG_CACHE_HOME or ~/.cache."""
        chosen = os.environ.get("SPILLWAY_CACHE")
        if chosen:
            return cls(Path(chosen).expanduser().absolute())
        base = os.environ.get("XDG_CACHE_HOME")
        return cls((Path(base) if base else Path.home() / ".cache") / "spillway")

    @property
    def tools(self) -> Path:
        """Finished tools, one folder each."""
        return self.root / "tools"

    @property
    def downloads(self) -> Path:
        """Downloads under way; emptied as tools are finished."""
        return self.root / "downloads"

    @property
    def logs(self) -> Path:
        """Logs of builds and installations."""
        return self.root / "logs"

    @property
    def go(self) -> Path:
        """Go's own caches while builds are under way, unless the user's environment names others."""
        return self.root / "go"

    @property
    def images(self) -> Path:
        """Images that were built, and while that goes on what they are made from."""
        return self.root / "images"

    def folder(self, tool: Tool) -> Path:
        """The folder of a tool; its name changes with everything the tool is made from."""
        return self.tools / f"{tool.name}-{tool.version}-{pins_hash(tool)}"

    def receipt(self, tool: Tool) -> Receipt | None:
        """The receipt of a tool that is there and whole; None where it must be made.

        The check is cheap on purpose: it compares sizes and reads no file but the receipt.
        """
        folder = self.folder(tool)
        try:
            receipt = Receipt.model_validate_json((folder / RECEIPT).read_bytes())
        except (OSError, ValidationError):
            return None
        for name, record in receipt.files.items():
            try:
                if (folder / name).stat().st_size != record.size:
                    return None
            except OSError:
                return None
        # The interpreter is a link to one outside the cache, which may be gone by now.
        if receipt.source is Source.VENV and not (folder / "bin" / "python").exists():
            return None
        return receipt

    def make(self, tool: Tool, fill: Callable[[Path], Made]) -> Receipt:
        """Makes a tool's folder in a temporary sibling and puts it in place when it is whole.

        The caller holds the tool's lock.

        Args:
            tool: The tool.
            fill: Fills the folder that it is given and says what it did.
        """
        started = time.monotonic()
        final = self.folder(tool)
        # The name is fixed, so that what a killed run left is found and removed by the next.
        temporary = final.with_name(f".making-{final.name}")
        remove_tree(temporary)
        temporary.mkdir(parents=True)
        try:
            made = fill(temporary)
            receipt = Receipt(
                name=tool.name,
                version=tool.version,
                source=made.source,
                detail=made.detail,
                files=_records(temporary, made.recorded),
                seconds=round(time.monotonic() - started, 1),
            )
            (temporary / RECEIPT).write_text(receipt.model_dump_json(indent=2) + "\n")
            _open_to_all(temporary)
            remove_tree(final)
            temporary.rename(final)
        except BaseException:
            remove_tree(temporary)
            raise
        return receipt

    @contextmanager
    def locked(self, name: str, step: Step | None = None) -> Generator[None]:
        """Holds the lock of that name; while another process holds it, the step says so.

        Args:
            name: What is locked, usually a tool.
            step: The step that waits.
        """
        folder = self.root / "locks"
        before = step.detail if step else ""
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / name).open("a+") as file:
                while True:
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        file.seek(0)
                        if step:
                            step.update(f"waiting for process {file.read() or '?'}, which holds {name}")
                        time.sleep(LOCK_POLL_S)
                file.truncate(0)
                file.write(str(os.getpid()))
                file.flush()
                if not _is_open_at(file.fileno(), folder / name):
                    continue  # The cache was cleaned meanwhile: nobody else would see this lock.
                if step:
                    step.update(before)
                # Closing the file frees the lock, and so does the death of this process.
                yield
                return

    def clean(self) -> int:
        """Removes what Spillway made in the cache and returns how many bytes that freed.

        Raises:
            ToolError: The configured folder holds more than a cache can, or the cache is in use.
        """
        root = self.root.resolve()
        for precious in (Path.home(), Path.cwd(), Path(__file__)):
            if precious.resolve().is_relative_to(root):
                raise ToolError(
                    f"the cache folder {root} has {precious} in it; "
                    "SPILLWAY_CACHE must name a folder of its own"
                )
        with ExitStack() as held:
            busy = self._running()
            for path in sorted(path for path in root.glob("locks/*") if path.is_file()):
                file = held.enter_context(path.open())
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    busy.append(f"process {file.read() or '?'} makes {path.name}")
            if busy:
                raise ToolError(
                    f"the cache {root} is in use: {', '.join(busy)}; stop the site with `make down`, "
                    "wait for builds, then clean"
                )
            ours = [
                path
                for name, patterns in _OURS.items()
                for pattern in patterns
                for path in root.glob(f"{name}/{pattern}")
            ]
            freed = freed_bytes(ours)
            for path in ours:
                if path.is_dir() and not path.is_symlink():
                    remove_tree(path)
                else:
                    path.unlink(missing_ok=True)
        for folder in (*(root / name for name in _OURS), root):
            # What somebody else put there stays.
            with suppress(OSError):
                folder.rmdir()
        return freed

    def _running(self) -> list[str]:
        """The processes that run programs of this cache, a few of them by name."""
        root = self.root.resolve()
        found = list[str]()
        for process in psutil.process_iter(["exe", "name"]):
            # An environment's Python is a link to one outside, so what was called counts too.
            called: list[str] = []
            with suppress(psutil.Error):
                called = process.cmdline()[:1]
            programs = [Path(name) for name in (process.info["exe"], *called) if name]
            if any(path.is_relative_to(base) for path in programs for base in (root, self.root)):
                found.append(f"process {process.pid} runs {process.info['name']}")
        return [*found[:3], *([f"{len(found) - 3} more processes"] if len(found) > 3 else [])]


def pins_hash(tool: Tool) -> str:
    """Eight hex digits over everything that decides what a tool's folder holds."""
    digest = hashlib.sha256()
    facts: list[object] = [tool.name, tool.version, platform.machine()]
    folders: list[Path] = []
    if tool.build:
        build = tool.build
        facts += [build.packages, build.programs, build.ldflags, repr(build.inputs), repr(build.outputs)]
        folders.append(build.pins)
    if tool.wheel:
        facts += [tool.wheel.package, tool.wheel.sha256, sorted(tool.wheel.files.items())]
    if tool.venv:
        facts += [tool.venv.flags, sorted(tool.venv.aliases.items()), sys.version_info[:2]]
        folders.append(tool.venv.pins)
    digest.update(json.dumps(facts).encode())
    for folder in folders:
        for path in sorted(folder.iterdir()):
            if path.is_file():
                digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:8]


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _records(folder: Path, patterns: tuple[str, ...]) -> dict[str, FileRecord]:
    paths = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return {
        str(path.relative_to(folder)): FileRecord(sha256=file_sha256(path), size=path.stat().st_size)
        for path in sorted(paths)
    }


def _open_to_all(folder: Path) -> None:
    """Lets every user read a tool, whatever its sources allowed: pods run as other users."""
    for parent, _, names in os.walk(folder):
        for path in (Path(parent), *(Path(parent, name) for name in names)):
            mode = path.lstat().st_mode
            wanted = 0o555 if mode & stat.S_IXUSR else 0o444
            if not stat.S_ISLNK(mode) and mode & wanted != wanted:
                path.chmod(stat.S_IMODE(mode) | wanted)


@contextmanager
def readable_by_all() -> Generator[None]:
    """Has this process and its children make files that other users can read and run."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def _is_open_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def remove_tree(path: Path) -> None:
    """Removes a folder that may hold read-only folders, as Go's module cache does."""
    # Another process may remove it at the same time.
    with suppress(FileNotFoundError):
        for folder, _, _ in os.walk(path):
            mode = Path(folder).stat().st_mode
            if not mode & stat.S_IWUSR:
                Path(folder).chmod(mode | stat.S_IRWXU)
        shutil.rmtree(path)


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(
        (Path(parent) / name).lstat().st_size for parent, _, names in os.walk(folder) for name in names
    )


def freed_bytes(paths: Iterable[Path]) -> int:
    """Bytes on disk that removing files and folders frees; files linked from elsewhere do not count."""
    seen: dict[tuple[int, int], tuple[int, int, int]] = {}
    for path in paths:
        below = (Path(parent, name) for parent, _, names in os.walk(path) for name in names)
        for file in below if path.is_dir() else (path,):
            facts = file.lstat()
            key = (facts.st_dev, facts.st_ino)
            count = seen[key][0] if key in seen else 0
            seen[key] = (count + 1, facts.st_nlink, facts.st_blocks * 512)
    return sum(size for count, links, size in seen.values() if count >= links)
