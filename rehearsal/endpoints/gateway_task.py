"""The gateway's Fargate task as processes of this machine, run as the declared task definition says.

There is no Fargate here. What is altered, because all of it is on loopback of one machine: paths of
volumes become folders, each port becomes one that is free, and the adapter asks the double of SageMaker's
runtime API. What is not proven: images, users, capabilities, roles, security groups, and the load balancer.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rehearsal.endpoints.processes import Server, ServerError, answers, free_port
from rehearsal.workspace import PROJECT
from runtime.ops.teardown.account import Clients
from runtime.sagemaker_gateway.config import AdapterConfig

START_S = 120.0
_LOOK_S = 0.5
_ANYWHERE, _HERE = "0.0.0.0", "127.0.0.1"  # noqa: S104 - what is replaced


@dataclass(frozen=True)
class LocalTask:
    """A task that runs.

    Attributes:
        url: Where Envoy answers, without `/v1`.
        definition: ARN of its task definition.
        ports: Port in the task to port on loopback.
        servers: Its processes.
    """

    url: str
    definition: str
    ports: Mapping[int, int]
    servers: Sequence[Server]

    def end(self) -> None:
        """Ends it as ECS does: Envoy before the adapter that it asks."""
        for server in reversed(self.servers):
            server.end()


@dataclass
class _Alterations:
    """What is other here than in the task."""

    folder: Path
    ports: dict[int, int] = field(default_factory=dict[int, int])
    paths: dict[str, str] = field(default_factory=dict[str, str])

    def port(self, number: int) -> int:
        return self.ports.setdefault(number, free_port())

    def text(self, text: str) -> str:
        # The longest first: one path may begin another.
        for path in sorted(self.paths, key=len, reverse=True):
            text = text.replace(path, self.paths[path])
        for here, there in self.ports.items():
            text = text.replace(f"{_HERE}:{here}/", f"{_HERE}:{there}/")
        return text

    def tree(self, tree: Any) -> Any:
        """A document in which every address is loopback and every port one that is free."""
        if isinstance(tree, dict):
            found: dict[str, Any] = {key: self.tree(value) for key, value in tree.items()}  # pyright: ignore
            if "port_value" in found:
                found["port_value"] = self.port(int(found["port_value"]))
                found["address"] = _HERE if found.get("address") == _ANYWHERE else found.get("address")
            return found
        if isinstance(tree, list):
            return [self.tree(one) for one in tree]  # pyright: ignore[reportUnknownVariableType]
        return self.text(tree) if isinstance(tree, str) else tree


class TaskRunner:
    """Runs the task of a service that is declared in the AWS double.

    Args:
        clients: Clients of the double.
        envoy: The program.
        runtime_url: The double of SageMaker's runtime API.
        credentials: What the double knows callers by.
        folder: For files and logs.
    """

    def __init__(
        self, clients: Clients, envoy: Path, runtime_url: str, credentials: Mapping[str, str], folder: Path
    ) -> None:
        self._clients = clients
        self._runtime_url = runtime_url
        # Masked copies of prompts go to the double too.
        s3: Any = clients("s3")
        self._told = {**credentials, "AWS_ENDPOINT_URL_S3": str(s3.meta.endpoint_url)}
        self._folder = folder
        self._programs = {"python3": sys.executable, "envoy": str(envoy)}

    def start(self, cluster: str, service: str) -> LocalTask:
        """Runs the service's task until its load balancer would send requests.

        Raises:
            ServerError: The service is not there, or a container does not do its work.
        """
        ecs: Any = self._clients("ecs")
        services = ecs.describe_services(cluster=cluster, services=[service])["services"]
        if not services:
            raise ServerError(f"there is no service {service} in ECS cluster {cluster}")
        name = services[0]["taskDefinition"]
        definition = ecs.describe_task_definition(taskDefinition=name)["taskDefinition"]
        containers = {one["name"]: one for one in definition["containerDefinitions"]}
        altered = _Alterations(self._folder / name.rpartition("/")[2].replace(":", "-"))
        for container in containers.values():
            for mount in container.get("mountPoints", []):
                folder = altered.folder / mount["sourceVolume"]
                folder.mkdir(parents=True, exist_ok=True)
                altered.paths[mount["containerPath"]] = str(folder)
        running: list[Server] = []
        try:
            for container in _in_order(containers):
                self._run(container, altered, running)
            port = self._balanced(services[0]["loadBalancers"][0], altered)
        except BaseException:
            for server in reversed(running):
                server.end()
            raise
        return LocalTask(f"http://{_HERE}:{port}", name, dict(altered.ports), tuple(running))

    def _run(self, container: Mapping[str, Any], altered: _Alterations, running: list[Server]) -> None:
        name = container["name"]
        given = {one["name"]: one["value"] for one in container.get("environment", [])}
        given = {key: self._altered(value, altered) for key, value in given.items()}
        given |= {one["name"]: self._secret(one["valueFrom"]) for one in container.get("secrets", [])}
        program, *rest = [*container["entryPoint"], *container["command"]]
        command = [self._programs[program], *map(altered.text, rest)]
        base = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
        environment = {**base, "PYTHONPATH": str(PROJECT), **self._told, **given}
        log = altered.folder / f"{name}.log"
        if not container["essential"]:
            done = subprocess.run(
                command, env=environment, cwd=altered.folder, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise ServerError(f"container {name} ended with {done.returncode}: {done.stderr.strip()}")
            return
        running.append(Server(command, environment, log, altered.folder))
        if check := container.get("healthCheck"):
            _, asked, *arguments = check["command"]
            command = [self._programs[asked], *map(altered.text, arguments)]
            _until(
                lambda: subprocess.run(command, capture_output=True, check=False).returncode == 0,
                f"container {name} is not healthy; its log: {log}",
            )

    def _altered(self, text: str, altered: _Alterations) -> str:
        """A configuration that travels in the environment: Envoy's are YAML, the adapter's is JSON."""
        document: dict[str, Any] = yaml.safe_load(text)
        if "models" in document:
            told = AdapterConfig.model_validate_json(text)
            here = {
                "listen_port": altered.port(told.listen_port),
                "metrics_port": altered.port(told.metrics_port),
                "metrics_host": _HERE,
                "runtime_url": self._runtime_url,
            }
            return told.model_copy(update=here).model_dump_json(by_alias=True)
        return json.dumps(altered.tree(document))

    def _secret(self, arn: str) -> str:
        """The value that ECS would put in: `ARN:KEY:STAGE:VERSION`, all but the first may be empty."""
        name, key, stage, version = (*arn.split(":")[:7], *arn.split(":")[7:10], "", "", "")[6:10]
        wanted = {"VersionId": version} if version else {"VersionStage": stage} if stage else {}
        secret = ":".join([*arn.split(":")[:6], name])
        client: Any = self._clients("secretsmanager")
        text = str(client.get_secret_value(SecretId=secret, **wanted)["SecretString"])
        return str(json.loads(text)[key]) if key else text

    def _balanced(self, target: Mapping[str, Any], altered: _Alterations) -> int:
        """Waits as the target group does, and returns the port on loopback that it sends requests to."""
        client: Any = self._clients("elbv2")
        found = client.describe_target_groups(TargetGroupArns=[target["targetGroupArn"]])["TargetGroups"][0]
        port = found["HealthCheckPort"]
        checked = altered.port(int(target["containerPort"] if port == "traffic-port" else port))
        path = found.get("HealthCheckPath") or "/"
        _until(lambda: answers(checked, path), f"Envoy does not answer {path} of port {checked}")
        return altered.port(int(target["containerPort"]))


def _in_order(containers: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Every container after those that it depends on."""
    ordered: dict[str, Mapping[str, Any]] = {}

    def add(name: str) -> None:
        for needed in containers[name].get("dependsOn", []):
            if needed["containerName"] not in ordered:
                add(needed["containerName"])
        ordered.setdefault(name, containers[name])

    for name in containers:
        add(name)
    return list(ordered.values())


def _until(done: Callable[[], bool], why: str) -> None:
    deadline = time.monotonic() + START_S
    while not done():
        if time.monotonic() > deadline:
            raise ServerError(f"after {START_S:.0f} s {why}")
        time.sleep(_LOOK_S)
