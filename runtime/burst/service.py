"""The burst controller as a service: it looks, decides, remembers, then acts; one of its pods does."""

import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol
from urllib.parse import unquote

from runtime.burst.actuator import Outcome
from runtime.burst.config import ControllerConfig, is_armed
from runtime.burst.decision import Decision, ModelDecision, decide
from runtime.burst.events import Events
from runtime.burst.explain import explained, fleet_of, policy_of
from runtime.burst.exposition import Round, Totals, log_line, metrics
from runtime.burst.leader import RENEW_S, Leader
from runtime.burst.observation import Observation
from runtime.burst.state import State
from runtime.burst.store import Kept, OvertakenError, Store, StoreError

NOT_ARMED = "not-armed"
# An action may last as long as its requests' timeouts. So much of the Lease must be left when it begins.
ACT_WITHIN_S = 5.0
# From the moment that `/ready/MODEL` says no, until every gateway pod has asked and closed its gate.
GATES_CLOSE_S = 5.0


class Observer(Protocol):
    """What is seen; `Signals`, or a test's stand-in."""

    problems: dict[str, str]

    @property
    def eks_answers(self) -> bool:
        """Whether the EKS side answered in the last round."""
        ...

    def read(self) -> Observation:
        """Looks once."""
        ...

    def ready_in_cloud(self, model: str, within_s: float) -> int:
        """Replicas on EKS that answered so recently."""
        ...


class Hand(Protocol):
    """What acts; `Actuator`, or a test's stand-in."""

    def set(self, name: str, replicas: int) -> Outcome:
        """Makes Serve run so many replicas."""
        ...


@dataclass(frozen=True)
class Parts:
    """What a controller is put together from.

    Attributes:
        observer: Its eyes.
        hand: Its hand.
        store: Its memory.
        leader: Whether it may act.
        events: Where changes are told.
        clock: Unix seconds.
        log: Takes one line.
    """

    observer: Observer
    hand: Hand
    store: Store
    leader: Leader
    events: Events
    clock: Callable[[], float] = time.time
    log: Callable[[str], None] = print


