"""Which model and revision a SageMaker model serves, read back from what it was made with.

It is what `components.aws.hosted_model` declares: the folder of the weights ends with their revision, and the
container is told the model's name and how many requests it works on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.sagemaker.containers import told_at_once, told_name


@dataclass(frozen=True, kw_only=True)
class HostedRevision:
    """A model and the weights that answer for it.

    Attributes:
        model: What clients ask for; empty where the container is not told.
        revision: Last folder of the weights, or the digest of the image that they are in.
        at_once: Requests that one copy works on at a time; None where the container is not told.
        containers: Its containers, as SageMaker describes them.
    """

    model: str
    revision: str
    at_once: int | None
    containers: Sequence[Mapping[str, Any]]

    @staticmethod
    def read(described: Mapping[str, Any]) -> "HostedRevision":
        """Reads the answer of DescribeModel."""
        containers: list[Mapping[str, Any]] = list(described.get("Containers") or ())
        if described.get("PrimaryContainer"):
            containers = [described["PrimaryContainer"]]
        # In a pipeline the others are before and after it.
        own = next((one for one in containers if _is_told(one)), containers[0])
        environment: Mapping[str, str] = own.get("Environment") or {}
        return HostedRevision(
            model=told_name(environment),
            revision=_revision(own),
            at_once=told_at_once(environment),
            containers=containers,
        )


def _is_told(container: Mapping[str, Any]) -> bool:
    return bool(told_name(container.get("Environment") or {}))


def _revision(container: Mapping[str, Any]) -> str:
    source: Mapping[str, Any] = container.get("ModelDataSource") or {}
    uri = str(source.get("S3DataSource", {}).get("S3Uri", ""))
    if uri:
        return uri.rstrip("/").rpartition("/")[2]
    return str(container.get("Image", "")).partition("@")[2]
