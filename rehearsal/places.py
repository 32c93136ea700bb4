"""Where a stack runs: on the embedded site, on a cluster of the user's own, or in an AWS account alone."""

import os
import shutil
import socket
import urllib.parse
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rehearsal.aws import ACCOUNT
from rehearsal.aws.account import AwsDouble
from rehearsal.cloud import RehearsedCloud, clients_of_double
from rehearsal.endpoints.cycle import EndpointDriver
from rehearsal.endpoints.hosting import Hosting
from rehearsal.site import Site, SiteError
from rehearsal.site.api import ApiError, object_path
from rehearsal.site.images import CONTROLLER_IMAGE, ENVOY_IMAGE, OPERATOR_IMAGE, RAY_IMAGE
from rehearsal.site.layout import SITE_IMAGES
from rehearsal.site.preflight import check_machine, check_privileges
from rehearsal.tools import Group, Toolbox
from rehearsal.workspace import Workspace, WorkspaceError, platform_object
from runtime import versions
from runtime.cluster import ClusterApi, read_kubeconfig
from runtime.images import mirrored
from runtime.labels import MODEL_LABEL
from runtime.ops.deletions import await_deletions
from runtime.ops.progress import Progress
from runtime.ops.pulumi_cli import HALF_MADE_RELEASES, PulumiCli
from runtime.ops.teardown.account import Clients, boto3_clients
from runtime.ops.teardown.certificate import Certificate
from runtime.ops.teardown.ledger import Cloud
from runtime.staging import StagedImages

_DOUBLE = "aws-double"
_DOUBLE_NAME = "AWS double"
_REACH_S = 5.0


@dataclass(frozen=True)
class Remains:
    """What was looked for after a teardown, one line a kind, and whether nothing was found."""

    lines: tuple[str, ...]
    clean: bool


class Place:
    """An AWS account, of which nothing runs on this machine; and what the other places differ from.

    Attributes:
        groups: The tools that are needed beside Pulumi's.
        site: The embedded site's name; None where the stack is on none.
        double: What sends a program to the AWS double and to no other account; None where there is no double.
        parts: What of it runs on this machine and may be other stacks' too: how `identity` names it, and how
            a person does.
    """

    groups: Sequence[Group] = ()
    site: str | None = None
    double: Mapping[str, str] | None = None
    parts: Mapping[str, str] = MappingProxyType({})

    def check(self) -> None:
        """Refuses a machine that cannot run it, before minutes of building."""

    def start(self, _: Toolbox, __: Progress, /) -> None:
        """Makes everything of it run that is on this machine.

        Raises:
            SiteError: A part of the site does not become ready.
            DoubleError: The AWS double does not come up.
        """

    def identity(self) -> str | None:
        """What is another one when all that was there is gone; None where only Pulumi knows.

        Raises:
            SiteError: The place does not answer.
        """
        return None

    def trouble(self) -> str | None:
        """Why an update may be waiting in vain."""
        return None

    def settle(self, cli: PulumiCli, workspace: Workspace, progress: Progress, /) -> None:
        """Finds out which of the things that a killed Pulumi was making are there."""
        cli.settle_creations(progress, workspace.copy_stack_file())

    def clients(self, cloud: Cloud, /) -> Clients:
        """How AWS is asked in a teardown."""
        return boto3_clients(cloud)

    def reach(self, endpoint: str, /) -> str | None:
        """The URL by which this machine reaches the stack's endpoint; None where it cannot."""
        address = urllib.parse.urlsplit(endpoint)
        port = address.port or (443 if address.scheme == "https" else 80)
        try:
            socket.create_connection((str(address.hostname), port), _REACH_S).close()
        except OSError:
            return None  # a name of the VPC, and this machine is not connected to it
        return endpoint

    def shared(self, identity: str, /) -> frozenset[str]:
        """Which parts of it the place of that identity has too."""
        return frozenset(identity.split()) & self.parts.keys()

    def models_seen(self, _: str, /) -> tuple[str, ...]:
        """Where the pods of rehearsed models are, one line a model."""
        return ()

    def silence(self) -> None:
        """Ends what answers requests on this machine in place of what a teardown ends elsewhere."""

    def stop(self, _: Progress, __: Certificate | None, ___: Collection[str], /) -> Remains:
        """Ends what runs on this machine, whose account a certificate may have looked at already.

        The last argument names the parts that go on, because another stack is in them.
        """
        return Remains((), clean=True)


