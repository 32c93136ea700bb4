"""An account as a look for leftovers asks it: what is the stack's there, page by page."""

from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError  # pyright: ignore[reportMissingTypeStubs]

from runtime.ops.teardown.account import Clients, is_absent
from runtime.ops.teardown.findings import Finding, Tags
from runtime.ops.teardown.ledger import Cloud
from runtime.tenure import PLATFORM_TAG, STACK_TAG

Item = Mapping[str, Any]

_CLUSTER_TAGS = (
    "eks:cluster-name",
    "aws:eks:cluster-name",
    "eks:eks-cluster-name",
    "elbv2.k8s.aws/cluster",
    "cluster.k8s.amazonaws.com/name",
    "karpenter.sh/discovery",
)


class AskedCloud:
    """One account and region, with what tells the stack's things there from others'.

    Args:
        cloud: What the stack had there.
        clients: How to ask.
    """

    def __init__(self, cloud: Cloud, clients: Clients) -> None:
        self.cloud = cloud
        self.clients = clients
        self.where = f"{cloud.account} {cloud.region}"

    def is_ours(self, tags: Tags) -> bool:
        """Whether tags say that a thing is the stack's, or that one of its clusters made it."""
        of, cloud = tags.of, self.cloud
        if cloud.stack and of.get(STACK_TAG) == cloud.stack:
            return of.get(PLATFORM_TAG, cloud.platform) == cloud.platform
        return any(
            f"kubernetes.io/cluster/{name}" in of or name in (of.get(key) for key in _CLUSTER_TAGS)
            for name in cloud.clusters
        )

    def find(self, kind: str, id_: str, detail: str = "", **more: Any) -> Finding:
        """A finding in this account and region."""
        return Finding(kind=kind, id=id_, where=self.where, detail=detail, region=self.cloud.region, **more)

    def ec2(self, call: str, key: str, id_: str, type_: str = "") -> Iterator[Item]:
        """What EC2 lists that is the stack's, by tags or by an id that the state knew."""
        known = set(self.cloud.ids(type_)) if type_ else set[str]()
        for item in self.pages("ec2", call, key):
            if item[id_] in known or self.is_ours(Tags.read(item.get("Tags") or item.get("TagSet"))):
                yield item

    def pages(self, service: str, call: str, key: str, **request: Any) -> Iterator[Any]:
        """Everything that a call lists, page by page."""
        client = self.clients(service)
        if client.can_paginate(call):
            for page in client.get_paginator(call).paginate(**request):
                yield from page.get(key) or ()
        else:
            yield from getattr(client, call)(**request).get(key) or ()

    def exists(self, service: str, call: str, **request: Any) -> dict[str, Any] | None:
        """What a call says of one thing; None where AWS has no such thing."""
        try:
            return getattr(self.clients(service), call)(**request)
        except ClientError as error:
            if is_absent(error):
                return None
            raise
