"""Which Python runs a program: the `runtime.options` of Pulumi.yaml, read as the official host reads them.

Source: sdk/python/toolchain (`ResolveToolchain`, `newPip`, `newUv`). One difference, on purpose: nothing is
ever installed or updated here. `make setup` does that, from the lock file.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_INSPECTOR = Path(__file__).with_name("inspect_environment.py")
_TOOLCHAINS = ("pip", "uv")
_INSPECT_TIMEOUT_S = 60.0


class UnusableEnvironmentError(Exception):
    """There is no usable Python; the text says what to do."""


@dataclass(frozen=True)
class PythonEnvironment:
    """A Python to run programs with.

    Attributes:
        python: The interpreter, as a path.
        virtualenv: Its virtual environment, or none where the ambient Python is used.
        toolchain: `pip` or `uv`: who made it.
    """

    python: Path
    virtualenv: Path | None
    toolchain: str

    @classmethod
    def find(
        cls,
        options: Mapping[str, object],
        root: Path,
        program: Path,
        default_virtualenv: str = "",
        ambient: Mapping[str, str] | None = None,
    ) -> "PythonEnvironment":
        """Finds the Python for a program.

        Args:
            options: `runtime.options` of Pulumi.yaml, PulumiPolicy.yaml or PulumiPlugin.yaml.
            root: The folder of that file.
            program: The folder of the program.
            default_virtualenv: Used with pip where the options name none.
            ambient: The environment variables; this process's own by default.

        Raises:
            UnusableEnvironmentError: An option is not served, or the virtual environment is not there.
        """
        ambient = os.environ if ambient is None else ambient
        virtualenv, toolchain = _read(options)
        if not toolchain:
            toolchain = _toolchain_by_lock_file(program)
        if toolchain == "uv" and not virtualenv:
            path = _uv_environment(program, ambient)
        elif virtualenv or default_virtualenv:
            path = root / (virtualenv or default_virtualenv)
        else:
            return cls(_ambient_python(ambient), None, toolchain)
        return cls(_python_of(path, virtualenv, root), path, toolchain)

    def variables(self, base: Mapping[str, str]) -> dict[str, str]:
        """`base` with this environment activated, as its `activate` script would (`ActivateVirtualEnv`)."""
        variables = dict(base)
        if self.virtualenv is not None:
            variables.pop("PYTHONHOME", None)
            variables["VIRTUAL_ENV"] = str(self.virtualenv)
            path = variables.get("PATH")
            own = str(self.virtualenv / "bin")
            variables["PATH"] = own + os.pathsep + path if path else own
        return variables

    def inspect(self, question: str, cwd: Path) -> Any:
        """Asks `inspect_environment` there: `packages`, `dependencies`, `direct-dependencies`, `about`.

        Raises:
            UnusableEnvironmentError: That Python does not run.
        """
        try:
            done = subprocess.run(
                [str(self.python), str(_INSPECTOR), question],
                cwd=cwd,
                env=self.variables(os.environ),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=True,
                timeout=_INSPECT_TIMEOUT_S,
            )
        except subprocess.CalledProcessError as e:
            said = e.stderr.decode(errors="replace").strip()
            raise UnusableEnvironmentError(
                f"{self.python} failed when asked for its {question}:\n{said}"
            ) from e
        except (OSError, subprocess.TimeoutExpired) as e:
            raise UnusableEnvironmentError(
                f"{self.python} does not run: {e}. Repair it with `make setup`."
            ) from e
        return json.loads(done.stdout)


def _read(options: Mapping[str, object]) -> tuple[str, str]:
    """The options `virtualenv` and `toolchain`, each empty if not set."""
    toolchain = options.get("toolchain", "")
    virtualenv = options.get("virtualenv", "")
    typechecker = options.get("typechecker", "")
    if toolchain not in ("", *_TOOLCHAINS):
        raise UnusableEnvironmentError(
            f"runtime.options.toolchain: {toolchain!r} is not served by this Python language host; "
            f"allowed: {', '.join(_TOOLCHAINS)}. Use pip with the option `virtualenv`, which may name an "
            "environment that any tool made."
        )
    if not isinstance(virtualenv, str):
        raise UnusableEnvironmentError(
            f"runtime.options.virtualenv: {virtualenv!r} is not a path; "
            "write the folder of a virtual environment, relative to the folder of Pulumi.yaml."
        )
    if typechecker not in ("", "none"):
        raise UnusableEnvironmentError(
            f"runtime.options.typechecker: {typechecker!r} is not served by this Python language host; "
            "leave it out and check types before, for example with `make check`."
        )
    return virtualenv, str(toolchain)


def _upwards(start: Path, name: str) -> Path | None:
    """The nearest folder from `start` upwards that has a file `name`."""
    return next((folder for folder in (start, *start.parents) if (folder / name).is_file()), None)


def _toolchain_by_lock_file(program: Path) -> str:
    if _upwards(program, "uv.lock"):
        return "uv"
    lock = _upwards(program, "poetry.lock")
    if lock:
        raise UnusableEnvironmentError(
            f"runtime.options.toolchain is not set and {lock / 'poetry.lock'} selects poetry, which is not "
            "served by this Python language host. Set `toolchain: pip` and the option `virtualenv`."
        )
    return "pip"


def _uv_environment(program: Path, ambient: Mapping[str, str]) -> Path:
    """Where uv keeps the environment of the project that `program` is part of."""
    project = _upwards(program, "uv.lock") or _upwards(program, "pyproject.toml") or program
    return project / (ambient.get("UV_PROJECT_ENVIRONMENT") or ".venv")


def _python_of(virtualenv: Path, option: str, root: Path) -> Path:
    python = virtualenv / "bin" / "python"
    if python.is_file():
        return python
    what = "is not a virtual environment (no bin/python in it)" if virtualenv.exists() else "does not exist"
    source = f"runtime.options.virtualenv: {option!r}: " if option else ""
    top = _upwards(root, "Makefile") or root
    raise UnusableEnvironmentError(
        f"{source}the folder {virtualenv} {what}. Run `make setup` in {top} to make it."
    )


def _ambient_python(ambient: Mapping[str, str]) -> Path:
    asked = ambient.get("PULUMI_PYTHON_CMD")
    for name in [asked] if asked else ["python3", "python"]:
        found = shutil.which(name, path=ambient.get("PATH"))
        if found:
            return Path(found)
    raise UnusableEnvironmentError(
        f"no {asked or 'python3'} on PATH. Set the option runtime.options.virtualenv, or run `make setup`."
    )
