"""Load on a rehearsed platform: closed-loop clients through the gateway, and the count of every request."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from runtime.ops.progress import Progress

POOL_HEADER = "x-spillway-pool"
RESIDENCY_HEADER = "x-spillway-residency"
_TIMEOUT_S = 120.0
# How long a client waits that was told to come back later; less than it is told, as nodes come sooner too.
_PAUSE_S = 1.0


@dataclass(frozen=True)
class Outcome:
    """What became of one request.

    Attributes:
        at: When it was over, in seconds of a steady clock.
        status: HTTP status; 0 where there was none.
        pool: Which pool answered.
        retry_after: What the answer said about when to come back.
        whole: Whether an accepted request got its whole answer.
        detail: What went wrong.
    """

    at: float
    status: int
    pool: str = ""
    retry_after: str = ""
    whole: bool = False
    detail: str = ""


@dataclass
class Counts:
    """Every request of a load by what became of it.

    Attributes:
        outcomes: The requests.
        pools: Pool to what is said of those that it answered.
    """

    outcomes: list[Outcome] = field(default_factory=list[Outcome])
    pools: Mapping[str, str] = field(default_factory=lambda: {"onprem": "served on-prem", "spill": "spilled"})

    @property
    def sent(self) -> int:
        """All of them."""
        return len(self.outcomes)

    def served(self, pool: str) -> int:
        """Answered whole by a pool."""
        return sum(
            one.status == http.HTTPStatus.OK and one.whole and one.pool == pool for one in self.outcomes
        )

    @property
    def refused(self) -> int:
        """Told to come back later, and when."""
        return sum(
            one.status == http.HTTPStatus.TOO_MANY_REQUESTS and bool(one.retry_after) for one in self.outcomes
        )

    @property
    def lost(self) -> list[Outcome]:
        """Accepted, and not answered to the end."""
        return [one for one in self.outcomes if one.status == http.HTTPStatus.OK and not one.whole]

    @property
    def failed(self) -> list[Outcome]:
        """Neither served nor refused as they should be."""
        known = (http.HTTPStatus.OK, http.HTTPStatus.TOO_MANY_REQUESTS)
        return [
            one
            for one in self.outcomes
            if one.status not in known
            or (one.status == http.HTTPStatus.TOO_MANY_REQUESTS and not one.retry_after)
        ]

    def first(self, pool: str) -> float | None:
        """When a pool gave its first answer."""
        return min((one.at for one in self.outcomes if one.pool == pool and one.whole), default=None)

    def words(self) -> str:
        """The counts in one line."""
        served = "".join(f"{self.served(pool)} {words}, " for pool, words in self.pools.items())
        return (
            f"{self.sent} sent, {served}{self.refused} refused with Retry-After, {len(self.lost)} lost, "
            f"{len(self.failed)} failed"
        )


class Load:
    """Clients of a gateway, each of which sends its next request when it has the answer to the last.

    Args:
        connect: Opens a connection to the gateway.
        key: API key.
        model: Model id.
        tokens: Longest answer.
        headers: Sent with every request.
        told_by: The answer's header that says which pool it came from.
        pools: Pool to what is said of those that it answered; without it a hybrid stack's.
        prompt: What is asked.
    """

    def __init__(
        self,
        connect: Callable[[], socket.socket],
        key: str,
        model: str,
        *,
        tokens: int = 16,
        headers: Mapping[str, str] | None = None,
        told_by: str = POOL_HEADER,
        pools: Mapping[str, str] | None = None,
        prompt: str = "Say hello.",
    ) -> None:
        self._connect = connect
        self._told_by = told_by
        self._headers = {
            "Authorization": f"Bearer {key}",
            "Content-Type": "application/json",
            **(headers or {}),
        }
        self._body = json.dumps(
            {
                "model": model,
                "stream": True,
                "max_tokens": tokens,
                "messages": [{"role": "user", "content": prompt}],
            }
        )
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.counts = Counts() if pools is None else Counts(pools=pools)
        self.started = time.monotonic()

    def add(self, clients: int) -> None:
        """Lets more clients begin."""
        threads = [threading.Thread(target=self._client, daemon=True) for _ in range(clients)]
        self._threads += threads
        for thread in threads:
            thread.start()

    def stop(self) -> Counts:
        """Lets every client finish its request, and counts."""
        self._stop.set()
        for thread in self._threads:
            thread.join(_TIMEOUT_S)
        return self.counts

    def until(self, what: str, seen: Callable[[Counts], bool], timeout_s: float, progress: Progress) -> float:
        """Waits until the counts show something; returns the seconds that it took.

        Raises:
            TimeoutError: They do not in time.
        """
        begun = time.monotonic()
        with progress.step(what) as step:
            while not seen(self.counts):
                step.update(self.counts.words())
                if time.monotonic() - begun > timeout_s:
                    raise TimeoutError(f"{what}: not within {timeout_s:.0f} s; {self.counts.words()}")
                time.sleep(0.1)
            step.update(self.counts.words())
        return time.monotonic() - begun

    def _client(self) -> None:
        while not self._stop.is_set():
            outcome = self._one()
            with self._lock:
                self.counts.outcomes.append(outcome)
            if outcome.status != http.HTTPStatus.OK:
                self._stop.wait(_PAUSE_S)

    def _one(self) -> Outcome:
        connection = http.client.HTTPConnection("gateway", timeout=_TIMEOUT_S)
        status, pool, later = 0, "", ""
        try:
            connection.sock = self._connect()
            connection.sock.settimeout(_TIMEOUT_S)
            connection.request("POST", "/v1/chat/completions", self._body, self._headers)
            answer = connection.getresponse()
            status = answer.status
            pool = answer.getheader(self._told_by) or ""
            later = answer.getheader("retry-after") or ""
            text = answer.read().decode(errors="replace")
            whole = status == http.HTTPStatus.OK and text.rstrip().endswith("data: [DONE]")
            return Outcome(time.monotonic(), status, pool, later, whole, "" if whole else text[-200:])
        except (OSError, http.client.HTTPException) as error:
            return Outcome(time.monotonic(), status, pool, later, whole=False, detail=repr(error))
        finally:
            connection.close()
