"""Bounded waits of a teardown: each has an end, says what it waits for, and outlasts a restarted API."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runtime.cluster import UnreachableError
from runtime.ops.progress import Step

_LOOK_S = 2.0


class StepError(Exception):
    """A step did not come to its end; one line for each thing that is in the way."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)


@dataclass(frozen=True)
class Patience:
    """How long a teardown waits.

    Attributes:
        step_s: Seconds that one step may wait for what it asked to go.
        look_s: Seconds between two looks.
        destroys: How often `pulumi destroy` is tried.
        clock: A steady clock.
        sleep: Waits.
    """

    step_s: float = 900.0
    look_s: float = _LOOK_S
    destroys: int = 3
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def until_none(
        self, step: Step, look: Callable[[], Sequence[str]], why: Callable[[], Sequence[str]]
    ) -> None:
        """Returns when a look finds nothing more.

        Args:
            step: Shows what is waited for.
            look: Names what is still there.
            why: Called at the end of all patience: why each thing that is left does not go.

        Raises:
            StepError: Something is still there, or the API did not answer.
        """
        deadline = self.clock() + self.step_s
        while True:
            trouble: UnreachableError | None = None
            left: Sequence[str] = ()
            try:
                left = look()
            except UnreachableError as error:
                # One that is being restarted is waited for like anything else.
                trouble = error
            if trouble is None and not left:
                return
            if self.clock() >= deadline:
                raise StepError([str(trouble)] if trouble else why())
            step.update(str(trouble) if trouble else f"waiting for {', '.join(left[:3])}{_more(left)}")
            self.sleep(self.look_s)


def _more(left: Sequence[str]) -> str:
    return f" and {len(left) - 3} more" if len(left) > 3 else ""
