"""One Envoy for most tests, and a way to run a differently configured one."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime.gateway import GatewayConfig, ModelRoute, Upstream

from .fake_upstream import FakeUpstream
from .running_gateway import RunningGateway, free_ports

MAX_REQUEST_BYTES = 256 * 1024

RunGateway = Callable[..., RunningGateway]


@pytest.fixture(scope="session")
def envoy() -> Path:
    """The real Envoy: the one that the environment names, else the project's pinned one."""
    named = os.environ.get("SPILLWAY_TEST_ENVOY")
    if named:
        return Path(named)
    from rehearsal.tools import Toolbox, ToolError

    try:
        return Path(Toolbox.load(["site"]).path("envoy"))
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
def run_gateway(
    envoy: Path, upstreams: dict[str, FakeUpstream], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunGateway]:
    """Starts gateways: `run_gateway(**changes)`; all are stopped when the tests are over."""
    running: list[RunningGateway] = []
    (nobody,) = free_ports(1)

    def run(**changes: Any) -> RunningGateway:
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
        gateway = RunningGateway(envoy, folder, replace(config, **changes))
        running.append(gateway)
        gateway.start()
        return gateway

    yield run
    for gateway in running:
        gateway.stop()


@pytest.fixture(scope="session")
def gateway(run_gateway: RunGateway) -> RunningGateway:
    return run_gateway()
