"""Serves the pack. Run by Pulumi only: serving never returns."""

from policies.gpu_cost.rules import RULES
from policies.serving import serve

serve("gpu_cost", RULES)
