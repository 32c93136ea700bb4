"""Leader election by a Kubernetes Lease: of several controllers one acts, and stops before another begins.

Time is measured by each pod for itself: a candidate takes over when it has seen the Lease unchanged for
the Lease's duration, and a holder acts only while its own last renewal is younger than that. Clocks of two
machines are never compared (as in Kubernetes' client-go, tools/leaderelection).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, cast

from runtime.cluster import ClusterError, ConflictError, object_path

DURATION_S = 10
RENEW_S = 2.0

_API = "coordination.k8s.io/v1"


class Cluster(Protocol):
    """What is asked of a cluster: a ClusterApi, or a test's stand-in."""

    def get(self, path: str, accept: str = "application/json") -> dict[str, Any] | None:
        """Returns what is at a path, or None."""
        ...

    def write(
        self, method: Literal["POST", "PUT", "PATCH", "DELETE"], path: str, body: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Writes; None if there is nothing at the path."""
        ...


@dataclass
class _Seen:
    """A holder's renewal, and when it was seen first by this machine's clock."""

    renewal: tuple[str, str]
    at: float


class Leader:
    """One candidate for one Lease. Call `try_to_lead` every `RENEW_S` seconds, from one thread.

    Args:
        cluster: Where the Lease is. Its timeout must be well below `duration_s`.
        namespace: Namespace of the Lease.
        name: Name of the Lease; it must exist, with or without a holder.
        identity: This candidate, for example the pod's name.
        duration_s: How long a Lease holds without renewal, in seconds.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        name: str,
        identity: str,
        duration_s: int = DURATION_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._path = object_path(_API, "Lease", namespace, name)
        self.identity = identity
        self._duration_s = duration_s
        self._clock = clock
        self._renewed_at: float | None = None
        self._seen: _Seen | None = None
        self.holder = ""
        self.problem = ""

    def leads(self, for_s: float = 0.0) -> bool:
        """Whether nobody else can lead for so many seconds more."""
        return self._renewed_at is not None and self._clock() + for_s < self._renewed_at + self._duration_s

    def try_to_lead(self) -> bool:
        """Takes the Lease, keeps it, or learns who has it; whether this candidate leads now.

        A failed request changes nothing by itself: leadership then ends with the last renewal's duration.
        """
        # Before the request: the server may count from any moment after this one.
        started = self._clock()
        try:
            lease = self._cluster.get(self._path)
            if lease is None:
                self.problem = f"there is no Lease at {self._path}; `pulumi up` makes it"
                return self.leads()
            self._take(lease, started)
            self.problem = ""
        except ConflictError:
            # Somebody else was faster.
            self._renewed_at = None
        except ClusterError as error:
            self.problem = str(error)
        return self.leads()

    def resign(self) -> None:
        """Gives the Lease back, so that another one need not wait for its end."""
        if not self.leads():
            return
        self._renewed_at = None
        try:
            lease = self._cluster.get(self._path)
            if lease is not None and _text(_spec(lease), "holderIdentity") == self.identity:
                spec = {**_spec(lease), "holderIdentity": "", "renewTime": _now()}
                self._cluster.write("PUT", self._path, {**lease, "spec": spec})
        except ClusterError as error:
            self.problem = str(error)

    def _take(self, lease: dict[str, Any], started: float) -> None:
        spec = _spec(lease)
        self.holder = _text(spec, "holderIdentity")
        renewal = (self.holder, _text(spec, "renewTime"))
        if self._seen is None or self._seen.renewal != renewal:
            self._seen = _Seen(renewal, started)
        mine = self.holder == self.identity
        lasts = float(spec.get("leaseDurationSeconds") or self._duration_s)
        if self.holder and not mine and started < self._seen.at + lasts:
            self._renewed_at = None
            return
        taken: dict[str, Any] = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self._duration_s,
            "renewTime": _now(),
            "acquireTime": spec.get("acquireTime") if mine else _now(),
            "leaseTransitions": int(spec.get("leaseTransitions") or 0) + (0 if mine else 1),
        }
        # With the version that was read: whoever writes second gets a conflict.
        self._cluster.write("PUT", self._path, {**lease, "spec": taken})
        self.holder, self._renewed_at = self.identity, started


def _spec(lease: dict[str, Any]) -> dict[str, Any]:
    return cast("dict[str, Any]", lease.get("spec") or {})


def _text(spec: dict[str, Any], key: str) -> str:
    return str(spec.get(key) or "")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
