"""`evaluate apply` against the AWS double: what a decision does to weights and registry, what stops it."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from moto.core.responses import ActionResult  # pyright: ignore[reportMissingTypeStubs]
from moto.sagemaker.exceptions import ValidationError  # pyright: ignore[reportMissingTypeStubs]
from moto.sagemaker.models import sagemaker_backends  # pyright: ignore[reportMissingTypeStubs]
from moto.sagemaker.responses import SageMakerResponse  # pyright: ignore[reportMissingTypeStubs]

from runtime.evaluation.gate import Decision, Outcome
from runtime.ops.evaluation import places
from runtime.ops.evaluation.command import main
from runtime.ops.evaluation.hosted_endpoint import HostedEndpoint
from runtime.ops.evaluation.rollout import AlarmError, Rollout
from tests.support.aws import RunningDouble
from tests.support.hosted import ALARM, ENDPOINT, GROUP, SERVED, Hosted, decided, hosted


@pytest.fixture(autouse=True, scope="module")
def fixture_clients() -> Generator[None]:
    # All doubles have one address, so their clients are made once.
    places.aws.cache_clear()
    yield
    places.aws.cache_clear()


@pytest.fixture(name="here")
def fixture_here(double: RunningDouble, monkeypatch: pytest.MonkeyPatch) -> Hosted:
    return hosted(double, monkeypatch)


def applied(folder: Path, *more: str) -> int:
    return main(["apply", str(folder), "--endpoint-name", ENDPOINT, "--bake", "0", *more])


def test_a_good_canary_gets_all_traffic_and_is_approved(
    here: Hosted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = here.instances()
    assert applied(decided("promote", tmp_path)) == 0
    assert here.weights() == {"stable": 0.0, "canary": 10.0}
    assert here.instances() == before
    (package,) = here.packages()
    assert package["ModelApprovalStatus"] == "Approved"
    said = capsys.readouterr().out
    assert "version 1 of llm-Qwen-Qwen3-8B: Approved" in said
    assert "  stable: weight: 0\n  canary: weight: 1\n" in said


def test_a_bad_canary_loses_its_traffic_and_is_rejected(here: Hosted, tmp_path: Path) -> None:
    assert applied(decided("roll_back", tmp_path)) == 4
    assert here.weights() == {"stable": 10.0, "canary": 0.0}
    assert [one["ModelApprovalStatus"] for one in here.packages()] == ["Rejected"]
    # Again, nothing is left to do.
    assert applied(tmp_path) == 4
    assert here.weights() == {"stable": 10.0, "canary": 0.0}


def test_an_open_decision_leaves_the_weights_and_is_recorded(
    here: Hosted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert applied(decided("hold", tmp_path)) == 3
    assert here.weights() == {"stable": 9.0, "canary": 1.0}
    assert [one["ModelApprovalStatus"] for one in here.packages()] == ["PendingManualApproval"]
    assert "hold: f1 is 0.85" in capsys.readouterr().out


def test_the_same_decision_is_one_version_however_often_and_whenever_it_is_made(
    here: Hosted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    applied(decided("promote", tmp_path))
    assert applied(decided("promote", tmp_path, decided_at="2026-11-23T03:00:00+00:00")) == 0
    assert len(here.packages()) == 1
    assert "is already recorded as version 1" in capsys.readouterr().out
    applied(decided("hold", tmp_path))
    assert len(here.packages()) == 2
    capsys.readouterr()
    assert main(["history", GROUP]) == 0
    assert [line.split("\t")[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["2", "PendingManualApproval"],
        ["1", "Approved"],
    ]


def test_the_version_says_what_was_judged_and_by_what(here: Hosted, tmp_path: Path) -> None:
    applied(decided("promote", tmp_path))
    (package,) = here.packages()
    assert package["CustomerMetadataProperties"] == {
        "decision": package["ModelPackageDescription"].split()[0],
        "model": SERVED,
        "revision": "r2",
        "outcome": "promote",
        "decidedAt": "2026-11-22T03:00:00+00:00",
        "baseline": "r1",
        "job": "j",
        "dataset": "sha256:d",
        "records": "200",
        "failed": "0",
        "metric.f1": "0.85 from 0.8 to 0.9",
    }
    (container,) = package["InferenceSpecification"]["Containers"]
    assert container["ModelDataSource"]["S3DataSource"]["S3Uri"] == "s3://weights/models/qwen3-8b/r2/"
    assert container["Environment"]["SM_VLLM_SERVED_MODEL_NAME"] == SERVED


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"revision": "r3"}, f"is about {SERVED} r3, and variant canary of llm-chat serves {SERVED} r2"),
        ({"model": "other"}, f"is about other r2, and variant canary of llm-chat serves {SERVED} r2"),
        ({"baseline": "r0"}, "compares with r0, and variant stable serves r1"),
        ({"baseline": None}, "compares with nothing, as if it were the first revision, and variant stable"),
    ],
)
def test_a_decision_about_something_else_moves_and_records_nothing(
    here: Hosted, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], said: str
) -> None:
    assert applied(decided("promote", tmp_path, **changes)) == 1
    assert said in capsys.readouterr().err
    assert here.weights() == {"stable": 9.0, "canary": 1.0}
    assert here.packages() == []


@pytest.mark.parametrize("outcome", ["promote", "hold", "roll_back"])
def test_a_plan_says_what_would_be_done_and_does_nothing(
    here: Hosted, tmp_path: Path, capsys: pytest.CaptureFixture[str], outcome: Outcome
) -> None:
    status = applied(decided(outcome, tmp_path), "--plan", "--steps", "50,100")
    assert status == {"promote": 0, "hold": 3, "roll_back": 4}[outcome]
    said = capsys.readouterr().out
    assert {
        "promote": "would take canary through 10.0%, 50.0%, 100.0%, 0 s each",
        "hold": "would leave canary at 10.0%",
        "roll_back": "would take canary from 10.0% to 0%",
    }[outcome] in said
    assert here.weights() == {"stable": 9.0, "canary": 1.0}
    assert here.packages() == []


def test_an_alarm_that_is_on_keeps_the_canary_where_it_is(
    here: Hosted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here.alarm("ALARM")
    assert applied(decided("promote", tmp_path)) == 1
    assert "alarm llm-chat-errors is on, so canary stays at 10.0%" in capsys.readouterr().err
    assert here.weights() == {"stable": 9.0, "canary": 1.0}
    # It keeps no bad one in traffic.
    assert applied(decided("roll_back", tmp_path)) == 4
    assert here.weights() == {"stable": 10.0, "canary": 0.0}


def test_an_alarm_that_goes_off_after_a_step_takes_all_back_and_rejects_the_revision(
    here: Hosted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[dict[str, float]] = []

    def noted(self: Rollout, now: HostedEndpoint, bake_s: float) -> None:
        seen.append(here.weights())
        if len(seen) == 2:
            here.alarm("ALARM")
        watched(self, now, bake_s)

    watched = Rollout._bake  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(Rollout, "_bake", noted)
    assert applied(decided("promote", tmp_path), "--steps", "25,50,100") == 4
    assert seen == [{"stable": 7.5, "canary": 2.5}, {"stable": 5.0, "canary": 5.0}]
    assert here.weights() == {"stable": 10.0, "canary": 0.0}
    assert [one["ModelApprovalStatus"] for one in here.packages()] == ["Rejected"]
    assert "roll back: alarm llm-chat-errors went off at 50.0%" in capsys.readouterr().out
    # What was rejected is not promoted by the same results, alarm or not.
    here.alarm("OK")
    assert applied(tmp_path) == 1
    assert "is Rejected in the registry" in capsys.readouterr().err
    assert here.weights() == {"stable": 10.0, "canary": 0.0}


def test_alarms_are_looked_at_for_the_whole_time_after_a_step(here: Hosted, tmp_path: Path) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if sum(slept) > 60:
            here.alarm("ALARM")

    rollout = Rollout(
        sagemaker=here.sagemaker,
        cloudwatch=here.cloudwatch,
        endpoint=ENDPOINT,
        canary="canary",
        stable="stable",
        sleep=sleep,
    )
    decided("promote", tmp_path)
    decision = Decision.model_validate_json((tmp_path / "decision.json").read_text())
    with pytest.raises(AlarmError, match="alarm llm-chat-errors went off at 50"):
        rollout.rise(decision, [0.2, 0.5, 1.0], 40)
    # With looks at the endpoint, which is at rest the second time.
    assert slept == [0, 15, 15, 10, 0, 15, 15]


def test_a_bad_canary_loses_its_traffic_even_where_nothing_can_be_recorded(
    here: Hosted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert applied(decided("roll_back", tmp_path), "--group", "none") == 1
    assert "group none of the model registry" in capsys.readouterr().err
    assert here.weights() == {"stable": 10.0, "canary": 0.0}


@pytest.mark.parametrize(
    ("variants", "said"),
    [
        ({"stable": 200}, "the decision is about 200 by stable; ask it by its name"),
        ({"canary": 150, "stable": 50}, "the decision is about 150 by canary, 50 by stable"),
        # A folder that an older version began.
        ({"canary": 150}, "one for each of the 200 records, and the decision is about 150 by canary"),
        # Of an OpenAI-style endpoint, or inference components.
        ({}, "the decision is about none by a variant"),
    ],
)
def test_only_its_own_answers_promote_a_canary(
    here: Hosted, tmp_path: Path, capsys: pytest.CaptureFixture[str], variants: dict[str, int], said: str
) -> None:
    for more in ([], ["--plan"]):
        assert applied(decided("promote", tmp_path, variants=variants), *more) == 1
        assert said in capsys.readouterr().err
    assert here.weights() == {"stable": 9.0, "canary": 1.0}
    assert here.packages() == []


def test_an_alarm_that_is_not_there_promotes_nothing(
    here: Hosted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here.cloudwatch.delete_alarms(AlarmNames=[ALARM])
    assert applied(decided("promote", tmp_path)) == 1
    assert "alarm llm-chat-errors of endpoint llm-chat is not in CloudWatch" in capsys.readouterr().err
    assert here.weights() == {"stable": 9.0, "canary": 1.0}


def test_a_run_that_was_stopped_goes_on_with_the_step_that_it_was_at(
    here: Hosted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    baked: list[float] = []

    def watched(self: Rollout, now: HostedEndpoint, bake_s: float) -> None:
        baked.append(now.share("canary"))
        if len(baked) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Rollout, "_bake", watched)
    decided("promote", tmp_path)
    assert applied(tmp_path, "--steps", "20,50,100") == 130
    assert here.weights() == {"stable": 5.0, "canary": 5.0}
    assert applied(tmp_path, "--steps", "20,50,100") == 0
    # Half of its watch was missing.
    assert baked == [0.2, 0.5, 0.5, 1.0]
    assert here.weights() == {"stable": 0.0, "canary": 10.0}
    assert len(here.packages()) == 1


def test_a_canary_with_too_few_instances_gets_no_more_unless_it_is_said(
    here: Hosted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=ENDPOINT,
        DesiredWeightsAndCapacities=[{"VariantName": "stable", "DesiredInstanceCount": 3}],
    )
    assert applied(decided("promote", tmp_path), "--steps", "30,100") == 1
    said = capsys.readouterr().err
    assert "100% of the stable fleet's 192 requests at a time are 192, and it has 64" in said
    assert here.weights() == {"stable": 7.0, "canary": 3.0}
    assert applied(tmp_path, "--steps", "30,100", "--allow-few-instances") == 0
    assert here.weights() == {"stable": 0.0, "canary": 10.0}
    assert here.instances() == {"stable": 3, "canary": 1}


def test_a_change_that_sagemaker_refuses_leaves_the_weights_and_says_so(
    here: Hosted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(self: SageMakerResponse) -> None:
        raise ValidationError("not now")

    monkeypatch.setattr(SageMakerResponse, "update_endpoint_weights_and_capacities", refused)
    assert applied(decided("promote", tmp_path)) == 1
    assert "SageMaker refuses 100.0% for canary, and it stays at 10.0%" in capsys.readouterr().err
    assert here.weights() == {"stable": 9.0, "canary": 1.0}


def ringing_after_a_step(here: Hosted, monkeypatch: pytest.MonkeyPatch) -> None:
    def rung(self: Rollout, now: HostedEndpoint, bake_s: float) -> None:
        here.alarm("ALARM")
        watched(self, now, bake_s)

    watched = Rollout._bake  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(Rollout, "_bake", rung)


def refused_after(monkeypatch: pytest.MonkeyPatch, well: int, refused: int) -> list[int]:
    """Changes of weights go well so often, then are refused as often; the list has one entry for each."""
    calls: list[int] = []

    def change(self: SageMakerResponse) -> Any:
        calls.append(len(calls))
        if well <= calls[-1] < well + refused:
            raise ValidationError("Cannot update in-progress endpoint")
        return real(self)

    real: Any = SageMakerResponse.update_endpoint_weights_and_capacities
    monkeypatch.setattr(SageMakerResponse, "update_endpoint_weights_and_capacities", change)
    return calls


def test_a_roll_back_that_meets_another_update_is_tried_again(
    here: Hosted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ringing_after_a_step(here, monkeypatch)
    calls = refused_after(monkeypatch, 1, 3)
    assert applied(decided("promote", tmp_path), "--steps", "50,100") == 4
    assert len(calls) == 5
    assert here.weights() == {"stable": 10.0, "canary": 0.0}
    assert [one["ModelApprovalStatus"] for one in here.packages()] == ["Rejected"]


def test_a_roll_back_that_is_refused_for_good_rejects_all_the_same_and_says_how_to_take_it_back(
    here: Hosted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ringing_after_a_step(here, monkeypatch)
    calls = refused_after(monkeypatch, 1, 100)
    assert applied(decided("promote", tmp_path), "--steps", "50,100") == 1
    assert len(calls) == 21
    assert here.weights() == {"stable": 5.0, "canary": 5.0}
    assert [one["ModelApprovalStatus"] for one in here.packages()] == ["Rejected"]
    said = capsys.readouterr().err
    assert "canary of llm-chat has 50.0% of the traffic, and nobody watches it" in said
    assert "VariantName=canary,DesiredWeight=0 VariantName=stable,DesiredWeight=10" in said


def test_traffic_is_taken_back_where_the_registry_refuses(
    here: Hosted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(self: SageMakerResponse) -> None:
        raise ValidationError("not now")

    ringing_after_a_step(here, monkeypatch)
    monkeypatch.setattr(SageMakerResponse, "update_model_package", refused)
    assert applied(decided("promote", tmp_path)) == 1
    assert here.weights() == {"stable": 10.0, "canary": 0.0}
    assert "version 1 of llm-Qwen-Qwen3-8B is still Approved, reject it there" in capsys.readouterr().err


def test_an_alarm_that_vanishes_under_a_canary_is_said_with_the_share_that_nobody_watches(
    here: Hosted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def vanished(self: Rollout, now: HostedEndpoint, bake_s: float) -> None:
        here.cloudwatch.delete_alarms(AlarmNames=[ALARM])
        watched(self, now, bake_s)

    watched = Rollout._bake  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(Rollout, "_bake", vanished)
    assert applied(decided("promote", tmp_path), "--steps", "50,100") == 1
    said = capsys.readouterr().err
    assert "alarm llm-chat-errors of endpoint llm-chat is not in CloudWatch" in said
    assert "canary of llm-chat has 50.0% of the traffic, and nobody watches it" in said


@pytest.mark.parametrize("lapsed", ["describe_endpoint", "update_endpoint_weights_and_capacities"])
def test_credentials_that_lapse_under_a_canary_leave_the_share_in_words(
    here: Hosted,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lapsed: str,
) -> None:
    def refused(self: SageMakerResponse) -> None:
        raise ValidationError("The security token included in the request is expired")

    def change(self: SageMakerResponse) -> Any:
        found = real(self)
        # Of a change that was taken, or of the next one, nothing is seen any more.
        monkeypatch.setattr(SageMakerResponse, lapsed, refused)
        return found

    real: Any = SageMakerResponse.update_endpoint_weights_and_capacities
    monkeypatch.setattr(SageMakerResponse, "update_endpoint_weights_and_capacities", change)
    assert applied(decided("promote", tmp_path), "--steps", "50,100") == 1
    said = capsys.readouterr().err
    assert "security token" in said
    assert "50.0%" in said


def test_a_change_that_sagemaker_takes_back_is_no_success(
    here: Hosted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def forgotten(self: SageMakerResponse) -> ActionResult:
        return ActionResult({"EndpointArn": "arn"})

    monkeypatch.setattr(SageMakerResponse, "update_endpoint_weights_and_capacities", forgotten)
    assert applied(decided("promote", tmp_path)) == 1
    said = capsys.readouterr().err
    assert "did not keep 100.0% for canary, which is at 10.0% now" in said


def test_a_canary_that_is_exchanged_between_two_steps_gets_no_more(
    here: Hosted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def exchanged(self: Rollout, now: HostedEndpoint, bake_s: float) -> None:
        here.model("r3")
        weights = {"stable": 9, "canary": 1}
        here.configuration("second", weights, stable="r1", canary="r3")
        here.update("second")

    monkeypatch.setattr(Rollout, "_bake", exchanged)
    assert applied(decided("promote", tmp_path), "--steps", "50,100") == 1
    assert f"variant canary of llm-chat serves {SERVED} r3" in capsys.readouterr().err
    assert here.weights() == {"stable": 9.0, "canary": 1.0}


def test_other_variants_keep_their_traffic(double: RunningDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    here = hosted(double, monkeypatch, stable=5, canary=1, other=4)
    rollout = Rollout(
        sagemaker=here.sagemaker,
        cloudwatch=here.cloudwatch,
        endpoint=ENDPOINT,
        canary="canary",
        stable="stable",
    )
    assert rollout.roll_back().weights == {"stable": 6.0, "canary": 0.0, "other": 4.0}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--canary", "next"], "--canary next: endpoint llm-chat has the variants stable, canary"),
        (["--stable", "canary"], "--canary and --stable are both canary"),
        (["--group", "none"], "group none of the model registry"),
    ],
)
def test_names_that_are_not_there_are_said_with_those_that_are(
    here: Hosted, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    assert applied(decided("promote", tmp_path), *more) == 1
    assert said in capsys.readouterr().err
    assert here.weights() == {"stable": 9.0, "canary": 1.0}


def test_an_endpoint_that_does_not_answer_is_said_with_its_reason(
    here: Hosted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint: Any = sagemaker_backends["123456789012"]["us-east-1"].endpoints[ENDPOINT]
    endpoint.endpoint_status, endpoint.failure_reason = "Failed", "no capacity"
    assert applied(decided("promote", tmp_path)) == 1
    assert "endpoint llm-chat is Failed: no capacity" in capsys.readouterr().err


@pytest.mark.parametrize("steps", ["50,25", "0,100", "101", "half"])
def test_steps_are_rising_percents(tmp_path: Path, capsys: pytest.CaptureFixture[str], steps: str) -> None:
    with pytest.raises(SystemExit):
        applied(tmp_path, "--steps", steps)
    assert "percents" in capsys.readouterr().err


def test_what_is_no_decision_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "decision.json").write_text("{}")
    assert applied(tmp_path) == 1
    assert "decision.json is no decision" in capsys.readouterr().err
