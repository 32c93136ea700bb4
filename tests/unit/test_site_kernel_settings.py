"""The machine's kernel settings before, during and after sites."""

import json
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from rehearsal.site import kernel_settings
from rehearsal.site.layout import STATE_VARIABLE, SiteLayout
from rehearsal.site.teardown import look

OVERCOMMIT = "vm/overcommit_memory"


@pytest.fixture(autouse=True, name="kernel")
def fixture_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "kernel"
    for name in kernel_settings.SETTINGS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("0\n")
    monkeypatch.setattr(kernel_settings, "_KERNEL", folder)
    everybody = kernel_settings.environment_of

    def of_this_test(pid: int) -> dict[str, str]:
        """A site that really runs on this machine is none of this test's."""
        environment = everybody(pid)
        return environment if environment.get(STATE_VARIABLE, "").startswith(str(tmp_path)) else {}

    monkeypatch.setattr(kernel_settings, "environment_of", of_this_test)
    return folder


def start(name: str, home: Path, kernel: Path) -> SiteLayout:
    """What a start does: it remembers the settings, then the kubelet changes one."""
    layout = SiteLayout(name, home)
    layout.state.mkdir(parents=True)
    kernel_settings.remember(layout)
    (kernel / OVERCOMMIT).write_text("1\n")
    return layout


def test_the_last_site_that_stops_puts_the_settings_back(tmp_path: Path, kernel: Path) -> None:
    one, other = (start(name, tmp_path / "home", kernel) for name in ("one", "other"))
    kernel_settings.remember(one)  # started again
    kernel_settings.restore(one)
    assert (kernel / OVERCOMMIT).read_text().strip() == "1", "the other one needs it"
    assert kernel_settings.changed(one) == []
    assert kernel_settings.changed(other) == [f"{OVERCOMMIT} is 1, was 0"]
    kernel_settings.restore(other)
    assert (kernel / OVERCOMMIT).read_text().strip() == "0"
    assert look(other).found["kernel settings"] == []
    assert sorted(path.name for path in other.state.parent.iterdir()) == ["one", "other"]


def test_a_setting_that_cannot_be_put_back_is_listed(
    tmp_path: Path, kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = start("one", tmp_path / "home", kernel)

    def nothing(*_: object) -> None: ...

    def refuse(*_: object) -> int:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", refuse)
        patch.setattr(kernel_settings, "replace_file", nothing)
        kernel_settings.restore(layout)
    assert look(layout).found["kernel settings"] == [f"{OVERCOMMIT} is 1, was 0"]
    kernel_settings.restore(layout)
    assert kernel_settings.changed(layout) == []


def test_a_record_of_the_boot_before_is_not_used(tmp_path: Path, kernel: Path) -> None:
    layout = start("one", tmp_path / "home", kernel)
    file = layout.state.parent / "kernel_settings.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "boot": "the boot before"}))
    kernel_settings.restore(layout)
    assert (kernel / OVERCOMMIT).read_text().strip() == "1"
    assert not file.exists()


@pytest.fixture(name="foreign")
def fixture_foreign(tmp_path: Path, kernel: Path) -> Generator[tuple[SiteLayout, "subprocess.Popen[bytes]"]]:
    layout = start("one", tmp_path / "elsewhere", kernel)
    command = [sys.executable, "-c", "print(flush=True); import time; time.sleep(60)"]
    environment = {**os.environ, STATE_VARIABLE: str(layout.state)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield layout, process
    process.kill()
    process.wait()


def test_sites_of_two_homes_agree_on_what_was_there_before(
    foreign: tuple[SiteLayout, "subprocess.Popen[bytes]"], tmp_path: Path, kernel: Path
) -> None:
    first, process = foreign
    second = start("one", tmp_path / "home", kernel)
    kernel_settings.restore(second)
    assert (kernel / OVERCOMMIT).read_text().strip() == "1", "the first one still runs"
    kernel_settings.remember(second)
    process.kill()
    process.wait()
    kernel_settings.restore(first)
    (kernel / OVERCOMMIT).write_text("1\n")
    kernel_settings.restore(second)
    assert (kernel / OVERCOMMIT).read_text().strip() == "0"
