"""The serving environment: Ray and vLLM for CPU in a virtual environment of their own."""

import os
import shutil
import sys
from pathlib import Path

from rehearsal.tools.cache import Made, Source
from rehearsal.tools.catalogue import Tool, VirtualEnvironment
from rehearsal.tools.errors import ToolError
from rehearsal.tools.process import run_logged
from runtime.ops.progress import Step


def find_uv() -> Path:
    """The uv that belongs to this project's environment, else the one on PATH.

    Raises:
        ToolError: There is none.
    """
    beside = Path(sys.executable).parent / "uv"
    if beside.exists():
        return beside
    found = shutil.which("uv")
    if not found:
        raise ToolError(
            "uv is needed for the serving environment: install this project with its `rehearsal` extra"
        )
    return Path(found)


def install_venv(tool: Tool, venv: VirtualEnvironment, target: Path, log: Path, step: Step) -> Made:
    """Makes the environment in a folder, which may then be renamed.

    Args:
        tool: The tool.
        venv: Its requirements.
        target: Folder that becomes the environment.
        log: Log for uv's output.
        step: Shown what uv does.

    Raises:
        ToolError: The installation failed; the message has the end of the log and its path.
    """
    uv = find_uv()
    log.unlink(missing_ok=True)
    # A requirement file that came with every hash is installed as it is, without resolving again.
    install = ("pip", "install", "--python", target / "bin" / "python", "--no-deps", "--require-hashes")
    for arguments in (
        ("venv", "--relocatable", "--allow-existing", "--python", sys.executable, target),
        (*install, *venv.flags, "-r", venv.pins / "requirements.txt"),
    ):
        run_logged(
            [uv, *arguments],
            title=f"installation of {tool.title}",
            log=log,
            # In the cache, so that uv takes no settings from the project that the user stands in.
            cwd=target,
            environment={key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"},
            # The lines that start so only repeat what was installed, hundreds of names.
            on_line=lambda line: None if line.startswith(" + ") else step.update(line.strip()),
        )
    packages = next(target.glob("lib/python*/site-packages"))
    for (name, version), stands_for in venv.aliases.items():
        _write_alias(packages, name, version, stands_for)
    return Made(
        Source.VENV, f"{venv.pins.name}/requirements.txt by uv", ("pyvenv.cfg", "lib/*/*/*.dist-info/RECORD")
    )


def _write_alias(packages: Path, name: str, version: str, stands_for: str) -> None:
    folder = packages / f"{name}-{version}.dist-info"
    folder.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: {stands_for}\n"
    (folder / "METADATA").write_text(metadata)
    (folder / "INSTALLER").write_text("spillway\n")
    listed = "".join(f"{folder.name}/{file},,\n" for file in ("METADATA", "INSTALLER", "RECORD"))
    (folder / "RECORD").write_text(listed)
