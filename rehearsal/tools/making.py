"""Gets every tool from the first of its sources that serves."""

import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from rehearsal.tools.cache import Cache, Made, Receipt, Source, readable_by_all, remove_tree
from rehearsal.tools.catalogue import GO_TOOL, PACKAGES, Group, Tool, VersionQuestion, tools_of
from rehearsal.tools.errors import ToolError
from rehearsal.tools.fetch import Fetcher, Hosts, NoDownload
from rehearsal.tools.gobuild import Go, go_on_path, own_caches
from rehearsal.tools.packages import install_packages
from rehearsal.tools.process import output_of
from rehearsal.tools.serving import install_venv
from rehearsal.tools.toolbox import Toolbox
from rehearsal.tools.wheels import install_wheel
from runtime.ops.progress import Progress, Step

PARALLEL_DOWNLOADS = 4
# Pulumi's own programs that are scripts and need nothing beside them; any other script may.
SCRIPTS = frozenset(["pulumi-language-python-exec", "pulumi-resource-pulumi-python"])


@readable_by_all()
def ensure(groups: Iterable[str], progress: Progress) -> Toolbox:
    """Makes whatever is missing of some groups of tools; does nothing when all is there.

    Several processes may do this at once: each tool is made by one of them, and the others wait.
    After Ctrl-C the next call goes on where this one stopped.

    Args:
        groups: Names of groups: `pulumi`, `site`, `serving`.
        progress: Shows the work.

    Raises:
        ToolError: A tool cannot be had; the message says why.
    """
    groups = tuple(groups)
    tools = tools_of(groups)
    packages = PACKAGES if Group.SITE in groups else ()
    cache = Cache.locate()
    install_packages(cache, progress, packages)
    receipts = Maker(cache, progress).make(tools)
    return Toolbox(cache, receipts, tools, packages)


