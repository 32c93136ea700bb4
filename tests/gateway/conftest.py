"""One Envoy for most tests, and a way to run a differently configured one."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rehearsal.tools import Toolbox, ToolError
from runtime.gateway import GatewayConfig, ModelRoute, Upstream

from .fake_upstream import FakeUpstream
from .running_gateway import RunningGateway, free_ports

MAX_REQUEST_BYTES = 256 * 1024

RunGateway = Callable[..., RunningGateway]


@pytest.fixture(scope="session")
def envoy() -> Path:
    """The project's pinned Envoy; `make test` gets it before, `make test-fast` goes without."""
    try:
        return Toolbox.load(["site"]).path("envoy")
    except ToolError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def upstreams() -> Iterator[dict[str, FakeUpstream]]:
    servers = {name: FakeUpstream(name) for name in ("tiny", "llama")}
    for server in servers.values():
        server.start()
    yield servers
    for server in servers.values():
        server.stop()


@pytest.fixture
def tiny(upstreams: dict[str, FakeUpstream]) -> FakeUpstream:
    upstreams["tiny"].reset()
    return upstreams["tiny"]


@pytest.fixture
def llama(upstreams: dict[str, FakeUpstream]) -> FakeUpstream:
    upstreams["llama"].reset()
    return upstreams["llama"]


@pytest.fixture(scope="session")
def prepare_gateway(
    envoy: Path, upstreams: dict[str, FakeUpstream], tmp_path_factory: pytest.TempPathFactory
) -> RunGateway:
    """Makes gateways that do not run yet: `prepare_gateway(**changes of the configuration)`."""
    (nobody,) = free_ports(1)

    def prepare(**changes: Any) -> RunningGateway:
        folder = tmp_path_factory.mktemp("gateway")
        listen, metrics, admin = free_ports(3)
        config = GatewayConfig(
            models=(
                ModelRoute(name="tiny", upstream=Upstream(host="localhost", port=upstreams["tiny"].port)),
                ModelRoute(
                    name="org/llama-3.1", upstream=Upstream(host="127.0.0.1", port=upstreams["llama"].port)
                ),
                ModelRoute(name="down", upstream=Upstream(host="127.0.0.1", port=nobody)),
                ModelRoute(name="unresolved", upstream=Upstream(host="no-such-host.invalid", port=80)),
            ),
            listen_address="127.0.0.1",
            listen_port=listen,
            metrics_port=metrics,
            admin_port=admin,
            config_folder=str(folder / "config"),
            keys_folder=str(folder / "keys"),
            max_request_bytes=MAX_REQUEST_BYTES,
            concurrency=1,
        )
        return RunningGateway(envoy, folder, replace(config, **changes))

    return prepare


@pytest.fixture
def run_gateway(prepare_gateway: RunGateway) -> Iterator[RunGateway]:
    """Starts gateways for one test: `run_gateway(**changes of the configuration)`."""
    # They stop with the test: each Envoy takes several of the few inotify instances of its user.
    running: list[RunningGateway] = []

    def run(*, start: bool = True, **changes: Any) -> RunningGateway:
        gateway = prepare_gateway(**changes)
        running.append(gateway)
        if start:
            gateway.start()
        return gateway

    yield run
    for gateway in running:
        gateway.stop()


@pytest.fixture(scope="session")
def gateway(prepare_gateway: RunGateway) -> Iterator[RunningGateway]:
    gateway = prepare_gateway()
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.stop()
