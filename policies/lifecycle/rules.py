"""The rules of pack lifecycle, in the order of the documentation."""

from typing import Final

from policies.lifecycle.record import UNKNOWNS_ACCOUNTED, WAIVER_VALID, WAIVERS_IN_FORCE
from policies.lifecycle.teardown import (
    NO_DESTRUCTIVE_DATA,
    PROTECT_DATA_PROD,
    RECLAIM_DELETE_DEV,
    TEARDOWN_SAFE_ORDER,
)
from policies.rule import AnyRule

RULES: Final[tuple[AnyRule, ...]] = (
    TEARDOWN_SAFE_ORDER,
    RECLAIM_DELETE_DEV,
    PROTECT_DATA_PROD,
    NO_DESTRUCTIVE_DATA,
    WAIVER_VALID,
    WAIVERS_IN_FORCE,
    UNKNOWNS_ACCOUNTED,
)
