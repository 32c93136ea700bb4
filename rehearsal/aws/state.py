"""What the double remembers beside moto: the script, the store of the stand-in provider, answered calls."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from rehearsal.aws.capacity import Script

_ANSWERS_KEPT = 200


@dataclass
class State:
    """Everything of the double that is not moto's.

    Attributes:
        script: What to do wrong.
        store: Each resource that the stand-in provider made: type and id, and what it is.
        answers: Answers to calls that changed something, by the call's id.
    """

    script: Script = field(default_factory=Script)
    store: dict[tuple[str, str], dict[str, Any]] = field(
        default_factory=dict[tuple[str, str], dict[str, Any]]
    )
    answers: "OrderedDict[str, tuple[str, list[tuple[str, str]], bytes]]" = field(
        default_factory=OrderedDict[str, tuple[str, list[tuple[str, str]], bytes]]
    )

    def remember(self, call: str, answer: tuple[str, list[tuple[str, str]], bytes]) -> None:
        """Keeps an answer for a client that repeats a call because the answer did not reach it."""
        self.answers[call] = answer
        while len(self.answers) > _ANSWERS_KEPT:
            self.answers.popitem(last=False)
