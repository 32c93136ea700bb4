"""Stack rules see what resources were given, where the engine shows no outputs of them yet."""

from typing import Any

import pytest
from pulumi_policy import PolicyResource, PolicyResourceOptions

from policies import serving

URN = "urn:pulumi:dev::demo::kubernetes:core/v1:Namespace::llm"


def shown(**props: Any) -> PolicyResource:
    options = PolicyResourceOptions(False, [], False, [], None, [], None)  # pyright: ignore
    return PolicyResource("kubernetes:core/v1:Namespace", props, URN, "llm", options, None, None, [], {})


@pytest.fixture(autouse=True)
def fixture_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "given_inputs", {URN: {"metadata": {"name": "llm"}}})


def test_without_outputs_the_inputs_are_judged() -> None:
    assert serving.resource_of(shown()).props == {"metadata": {"name": "llm"}}


def test_with_outputs_those_are_judged() -> None:
    outputs = {"metadata": {"name": "llm-x"}, "status": {}}
    assert serving.resource_of(shown(**outputs)).props == outputs
