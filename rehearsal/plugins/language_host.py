"""The Python language host: `pulumi-language-python`, as the engine starts it for Python programs.

It serves what previews, updates, policy packs, component plugins and `pulumi about` need, in the way of
the official host (sdk/python/cmd/pulumi-language-python). It does not generate code, attach debuggers or
install packages, and says so when asked.
"""

# The protocol gives every method its name and both parameters, needed or not.
# ruff: noqa: ARG002, N802

import argparse
import base64
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

from google.protobuf import empty_pb2, json_format
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

from rehearsal.plugins import EXEC_SCRIPT
from rehearsal.plugins.children import Children, how_it_ended
from rehearsal.plugins.environments import PythonEnvironment, UnusableEnvironmentError
from rehearsal.plugins.policy_packs import PolicyPackProxy
from rehearsal.plugins.serving import Call, engine_address, not_served, refuse, serve

_MESSAGE_SHOWN = 32
"""Exit status of a program that has shown its error itself (pulumi-language-python-exec)."""

_ONLY_OFFICIAL = "is not served by this Python language host, only by Pulumi's own"


class LanguageHost(language_pb2_grpc.LanguageRuntimeServicer):
    """The service `LanguageRuntime` for Python."""

    def __init__(self, engine: str, exec_script: Path) -> None:
        """Serves for one engine.

        Args:
            engine: Address of the engine, handed to every program.
            exec_script: The SDK's script that runs a program.
        """
        self._engine = engine
        self._exec_script = exec_script
        self.children = Children()

    def Handshake(
        self, request: language_pb2.LanguageHandshakeRequest, context: Call
    ) -> language_pb2.LanguageHandshakeResponse:
        """Takes the engine's address; used when the engine attaches to a host that runs already."""
        self._engine = request.engine_address or self._engine
        return language_pb2.LanguageHandshakeResponse()

    def GetPluginInfo(self, request: empty_pb2.Empty, context: Call) -> plugin_pb2.PluginInfo:
        """The version: that of the SDK whose protocol this host speaks."""
        return plugin_pb2.PluginInfo(version=metadata.version("pulumi"))

    def GetRequiredPackages(
        self, request: language_pb2.GetRequiredPackagesRequest, context: Call
    ) -> language_pb2.GetRequiredPackagesResponse:
        """The provider plugins that the packages in the program's environment belong to."""
        return language_pb2.GetRequiredPackagesResponse(
            packages=[
                plugin_pb2.PackageDependency(
                    name=package["name"],
                    kind="resource",
                    version=package["version"],
                    server=package["server"],
                    parameterization=_parameterization(package["parameterization"]),
                    extension=_parameterization(package["extension"]),
                )
                for package in self._inspect(request.info, "packages", context)
            ]
        )

    def GetRequiredPlugins(
        self, request: language_pb2.GetRequiredPluginsRequest, context: Call
    ) -> language_pb2.GetRequiredPluginsResponse:
        """The same for engines that do not know packages."""
        return language_pb2.GetRequiredPluginsResponse(
            plugins=[
                plugin_pb2.PluginDependency(
                    name=package["name"],
                    kind="resource",
                    version=package["version"],
                    server=package["server"],
                )
                for package in self._inspect(request.info, "packages", context)
            ]
        )

    def GetProgramDependencies(
        self, request: language_pb2.GetProgramDependenciesRequest, context: Call
    ) -> language_pb2.GetProgramDependenciesResponse:
        """What is installed for the program; `pulumi about` lists it."""
        question = "dependencies" if request.transitiveDependencies else "direct-dependencies"
        return language_pb2.GetProgramDependenciesResponse(
            dependencies=[
                language_pb2.DependencyInfo(name=found["name"], version=found["version"])
                for found in self._inspect(request.info, question, context)
            ]
        )

    def About(self, request: language_pb2.AboutRequest, context: Call) -> language_pb2.AboutResponse:
        """The interpreter, for `pulumi about`."""
        environment = _environment(request.info, context)
        about = self._inspect(request.info, "about", context)
        return language_pb2.AboutResponse(
            executable=about["executable"],
            version=about["version"],
            metadata={
                "toolchain": environment.toolchain,
                "virtualenv": str(environment.virtualenv or "none"),
                "language host": "rehearsal",
            },
        )

    def RuntimeOptionsPrompts(
        self, request: language_pb2.RuntimeOptionsRequest, context: Call
    ) -> language_pb2.RuntimeOptionsResponse:
        """Nothing to ask in `pulumi new`."""
        return language_pb2.RuntimeOptionsResponse()

    def InstallDependencies(
        self, request: language_pb2.InstallDependenciesRequest, context: Call
    ) -> Iterator[language_pb2.InstallDependenciesResponse]:
        """Installs nothing: says that the environment is there, or which one to make and how."""
        environment = _environment(request.info, context)
        place = environment.virtualenv or environment.python
        said = f"{place} is there and is left as it is. `make setup` installs and updates packages.\n"
        yield language_pb2.InstallDependenciesResponse(stdout=said.encode())

    def Run(self, request: language_pb2.RunRequest, context: Call) -> language_pb2.RunResponse:
        """Runs a program to its end. Its stdout and stderr are this process's: the engine shows them."""
        _no_debugger(request.attach_debugger, context)
        environment = _environment(request.info, context)
        variables = environment.variables(os.environ)
        variables["PULUMI_CONFIG"] = json.dumps(dict(request.config))
        variables["PULUMI_CONFIG_SECRET_KEYS"] = json.dumps(list(request.configSecretKeys))
        command = [str(environment.python), "-u", str(self._exec_script), *self._run_arguments(request)]
        cwd = request.pwd or request.info.program_directory
        try:
            child = self.children.start(command, cwd, variables, captured=False)
        except OSError as e:
            return language_pb2.RunResponse(error=f"the program could not be started: {e}")
        if not context.add_callback(lambda: self.children.stop(child)):
            self.children.stop(child)
        status = self.children.wait(child)
        if status == _MESSAGE_SHOWN:
            return language_pb2.RunResponse(bail=True)
        return language_pb2.RunResponse(error=how_it_ended(status))

    def _run_arguments(self, request: language_pb2.RunRequest) -> list[str]:
        """The arguments of the SDK's script. An empty value would be taken for a value: it is left out."""
        flags = {
            "--monitor": request.monitor_address,
            "--engine": self._engine,
            "--project": request.project,
            "--root_directory": request.info.root_directory,
            "--stack": request.stack,
            "--pwd": request.pwd,
            "--dry_run": "true" if request.dryRun else "false",
            "--parallel": str(request.parallel),
            "--organization": request.organization,
        }
        given = [part for flag, value in flags.items() if value for part in (flag, value)]
        program = os.path.normpath(Path(request.info.program_directory, request.info.entry_point or "."))
        return [*given, program, *request.args]

    def RunPlugin(
        self, request: language_pb2.RunPluginRequest, context: Call
    ) -> Iterator[language_pb2.RunPluginResponse]:
        """Runs a policy pack or another plugin written in Python, and streams what it prints."""
        _no_debugger(request.attach_debugger, context)
        folder = request.info.program_directory
        variables = {name: value for name, _, value in (entry.partition("=") for entry in request.env)}
        run = _PluginRun(self.children, context)
        if request.kind == "analyzer":
            environment = _environment(request.info, context)
            command = [str(environment.python), "-u", "-m", "pulumi.policy", *request.args, folder]
            # In the pack's own folder: rules are imported from there, data files are opened from there.
            return run.policy_pack(command, folder, environment.variables(variables))
        environment = _environment(request.info, context, default_virtualenv="venv")
        program = _component_program(Path(folder), context)
        command = [str(environment.python), "-u", *program, *request.args]
        return run.plugin(command, request.pwd or folder, environment.variables(variables))

    def Cancel(self, request: empty_pb2.Empty, context: Call) -> empty_pb2.Empty:
        """Nothing to do: the engine also cancels each running call, which stops what that call runs."""
        return empty_pb2.Empty()

    def GenerateProgram(
        self, request: language_pb2.GenerateProgramRequest, context: Call
    ) -> language_pb2.GenerateProgramResponse:
        """Refused."""
        not_served(context, f"generating a Python program {_ONLY_OFFICIAL}")

    def GenerateProject(
        self, request: language_pb2.GenerateProjectRequest, context: Call
    ) -> language_pb2.GenerateProjectResponse:
        """Refused."""
        not_served(context, f"generating a Python project {_ONLY_OFFICIAL}")

    def GeneratePackage(
        self, request: language_pb2.GeneratePackageRequest, context: Call
    ) -> language_pb2.GeneratePackageResponse:
        """Refused."""
        not_served(context, f"generating a Python SDK {_ONLY_OFFICIAL}")

    def Pack(self, request: language_pb2.PackRequest, context: Call) -> language_pb2.PackResponse:
        """Refused."""
        not_served(context, f"packing a Python SDK {_ONLY_OFFICIAL}")

    def Link(self, request: language_pb2.LinkRequest, context: Call) -> language_pb2.LinkResponse:
        """Refused."""
        not_served(context, f"linking a local Python SDK {_ONLY_OFFICIAL}")

    def _inspect(self, info: language_pb2.ProgramInfo, question: str, context: Call) -> Any:
        environment = _environment(info, context)
        try:
            return environment.inspect(question, Path(info.program_directory))
        except UnusableEnvironmentError as e:
            refuse(context, str(e))


