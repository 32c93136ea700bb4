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
