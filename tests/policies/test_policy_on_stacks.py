"""Every committed stack and example passes the policies with the configuration that lies beside it."""

import json
from typing import Any

import pytest

from policies.gpu_cost.rules import RULES
from policies.rule import Finding, Resource
from tests.support.stack_files import EXAMPLES, ROOT, STACKS, declare, platform_settings
from tests.support.synth import synth

pytestmark = pytest.mark.usefixtures("kubeconfig")


def config_of(stack: str) -> dict[str, dict[str, Any]]:
    """The committed configuration, or none: then the defaults hold."""
    folder, suffix = (
        (ROOT / "examples", "policy.json") if stack in EXAMPLES else (ROOT / "policies/config", "json")
    )
    file = folder / f"{stack}.{suffix}"
    return json.loads(file.read_text()) if file.is_file() else {}


def findings(stack: str, config: dict[str, dict[str, Any]]) -> list[str]:
    """What the rules find on everything that a stack declares."""
    made = synth(lambda: declare(platform_settings(stack)))
    found: list[Finding] = []
    for rule in RULES:
        defaults = {key: one.schema["default"] for key, one in rule.config.items()}
        for resource in made.resources:
            subject = Resource(resource.type, resource.name, resource.inputs)
            verdict = rule.evaluate(subject, {**defaults, **config.get(rule.name, {})})
            found += verdict if isinstance(verdict, list) else []
    return [finding.message for finding in found]


@pytest.mark.parametrize("stack", [*STACKS, *EXAMPLES])
def test_a_committed_stack_or_example_passes_with_its_own_policy_configuration(stack: str) -> None:
    assert findings(stack, config_of(stack)) == []


@pytest.mark.parametrize("stack", [stack for stack in (*STACKS, *EXAMPLES) if config_of(stack)])
def test_its_accelerators_are_stopped_without_that_configuration(stack: str) -> None:
    assert findings(stack, {})
