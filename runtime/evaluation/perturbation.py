"""Careless spellings of a prompt: typing mistakes, wrong case, stray spaces; the same for the same seed.

The kinds are those of fmeval's semantic robustness. A change keeps what a reader understands.
"""

import random
from collections.abc import Callable
from types import MappingProxyType

from runtime.evaluation.job import Perturbation

# Keys beside each other on a QWERTY keyboard.
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def perturbed(text: str, kind: Perturbation, share: float, seed: str) -> str:
    """A careless spelling of a text.

    Args:
        text: The text.
        kind: What is done to it.
        share: Part of its letters (typos, case) or gaps (whitespace) that is changed, at random.
        seed: The same seed gives the same spelling.
    """
    return _KINDS[kind](text, share, random.Random(seed))  # noqa: S311 (no secret is drawn)


def _typos(text: str, share: float, draw: random.Random) -> str:
    return "".join(_neighbour(one, draw) if one.isalpha() and draw.random() < share else one for one in text)


def _case(text: str, share: float, draw: random.Random) -> str:
    return "".join(one.swapcase() if one.isalpha() and draw.random() < share else one for one in text)


def _whitespace(text: str, share: float, draw: random.Random) -> str:
    changed: list[str] = []
    for one in text:
        if draw.random() >= share:
            changed.append(one)
        elif one == " ":
            changed.append(draw.choice(("", "  ")))
        else:
            changed.append(f"{one} ")
    return "".join(changed)


def _neighbour(letter: str, draw: random.Random) -> str:
    for row in _ROWS:
        at = row.find(letter.lower())
        if at >= 0:
            beside = [row[near] for near in (at - 1, at + 1) if 0 <= near < len(row)]
            found = draw.choice(beside)
            return found.upper() if letter.isupper() else found
    return letter


_KINDS: MappingProxyType[Perturbation, Callable[[str, float, random.Random], str]] = MappingProxyType(
    {"typos": _typos, "case": _case, "whitespace": _whitespace}
)
