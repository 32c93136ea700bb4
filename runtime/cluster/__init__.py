"""Reads a Kubernetes cluster, by a kubeconfig: what is there before Pulumi changes anything."""

from runtime.cluster.api import (
    ClusterApi,
    ClusterError,
    ForbiddenError,
    Objects,
    UnreachableError,
    object_path,
    plural,
    told,
)
from runtime.cluster.kubeconfig import Access, ExecPlugin, KubeconfigError, read_kubeconfig
from runtime.cluster.kuberay import kuberay_problem

__all__ = [
    "Access",
    "ClusterApi",
    "ClusterError",
    "ExecPlugin",
    "ForbiddenError",
    "KubeconfigError",
    "Objects",
    "UnreachableError",
    "kuberay_problem",
    "object_path",
    "plural",
    "read_kubeconfig",
    "told",
]
