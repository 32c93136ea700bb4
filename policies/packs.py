"""The packs that there are, and their rules."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from policies.data_residency.rules import RULES as DATA_RESIDENCY
from policies.gpu_cost.rules import RULES as GPU_COST
from policies.lifecycle.rules import RULES as LIFECYCLE
from policies.llm_security.rules import RULES as LLM_SECURITY
from policies.rule import AnyRule

PACKS: Final[Mapping[str, tuple[AnyRule, ...]]] = MappingProxyType(
    {
        "gpu_cost": GPU_COST,
        "llm_security": LLM_SECURITY,
        "data_residency": DATA_RESIDENCY,
        "lifecycle": LIFECYCLE,
    }
)
ALL_RULES: Final[tuple[AnyRule, ...]] = tuple(rule for rules in PACKS.values() for rule in rules)
RULE_NAMES: Final = frozenset(rule.name for rule in ALL_RULES)
