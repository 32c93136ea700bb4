"""Overlap with reference texts: ROUGE by rouge-score, BLEU and chrF by sacreBLEU."""

import importlib
from collections.abc import Sequence
from typing import Any

from runtime.evaluation.interval import Statistic

# The libraries have no types of their own or partial ones, and are loaded only where they are used.
_Library = Any


class Rouge:
    """ROUGE of one answer, as F-measure from 0 to 1.

    Args:
        kinds: `rouge1`, `rouge2`, `rougeL`, `rougeLsum`.
        stemmer: Whether words are compared by their stems.
    """

    def __init__(self, kinds: Sequence[str], stemmer: bool) -> None:
        library: _Library = importlib.import_module("rouge_score.rouge_scorer")
        self._scorer = library.RougeScorer(list(kinds), use_stemmer=stemmer)

    def __call__(self, answer: str, references: Sequence[str]) -> dict[str, float]:
        """Scores by the kinds' names, each against the reference that fits it best."""
        found = self._scorer.score_multi(list(references), answer)
        return {kind: float(score.fmeasure) for kind, score in found.items()}


def bleu(answers: Sequence[str], references: Sequence[Sequence[str]], tokenize: str) -> Statistic:
    """BLEU of any of the answers together, 0 to 100.

    Args:
        answers: The answers.
        references: For each answer its references, as many as it has.
        tokenize: sacreBLEU's tokenizer.
    """
    library: _Library = importlib.import_module("sacrebleu.metrics")
    # `force`: sacreBLEU otherwise warns of answers that look tokenized, which is the model's affair.
    return _by_sentences(library.BLEU(tokenize=tokenize, force=True), answers, references)


def chrf(answers: Sequence[str], references: Sequence[Sequence[str]]) -> Statistic:
    """chrF2 of any of the answers together, 0 to 100."""
    library: _Library = importlib.import_module("sacrebleu.metrics")
    return _by_sentences(library.CHRF(), answers, references)


def _by_sentences(metric: _Library, answers: Sequence[str], references: Sequence[Sequence[str]]) -> Statistic:
    """What each sentence adds is counted once; a resample only adds it up.

    sacreBLEU's own bootstrap does it by the same two functions (`sacrebleu/significance.py`), which have no
    public names; a test holds them against `corpus_score`.
    """
    most = max(len(each) for each in references)
    # Streams, the first with each answer's first reference and so on; None where an answer has no more.
    streams = [[each[at] if at < len(each) else None for each in references] for at in range(most)]
    counts = metric._extract_corpus_statistics(list(answers), streams)
    return lambda chosen: float(metric._aggregate_and_compute([counts[at] for at in chosen]).score)
