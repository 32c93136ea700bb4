"""The Python language host in process, with real child processes but no engine and no network."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import grpc  # pyright: ignore[reportMissingTypeStubs]
import psutil
import pytest
from google.protobuf import empty_pb2, json_format, struct_pb2
from pulumi.runtime.proto import analyzer_pb2, analyzer_pb2_grpc, language_pb2, plugin_pb2

from rehearsal.plugins import EXEC_SCRIPT, MODULES, inspect_environment
from rehearsal.plugins.environments import PythonEnvironment, UnusableEnvironmentError
from rehearsal.plugins.language_host import LanguageHost
from rehearsal.plugins.launchers import write_launchers
from tests.support.waiting import wait_until

ENGINE = "127.0.0.1:1"


class RefusedError(Exception):
    """The plugin ended the call with an error."""


class OneCall:
    """The part of a gRPC call that the plugins use; `end` is what the engine's cancellation does."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[], None]] = []

    def abort(self, code: Any, details: str) -> NoReturn:
        raise RefusedError(details)

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self.callbacks.append(callback)
        return True

    def end(self) -> None:
        for callback in self.callbacks:
            callback()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose virtual environment is the one that runs these tests."""
    folder = tmp_path / "a project"
    folder.mkdir()
    (folder / "venv" / "bin").mkdir(parents=True)
    (folder / "venv" / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (folder / "venv" / "bin" / "python").chmod(0o755)
    return folder


@pytest.fixture
def host(tmp_path: Path) -> Iterator[LanguageHost]:
    """A host whose script, in place of the SDK's, prints what it was given and runs the program."""
    script = tmp_path / EXEC_SCRIPT
    script.write_text(
        textwrap.dedent("""
            import json, os, runpy, sys
            seen = {"arguments": sys.argv[1:], "cwd": os.getcwd(), "environment": dict(os.environ)}
            with open(os.environ["SEEN"], "w") as f:
                json.dump(seen, f)
            runpy.run_path(os.environ["PROGRAM"], run_name="__main__")
        """)
    )
    host = LanguageHost(ENGINE, script)
    yield host
    host.children.kill_all()


def info(folder: Path, main: str = ".", **options: Any) -> language_pb2.ProgramInfo:
    struct = struct_pb2.Struct()
    struct.update(options)
    return language_pb2.ProgramInfo(
        root_directory=str(folder),
        program_directory=str(folder / main),
        entry_point=".",
        options=struct,
    )


def run(
    host: LanguageHost,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    call: OneCall | None = None,
    **request: Any,
) -> language_pb2.RunResponse:
    (folder / "__main__.py").write_text(program)
    monkeypatch.setenv("SEEN", str(folder / "seen.json"))
    monkeypatch.setenv("PROGRAM", str(folder / "__main__.py"))
    run_request = language_pb2.RunRequest(info=info(folder, virtualenv="venv"), pwd=str(folder), **request)
    return host.Run(run_request, call or OneCall())


def required_packages(host: LanguageHost, folder: Path) -> dict[str, plugin_pb2.PackageDependency]:
    request = language_pb2.GetRequiredPackagesRequest(info=info(folder, virtualenv="venv"))
    # The cast: the SDK's stubs name their neighbours by a path that is not there.
    answer: Any = host.GetRequiredPackages(request, OneCall())
    return {package.name: package for package in answer.packages}


def seen(project: Path) -> dict[str, Any]:
    return json.loads((project / "seen.json").read_text())


def flags(arguments: list[str]) -> dict[str, str]:
    return dict(zip(arguments[:-1:2], arguments[1:-1:2], strict=True))


# --- Run


