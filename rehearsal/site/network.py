"""The site's network namespace, and how to reach into it from the host without another link.

Pods are connected by the `ptp` plugin: each has its own routed link, so Service address translation is
undone on the way back without the br_netfilter module that a bridge would need.
"""

import ctypes
import fcntl
import ipaddress
import json
import os
import shutil
import socket
import subprocess
import threading
import zlib
from pathlib import Path

from rehearsal.site.layout import (
    NODE_IP,
    POD_CIDR,
    SERVICE_CIDR,
    SIMULATED_POD_CIDR,
    SiteError,
    SiteLayout,
)

# Below Linux' usual range for outgoing connections (32768 to 60999), so that a port which the site
# keeps is not taken by a passing client connection meanwhile.
FIRST_HOST_PORT = 21000
HOST_PORTS = 9000
_CLONE_NEWNET = 0x40000000
_COMMAND_TIMEOUT_S = 20
# The libc that this process runs with; looking for it by name starts two programs, for each connection.
_LIBC = ctypes.CDLL(None, use_errno=True)


def program(name: str, package: str) -> str:
    """Returns the path of a program of the machine.

    Raises:
        SiteError: It is not installed; the message names the Debian package.
    """
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not found:
        raise SiteError(f"the program {name!r} is missing: install the Debian package {package!r}")
    return found


def run_command(*command: str | Path, timeout_s: float = _COMMAND_TIMEOUT_S) -> str:
    """Runs a program of the machine to its end and returns what it printed.

    Raises:
        SiteError: It failed or took longer than `timeout_s`; the message has its own words.
    """
    arguments = [str(part) for part in command]
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise SiteError(f"{' '.join(arguments)} did not end within {timeout_s:.0f} s") from error
    if done.returncode != 0:
        raise SiteError(f"{' '.join(arguments)} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


class NetworkNamespace:
    """The network namespace of one site."""

    def __init__(self, layout: SiteLayout) -> None:
        self._layout = layout
        self.path = layout.netns_path

    def inode(self) -> int | None:
        """Identifies the namespace; None if there is none."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        # A file that is left without its mount is no namespace; those live on the nsfs device.
        return found.st_ino if found.st_dev == Path("/proc/self/ns/net").stat().st_dev else None

    def ensure(self) -> None:
        """Creates the namespace, its addresses and its routes where they are missing."""
        ip = program("ip", "iproute2")
        if self.inode() is None:
            self.path.unlink(missing_ok=True)
            run_command(ip, "netns", "add", self._layout.netns)
        run_command(ip, "-n", self._layout.netns, "link", "set", "lo", "up")
        run_command(ip, "-n", self._layout.netns, "address", "replace", f"{NODE_IP}/32", "dev", "lo")
        # Services are reached from the node itself too; any route will do, the packet is rewritten
        # before it leaves.
        run_command(
            ip, "-n", self._layout.netns, "route", "replace", SERVICE_CIDR, "dev", "lo", "src", NODE_IP
        )
        # Every address of a simulated pod is one of the node's own, so that one process answers for all.
        simulated = str(ipaddress.ip_network(SIMULATED_POD_CIDR, strict=False))
        run_command(ip, "-n", self._layout.netns, "route", "replace", "local", simulated, "dev", "lo")
        forwarding = "echo 1 > /proc/sys/net/ipv4/ip_forward"
        run_command(program("nsenter", "util-linux"), f"--net={self.path}", "sh", "-c", forwarding)

    def delete(self) -> None:
        """Removes the namespace; nothing happens if there is none."""
        if self.inode() is not None:
            run_command(program("ip", "iproute2"), "netns", "delete", self._layout.netns)
        self.path.unlink(missing_ok=True)

    def connect(self, address: str, port: int, timeout_s: float) -> socket.socket:
        """Opens a TCP connection as if from inside the namespace.

        A socket belongs for good to the namespace it was created in, so only the thread that creates
        it has to enter.

        Raises:
            OSError: The namespace is gone or the connection was refused or timed out.
        """
        made: list[socket.socket] = []
        failed: list[OSError] = []

        def enter_and_connect() -> None:
            try:
                with self.path.open("rb") as namespace:
                    if _LIBC.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                        failed.append(OSError(ctypes.get_errno(), "cannot enter", str(self.path)))
                        return
                made.append(socket.create_connection((address, port), timeout=timeout_s))
            except OSError as error:
                failed.append(error)

        thread = threading.Thread(target=enter_and_connect)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return made[0]


def cni_plugins() -> Path:
    """Returns the folder of the CNI plugins.

    Raises:
        SiteError: They are not installed.
    """
    for folder in (Path("/usr/lib/cni"), Path("/opt/cni/bin")):
        if all((folder / plugin).exists() for plugin in ("ptp", "host-local", "loopback")):
            return folder
    raise SiteError("the CNI plugins are missing: install the Debian package 'containernetworking-plugins'")


def render_cni(layout: SiteLayout) -> str:
    """Renders the CNI configuration of the pods."""
    return json.dumps(
        {
            "cniVersion": "0.4.0",
            "name": layout.cni_network,
            "plugins": [
                {
                    "type": "ptp",
                    "ipMasq": False,
                    "ipam": {
                        "type": "host-local",
                        "ranges": [[{"subnet": POD_CIDR}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                        "dataDir": str(layout.run / "cni-addresses"),
                    },
                }
            ],
        },
        indent=2,
    )


def port_is_free(port: int) -> bool:
    """Says whether this process's network namespace can listen at 127.0.0.1:`port`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class HostPorts:
    """The ports of the host's loopback that a site uses, each kept for its key.

    The first choice follows from site and key, so the same Service gets the same port again even after
    the table is gone.
    """

    def __init__(self, site: str, file: Path) -> None:
        self._site = site
        self._file = file

    def table(self) -> dict[str, int]:
        """Returns the ports by key."""
        try:
            loaded: object = json.loads(self._file.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        if not isinstance(loaded, dict):
            return {}
        return {str(key): int(value) for key, value in loaded.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]

    def ensure(self, key: str, *, listening: bool) -> int:
        """Returns the port of `key`, and chooses one if there is none or another program took it.

        Args:
            key: What the port is for.
            listening: The site's Envoy is known to listen at the kept port, so that a port in use is ours.

        Raises:
            SiteError: All ports of the range are taken.
        """
        self._file.parent.mkdir(parents=True, exist_ok=True)
        # A start and the load-balancer loop may choose at the same time.
        with self._file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            table = self.table()
            kept = table.get(key)
            if kept is not None and (listening or port_is_free(kept)):
                return kept
            taken = set(table.values())
            start = zlib.crc32(f"{self._site}/{key}".encode()) % HOST_PORTS
            for step in range(HOST_PORTS):
                port = FIRST_HOST_PORT + (start + step) % HOST_PORTS
                if port not in taken and port_is_free(port):
                    table[key] = port
                    replace_file(self._file, json.dumps(table, indent=2, sort_keys=True))
                    return port
        last = FIRST_HOST_PORT + HOST_PORTS - 1
        raise SiteError(f"no free port between {FIRST_HOST_PORT} and {last} on 127.0.0.1")


def replace_file(path: Path, text: str) -> bool:
    """Writes a file in one step; returns False and leaves it alone if it has this content already."""
    try:
        if path.read_text() == text:
            return False
    except FileNotFoundError:
        pass
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text)
    temporary.replace(path)
    return True
