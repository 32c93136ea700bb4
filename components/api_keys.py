"""API keys of clients: generated, secret in the state, and the same kind in every scenario."""

import pulumi
import pulumi_random as random

from components.base import Component

_LENGTH = 40
_PREFIX = "sk-"


def api_key(component: Component, name: str) -> pulumi.Output[str]:
    """One generated key.

    Args:
        component: What it belongs to; its options must have a provider of generated values.
        name: The resource's name, which must stay: another one makes another key.
    """
    letters = random.RandomPassword(name, length=_LENGTH, special=False, opts=component.child())
    return pulumi.Output.concat(_PREFIX, letters.result)
