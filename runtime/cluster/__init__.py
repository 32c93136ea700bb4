"""Reads a Kubernetes cluster, by a kubeconfig: what is there before Pulumi changes anything."""

from runtime.cluster.api import ClusterApi, ClusterError, ForbiddenError, UnreachableError, plural
from runtime.cluster.kubeconfig import Access, ExecPlugin, KubeconfigError, read_kubeconfig
from runtime.cluster.kuberay import kuberay_problem

__all__ = [
    "Access",
    "ClusterApi",
    "ClusterError",
    "ExecPlugin",
    "ForbiddenError",
    "KubeconfigError",
    "UnreachableError",
    "kuberay_problem",
    "plural",
    "read_kubeconfig",
]
