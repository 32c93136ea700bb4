"""A stack to take down: its state, the cluster that it is on, the AWS double, and what plays Pulumi."""

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rehearsal.aws.clients import client
from runtime.cluster import KubeconfigError, object_path
from runtime.ops.progress import Progress
from runtime.ops.pulumi_cli import PulumiError
from runtime.ops.teardown.ledger import Cloud, Site, resources_of
from runtime.ops.teardown.run import Reach, Teardown, Wishes
from runtime.ops.teardown.waiting import Patience
from tests.support.aws import RunningDouble
from tests.support.draining_cluster import DrainingCluster

MARK = "organization/spillway/dev:abcdefgh"
STACK = "organization/spillway/dev"
TENURE = {
    "spillway.dev/stack": STACK,
    "spillway.dev/owner": "ml",
    "spillway.dev/cost-centre": "42",
    "spillway.dev/environment": "dev",
    "spillway.dev/expires": "7d",
}
_TENURE_TAGS = {key.replace(".dev/", ":"): value for key, value in TENURE.items()}
LABELS = {"spillway.dev/platform": "llm"}
_URN = "urn:pulumi:dev::spillway::"
_PROVIDER = f"{_URN}pulumi:providers:kubernetes::cluster"
_AWS = f"{_URN}pulumi:providers:aws::aws"


def kubernetes_object(
    api_version: str, kind: str, namespace: str | None, name: str, **meta: Any
) -> dict[str, Any]:
    """A resource of the state that is an object of the cluster."""
    metadata = {"name": name, "labels": LABELS, **({"namespace": namespace} if namespace else {}), **meta}
    return {
        "urn": f"{_URN}kubernetes:{api_version}:{kind}::{name}",
        "type": f"kubernetes:{api_version}:{kind}",
        "custom": True,
        "id": f"{namespace}/{name}" if namespace else name,
        "provider": f"{_PROVIDER}::id",
        "inputs": {"apiVersion": api_version, "kind": kind, "metadata": metadata},
    }


def aws_resource(type_: str, id_: str, **more: Any) -> dict[str, Any]:
    """A resource of the state that is in AWS."""
    return {
        "urn": f"{_URN}{type_}::{id_}",
        "type": type_,
        "custom": True,
        "id": id_,
        "provider": f"{_AWS}::id",
        **more,
    }


def state_of(*further: dict[str, Any], aws: bool = False) -> dict[str, Any]:
    """An exported state with a claim, a namespace and a RayService, and perhaps an AWS provider."""
    resources: list[dict[str, Any]] = [
        {"urn": f"{_URN}pulumi:pulumi:Stack::dev", "type": "pulumi:pulumi:Stack"},
        {
            "urn": f"{_URN}spillway:kubernetes:StackClaim::claim",
            "type": "spillway:kubernetes:StackClaim",
            "inputs": {"tenure": TENURE},
        },
        {
            "urn": _PROVIDER,
            "type": "pulumi:providers:kubernetes",
            "custom": True,
            "id": "id",
            "inputs": {"kubeconfig": "/lab/kubeconfig", "context": "lab"},
        },
        kubernetes_object("v1", "Namespace", None, "llm", annotations={"spillway.dev/claim": MARK}),
        kubernetes_object("ray.io/v1", "RayService", "llm", "tiny"),
    ]
    if aws:
        tags = {"tags": {"spillway:stack": STACK, "spillway:platform": "c"}}
        inputs = {"region": "us-east-1", "allowedAccountIds": '["123456789012"]', "defaultTags": tags}
        resources.append(
            {"urn": _AWS, "type": "pulumi:providers:aws", "custom": True, "id": "id", "inputs": inputs}
        )
    resources += further
    return {"deployment": {"manifest": {"time": "2026-11-21T18:00:00Z"}, "resources": resources}}


def hosted_state_of(*further: dict[str, Any]) -> dict[str, Any]:
    """An exported state without a cluster, as a stack with SageMaker endpoints has it."""
    tags = {"spillway:stack": STACK, "spillway:platform": "llm", **_TENURE_TAGS}
    inputs = {
        "region": "us-east-1",
        "allowedAccountIds": '["123456789012"]',
        "defaultTags": json.dumps({"tags": tags}),
    }
    resources: list[dict[str, Any]] = [
        {"urn": f"{_URN}pulumi:pulumi:Stack::dev", "type": "pulumi:pulumi:Stack"},
        {"urn": _AWS, "type": "pulumi:providers:aws", "custom": True, "id": "id", "inputs": inputs},
        {"urn": f"{_URN}spillway:aws:HostingKeys::llm-keys", "type": "spillway:aws:HostingKeys"},
        *further,
    ]
    return {"deployment": {"manifest": {"time": "2026-11-21T18:00:00Z"}, "resources": resources}}


class TornDown:
    """The stack and what it is on; `teardown()` gives a run of its own each time, as a command does."""

    def __init__(
        self, folder: Path, state: dict[str, Any] | None = None, double: RunningDouble | None = None
    ) -> None:
        self.name = "dev"
        self.folder = folder
        self.exported = state or state_of()
        self.cluster = DrainingCluster()
        self.double = double
        self.out = io.StringIO()
        self.credentials: tuple[str, str, str] | None = None
        self.failures: list[str] = []
        self.destroys = 0
        self.patience = Patience(step_s=0.05, look_s=0.01, destroys=2)
        self.deletes_in_aws: Callable[[], None] = lambda: None
        self.cluster.put(
            "v1", "Namespace", None, "llm", annotations={"spillway.dev/claim": MARK}, labels=LABELS
        )
        self.cluster.put("ray.io/v1", "RayService", "llm", "tiny", finalizers=["ray.io/rayservice-finalizer"])

    # What plays Pulumi

    def state(self) -> Mapping[str, Any]:
        return self.exported

    def settle(self) -> None:
        self.exported["deployment"].pop("pending_operations", None)

    def unstage(self) -> None: ...

    def destroy(self) -> None:
        self.destroys += 1
        if self.failures:
            raise PulumiError(self.failures.pop(0))
        self.deletes_in_aws()
        for one in reversed(resources_of(self.exported)):
            if one.type.startswith("kubernetes:"):
                namespace, _, name = one.id.rpartition("/")
                kind, version = one.inputs["kind"], one.inputs["apiVersion"]
                self.cluster.write("DELETE", object_path(version, kind, namespace or None, name), {})
        self.exported["deployment"]["resources"] = []

    # A run

    def teardown(self, **wishes: Any) -> Teardown:
        return Teardown(
            self,
            self.folder,
            Reach(api=self._api, clients=self._clients),
            Progress(self.out),
            Wishes(**wishes),
            self.patience,
        )

    def _api(self, site: Site, content: str | None) -> DrainingCluster:
        if site.kubeconfig is None and content is None:
            raise KubeconfigError("the state does not say any more how it is reached")
        return self.cluster

    def _clients(self, cloud: Cloud) -> Callable[[str], Any]:
        assert self.double is not None
        endpoint, credentials = self.double.endpoint, self.credentials
        return lambda service: client(service, endpoint, cloud.region, credentials, 1)
