"""The pack behind the policy SDK: in process, and as the process that Pulumi starts."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import grpc
import pytest
import yaml
from pulumi.runtime import proto
from pulumi_policy import EnforcementLevel, Policy

from policies.enforcement import Environment
from policies.gpu_cost.pools import GPU_INSTANCE_ALLOWLIST, GPU_MAX_PER_POOL
from policies.judging import Judge
from policies.packs import ALL_RULES, PACKS
from policies.reading import Node
from policies.rule import Answer, AnyRule, Resource, Rule, Severity, Stack, StackRule
from policies.serving import policies_of
from policies.waivers import Waiver
from tests.policies.kubernetes_objects import (
    H100,
    RAY_SERVICE,
    UNKNOWN_NUMBER,
    UNKNOWN_STRING,
    pod,
    ray_service,
)
from tests.policies.policy_analyzer import PROVIDER_URN, Analyzer, behind, in_process, urn_of

POLICIES = Path(__file__).parents[2] / "policies"
CAPS = (GPU_INSTANCE_ALLOWLIST, GPU_MAX_PER_POOL)
NOW = datetime(2026, 12, 1, tzinfo=UTC)
CONFIG = {
    "gpu-instance-allowlist": {"allowedAccelerators": ["nvidia-h100"]},
    "gpu-max-per-pool": {"maxGpusPerPool": 16},
}


def served(
    rules: Sequence[AnyRule], environment: Environment = Environment.PROD, *waivers: Waiver
) -> list[Policy]:
    return policies_of(Judge(rules, waivers, NOW), environment)


def test_a_stack_within_its_limits_passes_through_the_sdk() -> None:
    analyzer = in_process(served(CAPS))
    analyzer.configure(CONFIG)
    props = ray_service(pod({"nvidia.com/gpu": 8}, H100), maxReplicas=2)
    response = analyzer.analyze(RAY_SERVICE, props)
    assert not response.diagnostics
    assert not response.not_applicable


def test_violations_are_mandatory_and_carry_the_fix() -> None:
    analyzer = in_process(served(CAPS))
    props = ray_service(pod({"nvidia.com/gpu": 8}, H100), maxReplicas=2)
    diagnostics = list(analyzer.analyze(RAY_SERVICE, props).diagnostics)
    assert [d.policyName for d in diagnostics] == ["gpu-instance-allowlist", "gpu-max-per-pool"]
    assert {d.enforcementLevel for d in diagnostics} == {proto.MANDATORY}
    assert [d.severity for d in diagnostics] == [proto.POLICY_SEVERITY_HIGH, proto.POLICY_SEVERITY_CRITICAL]
    assert 'Fix: Add "nvidia-h100" to allowedAccelerators' in diagnostics[0].message
    assert "16 in all" in diagnostics[1].message


def test_an_unknown_value_blocks_instead_of_turning_the_rule_advisory() -> None:
    analyzer = in_process(served(CAPS))
    analyzer.configure(CONFIG)
    worker = pod({"nvidia.com/gpu": 8}, {"nvidia.com/gpu.product": f"NVIDIA-{UNKNOWN_STRING}"})
    props = ray_service(worker, maxReplicas=UNKNOWN_NUMBER)
    diagnostics = list(analyzer.analyze(RAY_SERVICE, props).diagnostics)
    assert {d.enforcementLevel for d in diagnostics} == {proto.MANDATORY}
    assert 'nodeSelector["nvidia.com/gpu.product"] is not known' in diagnostics[0].message
    assert "workerGroupSpecs[0].maxReplicas is not known" in diagnostics[1].message


def test_a_resource_without_pods_is_recorded_as_not_applicable() -> None:
    analyzer = in_process(served(CAPS))
    response = analyzer.analyze("kubernetes:core/v1:Service", {"spec": {}})
    assert not response.diagnostics
    assert {entry.policy_name for entry in response.not_applicable} == {rule.name for rule in CAPS}


def test_a_rule_that_raises_ends_as_a_violation_and_not_as_an_rpc_error() -> None:
    def check(resource: Resource, config: Node) -> Answer:
        raise ZeroDivisionError

    broken = Rule(
        name="broken",
        description="Is broken.",
        severity=Severity.LOW,
        remediation="Repair it.",
        check=check,
        example=Resource("any", "any", {}),
    )
    analyzer = in_process(served([broken]))
    [diagnostic] = analyzer.analyze(RAY_SERVICE, {}).diagnostics
    assert "Rule broken failed" in diagnostic.message
    assert diagnostic.enforcementLevel == proto.MANDATORY


def test_every_rule_becomes_a_policy_with_its_schema_its_level_and_its_first_control() -> None:
    for environment in Environment:
        for rule, policy in zip(ALL_RULES, served(ALL_RULES, environment), strict=True):
            level = rule.enforcement.in_environment(environment).value
            assert (policy.name, policy.enforcement_level) == (rule.name, EnforcementLevel(level))
            assert policy.config_schema is not None
            assert policy.config_schema.properties == {
                key: dict(value.schema) for key, value in rule.config.items()
            }
            if rule.controls:
                assert policy.framework is not None
                assert policy.framework.reference == rule.controls[0].number


def test_a_rule_that_is_off_in_an_environment_says_nothing_there() -> None:
    rules = [rule for rule in ALL_RULES if rule.name == "image-digest"]
    for environment, levels in [
        (Environment.DEV, []),
        (Environment.STAGING, [proto.ADVISORY]),
        (Environment.PROD, [proto.MANDATORY]),
    ]:
        analyzer = in_process(served(rules, environment))
        found = analyzer.analyze("kubernetes:core/v1:Pod", pod({"cpu": 1})).diagnostics
        assert [one.enforcementLevel for one in found] == levels


def test_a_waiver_keeps_a_violation_from_counting_until_its_day_and_is_shown() -> None:
    urn = "urn:pulumi:*::spillway::kubernetes:core/v1:Pod::subject"
    rules = [rule for rule in ALL_RULES if rule.name in {"image-digest", "waiver-valid", "waivers-in-force"}]
    last_day = Waiver("image-digest", urn, "vendor", "ml", NOW.date())
    analyzer = in_process(served(rules, Environment.PROD, last_day))
    response = analyzer.analyze("kubernetes:core/v1:Pod", pod({"cpu": 1}))
    assert not response.diagnostics
    assert "waived by ml until 2026-12-01: vendor" in {one.reason for one in response.not_applicable}
    [shown] = analyzer.analyze_stack([("kubernetes:core/v1:Pod", pod({"cpu": 1}))]).diagnostics
    assert (shown.policyName, shown.enforcementLevel) == ("waivers-in-force", proto.ADVISORY)

    run_out = Waiver("image-digest", urn, "vendor", "ml", date(2026, 11, 30))
    analyzer = in_process(served(rules, Environment.PROD, run_out))
    [counts] = analyzer.analyze("kubernetes:core/v1:Pod", pod({"cpu": 1})).diagnostics
    assert counts.policyName == "image-digest"
    over, _ = analyzer.analyze_stack([("kubernetes:core/v1:Pod", pod({"cpu": 1}))]).diagnostics
    assert (over.policyName, over.enforcementLevel) == ("waiver-valid", proto.MANDATORY)
    assert "ended on 2026-11-30" in over.message


def test_a_document_that_is_not_known_yet_waits_and_is_listed() -> None:
    rules = [rule for rule in ALL_RULES if rule.name in {"least-privilege", "unknowns-accounted"}]
    analyzer = in_process(served(rules))
    kind = "aws:iam/rolePolicy:RolePolicy"
    response = analyzer.analyze(kind, {"policy": UNKNOWN_STRING})
    assert not response.diagnostics
    [entry] = response.not_applicable
    assert entry.reason.startswith("Not before `pulumi up`: policy is not known")
    [listed] = analyzer.analyze_stack([(kind, {"policy": UNKNOWN_STRING})]).diagnostics
    assert (listed.policyName, listed.enforcementLevel) == ("unknowns-accounted", proto.ADVISORY)
    assert "RolePolicy subject: least-privilege needs policy" in listed.message
    # On `up` the same process judges it again, with its value.
    wide = '{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}'
    [blocked] = analyzer.analyze(kind, {"policy": wide}).diagnostics
    assert blocked.enforcementLevel == proto.MANDATORY
    assert not analyzer.analyze_stack([(kind, {"policy": wide})]).diagnostics


def test_a_stack_rule_gets_resources_with_their_dependencies_providers_and_parents() -> None:
    seen: list[Resource] = []

    def check(stack: Stack, config: Node) -> Answer:
        seen.extend(stack.resources)
        return []

    rule = StackRule(
        name="looks",
        description="Looks.",
        severity=Severity.LOW,
        remediation="None.",
        check=check,
        example=Stack(()),
    )
    analyzer = in_process(served([rule]))
    analyzer.analyze_stack([("a:b:First", {"x": 1}), ("a:b:Second", {})])
    first, second = seen
    assert (first.type, first.props["x"], first.urn) == ("a:b:First", 1, urn_of("a:b:First"))
    assert second.dependencies == (first.urn,)
    assert second.parent == first.urn
    assert second.provider == PROVIDER_URN


@pytest.mark.parametrize("folder", ["", *PACKS])
def test_the_project_file_names_the_environment_that_holds_the_rules(folder: str) -> None:
    pack = POLICIES / folder
    project = yaml.safe_load((pack / "PulumiPolicy.yaml").read_text(encoding="utf-8"))
    assert project["runtime"]["options"]["toolchain"] == "pip"
    named = pack / project["runtime"]["options"]["virtualenv"]
    assert named.resolve() == POLICIES.parent / ".venv"
    assert project["version"]


@pytest.fixture
def served_packs() -> Iterator[Analyzer]:
    """All packs as Pulumi's language host starts them."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "pulumi.policy", "127.0.0.1:1", "."],
        cwd=POLICIES,
        env={**os.environ, "PULUMI_CONFIG": '{"spillway:platform": "{\\"environment\\": \\"dev\\"}"}'},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # A pack that does not start must fail the test, not hang it.
    deadline = threading.Timer(60, process.kill)
    deadline.start()
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port.isdigit():
            pytest.fail(f"the pack printed {port!r} instead of its port: {process.communicate()[1]}")
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield behind(channel)
    finally:
        deadline.cancel()
        process.kill()
        process.communicate()


def test_all_packs_start_as_one_process_with_the_levels_of_the_stacks_environment(
    served_packs: Analyzer,
) -> None:
    info = served_packs.info()
    assert info.name == "spillway-all"
    numbers = {
        "mandatory": proto.MANDATORY,
        "advisory": proto.ADVISORY,
        "disabled": proto.DISABLED,
    }
    assert {policy.name: policy.enforcementLevel for policy in info.policies} == {
        rule.name: numbers[rule.enforcement.dev.value] for rule in ALL_RULES
    }
    served_packs.configure(CONFIG)
    allowed = ray_service(pod({"nvidia.com/gpu": 8}, H100), maxReplicas=2)
    beyond = ray_service(pod({"nvidia.com/gpu": 8}, H100), maxReplicas=3)
    names = [
        {one.policyName for one in served_packs.analyze(RAY_SERVICE, props).diagnostics}
        for props in (allowed, beyond)
    ]
    assert names[1] - names[0] == {"gpu-max-per-pool"}
