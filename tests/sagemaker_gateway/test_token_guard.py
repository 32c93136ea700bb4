"""The token guard's numbers."""

import pytest

from runtime.sagemaker_gateway.token_guard import TokenGuard


def guard(safe_tokens: int = 3000) -> TokenGuard:
    return TokenGuard(safe_tokens=safe_tokens, first_token_s=30, limit_s=480)


def test_until_something_was_measured_the_safe_figure_counts() -> None:
    assert guard().allowance(480, at=0) == 3000
    assert guard().allowance(60, at=0) == 200


@pytest.mark.parametrize(
    ("tokens_per_s", "stream", "plain"),
    [(5, 2375, 275), (25, 11875, 1375), (50, 23750, 2750), (100, 47500, 5500)],
)
def test_after_many_answers_of_one_speed_that_speed_counts(
    tokens_per_s: int, stream: int, plain: int
) -> None:
    # The table of docs/sagemaker-gateway.md: the first token after 5 s, answers of 500 tokens.
    one = guard()
    for _ in range(400):
        one.observe_stream(501, 5.0, 5.0 + 500 / tokens_per_s, at=0)
    assert one.allowance(480, at=0) == pytest.approx(stream, rel=0.001)
    assert one.allowance(60, at=0) == pytest.approx(plain, rel=0.001)


def test_slower_counts_at_once_and_faster_slowly() -> None:
    one = guard()
    for _ in range(400):
        one.observe_stream(501, 5.0, 5.0 + 500 / 50, at=0)
    before = one.tokens_per_s
    one.observe_stream(501, 5.0, 5.0 + 500 / 10, at=0)
    assert one.tokens_per_s == pytest.approx((before + 10) / 2)
    one.observe_stream(501, 5.0, 5.0 + 500 / 50, at=0)
    assert one.tokens_per_s == pytest.approx((before + 10) / 2 + 0.05 * (50 - (before + 10) / 2))


def test_among_fast_and_slow_answers_it_settles_near_the_slow_ones() -> None:
    one = guard()
    for number in range(1000):
        speed = 20 if number % 10 == 0 else 60
        one.observe_stream(501, 5.0, 5.0 + 500 / speed, at=0)
    assert 20 < one.tokens_per_s < 45


def test_a_late_first_token_leaves_less_for_the_others() -> None:
    one = guard()
    one.observe_stream(1, 70.0, 70.0, at=0)
    assert one.first_token_s == 50
    assert one.allowance(480, at=0) < 3000


def test_few_tokens_say_nothing_of_the_speed() -> None:
    one = guard()
    one.observe_stream(15, 30.0, 30.001, at=0)
    one.observe_plain(15, 100.0, at=0)
    assert one.allowance(480, at=0) == 3000


def test_an_answer_as_a_whole_counts_by_all_of_its_time() -> None:
    one = guard()
    one.observe_plain(100, 50.0, at=0)
    assert one.tokens_per_s == pytest.approx((3000 / 450 + 2) / 2)


def test_requests_that_one_hang_hits_count_as_one() -> None:
    one = guard()
    for number in range(12):
        one.observe_time_limit(began=number, at=480 + number)
    assert one.allowance(480, at=500) == 1500
    one.observe_time_limit(began=481, at=961)
    assert one.allowance(480, at=961) == 750


def test_a_stream_that_ran_into_the_limit_counts_with_the_speed_that_it_had() -> None:
    one = guard()
    one.observe_time_limit(began=0, at=480, tokens=2251, first_s=30)
    assert one.tokens_per_s == pytest.approx((3000 / 450 + 5) / 2)


def test_however_many_hang_an_eighth_is_let_through_and_one_answer_measures_again() -> None:
    one = guard()
    for number in range(20):
        one.observe_time_limit(began=number * 500, at=number * 500 + 480)
    assert one.allowance(480, at=10_000) == 375
    assert one.allowance(60, at=10_000) == 25
    one.observe_stream(25, 1.0, 2.0, at=10_000)
    assert one.allowance(60, at=10_000) > 25


def test_a_late_first_token_leaves_an_answer_as_a_whole_half_of_its_time() -> None:
    one = guard()
    for _ in range(400):
        one.observe_stream(501, 5.0, 15.0, at=0)
    one.observe_stream(501, 150.0, 160.0, at=0)
    assert one.first_token_s > 60
    assert one.allowance(60, at=0) == pytest.approx(30 * 50, rel=0.01)


def test_a_bad_hour_is_forgotten_where_nothing_was_measured_since() -> None:
    one = guard()
    one.observe_time_limit(began=0, at=100)
    assert one.allowance(480, at=699) == 1500
    assert one.allowance(480, at=701) == 3000
