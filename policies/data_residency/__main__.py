"""Serves the pack. Run by Pulumi only: serving never returns."""

from policies.data_residency.rules import RULES
from policies.serving import serve

serve("data_residency", RULES)
