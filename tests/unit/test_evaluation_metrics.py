"""Metrics agree with values that their authors published; each case names where."""

import importlib
import math
import random
from collections.abc import Sequence
from typing import Any

import pytest

from runtime.evaluation import glue, squad
from runtime.evaluation.interval import difference, interval, mean_of
from runtime.evaluation.job import Confidence
from runtime.evaluation.overlap import Rouge, bleu, chrf
from runtime.evaluation.perturbation import perturbed

# https://github.com/mjpost/sacrebleu, test/test_bleu.py: _hyps and _refs, the README's example.
HYPOTHESES = ("The dog bit the man.", "It wasn't surprising.", "The man had just bitten him.")
REFERENCES = (
    ("The dog bit the man.", "The dog had bit the man."),
    ("It was not unexpected.", "No one was surprised."),
    ("The man bit him first.", "The man had bitten the dog."),
)

# https://github.com/google-research/google-research, rouge/testdata/{target,prediction}.txt, both lines.
TARGETS = (
    "ZfbCUIUuePaiLVUlCaUXxkpu XPeWing tUHfPMuZ',-Xd Y BrUgVJing M-HV.-DgdDaY.rFDJCRing Ht-LM EKBDXkME,yz'RBr "
    "q'wtion wIojNbN wL,b .a-'XdQggyFl jB-RPP'iyOIcUxer tKM L",
    "KsJdPByEtAor fE-Qg Dpdbring cw-WeFyu vC MoBL Xdn g wkvcEiGvKtion BDFhrpMtion psing sbKao Q m qiing "
    "LMmer HqqLFXe,XPY,J XsurkMer ,ed nB'wH'bWVHjWFEing tQ.saefZwJtKrTlixYpMMsJing UCAPwNHeYVjDing c T "
    "BUySKtion gMPfJpwGw p'NvxAoping eu pBwMBKV'I DNxqelhu,PHPxDEq,mtion SN",
)
PREDICTIONS = (
    "rFDJCRtion Ht-LM EKtDXkME,yz'RBr q'wer wrojNbN wL,b .a-'XdQggyFl jB-RPP'iyOIcUxi",
    "n cw-WeFyu vC MoBL Xdn g wkvcEiGvKtion BDFhrpMer pstion sbKao Q m qier LMmed HqqLFXe,XPY,J XsurkMeo ,ed "
    "nB'wH'bWVHjWFEer tQ.saefZwJtKrTlixYpMMNJtion UCAPwNHeYVjD",
)


@pytest.mark.parametrize(
    ("hypotheses", "tokenize", "published"),
    [
        (HYPOTHESES, "13a", 48.530827),
        (HYPOTHESES, "none", 49.1919566),
        (HYPOTHESES, "intl", 43.91623493),
        (("", "", ""), "13a", 0.0),
    ],
)
def test_bleu_is_what_sacrebleu_tests_for(hypotheses: Sequence[str], tokenize: str, published: float) -> None:
    found = bleu(hypotheses, REFERENCES, tokenize)(range(3))
    assert found == pytest.approx(published, abs=1e-6)


def test_bleu_of_some_records_is_that_of_a_corpus_of_them() -> None:
    library: Any = importlib.import_module("sacrebleu")
    some = [0, 2, 2]
    streams = [[REFERENCES[at][stream] for at in some] for stream in (0, 1)]
    expected = library.corpus_bleu([HYPOTHESES[at] for at in some], streams, force=True).score
    assert bleu(HYPOTHESES, REFERENCES, "13a")(some) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("hypotheses", "references", "published"),
    [
        # test/test_chrf.py, the cases of sacreBLEU < 2.0 mode that hold for beta 2 as well as 3.
        (["a b c"], ["abc"], 100.0),
        (["a", "b"], ["a", "c"], 50.0),
        (["aa"], ["ab"], 25.0),
        ([""], ["reference"], 0.0),
    ],
)
def test_chrf_is_what_sacrebleu_tests_for(
    hypotheses: list[str], references: list[str], published: float
) -> None:
    found = chrf(hypotheses, [(one,) for one in references])(range(len(hypotheses)))
    assert found == pytest.approx(published, abs=1e-4)


