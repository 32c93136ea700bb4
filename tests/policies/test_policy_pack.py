"""A pack as the engine sees it: in process, and as the processes that Pulumi starts."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import NoReturn

import grpc
import pytest
import yaml
from google.protobuf import struct_pb2
from pulumi.runtime import proto

from policies import analyzer as module
from policies.analyzer import PolicyAnalyzer, plain
from policies.enforcement import Environment
from policies.gpu_cost.pools import GPU_INSTANCE_ALLOWLIST, GPU_MAX_PER_POOL
from policies.judging import Judge
from policies.packs import ALL_RULES, PACKS
from policies.reading import Node
from policies.rule import Answer, Resource, Rule, Severity
from policies.waivers import Waiver
from runtime.stack_resources import SECRET_SIGNATURE, SIGNATURE
from tests.policies.kubernetes_objects import (
    H100,
    RAY_SERVICE,
    UNKNOWN_NUMBER,
    UNKNOWN_STRING,
    pod,
    ray_service,
)
from tests.policies.policy_analyzer import (
    NOW,
    PROVIDER_URN,
    Analyzer,
    behind,
    in_process,
    looking_rule,
    urn_of,
)

POLICIES = Path(__file__).parents[2] / "policies"
LEVELS = {"mandatory": proto.MANDATORY, "advisory": proto.ADVISORY, "disabled": proto.DISABLED}
CAPS = (GPU_INSTANCE_ALLOWLIST, GPU_MAX_PER_POOL)
CONFIG = {
    "gpu-instance-allowlist": {"allowedAccelerators": ["nvidia-h100"]},
    "gpu-max-per-pool": {"maxGpusPerPool": 16},
}


def looking(check: Callable[[Resource, Node], Answer]) -> Rule:
    example = Resource("any", "any", {})
    return Rule(
        name="looks",
        description="Looks.",
        severity=Severity.LOW,
        remediation="None.",
        check=check,
        example=example,
    )


def test_a_stack_within_its_limits_passes() -> None:
    analyzer = in_process(CAPS)
    analyzer.configure(CONFIG)
    props = ray_service(pod({"nvidia.com/gpu": 8}, H100), maxReplicas=2)
    response = analyzer.analyze(RAY_SERVICE, props)
    assert not response.diagnostics
    assert not response.not_applicable


def test_violations_are_mandatory_and_carry_the_fix() -> None:
    analyzer = in_process(CAPS)
    props = ray_service(pod({"nvidia.com/gpu": 8}, H100), maxReplicas=2)
    diagnostics = list(analyzer.analyze(RAY_SERVICE, props).diagnostics)
    assert [d.policyName for d in diagnostics] == ["gpu-instance-allowlist", "gpu-max-per-pool"]
    assert {d.enforcementLevel for d in diagnostics} == {proto.MANDATORY}
    assert [d.severity for d in diagnostics] == [proto.POLICY_SEVERITY_HIGH, proto.POLICY_SEVERITY_CRITICAL]
    assert 'Fix: Add "nvidia-h100" to allowedAccelerators' in diagnostics[0].message
    assert "16 in all" in diagnostics[1].message


def test_an_unknown_value_blocks_instead_of_turning_the_rule_advisory() -> None:
    analyzer = in_process(CAPS)
    analyzer.configure(CONFIG)
    worker = pod({"nvidia.com/gpu": 8}, {"nvidia.com/gpu.product": f"NVIDIA-{UNKNOWN_STRING}"})
    props = ray_service(worker, maxReplicas=UNKNOWN_NUMBER)
    diagnostics = list(analyzer.analyze(RAY_SERVICE, props).diagnostics)
    assert {d.enforcementLevel for d in diagnostics} == {proto.MANDATORY}
    assert 'nodeSelector["nvidia.com/gpu.product"] is not known' in diagnostics[0].message
    assert "workerGroupSpecs[0].maxReplicas is not known" in diagnostics[1].message


def test_a_resource_without_pods_is_recorded_as_not_applicable() -> None:
    analyzer = in_process(CAPS)
    response = analyzer.analyze("kubernetes:core/v1:Service", {"spec": {}})
    assert not response.diagnostics
    assert {entry.policy_name for entry in response.not_applicable} == {rule.name for rule in CAPS}


def test_a_rule_that_raises_ends_as_a_violation_and_not_as_an_rpc_error() -> None:
    def check(resource: Resource, config: Node) -> Answer:
        raise ZeroDivisionError

    [diagnostic] = in_process([looking(check)]).analyze(RAY_SERVICE, {}).diagnostics
    assert "Rule looks failed" in diagnostic.message
    assert diagnostic.enforcementLevel == proto.MANDATORY


def test_every_rule_becomes_a_policy_with_its_schema_its_level_and_its_first_control() -> None:
    for environment in Environment:
        info = in_process(ALL_RULES, environment).info()
        assert info.supportsConfig
        for rule, policy in zip(ALL_RULES, info.policies, strict=True):
            level = LEVELS[rule.enforcement.in_environment(environment).value]
            assert (policy.name, policy.enforcementLevel) == (rule.name, level)
            schemas = plain(policy.configSchema.properties)
            assert schemas == {key: value.schema for key, value in rule.config.items()}
            if rule.controls:
                assert policy.framework.reference == rule.controls[0].number


def test_a_level_in_the_configuration_holds_whatever_the_environment_says() -> None:
    analyzer = in_process(CAPS)
    props = ray_service(pod({"nvidia.com/gpu": 8}, H100), maxReplicas=2)
    for level, seen in [
        (proto.ADVISORY, {proto.ADVISORY}),
        (proto.REMEDIATE, {proto.MANDATORY}),
        (proto.DISABLED, set[int]()),
    ]:
        analyzer.configure({rule.name: {} for rule in CAPS}, level)
        assert {one.enforcementLevel for one in analyzer.analyze(RAY_SERVICE, props).diagnostics} == seen


def test_a_secret_is_judged_by_its_value_and_numbers_are_whole() -> None:
    seen: list[Resource] = []

    def check(resource: Resource, config: Node) -> Answer:
        seen.append(resource)
        return []

    secret = {SIGNATURE: SECRET_SIGNATURE, "value": {"n": [1, 1.5, True, None]}}
    in_process([looking(check)]).analyze("a:b:C", {"key": secret})
    assert seen[0].props == {"key": {"n": [1, 1.5, True, None]}}
    assert isinstance(seen[0].props["key"]["n"][0], int)  # pyright: ignore[reportIndexIssue]


def test_a_resource_is_read_once_for_all_rules_and_again_for_the_stack_only_where_it_has_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[object] = []
    real = module.plain

    def counting(struct: struct_pb2.Struct) -> dict[str, object]:
        made.append(struct)
        return real(struct)

    monkeypatch.setattr(module, "plain", counting)
    analyzer = in_process(ALL_RULES)
    props = ray_service(pod({"nvidia.com/gpu": 8}, H100), maxReplicas=2)
    analyzer.analyze(RAY_SERVICE, props)
    assert len(made) == 1
    analyzer.analyze_stack([(RAY_SERVICE, props)])
    assert len(made) == 1
    analyzer.analyze_stack([(RAY_SERVICE, {**props, "status": {}})])
    assert len(made) == 2


def test_a_rule_that_is_off_in_an_environment_says_nothing_there() -> None:
    rules = [rule for rule in ALL_RULES if rule.name == "image-digest"]
    for environment, levels in [
        (Environment.DEV, []),
        (Environment.STAGING, [proto.ADVISORY]),
        (Environment.PROD, [proto.MANDATORY]),
    ]:
        analyzer = in_process(rules, environment)
        found = analyzer.analyze("kubernetes:core/v1:Pod", pod({"cpu": 1})).diagnostics
        assert [one.enforcementLevel for one in found] == levels


def test_a_waiver_keeps_a_violation_from_counting_until_its_day_and_is_shown() -> None:
    urn = "urn:pulumi:*::spillway::kubernetes:core/v1:Pod::subject"
    rules = [rule for rule in ALL_RULES if rule.name in {"image-digest", "waiver-valid", "waivers-in-force"}]
    last_day = Waiver("image-digest", urn, "vendor", "ml", NOW.date())
    analyzer = in_process(rules, Environment.PROD, last_day)
    response = analyzer.analyze("kubernetes:core/v1:Pod", pod({"cpu": 1}))
    assert not response.diagnostics
    assert "waived by ml until 2026-12-01: vendor" in {one.reason for one in response.not_applicable}
    [shown] = analyzer.analyze_stack([("kubernetes:core/v1:Pod", pod({"cpu": 1}))]).diagnostics
    assert (shown.policyName, shown.enforcementLevel) == ("waivers-in-force", proto.ADVISORY)

    run_out = Waiver("image-digest", urn, "vendor", "ml", date(2026, 11, 30))
    analyzer = in_process(rules, Environment.PROD, run_out)
    [counts] = analyzer.analyze("kubernetes:core/v1:Pod", pod({"cpu": 1})).diagnostics
    assert counts.policyName == "image-digest"
    over, _ = analyzer.analyze_stack([("kubernetes:core/v1:Pod", pod({"cpu": 1}))]).diagnostics
    assert (over.policyName, over.enforcementLevel) == ("waiver-valid", proto.MANDATORY)
    assert "ended on 2026-11-30" in over.message


def test_a_document_that_is_not_known_yet_waits_and_is_listed() -> None:
    rules = [rule for rule in ALL_RULES if rule.name in {"least-privilege", "unknowns-accounted"}]
    analyzer = in_process(rules)
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
    analyzer = in_process([looking_rule(seen)])
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


PLATFORM = {"spillway:platform": '{"environment": "dev"}'}


@contextmanager
def started(command: Sequence[str], **variables: str) -> Generator[Analyzer]:
    """A pack as a process, as Pulumi starts it; it may only print its port."""
    process = subprocess.Popen(
        command,
        cwd=POLICIES,
        env={**os.environ, **variables},
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


def by_the_language_host() -> list[str]:
    return [sys.executable, "-u", "-m", "pulumi.policy", "127.0.0.1:1", "."]


def test_the_executable_starts_without_the_sdk_and_takes_the_stack_from_the_engine() -> None:
    with started([str(POLICIES / "pack"), "127.0.0.1:1"]) as packs:
        packs.configure_stack("no-such-stack", PLATFORM)
        assert_all_packs_judge_in_dev(packs)
    code = (
        "import sys; import policies.serving; print('pulumi' in sys.modules, 'pulumi_policy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_project_starts_behind_a_language_host_which_names_the_stack_in_the_environment() -> None:
    with started(by_the_language_host(), PULUMI_CONFIG=json.dumps(PLATFORM)) as packs:
        assert_all_packs_judge_in_dev(packs)


def assert_all_packs_judge_in_dev(packs: Analyzer) -> None:
    info = packs.info()
    assert info.name == "spillway-all"
    assert {policy.name: policy.enforcementLevel for policy in info.policies} == {
        rule.name: LEVELS[rule.enforcement.dev.value] for rule in ALL_RULES
    }
    packs.configure(CONFIG)
    allowed = ray_service(pod({"nvidia.com/gpu": 8}, H100), maxReplicas=2)
    beyond = ray_service(pod({"nvidia.com/gpu": 8}, H100), maxReplicas=3)
    names = [
        {one.policyName for one in packs.analyze(RAY_SERVICE, props).diagnostics}
        for props in (allowed, beyond)
    ]
    assert names[1] - names[0] == {"gpu-max-per-pool"}


def test_wrong_waivers_are_told_before_anything_is_judged(tmp_path: Path) -> None:
    file = tmp_path / "waivers.yaml"
    file.write_text("- rule: nothing\n")
    done = subprocess.run(
        by_the_language_host(),
        cwd=POLICIES,
        env={**os.environ, "SPILLWAY_WAIVERS": str(file)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "rule = nothing is no rule" in done.stderr
    assert not done.stdout


def test_wrong_waivers_of_the_stack_that_the_engine_names_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class EndedError(Exception):
        pass

    class Context:
        def abort(self, code: object, details: str) -> NoReturn:
            raise EndedError(details)

    (tmp_path / "prod.yaml").write_text("- rule: nothing\n")
    monkeypatch.delenv("SPILLWAY_WAIVERS", raising=False)
    monkeypatch.setattr("policies.waivers.FOLDER", tmp_path)
    served = PolicyAnalyzer("test-pack", Judge(CAPS, (), NOW), Environment.PROD)
    with pytest.raises(EndedError, match="rule = nothing is no rule"):
        served.ConfigureStack(proto.AnalyzerStackConfigureRequest(stack="prod"), Context())
