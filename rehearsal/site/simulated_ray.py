"""A scripted stand-in for Ray on simulated nodes: what its dashboard says of a Serve config.

It decides as Ray does whether the copies of a model can be placed: from what each simulated pod would have
told `ray start`, not from what the pod asks Kubernetes for. A device that KubeRay does not hand on to Ray is
not there for it, just as in a real cluster. No model runs.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rehearsal.site.api import Json

APPLICATIONS = "/api/serve/applications/"
BUILDER = "ray.serve.llm:build_openai_app"
# How long an application is DEPLOYING, so that every caller sees that there is such a state.
DEPLOYING_S = 2.0

Resources = dict[str, float]


class ConfigError(Exception):
    """Ray would refuse this Serve config; the text says why."""


@dataclass(frozen=True)
class RayNode:
    """One pod of a Ray cluster as Ray knows it.

    Attributes:
        name: The pod's name.
        resources: What `ray start` was told, custom resources among them.
    """

    name: str
    resources: Mapping[str, float]


@dataclass(frozen=True)
class Deployed:
    """A Serve config that was put, and when, in seconds of any steady clock."""

    config: Json
    since: float


def ray_nodes(pods: Sequence[Json]) -> list[RayNode]:
    """The ready pods of a Ray cluster, by the `ray start` in their commands."""
    return [
        RayNode(pod["metadata"]["name"], started_with(pod["spec"]["containers"][0]))
        for pod in pods
        if is_ready(pod)
    ]


def is_ready(pod: Json) -> bool:
    """Whether a pod is ready and stays."""
    conditions: list[Json] = pod.get("status", {}).get("conditions", [])
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def started_with(container: Json) -> Resources:
    """The resources that a container's `ray start` names."""
    command = " ".join([*container.get("command", []), *container.get("args", [])])
    found: Resources = {}
    for option, resource in (("--num-cpus", "CPU"), ("--num-gpus", "GPU")):
        if match := re.search(rf"{option}=['\"]?([0-9.]+)", command):
            found[resource] = float(match[1])
    if match := re.search(r"--resources=('[^']*'|\"(?:\\.|[^\"])*\"|\S+)", command):
        text: Any = json.loads(shlex.split(match[1])[0])
        # KubeRay writes JSON; a quoted string of JSON is what a hand-written rayStartParams holds.
        custom: Json = json.loads(text) if isinstance(text, str) else text
        found.update({name: float(amount) for name, amount in custom.items()})
    return found


def check_config(config: Json) -> None:
    """Refuses what this stand-in does not know.

    Raises:
        ConfigError: With the first thing that is wrong.
    """
    unknown = set(config) - {"proxy_location", "http_options", "grpc_options", "applications"}
    if unknown:
        raise ConfigError(f"unknown fields {sorted(unknown)} in the Serve config")
    applications: list[Json] = config.get("applications") or []
    if not applications:
        raise ConfigError("the Serve config has no applications")
    for application in applications:
        if application.get("import_path") != BUILDER:
            raise ConfigError(f"import_path {application.get('import_path')!r}: only {BUILDER} is known here")
        for llm in llm_configs(application):
            if not llm.get("model_loading_config", {}).get("model_id"):
                raise ConfigError("an LLMConfig has no model_loading_config.model_id")


def llm_configs(application: Json) -> list[Json]:
    """The LLMConfigs of an application."""
    return _section(application, "args").get("llm_configs") or []


def model_ids(config: Json) -> list[str]:
    """The models that a Serve config declares."""
    return [
        str(llm["model_loading_config"]["model_id"])
        for application in config["applications"]
        for llm in llm_configs(application)
    ]


def bundles(llm: Json) -> list[Resources]:
    """The placement group of one copy, as `ray.serve.llm` makes it.

    The replica's own actor (one CPU) shares the first bundle; `accelerator_type` asks every bundle for a
    thousandth of the custom resource of that name.
    """
    placement = _section(llm, "placement_group_config")
    engine = _section(llm, "engine_kwargs")
    if "bundle_per_worker" in placement:
        count = int(engine.get("tensor_parallel_size", 1)) * int(engine.get("pipeline_parallel_size", 1))
        wanted = [dict(placement["bundle_per_worker"]) for _ in range(count)]
    else:
        wanted = [dict(bundle) for bundle in placement.get("bundles") or [{"CPU": 1, "GPU": 1}]]
    asked = [{str(name): float(amount) for name, amount in bundle.items()} for bundle in wanted]
    asked[0]["CPU"] = asked[0].get("CPU", 0.0) + 1.0
    if accelerator := llm.get("accelerator_type"):
        for bundle in asked:
            bundle[f"accelerator_type:{accelerator}"] = 0.001
    return asked


def unplaced(config: Json, nodes: Sequence[RayNode]) -> str | None:
    """What does not fit on the nodes, in Ray's manner; None if every copy at its least is placed."""
    free: list[Resources] = [dict(node.resources) for node in nodes]
    for application in config["applications"]:
        for llm in llm_configs(application):
            scaling = _section(_section(llm, "deployment_config"), "autoscaling_config")
            for copy in range(int(scaling.get("min_replicas", 1))):
                for bundle in bundles(llm):
                    if not _take(free, bundle):
                        name = llm["model_loading_config"]["model_id"]
                        there = [dict(node.resources) for node in nodes]
                        return (
                            f"Deployment LLMServer:{name} has replica {copy} that cannot be scheduled: "
                            f"bundle {bundle} fits on none of {there}"
                        )
        ingress = _section(_section(application, "args"), "ingress_deployment_config")
        cpus = float(_section(ingress, "ray_actor_options").get("num_cpus", 1.0))
        if not _take(free, {"CPU": cpus}):
            return f"Deployment OpenAiIngress has a replica that cannot be scheduled: no {cpus} CPU is free"
    return None


def applications(deployed: Deployed | None, nodes: Sequence[RayNode], now: float) -> Json:
    """What `GET /api/serve/applications/` answers, as far as KubeRay and the serving check read it."""
    if deployed is None:
        return {"applications": {}}
    missing = unplaced(deployed.config, nodes)
    running = missing is None and now - deployed.since >= DEPLOYING_S
    answer: dict[str, Json] = {}
    for application in deployed.config["applications"]:
        names = [f"LLMServer:{llm['model_loading_config']['model_id']}" for llm in llm_configs(application)]
        answer[str(application["name"])] = {
            "name": application["name"],
            "route_prefix": application.get("route_prefix"),
            "status": "RUNNING" if running else "DEPLOYING",
            "message": missing or "",
            "deployed_app_config": application,
            "deployments": {
                name: {"name": name, "status": "HEALTHY" if running else "UPDATING", "message": missing or ""}
                for name in [*names, "OpenAiIngress"]
            },
        }
    return {"applications": answer, "proxy_location": deployed.config.get("proxy_location")}


def is_running(deployed: Deployed | None, nodes: Sequence[RayNode], now: float) -> bool:
    """Whether every application runs."""
    found = applications(deployed, nodes, now)["applications"]
    return bool(found) and all(application["status"] == "RUNNING" for application in found.values())


def _section(config: Json, name: str) -> Json:
    return config.get(name) or {}


def _take(free: list[Resources], bundle: Mapping[str, float]) -> bool:
    for node in free:
        if all(node.get(name, 0.0) >= amount for name, amount in bundle.items()):
            for name, amount in bundle.items():
                node[name] -= amount
            return True
    return False