class Controller:
    """One pod of the burst controller. `round` is for one thread; the rest may be asked from others."""

    def __init__(self, config: ControllerConfig, parts: Parts) -> None:
        self._config = config
        self._parts = parts
        self._kept: Kept | None = None
        self._stored = State()
        self._last: Round | None = None
        self._totals = Totals()
        self._led = False

    def round(self) -> Round:
        """Looks once and, if this pod leads, decides, remembers and acts. Raises nothing of the outside's."""
        parts = self._parts
        observation = parts.observer.read()
        problems = dict(parts.observer.problems)
        leads = parts.leader.leads()
        if leads and not self._led:
            # What the leader before has written since we looked.
            self._kept = None
        self._led = leads
        self._refresh(problems)
        done = Round(
            at=parts.clock(),
            leads=leads,
            observation=observation,
            armed=self._armed(),
            problems=problems,
            eks_answers=parts.observer.eks_answers,
        )
        if leads and self._kept is not None:
            done = self._lead(done, self._kept)
        self._totals.count(done)
        parts.log(log_line(done))
        self._tell(done)
        self._last = done
        return done

    def explanation(self) -> str:
        """Why it is where it is, for people; the same on every pod."""
        if self._kept is None:
            reason = "; ".join(self._last.problems.values()) if self._last else "it has just started"
            return f"nothing is known: {reason}\n"
        return explained(self._config, self._kept, self._parts.clock())

    def metrics(self) -> str:
        """All numbers in Prometheus' text format."""
        return metrics(self._last, self._totals, self._config.policy.ceiling_usd_per_hour)

    def healthy(self) -> bool:
        """Whether its rounds go on."""
        limit = 3 * self._config.policy.tick_seconds + 30
        return self._last is None or self._parts.clock() - self._last.at < limit

    def ready_in_cloud(self, model: str) -> int:
        """Replicas of a model that answer on EKS and will stay, by name or by the id that clients send.

        While the EKS API does not answer, nobody can change them, so what it said last holds for long. Once
        it is decided that none shall be left, there is none, though Serve still runs one: see `_empties`.
        """
        names = {one.model_id: one.name for one in self._config.models}
        name = names.get(model, model)
        decided = self._kept.state.models.get(name) if self._kept is not None else None
        if decided is not None and decided.target == 0:
            return 0
        return self._parts.observer.ready_in_cloud(name, self._config.policy.zero_after_seconds)

    def _empties(self, name: str) -> bool:
        """Whether the model's last replica has to wait until no gateway sends anything there.

        The other pod of the controller reads the decision in its next round, which is up to a tick later.
        Without a memory of the decision, nothing waits: a replica too many is paid for.
        """
        decided = self._kept.state.models.get(name) if self._kept is not None else None
        if decided is None or decided.target > 0 or decided.changed_at is None:
            return False
        waits_s = self._config.policy.tick_seconds + GATES_CLOSE_S
        return 0 <= self._parts.clock() - decided.changed_at < waits_s

    def _refresh(self, problems: dict[str, str]) -> None:
        """Reads what others write: switch and arming, and the leader's state while it is another's."""
        try:
            kept = self._parts.store.load()
        except StoreError as error:
            problems["state"] = str(error)
            return
        if problem := "; ".join(kept.problems):
            problems["state"] = problem
        if self._led and self._kept is not None:
            if kept.state not in (self._stored, self._kept.state):
                # Two think that they lead. Whoever comes second begins with what the other has decided.
                problems["state"] = "another controller has written its state since; not acting"
                self._kept = None
                return
            # The leader's own state is the newer one: a write may have failed.
            kept = replace(kept, state=self._kept.state, notes=self._kept.notes)
        else:
            self._stored = kept.state
        self._kept = kept

    def _armed(self) -> frozenset[str]:
        armed = (self._kept or Kept()).armed
        return frozenset(model.name for model in self._config.models if is_armed(model, armed))

    def _lead(self, done: Round, kept: Kept) -> Round:
        policy, fleet = policy_of(self._config, kept), fleet_of(self._config, kept)
        decision, after = decide(policy, fleet, kept.state, done.observation, done.at)
        decision = self._unarmed(decision, done.armed)
        done = replace(done, decision=decision)
        notes = self._notes(done.problems)
        problems = dict(done.problems)
        remembered = True
        try:
            self._parts.store.save(after, notes)
        except OvertakenError as error:
            self._kept = None
            return replace(done, problems={**problems, "state": str(error)})
        except StoreError as error:
            problems["state"] = str(error)
            remembered = False
        else:
            self._stored = after
        self._kept = replace(kept, state=after, notes=notes)
        outcomes = self._act(decision, done.observation, remembered=remembered)
        for name, outcome in outcomes.items():
            if outcome.problem:
                problems[f"replicas of {name}"] = outcome.problem
        return replace(done, outcomes=outcomes, problems=problems)

    def _act(self, decision: Decision, seen: Observation, *, remembered: bool) -> dict[str, Outcome]:
        outcomes: dict[str, Outcome] = {}
        for name, found in decision.models.items():
            signals = seen.models.get(name)
            there = signals.eks_wanted if signals else None
            if there and self._empties(name):
                # Not a problem, and no request: what runs is what Serve was told before.
                outcomes[name] = Outcome(wanted=there)
            elif not remembered and found.replicas > (there or 0):
                # What is set aside for it would be forgotten by the next leader.
                outcomes[name] = Outcome(wanted=None, problem="not set, because it could not be remembered")
            elif not self._parts.leader.leads(for_s=ACT_WITHIN_S):
                outcomes[name] = Outcome(wanted=None, problem="not set, because the Lease runs out")
            else:
                outcomes[name] = self._parts.hand.set(name, found.replicas)
        return outcomes

    def _unarmed(self, decision: Decision, armed: frozenset[str]) -> Decision:
        """The decision with the true reason for a model that gets no more because it is not armed."""
        models = {
            name: found
            if name in armed
            else ModelDecision(
                replicas=found.replicas,
                wanted=found.wanted,
                code=NOT_ARMED,
                reason="what it needs has not been verified on EKS, so it gets no more than "
                f"{found.replicas} replicas",
            )
            for name, found in decision.models.items()
        }
        return replace(decision, models=models)

    def _notes(self, problems: Mapping[str, str]) -> str:
        lines = [f"problem, {source}: {text}" for source, text in sorted(problems.items())]
        return "\n".join([f"leader: {self._parts.leader.identity}", *lines])

    def _tell(self, done: Round) -> None:
        """Tells Kubernetes what changed, once."""
        last = self._last
        if not done.leads:
            return
        for name, outcome in done.outcomes.items():
            found = done.decision.models[name] if done.decision else None
            if outcome.changed and found is not None:
                self._parts.events.tell("Replicas", f"{name}: {found.replicas} on EKS; {found.reason}")
        was_up = last is None or last.eks_answers
        if was_up and not done.eks_answers:
            text = "; ".join(text for name, text in done.problems.items() if name.startswith("eks"))
            self._parts.events.tell("BurstUnavailable", f"the EKS side does not answer: {text}", bad=True)
        elif done.eks_answers and not was_up:
            self._parts.events.tell("BurstAvailable", "the EKS side answers again")
        before = set(last.decision.open_circuits) if last and last.decision else set[str]()
        for group in sorted(set(done.decision.open_circuits if done.decision else ()) - before):
            self._parts.events.tell("CircuitOpen", f"launches in node group {group} failed", bad=True)


