"""One Envoy for most tests, and a way to run a differently configured one."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rehearsal.tools import Toolbox, ToolError
from runtime.gateway import GatewayConfig, ModelRoute, Overflow, Upstream

from .fake_upstream import FakeUpstream
from .running_gateway import RunningGateway, free_ports

MAX_REQUEST_BYTES = 256 * 1024
SPILL_KEY = "sk-link-0123456789abc"

PATIENT = Overflow(clients=("alice",), connect_timeout_s=30, health_timeout_s=30)
"""Alice's requests may be spilled, and the other side is not given up for being slow on a loaded machine."""

RunGateway = Callable[..., RunningGateway]


@pytest.fixture(scope="session")
def envoy() -> Path:
    """The project's pinned Envoy; `make test` gets it before, `make test-fast` goes without."""
    try:
        return Toolbox.load(["gateway"]).path("envoy")
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
def other_side() -> Iterator[FakeUpstream]:
    server = FakeUpstream("cloud", key=SPILL_KEY)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def cloud(other_side: FakeUpstream) -> FakeUpstream:
    """What stands at the other end of the link."""
    other_side.reset()
    return other_side


@pytest.fixture(scope="session")
def prepare_gateway(
    envoy: Path, upstreams: dict[str, FakeUpstream], tmp_path_factory: pytest.TempPathFactory
) -> RunGateway:
    """Makes gateways that do not run yet: `prepare_gateway(**changes of the configuration)`."""
    (nobody,) = free_ports(1)

    def prepare(**changes: Any) -> RunningGateway:
        folder = tmp_path_factory.mktemp("gateway")
        listen, metrics, admin, gate = free_ports(4)
        changes["overflow"] = replace(changes.get("overflow", Overflow()), gate_port=gate)
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


@pytest.fixture(scope="session")
def spilling_models(upstreams: dict[str, FakeUpstream], other_side: FakeUpstream) -> tuple[ModelRoute, ...]:
    """`tiny` may spill and `org/llama-3.1` never; `lost` has no servers on-prem, `alone` none elsewhere."""
    (nobody,) = free_ports(1)

    def at(port: int) -> Upstream:
        return Upstream(host="127.0.0.1", port=port)

    tiny, llama, cloud = at(upstreams["tiny"].port), at(upstreams["llama"].port), at(other_side.port)
    return (
        ModelRoute(name="tiny", upstream=tiny, spill=cloud),
        ModelRoute(name="org/llama-3.1", upstream=llama),
        ModelRoute(name="lost", upstream=at(nobody), spill=cloud),
        ModelRoute(name="alone", upstream=tiny, spill=at(nobody)),
        ModelRoute(name="down", upstream=at(nobody)),
    )


@pytest.fixture
def run_overflow(run_gateway: RunGateway, spilling_models: tuple[ModelRoute, ...]) -> RunGateway:
    """Starts gateways with a spill pool for one test; alice's requests may be spilled, bob's never."""

    def run(*, start: bool = True, **changes: Any) -> RunningGateway:
        spilling = {"models": spilling_models, "overflow": PATIENT}
        gateway = run_gateway(start=False, **(spilling | changes))
        gateway.spill_key = SPILL_KEY
        if start:
            gateway.start()
            gateway.wait_for_gate()
        return gateway

    return run


@pytest.fixture(scope="session")
def overflowing(
    prepare_gateway: RunGateway, spilling_models: tuple[ModelRoute, ...]
) -> Iterator[RunningGateway]:
    """One gateway with a spill pool for most tests."""
    gateway = prepare_gateway(models=spilling_models, overflow=PATIENT)
    gateway.spill_key = SPILL_KEY
    try:
        gateway.start()
        gateway.wait_for_gate()
        yield gateway
    finally:
        gateway.stop()
