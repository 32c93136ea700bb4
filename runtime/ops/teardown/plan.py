"""What a teardown would do, for a reader: from the state alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runtime.ops.teardown.ledger import Ledger, Resource


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        lines: What would go, what is kept and what would be lost.
        refused: Why it would be refused as it stands; empty where it would not.
    """

    lines: tuple[str, ...]
    refused: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """For a reader."""
        lines = [*self.lines, *(f"would be refused: {line}" for line in self.refused)]
        return "\n".join(lines or ["there is nothing to take down"])


def planned(ledger: Ledger, resources: Sequence[Resource], resumes: bool) -> Iterator[str]:
    """What will go and what will stay, from the state alone, for a reader."""
    if resumes:
        yield "an earlier run was begun and goes on"
    if ledger.tenure is not None:
        until = f", expires {ledger.tenure.expires}" if ledger.tenure.expires else ""
        yield f"owner {ledger.tenure.owner}, environment {ledger.tenure.environment}{until}"
    for cloud in ledger.clouds:
        clusters = f" with EKS cluster {', '.join(cloud.clusters)}" if cloud.clusters else ""
        yield f"AWS account {cloud.account} {cloud.region}{clusters}: {len(cloud.resources)} resources go"
    for site in ledger.sites:
        own = f", with namespace {', '.join(site.own)}" if site.own else ""
        yield f"cluster {site.name}: {len(site.objects)} objects go{own}"
    for one in resources:
        if one.protect:
            yield f"protected: {one.words}"
        if one.retained:
            yield f"kept by retainOnDelete: {one.words}"
