"""The output contract: what every scenario exports, under the same names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi


@dataclass(frozen=True, kw_only=True)
class ClusterOutputs:
    """What a user or a pipeline needs of the EKS cluster.

    Attributes:
        name: Its name.
        kubeconfig: How to reach it, without secrets.
        entrance: HOST:PORT of the load balancer in each zone.
    """

    name: pulumi.Output[str]
    kubeconfig: pulumi.Output[str]
    entrance: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class CloudOutputs:
    """What a user or a pipeline needs of the AWS side.

    Attributes:
        region: The region.
        bucket: Where weights are staged.
        repositories: Path of each staged image to its ECR repository.
        staging: What `make stage` has to bring over.
        cluster: The EKS cluster, where it is declared.
    """

    region: str
    bucket: pulumi.Output[str]
    repositories: Mapping[str, pulumi.Output[str]]
    staging: Mapping[str, object]
    cluster: ClusterOutputs | None = None

    def export(self) -> None:
        """Writes the outputs that only a stack with an AWS side has."""
        if self.cluster is not None:
            pulumi.export("cloudCluster", self.cluster.name)
            pulumi.export("cloudKubeconfig", self.cluster.kubeconfig)
            pulumi.export("cloudEntrance", list(self.cluster.entrance))
        pulumi.export("cloudRegion", self.region)
        pulumi.export("cloudBucket", self.bucket)
        pulumi.export("cloudRepositories", dict(self.repositories))
        pulumi.export("cloudStaging", dict(self.staging))


@dataclass(frozen=True, kw_only=True)
class PlatformOutputs:
    """What a user or a pipeline needs to use the platform.

    Attributes:
        endpoint: Base URL of the OpenAI-style API, without `/v1`.
        models: Model ids that it serves, the first one also as `model`.
        api_keys: Client name to API key, the first client's also as `apiKey`; secret.
        api_key_secret: Where the keys are in the cluster, as NAMESPACE/NAME.
        namespace: Kubernetes namespace of the platform.
        cloud: The AWS side, where there is one.
    """

    endpoint: pulumi.Output[str]
    models: Sequence[str]
    api_keys: Mapping[str, pulumi.Output[str]]
    api_key_secret: str
    namespace: str
    cloud: CloudOutputs | None = None

    def export(self) -> None:
        """Writes the stack's outputs."""
        pulumi.export("endpoint", self.endpoint)
        pulumi.export("model", self.models[0])
        pulumi.export("models", list(self.models))
        pulumi.export("apiKey", pulumi.Output.secret(next(iter(self.api_keys.values()))))
        pulumi.export("apiKeys", pulumi.Output.secret(pulumi.Output.all(**self.api_keys)))
        pulumi.export("apiKeySecret", self.api_key_secret)
        pulumi.export("namespace", self.namespace)
        if self.cloud is not None:
            self.cloud.export()


@dataclass(frozen=True, kw_only=True)
class GatewayOutputs:
    """What a user or a pipeline needs of a gateway in front of endpoints; as of a platform's.

    Attributes:
        endpoint: Base URL of the OpenAI-style API, without `/v1`.
        load_balancer: DNS name of its load balancer, which the name in `endpoint` must lead to.
        models: Model ids that it serves, the first one also as `model`.
        api_keys: Client name to API key, the first client's also as `apiKey`; secret.
        api_key_secret: ARN of the secret that the keys are in.
    """

    endpoint: pulumi.Output[str]
    load_balancer: pulumi.Output[str]
    models: Sequence[str]
    api_keys: Mapping[str, pulumi.Output[str]]
    api_key_secret: pulumi.Output[str]

    def export(self) -> None:
        """Writes the outputs, under the names that a platform with a cluster has for them."""
        pulumi.export("endpoint", self.endpoint)
        pulumi.export("loadBalancer", self.load_balancer)
        pulumi.export("model", self.models[0])
        pulumi.export("models", list(self.models))
        pulumi.export("apiKey", pulumi.Output.secret(next(iter(self.api_keys.values()))))
        pulumi.export("apiKeys", pulumi.Output.secret(pulumi.Output.all(**self.api_keys)))
        pulumi.export("apiKeySecret", self.api_key_secret)


@dataclass(frozen=True, kw_only=True)
class HostedOutputs:
    """What a gateway or a pipeline needs of one endpoint.

    Attributes:
        name: What SageMaker calls it.
        models: Model ids that it serves.
        components: Model id to inference component, where machines are shared; a request names it.
        streams: Whether answers can be streamed.
        asynchronous: Whether requests wait in the bucket, in place of live ones.
    """

    name: pulumi.Output[str]
    models: Sequence[str]
    components: Mapping[str, str]
    streams: bool
    asynchronous: bool


@dataclass(frozen=True, kw_only=True)
class EndpointOutputs:
    """What a user, a gateway or a pipeline needs of a stack with SageMaker endpoints.

    Attributes:
        region: The region.
        bucket: Where weights are staged.
        prompts_bucket: Where prompts and answers lie, if any are kept.
        repositories: Path of each staged image to its ECR repository.
        staging: What `make stage` has to bring over.
        topic: ARN of the topic for alerts.
        endpoints: The endpoints by their name in the stack file.
        gateway: The gateway in front of them, if there is one.
    """

    region: str
    bucket: pulumi.Output[str]
    prompts_bucket: pulumi.Output[str] | None
    repositories: Mapping[str, pulumi.Output[str]]
    staging: Mapping[str, object]
    topic: pulumi.Output[str]
    endpoints: Mapping[str, HostedOutputs]
    gateway: GatewayOutputs | None = None

    def export(self) -> None:
        """Writes the stack's outputs; those about the cloud have the names that a hybrid stack's have."""
        if self.gateway is None:
            served = {model for one in self.endpoints.values() for model in one.models}
            pulumi.export("models", sorted(served))
        else:
            self.gateway.export()
        pulumi.export(
            "endpoints",
            {
                key: {
                    "name": one.name,
                    "models": list(one.models),
                    "components": dict(one.components),
                    "streams": one.streams,
                    "asynchronous": one.asynchronous,
                }
                for key, one in self.endpoints.items()
            },
        )
        pulumi.export("cloudRegion", self.region)
        pulumi.export("cloudBucket", self.bucket)
        pulumi.export("cloudRepositories", dict(self.repositories))
        pulumi.export("cloudStaging", dict(self.staging))
        pulumi.export("alertTopic", self.topic)
        if self.prompts_bucket is not None:
            pulumi.export("promptsBucket", self.prompts_bucket)
