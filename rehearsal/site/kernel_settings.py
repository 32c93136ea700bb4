"""The settings of the machine's kernel that a kubelet changes, put back when the last site stops.

A kubelet sets them when it starts (setupKernelTunables in pkg/kubelet/cm/container_manager_linux.go, v1.34);
all that it offers instead (protectKernelDefaults) is to refuse to start where they differ.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rehearsal.site.layout import STATE_VARIABLE, SiteLayout
from rehearsal.site.network import replace_file
from rehearsal.site.processes import boot_id, environment_of

SETTINGS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
# No site can have this name: an underscore is not allowed there.
_RECORD = "kernel_settings.json"
_KERNEL = Path("/proc/sys")


@dataclass(frozen=True)
class _Record:
    """The values before the first site of the home, and the sites since then that were not stopped."""

    boot: str
    values: dict[str, str]
    sites: list[str]


def remember(layout: SiteLayout) -> None:
    """Records the values before the site's kubelet starts, unless another site did before."""
    folder = _folder(layout)
    with _locked(folder):
        record = _load(folder)
        # Where a site of another home runs, the values of now are its kubelet's.
        for other in _folders_of_other_homes(layout):
            record = record or _load(other)
        values = record.values if record else _read()
        _save(folder, _Record(boot_id(), values, [*_others(layout), layout.name]))


def restore(layout: SiteLayout) -> None:
    """Puts the values back if no other site needs them; `changed` tells what could not be put back."""
    folder = _folder(layout)
    with _locked(folder):
        record = _load(folder)
        others = _others(layout)
        if record and others:
            _save(folder, _Record(record.boot, record.values, others))
            return
        # A site of another home has copied the values and puts them back when it stops.
        if record and not any(_load(other) for other in _folders_of_other_homes(layout)):
            for name, value in record.values.items():
                if _read().get(name) != value:
                    with contextlib.suppress(OSError):
                        (_KERNEL / name).write_text(value)
            if _differences(record):
                _save(folder, _Record(record.boot, record.values, []))
                return
        (folder / _RECORD).unlink(missing_ok=True)


def changed(layout: SiteLayout) -> list[str]:
    """Lists the settings that are not as they were and that no other site needs."""
    record = _load(_folder(layout))
    return _differences(record) if record and not _others(layout) else []


def _folder(layout: SiteLayout) -> Path:
    return layout.state.parent


def _others(layout: SiteLayout) -> list[str]:
    folder = _folder(layout)
    record = _load(folder)
    # One whose files somebody removed by hand will never be stopped.
    return [
        name for name in (record.sites if record else []) if name != layout.name and (folder / name).exists()
    ]


def _folders_of_other_homes(layout: SiteLayout) -> set[Path]:
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    states = {state for pid in pids if (state := environment_of(pid).get(STATE_VARIABLE))}
    return {Path(state).parent for state in states} - {_folder(layout)}


def _read() -> dict[str, str]:
    values: dict[str, str] = {}
    for name in SETTINGS:
        # A kernel may be built without one of them.
        with contextlib.suppress(OSError):
            values[name] = (_KERNEL / name).read_text().strip()
    return values


def _differences(record: _Record) -> list[str]:
    now = _read()
    return [
        f"{name} is {now.get(name)}, was {value}"
        for name, value in record.values.items()
        if now.get(name) != value
    ]


def _load(folder: Path) -> _Record | None:
    try:
        record = _Record(**json.loads((folder / _RECORD).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    # A reboot has put everything back.
    return record if record.boot == boot_id() else None


def _save(folder: Path, record: _Record) -> None:
    replace_file(folder / _RECORD, json.dumps(asdict(record), indent=2))


@contextmanager
def _locked(folder: Path) -> Generator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
