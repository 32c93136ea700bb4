"""`make compliance`: what it judges, writes and answers, without a deployment."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from policies import compliance
from policies.compliance import ComplianceError, configuration, resources_of
from policies.compliance_report import markdown, sarif
from policies.enforcement import Environment, Level
from policies.judging import Judge
from policies.packs import ALL_RULES
from policies.results import Outcome, RuleResult, judge_all
from policies.rule import Resource
from policies.waivers import Waiver
from runtime.stack_resources import UNKNOWN, from_state

BUCKET = "urn:pulumi:dev::spillway::aws:s3/bucketVersioning:BucketVersioning::weights"
ROLE = "urn:pulumi:dev::spillway::aws:iam/rolePolicy:RolePolicy::nodes"
KEY = "urn:pulumi:dev::spillway::aws:kms/key:Key::weights"
NOW = datetime(2026, 12, 1, tzinfo=UTC)
WAIVER = Waiver("bucket-hardened", BUCKET, "old data", "ml", NOW.date())
STATE: dict[str, Any] = {
    "version": 3,
    "deployment": {
        "resources": [
            {
                "urn": BUCKET,
                "type": "aws:s3/bucketVersioning:BucketVersioning",
                "custom": True,
                "inputs": {"versioningConfiguration": {"status": "Suspended"}},
            },
            {
                "urn": ROLE,
                "type": "aws:iam/rolePolicy:RolePolicy",
                "custom": True,
                "inputs": {"policy": "04da6b54-80e4-46f7-96ec-b56ff0331ba9"},
            },
            {
                "urn": KEY,
                "type": "aws:kms/key:Key",
                "custom": True,
                "protect": True,
                "dependencies": [ROLE],
                "inputs": {"enableKeyRotation": True},
            },
        ]
    },
}


def judged(*waivers: Waiver, **config: dict[str, object]) -> dict[str, RuleResult]:
    judge = Judge(ALL_RULES, waivers, NOW)
    named = {name.replace("_", "-"): value for name, value in config.items()}
    found = judge_all(judge, resources_of(from_state(STATE)), named, Environment.DEV)
    return {one.rule.name: one for one in found}


def test_a_state_is_judged_by_inputs_with_what_protects_and_what_depends() -> None:
    bucket, role, key = resources_of(from_state(STATE))
    assert bucket.props == {"versioningConfiguration": {"status": "Suspended"}}
    assert role.props == {"policy": UNKNOWN}
    assert (key.protect, key.dependencies, key.urn) == (True, (ROLE,), KEY)


def test_every_rule_has_one_result_of_the_five() -> None:
    found = judged()
    outcomes = {name: one.outcome for name, one in found.items()}
    assert len(found) == len(ALL_RULES)
    assert outcomes["bucket-hardened"] is Outcome.VIOLATED
    assert outcomes["least-privilege"] is Outcome.UNKNOWN
    assert outcomes["kms-rotation"] is Outcome.PASSED
    assert outcomes["imdsv2"] is Outcome.NOT_APPLICABLE
    assert outcomes["image-digest"] is Outcome.OFF
    assert judged(WAIVER)["bucket-hardened"].outcome is Outcome.WAIVED


def test_only_a_mandatory_violation_blocks() -> None:
    assert judged()["bucket-hardened"].blocks
    assert not judged(WAIVER)["bucket-hardened"].blocks
    assert not judged()["least-privilege"].blocks
    advisory = judged(bucket_hardened={"enforcementLevel": "advisory"})["bucket-hardened"]
    assert (advisory.outcome, advisory.level, advisory.blocks) == (Outcome.VIOLATED, Level.ADVISORY, False)
    assert judged(all={"enforcementLevel": "disabled"})["bucket-hardened"].outcome is Outcome.OFF


def test_the_waiver_is_shown_as_used_and_the_unknown_as_put_off() -> None:
    found = judged(WAIVER)
    [(_, shown)] = found["waivers-in-force"].violations
    assert "waived by ml until 2026-12-01: old data" in shown.message
    [(_, listed)] = found["unknowns-accounted"].violations
    assert listed.message == "aws:iam/rolePolicy:RolePolicy nodes: least-privilege needs policy"


def test_the_sarif_has_every_rule_and_each_result_points_to_one() -> None:
    document = sarif(list(judged(WAIVER).values()), "dev")
    assert document["version"] == "2.1.0"
    [run] = document["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert {one["id"] for one in rules} == {rule.name for rule in ALL_RULES}
    for one in run["results"]:
        assert rules[one["ruleIndex"]]["id"] == one["ruleId"]
        # SARIF 2.1.0, 3.27.10: a level other than none goes with kind fail only.
        assert (one["level"] == "none") is (one["kind"] != "fail")
        assert one["message"]["text"]
    by_rule = {one["ruleId"]: one for one in run["results"]}
    assert by_rule["bucket-hardened"]["suppressions"][0]["justification"].startswith("waived by ml")
    assert by_rule["least-privilege"]["kind"] == "open"
    assert by_rule["kms-rotation"]["kind"] == "pass"
    assert by_rule["imdsv2"]["kind"] == "notApplicable"
    assert by_rule["least-privilege"]["locations"][0]["logicalLocations"][0]["fullyQualifiedName"] == ROLE
    tags = next(one for one in rules if one["id"] == "imdsv2")["properties"]["tags"]
    assert "AWS Foundational Security Best Practices 1.0.0 EC2.170" in tags
    json.dumps(document)


def test_the_table_maps_rules_to_frameworks_and_results() -> None:
    page = markdown(list(judged(WAIVER).values()), "dev", Environment.DEV, (WAIVER,))
    assert "# Compliance of stack dev (dev)" in page
    assert "| kms-rotation | mandatory | passed | 1 |  |  | KMS.5 | Art. 32 |" in page
    assert "| image-digest | off | off | 0 |  | 5.5.1 |  |  |" in page
    assert "**1 mandatory rule is violated.**" in page
    assert "1 waivers, which keep 1 findings from counting." in page
    assert "### CIS Amazon EKS Benchmark 1.8.0" in page
    assert "| EC2.170 | imdsv2: not applicable |" in page


def test_the_command_ends_with_1_and_says_what_to_do_where_a_mandatory_rule_is_violated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state.json"
    state.write_text(json.dumps(STATE))
    arguments = ["--stack", "hybrid", "--state", str(state), "--out", str(tmp_path)]
    assert compliance.main(arguments) == 1
    said = capsys.readouterr().out
    assert f"bucket-hardened on {BUCKET}: versioningConfiguration.status is Suspended" in said
    assert "  Fix: Set versioningConfiguration.status to Enabled." in said
    undecided = "and 1 cannot be evaluated before `pulumi up`: least-privilege"
    assert f"hybrid (staging): 1 mandatory rule is violated, {undecided}. Of 58 rules:" in said
    assert json.loads((tmp_path / "hybrid.sarif").read_text())["version"] == "2.1.0"
    assert (tmp_path / "hybrid.md").read_text().startswith("# Compliance of stack hybrid (staging)")

    nothing: dict[str, Any] = {"version": 3, "deployment": {"resources": []}}
    state.write_text(json.dumps(nothing))
    assert compliance.main(arguments) == 0
    assert "no mandatory rule is violated" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--stack", "nothing"], "STACK = nothing: there is no such stack; allowed: amd-mi300x, cpu, hybrid"),
        (["--stack", "local", "--state", "{file}"], "is no JSON; give the file that the command wrote"),
        (["--stack", "local", "--events", "{file}"], "holds no event of Pulumi's engine"),
    ],
)
def test_what_cannot_be_judged_is_said_and_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    file = tmp_path / "file"
    file.write_text("nonsense")
    assert compliance.main([one.format(file=file) for one in arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_configuration_that_names_no_rule_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compliance, "ROOT", tmp_path)
    (tmp_path / "policies" / "config").mkdir(parents=True)
    file = tmp_path / "policies" / "config" / "prod.json"
    file.write_text('{"image-digest": "advisory", "all": "mandatory"}')
    assert configuration("prod")["image-digest"] == {"enforcementLevel": "advisory"}
    file.write_text('{"image-digets": "advisory"}')
    with pytest.raises(ComplianceError, match="image-digets is no rule"):
        configuration("prod")


def test_the_events_of_a_preview_show_what_it_would_destroy(tmp_path: Path) -> None:
    old: dict[str, Any] = {"urn": KEY, "type": "aws:kms/key:Key", "custom": True, "inputs": {}}
    metadata: dict[str, Any] = {"op": "delete", "urn": KEY, "type": "aws:kms/key:Key", "old": old}
    events = tmp_path / "events"
    events.write_text(json.dumps({"sequence": 1, "resourcePreEvent": {"metadata": metadata}}) + "\n")
    results, _, _ = compliance.check("hybrid", events=events)
    found = {one.rule.name: one for one in results}["no-destructive-data"]
    assert [where for where, _ in found.violations] == [KEY]
    assert found.blocks


def test_a_resource_without_provider_has_no_region() -> None:
    assert isinstance(resources_of(from_state(STATE))[0], Resource)
    assert resources_of(from_state(STATE))[0].region == ""
