"""What evaluation is handed from outside: the model, and scorers that need models of their own."""

from dataclasses import dataclass
from typing import Protocol


class ModelError(Exception):
    """A model gave no answer, by what it or its container did, also when asked again; the text says why."""


class NotAskedError(Exception):
    """A model could not be asked, which says nothing about it: a wrong name or key, or no way there."""


class JudgeError(Exception):
    """The judge gave no marks, or none of the kind that it was asked for; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model answered.

    Attributes:
        text: The text.
        seconds: How long it took.
        finish_reason: Why it ended: `stop`, or `length` where it was cut off.
        variant: The variant of a SageMaker endpoint that answered; None where nothing says so.
    """

    text: str
    seconds: float
    finish_reason: str = "stop"
    variant: str | None = None


class Model(Protocol):
    """The model under evaluation, or a judge. Called from several threads at once."""

    def answer(self, prompt: str) -> Answer:
        """Asks once.

        Raises:
            ModelError: There is no answer.
            NotAskedError: It could not be asked; asking others is no use.
        """
        ...


class ToxicityScorer(Protocol):
    """Says how toxic texts are, such as a Detoxify model or a moderation endpoint."""

    def __call__(self, text: str) -> float:
        """From 0, not at all, to 1."""
        ...


class SentenceScorer(Protocol):
    """Says how likely the model under evaluation finds a sentence."""

    def __call__(self, text: str) -> float:
        """Natural logarithm of the sentence's probability, 0 or less.

        Raises:
            ModelError: The model does not say.
            NotAskedError: It could not be asked.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What some algorithms need; each is None where no algorithm of the job does.

    Attributes:
        judge: For `llm_judge`.
        toxicity: For `toxicity`.
        sentences: For `prompt_stereotyping`.
    """

    judge: Model | None = None
    toxicity: ToxicityScorer | None = None
    sentences: SentenceScorer | None = None
