"""Runs a rendered gateway as a pod would: files behind swapped links, one process, two ports."""

import contextlib
import http.client
import json
import random
import re
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from runtime.gateway import GatewayConfig, arguments, render, render_api_keys
from tests.support.waiting import PATIENCE_S, wait_until

KEYS: dict[str, str] = {"alice": "sk-alice-0123456789", "bob": "sk-bob-0123456789ab"}
"""The clients of a test gateway unless a test says otherwise."""


@dataclass(frozen=True)
class Answer:
    """What came back for one request."""

    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def error_code(self) -> str | None:
        """The `code` of an OpenAI error; fails if the body has not exactly that shape."""
        assert self.headers["content-type"] == "application/json"
        assert set(self.json) == {"error"}
        assert set(self.json["error"]) == {"message", "type", "param", "code"}
        assert self.json["error"]["message"]
        return self.json["error"]["code"]


@dataclass
class RunningGateway:
    """An Envoy that runs one configuration from a folder of its own."""

    envoy: Path
    folder: Path
    config: GatewayConfig
    keys: Mapping[str, str | Sequence[str]] = field(default_factory=lambda: KEYS)
    spill_key: str | None = None
    _process: subprocess.Popen[bytes] | None = None
    _generation: int = 0

    def start(self) -> None:
        self.publish_config(self.config)
        self.publish_keys(self.keys)
        self.launch()
        wait_until(self._is_up, "Envoy answers /healthz")

    def launch(self) -> None:
        """Starts Envoy on the files that are there."""
        with (
            (self.folder / "access.log").open("wb") as access_log,
            (self.folder / "envoy.log").open("wb") as log,
        ):
            self._process = subprocess.Popen(
                [self.envoy, *arguments(self.config)], stdout=access_log, stderr=log
            )

    def wait_for_gate(self) -> None:
        """Until the gate of each spill pool says what is known of its link; it is asked twice a second."""

        def healthy(pool: str) -> dict[str, str]:
            found = re.findall(
                rf'^envoy_cluster_health_check_healthy{{model="([^"]*)",pool="{pool}"}} (\d+)$',
                self.metrics(),
                re.MULTILINE,
            )
            return dict(found)

        wait_until(lambda: healthy("spill") == healthy("link"), "the gate is asked")

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def answers_metrics(self) -> bool:
        """Whether the metrics listener is open, whatever becomes of the other."""
        try:
            return self.request("GET", "/ready", key=None, port=self.config.metrics_port).status == 200
        except OSError:
            return False

    @property
    def log(self) -> str:
        return (self.folder / "envoy.log").read_text()

    def changed(self, **changes: Any) -> GatewayConfig:
        """The configuration with some of its values changed."""
        return replace(self.config, **changes)

    def publish_config(self, config: GatewayConfig) -> None:
        self._publish(Path(config.config_folder), render(config))

    def publish_keys(self, keys: Mapping[str, str | Sequence[str]]) -> None:
        self._publish(Path(self.config.keys_folder), render_api_keys(keys, spill_key=self.spill_key))

    def publish_key_file(self, text: str) -> None:
        self._publish(Path(self.config.keys_folder), {"api_keys.yaml": text})

    def _publish(self, folder: Path, files: Mapping[str, str]) -> None:
        """Puts files into a folder the way the kubelet does it for a ConfigMap or a Secret."""
        self._generation += 1
        generation = folder / f"..generation_{self._generation}"
        generation.mkdir(parents=True)
        for name, text in files.items():
            (generation / name).write_text(text)
        (folder / "..data_tmp").symlink_to(generation.name)
        (folder / "..data_tmp").rename(folder / "..data")
        for name in files:
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(f"..data/{name}")

    def _is_up(self) -> bool:
        assert self._process
        assert self._process.poll() is None, self.log
        try:
            return self.request("GET", "/healthz", key=None).status == 200
        except OSError:
            return False

    def connect(self, port: int | None = None) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", port or self.config.listen_port, timeout=PATIENCE_S)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        *,
        key: str | None = KEYS["alice"],
        headers: Mapping[str, str] | None = None,
        port: int | None = None,
    ) -> Answer:
        """Sends one request on a connection of its own."""
        sent = {"connection": "close", **(headers or {})}
        if body is not None:
            sent.setdefault("content-type", "application/json")
        if key:
            sent.setdefault("authorization", f"Bearer {key}")
        connection = self.connect(port)
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    def chat(self, content: str = "hello", *, model: str = "tiny", **options: Any) -> Answer:
        return self.request("POST", "/v1/chat/completions", chat_body(content, model=model), **options)

    def open_stream(
        self, content: str, *, model: str = "tiny", key: str = KEYS["alice"]
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Starts a streamed chat and returns as soon as the headers are there."""
        connection = self.connect()
        connection.request(
            "POST",
            "/v1/chat/completions",
            chat_body(content, model=model, stream=True),
            {"content-type": "application/json", "authorization": f"Bearer {key}"},
        )
        return connection, connection.getresponse()

    def metrics(self) -> str:
        return self.request("GET", "/stats/prometheus", key=None, port=self.config.metrics_port).raw.decode()

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        found = [
            float(line.rpartition(" ")[2])
            for line in self.metrics().splitlines()
            if line.startswith((name + "{", name + " "))
        ]
        assert found, f"no metric {name}"
        return sum(found)

    def access_log(self, request_id: str) -> dict[str, Any]:
        """The log line of one request; Envoy writes its log in intervals, so it may take a second."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            lines = (self.folder / "access.log").read_text().splitlines()
            found[:] = [entry for entry in map(json.loads, lines) if entry["request_id"] == request_id]
            return bool(found)

        wait_until(look, f"access log of {request_id}")
        return found[0]


def chat_body(content: str, *, model: str = "tiny", stream: bool = False) -> str:
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": content}]}
    if stream:
        body["stream"] = True
    return json.dumps(body)


def free_ports(count: int) -> list[int]:
    """Ports that are free now, below the range from which the kernel takes them for clients."""
    found: list[int] = []
    for port in random.sample(range(20_000, 32_000), 1000):
        if len(found) == count:
            break
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    return found
