"""The rules of pack data_residency, in the order of the documentation."""

from typing import Final

from policies.data_residency.residency import (
    ALLOWED_REGIONS,
    MODEL_ORIGIN_DECLARED,
    NO_CROSS_REGION_COPY,
    TELEMETRY_OFF,
)
from policies.rule import AnyRule

RULES: Final[tuple[AnyRule, ...]] = (
    ALLOWED_REGIONS,
    NO_CROSS_REGION_COPY,
    MODEL_ORIGIN_DECLARED,
    TELEMETRY_OFF,
)
