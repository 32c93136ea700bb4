"""Asks a Kubernetes cluster: what is there before Pulumi changes anything, and what the controllers need."""

from runtime.cluster.api import (
    ClusterApi,
    ClusterError,
    ConflictError,
    ForbiddenError,
    Objects,
    UnreachableError,
    object_path,
    plural,
    told,
)
from runtime.cluster.kubeconfig import (
    Access,
    ExecPlugin,
    KubeconfigError,
    read_kubeconfig,
    read_service_account,
)
from runtime.cluster.kuberay import kuberay_problem

__all__ = [
    "Access",
    "ClusterApi",
    "ClusterError",
    "ConflictError",
    "ExecPlugin",
    "ForbiddenError",
    "KubeconfigError",
    "Objects",
    "UnreachableError",
    "kuberay_problem",
    "object_path",
    "plural",
    "read_kubeconfig",
    "read_service_account",
    "told",
]
