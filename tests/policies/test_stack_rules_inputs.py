"""Stack rules see what resources were given, where the engine shows no outputs of them yet."""

from typing import Any

from policies.rule import Resource
from tests.policies.policy_analyzer import in_process, looking_rule

NAMESPACE = "kubernetes:core/v1:Namespace"
INPUTS = {"metadata": {"name": "llm"}}


def judged(outputs: dict[str, Any]) -> object:
    seen: list[Resource] = []
    analyzer = in_process([looking_rule(seen)])
    analyzer.analyze(NAMESPACE, INPUTS)
    analyzer.analyze_stack([(NAMESPACE, outputs)])
    return seen[0].props


def test_without_outputs_the_inputs_are_judged() -> None:
    assert judged({}) == INPUTS


def test_with_outputs_those_are_judged() -> None:
    outputs = {"metadata": {"name": "llm-x"}, "status": {}}
    assert judged(outputs) == outputs
