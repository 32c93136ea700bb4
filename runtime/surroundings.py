"""What a cluster's surroundings ask of pods: pull secrets, a proxy, a private CA, no internet."""

from dataclasses import dataclass
from urllib.parse import urlsplit

CA_VOLUME = "private-ca"
CA_FOLDER = "/etc/spillway/ca"
CA_FILE = f"{CA_FOLDER}/bundle.pem"

# Ray, Serve and the Ray autoscaler talk to each other and to the API server by these. Kubernetes replaces
# $(KUBERNETES_SERVICE_HOST) by the API server's address, which in-cluster clients use in place of a name.
_NEVER_PROXIED = (
    "localhost",
    "127.0.0.1",
    "::1",
    ".svc",
    ".cluster.local",
    "kubernetes.default",
    "$(KUBERNETES_SERVICE_HOST)",
)
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """An HTTP proxy that pods leave the cluster by.

    Attributes:
        http: URL of the proxy for http, or None.
        https: URL of the proxy for https, or None.
        no_proxy: Hosts, domain suffixes and CIDRs that are reached directly, beside the cluster's own.
    """

    http: str | None = None
    https: str | None = None
    no_proxy: tuple[str, ...] = ()

    @property
    def ports(self) -> tuple[int, ...]:
        """The proxies' TCP ports, for a NetworkPolicy; a URL without one has its scheme's."""
        urls = [urlsplit(url) for url in (self.http, self.https) if url is not None]
        return tuple(sorted({url.port or {"https": 443}.get(url.scheme, 80) for url in urls}))

    def environment(self) -> dict[str, str]:
        """The variables, in upper and in lower case: programs read the one or the other."""
        values = {
            "HTTP_PROXY": self.http,
            "HTTPS_PROXY": self.https,
            "NO_PROXY": ",".join(dict.fromkeys((*_NEVER_PROXIED, *self.no_proxy))),
        }
        return {
            spelling: value
            for name, value in values.items()
            if value is not None
            for spelling in (name, name.lower())
        }


@dataclass(frozen=True, kw_only=True)
class CaBundle:
    """A PEM bundle in an existing ConfigMap. It takes the place of the image's own certificates.

    Attributes:
        config_map: The ConfigMap, in the platform's namespace.
        key: The key in it that holds the bundle.
    """

    config_map: str
    key: str

    def environment(self) -> dict[str, str]:
        """Where OpenSSL and httpx, requests, and curl each look for a bundle."""
        return dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), CA_FILE)


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What every pod of a platform, or every pod that leaves the cluster, has to be told.

    Attributes:
        pull_secrets: Existing Secrets for the registry, put on every pod.
        proxy: Proxy of the pods that leave the cluster, or None.
        ca_bundle: Certificates of the pods that leave the cluster, or None for the image's own.
        offline: Whether there is no internet, so that nothing may even try to reach it.
    """

    pull_secrets: tuple[str, ...] = ()
    proxy: Proxy | None = None
    ca_bundle: CaBundle | None = None
    offline: bool = False

    def environment(self, *, leaves_cluster: bool) -> dict[str, str]:
        """Variables of a pod that loads a model."""
        values: dict[str, str] = dict(_OFFLINE) if self.offline else {}
        if leaves_cluster and self.proxy is not None:
            values |= self.proxy.environment()
        if leaves_cluster and self.ca_bundle is not None:
            values |= self.ca_bundle.environment()
        return values
