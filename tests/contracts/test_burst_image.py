"""What the burst controller's image has, and what the program in it imports, agree."""

import subprocess
import sys
import tomllib

from rehearsal.images.recipes import PROJECT, RECIPES


def test_the_image_has_the_versions_that_are_tested() -> None:
    lock = tomllib.loads((PROJECT / "uv.lock").read_text())
    locked = {package["name"]: package["version"] for package in lock["package"] if "version" in package}
    lines = (RECIPES / "burst-controller" / "requirements.txt").read_text().splitlines()
    named = dict(line.rstrip(" \\").split("==") for line in lines if "==" in line)
    assert {name: locked[name] for name in named} == named


def test_the_program_imports_no_library_that_the_image_has_not() -> None:
    script = """
import sys
before = set(sys.modules)
import runtime.burst.__main__
print(*{name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    lines = (RECIPES / "burst-controller" / "requirements.txt").read_text().splitlines()
    named = {line.split("==")[0].replace("-", "_") for line in lines if "==" in line}
    # What PyYAML is imported as, what its compiled part brings, and Python's own build data.
    known = named | {"yaml", "runtime", "cython_runtime"}
    imported = {name for name in done.stdout.split() if not name.startswith(("_cython", "_sysconfigdata"))}
    assert imported <= known
