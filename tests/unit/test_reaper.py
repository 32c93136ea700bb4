"""Which stacks the reaper takes down, which it warns of, and which it never touches."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runtime.ops.teardown.reaper import Seen, judge, read_stack, reap
from runtime.tenure import Tenure
from tests.support.torn_down import state_of

UPDATED = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def seen(expires: str | None = "7d", environment: str = "dev", resources: int = 3, **changes: Any) -> Seen:
    tenure = Tenure(
        stack="organization/spillway/dev",
        owner="ml",
        cost_centre="42",
        environment=environment,
        expires=expires,
    )
    given: dict[str, Any] = {"stack": "dev", "tenure": tenure, "updated": UPDATED, "resources": resources}
    return Seen(**{**given, **changes})


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        (0, "lives"),
        (5.9, "lives"),
        (6.1, "expires soon"),
        (6.99, "expires soon"),
        (7, "expired"),
        (90, "expired"),
    ],
)
def test_a_duration_counts_from_the_last_update_and_is_warned_of_a_day_before(
    after: float, verdict: str
) -> None:
    judged = judge(seen(), UPDATED + after * DAY, DAY)
    assert judged.verdict == verdict
    assert judged.ends == UPDATED + 7 * DAY


@pytest.mark.parametrize("expires", [None, "1h", "2026-11-21"])
def test_production_is_never_taken_down_whatever_it_says(expires: str | None) -> None:
    assert judge(seen(expires, "prod"), UPDATED + 999 * DAY, DAY).verdict == "production"


@pytest.mark.parametrize(
    "one", [seen(tenure=None), seen(expires=None), seen(updated=None), seen(expires="when it rains")]
)
def test_what_does_not_say_when_it_expires_is_named_and_not_touched(one: Seen) -> None:
    judged = judge(one, UPDATED + 999 * DAY, DAY)
    assert judged.verdict == "unknown"
    assert judged.words.startswith("dev")


def test_a_dry_run_takes_nothing_down_and_says_what_it_would() -> None:
    said: list[str] = []
    assert reap([seen()], UPDATED + 8 * DAY, DAY, None, said.append)
    assert said == [
        "dev (owner ml): expired, since 2026-11-28 12:00 UTC",
        "dev: would be taken down; this is a dry run, say --really",
    ]


def test_only_expired_stacks_are_taken_down_and_one_that_is_not_clean_is_told() -> None:
    down: list[str] = []

    def take_down(stack: str) -> bool:
        down.append(stack)
        return stack != "leaky"

    stacks = [
        seen(),
        seen(stack="young", updated=UPDATED + 7 * DAY),
        seen(stack="live", environment="prod"),
        seen(stack="empty", resources=0),
        seen(stack="leaky"),
    ]
    said: list[str] = []
    assert not reap(stacks, UPDATED + 8 * DAY, DAY, take_down, said.append)
    assert down == ["dev", "leaky"]
    assert "leaky: not clean; its certificate names what is left" in said
    assert not any("empty" in line for line in said)


def test_a_stack_is_read_from_its_state_even_if_its_first_up_never_finished() -> None:
    state = state_of()
    del state["deployment"]["resources"][0]
    one = read_stack("dev", state)
    assert one.tenure is not None
    assert (one.tenure.owner, one.tenure.expires) == ("ml", "7d")
    assert one.updated == datetime(2026, 11, 21, 18, 0, tzinfo=UTC)


def test_a_state_without_anything_is_a_stack_without_resources() -> None:
    assert read_stack("dev", {"deployment": {}}).resources == 0
