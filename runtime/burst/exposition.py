"""What the burst controller shows: one JSON line a decision, and its numbers in Prometheus' text format."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from runtime.burst.actuator import Outcome
from runtime.burst.decision import Decision
from runtime.burst.observation import ModelSignals, Observation

_PREFIX = "spillway_burst_"


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round of a controller, whether it leads or not.

    Attributes:
        at: Unix time.
        leads: Whether it leads.
        observation: What it saw.
        decision: What it decided; None where it does not lead or could not decide.
        outcomes: What became of it, by model.
        armed: Models that may spill because all that they need was verified there.
        problems: What was missing or failed, by source.
        eks_answers: Whether the EKS side answered.
    """

    at: float
    leads: bool
    observation: Observation
    decision: Decision | None = None
    outcomes: Mapping[str, Outcome] = field(default_factory=dict[str, Outcome])
    armed: frozenset[str] = frozenset()
    problems: Mapping[str, str] = field(default_factory=dict[str, str])
    eks_answers: bool = True


@dataclass
class Totals:
    """What only grows while a controller runs."""

    decisions: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    changes: dict[str, int] = field(default_factory=dict[str, int])
    failures: dict[str, int] = field(default_factory=dict[str, int])

    def count(self, done: Round) -> None:
        """Adds one round."""
        if done.decision is not None:
            for name, found in done.decision.models.items():
                key = (name, found.code)
                self.decisions[key] = self.decisions.get(key, 0) + 1
        for name, outcome in done.outcomes.items():
            self.changes[name] = self.changes.get(name, 0) + outcome.changed
            self.failures[name] = self.failures.get(name, 0) + bool(outcome.problem)


def log_line(done: Round) -> str:
    """One round as one line of JSON, with the reason of each decision and what it was made of."""
    entry: dict[str, object] = {
        "time": datetime.fromtimestamp(done.at, UTC).isoformat(timespec="milliseconds"),
        "event": "decision" if done.decision else "observation",
        "leads": done.leads,
    }
    if done.decision is not None:
        entry["usd_per_hour"] = float(done.decision.usd_per_hour)
        entry["nodes"] = dict(done.decision.nodes)
        entry["open_circuits"] = list(done.decision.open_circuits)
        entry["models"] = {
            name: {
                **asdict(found),
                "armed": name in done.armed,
                **_told(done.outcomes.get(name)),
                "signals": _known(done.observation.models.get(name, ModelSignals())),
            }
            for name, found in done.decision.models.items()
        }
    if done.problems:
        entry["problems"] = dict(done.problems)
    return json.dumps(entry)


def metrics(done: Round | None, totals: Totals, ceiling_usd_per_hour: float) -> str:
    """All numbers in Prometheus' text format."""
    return "\n".join(_lines(done, totals, ceiling_usd_per_hour)) + "\n"


def _lines(done: Round | None, totals: Totals, ceiling: float) -> Iterator[str]:
    yield from _metric("leader", "gauge", "1 on the pod that decides.", [({}, bool(done and done.leads))])
    yield from _metric("ceiling_usd_per_hour", "gauge", "What all nodes may cost an hour.", [({}, ceiling)])
    if done is not None:
        yield from _now(done)
    yield from _metric(
        "decisions_total",
        "counter",
        "Decisions by reason.",
        [({"model": name, "code": code}, count) for (name, code), count in sorted(totals.decisions.items())],
    )
    for name, text, values in (
        ("changes_total", "Numbers of replicas that were set on EKS.", totals.changes),
        ("actuation_failures_total", "Numbers of replicas that could not be set.", totals.failures),
    ):
        yield from _metric(
            name, "counter", text, [({"model": model}, count) for model, count in sorted(values.items())]
        )


def _now(done: Round) -> Iterator[str]:
    yield from _metric(
        "last_round_timestamp_seconds", "gauge", "Unix time of the last round.", [({}, done.at)]
    )
    yield from _metric("eks_up", "gauge", "Whether the EKS side answers.", [({}, done.eks_answers)])
    models = done.observation.models
    yield from _metric(
        "armed",
        "gauge",
        "Whether weights and image of the model were verified on EKS.",
        [({"model": name}, name in done.armed) for name in sorted(models)],
    )
    replicas = [
        ({"model": name, "kind": kind}, value)
        for name, seen in sorted(models.items())
        for kind, value in (("told", seen.eks_wanted), ("ready", seen.eks_ready))
        if value is not None
    ]
    missing = [
        ({"model": name, "source": source}, age is None)
        for name, seen in sorted(models.items())
        for source, age in _ages(seen)
    ]
    ages = [
        ({"model": name, "source": source}, age)
        for name, seen in sorted(models.items())
        for source, age in _ages(seen)
        if age is not None
    ]
    yield from _metric("signal_missing", "gauge", "1 for a source that never answered.", missing)
    yield from _metric("signal_age_seconds", "gauge", "Age of what a source said.", ages)
    if (decision := done.decision) is not None:
        replicas += [
            ({"model": name, "kind": kind}, value)
            for name, found in sorted(decision.models.items())
            for kind, value in (("decided", found.replicas), ("wanted", found.wanted))
        ]
        groups = sorted(decision.nodes.items())
        yield from _metric(
            "nodes_set_aside",
            "gauge",
            "Nodes that money is set aside for.",
            [({"group": name}, count) for name, count in groups],
        )
        yield from _metric(
            "circuit_open",
            "gauge",
            "1 while nothing is asked of a node group.",
            [({"group": name}, name in decision.open_circuits) for name, _ in groups],
        )
        yield from _metric(
            "usd_per_hour", "gauge", "What the nodes set aside cost.", [({}, float(decision.usd_per_hour))]
        )
        yield from _metric("node_hours", "gauge", "Node-hours of this month.", [({}, decision.node_hours)])
        yield from _metric("month_usd", "gauge", "USD of this month.", [({}, decision.month_usd)])
    yield from _metric("replicas", "gauge", "Replicas on EKS.", replicas)


def _ages(seen: ModelSignals) -> list[tuple[str, float | None]]:
    # Within an observation an age of None means that the source never answered.
    return [("gateway", seen.gateway_age_s), ("engine", seen.engine_age_s), ("eks", seen.eks_age_s)]


def _metric(
    name: str, kind: str, text: str, values: Sequence[tuple[Mapping[str, str], float]]
) -> Iterator[str]:
    yield f"# HELP {_PREFIX}{name} {text}"
    yield f"# TYPE {_PREFIX}{name} {kind}"
    for labels, value in values:
        inside = ",".join(f'{key}="{_escaped(label)}"' for key, label in labels.items())
        yield f"{_PREFIX}{name}{f'{{{inside}}}' if inside else ''} {float(value):g}"


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _told(outcome: Outcome | None) -> dict[str, object]:
    if outcome is None:
        return {"set": "not tried"}
    return {"set": outcome.problem or ("changed" if outcome.changed else "as it was")}


def _known(seen: ModelSignals) -> dict[str, object]:
    return {name: value for name, value in asdict(seen).items() if value is not None}
