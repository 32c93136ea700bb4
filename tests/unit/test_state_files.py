"""A state that a power cut left half-written is put back from the last whole copy, and never lost."""

import json
import os
import threading
from pathlib import Path

import pytest

from rehearsal import state_files
from rehearsal.state_files import StateFileError, kept_whole, mend_state

WHOLE = json.dumps({"version": 3, "checkpoint": {"latest": {"resources": [1, 2, 3]}}})
BEFORE = json.dumps({"version": 3, "checkpoint": {"latest": {"resources": [1, 2]}}})


def checkpoint(backend: Path) -> Path:
    file = backend / ".pulumi" / "stacks" / "spillway" / "local.json"
    file.parent.mkdir(parents=True)
    file.write_text(WHOLE)
    file.with_name("local.json.bak").write_text(BEFORE)
    return file


def test_a_whole_state_is_left_alone(tmp_path: Path) -> None:
    file = checkpoint(tmp_path)
    assert mend_state(tmp_path, "spillway") == []
    assert file.read_text() == WHOLE


@pytest.mark.parametrize("content", [WHOLE[:20].encode(), b"", b"\0" * 500, b"[]"])
def test_a_half_written_state_is_put_back_and_kept_aside(tmp_path: Path, content: bytes) -> None:
    file = checkpoint(tmp_path)
    file.write_bytes(content)
    (line,) = mend_state(tmp_path, "spillway")
    assert "the state of stack local was half-written: put back local.json.bak" in line
    assert file.read_text() == BEFORE
    (kept,) = file.parent.glob("local.broken-*")
    assert kept.read_bytes() == content


def test_where_the_copy_beside_it_is_broken_too_the_newest_of_an_earlier_update_is_taken(
    tmp_path: Path,
) -> None:
    file = checkpoint(tmp_path)
    for path in (file, file.with_name("local.json.bak")):
        path.write_text("{")
    history = tmp_path / ".pulumi" / "history" / "spillway" / "local"
    history.mkdir(parents=True)
    for age, name in enumerate(("local-2.checkpoint.json", "local-1.checkpoint.json")):
        (history / name).write_text(json.dumps({"from": name}))
        os.utime(history / name, (1000 - age, 1000 - age))
    mend_state(tmp_path, "spillway")
    assert json.loads(file.read_text()) == {"from": "local-2.checkpoint.json"}


def test_a_full_disk_that_empties_the_state_and_pulumis_copy_loses_one_step_at_most(
    tmp_path: Path, looks: threading.Semaphore
) -> None:
    file = checkpoint(tmp_path)
    with kept_whole(tmp_path, "spillway", "local"):
        for number in range(3):
            write(file, json.dumps({"step": number}))
        a_whole_look(looks)
        write(file.with_name("local.json.bak"), "")
        write(file, "")
        a_whole_look(looks)  # for a keeper that would take an empty one
    mend_state(tmp_path, "spillway")
    assert json.loads(file.read_text()) == {"step": 2}
    assert sorted(path.name for path in file.parent.glob(".*")) == []


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """One more for each look that the keeper has taken."""
    taken = threading.Semaphore(0)
    keep = state_files._keep  # pyright: ignore[reportPrivateUsage]

    def counted(file: Path) -> None:
        try:
            keep(file)
        finally:
            taken.release()

    monkeypatch.setattr(state_files, "_keep", counted)
    monkeypatch.setattr(state_files, "_LOOK_S", 0.01)
    return taken


def a_whole_look(looks: threading.Semaphore) -> None:
    """Waits until the keeper has begun a look, and ended it, after this was called."""
    while looks.acquire(blocking=False):
        pass
    # The first of the two may have begun before.
    for _ in range(2):
        assert looks.acquire(timeout=60)


def write(file: Path, text: str) -> None:
    """As Pulumi does: another file under the same name."""
    temporary = file.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(file)


def test_without_a_whole_copy_the_message_says_what_can_be_done(tmp_path: Path) -> None:
    file = checkpoint(tmp_path)
    for path in (file, file.with_name("local.json.bak")):
        path.write_text("{")
    with pytest.raises(StateFileError, match=r"stack local cannot be read: .*put one of yours there"):
        mend_state(tmp_path, "spillway")
    assert file.read_text() == "{"


def test_cut_off_attributes_which_make_the_cli_fail_are_removed(tmp_path: Path) -> None:
    file = checkpoint(tmp_path)
    attributes = file.with_name("local.json.attrs")
    attributes.write_text("")
    assert mend_state(tmp_path, "spillway") == []
    assert not attributes.exists()


def test_a_removed_stack_does_not_come_back(tmp_path: Path) -> None:
    file = checkpoint(tmp_path)
    file.unlink()  # `pulumi stack rm` leaves the copy
    assert mend_state(tmp_path, "spillway") == []
    assert not file.exists()
