"""What the burst controller remembers, in a ConfigMap: it survives a restart, and two writers do not mix.

Keys: `state` and `notes` are the leader's; `switch` is written by `python -m runtime.burst switch`,
`armed` by the staging of weights and images. The ConfigMap itself is made by `pulumi up`, and goes with it.
"""

import json
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from runtime.burst.config import Armed
from runtime.burst.leader import Cluster
from runtime.burst.policy import Switch
from runtime.burst.state import State, StateError
from runtime.cluster import ClusterError, ConflictError, object_path

STATE, NOTES, SWITCH, ARMED = "state", "notes", "switch", "armed"


class StoreError(Exception):
    """The ConfigMap could not be read or written; the text says why."""


class OvertakenError(StoreError):
    """Another controller has written its state meanwhile, so this one must not act any more."""


@dataclass(frozen=True)
class Kept:
    """What the ConfigMap holds.

    Attributes:
        state: The decision core's state.
        notes: What the leader said of itself: who it is, and what it misses.
        switch: The manual switch; None where nobody has used it, and the stack file's holds.
        armed: What was verified in the cloud.
        problems: What in it could not be understood.
    """

    state: State = field(default_factory=State)
    notes: str = ""
    switch: Switch | None = None
    armed: Armed = field(default_factory=dict[str, tuple[str, ...]])
    problems: tuple[str, ...] = ()


class Store:
    """One ConfigMap. For use from one thread.

    Args:
        cluster: Where it is.
        namespace: Its namespace.
        name: Its name.
    """

    def __init__(self, cluster: Cluster, namespace: str, name: str) -> None:
        self._cluster = cluster
        self._path = object_path("v1", "ConfigMap", namespace, name)
        self._version = ""
        self._state_text: str | None = None

    def load(self) -> Kept:
        """Reads everything.

        Raises:
            StoreError: It could not be read, is missing, or holds a state that must not be overwritten.
        """
        kept, self._version, self._state_text = self._read()
        return kept

    def save(self, state: State, notes: str) -> None:
        """Writes the leader's part. Call it before acting on a decision.

        The switch and what is armed may have been written meanwhile by others; they are left as they are.

        Raises:
            OvertakenError: The state there is not the one that was read or written last.
            StoreError: It could not be written; it may have been all the same.
        """
        text = state.to_json()
        try:
            self._write(text, notes)
        except ConflictError:
            expected = self._state_text
            _, self._version, there = self._read()
            if there not in {expected, text}:
                raise OvertakenError("another controller has written its state since; not acting") from None
            try:
                self._write(text, notes)
            except ClusterError as error:
                raise StoreError(f"the state could not be written: {error}") from None
        except ClusterError as error:
            raise StoreError(f"the state could not be written: {error}") from None

    def set_switch(self, switch: Switch | None) -> None:
        """Writes the manual switch; None takes it away, so that the stack file's holds again.

        Raises:
            StoreError: It could not be written.
        """
        text = None if switch is None else switch.model_dump_json(by_alias=True, exclude_none=True)
        self._merge({SWITCH: text})

    def arm(self, verified: Armed) -> None:
        """Writes what has been verified in the cloud, in place of what was there.

        While a new version of a model is rolled out, name the old one too: the controller that still runs
        knows only that one.

        Raises:
            StoreError: It could not be written.
        """
        self._merge({ARMED: json.dumps({name: list(what) for name, what in sorted(verified.items())})})

    def _merge(self, data: dict[str, Any]) -> None:
        try:
            if self._cluster.write("PATCH", self._path, {"data": data}) is None:
                raise StoreError(self._missing())
        except ClusterError as error:
            raise StoreError(f"{self._path} could not be written: {error}") from None

    def _write(self, text: str, notes: str) -> None:
        patch = {
            "metadata": {"resourceVersion": self._version},
            "data": {STATE: text, NOTES: notes},
        }
        written = self._cluster.write("PATCH", self._path, patch)
        if written is None:
            raise StoreError(self._missing())
        self._version, self._state_text = str(written["metadata"]["resourceVersion"]), text

    def _read(self) -> tuple[Kept, str, str]:
        try:
            found = self._cluster.get(self._path)
        except ClusterError as error:
            raise StoreError(f"the state could not be read: {error}") from None
        if found is None:
            raise StoreError(self._missing())
        data = cast("dict[str, str]", found.get("data") or {})
        text = data.get(STATE, "")
        try:
            state = State.from_json(text) if text else State()
        except StateError as error:
            raise StoreError(
                f"{error}; see {self._path}, and remove its key `{STATE}` to begin anew"
            ) from None
        problems: list[str] = []
        kept = Kept(
            state=state,
            notes=data.get(NOTES, ""),
            switch=_switch(data.get(SWITCH), problems),
            armed=_armed(data.get(ARMED), problems),
            problems=tuple(problems),
        )
        return kept, str(found["metadata"]["resourceVersion"]), text

    def _missing(self) -> str:
        return f"there is no ConfigMap at {self._path}; `pulumi up` makes it"


def _switch(text: str | None, problems: list[str]) -> Switch | None:
    if not text:
        return None
    try:
        return Switch.model_validate_json(text)
    except ValidationError as error:
        # What somebody wanted by hand and cannot be read is more likely "less" than "more".
        problems.append(f"the switch cannot be read and counts as off: {error.errors()[0]['msg']}")
        return Switch(mode="off")


def _armed(text: str | None, problems: list[str]) -> Armed:
    if not text:
        return {}
    try:
        return _ARMED.validate_json(text)
    except ValidationError as error:
        problems.append(f"what is armed cannot be read, so nothing is: {error.errors()[0]['msg']}")
        return {}


_ARMED: TypeAdapter[dict[str, tuple[str, ...]]] = TypeAdapter(dict[str, tuple[str, ...]])
