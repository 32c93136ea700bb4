"""Builds from Go modules, with Go's own caches in ours."""

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from rehearsal.tools.cache import Cache, Made, Source, remove_tree
from rehearsal.tools.catalogue import GO_FLOOR, GoBuild, ModuleFiles, Tool
from rehearsal.tools.errors import ToolError
from rehearsal.tools.process import output_of, run_logged
from runtime.ops.progress import Step

# What the user's shell may say about other Go work, and what would change these builds.
FOREIGN = frozenset(
    ["GO111MODULE", "GOARCH", "GOBIN", "GOEXPERIMENT", "GOFLAGS", "GOOS", "GOTOOLCHAIN", "GOWORK"]
)


@dataclass(frozen=True)
class Go:
    """A Go toolchain and where it keeps its caches."""

    program: Path
    cache: Cache
    from_wheel: bool = False

    def environment(self) -> dict[str, str]:
        """The environment of every Go command here."""
        found = {key: value for key, value in os.environ.items() if key not in FOREIGN}
        if self.from_wheel:
            found.pop("GOROOT", None)
        for name, folder in own_caches(self.cache).items():
            found[name] = str(folder)
            found.setdefault("GOPATH", str(self.cache.go / "path"))
        # -trimpath makes what is built the same wherever it is built, and so lets it be found again.
        found |= {
            "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false",
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
            "CGO_ENABLED": "0",
        }
        return found

    def build(self, tool: Tool, build: GoBuild, target: Path, step: Step, why: str) -> Made:
        """Builds a tool into a folder.

        Args:
            tool: The tool.
            build: How it is built.
            target: Folder for its programs and files.
            step: Shown how far the build is.
            why: Why no earlier source served.

        Raises:
            ToolError: The build failed; the message has the end of the log and its path.
        """
        log = self.cache.logs / f"{tool.name}-{tool.version}.log"
        log.unlink(missing_ok=True)
        work = target / ".build"
        shutil.copytree(build.pins, work)
        for files in build.inputs:
            self._run(("mod", "download", files.module), tool, work, log, step)
            self._lay(files, tool, work, work)
        # Several main packages go into a folder under their own names; one gets the name it is given.
        out = str(target / build.programs[0]) if len(build.programs) == 1 else f"{target}{os.sep}"
        arguments = ("build", "-v", "-ldflags", build.ldflags, "-o", out, *build.packages)
        self._run(arguments, tool, work, log, step)
        for files in build.outputs:
            self._lay(files, tool, work, target)
        remove_tree(work)
        detail = f"{why}; {self._version()}" if why else self._version()
        return Made(Source.BUILD, detail)

    def _version(self) -> str:
        return output_of([self.program, "env", "GOVERSION"], environment=self.environment()).strip()

    def _run(self, arguments: tuple[str, ...], tool: Tool, work: Path, log: Path, step: Step) -> None:
        run_logged(
            [self.program, *arguments],
            title=f"build of {tool.title}",
            log=log,
            cwd=work,
            environment=self.environment(),
            on_line=_counter(step),
        )

    def _lay(self, files: ModuleFiles, tool: Tool, work: Path, target: Path) -> None:
        """Copies files of a module that the build has brought into the module cache."""
        printed = output_of(
            [self.program, "list", "-m", "-f", "{{.Dir}}", files.module],
            cwd=work,
            environment=self.environment(),
        )
        module = Path(printed.strip() or os.devnull)
        found: list[Path] = []
        for pattern in files.patterns:
            matching = sorted(module.glob(pattern))
            if not matching:
                raise ToolError(f"{tool.title}: the module {files.module} has no {pattern} (in {module})")
            found += matching
        into = target / files.into
        if files.join:
            into.write_text("\n---\n".join(path.read_text().strip() for path in found) + "\n")
            return
        into.mkdir(parents=True, exist_ok=True)
        for path in found:
            # The module cache is read-only; copies are the user's own, runnable where the name says so.
            copy = into / path.name
            copy.write_bytes(path.read_bytes())
            copy.chmod(0o644 if path.suffix else 0o755)
            if files.json_version:
                document = cast("dict[str, object]", json.loads(copy.read_bytes()))
                copy.write_text(json.dumps(document | {"version": tool.version}))


def _counter(step: Step) -> Callable[[str], None]:
    """Shows how many packages were compiled and modules downloaded: `go build -v` names each."""
    compiled = 0
    downloaded = 0

    def count(line: str) -> None:
        nonlocal compiled, downloaded
        if line.startswith("go: downloading "):
            downloaded += 1
        elif re.fullmatch(r"[\w./~@-]+", line):
            compiled += 1
        step.update(f"build: {compiled} packages compiled, {downloaded} modules downloaded")

    return count


def go_on_path() -> Path | None:
    """The Go on PATH when it is new enough for the pinned modules."""
    found = shutil.which("go")
    if not found:
        return None
    environment = os.environ | {"GOTOOLCHAIN": "local"}
    version = re.match(r"go(\d+)\.(\d+)", output_of([found, "env", "GOVERSION"], environment=environment))
    if version and (int(version[1]), int(version[2])) >= GO_FLOOR:
        return Path(found)
    return None


def own_caches(cache: Cache) -> dict[str, Path]:
    """Go's caches that are ours to fill and to remove, by the variable that names each."""
    ours = {"GOCACHE": cache.go / "build", "GOMODCACHE": cache.go / "mod"}
    return {name: folder for name, folder in ours.items() if not os.environ.get(name)}