class _PluginRun:
    """One call of RunPlugin: a child process whose output becomes the answers."""

    def __init__(self, children: Children, context: Call) -> None:
        self._children = children
        self._context = context
        self._child: subprocess.Popen[bytes] | None = None
        self._proxy: PolicyPackProxy | None = None
        self._output: queue.SimpleQueue[language_pb2.RunPluginResponse | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._over = not context.add_callback(self._end)

    def plugin(
        self, command: Sequence[str], cwd: str, variables: Mapping[str, str]
    ) -> Iterator[language_pb2.RunPluginResponse]:
        """Runs `command` and streams its output; its first line is its port, which the engine reads."""
        child = self._start(command, cwd, variables)
        if child is None:
            return
        yield from self._stream(child)

    def policy_pack(
        self, command: Sequence[str], cwd: str, variables: Mapping[str, str]
    ) -> Iterator[language_pb2.RunPluginResponse]:
        """Runs `command` behind a proxy, from the moment on when the engine has named the stack."""
        proxy = PolicyPackProxy()
        with self._lock:
            self._proxy = proxy
            if self._over:
                proxy.close()
        yield language_pb2.RunPluginResponse(stdout=f"{proxy.port}\n".encode())
        stack = proxy.wait_until_wanted()
        child = self._start(command, cwd, {**variables, **stack})
        if child is None:
            return
        try:
            yield from self._stream(child, proxy)
        finally:
            proxy.close()

    def _start(
        self, command: Sequence[str], cwd: str, variables: Mapping[str, str]
    ) -> subprocess.Popen[bytes] | None:
        """Starts the child, unless the call has ended meanwhile."""
        with self._lock:
            if not self._over:
                try:
                    self._child = self._children.start(command, cwd, variables, captured=True)
                except OSError as e:
                    refuse(self._context, f"the plugin could not be started: {e}")
        return self._child

    def _end(self) -> None:
        """The call is over, for the engine has cancelled it or the child has ended."""
        with self._lock:
            self._over = True
        if self._child:
            self._children.stop(self._child)
        if self._proxy:
            self._proxy.close()

    def _stream(
        self, child: subprocess.Popen[bytes], proxy: PolicyPackProxy | None = None
    ) -> Iterator[language_pb2.RunPluginResponse]:
        readers = ((child.stdout, "stdout", proxy), (child.stderr, "stderr", None))
        for pipe, name, waiting in readers:
            stream = cast("BufferedReader", pipe)
            threading.Thread(target=self._read, args=(stream, name, waiting), daemon=True).start()
        open_streams = 2
        while open_streams:
            answer = self._output.get()
            if answer is None:
                open_streams -= 1
            else:
                yield answer
        yield language_pb2.RunPluginResponse(exitcode=self._children.wait(child))

    def _read(self, stream: BufferedReader, name: str, proxy: PolicyPackProxy | None) -> None:
        if proxy:
            line = stream.readline()
            if line.strip().isdigit():
                proxy.attach(int(line))
            else:
                proxy.fail(_why_not_started(line))
                self._put(name, line)
        # `read1`, to pass on what there is and not wait for a full block. os.read would do but for
        # what `readline` has already taken into the buffer.
        while chunk := stream.read1(65536):
            self._put(name, chunk)
        self._output.put(None)

    def _put(self, name: str, chunk: bytes) -> None:
        if chunk:
            answer = language_pb2.RunPluginResponse
            self._output.put(answer(stdout=chunk) if name == "stdout" else answer(stderr=chunk))


def _why_not_started(line: bytes) -> str:
    said = line.decode(errors="replace").strip()
    if not said:
        return "a policy pack ended before it served; what it printed is shown above"
    return (
        f"a policy pack printed {said!r} where its port was expected; "
        "let it print nothing to stdout before it makes its PolicyPack"
    )


def _parameterization(given: dict[str, str] | None) -> plugin_pb2.PackageParameterization | None:
    if not given:
        return None
    return plugin_pb2.PackageParameterization(
        name=given["name"], version=given["version"], value=base64.b64decode(given.get("value", ""))
    )


def _no_debugger(wanted: bool, context: Call) -> None:
    if wanted:
        not_served(context, f"--attach-debugger {_ONLY_OFFICIAL}; call `breakpoint` from a unit test instead")


def _environment(
    info: language_pb2.ProgramInfo, context: Call, default_virtualenv: str = ""
) -> PythonEnvironment:
    try:
        return PythonEnvironment.find(
            json_format.MessageToDict(info.options),
            Path(info.root_directory),
            Path(info.program_directory),
            default_virtualenv,
        )
    except UnusableEnvironmentError as e:
        refuse(context, str(e))


def _component_program(folder: Path, context: Call) -> list[str]:
    """The arguments that run a plugin's folder: as a program, or as a package that only has components."""
    if (folder / "__main__.py").is_file():
        return [str(folder)]
    import tomllib  # Rarely needed, and every start of a host would pay for it.

    try:
        name = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        refuse(context, f"{folder} has neither a __main__.py nor a pyproject.toml with project.name")
    return ["-m", "pulumi.run.plugin", name]


def main(arguments: list[str]) -> None:
    """Serves until the engine is done.

    Args:
        arguments: `--beside LAUNCHER`, where the launcher's folder also has the SDK's script (without it
            the script is looked for on PATH), then what the engine gives every plugin.
    """
    parser = argparse.ArgumentParser(prog="pulumi-language-python", add_help=False, allow_abbrev=False)
    parser.add_argument("--beside", type=Path)
    given, rest = parser.parse_known_args(arguments)
    host = LanguageHost(engine_address(rest), _exec_script(given.beside))

    def register(server: Any) -> None:
        language_pb2_grpc.add_LanguageRuntimeServicer_to_server(host, server)

    serve(register, on_end=host.children.kill_all)


def _exec_script(launcher: Path | None) -> Path:
    if launcher:
        script = launcher.resolve().parent / EXEC_SCRIPT
        if script.is_file():
            return script
    found = shutil.which(EXEC_SCRIPT)
    if found:
        return Path(found)
    raise SystemExit(
        f"{EXEC_SCRIPT} is neither beside {launcher or 'the launcher'} nor on PATH: `make setup`"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
