"""For all tests: the options of our own, and no network beyond this machine in the fast tier."""

import gc
import ipaddress
import socket
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

# Tests with one of these marks may go where they like.
_FREE = ("engine", "rehearsal", "faults")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write the golden previews anew instead of comparing"
    )


def pytest_collection_finish() -> None:
    # What the SDKs and moto left is there to the end; a collection that looks through it again takes longer
    # than most tests.
    gc.collect()
    gc.freeze()


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
