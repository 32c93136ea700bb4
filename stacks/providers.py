"""Explicit providers: nothing in a program falls back to whatever the shell happens to point at."""

import pulumi_kubernetes as kubernetes
import pulumi_random as random

from stacks.cluster import context_name, kubeconfig_path
from stacks.settings import ClusterSettings


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
