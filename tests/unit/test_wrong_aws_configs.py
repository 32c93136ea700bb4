"""Wrong files of the stacks in AWS: named cases with whole messages, all before any provider is called."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from stacks.mistakes import explain
from stacks.sagemaker_settings import SageMakerSettings
from stacks.settings import PlatformSettings, SettingsError, parse, parse_sagemaker, root_of
from tests.support.stack_files import changed_platform, platform_object
from tests.unit.test_wrong_configs import shortened

PARSERS: dict[str, Callable[[object], object]] = {"hybrid": parse, "sagemaker": parse_sagemaker}
CASES: dict[str, list[dict[str, Any]]] = {
    stack: yaml.safe_load((Path(__file__).parent / f"wrong_{stack}_settings.yaml").read_text())
    for stack in PARSERS
}
EACH = pytest.mark.parametrize(
    ("stack", "case"),
    [
        pytest.param(stack, case, id=f"{stack}: {case['case']}")
        for stack, cases in CASES.items()
        for case in cases
    ],
)


@EACH
def test_a_named_mistake_says_exactly_this(stack: str, case: dict[str, Any]) -> None:
    value = changed_platform(stack, case["change"])
    assert shortened(explain(root_of(value), value)) == case["says"]


@EACH
def test_the_program_stops_at_it_and_says_the_same(stack: str, case: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as error:
        PARSERS[stack](changed_platform(stack, case["change"]))
    lines = shortened(str(error.value).splitlines())
    assert [line.removeprefix("  - ") for line in lines[1:]] == case["says"]


@pytest.mark.parametrize("stack", CASES)
def test_each_message_names_a_key_and_ends_with_what_to_do(stack: str) -> None:
    for line in (line for case in CASES[stack] for line in case["says"]):
        assert line.startswith("spillway:platform.")
        assert ";" in line


@pytest.mark.parametrize("stack", CASES)
def test_there_are_at_least_fifty_cases_each_with_its_own_name(stack: str) -> None:
    assert len({case["case"] for case in CASES[stack]}) == len(CASES[stack]) >= 50


@pytest.mark.parametrize("stack", CASES)
def test_the_committed_stack_has_no_mistake(stack: str) -> None:
    value = platform_object(stack)
    assert explain(root_of(value), value) == []


@pytest.mark.parametrize(
    ("scenario", "root"),
    [
        ("sagemaker", SageMakerSettings),
        ("sage-maker", SageMakerSettings),
        ("onprem", PlatformSettings),
        ("hybrid", PlatformSettings),
        ("vertex", PlatformSettings),
        (None, PlatformSettings),
        (3, PlatformSettings),
    ],
)
def test_the_scenario_says_which_settings_a_file_means(scenario: object, root: type[object]) -> None:
    assert root_of({"scenario": scenario}) is root
