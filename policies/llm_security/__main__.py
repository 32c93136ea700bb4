"""Serves the pack. Run by Pulumi only: serving never returns."""

from policies.llm_security.rules import RULES
from policies.serving import serve

serve("llm_security", RULES)
