"""The link between two sites, in two real network namespaces without a cluster in them."""

import os
import socket
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

from rehearsal.site.layout import SiteError, SiteLayout
from rehearsal.site.link import FAR_IP, NEAR_IP, Link
from rehearsal.site.network import NetworkNamespace
from tests.rehearsal.conftest import eventually

pytestmark = pytest.mark.rehearsal

PORT = 8099


@pytest.fixture(name="link")
def fixture_link(tmp_path: Path) -> Generator[Link]:
    sides = [SiteLayout(f"link-{side}-{os.getpid()}", tmp_path) for side in ("near", "far")]
    for side in sides:
        NetworkNamespace(side).ensure()
    link = Link(*sides)
    link.ensure()
    yield link
    for side in sides:
        NetworkNamespace(side).delete()


@pytest.fixture(name="server")
def fixture_server(link: Link) -> Generator[None]:
    command = ["nsenter", f"--net={link.far.netns_path}", "python3", "-m", "http.server", str(PORT)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    eventually("the far side listens", lambda: True if reached(link) else None)
    yield
    server.kill()
    server.wait()


def reached(link: Link) -> bool:
    try:
        NetworkNamespace(link.near).connect(FAR_IP, PORT, 0.5).close()
    except OSError:
        return False
    return True


def test_the_near_side_reaches_the_far_end_and_the_host_gets_no_address_of_it(
    link: Link, server: None
) -> None:
    assert reached(link)
    for address in (NEAR_IP, FAR_IP):
        with socket.socket() as here, pytest.raises(OSError, match="assign requested address"):
            here.bind((address, 0))


def test_every_address_of_a_routed_network_is_the_far_side(link: Link, server: None) -> None:
    with pytest.raises(OSError, match="unreachable"):
        NetworkNamespace(link.near).connect("10.40.7.9", PORT, 0.5)
    link.route(["10.40.0.0/16"])
    link.route(["10.40.0.0/16"])
    NetworkNamespace(link.near).connect("10.40.7.9", PORT, 0.5).close()


def test_a_cut_loses_packets_without_a_word_until_it_is_mended(link: Link, server: None) -> None:
    link.cut()
    assert link.is_cut
    with pytest.raises(TimeoutError):
        NetworkNamespace(link.near).connect(FAR_IP, PORT, 0.5)
    link.ensure()
    assert link.is_cut, "ensuring a link must not mend a cut that somebody made"
    link.mend()
    assert not link.is_cut
    assert reached(link)


def test_a_side_that_was_made_anew_is_linked_again(link: Link) -> None:
    NetworkNamespace(link.far).delete()
    assert not link.is_there
    with pytest.raises(SiteError, match="does not run"):
        link.ensure()
    NetworkNamespace(link.far).ensure()
    link.ensure()
    assert link.is_there
    link.remove()
    assert not link.is_there
