"""Commands, paths and settings that the documents name exist."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from docs.generator.configuration import sections
from stacks.sagemaker_settings import SageMakerSettings
from stacks.settings import PlatformSettings
from tests.support.documents import DOCUMENTS, fences, inline_code, read
from tests.support.stack_files import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
SETTINGS = {
    row.path for root in (PlatformSettings, SageMakerSettings) for one in sections(root) for row in one.rows
}
# Dotted names that begin like a setting and are none.
OTHER_NAMES = {"ray.serve.llm", "cluster.py"}

_MAKE = re.compile(r"\bmake ((?:-\S+ )*)((?:[a-z][a-z-]*)(?: [a-z][a-z-]*)*)")
_SECTIONS = "|".join(sorted({re.escape(path.partition(".")[0]) for path in SETTINGS if "." in path}))
_SETTING = re.compile(rf"(?:spillway:platform\.)?((?:{_SECTIONS})(?:\.\w+(?:\[\])?)+)(?:: .*| .*)?")
_FOLDERS = [path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]
_PATH = re.compile(rf"(?:\.\./)*((?:{'|'.join(map(re.escape, _FOLDERS))})/[^\s:,;)]*)")
# What a reader fills in: <stack>, STACK, NAME, NNNN, {x}, ….
_PLACEHOLDER = re.compile(r"<[^>]+>|\{[^}]+\}|…|\b(?!README|CHANGELOG|CONTRIBUTING)[A-Z][A-Z-]+\b")


def make_targets(text: str) -> set[str]:
    """The targets of every `make` command in the code of a document."""
    commands = [*fences(text, "sh", "bash", "console", ""), *inline_code(text)]
    found = (match for command in commands for match in _MAKE.findall(_without_comments(command)))
    return {target for _, targets in found for target in targets.split()}


def named_paths(text: str) -> set[str]:
    """The paths of the repository that stand as code in the lines of a document, as patterns."""
    found = (_PATH.fullmatch(word) for code in inline_code(text) for word in code.split())
    return {_PLACEHOLDER.sub("*", match[1]) for match in found if match}


def named_settings(text: str) -> set[str]:
    """The dotted settings that stand as code in the lines of a document."""
    found = (_SETTING.fullmatch(code) for code in inline_code(text))
    names = {match[1].removesuffix("[]") for match in found if match}
    return names - OTHER_NAMES


def keys_of_stack_files(text: str) -> set[str]:
    """The keys of all YAML in a document that is a stack file or a part of one, at whatever depth."""
    documents: list[Any] = [yaml.safe_load(_alternatives_apart(block)) for block in fences(text, "yaml")]
    stack_files = [document for document in documents if document and "spec" not in document]
    return {key for part in stack_files for key in _keys(part)} - {"config", "spillway:platform"}


def _without_comments(command: str) -> str:
    return re.sub(r"\s#.*", "", command)


def _alternatives_apart(block: str) -> str:
    """Lines that all give one key are alternatives; as one YAML document they would be a mistake."""
    lines = [line.partition("  #")[0] for line in block.splitlines()]
    return (
        "\n".join(dict.fromkeys(lines)) if len({line.partition(":")[0] for line in lines}) > 1 else lines[0]
    )


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in cast("list[Any]", value):
            yield from _keys(item)
    if isinstance(value, dict):
        for key, inner in cast("dict[str, Any]", value).items():
            yield str(key)
            # The keys below are vLLM's, not settings.
            if key != "engineArguments":
                yield from _keys(inner)


def test_the_names_in_a_document_are_found() -> None:
    text = """
Run `make up STACK=lab`, never make it up. See `stacks/Pulumi.<stack>.yaml`,
`spillway:platform.gateway.clients`,
`kuberay.install: existing`, `ray.gone`, `ray.serve.llm` and `docs/gone.md`.
```sh
make -s docs   # make coffee
KUBECONFIG=x make preview down
```
```yaml
models: [{name: a, engineArguments: {load_format: dummy}}]
```
"""
    assert make_targets(text) == {"up", "docs", "preview", "down"}
    assert named_paths(text) == {"stacks/Pulumi.*.yaml", "docs/gone.md"}
    assert named_settings(text) == {"gateway.clients", "kuberay.install", "ray.gone"}
    assert keys_of_stack_files(text) == {"models", "name", "engineArguments"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_make_command_of_a_document_is_in_the_makefile(document: Path) -> None:
    assert make_targets(read(document)) <= TARGETS


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_path_that_a_document_names_is_there(document: Path) -> None:
    assert not [path for path in named_paths(read(document)) if not list(ROOT.glob(path.rstrip("/")))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_setting_that_a_document_names_is_in_the_schema(document: Path) -> None:
    if document.parts[:2] == ("docs", "policies") or document.parts[0] == "policies":
        return  # they show properties of resources, and waivers
    assert named_settings(read(document)) <= SETTINGS
    assert keys_of_stack_files(read(document)) <= {
        path.rpartition(".")[2].removesuffix("[]") for path in SETTINGS
    }


def test_every_make_command_that_a_message_of_the_program_names_is_in_the_makefile() -> None:
    folders = [ROOT / name for name in _FOLDERS if name != "tests"]
    texts = [path.read_text() for folder in folders for path in folder.rglob("*.py")]
    named = {target for text in texts for target in re.findall(r"`make ([a-z-]+)", text)}
    assert named
    assert named <= TARGETS
