"""Says of an object that does not go: who holds it, who should let it go, and what is safe to do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.cluster import plural
from runtime.ops.deletions import ObjectReference

_OPERATOR = "the KubeRay operator, once what belongs to the object is gone"
_BALANCERS = "the AWS Load Balancer Controller, once its load balancer is deleted"


@dataclass(frozen=True)
class _Holder:
    """Who removes a finalizer, and the command that shows whether they live."""

    who: str
    look: str


# Finalizers of what a platform declares or what its clusters add (the projects' sources and documents).
_HOLDERS: Mapping[str, _Holder] = {
    "ray.io/rayservice-finalizer": _Holder(_OPERATOR, "kubectl -n kuberay-system get pods"),
    "ray.io/rayjob-finalizer": _Holder(_OPERATOR, "kubectl -n kuberay-system get pods"),
    "ray.io/gcs-ft-redis-cleanup-finalizer": _Holder(_OPERATOR, "kubectl -n kuberay-system get pods"),
    "kubernetes.io/pvc-protection": _Holder(
        "the control plane, once no pod uses the claim", "kubectl get pods -A -o wide"
    ),
    "kubernetes.io/pv-protection": _Holder(
        "the control plane, once no claim is bound to the volume", "kubectl get pvc -A"
    ),
    "external-provisioner.volume.kubernetes.io/finalizer": _Holder(
        "the volume's CSI driver, once the disk is deleted", "kubectl -n kube-system get pods"
    ),
    "service.kubernetes.io/load-balancer-cleanup": _Holder(
        "the cloud's service controller, once the load balancer is deleted", "kubectl -n kube-system get pods"
    ),
    "service.k8s.aws/resources": _Holder(_BALANCERS, "kubectl -n kube-system get pods"),
    "ingress.k8s.aws/resources": _Holder(_BALANCERS, "kubectl -n kube-system get pods"),
    "elbv2.k8s.aws/resources": _Holder(_BALANCERS, "kubectl -n kube-system get pods"),
    "karpenter.sh/termination": _Holder(
        "Karpenter, once the nodes are drained and their instances ended", "kubectl get nodeclaims,nodes"
    ),
    "foregroundDeletion": _Holder(
        "the garbage collector, once everything that the object owns is gone", "kubectl get all -A"
    ),
}


def explain(one: ObjectReference, metadata: Mapping[str, Any], conditions: Sequence[str] = ()) -> str:
    """Why an object does not go, in one line: who holds it, what shows more, and the last resort.

    Args:
        one: The object.
        metadata: Its metadata, with a deletion timestamp.
        conditions: What a namespace says of the contents that remain.
    """
    finalizers = [str(name) for name in metadata.get("finalizers") or ()]
    if one.kind == "Namespace" and not finalizers:
        remains = "; ".join(conditions) or "it does not say what remains in it"
        return (
            f"{one} stays Terminating: {remains}; remove what remains, not the namespace's finalizer: "
            f"kubectl get namespace {one.name} -o jsonpath='{{.status.conditions}}'"
        )
    place = f" -n {one.namespace}" if one.namespace else ""
    if not finalizers:
        return (
            f"{one} is being deleted and its pods still end: kubectl{place} describe {_kind(one)} {one.name}"
        )
    parts: list[str] = []
    for name in finalizers:
        holder = _HOLDERS.get(name) or _Holder(
            f"the controller of {name.partition('/')[0]}" if "/" in name else "its controller",
            f"kubectl{place} describe {_kind(one)} {one.name}",
        )
        parts.append(f"finalizer {name} is removed by {holder.who} (see: {holder.look})")
    patch = f"kubectl{place} patch {_kind(one)} {one.name} --type=merge"
    return (
        f"{one} is held: {'; '.join(parts)}. Bring that back and run the same command again. Only if it "
        f"cannot be had, and nothing of the object runs any more: {patch} "
        """-p '{"metadata":{"finalizers":null}}'"""
    )


def _kind(one: ObjectReference) -> str:
    group, slash, _ = one.api_version.partition("/")
    return f"{plural(one.kind)}.{group}" if slash and "." in group else plural(one.kind)
