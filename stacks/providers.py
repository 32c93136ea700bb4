"""Explicit providers: nothing in a program falls back to whatever the shell happens to point at."""

from dataclasses import dataclass
from typing import Self

import pulumi_kubernetes as kubernetes
import pulumi_random as random

from stacks.cluster import context_name, kubeconfig_path
from stacks.settings import ClusterSettings


@dataclass(frozen=True, kw_only=True)
class Providers:
    """The providers of the on-prem side.

    Attributes:
        cluster: Its Kubernetes cluster.
        generated: Generated keys and tokens.
    """

    cluster: kubernetes.Provider
    generated: random.Provider

    @classmethod
    def of(cls, cluster: ClusterSettings) -> Self:
        """Declares both."""
        return cls(cluster=kubernetes_provider("cluster", cluster), generated=random_provider())


def kubernetes_provider(name: str, cluster: ClusterSettings) -> kubernetes.Provider:
    """The provider of one cluster, whose kubeconfig `stacks.cluster` has read before."""
    return kubernetes.Provider(
        name,
        kubeconfig=str(kubeconfig_path(cluster)),
        context=context_name(cluster),
        # Edits of ConfigMaps and Secrets stay edits: Envoy watches the mounted files.
        enable_config_map_mutable=True,
        enable_secret_mutable=True,
    )


def random_provider() -> random.Provider:
    """The provider of generated keys and tokens."""
    return random.Provider("random")
