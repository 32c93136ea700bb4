"""The Markdown documents of the repository, whichever folder they are in."""

import re
from pathlib import Path

from tests.support.stack_files import ROOT

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")

DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for path in (
        *ROOT.glob("*.md"),
        *(
            path
            for folder in ROOT.iterdir()
            if folder.is_dir() and not folder.name.startswith(".")
            for path in folder.rglob("*.md")
        ),
    )
)


def read(document: Path) -> str:
    """The text of a document."""
    return (ROOT / document).read_text()


def fences(text: str, *languages: str) -> list[str]:
    """The blocks of code of a text in some languages; without any, all of them."""
    return [block for language, block in _FENCE.findall(text) if not languages or language in languages]


def prose(text: str) -> str:
    """The text without its blocks of code."""
    return _FENCE.sub("", text)


def inline_code(text: str) -> list[str]:
    """What stands between backticks in the lines of a text."""
    return _INLINE.findall(prose(text))
