"""The fast tier reaches nothing but this machine (tests/conftest.py)."""

import socket

import pytest

# Reserved for documentation (RFC 5737, RFC 3849): no machine answers there, so that no test can pass by luck.
OUTSIDE = [(socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"), (socket.AF_INET, "example.com")]


@pytest.mark.parametrize(("family", "host"), OUTSIDE)
@pytest.mark.parametrize("method", ["connect", "connect_ex"])
def test_a_connection_to_another_machine_fails_the_test(
    family: socket.AddressFamily, host: str, method: str
) -> None:
    with socket.socket(family) as client:
        client.settimeout(0.1)
        with pytest.raises(pytest.fail.Exception, match=rf"connects to {host}.*engine or rehearsal"):
            getattr(client, method)((host, 80))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_is_open(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.connect((host, server.getsockname()[1]))
        assert client.getpeername() == server.getsockname()


def test_a_name_that_is_looked_up_first_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(*_: object, **__: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", 443))]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    with pytest.raises(pytest.fail.Exception, match=r"192\.0\.2\.7"):
        socket.create_connection(("example.com", 443), timeout=0.1)


def test_unix_sockets_are_open() -> None:
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("")  # a name of the kernel's own choice
        server.listen()
        client.connect(server.getsockname())


@pytest.mark.parametrize(
    "mark", [pytest.param(mark, marks=getattr(pytest.mark, mark)) for mark in ("engine", "rehearsal")]
)
def test_the_other_tiers_are_not_guarded(mark: str) -> None:
    assert "connect" not in vars(socket.socket)
    assert "connect_ex" not in vars(socket.socket)
