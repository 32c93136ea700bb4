"""The one hand on the number of replicas in the cloud: sets it, reads it back, and says when it could not."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from runtime.burst.config import ModelConfig
from runtime.burst.dashboard import Dashboard, DashboardError

# After a failure the next try waits, twice as long each time: every try may last as long as its timeout.
_FIRST_WAIT_S = 2.0
_LONGEST_WAIT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one wish.

    Attributes:
        wanted: Replicas that Serve is told to run now; None if it did not say.
        changed: Whether this call changed it.
        problem: Why it is not what was wished for; empty if it is.
    """

    wanted: int | None
    changed: bool = False
    problem: str = ""


@dataclass
class _Failures:
    count: int = 0
    again_at: float = 0.0
    problem: str = ""


class Actuator:
    """Sets the replicas of all models on EKS.

    It holds no wish of its own: call `set` in every round, also with the number that is there already,
    because a changed Serve config and a new Ray head forget it.

    Args:
        models: The models that may spill.
        dashboards: Model name to the dashboard of its Ray head on EKS.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        models: tuple[ModelConfig, ...],
        dashboards: Mapping[str, Dashboard],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._models = {model.name: model for model in models}
        self._dashboards = dashboards
        self._clock = clock
        self._failures = {model.name: _Failures() for model in models}

    def set(self, name: str, replicas: int) -> Outcome:
        """Makes Serve run so many replicas of a model. Raises nothing.

        A number above `maxReplicas` is a mistake of the caller's and is not passed on.
        """
        model, failures = self._models[name].cloud, self._failures[name]
        if not 0 <= replicas <= model.max_replicas:
            return Outcome(
                wanted=None, problem=f"{replicas} replicas are not within 0 to {model.max_replicas}; not set"
            )
        if self._clock() < failures.again_at:
            return Outcome(wanted=None, problem=f"waits before it tries again: {failures.problem}")
        try:
            outcome = self._set(self._dashboards[name], model.application, model.deployment, replicas)
        except DashboardError as error:
            failures.count += 1
            failures.problem = str(error)
            wait = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** (failures.count - 1))
            failures.again_at = self._clock() + wait
            return Outcome(wanted=None, problem=str(error))
        self._failures[name] = _Failures()
        return outcome

    def _set(self, dashboard: Dashboard, application: str, deployment: str, replicas: int) -> Outcome:
        there = dashboard.deployment(application, deployment)
        if there.wanted == replicas:
            return Outcome(wanted=replicas)
        dashboard.scale(application, deployment, replicas)
        # The answer to the call says only that it was heard.
        after = dashboard.deployment(application, deployment)
        if after.wanted != replicas:
            raise DashboardError(
                f"Serve was told {replicas} replicas and says {after.wanted}; somebody else sets it, or the "
                "application is being built anew"
            )
        return Outcome(wanted=replicas, changed=True)
