"""Markdown that fits: text that cannot break out of its place, and sections that give way to a limit."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

_LINE: Final = 700
_SPECIAL: Final = re.compile(r"([\\`*_\[\]|#~])")


def text(words: str) -> str:
    """Words of others on one line: no formatting, no tag, no cell's end, and nobody is notified."""
    flat = " ".join(words.split())
    if len(flat) > _LINE:
        flat = f"{flat[:_LINE]}…"
    return _SPECIAL.sub(r"\\\1", flat).replace("&", "&amp;").replace("<", "&lt;").replace("@", "@\u200b")


def code(words: str) -> str:
    """A name or value as code, on one line; in a table too."""
    flat = " ".join(words.split()).replace("`", "'").replace("|", "\\|")
    return f"`{flat}`" if flat else ""


def row(*cells: str) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """A table of which all columns but the first are aligned to the right."""
    ruler = row("---", *("---:" for _ in head[1:]))
    return (row(*head), ruler, *(row(*cells) for cells in rows))


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a comment.

    Attributes:
        title: Its heading.
        lines: What it says, one line each; the first ones are the most important.
        folded: Whether a reader has to open it.
        plain: Whether its lines are shown as they are, as a diff.
        keep: How many lines it never gives up; 0 lets it be dropped as a whole.
        dropped: How many lines it has given up.
    """

    title: str
    lines: tuple[str, ...]
    folded: bool = False
    plain: bool = False
    keep: int = 10
    dropped: int = 0

    def render(self) -> str:
        """Its Markdown, with a word about what was dropped."""
        if self.dropped and not self.lines:
            return f"_{self.title}: left out, {self.dropped} lines do not fit here._\n"
        body = "\n".join(self.lines)
        if self.plain:
            body = f"```diff\n{body}\n```"
        if self.dropped:
            body += f"\n\n_{self.dropped} more lines do not fit here._"
        if self.folded:
            return f"<details><summary>{self.title}</summary>\n\n{body}\n\n</details>\n"
        return f"#### {self.title}\n\n{body}\n"

    def shortened(self, characters: int) -> "Section":
        """The same with at least so many characters less, where it may give up as many."""
        lines, dropped = list(self.lines), self.dropped
        while characters > 0 and len(lines) > self.keep:
            characters -= len(lines.pop()) + 1
            dropped += 1
        return replace(self, lines=tuple(lines), dropped=dropped)


# What it takes to say that lines were dropped.
_NOTE: Final = 100


def fit(head: str, sections: Sequence[Section], foot: str, limit: int) -> str:
    """Head, sections and foot within a limit; the last section gives way first.

    Args:
        head: What comes first, whole.
        sections: The sections that have something to say, in order.
        foot: What comes last, whole.
        limit: Most characters.
    """
    kept = list(sections)
    for index in reversed(range(len(kept))):
        over = len(_joined(head, kept, foot)) - limit
        if over <= 0:
            break
        kept[index] = kept[index].shortened(over + _NOTE)
    # Only long lines can be left, as no section keeps many.
    return _joined(head, kept, foot)[:limit]


def _joined(head: str, sections: Sequence[Section], foot: str) -> str:
    return "\n".join([head, *(section.render() for section in sections), foot]).rstrip() + "\n"
