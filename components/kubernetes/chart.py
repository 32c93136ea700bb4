"""One Helm release of somebody else's chart, in a namespace that is there."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi
import pulumi_kubernetes as kubernetes


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Where a chart comes from.

    Attributes:
        chart: Name in `repository`, an OCI reference, or a path.
        repository: Helm repository, or None where `chart` is no name in one.
        version: Chart version.
    """

    chart: str
    repository: str | None
    version: str


@dataclass(frozen=True, kw_only=True)
class ReleaseIn:
    """How a chart is installed.

    Attributes:
        name: The release's name.
        namespace: An existing namespace.
        values: What differs from the chart's defaults.
    """

    name: str
    namespace: str
    values: Mapping[str, pulumi.Input[object]] = field(default_factory=dict[str, "pulumi.Input[object]"])


def release(name: str, chart: Chart, where: ReleaseIn, opts: pulumi.ResourceOptions) -> pulumi.Resource:
    """Declares the release; a failed first install is removed, so that the next `up` starts clean."""
    return kubernetes.helm.v3.Release(
        name,
        name=where.name,
        namespace=where.namespace,
        chart=chart.chart,
        version=chart.version,
        repository_opts=None if chart.repository is None else {"repo": chart.repository},
        values=dict(where.values),
        atomic=True,
        timeout=300,
        opts=opts,
    )
