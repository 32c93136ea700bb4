"""Looks what is left of a stack without any of the teardown's code: what its certificates are judged by.

A cluster is compared with what was on it before the stack came, whatever kind of object it is; the account
with an empty one; and Pulumi's state is read from the file.
"""

import contextlib
import json
import time
from typing import Any

from rehearsal.aws.clients import client
from rehearsal.cloud import RehearsedCloud
from rehearsal.site import Site
from rehearsal.site.api import ApiClient, ApiError
from rehearsal.workspace import Workspace

# They come and go by themselves, with a stack or without one.
_OF_THE_CLUSTER = {"kube-system", "kube-public", "kube-node-lease", "default"}
REGION = "us-east-1"
_TRIES = 30
_NO_OBJECTS = {"events", "componentstatuses", "nodes", "leases"}
_EMPTY: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("ec2", "describe_network_interfaces", "NetworkInterfaces", {}),
    ("ec2", "describe_snapshots", "Snapshots", {"OwnerIds": ["self"]}),
    ("ec2", "describe_vpn_gateways", "VpnGateways", {}),
    ("elb", "describe_load_balancers", "LoadBalancerDescriptions", {}),
    ("efs", "describe_file_systems", "FileSystems", {}),
    ("cloudwatch", "describe_alarms", "MetricAlarms", {}),
    ("sagemaker", "list_endpoints", "Endpoints", {}),
)


class Witness:
    """Sees what is there beside what was there when it came; make it before the stack.

    Args:
        workspace: Of the stack.
        site: The on-prem cluster.
        cloud: The account with its EKS cluster, or None.
    """

    def __init__(self, workspace: Workspace, site: Site, cloud: RehearsedCloud | None) -> None:
        self._workspace, self._cloud = workspace, cloud
        sites = [site] if cloud is None else [site, cloud.site]
        self._before = [(one, _settled(one.api())) for one in sites]

    def looks(self) -> list[str]:
        """What is left, one line each.

        Raises:
            ApiError, OSError, DoubleError: A place does not answer, so nobody can say.
        """
        found = self._state()
        if self._cloud is not None:
            found += self._account(self._cloud)
        for site, before in self._before:
            if self._is_there(site):
                left = sorted(objects_of(site.api()) - before)
                found += [f"{site.layout.name}: {one}" for one in left]
        return found

    def _is_there(self, site: Site) -> bool:
        """What is on an EKS cluster goes with it; the site that stands for it runs on."""
        if self._cloud is None or site is not self._cloud.site:
            return True
        return bool(client("eks", self._cloud.double.endpoint, REGION).list_clusters()["clusters"])

    def _account(self, cloud: RehearsedCloud) -> list[str]:
        terminated = [{"Name": "instance-state-name", "Values": ["terminated"]}]
        ended = {
            one["InstanceId"]
            for reservation in self._ask("ec2", "describe_instances", "Reservations", Filters=terminated)
            for one in reservation["Instances"]
        }
        further = [
            f"{service} {one}"
            for service, call, key, request in _EMPTY
            for one in self._ask(service, call, key, **request)
            # EC2 goes on to name some things that are gone, and moto the interfaces of ended instances too.
            if one.get("State") != "deleted" and one.get("Attachment", {}).get("InstanceId") not in ended
        ]
        return [*cloud.double.leftovers(), *further]

    def _ask(self, service: str, call: str, key: str, **request: Any) -> list[dict[str, Any]]:
        assert self._cloud is not None
        asked = client(service, self._cloud.double.endpoint, REGION)
        return list(getattr(asked, call)(**request).get(key) or ())

    def _state(self) -> list[str]:
        stacks = self._workspace.home / "state" / ".pulumi" / "stacks" / "spillway"
        file = stacks / f"{self._workspace.stack}.json"
        if not file.is_file():
            return []
        latest: dict[str, list[dict[str, Any]] | None] = json.loads(file.read_text())["checkpoint"]["latest"]
        found = [f"state: {one['urn']}" for one in latest.get("resources") or ()]
        pending = latest.get("pending_operations") or ()
        return [*found, *(f"pending: {one['resource']['urn']}" for one in pending)]


def _settled(api: ApiClient) -> set[str]:
    """What is on a cluster that was just started, once it makes nothing of its own any more."""
    before = set[str]()
    for _ in range(_TRIES):
        with contextlib.suppress(ApiError):  # of a kind that was just brought: it is being initialized
            now = objects_of(api)
            if now == before:
                return now
            before = now
        time.sleep(2.0)
    raise AssertionError("the cluster does not settle")


def objects_of(api: ApiClient) -> set[str]:
    """Every object of every kind that can be listed, without those of the cluster itself."""
    versions = [("/api/v1", api.get("/api/v1"))]
    for group in api.get("/apis")["groups"]:
        path = f"/apis/{group['preferredVersion']['groupVersion']}"
        versions.append((path, api.get(path)))
    found: set[str] = set()
    for path, listed in versions:
        for kind in listed["resources"]:
            if "list" in kind["verbs"] and "/" not in kind["name"] and kind["name"] not in _NO_OBJECTS:
                found |= _listed(api, f"{path}/{kind['name']}", str(kind["kind"]))
    return found


def _listed(api: ApiClient, path: str, kind: str) -> set[str]:
    try:
        items: list[dict[str, Any]] = api.get(path)["items"]
    except ApiError as error:
        if error.status in {404, 405}:  # some refuse to be listed at all
            return set()
        raise
    names = [(one["metadata"].get("namespace"), one["metadata"]["name"]) for one in items]
    return {
        f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"
        for namespace, name in names
        if namespace not in _OF_THE_CLUSTER
    }
