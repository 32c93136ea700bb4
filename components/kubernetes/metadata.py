"""The metadata that every Kubernetes object of a platform carries."""

from collections.abc import Mapping

import pulumi
import pulumi_kubernetes as kubernetes

from components.naming import labels

# By itself the provider draws a new field manager for each creation. A creation that was interrupted
# and is tried again then conflicts with its own first half, and with an operator that wrote to it.
_FIELD_OWNERSHIP = {"pulumi.com/patchFieldManager": "spillway", "pulumi.com/patchForce": "true"}


def object_meta(
    platform: str,
    component: str,
    name: str,
    *,
    namespace: str | None = None,
    extra_labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, pulumi.Input[str]] | None = None,
) -> kubernetes.meta.v1.ObjectMetaArgsDict:
    """Metadata with the platform's labels and a fixed name: previews then show the name that will exist."""
    meta: kubernetes.meta.v1.ObjectMetaArgsDict = {
        "name": name,
        "labels": {**labels(platform, component), **(extra_labels or {})},
        "annotations": {**_FIELD_OWNERSHIP, **(annotations or {})},
    }
    if namespace is not None:
        meta["namespace"] = namespace
    return meta


def pod_security_labels(level: str = "restricted") -> dict[str, str]:
    """Namespace labels of Kubernetes' Pod Security admission."""
    return {f"pod-security.kubernetes.io/{mode}": level for mode in ("enforce", "warn", "audit")}