def test_chrf_of_records_with_different_numbers_of_references() -> None:
    library: Any = importlib.import_module("sacrebleu")
    references = [("The dog bit the man.",), REFERENCES[1], REFERENCES[2]]
    streams = [[one[0] for one in references], [None, REFERENCES[1][1], REFERENCES[2][1]]]
    expected = library.corpus_chrf(list(HYPOTHESES), streams).score
    assert chrf(HYPOTHESES, references)(range(3)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("at", "kind", "stemmer", "published"),
    [
        # rouge/rouge_scorer_test.py: test…AgainstRouge155, which are ROUGE-1.5.5's own values.
        (0, "rouge1", False, 0.51163),
        (1, "rouge1", False, 0.50000),
        (1, "rouge1", True, 0.52941),
        (0, "rouge2", False, 0.39024),
        (1, "rouge2", True, 0.36364),
        (0, "rougeL", False, 0.51163),
        (1, "rougeL", False, 0.50000),
    ],
)
def test_rouge_is_that_of_rouge_155(at: int, kind: str, stemmer: bool, published: float) -> None:
    found = Rouge([kind], stemmer)(PREDICTIONS[at], [TARGETS[at]])
    assert found == {kind: pytest.approx(published, abs=1e-5)}


def test_rouge_takes_the_reference_that_fits_best() -> None:
    # rouge/rouge_scorer_test.py: testRougeAllMulti
    found = Rouge(["rouge1", "rouge2", "rougeL"], False)("text first", ["first text", "first something"])
    assert found == {"rouge1": 1.0, "rouge2": 0.0, "rougeL": 0.5}


def test_rouge_lsum_takes_lines_for_sentences() -> None:
    # rouge/rouge_scorer_test.py: testRougeLSumSentenceSplitting, testRougeLsum
    split = Rouge(["rougeLsum"], True)(
        "Second sentence.\nFirst Sentence.", ["First sentence.\nSecond Sentence."]
    )
    assert split["rougeLsum"] == pytest.approx(1.0)
    found = Rouge(["rougeLsum"], False)("w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5", ["w1 w2 w3 w4 w5"])
    assert found["rougeLsum"] == pytest.approx(0.5333, abs=1e-3)


def test_squad_is_that_of_its_metric_card() -> None:
    # https://github.com/huggingface/evaluate, metrics/squad/README.md: partial match, 2 out of 3 right.
    cases = [("1976", "1976"), ("Beyonce", "Beyoncé and Bruno Mars"), ("climate change", "climate change")]
    assert [squad.exact_match(answer, [right]) for answer, right in cases] == [1, 0, 1]
    assert sum(squad.f1(answer, [right]) for answer, right in cases) / 3 == pytest.approx(2 / 3)


def test_squad_ignores_case_articles_and_punctuation_and_takes_the_best_reference() -> None:
    # Evaluation script v1.1, normalize_answer and metric_max_over_ground_truths.
    assert squad.exact_match("  An apple, the PIE!", ["other", "apple pie"]) == 1
    assert squad.exact_match("theory", ["ory"]) == 0
    # 2 common words of 3 given and 4 wanted: precision 2/3, recall 1/2.
    assert squad.f1("one two six", ["nothing", "one two three four"]) == pytest.approx(4 / 7)
    assert squad.f1("the", ["an"]) == 0


@pytest.mark.parametrize(
    ("metric", "predicted", "right", "published"),
    [
        # Examples in the documentation of scikit-learn's accuracy_score, f1_score (user guide 3.4.4.9),
        # matthews_corrcoef, and of scipy's pearsonr and spearmanr.
        ("accuracy", [0, 2, 1, 3], [0, 1, 2, 3], 0.5),
        ("glue_f1", [0, 1, 0, 0], [0, 1, 0, 1], 2 / 3),
        ("matthews_correlation", [1, -1, 1, 1], [1, 1, 1, -1], -1 / 3),
        ("pearson", [1, 2, 3, 4, 5, 6, 7], [10, 9, 2.5, 6, 4, 3, 2], -0.828503883588428),
        ("spearmanr", [1, 2, 3, 4, 5], [5, 6, 7, 8, 7], 0.8207826816681233),
    ],
)
def test_glue_metrics_are_those_of_the_libraries_documentation(
    metric: str, predicted: list[float], right: list[float], published: float
) -> None:
    assert glue.statistic(metric, predicted, right)(range(len(right))) == pytest.approx(published)