def test_the_script_gets_what_the_engine_said(
    host: LanguageHost, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = run(
        host,
        project,
        monkeypatch,
        "",
        monitor_address="127.0.0.1:2",
        project="demo",
        stack="dev",
        organization="acme",
        dryRun=True,
        parallel=7,
        config={"demo:size": "3"},
        configSecretKeys=["demo:key"],
    )
    assert (answer.error, answer.bail) == ("", False)
    given = seen(project)
    assert given["arguments"][-1] == str(project)
    assert flags(given["arguments"]) == {
        "--monitor": "127.0.0.1:2",
        "--engine": ENGINE,
        "--project": "demo",
        "--root_directory": str(project),
        "--stack": "dev",
        "--pwd": str(project),
        "--dry_run": "true",
        "--parallel": "7",
        "--organization": "acme",
    }
    assert given["cwd"] == str(project)
    assert json.loads(given["environment"]["PULUMI_CONFIG"]) == {"demo:size": "3"}
    assert json.loads(given["environment"]["PULUMI_CONFIG_SECRET_KEYS"]) == ["demo:key"]


def test_a_program_runs_with_its_virtual_environment_activated(
    host: LanguageHost, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", "/another")
    run(host, project, monkeypatch, "")
    environment = seen(project)["environment"]
    assert environment["VIRTUAL_ENV"] == str(project / "venv")
    assert environment["PATH"].split(os.pathsep)[0] == str(project / "venv" / "bin")


def test_what_a_program_prints_comes_out_of_the_host_as_it_was_printed(
    host: LanguageHost, project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run(host, project, monkeypatch, "import sys; print('to out'); print('to err', file=sys.stderr)")
    assert capfd.readouterr() == ("to out\n", "to err\n")


def test_a_program_that_has_shown_its_error_bails_without_another_message(
    host: LanguageHost, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = run(host, project, monkeypatch, "import sys; sys.exit(32)")
    assert (answer.error, answer.bail) == ("", True)


def test_a_program_that_fails_is_an_error_with_its_status(
    host: LanguageHost, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = run(host, project, monkeypatch, "import sys; sys.exit(3)")
    assert (answer.error, answer.bail) == ("Program exited with non-zero exit code: 3", False)


def test_a_program_that_is_killed_is_an_error_with_the_signal(
    host: LanguageHost, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = run(host, project, monkeypatch, "import os; os.kill(os.getpid(), 9)")
    assert answer.error == "Program was ended by SIGKILL"


@pytest.mark.parametrize("last_words", ["", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"])
def test_cancelling_the_call_ends_the_program_even_if_it_does_not_listen(
    host: LanguageHost, project: Path, monkeypatch: pytest.MonkeyPatch, last_words: str
) -> None:
    host.children.grace_s = 0.3
    call, ready = OneCall(), project / "ready"
    program = (
        f"import pathlib, signal, time\n{last_words}\npathlib.Path({str(ready)!r}).touch()\ntime.sleep(600)"
    )
    answers: list[language_pb2.RunResponse] = []
    thread = threading.Thread(
        target=lambda: answers.append(run(host, project, monkeypatch, program, call)), daemon=True
    )
    thread.start()
    wait_until(ready.exists, "the program runs")
    call.end()
    thread.join(60)
    assert answers[0].error == f"Program was ended by {'SIGKILL' if last_words else 'SIGTERM'}"


def test_a_debugger_is_refused_with_a_reason(
    host: LanguageHost, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RefusedError, match="--attach-debugger is not served by this"):
        run(host, project, monkeypatch, "", attach_debugger=True)


# --- environments


def test_a_missing_virtual_environment_is_one_error_with_the_folder_and_what_to_do(
    host: LanguageHost, tmp_path: Path
) -> None:
    (tmp_path / "Makefile").touch()
    (tmp_path / "stacks").mkdir()
    request = language_pb2.GetRequiredPackagesRequest(info=info(tmp_path / "stacks", virtualenv=".venv"))
    with pytest.raises(RefusedError) as refused:
        host.GetRequiredPackages(request, OneCall())
    assert str(refused.value) == (
        f"runtime.options.virtualenv: '.venv': the folder {tmp_path}/stacks/.venv does not exist. "
        f"Run `make setup` in {tmp_path} to make it."
    )


def test_a_folder_without_a_python_is_not_a_virtual_environment(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    with pytest.raises(UnusableEnvironmentError, match="env is not a virtual environment"):
        PythonEnvironment.find({"virtualenv": "env"}, tmp_path, tmp_path)


def make_environment(folder: Path) -> None:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").touch()


@pytest.mark.parametrize(
    ("options", "files", "found", "toolchain"),
    [
        ({"virtualenv": "env"}, [], "env", "pip"),
        ({"virtualenv": "env", "toolchain": "uv"}, [], "env", "uv"),
        ({"virtualenv": "env"}, ["uv.lock"], "env", "uv"),
        ({}, ["uv.lock"], ".venv", "uv"),
        ({"toolchain": "uv"}, ["pyproject.toml"], ".venv", "uv"),
        ({"toolchain": "uv"}, [], "stacks/.venv", "uv"),
        ({"toolchain": "pip", "virtualenv": "env"}, ["uv.lock", "poetry.lock"], "env", "pip"),
    ],
)
def test_the_virtual_environment_is_where_the_official_host_looks(
    tmp_path: Path, options: dict[str, str], files: list[str], found: str, toolchain: str
) -> None:
    (tmp_path / "stacks").mkdir()
    for name in files:
        (tmp_path / name).touch()
    make_environment(tmp_path / found)
    environment = PythonEnvironment.find(options, tmp_path, tmp_path / "stacks", ambient={})
    assert environment.virtualenv == tmp_path / found
    assert environment.python == tmp_path / found / "bin" / "python"
    assert environment.toolchain == toolchain


def test_uv_keeps_the_environment_where_its_own_variable_says(tmp_path: Path) -> None:
    (tmp_path / "uv.lock").touch()
    make_environment(tmp_path / "elsewhere")
    environment = PythonEnvironment.find(
        {}, tmp_path, tmp_path, ambient={"UV_PROJECT_ENVIRONMENT": "elsewhere"}
    )
    assert environment.virtualenv == tmp_path / "elsewhere"


def test_without_a_virtual_environment_the_ambient_python_is_used_and_nothing_is_activated(
    tmp_path: Path,
) -> None:
    for name in ("python3", "python3.99"):
        (tmp_path / name).touch(mode=0o755)
    ambient = {"PATH": str(tmp_path)}
    environment = PythonEnvironment.find({}, tmp_path, tmp_path, ambient=ambient)
    assert environment.python == tmp_path / "python3"
    assert environment.variables({"PATH": "/bin"}) == {"PATH": "/bin"}
    asked = {**ambient, "PULUMI_PYTHON_CMD": "python3.99"}
    assert PythonEnvironment.find({}, tmp_path, tmp_path, ambient=asked).python == tmp_path / "python3.99"


@pytest.mark.parametrize(
    ("options", "files", "said"),
    [
        ({"toolchain": "poetry"}, [], r"toolchain: 'poetry' is not served .* allowed: pip, uv"),
        ({}, ["poetry.lock"], r"poetry.lock selects poetry"),
        ({"virtualenv": 3}, [], r"virtualenv: 3 is not a path"),
        ({"typechecker": "mypy"}, [], r"typechecker: 'mypy' is not served"),
    ],
)
def test_an_option_that_is_not_served_is_named(
    tmp_path: Path, options: dict[str, object], files: list[str], said: str
) -> None:
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(UnusableEnvironmentError, match=said):
        PythonEnvironment.find(options, tmp_path, tmp_path, ambient={"PATH": ""})


def test_activation_drops_pythonhome(tmp_path: Path) -> None:
    environment = PythonEnvironment(tmp_path / "bin/python", tmp_path, "pip")
    assert environment.variables({"PYTHONHOME": "/x"}) == {
        "VIRTUAL_ENV": str(tmp_path),
        "PATH": str(tmp_path / "bin"),
    }


# --- what is installed


def install(
    site: Path, name: str, version: str, plugin: Mapping[str, Any] | None = None, requires: str = ""
) -> None:
    module = name.replace("-", "_")
    folder = site / f"{module}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(
        f"Name: {name}\nVersion: {version}\n{requires}\nRequires-Dist: not-a-header\n"
    )
    if plugin is not None:
        (site / module).mkdir()
        (site / module / "pulumi-plugin.json").write_text(json.dumps(plugin))


def test_a_package_says_which_plugin_it_needs(tmp_path: Path) -> None:
    install(
        tmp_path,
        "pulumi-aws",
        "7.1.0",
        {"resource": True, "name": "aws-x", "version": "7.2.0", "server": "s"},
    )
    install(tmp_path, "acme-infra", "1.0.0", {"resource": True})
    assert inspect_environment.plugin_packages([str(tmp_path)]) == [
        {
            "name": "acme-infra",
            "version": "v1.0.0",
            "server": "",
            "parameterization": None,
            "extension": None,
        },
        {"name": "aws-x", "version": "v7.2.0", "server": "s", "parameterization": None, "extension": None},
    ]


def test_without_a_plugin_file_name_and_version_of_a_pulumi_package_count(tmp_path: Path) -> None:
    install(tmp_path, "pulumi-docker-build", "0.1.2")
    install(tmp_path, "requests", "2.0.0")
    found = inspect_environment.plugin_packages([str(tmp_path)])
    assert [(package["name"], package["version"]) for package in found] == [("docker-build", "v0.1.2")]


@pytest.mark.parametrize(
    ("name", "version", "plugin"),
    [
        ("pulumi-policy", "1.21.0", {"resource": False}),
        ("pulumi-policy", "1.0.0", None),
        ("pulumi-aws", "7.2.0a17", None),
        ("pulumi", "3.255.0", None),
    ],
)
def test_a_package_without_a_plugin_needs_none(
    tmp_path: Path, name: str, version: str, plugin: dict[str, Any] | None
) -> None:
    install(tmp_path, name, version, plugin)
    assert inspect_environment.plugin_packages([str(tmp_path)]) == []


def test_direct_dependencies_are_those_that_nothing_else_requires(tmp_path: Path) -> None:
    requires = "Requires-Dist: Low.Er>=1\nRequires-Dist: optional; extra == 'x'\n"
    install(tmp_path, "upper", "1.0", requires=requires)
    for name in ("low-er", "optional", "not-a-header"):
        install(tmp_path, name, "2.0")
    path = [str(tmp_path), str(tmp_path / "absent")]
    direct = [found["name"] for found in inspect_environment.dependencies(path, transitive=False)]
    assert direct == ["not-a-header", "optional", "upper"]
    assert len(inspect_environment.dependencies(path, transitive=True)) == 4


def test_the_engine_learns_the_plugins_of_this_very_environment(host: LanguageHost, project: Path) -> None:
    found = {
        name: (package.kind, package.version) for name, package in required_packages(host, project).items()
    }
    assert found["kubernetes"] == ("resource", "v4.25.0")
    assert "random" in found
    assert "policy" not in found
    request = language_pb2.GetRequiredPluginsRequest(info=info(project, virtualenv="venv"))
    older: Any = host.GetRequiredPlugins(request, OneCall())
    assert {plugin.name: (plugin.kind, plugin.version) for plugin in older.plugins} == found


def test_a_parameterized_package_reaches_the_engine_with_its_parameter(
    host: LanguageHost, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameter = {"name": "acme", "version": "1.2.3", "value": "AAE="}
    plugin = {"resource": True, "name": "bridge", "version": "0.9.0", "parameterization": parameter}
    install(tmp_path / "site", "pulumi-acme", "1.2.3", plugin)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    packages = required_packages(host, project)
    parameterization: Any = packages["bridge"].parameterization
    assert parameterization.value == b"\x00\x01"
    assert not packages["random"].HasField("parameterization")


def test_about_names_the_interpreter_and_its_version(host: LanguageHost, project: Path) -> None:
    answer = host.About(language_pb2.AboutRequest(info=info(project, virtualenv="venv")), OneCall())
    assert answer.version == ".".join(map(str, sys.version_info[:3]))
    assert Path(answer.executable).samefile(sys.executable)
    assert answer.metadata["virtualenv"] == str(project / "venv")


def test_a_broken_interpreter_is_an_error_and_not_an_empty_list(host: LanguageHost, project: Path) -> None:
    (project / "venv" / "bin" / "python").write_text("#!/bin/sh\necho cannot start >&2\nexit 1\n")
    with pytest.raises(RefusedError, match="cannot start"):
        required_packages(host, project)


def test_installing_says_that_make_setup_does_it(host: LanguageHost, project: Path) -> None:
    request = language_pb2.InstallDependenciesRequest(info=info(project, virtualenv="venv"))
    said = b"".join(answer.stdout for answer in host.InstallDependencies(request, OneCall())).decode()
    assert said.startswith(str(project / "venv"))
    assert "make setup" in said
    request = language_pb2.InstallDependenciesRequest(info=info(project, virtualenv="absent"))
    with pytest.raises(RefusedError, match=r"absent does not exist\. Run `make setup`"):
        list(host.InstallDependencies(request, OneCall()))


def test_generating_code_is_refused_by_name(host: LanguageHost) -> None:
    calls: list[tuple[Callable[[Any, OneCall], Any], Any]] = [
        (host.GenerateProgram, language_pb2.GenerateProgramRequest()),
        (host.GenerateProject, language_pb2.GenerateProjectRequest()),
        (host.GeneratePackage, language_pb2.GeneratePackageRequest()),
        (host.Pack, language_pb2.PackRequest()),
        (host.Link, language_pb2.LinkRequest()),
    ]
    for method, request in calls:
        with pytest.raises(RefusedError, match="is not served by this Python language host"):
            method(request, OneCall())


def test_new_asks_nothing_and_the_version_is_that_of_the_sdk(host: LanguageHost) -> None:
    assert not host.RuntimeOptionsPrompts(language_pb2.RuntimeOptionsRequest(), OneCall()).prompts
    assert host.GetPluginInfo(empty_pb2.Empty(), OneCall()).version == "3.255.0"


# --- RunPlugin


class Running:
    """A call of RunPlugin, read by a thread as the engine would."""

    def __init__(self, host: LanguageHost, request: language_pb2.RunPluginRequest) -> None:
        self.call = OneCall()
        self.out, self.err, self.status = b"", b"", None
        answers = host.RunPlugin(request, self.call)
        self._thread = threading.Thread(target=self._read, args=(answers,), daemon=True)
        self._thread.start()

    def _read(self, answers: Iterator[language_pb2.RunPluginResponse]) -> None:
        for answer in answers:
            self.out += answer.stdout
            self.err += answer.stderr
            if answer.HasField("exitcode"):
                self.status = answer.exitcode

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()

    def port(self) -> int:
        wait_until(lambda: b"\n" in self.out, f"a port; stderr: {self.err!r}")
        return int(self.out.split(b"\n")[0])


def plugin_request(folder: Path, kind: str, **request: Any) -> language_pb2.RunPluginRequest:
    return language_pb2.RunPluginRequest(
        info=info(folder, virtualenv="venv"),
        kind=kind,
        args=[ENGINE],
        env=[f"{name}={value}" for name, value in os.environ.items()],
        pwd=str(folder.parent),
        **request,
    )


def test_a_component_plugin_runs_in_the_programs_folder_and_its_output_and_status_are_passed_on(
    host: LanguageHost, project: Path
) -> None:
    program = "import os, sys\nprint(1234)\nprint(os.getcwd(), sys.argv[1:])\n"
    (project / "__main__.py").write_text(program + "print('err', file=sys.stderr)\nsys.exit(7)")
    running = Running(host, plugin_request(project, "resource"))
    running.join()
    assert running.out.decode() == f"1234\n{project.parent} ['{ENGINE}']\n"
    assert running.err == b"err\n"
    assert running.status == 7


def test_output_of_a_plugin_arrives_while_it_runs_and_cancelling_ends_it(
    host: LanguageHost, project: Path
) -> None:
    (project / "__main__.py").write_text("import os, time\nprint(os.getpid())\ntime.sleep(600)")
    running = Running(host, plugin_request(project, "resource"))
    pid = running.port()
    assert psutil.pid_exists(pid)
    running.call.end()
    running.join()
    assert running.status == -signal.SIGTERM


def test_a_plugin_folder_that_is_no_program_is_an_error(host: LanguageHost, project: Path) -> None:
    with pytest.raises(RefusedError, match=r"neither a __main__.py nor a pyproject.toml"):
        host.RunPlugin(plugin_request(project, "resource"), OneCall())


PACK = """
    import os, sys
    import pulumi
    from pulumi_policy import PolicyPack, StackValidationPolicy
    print("stack", pulumi.get_stack(), os.getcwd(), file=sys.stderr) if STACK else None
    def never(args, report): report("found")
    PolicyPack("pack", [StackValidationPolicy("rule", "a rule", never)])
"""


@pytest.fixture
def pack(project: Path) -> Path:
    (project / "PulumiPolicy.yaml").write_text("runtime: python\n")
    (project / "__main__.py").write_text(textwrap.dedent(PACK).replace("STACK", "True"))
    return project


def analyzer(port: int) -> Any:
    channel: Any = grpc.insecure_channel(f"127.0.0.1:{port}")  # pyright: ignore[reportUnknownMemberType]
    return analyzer_pb2_grpc.AnalyzerStub(channel)


def test_a_policy_pack_starts_when_the_stack_is_named_and_knows_it(host: LanguageHost, pack: Path) -> None:
    running = Running(host, plugin_request(pack, "analyzer"))
    engine = analyzer(running.port())
    engine.Handshake(analyzer_pb2.AnalyzerHandshakeRequest(engine_address=ENGINE))
    engine.ConfigureStack(
        analyzer_pb2.AnalyzerStackConfigureRequest(project="demo", stack="dev", dry_run=True)
    )
    assert engine.GetAnalyzerInfo(empty_pb2.Empty()).name == "pack"
    found = engine.AnalyzeStack(analyzer_pb2.AnalyzeStackRequest()).diagnostics
    assert [diagnostic.policyName for diagnostic in found] == ["rule"]
    assert f"stack dev {pack}" in running.err.decode()
    running.call.end()
    running.join()
    assert running.status == -signal.SIGTERM


def test_a_policy_pack_starts_without_a_stack_at_the_first_question(host: LanguageHost, pack: Path) -> None:
    (pack / "__main__.py").write_text(textwrap.dedent(PACK).replace("STACK", "False"))
    running = Running(host, plugin_request(pack, "analyzer"))
    engine = analyzer(running.port())
    engine.Cancel(empty_pb2.Empty())
    assert engine.GetAnalyzerInfo(empty_pb2.Empty()).name == "pack"
    running.call.end()
    running.join()


@pytest.mark.parametrize(
    ("program", "answer", "shown"),
    [
        (
            "raise ValueError('no such rule')",
            "a policy pack ended before it served",
            "ValueError: no such rule",
        ),
        ("print('hello')\nraise SystemExit", "a policy pack printed 'hello' where its port", "hello"),
    ],
)
def test_a_policy_pack_that_does_not_start_answers_with_the_reason_and_what_it_said_is_shown(
    host: LanguageHost, pack: Path, program: str, answer: str, shown: str
) -> None:
    (pack / "__main__.py").write_text(program)
    running = Running(host, plugin_request(pack, "analyzer"))
    engine = analyzer(running.port())
    # Asked while the pack starts, and again when it has ended: the reason stays the same.
    for _ in range(2):
        with pytest.raises(grpc.RpcError) as failed:
            engine.GetAnalyzerInfo(empty_pb2.Empty())
        assert answer in str(failed.value)
        running.join()
    assert running.status is not None
    assert shown in (running.out + running.err).decode()


def test_a_policy_pack_that_is_never_asked_ends_with_the_call(host: LanguageHost, pack: Path) -> None:
    running = Running(host, plugin_request(pack, "analyzer"))
    running.port()
    running.call.end()
    running.join()
    assert running.status is None


# --- launchers and the life of the process


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "sdk" / EXEC_SCRIPT
    path.parent.mkdir()
    path.write_text("print('run by the script')\n")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / 'it\'s $HOME "here"'


def test_launchers_are_executable_files_with_the_script_beside_the_language_host(
    folder: Path, script: Path
) -> None:
    written = write_launchers(folder, Path(sys.executable), script, MODULES)
    assert [path.name for path in written] == [*MODULES, EXEC_SCRIPT]
    assert sorted(folder.iterdir()) == sorted(written)
    assert all(os.access(path, os.X_OK) and not path.is_symlink() for path in written)
    assert (folder / EXEC_SCRIPT).read_bytes() == script.read_bytes()


def test_a_provider_alone_needs_no_script(folder: Path, tmp_path: Path) -> None:
    written = write_launchers(folder, Path(sys.executable), tmp_path / "absent", ["pulumi-resource-random"])
    assert [path.name for path in folder.iterdir()] == [path.name for path in written]


def test_writing_again_changes_only_what_differs(folder: Path, script: Path) -> None:
    first, second, *_ = write_launchers(folder, Path(sys.executable), script, MODULES)
    second.write_text("damaged")
    kept = first.stat()
    write_launchers(folder, Path(sys.executable), script, MODULES)
    assert (first.stat().st_ino, first.stat().st_mtime_ns) == (kept.st_ino, kept.st_mtime_ns)
    assert "damaged" not in second.read_text()


def test_an_unknown_plugin_is_refused_before_anything_is_written(folder: Path, script: Path) -> None:
    with pytest.raises(
        ValueError, match="'pulumi-resource-gcp' is not one of ours; allowed: pulumi-language"
    ):
        write_launchers(folder, Path(sys.executable), script, ["pulumi-resource-gcp"])
    assert not folder.exists()


def started(launcher: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """A plugin as the engine starts it: own process group, stdin held open."""
    return subprocess.Popen(
        [launcher, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    )


def first_line(plugin: subprocess.Popen[bytes]) -> str:
    assert plugin.stdout is not None
    return plugin.stdout.readline().decode().strip()


@pytest.mark.parametrize("name", list(MODULES))
@pytest.mark.parametrize("end", ["interrupt", "terminate", "the engine goes"])
def test_a_plugin_prints_its_port_first_and_ends_at_once_when_it_should(
    folder: Path, script: Path, name: str, end: str
) -> None:
    write_launchers(folder, Path(sys.executable), script, MODULES)
    plugin = started(folder / name, ENGINE)
    assert 0 < int(first_line(plugin)) < 65536
    if end == "interrupt":
        os.killpg(plugin.pid, signal.SIGINT)
    elif end == "terminate":
        plugin.terminate()
    elif plugin.stdin:
        plugin.stdin.close()
    plugin.wait(60)


def test_a_plugin_started_by_hand_says_what_it_is(folder: Path, script: Path) -> None:
    write_launchers(folder, Path(sys.executable), script, MODULES)
    done = subprocess.run([folder / "pulumi-resource-random"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "this is a Pulumi plugin: the engine starts it" in done.stderr


def test_a_plugin_starts_without_importing_the_sdk() -> None:
    code = (
        "import sys; from runtime.pulumi_messages import skip_sdk; skip_sdk(); "
        "import rehearsal.plugins.language_host, rehearsal.plugins.random_provider; "
        "unwanted = {'pulumi.resource', 'pulumi.runtime.rpc', 'pulumi_random', 'yaml'}; "
        "print(sorted(unwanted & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_when_the_engine_goes_a_running_program_and_what_it_started_go_too(
    folder: Path, script: Path, project: Path
) -> None:
    script.write_text(
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(project / 'pid')!r}, 'w').write(f'{{child.pid}}.')\n"
        "time.sleep(600)\n"
    )
    write_launchers(folder, Path(sys.executable), script, MODULES)
    plugin = started(folder / "pulumi-language-python", ENGINE)
    channel: Any = grpc.insecure_channel(f"127.0.0.1:{first_line(plugin)}")  # pyright: ignore[reportUnknownMemberType]
    run_program = channel.unary_unary(
        "/pulumirpc.LanguageRuntime/Run",
        request_serializer=language_pb2.RunRequest.SerializeToString,
        response_deserializer=language_pb2.RunResponse.FromString,
    )
    request = language_pb2.RunRequest(info=info(project, virtualenv="venv"), pwd=str(project))
    pending = run_program.future(request)
    wait_until(
        lambda: (project / "pid").exists() and "." in (project / "pid").read_text(), "the program runs"
    )
    family = psutil.Process(plugin.pid).children(recursive=True)
    assert int((project / "pid").read_text().rstrip(".")) in [process.pid for process in family]
    assert plugin.stdin is not None
    plugin.stdin.close()
    plugin.wait(60)
    gone, alive = psutil.wait_procs(family, timeout=60)
    assert (len(gone), alive) == (len(family), [])
    pending.cancel()
    channel.close()


def test_options_reach_the_environment_as_the_engine_sends_them() -> None:
    program = info(Path("/p"), virtualenv="venv", toolchain="pip")
    assert json_format.MessageToDict(program.options) == {"virtualenv": "venv", "toolchain": "pip"}
