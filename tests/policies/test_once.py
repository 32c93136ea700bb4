"""The SDK deserialises each resource once per call, rules cannot change what the next one judges, and another
version of the SDK is left as it is."""

import importlib.metadata
from collections.abc import Iterator
from typing import Any, cast

import pulumi_policy.policy
import pytest
from pulumi_policy import EnforcementLevel, ResourceValidationPolicy, StackValidationPolicy

from policies import once
from tests.policies.kubernetes_objects import H100, RAY_SERVICE, UNKNOWN_NUMBER, pod, ray_service
from tests.policies.policy_analyzer import in_process

PROPS = ray_service(pod({"nvidia.com/gpu": 8}, H100), maxReplicas=UNKNOWN_NUMBER)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Counts what the SDK deserialises, with `once` installed on top; the SDK is as before afterwards."""
    sdk: Any = pulumi_policy.policy
    made: list[str] = []
    real = sdk.deserialize_properties

    def counting(*arguments: Any) -> Any:
        made.append("deserialized")
        return real(*arguments)

    proxy = once.vars_of_proxy()
    kept = {name: getattr(sdk, name) for name in ("json_format", "unknown_checking_proxy")}
    servicer = cast("Any", vars(sdk)["_PolicyAnalyzerServicer"])
    methods = {name: getattr(servicer, name) for name in ("Analyze", "AnalyzeStack", "Remediate")}
    setter = proxy.__setitem__
    monkeypatch.setattr(sdk, "deserialize_properties", counting)
    assert once.install()
    yield made
    for name, value in kept.items():
        setattr(sdk, name, value)
    for name, value in methods.items():
        setattr(servicer, name, value)
    proxy.__setitem__ = setter
    del sdk.spillway_once


def policies(number: int, check: Any) -> list[Any]:
    return [
        ResourceValidationPolicy(f"p{index}", "Looks.", check, EnforcementLevel.MANDATORY)
        for index in range(number)
    ]


def test_ten_policies_on_a_resource_deserialise_it_once_and_see_the_same(counted: list[str]) -> None:
    seen: list[object] = []

    def look(args: Any, report: Any) -> None:
        seen.append(args.props)

    analyzer = in_process(policies(10, look))
    assert not analyzer.analyze(RAY_SERVICE, PROPS).diagnostics
    assert counted == ["deserialized"]
    assert len(seen) == 10
    assert len({id(props) for props in seen}) == 1


def test_ten_policies_on_a_stack_deserialise_each_resource_and_its_provider_once(counted: list[str]) -> None:
    def look(args: Any, report: Any) -> None:
        assert [resource.props["kind"] for resource in args.resources] == ["RayService", "RayService"]

    rules = [StackValidationPolicy(f"p{index}", "Looks.", look) for index in range(10)]
    analyzer = in_process(rules)
    assert not analyzer.analyze_stack([(RAY_SERVICE, PROPS), ("a:b:C", PROPS)]).diagnostics
    assert len(counted) == 4


def test_nothing_is_remembered_from_one_call_to_the_next(counted: list[str]) -> None:
    seen: list[Any] = []

    def look(args: Any, report: Any) -> None:
        seen.append(args.props["n"])

    analyzer = in_process(policies(2, look))
    for number in (1, 2, 3):
        analyzer.analyze("a:b:C", {"n": number})
    assert seen == [1, 1, 2, 2, 3, 3]
    assert len(counted) == 3


def test_an_unknown_value_is_found_as_before(counted: list[str]) -> None:
    def touch(args: Any, report: Any) -> None:
        args.props["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["maxReplicas"]

    [first, second] = in_process(policies(2, touch)).analyze(RAY_SERVICE, PROPS).diagnostics
    assert "workerGroupSpecs.0.maxReplicas can't be known during preview" in first.message
    assert second.policyName == "p1"


def test_a_rule_cannot_change_what_the_next_one_judges(counted: list[str]) -> None:
    def change(args: Any, report: Any) -> None:
        with pytest.raises(TypeError, match="does not support item assignment"):
            args.props["kind"] = "Changed"
        with pytest.raises(TypeError, match="does not support item assignment"):
            args.props["spec"]["serveConfigV2"] = "changed"
        assert args.props["kind"] == "RayService"

    assert not in_process(policies(2, change)).analyze(RAY_SERVICE, PROPS).diagnostics


def test_another_version_of_the_sdk_is_left_as_it_is_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sdk: Any = pulumi_policy.policy
    before = {name: getattr(sdk, name) for name in ("json_format", "deserialize_properties")}

    def newer(name: str) -> str:
        return "1.22.0"

    monkeypatch.setattr("importlib.metadata.version", newer)
    assert not once.install()
    assert {name: getattr(sdk, name) for name in before} == before
    assert "pulumi-policy is 1.22.0 and not 1.21.0" in capsys.readouterr().err


def test_a_part_that_is_gone_from_the_sdk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(pulumi_policy.policy, "unknown_checking_proxy")
    assert once.why_not() == "pulumi-policy 1.21.0 has no unknown_checking_proxy"


def test_the_installed_sdk_is_the_one_that_is_known() -> None:
    """A new version of the SDK has to be read before SDK_VERSION is raised: what it replaces is private."""
    assert once.why_not() is None
    assert importlib.metadata.version("pulumi-policy") == once.SDK_VERSION
