"""The gateway's task on ECS: three containers that share files, as a pure function of what they are told.

`files` writes the configuration into volumes and ends; then the adapter starts, and when it is healthy Envoy.
Everything that they need is in the task definition, so the same definition can be run as local processes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from runtime.gateway import GatewayConfig, arguments, render
from runtime.gateway.document import Tree
from runtime.sagemaker_gateway.config import CONFIG_FILE, AdapterConfig

MAX_DEFINITION_BYTES: Final = 64 * 1024
"""Largest task definition, in bytes (ECS service quotas, "Task definition size limit")."""

ENVOY: Final = "envoy"
ADAPTER: Final = "adapter"
FILES: Final = "files"

STOP_S: Final = 120
"""Seconds between SIGTERM and SIGKILL, the most that Fargate allows."""

_KEYS_VARIABLE: Final = "API_KEYS"
_ADAPTER_VARIABLE: Final = "ADAPTER_CONFIG"
# `envoy` of the published image, and the user of Spillway's own images.
_ENVOY_USER: Final = "101:101"
_OWN_USER: Final = "65532:65532"
# Family, roles, volumes and tags, which are the request's too.
_AROUND_CONTAINERS_BYTES: Final = 4 * 1024
# As long as any that AWS makes: an ARN in a long region with a name of 64 characters, and a version.
_LONG_ARN: Final = "a" * 240


@dataclass(frozen=True, kw_only=True)
class GatewayTask:
    """What the containers of a gateway's task are told.

    Attributes:
        gateway: Envoy's configuration. Its upstreams are the adapter, on loopback.
        adapter: The adapter's configuration.
        gateway_image: Envoy's image.
        adapter_image: The image of the adapter and of `files`.
        region: AWS region of the logs.
        logs: Container to its log group.
    """

    gateway: GatewayConfig
    adapter: AdapterConfig
    gateway_image: str
    adapter_image: str
    region: str
    logs: Mapping[str, str]

    @property
    def volumes(self) -> dict[str, str]:
        """The task's volumes, each with the folder where it is mounted."""
        return {
            "envoy-config": self.gateway.config_folder,
            "envoy-keys": self.gateway.keys_folder,
            "adapter-config": str(PurePosixPath(CONFIG_FILE).parent),
        }

    def containers(self, keys_arn: str) -> str:
        """The containers as ECS takes them, as JSON.

        Args:
            keys_arn: ARN of one version of the secret with the API keys, a JSON object of client and key. It
                ends in `:::VERSION`, so that another key is another definition, which is rolled out.
        """
        return json.dumps([self._files(keys_arn), self._adapter(), self._envoy()])

    @property
    def definition_bytes(self) -> int:
        """Size of the task definition in bytes, a little more than it will be."""
        return len(self.containers(_LONG_ARN).encode()) + _AROUND_CONTAINERS_BYTES

    def _files(self, keys_arn: str) -> dict[str, Tree]:
        gateway, folders = self.gateway, self.volumes
        texts = {_variable(name): (name, text) for name, text in render(gateway).items()}
        told = {variable: text for variable, (_, text) in texts.items()}
        told[_ADAPTER_VARIABLE] = self.adapter.model_dump_json(by_alias=True, exclude_defaults=True)
        return {
            **self._container(FILES, self.adapter_image, _OWN_USER, writes=tuple(folders)),
            "essential": False,
            "entryPoint": ["python3", "-m", "runtime.sagemaker_gateway.files"],
            "command": [
                *(f"{variable}={gateway.config_folder}/{name}" for variable, (name, _) in texts.items()),
                f"{_ADAPTER_VARIABLE}={CONFIG_FILE}",
                "--keys",
                f"{_KEYS_VARIABLE}={gateway.keys_folder}",
            ],
            "environment": [{"name": name, "value": told[name]} for name in sorted(told)],
            "secrets": [{"name": _KEYS_VARIABLE, "valueFrom": keys_arn}],
        }

    def _adapter(self) -> dict[str, Tree]:
        health = f"http://127.0.0.1:{self.adapter.listen_port}/healthz"
        asks = f"import urllib.request as r; r.urlopen('{health}', timeout=2)"
        return {
            **self._container(ADAPTER, self.adapter_image, _OWN_USER, reads=("adapter-config",)),
            "essential": True,
            "entryPoint": ["python3", "-m", "runtime.sagemaker_gateway"],
            "command": [str(CONFIG_FILE)],
            "dependsOn": [{"containerName": FILES, "condition": "SUCCESS"}],
            "healthCheck": {
                "command": ["CMD", "python3", "-c", asks],
                "interval": 10,
                "timeout": 5,
                "retries": 3,
                "startPeriod": 30,
            },
        }

    def _envoy(self) -> dict[str, Tree]:
        gateway = self.gateway
        return {
            **self._container(ENVOY, self.gateway_image, _ENVOY_USER, reads=("envoy-config", "envoy-keys")),
            "essential": True,
            "entryPoint": ["envoy"],
            "command": list(arguments(gateway)),
            # On the way down ECS goes the other way: Envoy ends before the adapter that it asks.
            "dependsOn": [
                {"containerName": FILES, "condition": "SUCCESS"},
                {"containerName": ADAPTER, "condition": "HEALTHY"},
            ],
            "portMappings": [
                {"containerPort": port, "hostPort": port, "protocol": "tcp"}
                for port in (gateway.listen_port, gateway.metrics_port)
            ],
        }

    def _container(
        self,
        name: str,
        image: str,
        user: str,
        *,
        reads: tuple[str, ...] = (),
        writes: tuple[str, ...] = (),
    ) -> dict[str, Tree]:
        folders = self.volumes
        return {
            "name": name,
            "image": image,
            "user": user,
            "readonlyRootFilesystem": True,
            "privileged": False,
            "linuxParameters": {"capabilities": {"drop": ["ALL"]}},
            "mountPoints": [
                {"sourceVolume": one, "containerPath": folders[one], "readOnly": one in reads}
                for one in (*reads, *writes)
            ],
            "stopTimeout": STOP_S,
            "logConfiguration": {
                "logDriver": "awslogs",
                "options": {
                    "awslogs-group": self.logs[name],
                    "awslogs-region": self.region,
                    "awslogs-stream-prefix": name,
                    # Lines are lost before a request waits for CloudWatch.
                    "mode": "non-blocking",
                    "max-buffer-size": "8m",
                },
            },
        }


def _variable(file_name: str) -> str:
    return f"ENVOY_{file_name.partition('.')[0].upper()}"