class OwnCluster(Place):
    """A cluster of the user's own, and perhaps an AWS account beside it.

    Args:
        workspace: The stack's Pulumi, which knows the cluster.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def start(self, _: Toolbox, progress: Progress, /) -> None:
        """See Place."""
        context = f", context {self._workspace.context}" if self._workspace.context else ""
        progress.line(f"  cluster {self._workspace.kubeconfig}{context}")

    def settle(self, cli: PulumiCli, workspace: Workspace, progress: Progress, /) -> None:
        """See Place."""
        super().settle(cli, workspace, progress)
        if workspace.is_unfinished:
            await_deletions(cli.objects(), cluster_api(self._workspace), progress)

    def reach(self, endpoint: str, /) -> str | None:
        """See Place; a Service's name means something inside the cluster alone."""
        inside = (urllib.parse.urlsplit(endpoint).hostname or "").endswith(".svc")
        return None if inside else endpoint


class EmbeddedSite(OwnCluster):
    """The embedded site, and in a rehearsal of a stack with an AWS side what stands for that.

    Args:
        workspace: The stack's Pulumi.
        site: The site.
        cloud: The rehearsed AWS side.
    """

    groups = (Group.SITE, Group.GATEWAY, Group.SERVING)

    def __init__(self, workspace: Workspace, site: Site, cloud: RehearsedCloud | None = None) -> None:
        super().__init__(workspace)
        self.site = site.layout.name
        self._site = site
        self._cloud = cloud
        self.double = cloud and cloud.environment
        self.parts = {self.site: f"site {self.site}"}
        if cloud is not None:
            self.parts |= {cloud.site.layout.name: f"site {cloud.site.layout.name}", _DOUBLE: _DOUBLE_NAME}

    def check(self) -> None:
        """See Place."""
        check_privileges()
        check_machine()

    def start(self, toolbox: Toolbox, progress: Progress, /) -> None:
        """See Place."""
        self._site.start(toolbox, progress)
        if self._workspace.rehearsal_of is None:
            return
        platform = platform_object(self._workspace.stack_file)
        images = stand_in_images(platform)
        self._site.stand_in(images)
        if self._cloud is not None:
            self._cloud.start(toolbox, cloud_images(platform, images), progress)

    def identity(self) -> str:
        """See Place: a site that was stopped and started is another cluster."""
        try:
            namespace = self._site.api().get(object_path("v1", "Namespace", None, "kube-system"))
        except (ApiError, OSError) as error:
            raise SiteError(f"site {self.site} does not answer: {error}; run the command again") from error
        return " ".join([*self.parts, namespace["metadata"]["uid"]])

    def trouble(self) -> str | None:
        """See Place."""
        ended = self._site.ended()
        return (
            f"{', '.join(ended)} of the site ended: Ctrl-C and the same command again mends it"
            if ended
            else None
        )

    def settle(self, cli: PulumiCli, workspace: Workspace, progress: Progress, /) -> None:
        """See Place."""
        self._forget_half_made_releases(progress)
        super().settle(cli, workspace, progress)

    def clients(self, cloud: Cloud, /) -> Clients:
        """See Place."""
        return self._cloud.clients(cloud) if self._cloud else boto3_clients(cloud)

    def models_seen(self, namespace: str, /) -> tuple[str, ...]:
        """See Place."""
        if self._workspace.rehearsal_of is None:
            return ()
        path = object_path("v1", "Pod", namespace)
        return pods_by_model(self._site.api().get(path, labelSelector=MODEL_LABEL)["items"])

    def stop(self, progress: Progress, certificate: Certificate | None, kept: Collection[str], /) -> Remains:
        """See Place."""
        lines: tuple[str, ...] = ()
        clean = True
        if self._cloud is not None:
            account = _DOUBLE not in kept
            cluster = self._cloud.site.layout.name not in kept
            remains = self._cloud.stop(
                progress, proven=certificate is not None, account=account, cluster=cluster
            )
            lines, clean = remains.lines, remains.clean
        if self.site in kept:
            return Remains(lines, clean=clean)
        leftovers = self._site.stop(progress)
        return Remains((*lines, *leftovers.lines()), clean=clean and not leftovers)

    def _forget_half_made_releases(self, progress: Progress) -> None:
        """Drops Helm's record of an install that was killed: Helm refuses the name for ever otherwise.

        What the install had made already carries Helm's ownership marks, so the next one takes it over.
        """
        api = self._site.api()
        try:
            pending = api.get("/api/v1/secrets", labelSelector=HALF_MADE_RELEASES)
            for secret in pending["items"]:
                metadata = secret["metadata"]
                api.delete(object_path("v1", "Secret", metadata["namespace"], metadata["name"]))
                progress.line(f"  done    removed {metadata['name']}, a Helm install that was killed")
        except (ApiError, OSError) as error:
            raise SiteError(f"site {self.site} does not answer: {error}; try again") from error


