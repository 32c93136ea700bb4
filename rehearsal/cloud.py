"""The AWS side of a stack in rehearsal: the AWS double, a site that is its EKS cluster, and the link."""

import base64
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rehearsal.aws.account import AwsDouble
from rehearsal.aws.clients import client
from rehearsal.eks.heartbeat import HEARTBEAT_LIMIT_S, heartbeat_file
from rehearsal.site import Site
from rehearsal.site.certificates import CLUSTER_CA, certificate_file
from rehearsal.site.components import Component
from rehearsal.site.layout import API_PORT, SiteLayout
from rehearsal.site.link import FAR_IP, Link
from rehearsal.tools import Toolbox
from runtime.ops.progress import Progress
from runtime.ops.teardown.account import Clients
from runtime.ops.teardown.ledger import Cloud

LOOP = "eks"
_TRIES = 3


@dataclass(frozen=True)
class CloudLeftovers:
    """What of the cloud was looked for after a teardown, one line a kind, and whether nothing was found."""

    lines: tuple[str, ...]
    clean: bool


class RehearsedCloud:
    """The AWS account of a state home, with one EKS cluster.

    Args:
        home: Spillway's state home.
        near: The on-prem site that is linked to it.
        region: The cluster's region.
    """

    def __init__(self, home: Path, near: Site, region: str) -> None:
        self.double = AwsDouble(home)
        layout = SiteLayout(f"{near.layout.name}-eks", home)
        self.link = Link(near.layout, layout)
        self._region = region
        self.site = Site(layout.name, home, of_cloud=True)

    @property
    def environment(self) -> Mapping[str, str]:
        """What sends a program to this cloud and to no other; known before anything runs."""
        self.double.reserve_port()
        return {**self.double.environment, "SPILLWAY_EKS_KUBECONFIG": str(self.site.kubeconfig)}

    def start(self, toolbox: Toolbox, images: Mapping[str, str], progress: Progress) -> None:
        """Makes everything run that does not; the on-prem site has to.

        Args:
            toolbox: The programs.
            images: Name as pods there write it, to the site's image that stands in for it.
            progress: Where the steps are shown.

        Raises:
            DoubleError: The AWS double does not come up.
            SiteError: A part of the cluster does not become ready, or the link cannot be made.
        """
        with progress.step("AWS double: moto on loopback") as step:
            step.update(self.double.start())
        self.site = Site(self.site.layout.name, self.site.layout.home, of_cloud=True, further=[self._loop()])
        self.site.start(toolbox, progress)
        self.site.stand_in(images)
        self.link.ensure()
        authority = certificate_file(self.site.layout, CLUSTER_CA).read_bytes()
        self.double.put_script(
            {
                **self.double.script(),
                "clusterApi": {
                    "endpoint": f"https://{FAR_IP}:{API_PORT}",
                    "certificateAuthority": base64.b64encode(authority).decode(),
                },
            }
        )

    def clients(self, _: Cloud) -> Clients:
        """Clients of the double for a teardown."""
        return clients_of_double(self.double, self._region)

    def stop(
        self, progress: Progress, *, proven: bool = False, account: bool = True, cluster: bool = True
    ) -> CloudLeftovers:
        """Ends everything, after it has looked what is left in the account.

        Args:
            progress: Where it is shown.
            proven: Whether the certificate of a teardown says that already of everything that moto holds;
                what only the stand-in provider keeps is no part of it.
            account: Whether the double ends; without that it is not looked at either.
            cluster: Whether the site ends that is the EKS cluster.

        Raises:
            DoubleError: The double does not answer, so what is left is not known.
            SiteError: The site cannot be stopped.
        """
        lines: list[str] = []
        clean = True
        if account:
            look = self.double.stored if proven else self.double.leftovers
            left = look() if self.double.pid else []
            lines.append(f"AWS account: {', '.join(left) or 'nothing'}")
            clean = not left
        if cluster:
            leftovers = self.site.stop(progress)
            lines += [f"EKS site, {line}" for line in leftovers.lines()]
            clean = clean and not leftovers
        if account:
            with progress.step("AWS double"):
                self.double.stop()
        return CloudLeftovers(tuple(lines), clean=clean)

    def _loop(self) -> Component:
        layout = self.site.layout
        heartbeat = heartbeat_file(layout)

        def check() -> str | None:
            try:
                age_s = time.time() - heartbeat.stat().st_mtime
            except FileNotFoundError:
                return "has not finished a round yet"
            return None if age_s < HEARTBEAT_LIMIT_S else f"last finished a round {age_s:.0f} s ago"

        folder = Path(__file__).parent / "eks"
        return Component(
            LOOP,
            [
                *(sys.executable, "-P", "-m", "rehearsal.eks"),
                f"--site={layout.name}",
                f"--near={self.link.near.name}",
                f"--home={layout.home}",
                f"--aws={self.double.endpoint}",
                f"--region={self._region}",
            ],
            check,
            after=["kube-apiserver", "custom resources", "kwok"],
            inputs=sorted(folder.glob("*.py")),
            inside=False,
            prepare=lambda: heartbeat.unlink(missing_ok=True),
        )


def clients_of_double(double: AwsDouble, region: str) -> Clients:
    """Clients for a teardown, which say of an outage that it is one instead of waiting."""
    endpoint = double.endpoint
    return lambda service: client(service, endpoint, region, None, _TRIES)
