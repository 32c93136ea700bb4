"""The pack behind the policy SDK: in process, and as the process that Pulumi starts."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import yaml
from pulumi.runtime import proto
from pulumi_policy import EnforcementLevel

import policies.gpu_cost
from policies.gpu_cost.rules import RULES
from policies.reading import Node
from policies.rule import Resource, Rule, Severity, Verdict
from policies.serving import resource_policies
from tests.policies.kubernetes_objects import (
    H100,
    RAY_SERVICE,
    UNKNOWN_NUMBER,
    UNKNOWN_STRING,
    pod,
    ray_service,
)
from tests.policies.policy_analyzer import Analyzer, behind, in_process

PACK = Path(policies.gpu_cost.__file__).parent
CONFIG = {
    "accelerator-allow-list": {"allowedAccelerators": ["nvidia-h100"]},
    "max-gpus-per-pool": {"maxGpusPerPool": 16},
}


def test_a_stack_within_its_limits_passes_through_the_sdk() -> None:
    analyzer = in_process(resource_policies(RULES))
    analyzer.configure(CONFIG)
    props = ray_service(pod({"nvidia.com/gpu": 8}, H100), maxReplicas=2)
    response = analyzer.analyze(RAY_SERVICE, props)
    assert not response.diagnostics
    assert not response.not_applicable


def test_violations_are_mandatory_and_carry_the_fix() -> None:
    analyzer = in_process(resource_policies(RULES))
    props = ray_service(pod({"nvidia.com/gpu": 8}, H100), maxReplicas=2)
    diagnostics = list(analyzer.analyze(RAY_SERVICE, props).diagnostics)
    assert [d.policyName for d in diagnostics] == ["accelerator-allow-list", "max-gpus-per-pool"]
    assert {d.enforcementLevel for d in diagnostics} == {proto.MANDATORY}
    assert [d.severity for d in diagnostics] == [proto.POLICY_SEVERITY_HIGH, proto.POLICY_SEVERITY_CRITICAL]
    assert 'Fix: Add "nvidia-h100" to allowedAccelerators' in diagnostics[0].message
    assert "16 in all" in diagnostics[1].message


def test_an_unknown_value_blocks_instead_of_turning_the_rule_advisory() -> None:
    analyzer = in_process(resource_policies(RULES))
    analyzer.configure(CONFIG)
    worker = pod({"nvidia.com/gpu": 8}, {"nvidia.com/gpu.product": f"NVIDIA-{UNKNOWN_STRING}"})
    props = ray_service(worker, maxReplicas=UNKNOWN_NUMBER)
    diagnostics = list(analyzer.analyze(RAY_SERVICE, props).diagnostics)
    assert {d.enforcementLevel for d in diagnostics} == {proto.MANDATORY}
    assert 'nodeSelector["nvidia.com/gpu.product"] is not known' in diagnostics[0].message
    assert "workerGroupSpecs[0].maxReplicas is not known" in diagnostics[1].message


def test_a_resource_without_pods_is_recorded_as_not_applicable() -> None:
    analyzer = in_process(resource_policies(RULES))
    response = analyzer.analyze("kubernetes:core/v1:Service", {"spec": {}})
    assert not response.diagnostics
    assert {entry.policy_name for entry in response.not_applicable} == {rule.name for rule in RULES}


def test_a_rule_that_raises_ends_as_a_violation_and_not_as_an_rpc_error() -> None:
    def check(resource: Resource, config: Node) -> Verdict:
        raise ZeroDivisionError

    broken = Rule("broken", "Is broken.", Severity.LOW, "Repair it.", check, Resource("any", "any", {}))
    analyzer = in_process(resource_policies([broken]))
    [diagnostic] = analyzer.analyze(RAY_SERVICE, {}).diagnostics
    assert "Rule broken failed" in diagnostic.message
    assert diagnostic.enforcementLevel == proto.MANDATORY


def test_every_rule_becomes_a_mandatory_policy_with_its_schema() -> None:
    for rule, policy in zip(RULES, resource_policies(RULES), strict=True):
        assert (policy.name, policy.enforcement_level) == (rule.name, EnforcementLevel.MANDATORY)
        assert policy.config_schema is not None
        assert policy.config_schema.properties == {
            key: dict(value.schema) for key, value in rule.config.items()
        }


def test_the_project_file_names_the_environment_that_holds_the_rules() -> None:
    project = yaml.safe_load((PACK / "PulumiPolicy.yaml").read_text(encoding="utf-8"))
    assert project["runtime"] == {
        "name": "python",
        "options": {"toolchain": "pip", "virtualenv": "../../.venv"},
    }
    assert project["version"]


@pytest.fixture
def served_pack() -> Iterator[Analyzer]:
    """The pack as Pulumi's language host starts it."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "pulumi.policy", "127.0.0.1:1", "."],
        cwd=PACK,
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


def test_the_pack_starts_as_a_process_and_blocks_over_grpc(
    served_pack: Analyzer,
) -> None:
    info = served_pack.info()
    assert info.name == "spillway-gpu-cost"
    assert {policy.name: policy.enforcementLevel for policy in info.policies} == {
        rule.name: proto.MANDATORY for rule in RULES
    }
    served_pack.configure(CONFIG)
    allowed = ray_service(pod({"nvidia.com/gpu": 8}, H100), maxReplicas=2)
    assert not served_pack.analyze(RAY_SERVICE, allowed).diagnostics
    beyond = ray_service(pod({"nvidia.com/gpu": 8}, H100), maxReplicas=3)
    [diagnostic] = served_pack.analyze(RAY_SERVICE, beyond).diagnostics
    assert diagnostic.policyName == "max-gpus-per-pool"
    assert diagnostic.enforcementLevel == proto.MANDATORY
