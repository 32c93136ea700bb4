"""The committed stack files and examples, read as the program reads them."""

import copy
import importlib
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from stacks.settings import PlatformSettings, parse

ROOT = Path(__file__).parents[2]
# `test-…` are written by tests while they run, and are not committed.
STACKS = sorted(
    name
    for path in (ROOT / "stacks").glob("Pulumi.*.yaml")
    if not (name := path.name.split(".")[1]).startswith("test-")
)

# Further ones that show how a stack fits an existing cluster; nobody runs them as they are.
CLUSTERS = ROOT / "tests" / "golden" / "stacks"
CLUSTER_STACKS = sorted(path.name.split(".")[1] for path in CLUSTERS.glob("Pulumi.*.yaml"))
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.yaml"))


def platform_object(stack: str) -> dict[str, Any]:
    """The object under `spillway:platform` of a stack or an example, as written; the caller's to change."""
    if stack in EXAMPLES:
        file = ROOT / "examples" / f"{stack}.yaml"
    else:
        file = (CLUSTERS if stack in CLUSTER_STACKS else ROOT / "stacks") / f"Pulumi.{stack}.yaml"
    return copy.deepcopy(_read(file)["config"]["spillway:platform"])


def golden_resources(stack: str) -> list[dict[str, Any]]:
    """What the golden preview of a stack or an example lists. Read once for all tests: not to be changed."""
    return _read(ROOT / "tests" / "golden" / f"{stack}.yaml")["resources"]


def namespace_role() -> dict[tuple[str, str], set[str]]:
    """Verbs by API group and resource, as docs/namespace-role.yaml grants them in its namespace."""
    return {
        (group, resource): set(rule["verbs"])
        for rule in _read(ROOT / "docs" / "namespace-role.yaml")["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def platform_settings(stack: str) -> PlatformSettings:
    """The same, validated."""
    return parse(platform_object(stack))


def declare(settings: PlatformSettings) -> None:
    """Runs the program of the settings' scenario, as `stacks/__main__.py` does."""
    importlib.import_module(f"stacks.{settings.scenario}").deploy(settings).export()


@cache
def _read(file: Path) -> dict[str, Any]:
    # Many tests ask for the same few files, and some are thousands of lines: once each, by libyaml.
    return yaml.load(file.read_text(), Loader=yaml.CSafeLoader)
