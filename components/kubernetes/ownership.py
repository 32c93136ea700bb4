"""The claim of a stack on what it made: how it tells its own objects from others' in a cluster."""

import pulumi
import pulumi_random as random

from components.base import Component
from runtime.tenure import Tenure

CLAIM = "spillway.dev/claim"
ADOPT = "spillway.dev/adopt"

_LENGTH = 16


def stack_name() -> str:
    """The stack's full name, ORGANISATION/PROJECT/STACK."""
    return f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"


class StackClaim(Component):
    """A mark that only this stack's state knows: its full name and some generated letters.

    The name alone would not do: two people who cloned the project have stacks of the same name. The mark
    stands in annotation `spillway.dev/claim` of the objects that the platform's other objects live in, and
    beside it whose the stack is and until when.
    """

    annotations: dict[str, pulumi.Input[str]]

    def __init__(self, name: str, tenure: Tenure, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kubernetes:StackClaim", name, {"tenure": tenure.annotations()}, opts)
        generated = random.RandomPassword(f"{name}-letters", length=_LENGTH, special=False, opts=self.child())
        # No secret: it opens nothing, and as one it would hide the whole metadata from previews.
        mark = pulumi.Output.concat(stack_name(), ":", pulumi.Output.unsecret(generated.result))
        self.annotations = {CLAIM: mark, **tenure.annotations()}
        self.finish(mark=mark)
