"""Explicit providers: nothing in a program falls back to whatever the shell happens to point at."""

import pulumi_kubernetes as kubernetes
import pulumi_random as random

from stacks.cluster import context_name, kubeconfig_path
from stacks.settings import ClusterSettings, SettingsError


def kubernetes_provider(name: str, cluster: ClusterSettings) -> kubernetes.Provider:
    """The provider of one cluster.

    Raises:
        SettingsError: If there is no kubeconfig at the place that the settings or KUBECONFIG name.
    """
    path = kubeconfig_path(cluster)
    if not path.is_file():
        raise SettingsError(
            f"spillway:platform.cluster.kubeconfig = {cluster.kubeconfig!r}: no kubeconfig at {path}; "
            "set the key, or KUBECONFIG, to an existing file (`make up` makes one for the embedded site)"
        )
    return kubernetes.Provider(
        name,
        kubeconfig=str(path),
        context=context_name(cluster),
        # Edits of ConfigMaps and Secrets stay edits: Envoy watches the mounted files.
        enable_config_map_mutable=True,
        enable_secret_mutable=True,
    )


def random_provider() -> random.Provider:
    """The provider of generated keys and tokens."""
    return random.Provider("random")
