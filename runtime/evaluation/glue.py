"""GLUE's metrics, by scikit-learn and scipy, and how a label is read from an answer.

Which task has which: Wang et al. 2019, https://arxiv.org/abs/1804.07461, table 1. The functions are those of
`evaluate`'s glue metric.
"""

import importlib
import math
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from runtime.evaluation.interval import Statistic

METRICS = MappingProxyType(
    {
        "cola": ("matthews_correlation",),
        "sst2": ("accuracy",),
        "mrpc": ("accuracy", "glue_f1"),
        "qqp": ("accuracy", "glue_f1"),
        "stsb": ("pearson", "spearmanr"),
        "mnli": ("accuracy",),
        "qnli": ("accuracy",),
        "rte": ("accuracy",),
        "wnli": ("accuracy",),
    }
)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
# Beside all labels: an answer without one is wrong, whatever the reference.
NO_LABEL = -1


def label_of(answer: str, labels: Mapping[str, int]) -> int:
    """The label that an answer names first, as a word of its own; `NO_LABEL` if it names none."""
    found: list[tuple[int, int, int]] = []
    for text, label in labels.items():
        match = re.search(rf"(?<!\w){re.escape(text)}(?!\w)", answer, re.IGNORECASE)
        if match:
            # Of `not entailment` and `entailment` the longer one is meant.
            found.append((match.start(), -len(text), label))
    return min(found)[2] if found else NO_LABEL


def reference_of(text: str, labels: Mapping[str, int]) -> float:
    """The label that a reference is, by its exact text or its number; without labels, a number.

    Raises:
        ValueError: It is none.
    """
    if not labels:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(f"{text!r} is no finite number")
        return number
    if text in labels:
        return labels[text]
    for label in labels.values():
        if text == str(label):
            return label
    raise ValueError(f"{text!r} is no label")


def number_of(answer: str) -> float:
    """The first number of an answer; 0 if it has none, which stsb gives to unrelated sentences."""
    match = _NUMBER.search(answer)
    return float(match[0]) if match else 0.0


def statistic(metric: str, predicted: Sequence[float], right: Sequence[float]) -> Statistic:
    """One of GLUE's metrics over any of the records.

    Args:
        metric: A name of `METRICS`.
        predicted: What was read from the answers.
        right: The references.
    """
    function = _FUNCTIONS[metric]
    given, wanted = np.asarray(predicted), np.asarray(right)
    return lambda chosen: function(given[np.asarray(chosen)], wanted[np.asarray(chosen)])


def _accuracy(predicted: Any, right: Any) -> float:
    return float(_sklearn().accuracy_score(right, predicted))


def _f1(predicted: Any, right: Any) -> float:
    # Of the label 1, as GLUE has it. `labels` keeps answers without a label from making it a task of three.
    metrics = _sklearn()
    return float(metrics.f1_score(right, predicted, labels=[1], average="micro", zero_division=0.0))


def _matthews(predicted: Any, right: Any) -> float:
    return float(_sklearn().matthews_corrcoef(right, predicted))


def _pearson(predicted: Any, right: Any) -> float:
    return _correlation("pearsonr", predicted, right)


def _spearman(predicted: Any, right: Any) -> float:
    return _correlation("spearmanr", predicted, right)


def _correlation(function: str, predicted: Any, right: Any) -> float:
    # scipy warns and answers NaN for a constant; a model that always says the same shows no correlation.
    if len(predicted) < 2 or np.ptp(predicted) == 0 or np.ptp(right) == 0:
        return 0.0
    stats: Any = importlib.import_module("scipy.stats")
    return float(getattr(stats, function)(predicted, right).statistic)


def _sklearn() -> Any:
    return importlib.import_module("sklearn.metrics")


_FUNCTIONS = MappingProxyType(
    {
        "accuracy": _accuracy,
        "glue_f1": _f1,
        "matthews_correlation": _matthews,
        "pearson": _pearson,
        "spearmanr": _spearman,
    }
)
