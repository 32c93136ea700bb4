"""A scripted stand-in for Ray on simulated nodes: what its dashboard says of a Serve config.

It decides as Ray does whether the copies of a model can be placed: from what each simulated pod would have
told `ray start`, not from what the pod asks Kubernetes for. A device that KubeRay does not hand on to Ray is
not there for it, just as in a real cluster. No model runs.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, cast

from rehearsal.site.api import Json

APPLICATIONS = "/api/serve/applications/"
SCALE = re.compile(r"/api/v1/applications/(?P<application>[^/]+)/deployments/(?P<deployment>[^/]+)/scale")
INGRESS = "OpenAiIngress"
BUILDER = "ray.serve.llm:build_openai_app"
# How long an application is DEPLOYING, so that every caller sees that there is such a state.
DEPLOYING_S = 2.0

Resources = dict[str, float]

_APPLICATION_FIELDS = {"name", "route_prefix", "import_path", "args", "external_scaler_enabled"}


class NotFoundError(Exception):
    """Ray has no such application or deployment; the text is its answer."""


class ScalerDisabledError(Exception):
    """The application does not let itself be scaled from outside; the text is Ray's answer."""


class ConfigError(Exception):
    """Ray would refuse this Serve config; the text says why."""


@dataclass(frozen=True)
class RayNode:
    """One pod of a Ray cluster as Ray knows it.

    Attributes:
        name: The pod's name.
        resources: What `ray start` was told, custom resources among them.
        ready_at: Since when it is ready, in Unix seconds.
    """

    name: str
    resources: Mapping[str, float]
    ready_at: float = 0.0


@dataclass(frozen=True)
class Scaled:
    """How many replicas the external scaler asked for, and since when, in Unix seconds."""

    replicas: int
    since: float


@dataclass(frozen=True)
class Deployed:
    """What Ray remembers of a Serve config.

    Attributes:
        config: The config as it was put.
        since: When, in Unix seconds.
        scaled: What was asked for since, by deployment. A changed config forgets it, as in Ray 2.60.
    """

    config: Json
    since: float
    scaled: Mapping[str, Scaled] = field(default_factory=dict[str, Scaled])


@dataclass(frozen=True)
class Replica:
    """One replica of a deployment; the node is None while there is no room for it."""

    identity: str
    node: RayNode | None
    asked_at: float

    def is_running(self, now: float, load_s: float) -> bool:
        """Whether it answers: it has a node, and its model is loaded."""
        return self.node is not None and now - max(self.asked_at, self.node.ready_at) >= load_s


def ray_nodes(pods: Sequence[Json]) -> list[RayNode]:
    """The ready pods of a Ray cluster, by the `ray start` in their commands."""
    return [
        RayNode(pod["metadata"]["name"], started_with(pod["spec"]["containers"][0]), _ready_at(pod))
        for pod in pods
        if is_ready(pod)
    ]


def _ready_at(pod: Json) -> float:
    conditions: list[Json] = pod.get("status", {}).get("conditions", [])
    times = [one.get("lastTransitionTime") for one in conditions if one["type"] == "Ready"]
    return datetime.fromisoformat(times[0]).timestamp() if times and times[0] else 0.0


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
        if strange := set(application) - _APPLICATION_FIELDS:
            raise ConfigError(f"this stand-in knows no {sorted(strange)} in an application")
        if application.get("import_path") != BUILDER:
            raise ConfigError(f"import_path {application.get('import_path')!r}: only {BUILDER} is known here")
        for llm in llm_configs(application):
            if not llm.get("model_loading_config", {}).get("model_id"):
                raise ConfigError("an LLMConfig has no model_loading_config.model_id")
        for name, options in _deployment_options(application).items():
            _check_deployment(name, options, external=_is_external(application))


def _check_deployment(name: str, options: Json, *, external: bool) -> None:
    number = options.get("num_replicas")
    if number is not None and options.get("autoscaling_config"):
        raise ConfigError(f"{name}: num_replicas is not allowed when autoscaling_config is provided")
    if number == 0:
        raise ConfigError(f"{name}: num_replicas is expected to larger than 0")
    if number is not None and not str(number).isdecimal():
        raise ConfigError(f"{name}: num_replicas {number!r} is no number")
    if external and number is None:
        # Ray's builder would then let Serve scale too.
        raise ConfigError(
            f"{name}: external_scaler_enabled, and no num_replicas; Serve would scale it as well"
        )
    if options.get("max_queued_requests") == 0:
        raise ConfigError(f"{name}: max_queued_requests must be -1 (no limit) or a positive integer")


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


