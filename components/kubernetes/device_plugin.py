"""NVIDIA's device plugin on the EKS side: without it, GPU nodes offer no GPU to pods."""

from dataclasses import dataclass

import pulumi

from components.base import Component
from components.kubernetes.chart import Chart, ReleaseIn, release

_NAMESPACE = "kube-system"


@dataclass(frozen=True, kw_only=True)
class DevicePluginArgs:
    """Arguments of DevicePlugin.

    Attributes:
        chart: Where the chart comes from.
        image: Image as REPOSITORY:TAG, or None for the chart's own.
        node_label: Label that all GPU nodes carry, whatever its value.
        taint: Key of the taint of GPU nodes.
    """

    chart: Chart
    image: str | None
    node_label: str
    taint: str


class DevicePlugin(Component):
    """The plugin as a DaemonSet on nodes with the label. The driver is in their image (AL2023 NVIDIA)."""

    def __init__(self, name: str, args: DevicePluginArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            "kubernetes:DevicePlugin",
            name,
            {"chart": args.chart.chart, "version": args.chart.version},
            opts,
        )
        required = {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": args.node_label, "operator": "Exists"}]}]
        }
        values: dict[str, pulumi.Input[object]] = {
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}},
            "tolerations": [{"key": args.taint, "operator": "Exists", "effect": "NoSchedule"}],
        }
        if args.image is not None:
            repository, _, tag = args.image.rpartition(":")
            values["image"] = {"repository": repository, "tag": tag}
        release(
            name,
            args.chart,
            ReleaseIn(name="nvidia-device-plugin", namespace=_NAMESPACE, values=values),
            self.child(),
        )
        self.finish(namespace=_NAMESPACE)
