"""One round of the embedded EKS cluster: nodes, autoscalers, private ports."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence

from rehearsal.eks import autoscaler_status, node_autoscaler, ray_autoscaler
from rehearsal.eks.autoscaler_status import BACK_OFF_S, BackOff
from rehearsal.eks.aws import Aws
from rehearsal.eks.node_autoscaler import is_movable
from rehearsal.site import edge
from rehearsal.site.api import ApiClient, Json, object_path
from rehearsal.site.layout import API_PORT, SiteLayout
from rehearsal.site.link import Link
from rehearsal.site.simulated_engines import SimulatedPods, speed_folder
from rehearsal.site.simulated_nodes import SIMULATED_TAINT, simulated_node, simulated_status
from rehearsal.site.simulated_ray import Deployed, deployment_name, llm_configs, wanted_replicas

INSTANCE_LABEL = "spillway.dev/instance"
_MERGE = "application/merge-patch+json"
# System nodes have no taint in EKS. Pods that run for real must not land on a simulated one; the site's
# own node takes them.
_KEEPS_REAL_PODS_AWAY = {"key": SIMULATED_TAINT[0], "value": SIMULATED_TAINT[1], "effect": "NoSchedule"}


class EksCluster:
    """The embedded site that stands for an EKS cluster.

    Args:
        layout: The site.
        link: The link over which the on-prem site reaches it.
        api: Its API server.
        aws: The AWS double.
        unneeded_s: Seconds until an empty node goes; the real autoscaler waits ten minutes.
        hurry: How many times faster than the stack says a worker without copies goes.
    """

    def __init__(
        self, layout: SiteLayout, link: Link, api: ApiClient, aws: Aws, *, unneeded_s: float, hurry: float
    ) -> None:
        self._layout = layout
        self._link = link
        self._api = api
        self._aws = aws
        self._ray = SimulatedPods(api, speed_folder(layout))
        self._unneeded_s = unneeded_s
        self._hurry = hurry
        self._empty_since: dict[str, float] = {}
        self._idle_since: dict[str, float | None] = {}
        self._said: dict[str, str] = {}
        self._routed: list[str] = []
        self._back_off = BackOff()
        self._left_alone = frozenset[str]()
        self._told: Json = {}

    def round(self, now: float) -> Iterator[str]:
        """Brings everything up to date once, and tells what it changed.

        Args:
            now: Seconds of a steady clock.

        Raises:
            AwsError: The double does not answer.
            ApiError: The cluster refuses something.
            OSError: The cluster does not answer.
        """
        nodes = self._aws.nodes()
        pods: list[Json] = self._api.get("/api/v1/pods")["items"]
        yield from self._join_and_remove(nodes, pods)
        yield from self._scale_ray(now)
        yield from self._scale_nodes(nodes, pods, now)
        yield from self._lead_in()

    def _join_and_remove(self, nodes: Sequence[Json], pods: Sequence[Json]) -> Iterator[str]:
        there = {
            str(node["metadata"]["name"])
            for node in self._api.get("/api/v1/nodes", labelSelector=INSTANCE_LABEL)["items"]
        }
        wanted = {str(node["name"]): node for node in nodes if node["state"] == "Ready"}
        for name in sorted(wanted.keys() - there):
            node = wanted[name]
            taints: list[Json] = node["taints"]
            labels = {**node["labels"], INSTANCE_LABEL: str(node["instanceId"])}
            self._api.apply(simulated_node(name, labels, taints or [_KEEPS_REAL_PODS_AWAY]))
            devices = {key: value for key, value in node["resources"].items() if "/" in key}
            status = simulated_status(node["resources"]["cpu"], node["resources"]["memory"], devices)
            path = object_path("v1", "Node", None, name)
            self._api.request("PATCH", f"{path}/status", status, content_type=_MERGE)
            yield f"node {name} of group {node['nodeGroup']} ({node['instanceType']}) joined"
        for name in sorted(there - wanted.keys()):
            self._api.delete(object_path("v1", "Node", None, name))
            # With a machine its pods are gone; the controllers would wait minutes to believe it.
            for pod in pods:
                if pod["spec"].get("nodeName") == name:
                    metadata = pod["metadata"]
                    path = object_path("v1", "Pod", metadata["namespace"], metadata["name"])
                    self._api.delete(path, gracePeriodSeconds=0)
            yield f"node {name} is gone"

    def _scale_ray(self, now: float) -> Iterator[str]:
        clusters: list[Json] = self._api.get("/apis/ray.io/v1/rayclusters")["items"]
        for cluster in clusters:
            metadata, spec = cluster["metadata"], cluster["spec"]
            if not spec.get("enableInTreeAutoscaling") or "deletionTimestamp" in metadata:
                continue
            identity = str(metadata["uid"])
            workers = sum(workers_wanted(deployed) for deployed in self._deployed(metadata))
            wish = ray_autoscaler.wish(cluster, workers, self._idle_since.get(identity), now, self._hurry)
            self._idle_since[identity] = wish.idle_since
            groups: list[Json] = spec["workerGroupSpecs"]
            before = [int(group.get("replicas") or 0) for group in groups]
            if list(wish.replicas) == before:
                continue
            changes: list[Json] = []
            for place, (group, count) in enumerate(zip(groups, wish.replicas, strict=True)):
                # Without names the operator takes none away: it leaves that to the autoscaler.
                surplus = self._workers(metadata, str(group["groupName"]))[count:]
                where = f"/spec/workerGroupSpecs/{place}"
                changes += [
                    {"op": "add", "path": f"{where}/replicas", "value": count},
                    {"op": "add", "path": f"{where}/scaleStrategy", "value": {"workersToDelete": surplus}},
                ]
            path = object_path("ray.io/v1", "RayCluster", metadata["namespace"], metadata["name"])
            body = json.dumps(changes).encode()
            self._api.request("PATCH", path, body, content_type="application/json-patch+json")
            yield f"Ray cluster {metadata['name']}: workers {before} -> {list(wish.replicas)}"

    def _workers(self, cluster: Json, group: str) -> list[str]:
        """The pods of a worker group, the oldest first."""
        selector = f"ray.io/cluster={cluster['name']},ray.io/group={group},ray.io/node-type=worker"
        path = f"/api/v1/namespaces/{cluster['namespace']}/pods"
        pods: list[Json] = self._api.get(path, labelSelector=selector)["items"]
        stay = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        ordered = sorted(stay, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
        return [str(pod["metadata"]["name"]) for pod in ordered]

    def _deployed(self, cluster: Json) -> list[Deployed]:
        selector = f"ray.io/cluster={cluster['name']},ray.io/node-type=head"
        path = f"/api/v1/namespaces/{cluster['namespace']}/pods"
        heads: list[Json] = self._api.get(path, labelSelector=selector)["items"]
        return [found for head in heads if (found := self._ray.deployed(head))]

    def _scale_nodes(self, nodes: Sequence[Json], pods: Sequence[Json], now: float) -> Iterator[str]:
        groups = self._aws.groups(list(nodes))
        on_node: dict[str, int] = defaultdict(int)
        for pod in pods:
            if is_movable(pod) and pod["spec"].get("nodeName"):
                on_node[pod["spec"]["nodeName"]] += 1
        empty = {name for group in groups for name in group.existing if not on_node[name]}
        self._empty_since = {name: self._empty_since.get(name, now) for name in empty}
        empty_for_s = {name: now - since for name, since in self._empty_since.items()}
        backed_off = self._back_off.groups(groups, now)
        for name in sorted(backed_off - self._left_alone):
            yield f"group {name}: a launch failed, so it is left alone for {BACK_OFF_S:.0f} s"
        self._left_alone = backed_off
        decided = node_autoscaler.plan(groups, pods, empty_for_s, self._unneeded_s, backed_off)
        for group, count in decided.desired.items():
            self._aws.ask_for(group, count)
            yield f"group {group}: {count} nodes"
        instances = {str(node["name"]): str(node["instanceId"]) for node in nodes}
        for group, name in decided.remove:
            self._aws.end(instances[name])
            yield f"group {group}: node {name} was empty for {empty_for_s[name]:.0f} s and ends"
        for pod, reason in decided.unplaced.items():
            if self._said.get(pod) != reason:
                yield f"pod {pod} waits: {reason}"
        self._said = dict(decided.unplaced)
        told = autoscaler_status.status(groups, backed_off)
        if told != self._told:
            self._api.apply(told)
            self._told = told

    def _lead_in(self) -> Iterator[str]:
        networks = self._aws.networks()
        if networks != self._routed and self._link.is_there:
            self._link.route(networks)
            self._routed = networks
            yield f"routed over the link: {', '.join(networks) or 'nothing'}"
        # The private endpoint of the cluster's own API is reached over the same link.
        edge.write_private_ports(self._layout, {**self._aws.balanced_ports(), API_PORT: API_PORT})


def workers_wanted(deployed: Deployed) -> int:
    """Pods that the copies of all models of a Serve config take: one for each stage of a pipeline."""
    copies = wanted_replicas(deployed)
    return sum(
        copies[deployment_name(llm)] * int(llm["engine_kwargs"].get("pipeline_parallel_size", 1))
        for application in deployed.config["applications"]
        for llm in llm_configs(application)
    )
