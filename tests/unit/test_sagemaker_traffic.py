"""Weights and shares: what a canary gets, at every moment of a change, and whether it can carry it."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.sagemaker.traffic import Fleet, TrafficError, moved, share, too_few, whole_weights

WEIGHT = st.integers(0, 1000)
SHARES = st.integers(0, 1000).map(lambda part: part / 1000)


@given(WEIGHT, WEIGHT, WEIGHT, SHARES)
def test_whichever_weight_takes_effect_first_the_canary_has_no_more_than_before_or_after(
    canary: int, stable: int, other: int, wanted: float
) -> None:
    before: dict[str, float] = {"canary": canary, "stable": stable, "other": other}
    try:
        after = moved(before, "canary", "stable", wanted)
    except TrafficError:
        assert canary + stable <= wanted * (canary + stable + other)
        return
    most = max(share(before, "canary"), wanted)
    weights = before
    for order in permutations(after):
        weights = dict(before)
        for name in order:
            weights[name] = after[name]
            assert share(weights, "canary") <= most + 1e-9
    assert share(weights, "canary") == pytest.approx(wanted, abs=2e-4)
    assert share(weights, "other") == pytest.approx(share(before, "other"))
    assert min(weights.values()) >= 0


def test_nothing_is_moved_where_the_two_have_no_traffic_or_less_than_asked_for() -> None:
    with pytest.raises(TrafficError, match="both have weight 0"):
        moved({"canary": 0, "stable": 0, "other": 1}, "canary", "stable", 0.5)
    with pytest.raises(TrafficError, match=r"have 50% of the traffic together, and 60%.*from other first"):
        moved({"canary": 1, "stable": 4, "other": 5}, "canary", "stable", 0.6)


@pytest.mark.parametrize(
    ("weights", "whole"),
    [
        ({"stable": 7.5, "canary": 2.5}, {"stable": 3, "canary": 1}),
        ({"stable": 0.0, "canary": 10.0}, {"stable": 0, "canary": 1}),
        ({"stable": 6.7, "canary": 3.3}, {"stable": 67, "canary": 33}),
        ({"stable": 5, "canary": 1, "other": 4}, {"stable": 5, "canary": 1, "other": 4}),
        # As it is read back, with 32 bits.
        ({"stable": 0.8999999761581421, "canary": 0.10000000149011612}, {"stable": 9, "canary": 1}),
    ],
)
def test_a_stack_file_gets_the_same_shares_in_whole_numbers(
    weights: dict[str, float], whole: dict[str, int]
) -> None:
    assert whole_weights(weights) == whole


@pytest.mark.parametrize(
    ("canary", "stable", "wanted", "why"),
    [
        ((1, 64), (1, 64), 1.0, None),
        ((1, 64), (2, 64), 0.5, None),
        ((1, 64), (2, 64), 0.51, "51% of the stable fleet's 128 requests at a time are 65.28, and it has 64"),
        # A smaller type with more of them.
        ((4, 16), (1, 64), 1.0, None),
        ((2, None), (3, 64), 0.9, "90% of the stable fleet's 3 instances are 2.7, and it has 2"),
    ],
)
def test_a_canary_needs_its_share_of_what_the_stable_fleet_can_do(
    canary: tuple[int, int | None], stable: tuple[int, int | None], wanted: float, why: str | None
) -> None:
    fleets = [Fleet(instances=one, at_once=at_once) for one, at_once in (canary, stable)]
    assert too_few(fleets[0], fleets[1], wanted) == why
