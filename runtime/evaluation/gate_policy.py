"""GatePolicy: what a revision's results have to show before it gets traffic."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Threshold(BaseModel):
    """What one metric has to be.

    Attributes:
        metric: Its name in the results.
        at_least: It must be this or more; None asks for nothing.
        at_most: It must be this or less; None asks for nothing.
        regression: How much worse than the baseline's it may be, in the metric's unit; None compares nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: Annotated[str, Field(min_length=1)]
    at_least: float | None = None
    at_most: float | None = None
    regression: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if self.at_least is None and self.at_most is None and self.regression is None:
            raise ValueError(f"{self.metric}: name at_least, at_most or regression; it asks for nothing")
        return self


class GatePolicy(BaseModel):
    """What all metrics together have to be.

    Attributes:
        minimum_records: Fewer scored records decide nothing.
        failed_share: Largest share of records that the model may leave without an answer; where the judge
            leaves more without marks, the gate holds.
        thresholds: One for each metric that counts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    minimum_records: Annotated[int, Field(ge=2)] = 100
    failed_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    thresholds: Annotated[tuple[Threshold, ...], Field(min_length=1)]
