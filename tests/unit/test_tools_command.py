"""The command line of the tools."""

from pathlib import Path

import pytest

from rehearsal.tools.__main__ import main


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPILLWAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_status_shows_what_is_missing_and_which_group_brings_it(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status"]) == 0

    first, header, *rows = capsys.readouterr().out.splitlines()
    assert first == f"cache: {cache}"
    assert header.split() == ["TOOL", "VERSION", "SOURCE", "SIZE", "WHERE", "WHY"]
    assert any(row.split() == ["etcd", "3.6.5", "missing", "ensure", "site"] for row in rows)
    assert not cache.exists(), "looking makes nothing"


def test_an_unknown_group_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ensure", "gpu"]) == 1

    message = "error: no group of tools is called gpu; there are pulumi, site, gateway, serving\n"
    assert capsys.readouterr().err == message


def test_cleaning_a_cache_that_is_not_there_frees_nothing(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["clean"]) == 0

    assert capsys.readouterr().out == f"removed {cache}: 0 MB freed\n"
