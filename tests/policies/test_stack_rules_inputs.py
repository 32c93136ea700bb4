"""Stack rules see what resources were given, where the engine shows no outputs of them yet."""

from typing import Any

from policies.reading import Node
from policies.rule import Answer, Severity, Stack, StackRule
from tests.policies.policy_analyzer import in_process

NAMESPACE = "kubernetes:core/v1:Namespace"
INPUTS = {"metadata": {"name": "llm"}}


def judged(outputs: dict[str, Any]) -> object:
    seen: list[object] = []

    def check(stack: Stack, config: Node) -> Answer:
        seen.extend(resource.props for resource in stack.resources)
        return []

    rule = StackRule(
        name="looks",
        description="Looks.",
        severity=Severity.LOW,
        remediation="None.",
        check=check,
        example=Stack(()),
    )
    analyzer = in_process([rule])
    analyzer.analyze(NAMESPACE, INPUTS)
    analyzer.analyze_stack([(NAMESPACE, outputs)])
    return seen[0]


def test_without_outputs_the_inputs_are_judged() -> None:
    assert judged({}) == INPUTS


def test_with_outputs_those_are_judged() -> None:
    outputs = {"metadata": {"name": "llm-x"}, "status": {}}
    assert judged(outputs) == outputs
