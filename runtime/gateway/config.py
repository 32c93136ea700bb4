"""What a gateway is configured with, checked when it is built."""

import ipaddress
import re
from dataclasses import dataclass, field

POOL_ON_PREM = "onprem"
"""The pool of a model's own servers."""

POOL_SPILL = "spill"
"""The pool elsewhere that takes what `onprem` cannot: a cluster of its own, never a part of the other."""

CLIENT_HEADER = "x-spillway-client"
"""The header that tells upstream and access log which client's key a request carried."""

RESIDENCY_HEADER = "x-spillway-residency"
"""With this header, whatever its value, a request stays on-prem. There is none that lets it out."""

SESSION_HEADER = "x-spillway-session"
"""With this header, whatever its value, an answer from the spill pool brings the cookie for the next one."""

SESSION_COOKIE = "spillway-pool"
"""The cookie with which a conversation goes where its prefix is cached, as long as that lasts."""

POOL_HEADER = "x-spillway-pool"
"""The header of an answer that says which pool gave it."""

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_CLIENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\s[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MODEL_NAME_LIMIT = 200
_DNS_NAME_LIMIT = 253
_LARGEST_PORT = 65_535
_KIB = 1024
_MIB = 1024 * _KIB


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """One HTTP/1.1 server of the OpenAI API: usually a Kubernetes Service.

    Attributes:
        host: An IP address or a DNS name. Names are resolved again every few seconds.
        port: The TCP port.

    Raises:
        ValueError: If the host or the port cannot be one.
    """

    host: str
    port: int

    def __post_init__(self) -> None:
        if not self.is_address and not _is_dns_name(self.host):
            raise ValueError(
                _mistake(
                    "upstream.host",
                    self.host,
                    "an IP address or a lower-case DNS name",
                    "write the host alone, without scheme, port or path",
                )
            )
        _check_range("upstream.port", self.port, 1, _LARGEST_PORT)

    @property
    def is_address(self) -> bool:
        """Whether the host is an IP address, so that nothing has to be resolved."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True


@dataclass(frozen=True, kw_only=True)
class ModelRoute:
    """A served model and where its requests go.

    Attributes:
        name: The id that clients send as `model`, such as `org/llama-3`. A LoRA adapter of it is
            asked for as `name:adapter` and goes the same way.
        upstream: The model's own servers.
        spill: Where requests go that those cannot take. Without it the model never leaves them.

    Raises:
        ValueError: If the name cannot be a model id.
    """

    name: str
    upstream: Upstream
    spill: Upstream | None = None

    def __post_init__(self) -> None:
        if len(self.name) > _MODEL_NAME_LIMIT or not _MODEL_NAME.fullmatch(self.name):
            raise ValueError(
                _mistake(
                    "models.name",
                    self.name,
                    f"at most {_MODEL_NAME_LIMIT} letters, digits, '.', '_', '-' in parts joined by '/', "
                    "each part starting with a letter or digit",
                    "rename the served model; ':' is kept for LoRA adapters (base:adapter)",
                )
            )

    @property
    def on_prem_cluster(self) -> str:
        """The name of the Envoy cluster that holds the model's own servers."""
        return f"{self.name}/{POOL_ON_PREM}"

    @property
    def spill_cluster(self) -> str:
        """The name of the Envoy cluster that holds the servers elsewhere."""
        return f"{self.name}/{POOL_SPILL}"

    @property
    def link_cluster(self) -> str:
        """The name of the Envoy cluster that only asks whether the spill pool can be reached."""
        return f"{self.name}/link"

    @property
    def ready_cluster(self) -> str:
        """The name of the Envoy cluster that only asks whether the spill pool has servers for the model."""
        return f"{self.name}/ready"


@dataclass(frozen=True, kw_only=True)
class LinkTls:
    """How the spill pool is known when it is spoken to by TLS.

    Attributes:
        server_name: DNS name in its certificate, which is also asked for (SNI).
        authority: PEM text of the certificates that may have signed it.

    Raises:
        ValueError: The name cannot be one, or the text is no certificate or holds a key.
    """

    server_name: str
    authority: str

    def __post_init__(self) -> None:
        if not _is_dns_name(self.server_name):
            raise ValueError(
                _mistake(
                    "overflow.tls.server_name",
                    self.server_name,
                    "a lower-case DNS name",
                    "write the name that the certificate has",
                )
            )
        if not is_certificates(self.authority):
            # The text is not repeated: it may hold a key.
            raise ValueError(
                "gateway: overflow.tls.authority is not allowed; allowed: certificates in PEM and nothing "
                "else; fix: write the CA's own certificate"
            )


@dataclass(frozen=True, kw_only=True)
class Overflow:
    """How requests reach the spill pool, and what is said where they may not or cannot.

    Attributes:
        clients: The clients whose requests may leave. All others, and requests without a known client,
            stay on-prem.
        retry_after_s: What the Retry-After of a 429 says, in whole seconds. Long enough for a queue to move
            and short enough for the two retries that OpenAI's clients make; a new node takes minutes, which
            no client waits for.
        session_s: How long a conversation goes to the spill pool first after it was spilled there.
        connect_timeout_s: Longest time to open a connection to the spill pool: a round trip over the link,
            or two with TLS.
        idle_timeout_s: How long an unused connection to it is kept. Longer than on-prem, because each one
            costs a round trip; shorter than an AWS load balancer's 350 s.
        ready: Who says at `/ready/MODEL` whether the spill pool has servers for a model now (200 or 503): the
            burst controller. A request that went there without would wait for a node. Without it, a pool that
            can be reached counts as one with servers.
        ready_hold_s: How long its last word counts when it cannot be reached.
        health_interval_s: How often each gateway pod asks both of them.
        health_timeout_s: Longest time for an answer.
        health_failures: Answers of the spill pool that have to be missing until nothing is sent there.
        gate_port: Port on 127.0.0.1 at which each gateway keeps the two answers together.
        tls: How the spill pool is known; None speaks plain HTTP to it.

    Raises:
        ValueError: If a value is out of its range.
    """

    clients: tuple[str, ...] = ()
    retry_after_s: int = 5
    session_s: int = 300
    connect_timeout_s: float = 0.5
    idle_timeout_s: float = 60.0
    ready: Upstream | None = None
    ready_hold_s: float = 600.0
    health_interval_s: float = 2.0
    health_timeout_s: float = 1.0
    health_failures: int = 2
    gate_port: int = 9902
    tls: LinkTls | None = None

    def __post_init__(self) -> None:
        for client in self.clients:
            check_client_name(client)
        _check_range("overflow.retry_after_s", self.retry_after_s, 1, 3_600)
        _check_range("overflow.session_s", self.session_s, 1, 86_400)
        for key in ("connect_timeout_s", "idle_timeout_s", "health_interval_s", "health_timeout_s"):
            _check_range(f"overflow.{key}", getattr(self, key), 0.05, 3_600)
        _check_range("overflow.ready_hold_s", self.ready_hold_s, 0, 86_400)
        _check_range("overflow.health_failures", self.health_failures, 1, 100)


@dataclass(frozen=True, kw_only=True)
class GatewayConfig:
    """Everything that decides the rendered files.

    Attributes:
        models: The served models, in any order. None is allowed: such a gateway answers 404.
        listen_address: The address of the two public listeners; `::` takes IPv4 too.
        listen_port: Port of the OpenAI API and of `/healthz`.
        metrics_port: Port of `/stats/prometheus` and `/ready`.
        admin_port: Port of Envoy's admin interface, on 127.0.0.1 only.
        config_folder: Where the files of `render` are mounted.
        keys_folder: Where the file of `render_api_keys` is mounted.
        certificate_folder: Where a Secret of type kubernetes.io/tls is mounted, which makes the public
            listener speak TLS; None speaks plain HTTP.
        max_request_bytes: Largest request body. A body is held and parsed as a whole to route it,
            on the worker thread that serves other streams too. Measured for 10 MB: one long text
            (an image) 0.2 s and 5 times its size, a list of numbers 1 s and 25 times, and the worst
            (empty objects) 2 s and 65 times, which `max_heap_bytes` has to leave room for.
        max_connections: Client connections at one time; more are closed at once.
        max_heap_bytes: Envoy's memory budget. At 95 % of it new requests get 503; set it to about
            80 % of the container's limit.
        max_upstream_requests: Requests at one time per model; more get 503. It bounds memory; the
            model's own queue is what sheds load.
        request_timeout_s: Longest time for a client to send its whole request.
        stream_idle_timeout_s: Longest silence in either direction of one request. It must be longer
            than the slowest answer that is not streamed; nothing else limits a request's time.
        connection_idle_timeout_s: How long an unused client connection stays open. It must be
            longer than the same setting of an ingress in front.
        requests_per_connection: Requests after which a client is asked for a new connection; None for as many
            as it likes. 1 behind a load balancer that spreads connections and not requests: otherwise a
            client that is never silent stays with a gateway that is to go, until that cuts it off.
        connect_timeout_s: Longest time to open a connection to an upstream.
        upstream_idle_timeout_s: How long an unused upstream connection is kept. It must be shorter
            than the server's keep-alive (uvicorn's default is 5 s), else a request meets a
            connection that the server is closing and fails.
        retries: Further tries of a request that has not reached a server.
        drain_s: How long clients are asked to leave when the gateway or a listener goes.
        trusted_proxies: Proxies in front whose X-Forwarded-For is believed.
        concurrency: Worker threads.
        overflow: How requests reach the spill pools. Without effect if no model has one.

    Raises:
        ValueError: If a value is out of its range or two parts collide. The message names the key,
            the value, what is allowed and the fix.
    """

    models: tuple[ModelRoute, ...]
    listen_address: str = "0.0.0.0"  # noqa: S104 - a gateway in a pod is there to be reached
    listen_port: int = 8080
    metrics_port: int = 9090
    admin_port: int = 9901
    config_folder: str = "/etc/envoy/config"
    keys_folder: str = "/etc/envoy/keys"
    certificate_folder: str | None = None
    max_request_bytes: int = 10 * _MIB
    max_connections: int = 10_000
    max_heap_bytes: int = 800 * _MIB
    max_upstream_requests: int = 10_000
    request_timeout_s: float = 60.0
    stream_idle_timeout_s: float = 600.0
    connection_idle_timeout_s: float = 600.0
    requests_per_connection: int | None = None
    connect_timeout_s: float = 2.0
    upstream_idle_timeout_s: float = 4.0
    retries: int = 2
    drain_s: int = 30
    trusted_proxies: int = 0
    concurrency: int = 2
    overflow: Overflow = field(default_factory=Overflow)

    def __post_init__(self) -> None:
        self._check_models()
        self._check_addresses()
        self._check_limits()

    @property
    def sorted_models(self) -> tuple[ModelRoute, ...]:
        """The models by name, so that the order in which they were declared changes no byte."""
        return tuple(sorted(self.models, key=lambda model: model.name))

    @property
    def spills(self) -> bool:
        """Whether any model has a spill pool. If none has, nothing in the files is about overflow."""
        return any(model.spill is not None for model in self.models)

    def _check_models(self) -> None:
        seen: set[str] = set()
        for model in self.models:
            if model.name in seen:
                raise ValueError(
                    _mistake(
                        "models.name",
                        model.name,
                        "each model id once",
                        "remove or rename one; several servers of one model stand behind one Service",
                    )
                )
            seen.add(model.name)

    def _check_addresses(self) -> None:
        try:
            ipaddress.ip_address(self.listen_address)
        except ValueError:
            raise ValueError(
                _mistake(
                    "listen_address", self.listen_address, "an IP address", "write 0.0.0.0, :: or one address"
                )
            ) from None
        ports = {
            "listen_port": self.listen_port,
            "metrics_port": self.metrics_port,
            "admin_port": self.admin_port,
            "overflow.gate_port": self.overflow.gate_port,
        }
        taken: dict[int, str] = {}
        for key, port in ports.items():
            _check_range(key, port, 1, _LARGEST_PORT)
            if port in taken:
                raise ValueError(
                    _mistake(
                        key, port, f"a port other than {taken[port]}'s", "give each listener its own port"
                    )
                )
            taken[port] = key
        for key, folder in {"config_folder": self.config_folder, "keys_folder": self.keys_folder}.items():
            if not folder.startswith("/") or folder.endswith("/"):
                raise ValueError(
                    _mistake(
                        key, folder, "an absolute path without a final '/'", "write it like /etc/envoy/config"
                    )
                )
        if self.config_folder == self.keys_folder:
            raise ValueError(
                _mistake(
                    "keys_folder",
                    self.keys_folder,
                    "a folder other than config_folder",
                    "mount the Secret with the keys in a folder of its own",
                )
            )

    def _check_limits(self) -> None:
        _check_range("max_request_bytes", self.max_request_bytes, _KIB, 1024 * _MIB)
        _check_range("max_connections", self.max_connections, 1, 1_000_000)
        _check_range("max_heap_bytes", self.max_heap_bytes, 64 * _MIB, 1024 * 1024 * _MIB)
        _check_range("max_upstream_requests", self.max_upstream_requests, 1, 1_000_000)
        for key in (
            "request_timeout_s",
            "stream_idle_timeout_s",
            "connection_idle_timeout_s",
            "connect_timeout_s",
            "upstream_idle_timeout_s",
        ):
            _check_range(key, getattr(self, key), 0.05, 86_400)
        if self.requests_per_connection is not None:
            _check_range("requests_per_connection", self.requests_per_connection, 1, 1_000_000)
        _check_range("retries", self.retries, 0, 10)
        _check_range("drain_s", self.drain_s, 1, 3_600)
        _check_range("trusted_proxies", self.trusted_proxies, 0, 10)
        _check_range("concurrency", self.concurrency, 1, 256)


def is_certificates(text: str) -> bool:
    """Whether a text is certificates in PEM, and holds no key."""
    return _CERTIFICATE.search(text) is not None and "PRIVATE KEY" not in text


def check_client_name(client: str) -> None:
    """Raises ValueError if a client's name is none that a header can carry."""
    if not _CLIENT_NAME.fullmatch(client):
        raise ValueError(
            _mistake(
                "client name",
                client,
                "1 to 63 letters, digits, '.', '_', '@', '-', starting with a letter or digit",
                "rename the client",
            )
        )


def _is_dns_name(host: str) -> bool:
    name = host.removesuffix(".")
    return len(name) <= _DNS_NAME_LIMIT and all(_DNS_LABEL.fullmatch(label) for label in name.split("."))


def _check_range(key: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ValueError(_mistake(key, value, f"{least} to {most}", "set it within that range"))


def _mistake(key: str, value: object, allowed: str, fix: str) -> str:
    return f"gateway: {key} is {value!r}; allowed: {allowed}; fix: {fix}"
