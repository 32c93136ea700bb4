"""The libraries of the images that run the package `runtime` are those that are tested."""

import subprocess
import sys
import tomllib

import pytest

from rehearsal.images.recipes import BURST_CONTROLLER, PROGRAMS, PROJECT, RECIPES


def _named(recipe: str) -> dict[str, str]:
    lines = (RECIPES / recipe / "requirements.txt").read_text().splitlines()
    return dict(line.rstrip(" \\").split("==") for line in lines if "==" in line)


@pytest.mark.parametrize("recipe", PROGRAMS)
def test_an_image_has_the_versions_that_are_tested(recipe: str) -> None:
    lock = tomllib.loads((PROJECT / "uv.lock").read_text())
    locked: dict[str, set[str]] = {}
    for package in lock["package"]:
        locked.setdefault(package["name"], set()).add(package.get("version", ""))
    named = _named(recipe)
    assert {name: version for name, version in named.items() if version not in locked[name]} == {}


def test_the_burst_controller_imports_no_library_that_its_image_has_not() -> None:
    # The other programs' libraries import whatever else is installed: tests/rehearsal asks their images.
    script = """
import sys
before = set(sys.modules)
import runtime.burst.__main__
print(*{name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    # What PyYAML is imported as, what its compiled part brings, and Python's own build data.
    known = {name.replace("-", "_") for name in _named(BURST_CONTROLLER)} | {
        "yaml",
        "runtime",
        "cython_runtime",
    }
    imported = {name for name in done.stdout.split() if not name.startswith(("_cython", "_sysconfigdata"))}
    assert imported <= known
