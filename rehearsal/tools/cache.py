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
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from rehearsal.tools.catalogue import Tool
from rehearsal.tools.errors import ToolError
from runtime.ops.progress import Step

RECEIPT = "receipt.json"
LOCK_POLL_S = 0.2


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
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("a+") as file:
            before = step.detail if step else ""
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    file.seek(0)
                    if step:
                        step.update(f"waiting for process {file.read() or '?'}, which holds {name}")
                    time.sleep(LOCK_POLL_S)
            if step:
                step.update(before)
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            # Closing the file frees the lock, and so does the death of this process.
            yield

    def clean(self) -> int:
        """Removes the whole cache and returns how many bytes that freed.

        Raises:
            ToolError: The configured folder holds more than a cache can.
        """
        root = self.root.resolve()
        for precious in (Path.home(), Path.cwd(), Path(__file__)):
            if precious.resolve().is_relative_to(root):
                raise ToolError(
                    f"the cache folder {root} has {precious} in it; "
                    "SPILLWAY_CACHE must name a folder of its own"
                )
        freed = freed_bytes(root)
        remove_tree(root)
        return freed


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


def remove_tree(path: Path) -> None:
    """Removes a folder that may hold read-only folders, as Go's module cache does."""
    if not path.exists():
        return
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


def freed_bytes(folder: Path) -> int:
    """Bytes on disk that removing a folder frees; files linked from elsewhere do not count."""
    seen: dict[tuple[int, int], tuple[int, int, int]] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            facts = (Path(parent) / name).lstat()
            key = (facts.st_dev, facts.st_ino)
            count = seen[key][0] if key in seen else 0
            seen[key] = (count + 1, facts.st_nlink, facts.st_blocks * 512)
    return sum(size for count, links, size in seen.values() if count >= links)
