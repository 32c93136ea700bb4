"""One model served by `vllm serve` without Ray: Deployment, Service and PodDisruptionBudget."""

from dataclasses import dataclass, field

import pulumi
import pulumi_kubernetes as kubernetes

from components.kubernetes.metadata import object_meta
from components.kubernetes.served_model import ServedModel
from runtime.model import ModelSpec
from runtime.serving.endpoint import endpoint_of
from runtime.serving.plain_vllm import deployment_spec, pod_labels
from runtime.surroundings import Surroundings


@dataclass(frozen=True, kw_only=True)
class PlainVLLMArgs:
    """Arguments of PlainVLLM.

    Attributes:
        platform: The platform's name.
        namespace: The platform's namespace.
        model: What to serve.
        image: The serving image, with vLLM.
        ready_timeout_s: How long a pod may take to load its model, in seconds.
        usd_per_gpu_hour: What one of its devices costs per hour on-prem, for estimates and policies; None
            where there is no rate.
        surroundings: Pull secrets, proxy, private CA and whether there is an internet.
    """

    platform: str
    namespace: str
    model: ModelSpec
    image: str
    ready_timeout_s: int
    usd_per_gpu_hour: str | None = None
    surroundings: Surroundings = field(default_factory=Surroundings)


class PlainVLLM(ServedModel):
    """A Deployment that the provider waits for until all its copies are ready."""

    deployment: kubernetes.apiextensions.CustomResource

    def __init__(self, name: str, args: PlainVLLMArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        model = args.model
        super().__init__("PlainVLLM", name, model, opts, args.usd_per_gpu_hour)
        endpoint = endpoint_of(model)
        # Every copy may load its model one after the other.
        timeout = f"{args.ready_timeout_s * (1 + model.replicas.max)}s"
        # By its rendered form, as a RayService is: the provider knows it for a Deployment by its type.
        self.deployment = kubernetes.apiextensions.CustomResource(
            name,
            api_version="apps/v1",
            kind="Deployment",
            metadata=object_meta(args.platform, "model", model.name, namespace=args.namespace),
            spec=deployment_spec(model, args.image, args.ready_timeout_s, args.surroundings),
            opts=self.child(
                depends_on=self.weights(args.platform, args.namespace, model),
                custom_timeouts=pulumi.CustomTimeouts(create=timeout, update=timeout, delete="15m"),
            ),
        )
        kubernetes.core.v1.Service(
            f"{name}-service",
            metadata=object_meta(args.platform, "model", endpoint.service, namespace=args.namespace),
            spec={
                "selector": pod_labels(model),
                "ports": [{"name": "http", "port": endpoint.port, "target_port": "http"}],
            },
            # After the Deployment: the provider waits for a Service until a pod is behind it.
            opts=self.child(depends_on=[self.deployment]),
        )
        kubernetes.policy.v1.PodDisruptionBudget(
            f"{name}-budget",
            metadata=object_meta(args.platform, "model", endpoint.service, namespace=args.namespace),
            # One at a time, also where there is only one: a budget that allows none would block every drain.
            spec={"max_unavailable": 1, "selector": {"match_labels": pod_labels(model)}},
            opts=self.child(),
        )
        self.finish(name=model.name)
