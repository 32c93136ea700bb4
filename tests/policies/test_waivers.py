"""Waivers: what a file may say, which resource it is about, and until when."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from policies.waivers import Waiver, WaiverError, find, read_waivers, waivers_of_stack

URN = "urn:pulumi:prod::spillway::spillway:kubernetes:Gateway$kubernetes:apps/v1:Deployment::llm-gateway"
RULES = {"image-digest", "pod-baseline"}
GOOD = f"""
- rule: image-digest
  urn: {URN}
  reason: The vendor publishes no digest.
  owner: ml-platform
  expires: 2027-01-31
"""


def waiver(urn: str = URN, expires: date = date(2027, 1, 31)) -> Waiver:
    return Waiver("image-digest", urn, "The vendor publishes no digest.", "ml-platform", expires)


def written(folder: Path, text: str) -> Path:
    file = folder / "prod.yaml"
    file.write_text(text)
    return file


def test_a_file_is_read(tmp_path: Path) -> None:
    assert read_waivers(written(tmp_path, GOOD), RULES) == (waiver(),)
    assert read_waivers(written(tmp_path, "# none\n"), RULES) == ()


def test_it_holds_to_the_end_of_its_day_in_utc() -> None:
    assert waiver().holds(datetime(2027, 1, 31, 23, 59, tzinfo=UTC))
    assert not waiver().holds(datetime(2027, 2, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("urn", "covers"),
    [
        (URN, True),
        (URN.replace("prod", "*"), True),
        (URN.replace("prod::spillway", "*::*"), True),
        (URN.replace("prod", "dev"), False),
        (URN.replace("llm-gateway", "other"), False),
        (URN.replace("$kubernetes:apps", "$kubernetes:batch"), False),
    ],
)
def test_it_is_about_one_resource_of_one_stack_or_of_any(urn: str, covers: bool) -> None:
    assert waiver(urn).covers("image-digest", URN) is covers
    assert not waiver(urn).covers("pod-baseline", URN)


def test_the_one_that_holds_longest_counts() -> None:
    late = waiver(expires=date(2027, 6, 1))
    assert find((waiver(), late), "image-digest", URN) is late
    assert find((waiver(),), "pod-baseline", URN) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("image-digest", "image-digets"), "[0].rule = image-digets is no rule; docs/policies lists them"),
        (("2027-01-31", "'2027-01-31'"), "[0].expires must be a date such as 2027-01-31, without quotes"),
        (("2027-01-31", "2027-01-31T10:00:00Z"), "[0].expires must be a date"),
        (("2027-01-31", "never"), "[0].expires must be a date"),
        (("owner: ml-platform", "owner: ''"), "[0].owner must be a text that is not empty"),
        (("  owner: ml-platform\n", ""), "[0].owner is missing"),
        (("owner:", "ownr:"), "[0].ownr is not known; allowed: rule, urn, reason, owner, expires"),
        ((URN, "llm-gateway"), "[0].urn must name one resource"),
        ((URN, URN.replace("llm-gateway", "*")), "only STACK and PROJECT may be *"),
        ((GOOD, "rule: image-digest"), "is no list"),
        (("- rule: image-digest", "- - x"), "cannot be read as YAML"),
    ],
)
def test_a_wrong_file_says_what_is_wrong_and_what_is_allowed(
    tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    with pytest.raises(WaiverError) as caught:
        read_waivers(written(tmp_path, GOOD.replace(*change)), RULES)
    assert said in str(caught.value)


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(WaiverError) as caught:
        read_waivers(written(tmp_path, "- rule: nothing\n- 3\n"), RULES)
    assert len(str(caught.value).splitlines()) == 6
    assert "[1] is no object" in str(caught.value)


def test_a_process_reads_the_file_that_it_is_given_and_else_that_of_its_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPILLWAY_WAIVERS", raising=False)
    assert waivers_of_stack("", RULES) == ()
    assert waivers_of_stack("no-such-stack", RULES) == ()
    monkeypatch.setattr("policies.waivers.FOLDER", tmp_path)
    file = written(tmp_path, GOOD)
    assert waivers_of_stack("prod", RULES) == (waiver(),)
    monkeypatch.setenv("SPILLWAY_WAIVERS", str(file))
    assert waivers_of_stack("prod-rehearsal", RULES) == (waiver(),)
    monkeypatch.setenv("SPILLWAY_WAIVERS", str(tmp_path / "gone.yaml"))
    with pytest.raises(WaiverError, match=r"gone\.yaml: cannot be read"):
        waivers_of_stack("prod-rehearsal", RULES)
