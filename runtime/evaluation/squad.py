"""Exact match and F1 of answers as SQuAD defines them.

The one metric here that no light library has: `evaluate` fetches its script from a hub when it is used, and
torchmetrics needs torch. So it is written out, and tests hold it against the values of both.
Source: Rajpurkar et al. 2016, https://arxiv.org/abs/1606.05250, section 6.1, and its evaluation script v1.1.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(answer: str, references: Sequence[str]) -> float:
    """1 if the answer has the words of a reference, else 0; case, punctuation and articles do not count."""
    return float(any(_words(answer) == _words(reference) for reference in references))


def f1(answer: str, references: Sequence[str]) -> float:
    """Harmonic mean of precision and recall of the words, 0 to 1, against the reference that fits best."""
    return max((_overlap(_words(answer), _words(reference)) for reference in references), default=0.0)


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()


def _overlap(answer: Sequence[str], reference: Sequence[str]) -> float:
    common = (Counter(answer) & Counter(reference)).total()
    return 2 * common / (len(answer) + len(reference)) if common else 0.0
