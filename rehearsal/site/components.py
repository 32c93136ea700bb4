"""The programs that make up a site: how each is started and how it tells that it is well."""

import hashlib
import http.client
import os
import socket
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from rehearsal.site import edge, load_balancer, simulated_engines, simulated_ray
from rehearsal.site.api import ApiClient, ApiError
from rehearsal.site.certificates import CLUSTER_CA, ETCD_CA, SERVICE_ACCOUNT_KEY, certificate_file, key_file
from rehearsal.site.containers import containerd_config_file, kubelet_config_file, wrapper_file
from rehearsal.site.layout import (
    API_PORT,
    CLUSTER_DOMAIN,
    ETCD_PEER_PORT,
    ETCD_PORT,
    NODE_IP,
    POD_CIDR,
    SERVICE_CIDR,
    SIMULATED_POD_CIDR,
    SiteLayout,
)
from rehearsal.site.manifests import ADMISSION_API
from rehearsal.site.network import NetworkNamespace, program, replace_file, run_command
from rehearsal.site.simulated_nodes import READY_AGAIN, SELECTOR_LABEL, SELECTOR_VALUE
from rehearsal.site.toolbox import SiteTools

PROBE_TIMEOUT_S = 2.0
_NO_ANSWER = f"does not answer within {PROBE_TIMEOUT_S:.0f} s"
KWOK_PORT = 10247
COREDNS_READY_PORT = 8181
HEARTBEAT_LIMIT_S = 3.0 * load_balancer.WATCH_S

# Names in the order in which they are started; `after` says what each really waits for.
COMPONENTS = (
    "etcd",
    "kube-apiserver",
    "containerd",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
    "kwok",
    "simulated-engines",
    "envoy",
    "load-balancer",
)

Check = Callable[[], str | None]


@dataclass(frozen=True)
class Component:
    """One program of the site.

    Attributes:
        name: Its name, also of its log file.
        command: Program and arguments.
        check: Returns None if it is well, else what is wrong.
        after: Components and steps that must be done before it starts.
        inputs: Files whose change makes a restart necessary.
        inside: Whether it runs in the site's network namespace.
        prepare: Done just before it is started.
        patience_s: How long it may take to be well.
    """

    name: str
    command: Sequence[str]
    check: Check
    after: Sequence[str] = ()
    inputs: Sequence[Path] = ()
    inside: bool = True
    prepare: Callable[[], None] = lambda: None
    patience_s: float = 60.0

    def fingerprint(self) -> str:
        """Identifies command, program and configuration."""
        program_file, *arguments = self.command
        # Not its folder: the same program is found at several places of the tools' cache.
        found = Path(program_file).stat()
        digest = hashlib.sha256("\0".join(arguments).encode())
        digest.update(f"{found.st_size} {found.st_mtime_ns}".encode())
        for file in self.inputs:
            digest.update(file.read_bytes())
        return digest.hexdigest()


def coredns_file(layout: SiteLayout) -> Path:
    """CoreDNS' configuration."""
    return layout.config / "Corefile"


def kube_proxy_file(layout: SiteLayout) -> Path:
    """kube-proxy's configuration."""
    return layout.config / "kube-proxy.yaml"


def kwok_file(layout: SiteLayout) -> Path:
    """What kwok does beside the stages that come with it."""
    return layout.config / "kwok-stages.yaml"


def render_coredns(layout: SiteLayout) -> str:
    """Renders CoreDNS' configuration: the cluster's names, and a clear no for any other."""
    return f"""\
{CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
    bind {NODE_IP}
    errors
    ready 127.0.0.1:{COREDNS_READY_PORT}
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {layout.kubeconfig("coredns")} {layout.netns}
        pods insecure
        ttl 5
    }}
    cache 5
}}
# There is no way out of the site: say so at once instead of letting clients wait and retry.
. {{
    bind {NODE_IP}
    errors
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


def render_kube_proxy(layout: SiteLayout) -> str:
    """Renders kube-proxy's configuration."""
    return yaml.safe_dump(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "hostnameOverride": layout.node_name,
            "clusterCIDR": POD_CIDR,
            "clientConnection": {"kubeconfig": str(layout.kubeconfig("kube-proxy"))},
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            "nodePortAddresses": ["primary"],
            # The table of connections is sized for the whole machine: not ours to change.
            "conntrack": {
                "maxPerCore": 0,
                "min": 0,
                "tcpEstablishedTimeout": "0s",
                "tcpCloseWaitTimeout": "0s",
            },
        },
        sort_keys=True,
    )


