"""The KubeRay operator, installed by Helm. Its CRDs stay out of Pulumi's state."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from components.base import Component
from components.kubernetes.metadata import object_meta, pod_security_labels

RELEASE = "kuberay-operator"


@dataclass(frozen=True, kw_only=True)
class KubeRayOperatorArgs:
    """Arguments of KubeRayOperator.

    Attributes:
        platform: The platform's name.
        namespace: Namespace that the operator gets for itself.
        chart: Chart name in `repository`, or a path.
        repository: Helm repository, or None where `chart` is a path.
        version: Chart version.
        image: Operator image as REPOSITORY:TAG, or None for the chart's own.
        pull_secrets: Existing Secrets for the registry, in `namespace`.
        claim: Annotation that says whose the namespace is.
    """

    platform: str
    namespace: str
    chart: str
    repository: str | None
    version: str
    image: str | None
    pull_secrets: tuple[str, ...] = ()
    claim: Mapping[str, pulumi.Input[str]]


class KubeRayOperator(Component):
    """The operator's namespace, which nobody reaches into, and its Helm release.

    A release, not a rendered chart: Helm installs the CRDs beside the state. As typed resources they
    are megabytes that the engine logs on every run, most of the time of a preview (docs/adr/0003).
    """

    release: kubernetes.helm.v3.Release

    def __init__(
        self, name: str, args: KubeRayOperatorArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(
            "kubernetes:KubeRayOperator", name, {"chart": args.chart, "version": args.version}, opts
        )
        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata=object_meta(
                args.platform,
                "kuberay",
                args.namespace,
                extra_labels=pod_security_labels(),
                annotations=args.claim,
            ),
            opts=self.child(),
        )
        # Nobody has to reach the operator: it asks, it is not asked. Its node's probes are always let in.
        closed = kubernetes.networking.v1.NetworkPolicy(
            f"{name}-closed",
            metadata=object_meta(args.platform, "kuberay", "default-deny", namespace=args.namespace),
            spec={"pod_selector": {}, "policy_types": ["Ingress"]},
            opts=self.child(depends_on=[namespace]),
        )
        values: dict[str, object] = {}
        if args.image is not None:
            repository, _, tag = args.image.rpartition(":")
            values["image"] = {"repository": repository, "tag": tag}
        if args.pull_secrets:
            values["imagePullSecrets"] = [{"name": name} for name in args.pull_secrets]
        self.release = kubernetes.helm.v3.Release(
            name,
            name=RELEASE,
            namespace=args.namespace,
            chart=args.chart,
            version=args.version,
            repository_opts=None if args.repository is None else {"repo": args.repository},
            values=values,
            # A failed first install is removed, so that the next `up` starts clean.
            atomic=True,
            timeout=300,
            opts=self.child(depends_on=[namespace, closed]),
        )
        self.finish(namespace=args.namespace)
