"""What a look for leftovers found: each thing with id, size and price, and what could not be asked."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from runtime.pricing import price_of

State = Literal["left", "ending"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is still there.

    Attributes:
        kind: What it is, such as `volume`.
        id: What AWS or the cluster calls it.
        where: Account and region, or cluster.
        detail: Size, type, state, for a reader.
        state: `left`, or `ending` where it goes by itself and nothing is paid for it any more.
        billed: Whether something is paid for its being there.
        price_item: What `runtime.pricing` calls it, if it may know a price.
        amount: How many of that.
        region: Region of the price.
    """

    kind: str
    id: str
    where: str
    detail: str = ""
    state: State = "left"
    billed: bool = True
    price_item: str | None = None
    amount: Decimal = Decimal(1)
    region: str = ""

    @property
    def usd_per_hour(self) -> Decimal | None:
        """What it costs by the hour; 0 where nothing is paid, None where no price is known here."""
        if not self.billed or self.state == "ending":
            return Decimal(0)
        if self.price_item is None:
            return None
        price = price_of(self.price_item, self.region).usd_per_hour
        return None if price is None else price * self.amount

    @property
    def price_words(self) -> str:
        """The price for a reader."""
        if not self.billed or self.state == "ending":
            return "not billed"
        usd = self.usd_per_hour
        return "unpriced" if usd is None else f"${usd.quantize(Decimal('0.0001')).normalize():f}/h"

    @property
    def words(self) -> str:
        """One line for a reader."""
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.kind} {self.id}{detail} in {self.where}: {self.price_words}"


@dataclass(frozen=True, kw_only=True)
class Look:
    """One question that was asked, and what came of it.

    Attributes:
        service: Whom, such as `ec2` or `cluster eks`.
        where: Account and region, or cluster.
        query: What was asked.
        findings: What is there.
        problem: Why it could not be asked; empty where it was. Nothing is proven then.
        said: What was answered instead of a list, such as that the cluster is gone.
    """

    service: str
    where: str
    query: str
    findings: tuple[Finding, ...] = ()
    problem: str = ""
    said: str = ""

    @property
    def words(self) -> str:
        """One line for a reader."""
        if self.problem:
            return f"{self.service} {self.query} in {self.where}: could not be checked, {self.problem}"
        found = self.said or (f"{len(self.findings)} found" if self.findings else "nothing")
        return f"{self.service} {self.query} in {self.where}: {found}"


@dataclass(frozen=True)
class Sweep:
    """One look at everything.

    Attributes:
        at: When, as ISO 8601 in UTC.
        looks: Every question with its answer.
        resources_in_state: What Pulumi's state still holds; None where it could not be read.
        pending: Operations that the state says were begun and not finished.
        problems: What the teardown itself could not do.
    """

    at: str
    looks: tuple[Look, ...] = ()
    resources_in_state: int | None = 0
    pending: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def left(self) -> list[Finding]:
        """What is there and should not be, each thing once: the dearest first, then what has no price."""
        left = [one for one in _once(self.looks) if one.state == "left"]
        return sorted(left, key=lambda one: (not one.billed, -(one.usd_per_hour or 0)))

    @property
    def ending(self) -> list[Finding]:
        """What goes by itself."""
        return [one for one in _once(self.looks) if one.state == "ending"]

    @property
    def unproven(self) -> list[Look]:
        """What could not be looked at."""
        return [look for look in self.looks if look.problem]

    @property
    def clean(self) -> bool:
        """Whether everything was looked at and nothing is left."""
        return not (
            self.left or self.unproven or self.pending or self.problems or self.resources_in_state != 0
        )

    @property
    def usd_per_hour(self) -> Decimal:
        """What all that is left costs by the hour, of what has a price."""
        return sum((one.usd_per_hour or Decimal(0) for one in self.left), Decimal(0))


def _once(looks: Iterable[Look]) -> list[Finding]:
    found: dict[tuple[str, str, str], Finding] = {}
    for look in looks:
        for one in look.findings:
            found.setdefault((one.kind, one.where, one.id), one)
    return list(found.values())


@dataclass(frozen=True)
class Tags:
    """Tags of one thing in AWS, in either of the forms that services use."""

    of: Mapping[str, str] = field(default_factory=dict[str, str])

    @staticmethod
    def read(listed: Sequence[Mapping[str, str]] | Mapping[str, str] | None) -> "Tags":
        """Reads a list of keys and values, or a map."""
        if isinstance(listed, Mapping):
            return Tags(dict(listed))
        tags: dict[str, str] = {}
        for one in listed or ():
            key = one.get("Key") or one.get("key") or one.get("TagKey")
            if key:
                tags[key] = one.get("Value") or one.get("value") or one.get("TagValue") or ""
        return Tags(tags)
