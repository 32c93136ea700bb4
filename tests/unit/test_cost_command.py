"""The command `cost`: where it takes resources from, and what it says when there are none."""

import json
from pathlib import Path
from typing import Any

import pytest

from runtime.ops.__main__ import main

AWS = "urn:pulumi:dev::demo::pulumi:providers:aws::aws"
NAT = "urn:pulumi:dev::demo::aws:ec2/natGateway:NatGateway::out"


def resource(urn: str, **inputs: Any) -> dict[str, Any]:
    return {
        "urn": urn,
        "type": urn.split("::")[2],
        "custom": True,
        "id": "x",
        "parent": "",
        "provider": f"{AWS}::1",
        "inputs": inputs,
        "outputs": {},
    }


PROVIDER, GATEWAY = resource(AWS, region="us-east-1"), resource(NAT)


def state(*resources: dict[str, Any]) -> str:
    return json.dumps({"version": 3, "deployment": {"resources": list(resources)}})


def event(operation: str, old: Any, new: Any) -> str:
    metadata = {"op": operation, "old": old, "new": new}
    return json.dumps({"sequence": 1, "resourcePreEvent": {"metadata": metadata}})


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    path = tmp_path / "state.json"
    path.write_text(state(PROVIDER, GATEWAY))
    return path


def test_a_state_is_priced(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "--state", str(exported), "--title", "stack demo"]) == 0
    said = capsys.readouterr().out
    assert "Cost of stack demo" in said
    assert "1 x NAT gateway" in said
    assert "$0.05" in said


def test_a_preview_is_priced_with_the_change_that_it_makes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "events"
    lines = ["warning: something", event("same", PROVIDER, PROVIDER), event("create", None, GATEWAY)]
    path.write_text("\n".join(lines))
    assert main(["cost", "--events", str(path), "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["totalHourlyCost"] == "0.045"
    assert document["pastTotalHourlyCost"] == "0"


def test_a_preview_that_failed_gives_no_estimate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "events"
    error = {"sequence": 2, "diagnosticEvent": {"severity": "error", "message": "no such key"}}
    path.write_text("\n".join([event("create", None, GATEWAY), json.dumps(error)]))
    assert main(["cost", "--events", str(path)]) == 1
    assert capsys.readouterr().err == "no estimate: the preview failed: no such key\n"


def test_a_change_is_shown_from_an_earlier_state(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tmp_path / "before.json"
    before.write_text(state(PROVIDER))
    assert main(["cost", "--state", str(exported), "--before", str(before), "--format", "markdown"]) == 0
    assert "| change | +$0.05 | +$0.05 | +$0.05 |" in capsys.readouterr().out


def test_without_a_time_a_report_goes_until_the_stack_expires_by_its_own_tags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tags = {"tags": {"spillway:expires": "2h"}}
    path = tmp_path / "state.json"
    path.write_text(state(resource(AWS, region="us-east-1", defaultTags=tags), GATEWAY))
    assert main(["cost", "--state", str(path)]) == 0
    assert "$0.09" in capsys.readouterr().out, "two hours of a NAT gateway at 0.045"


def test_a_report_goes_to_a_file_and_says_until_when(exported: Path, tmp_path: Path) -> None:
    out = tmp_path / "cost.html"
    options = ["--format", "html", "--out", str(out), "--expires", "2000-01-01T00:00"]
    assert main(["cost", "--state", str(exported), *options]) == 0
    assert "At most until it expires on 2000-01-01 00:00 UTC: $0.00" in out.read_text()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "is no object; give the output of `pulumi stack export`"),
        ("{}", "no deployment; give the output of `pulumi stack export`"),
        ("", "no estimate: "),
    ],
)
def test_a_file_that_is_no_state_gives_no_estimate(
    content: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "it"
    path.write_text(content)
    assert main(["cost", "--state", str(path)]) == 1
    assert said in capsys.readouterr().err


def test_a_time_that_is_none_is_refused_with_an_example(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["cost", "--state", str(exported), "--expires", "tomorrow"])
    assert "tomorrow is no time; write it as 2026-12-31T18:00+01:00" in capsys.readouterr().err
