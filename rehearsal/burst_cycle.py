"""The burst of a rehearsed hybrid stack, from a full site to no nodes again, with every request counted."""

import base64
import http.client
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from rehearsal.burst_load import Counts, Load
from rehearsal.cloud import RehearsedCloud
from rehearsal.site import Site
from rehearsal.site.api import object_path
from rehearsal.site.network import NetworkNamespace
from rehearsal.site.simulated_engines import Speed, set_speed, speed_folder
from runtime.burst.policy import Switch
from runtime.burst.store import Store
from runtime.cluster import ClusterApi, read_kubeconfig
from runtime.node_groups import NODE_GROUP_LABEL
from runtime.ops.progress import Progress

# Slow enough that so many clients are more than `REHEARSED_SEQUENCES` and their queue.
CLIENTS = 32
TOKEN_S = 0.1
LOAD_S = 2.0
# An answer of 16 tokens is whole after a third of a second.
WARM_TOKEN_S = 0.02
_SPILLED = 50
# The gateway asks every two seconds whether it may send requests there, and believes an answer after half a
# second more.
_GATE_S = 4.0
_PATIENCE_S = 240.0


@dataclass(frozen=True)
class BurstCycle:
    """What a cycle showed.

    Attributes:
        counts: Every request.
        first_spilled_s: Seconds from the overload to the first spilled answer, with no node at its begin.
        warm_s: The same with a copy ready in the cloud.
        zero_s: Seconds from the end of the load until the last GPU node was gone.
    """

    counts: Counts
    first_spilled_s: float
    warm_s: float
    zero_s: float

    def lines(self) -> list[str]:
        """What a user is told."""
        return [
            self.counts.words(),
            f"overload to the first spilled answer, from no node: {self.first_spilled_s:.1f} s",
            f"overload to the first spilled answer, with a copy ready: {self.warm_s:.2f} s",
            f"end of the load to no GPU node: {self.zero_s:.1f} s",
        ]


class BurstDriver:
    """Drives load through the gateway of a rehearsed stack.

    Args:
        near: The on-prem site.
        cloud: The rehearsed AWS side.
        namespace: Namespace of the platform.
        gateway: Name of the gateway's Service.
        model: Model id to ask.
        progress: Where the steps are shown.
    """

    def __init__(
        self, near: Site, cloud: RehearsedCloud, namespace: str, gateway: str, model: str, progress: Progress
    ) -> None:
        self._near = near
        self._cloud = cloud
        self._namespace = namespace
        self._gateway = gateway
        self._controller = f"{gateway.removesuffix('-gateway')}-burst-controller"
        self._model = model
        self._progress = progress

    def load(self, client: str, **headers: str) -> Load:
        """Clients with the API key of one, not yet sending."""
        api = self._near.api()
        service = api.get(object_path("v1", "Service", self._namespace, self._gateway))
        address = str(service["spec"]["clusterIP"])
        secret = api.get(object_path("v1", "Secret", self._namespace, f"{self._gateway}-api-keys"))
        key = base64.b64decode(secret["data"][client]).decode()
        network = NetworkNamespace(self._near.layout)

        def connect() -> socket.socket:
            return network.connect(address, 80, 10.0)

        return Load(connect, key, self._model, headers=headers)

    def set_speed(self, speed: Speed) -> None:
        """Makes the stand-in engines of both sides as fast as that."""
        for site in (self._near, self._cloud.site):
            set_speed(speed_folder(site.layout), speed)

    def gpu_nodes(self) -> list[str]:
        """Names of the GPU nodes of the EKS cluster."""
        nodes = self._cloud.site.api().get("/api/v1/nodes", labelSelector=NODE_GROUP_LABEL)["items"]
        return sorted(str(node["metadata"]["name"]) for node in nodes)

    def until_no_node(self, timeout_s: float = _PATIENCE_S) -> float:
        """Waits until the last GPU node is gone; returns the seconds.

        Raises:
            TimeoutError: Nodes stay.
        """
        begun = time.monotonic()
        with self._progress.step("back to no GPU node") as step:
            while nodes := self.gpu_nodes():
                step.update(", ".join(nodes))
                if time.monotonic() - begun > timeout_s:
                    raise TimeoutError(f"GPU nodes stay: {', '.join(nodes)}")
                time.sleep(0.5)
            step.update("")
        return time.monotonic() - begun

    def cycle(self, client: str, clients: int = CLIENTS) -> BurstCycle:
        """Fills the site until load is spilled, with no node and with one, and waits until none is left.

        Args:
            client: Name of a client that may spill.
            clients: How many at a time are more than the site takes.

        Raises:
            TimeoutError: A step of the cycle does not happen.
        """
        cold, first_s = self.spilled(client, clients, Speed(token_s=TOKEN_S, load_s=LOAD_S))
        with self.kept_ready():
            warm, warm_s = self.spilled(client, clients, Speed(token_s=WARM_TOKEN_S))
        counts = Counts([*cold.outcomes, *warm.outcomes])
        return BurstCycle(counts, first_s, warm_s, self.until_no_node())

    def spilled(self, client: str, clients: int, speed: Speed) -> tuple[Counts, float]:
        """Fills the site until enough is spilled; returns the counts, and the seconds to the first of it.

        Raises:
            TimeoutError: Nothing is spilled.
        """
        self.set_speed(speed)
        load = self.load(client)
        try:
            overload = time.monotonic()
            load.add(clients)
            load.until(
                "load until requests are spilled",
                lambda counts: counts.served("spill") >= _SPILLED,
                _PATIENCE_S,
                self._progress,
            )
            first = load.counts.first("spill") or overload
        finally:
            counts = load.stop()
            self.set_speed(Speed())
        return counts, first - overload

    @contextmanager
    def kept_ready(self) -> Generator[None]:
        """Keeps one copy in the cloud by the manual switch, from when it is ready.

        Raises:
            TimeoutError: It does not become ready.
        """
        cluster = ClusterApi(read_kubeconfig(self._near.kubeconfig, None))
        state = Store(cluster, self._namespace, f"{self._controller}-state")
        until = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        state.set_switch(Switch(mode="on", replicas=1, until=until))
        try:
            with self._progress.step("a copy is kept ready in the cloud"):
                begun = time.monotonic()
                while not self._is_ready():
                    if time.monotonic() - begun > _PATIENCE_S:
                        raise TimeoutError(f"no copy is ready after {_PATIENCE_S:.0f} s")
                    time.sleep(0.5)
                time.sleep(_GATE_S)
            yield
        finally:
            state.set_switch(None)

    def _is_ready(self) -> bool:
        """Whether the controller says so, as it says it to the gateway."""
        try:
            status, _ = self.ask_controller(f"/ready/{quote(self._model)}")
        except (OSError, http.client.HTTPException):
            return False
        return status == http.HTTPStatus.OK

    def ask_controller(self, path: str) -> tuple[int, str]:
        """Status and text of the burst controller's answer.

        Raises:
            OSError: It does not answer.
            HTTPException: Its answer is none.
        """
        service = self._near.api().get(object_path("v1", "Service", self._namespace, self._controller))
        address, port = str(service["spec"]["clusterIP"]), int(service["spec"]["ports"][0]["port"])
        connection = http.client.HTTPConnection("controller", timeout=5.0)
        try:
            connection.sock = NetworkNamespace(self._near.layout).connect(address, port, 5.0)
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()
