"""What must be so before anything is declared: a usable kubeconfig, and KubeRay where it is said to exist."""

import os
from pathlib import Path

from runtime.cluster import ClusterApi, ClusterError, KubeconfigError, kuberay_problem, read_kubeconfig
from stacks.settings import ClusterSettings, PlatformSettings, SettingsError


def kubeconfig_path(cluster: ClusterSettings) -> Path:
    """The kubeconfig that the settings or the environment name."""
    return Path(cluster.kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config").expanduser()


def context_name(cluster: ClusterSettings) -> str | None:
    """The context that the settings or the environment name, or None for the current one."""
    return cluster.context or os.environ.get("CONTEXT") or None


def connect(cluster: ClusterSettings) -> ClusterApi:
    """A reader of the cluster; it connects when it is first asked.

    Raises:
        SettingsError: The kubeconfig, its context or its credential plugin cannot be used.
    """
    try:
        return ClusterApi(read_kubeconfig(kubeconfig_path(cluster), context_name(cluster)))
    except KubeconfigError as error:
        raise SettingsError(f"spillway:platform.cluster: {error}") from None


def require_kuberay(api: ClusterApi, settings: PlatformSettings) -> None:
    """Looks for the KubeRay that `kuberay.install: existing` says is there.

    Raises:
        SettingsError: It is not, it is too old, it does not run, or the cluster cannot be read.
    """
    if settings.kuberay.install != "existing":
        return
    try:
        problem = kuberay_problem(api, settings.kuberay.namespace, settings.namespace)
    except ClusterError as error:
        problem = str(error)
    if problem is not None:
        raise SettingsError(f'spillway:platform.kuberay.install = "existing": {problem}')