def write_component_configuration(layout: SiteLayout) -> None:
    """Writes the files that CoreDNS, kube-proxy, kwok and Envoy read."""
    replace_file(kwok_file(layout), READY_AGAIN)
    replace_file(coredns_file(layout), render_coredns(layout))
    replace_file(kube_proxy_file(layout), render_kube_proxy(layout))
    replace_file(edge.bootstrap_file(layout), edge.render_bootstrap(layout))


def component_environment(layout: SiteLayout) -> dict[str, str]:
    """The environment of every component: nothing of the user's, above all no proxy and no credentials."""
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/local/sbin:/usr/sbin:/sbin",
        "HOME": str(layout.state),
        # containerd mounts snapshots below its temporary folder while it unpacks them.
        "TMPDIR": str(layout.run / "tmp"),
        "LANG": "C.UTF-8",
    }


def site_components(layout: SiteLayout, tools: SiteTools, *, api_port: int) -> list[Component]:
    """Describes every component of a site.

    Args:
        layout: The site.
        tools: The programs.
        api_port: The port of the host's loopback that leads to the API server.
    """
    probe = _Probe(layout)

    def crt(name: str) -> str:
        return str(certificate_file(layout, name))

    def key(name: str) -> str:
        return str(key_file(layout, name))

    def config_of(user: str) -> Path:
        return layout.kubeconfig(user)

    etcd = Component(
        "etcd",
        [
            str(tools.path("etcd")),
            f"--name={layout.netns}",
            f"--data-dir={layout.etcd}",
            f"--listen-client-urls=https://127.0.0.1:{ETCD_PORT}",
            f"--advertise-client-urls=https://127.0.0.1:{ETCD_PORT}",
            f"--listen-peer-urls=https://127.0.0.1:{ETCD_PEER_PORT}",
            f"--initial-advertise-peer-urls=https://127.0.0.1:{ETCD_PEER_PORT}",
            f"--initial-cluster={layout.netns}=https://127.0.0.1:{ETCD_PEER_PORT}",
            "--client-cert-auth",
            "--peer-client-cert-auth",
            f"--trusted-ca-file={crt(ETCD_CA)}",
            f"--peer-trusted-ca-file={crt(ETCD_CA)}",
            f"--cert-file={crt('etcd')}",
            f"--key-file={key('etcd')}",
            f"--peer-cert-file={crt('etcd')}",
            f"--peer-key-file={key('etcd')}",
            "--log-level=warn",
        ],
        probe.https(ETCD_PORT, "/health", authority=ETCD_CA, user="kube-apiserver-etcd-client"),
        inputs=[certificate_file(layout, "etcd")],
    )
    api = Component(
        "kube-apiserver",
        [
            str(tools.path("kube-apiserver")),
            f"--etcd-servers=https://127.0.0.1:{ETCD_PORT}",
            f"--etcd-cafile={crt(ETCD_CA)}",
            f"--etcd-certfile={crt('kube-apiserver-etcd-client')}",
            f"--etcd-keyfile={key('kube-apiserver-etcd-client')}",
            f"--secure-port={API_PORT}",
            f"--advertise-address={NODE_IP}",
            # The address never changes and is the site's to write: otherwise each restart of the API
            # server takes it away from the Service for some seconds.
            "--endpoint-reconciler-type=none",
            f"--tls-cert-file={crt('kube-apiserver')}",
            f"--tls-private-key-file={key('kube-apiserver')}",
            f"--client-ca-file={crt(CLUSTER_CA)}",
            f"--kubelet-certificate-authority={crt(CLUSTER_CA)}",
            f"--kubelet-client-certificate={crt('kube-apiserver-kubelet-client')}",
            f"--kubelet-client-key={key('kube-apiserver-kubelet-client')}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--service-account-key-file={layout.pki / f'{SERVICE_ACCOUNT_KEY}.pub'}",
            f"--service-account-signing-key-file={key(SERVICE_ACCOUNT_KEY)}",
            f"--service-account-issuer=https://kubernetes.default.svc.{CLUSTER_DOMAIN}",
            f"--service-cluster-ip-range={SERVICE_CIDR}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            # Off by default in 1.34; places the pods of models that this machine cannot run.
            "--feature-gates=MutatingAdmissionPolicy=true",
            f"--runtime-config={ADMISSION_API}=true",
            "--anonymous-auth=false",
            "--profiling=false",
        ],
        probe.api,
        after=["etcd"],
        inputs=[certificate_file(layout, "kube-apiserver")],
    )
    containerd = Component(
        "containerd",
        [program("containerd", "containerd"), "--config", str(containerd_config_file(layout))],
        probe.unix_socket(layout.containerd_socket),
        inputs=[containerd_config_file(layout), wrapper_file(layout)],
    )
    manager = Component(
        "kube-controller-manager",
        [
            str(tools.path("kube-controller-manager")),
            f"--kubeconfig={config_of('kube-controller-manager')}",
            f"--tls-cert-file={crt('kube-controller-manager')}",
            f"--tls-private-key-file={key('kube-controller-manager')}",
            f"--service-account-private-key-file={key(SERVICE_ACCOUNT_KEY)}",
            f"--root-ca-file={crt(CLUSTER_CA)}",
            f"--cluster-signing-cert-file={crt(CLUSTER_CA)}",
            f"--cluster-signing-key-file={key(CLUSTER_CA)}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            "--profiling=false",
        ],
        probe.https(10257, "/healthz"),
        after=["kube-apiserver"],
        inputs=[config_of("kube-controller-manager")],
    )
    scheduler = Component(
        "kube-scheduler",
        [
            str(tools.path("kube-scheduler")),
            f"--kubeconfig={config_of('kube-scheduler')}",
            f"--tls-cert-file={crt('kube-scheduler')}",
            f"--tls-private-key-file={key('kube-scheduler')}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            "--profiling=false",
        ],
        probe.https(10259, "/healthz"),
        after=["kube-apiserver"],
        inputs=[config_of("kube-scheduler")],
    )
    kubelet = Component(
        "kubelet",
        [
            str(tools.path("kubelet")),
            f"--config={kubelet_config_file(layout)}",
            f"--kubeconfig={config_of('kubelet')}",
            f"--hostname-override={layout.node_name}",
            f"--node-ip={NODE_IP}",
            f"--root-dir={layout.kubelet}",
            f"--cert-dir={layout.pki}",
        ],
        probe.http(10248, "/healthz"),
        after=["kube-apiserver", "containerd", "images"],
        inputs=[
            kubelet_config_file(layout),
            config_of("kubelet"),
            certificate_file(layout, "kubelet-server"),
        ],
    )
    proxy = Component(
        "kube-proxy",
        [str(tools.path("kube-proxy")), f"--config={kube_proxy_file(layout)}"],
        probe.http(10256, "/healthz"),
        # It looks its own node up when it starts.
        after=["kubelet"],
        inputs=[kube_proxy_file(layout), config_of("kube-proxy")],
        prepare=lambda: _forget_service_rules(layout),
    )
    coredns = Component(
        "coredns",
        [str(tools.path("coredns")), "-conf", str(coredns_file(layout))],
        probe.http(COREDNS_READY_PORT, "/ready"),
        after=["bootstrap"],
        inputs=[coredns_file(layout), config_of("coredns")],
    )
    kwok = Component(
        "kwok",
        [
            str(tools.path("kwok")),
            f"--kubeconfig={config_of('kwok')}",
            f"--manage-nodes-with-label-selector={SELECTOR_LABEL}={SELECTOR_VALUE}",
            f"--config={tools.folder('kwok') / 'kwok-stages.yaml'}",
            f"--config={kwok_file(layout)}",
            f"--cidr={SIMULATED_POD_CIDR}",
            f"--node-ip={NODE_IP}",
            "--node-lease-duration-seconds=40",
            f"--server-address=127.0.0.1:{KWOK_PORT}",
        ],
        probe.http(KWOK_PORT, "/healthz"),
        after=["bootstrap"],
        inputs=[config_of("kwok"), tools.folder("kwok") / "kwok-stages.yaml", kwok_file(layout)],
    )
    engines = Component(
        "simulated-engines",
        [
            sys.executable,
            "-P",
            "-m",
            simulated_engines.__name__,
            f"--site={layout.name}",
            f"--home={layout.home}",
        ],
        probe.http(simulated_engines.DASHBOARD_PORT, simulated_engines.WELL),
        after=["bootstrap"],
        inputs=[
            certificate_file(layout, "simulated-engines"),
            Path(simulated_engines.__file__),
            Path(simulated_ray.__file__),
        ],
    )
    envoy = Component(
        "envoy",
        [
            str(tools.path("envoy")),
            "--config-path",
            str(edge.bootstrap_file(layout)),
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--log-level",
            "warning",
            # A listener that is taken away shall free its port soon.
            "--drain-time-s",
            "1",
        ],
        probe.envoy(api_port),
        inputs=[edge.bootstrap_file(layout)],
    )
    balancer = Component(
        "load-balancer",
        [
            sys.executable,
            "-P",
            "-m",
            load_balancer.__name__,
            f"--site={layout.name}",
            f"--home={layout.home}",
            f"--api-port={api_port}",
        ],
        probe.heartbeat(load_balancer.heartbeat_file(layout)),
        after=["bootstrap", "envoy"],
        inputs=[certificate_file(layout, "load-balancer"), Path(load_balancer.__file__)],
        inside=False,
        # A heartbeat of the process before says nothing about this one.
        prepare=lambda: load_balancer.heartbeat_file(layout).unlink(missing_ok=True),
    )
    return [
        etcd,
        api,
        containerd,
        manager,
        scheduler,
        kubelet,
        proxy,
        coredns,
        kwok,
        engines,
        envoy,
        balancer,
    ]


