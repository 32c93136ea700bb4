"""ControllerConfig: what the burst controller is told by `pulumi up`, as one JSON file in its ConfigMap."""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from runtime.burst.fleet import BurstModel, Fleet, NodeGroup
from runtime.burst.policy import BurstPolicy
from runtime.model import Spec

Armed = Mapping[str, tuple[str, ...]]
"""Model name to what has been verified for it in the cloud: a digest for each version of it that is there."""

CONFIG_FILE = Path("/etc/spillway/burst/config.json")


class ConfigError(Exception):
    """A file that is no configuration of the controller; the text says why."""


class GroupConfig(Spec):
    """One GPU node group of the EKS side, as `Fleet` needs it."""

    name: str = Field(description="Name, also the value of the nodes' label `spillway.dev/node-group`.")
    node_group: str = Field(
        description="Name of the EKS node group; cluster-autoscaler calls it `eks-NAME-UUID`."
    )
    max_nodes: int = Field(ge=0, description="Nodes at most.")
    usd_per_hour: float = Field(gt=0, description="On-demand price of one node.")
    devices: int = Field(ge=1, description="Accelerators of one node.")


class OnPremConfig(Spec):
    """What of a model runs on-prem, and where its state is read."""

    slots: int = Field(ge=1, description="Requests that one copy works on at a time.")
    queue: int = Field(ge=0, description="Requests that may wait for all copies.")
    serving: Literal["ray", "plain"] = Field(description="Whether Ray serves it, or vLLM by itself.")
    dashboard: str = Field(default="", description="URL of the Ray head's dashboard; empty without Ray.")
    metrics_host: str = Field(description="Name that resolves to all its pods.")
    metrics_port: int = Field(ge=1, le=65535, description="Port of their metrics.")
    application: str = Field(default="", description="Serve application, with Ray.")
    deployment: str = Field(default="", description="Serve deployment, with Ray.")


class CloudConfig(Spec):
    """What of a model runs on EKS, and where it is set."""

    group: str = Field(description="Node group of its replicas.")
    max_replicas: int = Field(ge=1, description="Replicas at most.")
    slots: int = Field(ge=1, description="Requests that one replica works on at a time.")
    queue: int = Field(ge=0, description="Requests that may wait there when all replicas are full.")
    devices_per_pod: int = Field(ge=1, description="Accelerators of one pod.")
    pods_per_replica: int = Field(ge=1, description="Pods of one replica.")
    namespace: str = Field(description="Namespace of the RayService on EKS.")
    service: str = Field(description="Service of the Ray head there.")
    port: int = Field(default=8265, ge=1, le=65535, description="The dashboard's port.")
    application: str = Field(description="Serve application.")
    deployment: str = Field(description="Serve deployment that is scaled.")
    staged: str = Field(description="What must have been staged and verified before it may spill.")


class ModelConfig(Spec):
    """One model that may spill."""

    name: str = Field(description="Its name.")
    model_id: str = Field(description="The id that clients send, by which the gateway's metrics know it.")
    on_prem: OnPremConfig = Field(description="On-prem.")
    cloud: CloudConfig = Field(description="On EKS.")


class ControllerConfig(Spec):
    """Everything that the controller needs beside the objects whose names are here."""

    platform: str = Field(description="The platform's name.")
    namespace: str = Field(description="The controller's own namespace, on-prem.")
    lease: str = Field(description="Name of the Lease that one of the controller's pods holds.")
    state: str = Field(description="Name of the ConfigMap with what it remembers.")
    policy: BurstPolicy = Field(description="The stack's `burst`.")
    groups: tuple[GroupConfig, ...] = Field(description="Node groups.")
    models: tuple[ModelConfig, ...] = Field(description="Models.")
    gateway_host: str = Field(description="Name that resolves to all pods of the gateway.")
    gateway_port: int = Field(ge=1, le=65535, description="Port of their metrics.")
    kubeconfig: str = Field(description="File with the access to the EKS API server.")
    ray_token: str = Field(description="File with Ray's token on EKS.")
    on_prem_ray_token: str = Field(description="File with Ray's token on-prem.")
    listen_port: int = Field(default=8080, ge=1, le=65535, description="Port of metrics and health.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        # Raises ValueError if a model names a group that is not there.
        self.fleet({}, {})
        return self

    def fleet(self, armed: Armed, running: Mapping[str, int]) -> Fleet:
        """What may be used, given what has been staged: a model without its weights there gets no replica.

        Args:
            armed: What was verified.
            running: Model name to the replicas that it was given before; it may keep these.
        """
        groups = {
            group.name: NodeGroup(
                name=group.name,
                max_nodes=group.max_nodes,
                usd_per_hour=Decimal(str(group.usd_per_hour)),
                devices=group.devices,
            )
            for group in self.groups
        }
        models = {
            model.name: BurstModel(
                name=model.name,
                group=model.cloud.group,
                max_replicas=model.cloud.max_replicas
                if is_armed(model, armed)
                else min(model.cloud.max_replicas, running.get(model.name, 0)),
                slots=model.cloud.slots,
                queue=model.cloud.queue,
                devices_per_pod=model.cloud.devices_per_pod,
                pods_per_replica=model.cloud.pods_per_replica,
                # The second Ray cluster of an upgrade begins with no copy and gets one from us alone. That it
                # is there is a signal; nothing need be kept free for it all the time.
                surge=1,
            )
            for model in self.models
        }
        return Fleet(groups, models)


def is_armed(model: ModelConfig, armed: Armed) -> bool:
    """Whether exactly what the model needs in the cloud has been verified there."""
    return model.cloud.staged in armed.get(model.name, ())


def read_config(file: Path) -> ControllerConfig:
    """Reads the controller's file.

    Raises:
        ConfigError: It is missing or is not what `pulumi up` writes.
    """
    try:
        return ControllerConfig.model_validate_json(file.read_text())
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}; name it with --config") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{file}: {place}: {first['msg']}; run `pulumi up`, which writes it") from None
