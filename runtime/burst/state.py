"""State: what the decision core remembers from one decision to the next. It survives a restart as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

VERSION = 1

Record = TypeVar("Record")


@dataclass(frozen=True, kw_only=True)
class Averages:
    """Exponentially weighted averages of one model's load.

    Attributes:
        at: Unix time of the newest sample.
        rate: Requests a second that come in, over half a minute.
        slow_rate: The same over a minute.
        load: Requests that are worked on, waiting ones not among them, over a minute.
        usual_load: The same over ten minutes.
        usual_rate: Requests let in a second, over ten minutes.
    """

    at: float
    rate: float
    slow_rate: float
    load: float
    usual_load: float
    usual_rate: float


@dataclass(frozen=True, kw_only=True)
class ModelState:
    """What is remembered of one model. Times are Unix seconds.

    Attributes:
        target: Replicas that were decided last.
        changed_at: When the target changed last.
        direction: 1 if it went up then, -1 if down, 0 if never.
        needed_at: When load last needed a replica; zero follows `zeroAfterSeconds` later.
        short_s: Seconds that a whole replica was short by the upper threshold, half of one counting half;
            None if nothing is short.
        in_samples: Times and replicas needed by the lower threshold: the most of them is kept.
        averages: Running averages of the load; None before the first look.
        asked_at: When replicas that are not ready yet were asked for; None if all are ready.
        asked_from: Replicas that were ready then.
        cold_start_s: The cold start as measured; None before the first.
        wanted: Replicas that were asked for by load, schedule or switch at the last decision.
        code: Reason of the last decision, for machines.
        reason: The same as a sentence.
    """

    target: int = 0
    changed_at: float | None = None
    direction: int = 0
    needed_at: float | None = None
    short_s: float | None = None
    in_samples: tuple[tuple[float, int], ...] = ()
    averages: Averages | None = None
    asked_at: float | None = None
    asked_from: int = 0
    cold_start_s: float | None = None
    wanted: int = 0
    code: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class GroupState:
    """What is remembered of one node group.

    Attributes:
        reserved: Nodes that money is set aside for, whether they exist yet or not.
        nodes: Nodes seen last; None before the first look.
        failures: Failed launches in a row.
        open_until: Until when the circuit is open; None if it is closed.
        back_off_s: How long it is open the next time; None for the first.
    """

    reserved: int = 0
    nodes: int | None = None
    failures: int = 0
    open_until: float | None = None
    back_off_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What one calendar month has cost.

    Attributes:
        node_hours: Node-hours.
        usd: USD at on-demand prices.
    """

    node_hours: float = 0.0
    usd: float = 0.0


@dataclass(frozen=True, kw_only=True)
class State:
    """Everything that is remembered.

    Attributes:
        version: Of this form; another one is refused.
        at: Unix time of the last decision; None before the first.
        models: By name.
        groups: By name.
        months: What was spent, by month such as `2026-11`; the latest few.
    """

    version: int = VERSION
    at: float | None = None
    models: Mapping[str, ModelState] = field(default_factory=dict[str, ModelState])
    groups: Mapping[str, GroupState] = field(default_factory=dict[str, GroupState])
    months: Mapping[str, Spent] = field(default_factory=dict[str, Spent])

    def to_json(self) -> str:
        """The state as one line of JSON."""
        return _ADAPTER.dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str) -> "State":
        """Reads what `to_json` wrote.

        Raises:
            StateError: It is not that, or of another version.
        """
        try:
            state = _ADAPTER.validate_json(text)
        except ValidationError as error:
            raise StateError(f"the burst state cannot be read: {error.errors()[0]['msg']}") from None
        if state.version != VERSION:
            raise StateError(f"the burst state has version {state.version}; this program reads {VERSION}")
        return state


def changed(record: Record, /, **values: object) -> Record:
    """A copy of a record of this module with other values: `dataclasses.replace`, several times as fast.

    A decision makes some copies for each model, and `replace` looks at every field and calls the constructor
    for each of them. This copies the fields at once; these records have no slots and check nothing.

    Raises:
        TypeError: The record has no such field.
    """
    fields = vars(record)
    if not values.keys() <= fields.keys():
        unknown = ", ".join(sorted(values.keys() - fields.keys()))
        raise TypeError(f"{type(record).__name__} has no field {unknown}")
    new = object.__new__(type(record))
    vars(new).update(fields, **values)
    return new


class StateError(ValueError):
    """A stored state that this program cannot go on with."""


_ADAPTER: TypeAdapter[State] = TypeAdapter(State)
