"""The setting `cost`: what an estimate needs to know that no price list says."""

from decimal import Decimal
from typing import Annotated, Self

from pydantic import Field, model_validator

from runtime.model import AcceleratorName, ContradictionError, Spec

UsdPerHour = Annotated[float, Field(gt=0, le=10_000)]


class CostSettings(Spec):
    """Figures of your own for the estimate of what the stack costs; they change nothing that is deployed."""

    on_prem_usd_per_gpu_hour: dict[AcceleratorName, UsdPerHour] = Field(
        default_factory=dict[AcceleratorName, UsdPerHour],
        description="What one device of yours costs per hour, power and space included, by accelerator "
        "profile. Without a rate its hours are unpriced, and said to be.",
    )

    @model_validator(mode="after")
    def _devices_only(self) -> Self:
        if "cpu" in self.on_prem_usd_per_gpu_hour:
            raise ContradictionError(
                "onPremUsdPerGpuHour.cpu", "has a rate, and processors are no devices to count; remove it"
            )
        return self

    def rate_of(self, accelerator: str) -> str | None:
        """USD per hour of one device on-prem, as text; None where there is no rate."""
        rate = self.on_prem_usd_per_gpu_hour.get(accelerator)
        return None if rate is None else f"{Decimal(str(rate)).normalize():f}"
