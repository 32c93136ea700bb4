"""Prints as JSON what is installed in a Python environment. The language host runs it there.

It runs under the program's interpreter, whatever that has installed, so it uses nothing but the standard
library. Reading folders instead of asking `pip list` and `pip show` needs no
pip there and takes 30 ms instead of a second.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

PLUGIN_FILE = "pulumi-plugin.json"

# The only package of the name pattern without a plugin that had releases without a plugin file.
_WITHOUT_PLUGIN = {"pulumi-policy"}


def normal(name: str) -> str:
    """A distribution's name in its normal form (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed(path: list[str]) -> dict[str, tuple[str, Path]]:
    """Every distribution on `path` by normal name, with version and folder; the first found wins."""
    found: dict[str, tuple[str, Path]] = {}
    for entry in map(Path, path):
        if not entry.is_dir():
            continue
        for folder in sorted(entry.glob("*.dist-info")):
            name, _, version = folder.name[: -len(".dist-info")].partition("-")
            if version:
                found.setdefault(normal(name), (version, folder))
    return found


def plugin_packages(path: list[str]) -> list[dict[str, Any]]:
    """The plugins that the installed packages need: `name`, `version`, `server` and parameterizations.

    A package says so in `pulumi-plugin.json`. One named `pulumi-...` without that file counts too: its
    plugin has the rest of that name and its version, if that is one with numbers only. A pre-release's
    plugin version cannot be told from the package's (`3.1.0a17` is `3.1.0-alpha.17+` and a hash).
    """
    found: list[dict[str, Any]] = []
    for name, (version, _) in sorted(installed(path).items()):
        module = name.replace("-", "_")
        files = [Path(entry, module, PLUGIN_FILE) for entry in path]
        file = next((file for file in files if file.is_file()), None)
        said: dict[str, Any] = {"resource": name.startswith("pulumi-")}
        if file:
            said = json.loads(file.read_text(encoding="utf-8"))
        if not said.get("resource") or name in _WITHOUT_PLUGIN:
            continue
        plain = version if re.fullmatch(r"\d+\.\d+(\.\d+)?", version) else ""
        plugin_version = str(said.get("version") or plain)
        if not plugin_version:
            continue
        found.append(
            {
                "name": said.get("name") or (name[len("pulumi-") :] if name.startswith("pulumi-") else name),
                "version": "v" + plugin_version.lstrip("v"),
                "server": said.get("server", ""),
                "parameterization": said.get("parameterization"),
                "extension": said.get("extensionParameterization"),
            }
        )
    return found


def dependencies(path: list[str], transitive: bool) -> list[dict[str, str]]:
    """Name and version of every distribution, or of those only that no other one requires."""
    found = installed(path)
    required: set[str] = set()
    if not transitive:
        for name, (_, folder) in found.items():
            metadata = folder / "METADATA"
            text = metadata.read_text(encoding="utf-8", errors="replace") if metadata.is_file() else ""
            header = text.partition("\n\n")[0]
            for match in re.finditer(r"^Requires-Dist: *([\w.-]+)([^\n]*)", header, re.MULTILINE):
                # What only an extra asks for is, as for `pip list --not-required`, not required.
                if "extra ==" not in match.group(2) and normal(match.group(1)) != name:
                    required.add(normal(match.group(1)))
    return [{"name": n, "version": v} for n, (v, _) in sorted(found.items()) if n not in required]


def main(arguments: list[str]) -> None:
    """Prints what the one argument asks for: packages, dependencies, direct-dependencies or about."""
    question = arguments[0]
    if question == "packages":
        answer: object = plugin_packages(sys.path)
    elif question == "about":
        answer = {"executable": sys.executable, "version": ".".join(map(str, sys.version_info[:3]))}
    else:
        answer = dependencies(sys.path, transitive=question == "dependencies")
    print(json.dumps(answer))


if __name__ == "__main__":
    del sys.path[0]  # This file's own folder: not part of the environment.
    main(sys.argv[1:])
