"""The command `preview-comment`: how it runs the CLI, what it writes, and its exit status."""

import json
from pathlib import Path

import pytest

from runtime.ops.__main__ import main
from tests.support.preview_events import error, policy, step, stream

BUCKET = "aws:s3/bucket:Bucket"
CREATE = step("create", BUCKET, "a", None, {})
REFUSED = policy("caps", "Too many.")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with packs and their configuration, outside of any workflow."""
    (tmp_path / "Pulumi.yaml").write_text("name: demo\nruntime: python\n")
    (tmp_path / "policies" / "config").mkdir(parents=True)
    (tmp_path / "policies" / "config" / "dev.json").write_text(
        json.dumps({"gpu-hourly-ceiling": {"maxUsdPerHour": 600}, "all": "advisory"})
    )
    for name in ("GITHUB_STEP_SUMMARY", "GITHUB_EVENT_PATH", "GITHUB_SHA", "CI_COMMIT_SHA"):
        monkeypatch.delenv(name, raising=False)
    for name in ("PULUMI_OPTION_POLICY_PACK", "PULUMI_OPTION_POLICY_PACK_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def events(project: Path, *lines: str) -> Path:
    file = project / "events.ndjson"
    file.write_text("\n".join(lines))
    return file


def install_pulumi(
    project: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str], *, status: int = 0
) -> None:
    """A CLI that notes how it was called and prints the lines."""
    folder = project / "bin"
    folder.mkdir()
    file = events(project, *lines)
    program = folder / "pulumi"
    program.write_text(
        f'#!/bin/sh\necho "$@" > called\nenv > environment\ncat {file}\n'
        f'echo "no such stack" >&2\nexit {status}\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (stream(CREATE), 0),
        (stream(CREATE, REFUSED, error("preview failed")), 1),
        (stream(CREATE, error("no credentials"), error("preview failed")), 2),
    ],
)
def test_the_exit_status_tells_passed_blocked_and_failed(
    project: Path, lines: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["preview-comment", "--events", str(events(project, *lines))]) == status
    assert capsys.readouterr().out.startswith("<!-- spillway:demo/dev -->\n")


@pytest.mark.parametrize(("lines", "status"), [(stream(CREATE), 3), (stream(), 0), (stream(REFUSED), 1)])
def test_a_check_for_drift_has_a_status_of_its_own(project: Path, lines: list[str], status: int) -> None:
    given = ["preview-comment", "--events", str(events(project, *lines)), "--expect-no-changes"]
    assert main(given) == status


def test_one_preview_is_run_with_streaming_events_all_packs_and_the_stacks_configuration(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_pulumi(project, monkeypatch, stream(CREATE))
    out = project / "comment.md"
    given = [
        "preview-comment",
        "--stack",
        "dev",
        "--refresh",
        "--config-file",
        "mine.yaml",
        "--out",
        str(out),
        "--keep-events",
        "kept.ndjson",
    ]
    assert main(given) == 0
    called = "preview --json --non-interactive --stack dev --refresh --config-file mine.yaml\n"
    assert (project / "called").read_text() == called
    environment = (project / "environment").read_text().splitlines()
    assert "PULUMI_ENABLE_STREAMING_JSON_PREVIEW=true" in environment
    assert "PULUMI_OPTION_POLICY_PACK=policies" in environment
    assert "PULUMI_OPTION_POLICY_PACK_CONFIG=policies/config/dev.json" in environment
    assert "`gpu-hourly-ceiling` maxUsdPerHour = 600" in out.read_text()
    assert (project / "kept.ndjson").read_text().split() == "\n".join(stream(CREATE)).split()


def test_packs_that_the_shell_names_are_left_alone(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_pulumi(project, monkeypatch, stream(CREATE))
    monkeypatch.setenv("PULUMI_OPTION_POLICY_PACK", "/own/pack")
    main(["preview-comment", "--stack", "dev", "--out", "comment.md"])
    environment = (project / "environment").read_text().splitlines()
    assert "PULUMI_OPTION_POLICY_PACK=/own/pack" in environment
    assert not any(line.startswith("PULUMI_OPTION_POLICY_PACK_CONFIG=") for line in environment)


def test_a_preview_that_fails_before_its_first_event_still_gets_a_comment(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install_pulumi(project, monkeypatch, [], status=255)
    assert main(["preview-comment", "--stack", "dev"]) == 2
    text = capsys.readouterr().out
    assert text.startswith("<!-- spillway:demo/dev -->\n### `demo/dev`: the preview **failed**")
    assert "- no such stack" in text


def test_without_a_cli_it_says_how_to_get_one(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(project))
    assert main(["preview-comment", "--stack", "dev"]) == 2
    assert "there is no pulumi on PATH; install it" in capsys.readouterr().err


def test_neither_a_stack_nor_events_is_one_message(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["preview-comment"]) == 2
    assert capsys.readouterr().err == "no comment: neither --stack nor --events is given; name one of them\n"


def test_in_a_workflow_the_summary_has_the_comment_too(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project / "summary.md"))
    main(["preview-comment", "--events", str(events(project, *stream(CREATE))), "--out", "comment.md"])
    assert (project / "comment.md").read_text() in (project / "summary.md").read_text()
