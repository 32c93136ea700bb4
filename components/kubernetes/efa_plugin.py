"""AWS' device plugin for Elastic Fabric Adapters: without it, nodes offer none of theirs to pods."""

from dataclasses import dataclass

import pulumi

from components.base import Component
from components.kubernetes.chart import Chart, ReleaseIn, release

_NAMESPACE = "kube-system"


@dataclass(frozen=True, kw_only=True)
class EfaPluginArgs:
    """Arguments of EfaPlugin.

    Attributes:
        chart: Where the chart comes from.
        image: Image as REPOSITORY:TAG.
        node_label: Label of the nodes by which their group is known.
        groups: Names of the groups whose nodes have adapters.
        taint: Key of the taint of GPU nodes.
    """

    chart: Chart
    image: str
    node_label: str
    groups: tuple[str, ...]
    taint: str


class EfaPlugin(Component):
    """The plugin as a DaemonSet on nodes of some groups. The chart runs it as root on the host's network."""

    def __init__(self, name: str, args: EfaPluginArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        declared = {"chart": args.chart.chart, "version": args.chart.version, "groups": list(args.groups)}
        super().__init__("kubernetes:EfaPlugin", name, declared, opts)
        repository, _, tag = args.image.rpartition(":")
        values: dict[str, pulumi.Input[object]] = {
            "image": {"repository": repository, "tag": tag},
            # The chart's own list is of instance types, and has not all of them.
            "supportedInstanceLabels": {"keys": [args.node_label], "values": list(args.groups)},
            "tolerations": [{"key": args.taint, "operator": "Exists", "effect": "NoSchedule"}],
        }
        release(
            name,
            args.chart,
            ReleaseIn(name="aws-efa-k8s-device-plugin", namespace=_NAMESPACE, values=values),
            self.child(),
        )
        self.finish(namespace=_NAMESPACE)