class RehearsedAccount(Place):
    """The AWS double as the whole of a stack that has no cluster.

    Args:
        home: Spillway's state home.
        region: The stack's region.
        platform: Name of the platform.

    Attributes:
        account: The double.
        environment: What sends a program to it.
    """

    groups = (Group.GATEWAY, Group.SERVING)
    parts = MappingProxyType({_DOUBLE: _DOUBLE_NAME})

    def __init__(self, home: Path, region: str, platform: str) -> None:
        self.account = AwsDouble(home)
        self._folder = home / "endpoints"
        self._platform = platform
        self._hosting: Hosting | None = None
        self._toolbox: Toolbox | None = None
        self._progress = Progress()
        self.account.reserve_port()
        self.environment = self.account.environment
        self.double = self.environment
        self._region = region

    def start(self, toolbox: Toolbox, progress: Progress, /) -> None:
        """See Place."""
        self._toolbox, self._progress = toolbox, progress
        with progress.step("AWS double: moto on loopback") as step:
            step.update(self.account.start())

    def identity(self) -> str:
        """See Place."""
        return _DOUBLE

    def reach(self, _: str, /) -> str:
        """See Place: by the processes that stand for the gateway's task."""
        return self.hosting().start()

    def hosting(self) -> Hosting:
        """What answers behind the stack; started when it is reached first."""
        if self._toolbox is None:
            raise WorkspaceError("the account was not started")
        if self._hosting is None:
            clients = clients_of_double(self.account, self._region)
            gateway = f"{self._platform}-gateway"
            self._hosting = Hosting(
                self._toolbox, clients, self._region, gateway, self._folder, self._progress
            )
        return self._hosting

    def driver(self, key: str) -> EndpointDriver:
        """Who puts the stack through its cycle.

        Args:
            key: An API key of the gateway.
        """
        return EndpointDriver(
            self.hosting(),
            clients_of_double(self.account, self._region),
            self.environment,
            self._region,
            key,
            self._folder,
            self._progress,
        )

    def clients(self, _: Cloud, /) -> Clients:
        """See Place."""
        return clients_of_double(self.account, self._region)

    def silence(self) -> None:
        """See Place."""
        if self._hosting is not None:
            self._hosting.end()
            self._hosting = None

    def stop(self, progress: Progress, certificate: Certificate | None, kept: Collection[str], /) -> Remains:
        """See Place; what is rehearsed on a site may have an AWS side in the same double."""
        self.silence()
        if _DOUBLE in kept:
            return Remains((), clean=True)
        shutil.rmtree(self._folder, ignore_errors=True)
        look = self.account.leftovers if certificate is None else self.account.stored
        left = look() if self.account.pid else []
        with progress.step("AWS double"):
            self.account.stop()
        return Remains((f"AWS account: {', '.join(left) or 'nothing'}",), clean=not left)


