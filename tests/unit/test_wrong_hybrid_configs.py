"""Wrong hybrid stack files: named cases with their whole messages, all before any provider is called."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from stacks.mistakes import explain
from stacks.settings import PlatformSettings, SettingsError, parse
from tests.support.stack_files import changed_platform, platform_object
from tests.unit.test_wrong_configs import shortened

CASES: list[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parent / "wrong_hybrid_settings.yaml").read_text()
)


def changed(changes: Mapping[str, Any]) -> dict[str, Any]:
    return changed_platform("hybrid", changes)


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_a_named_mistake_says_exactly_this(case: dict[str, Any]) -> None:
    assert shortened(explain(PlatformSettings, changed(case["change"]))) == case["says"]


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_the_program_stops_at_it_and_says_the_same(case: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as error:
        parse(changed(case["change"]))
    lines = shortened(str(error.value).splitlines())
    assert [line.removeprefix("  - ") for line in lines[1:]] == case["says"]


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_each_message_names_a_key_and_ends_with_what_to_do(case: dict[str, Any]) -> None:
    for line in case["says"]:
        assert line.startswith("spillway:platform.")
        assert ";" in line


def test_there_are_at_least_fifty_cases_each_with_its_own_name() -> None:
    assert len({case["case"] for case in CASES}) == len(CASES) >= 50


def test_the_committed_stack_has_no_mistake() -> None:
    assert explain(PlatformSettings, platform_object("hybrid")) == []
