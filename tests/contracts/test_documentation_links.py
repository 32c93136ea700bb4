"""Links between the documents, and from the code to the decisions, lead somewhere."""

import re
from pathlib import Path

import pytest

from tests.support.documents import DOCUMENTS, prose, read
from tests.support.stack_files import ROOT, STACKS

PACKAGES = ("stacks", "components", "runtime", "policies", "rehearsal", "tests")
DECISIONS = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))

_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def links_of(text: str) -> list[str]:
    """Targets of the links in a Markdown text that stay in the repository."""
    lines = _CODE.sub("code", prose(text))
    return [link for link in _LINK.findall(lines) if not re.match(r"[a-z]+:", link)]


def anchors_of(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings."""
    headings: list[str] = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(document: Path, text: str) -> list[str]:
    """The links of a document that lead nowhere."""
    found: list[str] = []
    for link in links_of(text):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors_of(target.read_text())):
            found.append(link)
    return found


def test_a_link_is_checked_by_file_and_heading_and_code_is_no_link(tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("# A heading, with `code`\n")
    text = """
[a](there.md) [b](there.md#a-heading-with-code) [c](https://example.com/x) `[d](code.md)`
```
[e](fenced.md)
```
[f](gone.md) [g](there.md#gone)
"""
    assert broken(tmp_path / "page.md", text) == ["gone.md", "there.md#gone"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_relative_link_of_a_document_leads_somewhere(document: Path) -> None:
    assert broken(ROOT / document, read(document)) == []


def test_the_documents_that_are_checked_are_there() -> None:
    names = {str(document) for document in DOCUMENTS}
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/concepts.md", "stacks/README.md"} <= names


def test_decisions_are_numbered_without_gaps_and_listed() -> None:
    assert [int(path.name[:4]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))
    listed = links_of((ROOT / "docs/adr/README.md").read_text())
    assert listed == [path.name for path in DECISIONS]
    for path in DECISIONS:
        lines = path.read_text().splitlines()
        assert lines[0].startswith(f"# {path.name[:4]}: ")
        assert lines[2].startswith("Status: ")
        assert [line for line in lines if line.startswith("## ")] == [
            "## Context",
            "## Decision",
            "## Consequences",
        ]


def test_a_decision_that_the_code_names_exists() -> None:
    files = [ROOT / "pyproject.toml", ROOT / "Makefile"]
    files += [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    named = {match for path in files for match in re.findall(r"docs/adr/(\d{4})", path.read_text())}
    assert named
    assert named <= {path.name[:4] for path in DECISIONS}


@pytest.mark.parametrize("stack", STACKS)
def test_the_table_of_stacks_has_every_committed_stack(stack: str) -> None:
    assert f"(Pulumi.{stack}.yaml)" in (ROOT / "stacks/README.md").read_text()


@pytest.mark.parametrize("stack", STACKS)
def test_a_stack_file_names_the_schema_for_editors(stack: str) -> None:
    path = ROOT / "stacks" / f"Pulumi.{stack}.yaml"
    named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", path.read_text())
    assert named is not None
    assert (path.parent / named[1]).resolve() == ROOT / "docs/platform.schema.json"