def _forget_service_rules(layout: SiteLayout) -> None:
    # kube-proxy takes an endpoint's chain that it finds at its start for complete (epChainSkipUpdate in
    # pkg/proxy/nftables/proxier.go, v1.34), but one that ended a moment after an endpoint went away has
    # left an empty chain of that name: a Service whose connections lead nowhere, for good.
    nft = [program("nsenter", "util-linux"), f"--net={layout.netns_path}", program("nft", "nftables")]
    for family in ("ip", "ip6"):
        # Added first, so that there is one to delete.
        run_command(*nft, f"add table {family} kube-proxy; delete table {family} kube-proxy")


class _Probe:
    """Makes health checks that look at a component from inside the site's network namespace."""

    def __init__(self, layout: SiteLayout) -> None:
        self._layout = layout
        self._namespace = NetworkNamespace(layout)

    def http(self, port: int, path: str) -> Check:
        return lambda: self._get(port, path, None)

    def https(self, port: int, path: str, *, authority: str = CLUSTER_CA, user: str = "admin") -> Check:
        def check() -> str | None:
            tls = ssl.create_default_context(cafile=str(certificate_file(self._layout, authority)))
            tls.load_cert_chain(certificate_file(self._layout, user), key_file(self._layout, user))
            return self._get(port, path, tls)

        return check

    def unix_socket(self, path: Path) -> Check:
        def check() -> str | None:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(PROBE_TIMEOUT_S)
                try:
                    client.connect(str(path))
                except OSError as error:
                    return f"{path.name}: {error.strerror or error}"
            return None

        return check

    def api(self) -> str | None:
        try:
            ApiClient.inside(self._layout).request("GET", "/readyz", timeout_s=PROBE_TIMEOUT_S)
        except TimeoutError:
            return _NO_ANSWER
        except (ApiError, OSError) as error:
            return str(error)
        return None

    def envoy(self, api_port: int) -> Check:
        def check() -> str | None:
            try:
                edge.ask_envoy(self._layout, "/ready")
            except OSError as error:
                return str(error)
            if edge.active_ports(self._layout).get(edge.API_KEY) != api_port:
                return f"does not listen at 127.0.0.1:{api_port}"
            return None

        return check

    def heartbeat(self, file: Path) -> Check:
        def check() -> str | None:
            try:
                age_s = time.time() - file.stat().st_mtime
            except FileNotFoundError:
                return "has not finished a round yet"
            return None if age_s < HEARTBEAT_LIMIT_S else f"last finished a round {age_s:.0f} s ago"

        return check

    def _get(self, port: int, path: str, tls: ssl.SSLContext | None) -> str | None:
        connection = http.client.HTTPConnection("127.0.0.1", timeout=PROBE_TIMEOUT_S)
        try:
            plain = self._namespace.connect("127.0.0.1", port, PROBE_TIMEOUT_S)
            connection.sock = tls.wrap_socket(plain, server_hostname="127.0.0.1") if tls else plain
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        except TimeoutError:
            return f"port {port}: {_NO_ANSWER}"
        except (OSError, http.client.HTTPException) as error:
            return f"port {port}: {error}"
        finally:
            connection.close()
        if answer.status != http.client.OK:
            return (
                f"port {port}{path} answered {answer.status}: {body.decode(errors='replace').strip()[:200]}"
            )
        return None
