"""Serves the pack. Run by Pulumi only: serving never returns."""

from policies.lifecycle.rules import RULES
from policies.serving import serve

serve("lifecycle", RULES)
