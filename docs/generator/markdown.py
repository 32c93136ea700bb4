"""The few pieces of Markdown that the generated pages are made of."""

from collections.abc import Iterable, Sequence


def page(*parts: str) -> str:
    """A whole page: its parts with a blank line between them; empty parts are left out."""
    return "\n\n".join(part for part in parts if part) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a `|` in a cell is escaped and a line break becomes a space."""
    lines = [_row(head), "|" + "---|" * len(head)]
    lines += [_row([" ".join(cell.replace("|", "\\|").split()) for cell in row]) for row in rows]
    return "\n".join(lines)


def fence(language: str, text: str) -> str:
    """A block of code."""
    return f"```{language}\n{text.rstrip()}\n```"


def code(text: str) -> str:
    """Code inside a line; nothing for an empty text."""
    return f"`{text}`" if text else ""


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
