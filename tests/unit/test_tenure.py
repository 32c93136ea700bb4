"""Whose a stack is and until when, as tags, as annotations, and as an instant."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from runtime.tenure import Tenure, expiry

UPDATED = datetime(2026, 11, 21, 18, 0, tzinfo=UTC)


def tenure(expires: str | None = "14d", environment: str = "dev") -> Tenure:
    return Tenure(
        stack="organization/spillway/hybrid",
        owner="ml platform",
        cost_centre="ml-1042",
        environment=environment,
        expires=expires,
    )


def test_a_day_counts_to_its_end_in_utc_whenever_the_stack_was_updated() -> None:
    assert expiry("2026-12-31", UPDATED) == datetime(2027, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(("text", "lasts"), [("14d", timedelta(days=14)), ("8h", timedelta(hours=8))])
def test_a_duration_counts_from_the_last_update(text: str, lasts: timedelta) -> None:
    assert expiry(text, UPDATED) == UPDATED + lasts
    elsewhere = UPDATED.astimezone(timezone(timedelta(hours=9)))
    assert expiry(text, elsewhere) == UPDATED + lasts


@pytest.mark.parametrize("text", ["", "0d", "14", "2 weeks", "1000d", "2026-1-2", "20261231", "14d "])
def test_anything_else_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="a day such as 2026-12-31 or a duration such as 14d or 8h"):
        expiry(text, UPDATED)


def test_a_day_that_is_in_no_calendar_is_refused() -> None:
    with pytest.raises(ValueError, match="is no day of the calendar"):
        expiry("2026-02-30", UPDATED)


def test_what_is_written_as_annotations_is_read_again() -> None:
    for one in (tenure(), tenure(expires=None, environment="prod")):
        assert Tenure.of_annotations({"other": "x", **one.annotations()}) == one


def test_annotations_of_others_say_nothing() -> None:
    assert Tenure.of_annotations({"spillway.dev/owner": "ml"}) is None


def test_the_tags_have_the_names_that_reports_and_policies_know() -> None:
    assert tenure().tags() == {
        "spillway:stack": "organization/spillway/hybrid",
        "spillway:owner": "ml platform",
        "spillway:cost-centre": "ml-1042",
        "spillway:environment": "dev",
        "spillway:expires": "14d",
    }


def test_production_has_no_expiry_tag_and_never_ends() -> None:
    forever = tenure(expires=None, environment="prod")
    assert "spillway:expires" not in forever.tags()
    assert forever.ends_at(UPDATED) is None