class Handler(BaseHTTPRequestHandler):
    """Answers probes, Prometheus and people."""

    protocol_version = "HTTP/1.1"
    controller: Controller

    def do_GET(self) -> None:
        """Reads."""
        path = unquote(self.path.partition("?")[0])
        if path == "/healthz":
            well = self.controller.healthy()
            self._send(HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE, "ok" if well else "stuck")
        elif path == "/metrics":
            self._send(HTTPStatus.OK, self.controller.metrics(), "text/plain; version=0.0.4")
        elif path == "/explain":
            self._send(HTTPStatus.OK, self.controller.explanation())
        elif path.startswith("/ready/"):
            count = self.controller.ready_in_cloud(path.removeprefix("/ready/"))
            status = HTTPStatus.OK if count else HTTPStatus.SERVICE_UNAVAILABLE
            self._send(status, f"{count} replicas answer on EKS\n")
        else:
            self._send(HTTPStatus.NOT_FOUND, "/healthz, /metrics, /explain, /ready/MODEL\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class' name
        """Probes would fill the log."""

    def _send(self, status: HTTPStatus, text: str, kind: str = "text/plain; charset=utf-8") -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def serve(config: ControllerConfig, parts: Parts, stop: threading.Event) -> None:
    """Runs until `stop` is set: one thread keeps the Lease, one answers, this one makes the rounds."""
    controller = Controller(config, parts)
    handler = type("BurstHandler", (Handler,), {"controller": controller})
    server = ThreadingHTTPServer(("", config.listen_port), handler)
    threads = [
        threading.Thread(target=server.serve_forever, daemon=True),
        threading.Thread(target=_keep_lease, args=(parts.leader, stop), daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        while not stop.is_set():
            started = time.monotonic()
            controller.round()
            stop.wait(max(0.1, config.policy.tick_seconds - (time.monotonic() - started)))
    finally:
        stop.set()
        threads[1].join()
        parts.leader.resign()
        server.shutdown()
        server.server_close()


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    return stop


def _keep_lease(leader: Leader, stop: threading.Event) -> None:
    while not stop.is_set():
        leader.try_to_lead()
        stop.wait(RENEW_S)