def deployment_name(llm: Json) -> str:
    """What `ray.serve.llm` calls the deployment of a model."""
    return "LLMServer:" + str(llm["model_loading_config"]["model_id"]).replace("/", "--").replace(".", "_")


def wanted_replicas(deployed: Deployed) -> dict[str, int]:
    """How many replicas each deployment shall have: what was asked for, else what the config says."""
    return {
        name: _first_number(options) if (asked := deployed.scaled.get(name)) is None else asked.replicas
        for application in deployed.config["applications"]
        for name, options in _deployment_options(application).items()
    }


def scaled(
    deployed: Deployed | None, application: str, deployment: str, body: object, now: float
) -> Deployed:
    """What Ray remembers after `POST …/scale`.

    Raises:
        ConfigError: The body is not a number of replicas (HTTP 400).
        NotFoundError: There is no such application or deployment (404).
        ScalerDisabledError: The application has no `external_scaler_enabled` (412).
    """
    number: Any = cast("Json", body).get("target_num_replicas") if isinstance(body, dict) else None
    if type(number) is not int or number < 0:
        raise ConfigError(f"Invalid request body: target_num_replicas {number!r} is no number from 0 up")
    known: list[Json] = deployed.config["applications"] if deployed else []
    here = next((one for one in known if one["name"] == application), None)
    if deployed is None or here is None or deployment not in _deployment_options(here):
        raise NotFoundError("Application or Deployment not found")
    if not _is_external(here):
        raise ScalerDisabledError(
            f"Cannot scale '{deployment}' of '{application}'. The external scaling API can only be used when "
            "'external_scaler_enabled' is set to true. Current value: external_scaler_enabled=false."
        )
    if number == wanted_replicas(deployed)[deployment]:
        return deployed
    return replace(deployed, scaled={**deployed.scaled, deployment: Scaled(number, now)})


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


def placed(deployed: Deployed, nodes: Sequence[RayNode]) -> dict[str, list[Replica]]:
    """The replicas of every deployment, each with the node of its first bundle if all its bundles fit."""
    free = [(node, dict(node.resources)) for node in nodes]
    wanted = wanted_replicas(deployed)
    found: dict[str, list[Replica]] = {}
    for application in deployed.config["applications"]:
        asked = {deployment_name(llm): bundles(llm) for llm in llm_configs(application)}
        asked[INGRESS] = [_ingress_bundle(application)]
        for name, group in asked.items():
            since = deployed.scaled[name].since if name in deployed.scaled else deployed.since
            found[name] = [
                Replica(f"{place:08x}", _place(free, group), since) for place in range(wanted[name])
            ]
    return found


def unplaced(config: Json, nodes: Sequence[RayNode]) -> str | None:
    """What does not fit on the nodes, in Ray's manner; None if every copy that the config names is placed."""
    return _unplaced(Deployed(config, 0.0), nodes)


def _unplaced(deployed: Deployed, nodes: Sequence[RayNode]) -> str | None:
    there = [dict(node.resources) for node in nodes]
    replicas = placed(deployed, nodes)
    for application in deployed.config["applications"]:
        asked = {deployment_name(llm): bundles(llm) for llm in llm_configs(application)}
        asked[INGRESS] = [_ingress_bundle(application)]
        for name, group in asked.items():
            # A deployment that was told its number from outside is HEALTHY while its replicas start.
            if name in deployed.scaled:
                continue
            for number, replica in enumerate(replicas[name]):
                if replica.node is None:
                    return (
                        f"Deployment {name} has replica {number} that cannot be scheduled: "
                        f"{group} fits on none of {there}"
                    )
    return None