def own_cluster(stack_file: Path, site_kubeconfig: Path) -> tuple[Path, str | None] | None:
    """Kubeconfig and context of the user's own cluster, or None where a stack goes to the embedded site.

    The stack file decides before KUBECONFIG and CONTEXT, as it does in the program. Without either, a stack
    whose serving image is one of the site's own goes there; any other one has to name its cluster.

    Raises:
        WorkspaceError: The kubeconfig is not there, or none is named.
    """
    platform = platform_object(stack_file) if stack_file.is_file() else {}
    context = text_at(platform, "cluster", "context") or os.environ.get("CONTEXT") or None
    if named := text_at(platform, "cluster", "kubeconfig"):
        return Path(named).expanduser(), context
    given = os.environ.get("KUBECONFIG")
    # A shell that sourced the environment file names the site's own kubeconfig.
    if given and Path(given) != site_kubeconfig:
        if Path(given).parent.parent == site_kubeconfig.parent.parent:
            other = Path(given).parent.name
            raise WorkspaceError(
                f"KUBECONFIG = {given}: that is the embedded site {other}; "
                f"unset KUBECONFIG, or say SITE={other}"
            )
        if not Path(given).is_file():
            raise WorkspaceError(
                f"KUBECONFIG = {given}: there is no such file; name one existing kubeconfig, or unset "
                "KUBECONFIG to use the embedded site"
            )
        return Path(given).absolute(), context
    image = text_at(platform, "ray", "image")
    if image and not image.startswith(SITE_IMAGES):
        raise WorkspaceError(
            f"{stack_file.name} names no cluster and serves with {image}, which the embedded site does not "
            "have; set KUBECONFIG to your cluster's, or spillway:platform.cluster.kubeconfig there"
        )
    return None


def stand_in_images(platform: Mapping[str, Any]) -> dict[str, str]:
    """The images that a stack's pods name, and which of the site's own stands in for each.

    Pods of models do not run on a rehearsal's site; the serving check does, in the image of its model.
    """
    named = {
        text_at(platform, "gateway", "image") or versions.ENVOY_IMAGE: ENVOY_IMAGE,
        text_at(platform, "kuberay", "image") or versions.kuberay_image(): OPERATOR_IMAGE,
        text_at(platform, "ray", "image"): RAY_IMAGE,
        text_at(platform, "checkImage"): RAY_IMAGE,
        text_at(platform, "controllerImage"): CONTROLLER_IMAGE,
    }
    models: Sequence[Mapping[str, str]] = platform.get("models") or ()
    named.update({model.get("image"): RAY_IMAGE for model in models})
    mirror = text_at(platform, "images", "mirror")
    return {
        mirrored(name, mirror): image
        for name, image in named.items()
        if name and not name.startswith(SITE_IMAGES)
    }


def cloud_images(platform: Mapping[str, Any], images: Mapping[str, str]) -> dict[str, str]:
    """The same images as the nodes of the EKS side pull them: from their own repositories in ECR.

    Args:
        platform: The object under `spillway:platform`.
        images: What `stand_in_images` says of it.
    """
    region = text_at(platform, "cloud", "region")
    registry = f"{ACCOUNT}.dkr.ecr.{region}.amazonaws.com/{platform.get('name', 'llm')}-burst"
    staged = StagedImages(registry=registry)
    return {**images, **{staged.of(name): image for name, image in images.items()}}


def pods_by_model(pods: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """One line for each model: which of its pods are on which nodes, and with what devices."""
    lines: dict[str, dict[str, int]] = {}
    for pod in pods:
        limits: Mapping[str, str] = pod["spec"]["containers"][0].get("resources", {}).get("limits", {})
        devices = [f" with {count} {name}" for name, count in limits.items() if "/" in name]
        role = pod["metadata"]["labels"].get("ray.io/node-type", "server")
        where = f"{role} on {pod['spec'].get('nodeName', 'no node')}{''.join(devices)}"
        counts = lines.setdefault(pod["metadata"]["labels"][MODEL_LABEL], {})
        counts[where] = counts.get(where, 0) + 1
    return tuple(
        f"{model}: {', '.join(f'{count} {where}' for where, count in sorted(counts.items()))}"
        for model, counts in sorted(lines.items())
    )


def cluster_api(workspace: Workspace) -> ClusterApi:
    """The API of the stack's cluster.

    Raises:
        KubeconfigError: There is none to reach it by.
    """
    if workspace.kubeconfig is None:
        raise WorkspaceError(f"stack {workspace.stack} is on no cluster")
    return ClusterApi(read_kubeconfig(workspace.kubeconfig, workspace.context))


def scenario_of(stack_file: Path) -> str | None:
    """The scenario that a stack file names; None where it is not there, or names none."""
    return text_at(platform_object(stack_file), "scenario") if stack_file.is_file() else None


def text_at(platform: Mapping[str, object], *path: str) -> str | None:
    """A text of a stack file that nobody has checked yet; None where it is not there, or none."""
    value: object = platform
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None  # pyright: ignore
    return value if isinstance(value, str) else None
