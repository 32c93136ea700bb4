"""The `burst` setting: what it refuses, with which words, and what its clock says."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from runtime.burst.policy import BurstPolicy


def policy(**keys: Any) -> BurstPolicy:
    return BurstPolicy.model_validate_json(json.dumps({"ceilingUsdPerHour": 50, **keys}))


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"ceilingUsdPerHour": 0}, "greater than 0"),
        ({"scaleOut": {"spare": 3}}, "scaleIn.spare is 2.5, not above scaleOut.spare 3; raise it"),
        ({"scaleIn": {"goneSpare": 1}}, "is 1, below spare 2.5; raise it"),
        ({"scaleIn": {"forSeconds": 4000}}, "is 1800, below scaleIn.forSeconds 4000; raise it"),
        ({"launches": {"maxBackOffSeconds": 60}}, "is 60, below backOffSeconds 300; raise it"),
        ({"timeZone": "Mars/Olympus"}, "is no time zone; write an IANA name"),
        ({"switch": {"mode": "on", "replicas": 1}}, "mode on needs replicas and until"),
        ({"switch": {"mode": "on", "until": "2026-11-21T18:00:00Z"}}, "mode on needs replicas and until"),
        ({"switch": {"mode": "off", "replicas": 1}}, "does not go with mode off; remove it"),
        ({"switch": {"until": "2026-11-21T18:00:00Z"}}, "does not go with mode auto; remove it"),
        ({"switch": {"mode": "off", "until": "tomorrow"}}, "is no date and time"),
        ({"switch": {"mode": "off", "until": "2026-11-21T18:00:00"}}, "has no zone"),
        ({"schedule": [{"start": "25:00", "end": "26:00", "replicas": 1}]}, "must be a time of day"),
        ({"schedule": [{"start": "08:00", "end": "08:00", "replicas": 1}]}, "give the window a length"),
        ({"signals": {"prometheus": "prometheus:9090"}}, "is no URL of a Prometheus; write scheme, host"),
        ({"signals": {"prometheus": "http://p:0"}}, "is no URL of a Prometheus"),
        ({"signals": {"prometheus": "http://me:secret@p:9090"}}, "would be readable in a ConfigMap"),
        ({"signals": {"prometheus": "http://p:9090/?a=b"}}, "write scheme, host, port and path alone"),
        ({"ceiling": 3}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_policy_is_refused_with_the_fix(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as error:
        policy(**keys)
    # The place is the validator's; the message names the other keys.
    assert words.removeprefix("scaleIn.spare ") in str(error.value)


def test_a_policy_without_a_ceiling_is_refused() -> None:
    with pytest.raises(ValidationError, match="ceilingUsdPerHour"):
        BurstPolicy.model_validate_json("{}")


def test_a_window_keeps_replicas_from_one_cold_start_before_it_until_its_end() -> None:
    found = policy(
        timeZone="Europe/Berlin",
        schedule=[{"days": ["mon"], "start": "08:00", "end": "10:00", "replicas": 2}],
    )
    # Monday 2026-01-05, Berlin is UTC+1.
    assert found.scheduled("m", at("2026-01-05T06:49:00"), 600) == 0
    assert found.scheduled("m", at("2026-01-05T06:50:00"), 600) == 2
    assert found.scheduled("m", at("2026-01-05T08:59:59"), 600) == 2
    assert found.scheduled("m", at("2026-01-05T09:00:00"), 600) == 0
    assert found.scheduled("m", at("2026-01-06T07:30:00"), 600) == 0


def test_a_window_that_ends_before_it_starts_lasts_into_the_next_day() -> None:
    found = policy(schedule=[{"days": ["fri"], "start": "22:00", "end": "02:00", "replicas": 1}])
    assert found.scheduled("m", at("2026-01-09T23:00:00"), 0) == 1
    assert found.scheduled("m", at("2026-01-10T01:00:00"), 0) == 1
    assert found.scheduled("m", at("2026-01-10T23:00:00"), 0) == 0
    assert found.scheduled("m", at("2026-01-09T01:00:00"), 0) == 0


def test_a_window_for_one_model_leaves_the_others_alone() -> None:
    found = policy(schedule=[{"start": "00:00", "end": "23:59", "replicas": 3, "models": ["a"]}])
    assert found.scheduled("a", at("2026-01-05T12:00:00"), 0) == 3
    assert found.scheduled("b", at("2026-01-05T12:00:00"), 0) == 0


def test_the_switch_goes_back_to_auto_when_its_time_is_over() -> None:
    found = policy(
        switch={"mode": "on", "replicas": 2, "until": "2026-01-05T12:00:00+01:00", "models": ["a"]}
    )
    assert found.mode("a", at("2026-01-05T10:59:59")) == "on"
    assert found.mode("a", at("2026-01-05T11:00:00")) == "auto"
    assert found.mode("b", at("2026-01-05T10:00:00")) == "auto"
    assert policy(switch={"mode": "off"}).mode("b", at("2036-01-01T00:00:00")) == "off"


def test_the_month_is_that_of_the_policys_zone() -> None:
    assert policy(timeZone="Asia/Tokyo").month(at("2026-01-31T16:00:00")) == "2026-02"
    assert policy().month(at("2026-01-31T16:00:00")) == "2026-01"