def applications(
    deployed: Deployed | None, nodes: Sequence[RayNode], now: float, load_s: float = 0.0
) -> Json:
    """What `GET /api/serve/applications/` answers, as far as KubeRay, check and burst controller read it.

    Args:
        deployed: What was put; None for a head that has nothing yet.
        nodes: The pods that have joined.
        now: Unix seconds.
        load_s: Seconds from the node of a replica to its readiness.
    """
    if deployed is None:
        return {"applications": {}}
    missing = _unplaced(deployed, nodes)
    running = missing is None and now - deployed.since >= DEPLOYING_S
    wanted, replicas = wanted_replicas(deployed), placed(deployed, nodes)
    answer: dict[str, Json] = {}
    for application in deployed.config["applications"]:
        answer[str(application["name"])] = {
            "name": application["name"],
            "route_prefix": application.get("route_prefix"),
            "status": "RUNNING" if running else "DEPLOYING",
            "message": missing or "",
            "deployed_app_config": application,
            "external_scaler_enabled": _is_external(application),
            "deployments": {
                name: {
                    "name": name,
                    "status": "HEALTHY" if running else "UPDATING",
                    "message": missing or "",
                    "target_num_replicas": wanted[name],
                    "replicas": [_told(name, one, now, load_s) for one in replicas[name]],
                }
                for name in _deployment_options(application)
            },
        }
    return {"applications": answer, "proxy_location": deployed.config.get("proxy_location")}


def _told(deployment: str, replica: Replica, now: float, load_s: float) -> Json:
    # The ingress loads no model.
    seconds = 0.0 if deployment == INGRESS else load_s
    state = "RUNNING" if replica.is_running(now, seconds) else "STARTING"
    node = {} if replica.node is None else {"node_id": replica.node.name}
    return {"replica_id": replica.identity, "state": state, "start_time_s": replica.asked_at, **node}


def room(deployed: Deployed, nodes: Sequence[RayNode], now: float, load_s: float) -> tuple[int, int]:
    """How many requests the copies that run take at a time, and how many may wait for them."""
    slots = queue = 0
    replicas = placed(deployed, nodes)
    for application in deployed.config["applications"]:
        for llm in llm_configs(application):
            options = _section(llm, "deployment_config")
            ready = sum(one.is_running(now, load_s) for one in replicas[deployment_name(llm)])
            # With Serve's own autoscaling, from which a copy comes by itself, there is always one.
            if not _is_external(application):
                ready = max(1, ready)
            slots += ready * int(options.get("max_ongoing_requests", 10**9))
            queue += int(options.get("max_queued_requests", 10**9))
    return slots, queue


def is_running(deployed: Deployed | None, nodes: Sequence[RayNode], now: float) -> bool:
    """Whether every application runs."""
    found = applications(deployed, nodes, now)["applications"]
    return bool(found) and all(application["status"] == "RUNNING" for application in found.values())


def _section(config: Json, name: str) -> Json:
    return config.get(name) or {}


def _is_external(application: Json) -> bool:
    return bool(application.get("external_scaler_enabled"))


def _deployment_options(application: Json) -> dict[str, Json]:
    """The options of every deployment of an application, by name."""
    if not application:
        return {}
    options = {deployment_name(llm): _section(llm, "deployment_config") for llm in llm_configs(application)}
    return {**options, INGRESS: _section(_section(application, "args"), "ingress_deployment_config")}


def _first_number(options: Json) -> int:
    """With how many replicas a deployment begins. Serve's autoscaler stays at the least here."""
    number = options.get("num_replicas")
    return int(_section(options, "autoscaling_config").get("min_replicas", 1) if number is None else number)


def _ingress_bundle(application: Json) -> Resources:
    options = _section(_section(application, "args"), "ingress_deployment_config")
    actor = _section(options, "ray_actor_options")
    custom = {str(name): float(amount) for name, amount in _section(actor, "resources").items()}
    return {"CPU": float(actor.get("num_cpus", 1.0)), **custom}


def _place(free: Sequence[tuple[RayNode, Resources]], group: Sequence[Resources]) -> RayNode | None:
    """Takes room for all bundles of a replica or for none; returns the node of the first."""
    taken: list[tuple[RayNode, Resources, Resources]] = []
    for bundle in group:
        for node, room in free:
            if all(room.get(name, 0.0) >= amount for name, amount in bundle.items()):
                for name, amount in bundle.items():
                    room[name] -= amount
                taken.append((node, room, bundle))
                break
        else:
            for _, room, used in taken:
                for name, amount in used.items():
                    room[name] += amount
            return None
    return taken[0][0]
