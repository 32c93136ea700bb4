"""Pods of the platform's own programs, Envoy and the serving check: restricted, without rights in the API."""

from collections.abc import Sequence

import pulumi_kubernetes as kubernetes


def restricted_container() -> kubernetes.core.v1.SecurityContextArgsDict:
    """What a container needs under restricted Pod Security, and a read-only root beside it."""
    return {
        "allow_privilege_escalation": False,
        "read_only_root_filesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def restricted_pod(
    user: int,
    container: kubernetes.core.v1.ContainerArgsDict,
    volumes: Sequence[kubernetes.core.v1.VolumeArgsDict],
    pull_secrets: Sequence[str],
) -> kubernetes.core.v1.PodSpecArgsDict:
    """A pod of one container under restricted Pod Security.

    Args:
        user: Numeric user and group that it runs as.
        container: The container.
        volumes: What it mounts.
        pull_secrets: Existing Secrets for the registry.
    """
    pod: kubernetes.core.v1.PodSpecArgsDict = {
        "automount_service_account_token": False,
        "security_context": {
            "run_as_non_root": True,
            "run_as_user": user,
            "run_as_group": user,
            "seccomp_profile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": list(volumes),
    }
    if pull_secrets:
        pod["image_pull_secrets"] = [{"name": secret} for secret in pull_secrets]
    return pod
