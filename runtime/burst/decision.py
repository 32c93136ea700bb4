"""The decision core: how many replicas each model gets in the cloud. Pure: no clock, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from runtime.burst.fleet import Fleet
from runtime.burst.observation import Observation
from runtime.burst.policy import BurstPolicy
from runtime.burst.state import State


@dataclass(frozen=True, kw_only=True)
class ModelDecision:
    """What is decided for one model.

    Attributes:
        replicas: Replicas that Ray Serve on EKS shall run; the actuator sets it whenever Serve's differs.
        wanted: Replicas that load, schedule or switch ask for, before ceiling, budget and circuit.
        code: Reason for machines, one of `REASONS`.
        reason: Reason for people: one sentence with the numbers.
    """

    replicas: int
    wanted: int
    code: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What is decided for all.

    Attributes:
        models: By name, one for each model of the fleet.
        nodes: Nodes set aside, by node group: those that exist and those that may come.
        usd_per_hour: What they cost; at most the ceiling unless nodes exist that nobody asked for.
        node_hours: Node-hours of this calendar month so far.
        month_usd: USD of this calendar month so far.
        open_circuits: Node groups that nothing is asked of now, because launches failed.
    """

    models: Mapping[str, ModelDecision]
    nodes: Mapping[str, int]
    usd_per_hour: Decimal
    node_hours: float
    month_usd: float
    open_circuits: tuple[str, ...]


def decide(  # noqa: ARG001
    policy: BurstPolicy, fleet: Fleet, state: State, observation: Observation, now: float
) -> tuple[Decision, State]:
    """Decides once.

    Args:
        policy: The stack's `burst` setting.
        fleet: What can be used, with prices.
        state: What the decision before returned, or `State()`.
        observation: What is seen now.
        now: Unix time in seconds. It may jump; budgets and circuits stay safe.

    Returns:
        The decision, and the state for the next one. Store the state before acting on the decision: what is
        set aside must not be forgotten.
    """
    raise NotImplementedError


def explain(policy: BurstPolicy, fleet: Fleet, state: State, decision: Decision, now: float) -> str:
    """Why it is where it is, what would change it, what is spent and what is set aside, as text."""
    raise NotImplementedError