def test_each_glue_task_has_the_metrics_of_the_benchmark() -> None:
    # Wang et al. 2019, table 1.
    assert {task for task, names in glue.METRICS.items() if names == ("accuracy",)} == {
        "sst2",
        "mnli",
        "qnli",
        "rte",
        "wnli",
    }
    assert glue.METRICS["cola"] == ("matthews_correlation",)
    assert glue.METRICS["stsb"] == ("pearson", "spearmanr")
    assert glue.METRICS["mrpc"] == glue.METRICS["qqp"] == ("accuracy", "glue_f1")


def test_an_answer_without_a_label_makes_f1_no_task_of_three_labels() -> None:
    found = glue.statistic("glue_f1", [glue.NO_LABEL, 1, 0], [1, 1, 0])(range(3))
    assert found == pytest.approx(2 / 3)


def test_a_model_that_always_says_the_same_correlates_with_nothing() -> None:
    assert glue.statistic("pearson", [3, 3, 3], [1, 2, 3])(range(3)) == 0
    assert glue.statistic("spearmanr", [3, 3, 3], [1, 2, 3])(range(3)) == 0


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("Positive.", 1),
        ("The sentiment is negative, not positive", 0),
        ("unpositive", glue.NO_LABEL),
        ("", glue.NO_LABEL),
    ],
)
def test_the_label_is_the_one_that_an_answer_names_first(answer: str, label: int) -> None:
    assert glue.label_of(answer, {"negative": 0, "positive": 1}) == label


def test_the_longer_of_two_labels_at_one_place_is_meant() -> None:
    labels = {"entailment": 0, "not entailment": 1}
    assert glue.label_of("Not entailment", labels) == 1


def test_the_number_of_an_answer_is_its_first() -> None:
    assert glue.number_of("I'd say 3.8 out of 5") == 3.8
    assert glue.number_of("no idea") == 0


def test_an_interval_holds_the_true_mean_as_often_as_it_says() -> None:
    # 1 of 4 records is right; of 40 samples, 95 % of the intervals have to hold 0.25.
    draw = random.Random(7)
    confidence = Confidence(resamples=200)
    held = 0
    for _ in range(40):
        scores = [float(draw.random() < 0.25) for _ in range(80)]
        found = interval(mean_of(scores), len(scores), confidence)
        held += found.low <= 0.25 <= found.high
    assert 34 <= held <= 40


def test_the_same_seed_gives_the_same_interval() -> None:
    scores = [float(at % 3 == 0) for at in range(50)]
    one, other = (interval(mean_of(scores), 50, Confidence()) for _ in range(2))
    assert one == other
    assert one.low < one.value < one.high


def test_one_record_has_no_interval() -> None:
    found = interval(mean_of([1.0]), 1, Confidence())
    assert (found.value, found.low, found.high) == (1.0, -math.inf, math.inf)


def test_a_difference_on_the_same_records_is_surer_than_two_intervals() -> None:
    hard = [float(at % 2) for at in range(100)]
    easier = [score if at % 20 else 1.0 for at, score in enumerate(hard)]
    found = interval(difference(mean_of(easier), mean_of(hard)), 100, Confidence())
    alone = interval(mean_of(hard), 100, Confidence())
    assert found.value == pytest.approx(0.05)
    assert found.low > 0
    assert found.high - found.low < alone.high - alone.low


def test_typos_replace_letters_by_their_neighbours_and_nothing_else() -> None:
    text = "The quick brown fox; 42 of them"
    found = perturbed(text, "typos", 0.5, "seed")
    changed = [(before, after) for before, after in zip(text, found, strict=True) if before != after]
    assert changed
    assert all(before.isalpha() and before.isupper() == after.isupper() for before, after in changed)


def test_case_and_whitespace_keep_the_letters() -> None:
    text = "The quick brown fox"
    assert perturbed(text, "case", 1, "seed") == "tHE QUICK BROWN FOX"
    spaced = perturbed(text, "whitespace", 0.3, "seed")
    assert spaced != text
    assert spaced.replace(" ", "") == text.replace(" ", "")


def test_the_same_seed_spells_the_same() -> None:
    one, again, other = (perturbed("a longer sentence", "typos", 0.4, seed) for seed in ("1", "1", "2"))
    assert one == again != other
