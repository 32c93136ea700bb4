"""Golden previews: everything that the program declares for each committed stack and example, in full.

They detect change, and show a reviewer what a change of the code does to every stack. What is meant is
asserted one by one in tests/components.
"""

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from tests.support.stack_files import (
    CLUSTER_STACKS,
    EXAMPLES,
    STACKS,
    declare,
    platform_settings,
    stack_settings,
)
from tests.support.synth import Registered, Synthesized, synth

FOLDER = Path(__file__).parent
ALL = [*STACKS, *CLUSTER_STACKS, *EXAMPLES]
UPDATE = "pytest tests/golden --update-golden -q"
# The SDK wraps a secret into an object with this key.
SECRET = "4dabf18193072939515e22adb298388d"


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, and no anchors: every resource reads alone."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)  # pyright: ignore[reportUnknownMemberType]


_Dumper.add_representer(str, _text)  # pyright: ignore[reportUnknownMemberType]


def preview(stack: str, kubeconfig: Path) -> str:
    """The golden text of a stack; the only path of this machine in it is the kubeconfig's."""
    made = synth(lambda: declare(stack_settings(stack)))
    document = {
        "resources": [_described(resource) for resource in _as_a_tree(made)],
        "outputs": _readable(made.outputs),
    }
    head = f"# Everything that stack {stack} declares, in a tree's order. Written by `make golden`.\n"
    body = yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)
    return head + body.replace(str(kubeconfig), "$KUBECONFIG")


def _as_a_tree(made: Synthesized) -> Iterator[Registered]:
    """Parents before children, siblings by type and name: the order of registration varies."""
    children: dict[str, list[Registered]] = {}
    for resource in sorted(made.resources, key=lambda resource: (resource.type, resource.name)):
        children.setdefault(resource.parent, []).append(resource)

    def below(parent: Registered) -> Iterator[Registered]:
        yield parent
        # Only components and the stack have children, and no two of them share a name.
        if parent.type.startswith(("spillway:", "pulumi:pulumi:")):
            for child in children.get(parent.name, []):
                yield from below(child)

    for root in children[""]:
        yield from below(root)


def _described(resource: Registered) -> dict[str, Any]:
    kind = re.search(r"pulumi:providers:(\w+)::(.+)::", resource.provider)
    described: dict[str, Any] = {
        "type": resource.type,
        "name": resource.name,
        "parent": resource.parent,
        "provider": f"{kind[1]} ({kind[2]})" if kind else "",
        "dependsOn": sorted(set(resource.depends_on)),
        "timeouts": resource.custom_timeouts,
        "inputs": _readable(resource.inputs),
    }
    return {key: value for key, value in described.items() if value}


def _readable(value: Any) -> Any:
    if isinstance(value, list):
        return [_readable(item) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    mapping = cast("dict[str, Any]", value)
    if SECRET in mapping:
        return {"(secret)": _readable(mapping["value"])}
    return {key: _readable(mapping[key]) for key in sorted(mapping)}


@pytest.mark.parametrize("stack", ALL)
def test_a_committed_stack_declares_what_its_golden_preview_shows(
    stack: str, kubeconfig: Path, request: pytest.FixtureRequest
) -> None:
    golden, now = FOLDER / f"{stack}.yaml", preview(stack, kubeconfig)
    if request.config.getoption("--update-golden"):
        golden.write_text(now)
    before = golden.read_text() if golden.is_file() else ""
    if before != now:
        lines = difflib.unified_diff(
            before.splitlines(),
            now.splitlines(),
            f"{golden.name} (committed)",
            f"{golden.name} (now)",
            lineterm="",
        )
        pytest.fail(
            "\n".join([*lines, "", f"If this change is meant: make golden, or {UPDATE}"]), pytrace=False
        )


def test_there_is_no_golden_preview_without_its_stack() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == sorted(ALL)


def test_a_golden_preview_shows_every_resource_once_and_no_path_of_this_machine(kubeconfig: Path) -> None:
    text = preview("local", kubeconfig)
    made = synth(lambda: declare(platform_settings("local")))
    listed = yaml.load(text, Loader=yaml.CSafeLoader)["resources"]
    shown = [(resource["type"], resource["name"]) for resource in listed]
    assert sorted(shown) == sorted((resource.type, resource.name) for resource in made.resources)
    assert "kubeconfig: $KUBECONFIG" in text
    assert str(kubeconfig.parent) not in text
    assert str(FOLDER.parents[1]) not in text
