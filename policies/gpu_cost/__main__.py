"""Serves the pack. Run by Pulumi only: the constructor starts a server and never returns."""

from pulumi_policy import EnforcementLevel, PolicyPack

from policies.gpu_cost.rules import RULES
from policies.serving import resource_policies

PolicyPack(
    "spillway-gpu-cost", policies=resource_policies(RULES), enforcement_level=EnforcementLevel.MANDATORY
)