@dataclass
class Maker:
    """Makes tools in a cache.

    Attributes:
        cache: Where they go.
        progress: Shows the work.
        hosts: Which hosts answer.
    """

    cache: Cache
    progress: Progress
    hosts: Hosts = field(default_factory=Hosts)

    @readable_by_all()
    def make(self, tools: Sequence[Tool]) -> dict[str, Receipt]:
        """Makes the tools that are missing and returns the receipts of all, by name.

        Raises:
            ToolError: A tool cannot be had.
        """
        receipts = {tool.name: self.cache.receipt(tool) for tool in tools}
        missing = [tool for tool in tools if not receipts[tool.name]]
        reasons: dict[str, str] = {}
        if missing:
            receipts |= self._fetch(missing, reasons)
        # One after another: a single Go build keeps every core busy and takes gigabytes of memory.
        for tool in missing:
            if not receipts[tool.name]:
                receipts[tool.name] = self._locally(tool, reasons.get(tool.name, ""))
        self._remove_go_caches()
        return {name: receipt for name, receipt in receipts.items() if receipt}

    def _fetch(self, tools: Sequence[Tool], reasons: dict[str, str]) -> dict[str, Receipt | None]:
        """Tries PATH and the publishers' downloads for all tools at once."""
        fetcher = Fetcher(self.cache.downloads, self.hosts, threading.Event())
        with ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool:
            try:
                running = {tool.name: pool.submit(self._online, tool, fetcher, reasons) for tool in tools}
                done, _ = wait(running.values(), return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()  # Raises what failed, and that stops the others.
                return {name: future.result() for name, future in running.items()}
            except BaseException:
                fetcher.stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _online(self, tool: Tool, fetcher: Fetcher, reasons: dict[str, str]) -> Receipt | None:
        notes = list[str]()
        programs = programs_on_path(tool, notes, ignored=self.cache.root)
        refusal = fetcher.refusal(tool.artifacts) if tool.artifacts else None
        if refusal:
            notes.append(refusal)
        elif tool.build and not tool.artifacts:
            notes.append("no download with a checksum is published")
        reasons[tool.name] = "; ".join(notes)
        if not programs and (refusal or not tool.artifacts):
            return None
        with self.progress.step(tool.title) as step, self.cache.locked(tool.name, step):
            if receipt := self.cache.receipt(tool):
                return receipt
            if programs:
                return self.cache.make(tool, lambda folder: _copy(programs, folder))

            def download(folder: Path) -> Made:
                taken = [fetcher.install(artifact, folder, step) for artifact in tool.artifacts]
                check_version(tool, folder)
                return Made(Source.DOWNLOAD, "; ".join([*notes, *taken]))

            try:
                return self.cache.make(tool, download)
            except NoDownload as refused:
                reasons[tool.name] = "; ".join([*notes, str(refused)])
                step.update(f"no download: {refused}")
                return None

    def _locally(self, tool: Tool, why: str) -> Receipt:
        """Makes a tool without its publisher's downloads."""
        with self.progress.step(tool.title) as step, self.cache.locked(tool.name, step):
            if receipt := self.cache.receipt(tool):
                return receipt
            if tool.build:
                go = self._go()
                # Held by whoever builds, in whatever process: nobody removes its caches meanwhile.
                with self.cache.locked("go-caches", step):
                    return self.cache.make(tool, self._filler(tool, step, why, go))
            return self.cache.make(tool, self._filler(tool, step, why, None))

    def _filler(self, tool: Tool, step: Step, why: str, go: Go | None) -> Callable[[Path], Made]:
        log = self.cache.logs / f"{tool.name}-{tool.version}.log"

        def fill(folder: Path) -> Made:
            if tool.wheel:
                step.update("wheel")
                made = install_wheel(tool, tool.wheel, folder, log, why)
            elif tool.venv:
                made = install_venv(tool, tool.venv, folder, log, step)
            elif tool.build and go:
                step.update("build")
                made = go.build(tool, tool.build, folder, step, why)
            elif tool.stand_ins:
                made = Made(Source.STAND_IN, f"{why}; rehearsal.plugins does its work")
            else:
                raise ToolError(f"{tool.title} cannot be had: {why or 'it has no source'}")
            check_version(tool, folder)
            return made

        return fill

    def _go(self) -> Go:
        found = go_on_path()
        if found:
            return Go(found, self.cache)
        if not self.cache.receipt(GO_TOOL):
            self._locally(GO_TOOL, "no recent Go on PATH")
        return Go(self.cache.folder(GO_TOOL) / "go" / "bin" / "go", self.cache, from_wheel=True)

    def _remove_go_caches(self) -> None:
        """Removes Go's caches, gigabytes that only a build needs; the caller has all it asked for."""
        folders = own_caches(self.cache).values()
        if not any(folder.exists() for folder in folders):
            return
        with self.progress.step("removing Go's caches") as step, self.cache.locked("go-caches", step):
            for folder in folders:
                remove_tree(folder)
            # Who held the lock before may have removed it already; Go's other folders stay.
            with suppress(OSError):
                self.cache.go.rmdir()


def programs_on_path(tool: Tool, notes: list[str], ignored: Path) -> dict[str, Path]:
    """The tool's programs on PATH, when they are all in one folder and of exactly its version.

    Args:
        tool: The tool.
        notes: Gets the reason why a program that was found is not used.
        ignored: A folder whose programs do not count: our own cache, which may hold the same version made
            from other pins. Those in a clone's workspace, which come from a cache, do not count either.
    """
    if not tool.question or not tool.from_path:
        return {}
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    each = (shutil.which(tool.question.programs[0], path=folder) for folder in folders)
    first = next((found for found in each if found and not _is_ours(Path(found), ignored)), None)
    if not first:
        return {}
    real = Path(first).resolve()
    for name in tool.question.programs:
        path = real.with_name(name)
        if not _is_executable_binary(path):
            # A version manager's shim is a script that needs its own folder; a copy would not work.
            notes.append(f"{first} on PATH is not taken: {path} is no binary")
            return {}
        found = version_of(path, tool.question)
        if found != tool.version:
            notes.append(f"{first} on PATH is version {found or 'unknown'}")
            return {}
    programs = {name: real.with_name(name) for name in tool.programs}
    absent = [name for name, path in programs.items() if not path.is_file() or _is_ours(path, ignored)]
    if absent:
        notes.append(f"{first} on PATH lacks {', '.join(absent)} beside it")
        return {}
    for name, path in programs.items():
        if name not in SCRIPTS and not _is_executable_binary(path):
            notes.append(f"{first} on PATH is not taken: {path} is no binary")
            return {}
    return programs


def version_of(program: Path, question: VersionQuestion) -> str | None:
    """The version that a program reports; None when it reports none."""
    match = re.search(question.pattern, output_of([program, *question.arguments]), re.MULTILINE)
    return match[1] if match else None


def check_version(tool: Tool, folder: Path) -> None:
    """Asks freshly made programs for their version.

    Raises:
        ToolError: One reports another version than the catalogue's.
    """
    if not tool.question:
        return
    for name in tool.question.programs:
        found = version_of(folder / name, tool.question)
        if found != tool.version:
            raise ToolError(f"{name} was made as {tool.version} but reports {found or 'no version'}")


def _is_ours(program: Path, cache: Path) -> bool:
    """Whether a program, or what it links to, lies in the cache or in the workspace of a clone."""
    return any(
        path.is_relative_to(folder) or (".venv", "spillway") in pairwise(path.parts)
        for path in (program.absolute(), program.resolve())
        for folder in (cache, cache.resolve())
    )


def _is_executable_binary(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


def _copy(programs: dict[str, Path], folder: Path) -> Made:
    """Copies programs, so that the cache's stay when the system's are updated."""
    for name, path in programs.items():
        shutil.copy2(path, folder / name)
    return Made(Source.PATH, ", ".join(sorted({str(path.parent) for path in programs.values()})))
