"""For all tests: our own options, who may run beside whom, and no network in the fast tier."""

import gc
import ipaddress
import socket
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from xdist.remote import Producer  # pyright: ignore[reportMissingTypeStubs]
from xdist.scheduler import LoadFileScheduling  # pyright: ignore[reportMissingTypeStubs]

# Tests with one of these marks may go where they like.
_FREE = ("engine", "rehearsal", "faults")
# One worker takes each of these, one test after the other. There is room for one embedded site on two cores,
# or for the engines of one rehearsal; what is lighter runs beside it, because both wait most of the time.
_BESIDE = ("tests/engine/", "tests/rehearsal/test_images.py")
_REHEARSED = ("tests/rehearsal/", "tests/faults/")
_LONG = (*_BESIDE, *_REHEARSED)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write the golden previews anew instead of comparing"
    )


class _Scheduling(LoadFileScheduling):
    """Gives each worker whole files, one all rehearsals, and one what is long beside them."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(_BESIDE):
            return "beside the rehearsals"
        return "rehearsals" if nodeid.startswith(_REHEARSED) else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _Scheduling | None:
    if config.getoption("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False  # the order is that of the collection
    return _Scheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where there are workers, the files with the most tests come first, and what is long last."""
    if hasattr(config, "workerinput"):
        tests = Counter(item.path for item in items)

        def order(item: pytest.Item) -> float:
            if not item.nodeid.startswith(_LONG):
                return 1 / tests[item.path]
            return 3 if item.nodeid.startswith(_BESIDE) else 2

        items.sort(key=order)


def pytest_sessionstart() -> None:
    gc.disable()


def pytest_collection_finish() -> None:
    # What the SDKs and moto leave is there to the end: looking through it again and again, while they are
    # imported and later, takes longer than most tests. Cycles of the tests themselves are few.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    gc.enable()


@pytest.fixture
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubeconfig that programs find and no cluster is behind."""
    path = tmp_path / "kubeconfig"
    path.write_text("apiVersion: v1\nkind: Config\n")
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.delenv("CONTEXT", raising=False)
    return path


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Guards a test and its fixtures: sockets of this process, not those of children or of gRPC's C core."""
    if any(item.get_closest_marker(mark) for mark in _FREE):
        return (yield)
    with pytest.MonkeyPatch.context() as patch:
        for method in ("connect", "connect_ex"):
            patch.setattr(socket.socket, method, _guarded(getattr(socket.socket, method)))
        return (yield)


def _guarded(original: Callable[..., Any]) -> Callable[..., Any]:
    def connect(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_here(str(address[0])):
            # Not an OSError: code that expects a broken network must not take this for one.
            pytest.fail(
                f"a test of the fast tier connects to {address[0]}; it may reach only this machine "
                "(mark it engine or rehearsal if it has to)"
            )
        return original(self, address)

    return connect


def _is_here(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host in {"", "localhost"}
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback or address.is_unspecified
