"""Every rule: complies, violates, unknown, does not apply, misconfigured."""

from collections.abc import Mapping
from typing import Any, cast

import jsonschema
import pytest

from policies.frameworks import Framework
from policies.packs import ALL_RULES, PACKS, RULE_NAMES
from policies.reading import Node
from policies.rule import (
    Answer,
    AnyRule,
    Finding,
    NotApplicable,
    Resource,
    Rule,
    Severity,
    Stack,
    StackRule,
    Verdict,
)
from tests.policies.kubernetes_objects import UNKNOWN_NUMBER
from tests.policies.rule_cases import CASES, ENDPOINT, NO_STACK, OTHER

RULES = pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: rule.name)


def judge(rule: AnyRule, subject: Resource | Stack, config: Mapping[str, object] | None = None) -> Verdict:
    if isinstance(rule, Rule):
        assert isinstance(subject, Resource)
        return rule.evaluate(subject, config or {})
    assert isinstance(subject, Stack)
    return rule.evaluate(subject, config or {})


def violations(verdict: Verdict) -> list[Finding]:
    assert isinstance(verdict, list), verdict
    return verdict


def test_every_rule_has_its_cases_and_names_are_not_used_twice() -> None:
    assert set(CASES) == RULE_NAMES
    assert len(ALL_RULES) == len(RULE_NAMES)
    assert {name: len(rules) for name, rules in PACKS.items()} == {
        "gpu_cost": 16,
        "llm_security": 31,
        "data_residency": 4,
        "lifecycle": 7,
    }


@RULES
def test_a_rule_passes_what_complies(rule: AnyRule) -> None:
    case = CASES[rule.name]
    assert judge(rule, case.complies, case.config) == []


@RULES
def test_a_rule_finds_its_own_example_and_says_what_to_do(rule: AnyRule) -> None:
    for finding in violations(judge(rule, rule.example)):
        assert finding.severity is rule.severity
        assert finding.message.endswith((".", ")"))
        assert finding.remediation
        assert not finding.unknown
    assert violations(judge(rule, rule.example))


@RULES
def test_a_rule_does_not_pass_what_is_unknown_and_names_it(rule: AnyRule) -> None:
    case = CASES[rule.name]
    if case.unknown is None:
        return
    found = [one for one in violations(judge(rule, case.unknown, case.config)) if one.unknown]
    assert found, "an unknown value passed"
    assert found[0].message.startswith(f"{case.path} is not known until `pulumi up`")
    assert rule.name in found[0].message


@RULES
def test_a_rule_has_nothing_to_say_about_other_things(rule: AnyRule) -> None:
    case = CASES[rule.name]
    elsewhere = case.elsewhere if isinstance(rule, Rule) or case.elsewhere is not OTHER else NO_STACK
    verdict = judge(rule, elsewhere)
    assert isinstance(verdict, NotApplicable) or (rule.name == "unknowns-accounted" and verdict == [])


@RULES
def test_a_misspelt_key_is_a_violation_that_names_it_and_the_allowed_ones(rule: AnyRule) -> None:
    [finding] = violations(judge(rule, rule.example, {"limt": 3}))
    assert f"The configuration of {rule.name} has unknown keys: limt." in finding.message
    assert (", ".join(rule.config) or "none") in finding.message


@pytest.mark.parametrize(
    ("rule", "key"),
    [(rule, key) for rule in ALL_RULES for key in rule.config],
    ids=lambda one: one if isinstance(one, str) else one.name,
)
def test_a_value_of_the_wrong_type_is_a_violation_and_its_schema_refuses_it(rule: AnyRule, key: str) -> None:
    wrong = {"of the": "wrong type"} if rule.config[key].schema["type"] != "object" else "wrong"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, cast("Any", rule.config[key].schema))
    said = " ".join(one.message for one in violations(judge(rule, rule.example, {key: wrong})))
    assert f"The configuration of {rule.name} is wrong: {key}" in said
    assert "wrong type" not in said


@RULES
def test_the_examples_and_defaults_of_every_key_satisfy_its_own_schema(rule: AnyRule) -> None:
    for value in rule.config.values():
        for instance in (value.example, value.schema["default"]):
            jsonschema.validate(cast("Any", instance), cast("Any", value.schema))
        assert value.schema["description"]


def test_the_engine_may_fill_in_the_defaults_and_nothing_changes() -> None:
    for rule in ALL_RULES:
        defaults = {key: value.schema["default"] for key, value in rule.config.items()}
        assert judge(rule, rule.example, defaults) == judge(rule, rule.example), rule.name


def test_the_rules_are_evidence_for_controls_of_all_four_frameworks() -> None:
    assert {control.framework for rule in ALL_RULES for control in rule.controls} == set(Framework)


def test_a_rule_that_raises_is_a_violation_with_its_name_and_without_the_value() -> None:
    def check(subject: object, config: Node) -> Answer:
        raise KeyError("hunter2")

    about: dict[str, Any] = {
        "name": "broken",
        "description": "Is broken.",
        "severity": Severity.LOW,
        "remediation": "Repair it.",
        "check": check,
    }
    broken: list[tuple[AnyRule, Resource | Stack]] = [
        (Rule(**about, example=OTHER), OTHER),
        (StackRule(**about, example=NO_STACK), NO_STACK),
    ]
    for rule, subject in broken:
        [finding] = violations(judge(rule, subject))
        assert finding.message.startswith("Rule broken failed on ")
        assert "with KeyError at test_every_rule.py:" in finding.message
        assert "hunter2" not in finding.message


def test_what_was_found_before_an_unknown_is_kept() -> None:
    rule = next(rule for rule in ALL_RULES if rule.name == "gpu-max-per-pool")
    assert isinstance(rule, Rule)
    variant = {"instanceType": "ml.g6e.4xlarge"}
    counts = [{**variant, "initialInstanceCount": 9}, {**variant, "initialInstanceCount": UNKNOWN_NUMBER}]
    found = violations(judge(rule, Resource(ENDPOINT, "llm", {"productionVariants": counts})))
    assert [bool(one.unknown) for one in found] == [False, True]
    assert "productionVariants[0] may grow to 9 accelerators" in found[0].message
