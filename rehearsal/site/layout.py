"""Every name, address and path of one site, derived from its name and its home folder.

Two sites run side by side: what exists once per machine (network namespace, cgroup, CNI network, node
names) carries the site's name, everything else lies below the site's state folder. Addresses and inner
ports are equal in every site because each has a network namespace of its own.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DEFAULT_SITE = "local"
NODE_IP = "10.0.0.9"
POD_CIDR = "10.244.0.0/24"
SIMULATED_POD_CIDR = "10.245.0.1/16"
SERVICE_CIDR = "10.96.0.0/16"
API_SERVICE_IP = "10.96.0.1"
DNS_SERVICE_IP = "10.96.0.10"
CLUSTER_DOMAIN = "cluster.local"
API_PORT = 6443
ETCD_PORT = 2379
ETCD_PEER_PORT = 2380

# Images under this name are made by the site and exist nowhere else.
REGISTRY = "site.local"
SITE_IMAGES = f"{REGISTRY}/"

# Set in every process that a site starts, so that a process is found again even if the record of its
# pid was never written.
STATE_VARIABLE = "SPILLWAY_SITE_STATE"
COMPONENT_VARIABLE = "SPILLWAY_SITE_COMPONENT"

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,18}[a-z0-9])?")
# A Unix socket path has at most 107 bytes (unix(7)); the longest one below the state folder is the
# kubelet's `kubelet/device-plugins/kubelet.sock`.
_LONGEST_STATE_PATH = 107 - len("/kubelet/device-plugins/kubelet.sock")


class SiteError(Exception):
    """A problem that the user can act on; its text is the whole message."""


def default_home(environment: Mapping[str, str] = os.environ) -> Path:
    """Returns Spillway's state home: `$SPILLWAY_HOME`, `$XDG_STATE_HOME/spillway` or the usual default."""
    if own := environment.get("SPILLWAY_HOME"):
        return Path(own)
    if xdg := environment.get("XDG_STATE_HOME"):
        return Path(xdg) / "spillway"
    return Path.home() / ".local" / "state" / "spillway"


@dataclass(frozen=True)
class SiteLayout:
    """Names and paths of the site `name` under Spillway's home folder `home`.

    Raises:
        SiteError: The name cannot be used.
    """

    name: str
    home: Path

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise SiteError(
                f"site name {self.name!r} cannot be used: 1 to 20 of a-z, 0-9 and '-', first a letter, "
                "last no '-', because nodes and network namespaces are named after it"
            )
        # Without links: the kernel's mount table and the environments of processes have none either.
        object.__setattr__(self, "home", self.home.expanduser().resolve())

    def require_short_paths(self) -> None:
        """Checks that sockets fit below the state folder.

        Raises:
            SiteError: The state folder's path is too long.
        """
        if len(os.fsencode(self.state)) > _LONGEST_STATE_PATH:
            raise SiteError(
                f"the state folder {self.state} is longer than {_LONGEST_STATE_PATH} bytes, too long for "
                "the sockets in it: set SPILLWAY_HOME to a shorter path"
            )

    # What exists once per machine.

    @property
    def netns(self) -> str:
        """Name of the network namespace."""
        return f"spillway-{self.name}"

    @property
    def netns_path(self) -> Path:
        """Where the network namespace is mounted."""
        return Path("/run/netns") / self.netns

    @property
    def cgroup(self) -> str:
        """Name of the cgroup below the root of each hierarchy."""
        return f"spillway-{self.name}"

    @property
    def cni_network(self) -> str:
        """Name of the CNI network; libcni names its cache files after it."""
        return f"spillway-{self.name}"

    @property
    def node_name(self) -> str:
        """Name of the real node."""
        return f"{self.name}-node-0"

    # What lies below the home folder.

    @property
    def lock_file(self) -> Path:
        """Held while a start or stop is at work; outside the state folder, which stop removes."""
        return self.home / "sites" / f"{self.name}.lock"

    @property
    def state(self) -> Path:
        """Folder of everything that belongs to the site."""
        return self.home / "sites" / self.name

    @property
    def run(self) -> Path:
        """Sockets, pid records, containerd's and runc's run-time state: worthless after a reboot."""
        return self.state / "run"

    @property
    def pki(self) -> Path:
        """Certificates and keys."""
        return self.state / "pki"

    @property
    def config(self) -> Path:
        """Rendered configuration of the components."""
        return self.state / "config"

    @property
    def logs(self) -> Path:
        """One log file per component."""
        return self.state / "logs"

    @property
    def etcd(self) -> Path:
        """The cluster's data."""
        return self.state / "etcd"

    @property
    def kubelet(self) -> Path:
        """The kubelet's root folder: pod volumes are mounted below it."""
        return self.state / "kubelet"

    @property
    def pod_logs(self) -> Path:
        """Container log files."""
        return self.state / "pod-logs"

    @property
    def containerd_root(self) -> Path:
        """Images and snapshots."""
        return self.state / "containerd"

    @property
    def containerd_socket(self) -> Path:
        """The socket of containerd."""
        return self.run / "containerd.sock"

    @property
    def images(self) -> Path:
        """Image archives made on the spot, and the record of what was imported."""
        return self.state / "images"

    @property
    def edge(self) -> Path:
        """Configuration of the edge Envoy and the table of host ports."""
        return self.state / "edge"

    @property
    def host_netns_path(self) -> Path:
        """The host's network namespace, mounted so that Envoy can open listeners in it."""
        return self.run / "host.netns"

    @property
    def admin_kubeconfig(self) -> Path:
        """The kubeconfig that users and programs are given."""
        return self.state / "kubeconfig"

    def kubeconfig(self, user: str) -> Path:
        """The kubeconfig of a component, valid inside the site's network namespace."""
        return self.config / f"{user}.kubeconfig"

    def log(self, component: str) -> Path:
        """The log file of a component."""
        return self.logs / f"{component}.log"
