"""The committed stack files and examples, read as the program reads them."""

import copy
import importlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from stacks.settings import SAGEMAKER, PlatformSettings, Settings, parse, parse_sagemaker

ROOT = Path(__file__).parents[2]
REMOVED = "(removed)"
"""In place of a value: the key is not there."""
# `test-…` are written by tests while they run, and are not committed.
STACKS = sorted(
    name
    for path in (ROOT / "stacks").glob("Pulumi.*.yaml")
    if not (name := path.name.split(".")[1]).startswith("test-")
)
# Those that have a Kubernetes cluster.
CLUSTERED = [name for name in STACKS if name != SAGEMAKER]

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


def changed_platform(stack: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The object of a stack with changes.

    Args:
        stack: Name of the stack or example.
        changes: Place, as `models.0.name`, to the new value; `REMOVED` takes a key away.
    """
    value = platform_object(stack)
    for place, new in changes.items():
        # A key with a blank is one that nobody should write, dots and all.
        *way, last = [place] if " " in place else place.split(".")
        here: Any = value
        for part in way:
            here = here[int(part)] if part.isdigit() else here.setdefault(part, {})
        if isinstance(here, list):
            here[int(last) : int(last) + 1] = [new]
        elif new == REMOVED:
            del here[last]
        else:
            here[last] = new
    return value


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
    """The same, validated, of a stack with a cluster."""
    return parse(platform_object(stack))


def stack_settings(stack: str) -> Settings:
    """The same of any stack."""
    given = platform_object(stack)
    return parse_sagemaker(given) if given["scenario"] == SAGEMAKER else parse(given)


def declare(settings: Settings) -> None:
    """Runs the program of the settings' scenario, as `stacks/__main__.py` does."""
    importlib.import_module(f"stacks.{settings.scenario}").deploy(settings).export()


@cache
def _read(file: Path) -> dict[str, Any]:
    # Many tests ask for the same few files, and some are thousands of lines: once each, by libyaml.
    return yaml.load(file.read_text(), Loader=yaml.CSafeLoader)
