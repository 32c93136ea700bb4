"""Serves all packs as one, in one process. Run by Pulumi only: serving never returns."""

from policies.packs import ALL_RULES
from policies.serving import serve

serve("all", ALL_RULES)
