"""Percentiles and spreads: what the tables of the benchmarks are made of."""

import pytest

from benchmarks.measures import Spread, percentile, ratio


@pytest.mark.parametrize(
    ("percent", "value"), [(0, 1.0), (25, 1.75), (50, 2.5), (99, 3.97), (100, 4.0)], ids=str
)
def test_a_percentile_lies_between_its_neighbours_as_numpy_has_it(percent: float, value: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], percent) == pytest.approx(value)


def test_every_percentile_of_one_value_is_that_value() -> None:
    assert [percentile([7.0], percent) for percent in (0, 50, 99)] == [7.0, 7.0, 7.0]


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_a_percentile_beyond_the_values_is_refused() -> None:
    with pytest.raises(ValueError, match="percent is 101; allowed: 0 to 100"):
        percentile([1.0], 101)


def test_a_ratio_is_taken_run_by_run() -> None:
    # A slow second minute doubles both; the ratio of the medians would hide that nothing changed.
    assert ratio(Spread((3.0, 6.0)), Spread((2.0, 4.0))).runs == (1.5, 1.5)


def test_measurements_of_different_length_have_no_ratio() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratio(Spread((1.0, 2.0)), Spread((1.0,)))


def test_a_spread_shows_the_median_and_how_far_the_runs_lie_apart() -> None:
    assert Spread((9.0, 1.0, 2.0)).shown(1) == "2.0 (1.0 to 9.0)"
    assert Spread((1234.56,)).shown(1) == "1,234.6"


def test_the_json_of_a_spread_has_every_run_in_its_order() -> None:
    assert Spread((3.0, 1.0, 2.0)).as_json() == {
        "median": 2.0,
        "low": 1.0,
        "high": 3.0,
        "runs": [3.0, 1.0, 2.0],
    }


def test_a_measurement_without_a_run_is_none() -> None:
    with pytest.raises(ValueError, match="at least one run"):
        Spread(())
