"""The link between two sites: what a VPN or Direct Connect is between a data centre and its VPC.

A veth pair whose ends lie in the two sites' network namespaces; the host gets no address of it. Both sites
use the same addresses inside, so the near side hides behind its end, as many a VPN gateway does, and
reaches only the networks that are routed: every address of them is the far site itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rehearsal.site.layout import SiteError, SiteLayout
from rehearsal.site.network import NetworkNamespace, program, run_command

NEAR_IP = "10.99.0.1"
FAR_IP = "10.99.0.2"
DEVICE = "link0"
_PREFIX = 30
_NAT_TABLE = "spillway-link"
_CUT_TABLE = "spillway-link-cut"


@dataclass(frozen=True)
class Link:
    """The way from one site to another.

    Attributes:
        near: The site whose pods call.
        far: The site that answers at `FAR_IP`.
    """

    near: SiteLayout
    far: SiteLayout

    def ensure(self) -> None:
        """Connects the two where they are not; a link that was cut stays cut.

        Raises:
            SiteError: A site does not run, or the kernel refuses.
        """
        for layout in (self.near, self.far):
            if NetworkNamespace(layout).inode() is None:
                raise SiteError(f"site {layout.name!r} does not run, so nothing can be linked to it")
        if not self.is_there:
            # One end without the other is a link to a site that was made anew.
            self.remove()
            peer = ["peer", "name", DEVICE, "netns", self.far.netns]
            self._ip(self.near, "link", "add", DEVICE, "type", "veth", *peer)
        for layout, address in ((self.near, NEAR_IP), (self.far, FAR_IP)):
            self._ip(layout, "address", "replace", f"{address}/{_PREFIX}", "dev", DEVICE)
            self._ip(layout, "link", "set", DEVICE, "up")
        nat = "type nat hook postrouting priority srcnat"
        self._set_rules(
            self.near, f"ip {_NAT_TABLE}", {f"out {{ {nat}; }}": f'oifname "{DEVICE}" masquerade'}
        )

    def route(self, networks: Sequence[str]) -> None:
        """Leads networks of the far side over the link; one that is routed already stays.

        Args:
            networks: In CIDR notation.
        """
        for network in networks:
            self._ip(self.near, "route", "replace", network, "via", FAR_IP, "dev", DEVICE)
            self._ip(self.far, "route", "replace", "local", network, "dev", "lo")

    @property
    def is_there(self) -> bool:
        """Whether both ends are there and each other's."""
        return all(_has_device(layout) for layout in (self.near, self.far))

    @property
    def is_cut(self) -> bool:
        """Whether packets get lost."""
        return f"table inet {_CUT_TABLE}" in self._nft(self.far, "list tables")

    def cut(self) -> None:
        """Loses every packet from now on, without a word to either side: what a dead WAN does."""
        chains = {
            "in { type filter hook prerouting priority -400; }": f'iifname "{DEVICE}" drop',
            "out { type filter hook postrouting priority 400; }": f'oifname "{DEVICE}" drop',
        }
        self._set_rules(self.far, f"inet {_CUT_TABLE}", chains)

    def mend(self) -> None:
        """Lets packets through again."""
        self._set_rules(self.far, f"inet {_CUT_TABLE}", None)

    def remove(self) -> None:
        """Takes the link away; nothing happens if there is none."""
        for layout in (self.near, self.far):
            if _has_device(layout):
                self._ip(layout, "link", "delete", DEVICE)

    def _ip(self, layout: SiteLayout, *words: str) -> None:
        run_command(program("ip", "iproute2"), "-n", layout.netns, *words)

    def _set_rules(self, layout: SiteLayout, table: str, chains: Mapping[str, str] | None) -> None:
        """Replaces a table in one step; without chains it goes."""
        # Added first, so that there is one to delete.
        commands = [f"add table {table}", f"delete table {table}"]
        if chains is not None:
            commands.append(f"add table {table}")
            for chain, rule in chains.items():
                commands += [f"add chain {table} {chain}", f"add rule {table} {chain.split()[0]} {rule}"]
        self._nft(layout, "; ".join(commands))

    def _nft(self, layout: SiteLayout, rules: str) -> str:
        enter = [program("nsenter", "util-linux"), f"--net={layout.netns_path}"]
        return run_command(*enter, program("nft", "nftables"), rules)


def _has_device(layout: SiteLayout) -> bool:
    if NetworkNamespace(layout).inode() is None:
        return False
    listed = run_command(program("ip", "iproute2"), "-n", layout.netns, "-brief", "link", "show")
    return any(line.split("@")[0].split()[0] == DEVICE for line in listed.splitlines() if line.strip())
