"""Stack sagemaker in rehearsal: the command of the README, from nothing to nothing.

AWS is a double; Envoy, the adapter, vLLM, the evaluation and the teardown are the real ones.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from rehearsal.site.toolbox import SiteTools
from tests.support.stack_files import ROOT
from tests.support.stage import environment_of

pytestmark = [pytest.mark.rehearsal, pytest.mark.timeout(1500)]


@pytest.fixture(name="said", scope="module")
def fixture_said(tools: SiteTools, home: Path) -> str:
    """What `make rehearse STACK=sagemaker` prints."""
    del tools  # their being there is what makes it quick
    # A stack that is on some site and has no AWS side keeps nothing of the account alive.
    (home / "stacks").mkdir(exist_ok=True)
    (home / "stacks" / "onprem.cluster").write_text("elsewhere 0123")
    (home / "temporary").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "rehearsal", "rehearse", "--stack", "sagemaker"],
        cwd=ROOT,
        env={**environment_of(home), "TMPDIR": str(home / "temporary")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1400,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_real_engines_answer_through_the_gateway_as_the_stack_declares_them(said: str) -> None:
    assert re.search(r"Qwen/Qwen3-8B answered through the gateway, \d+ chunks", said)
    refused = re.search(r"more than fits the time limit: .* can have (\d+) tokens now", said)
    assert refused, "the refusal has the number that fits"


def test_a_model_rests_with_no_copy_and_a_refused_request_starts_one(said: str) -> None:
    seen = said.partition("The endpoints:")[2]
    steps = (
        "qwen3-1-7b at rest: 0 copies",
        "a request gets 503, Retry-After 30",
        "the alarm on refused requests starts 1 copy",
        "the next request is answered",
        "at rest again: 0 copies",
    )
    places = [seen.index(step) for step in steps]
    assert places == sorted(places)


def test_a_bad_canary_never_has_more_than_its_tenth_and_then_nothing(said: str) -> None:
    counts = re.search(r"wrong answers is taken back: before: (\d+) of (\d+) .*; after: (\d+) of (\d+)", said)
    assert counts
    before, of, after, of_after = map(int, counts.groups())
    assert 0 < before <= of / 10 + 1
    assert after == 0
    assert of_after > 0


def test_a_good_canary_gets_all_of_the_traffic_and_no_request_fails(said: str) -> None:
    counts = re.search(r"right answers, is promoted: before: (\d+) of (\d+) .*; after: (\d+) of (\d+)", said)
    assert counts
    before, of, after, of_after = map(int, counts.groups())
    assert 0 < before <= of / 10 + 1
    assert after == of_after > 0
    assert said.count("0 lost, 0 failed\n") >= 2


def test_kept_prompts_are_masked(said: str) -> None:
    assert re.search(r"what the gateway keeps: [1-9]\d* copies in S3, and the address .* is in none", said)


def test_nothing_is_left_and_the_certificate_says_so(said: str, home: Path) -> None:
    assert "Nothing is left:" in said
    assert "AWS account: nothing" in said
    (certificate,) = (home / "teardown").glob("sagemaker-rehearsal-*.txt")
    assert "nothing is left" in certificate.read_text().lower()
    assert not (home / "endpoints").exists()
    assert list((home / "temporary").iterdir()) == []
