"""The committed stack files, read as the program reads them."""

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


def platform_object(stack: str) -> dict[str, Any]:
    """The object under `spillway:platform`, as written."""
    folder = CLUSTERS if stack in CLUSTER_STACKS else ROOT / "stacks"
    text = (folder / f"Pulumi.{stack}.yaml").read_text()
    return yaml.safe_load(text)["config"]["spillway:platform"]


def platform_settings(stack: str) -> PlatformSettings:
    """The same, validated."""
    return parse(platform_object(stack))
