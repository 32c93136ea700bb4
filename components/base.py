"""The base of all components: type token, parenting, and outputs registered on every path."""

from collections.abc import Mapping
from typing import Any

import pulumi


class Component(pulumi.ComponentResource):
    """A ComponentResource with Spillway's type token.

    `declared` takes the plain, known part of the arguments: policies then see the intent (models,
    accelerators, replicas) at preview, where provider outputs are still unknown.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        declared: Mapping[str, Any],
        opts: pulumi.ResourceOptions | None,
    ) -> None:
        super().__init__(f"spillway:{kind}", name, dict(declared), opts)
        self._declared = dict(declared)

    def child(
        self, *, depends_on: list[pulumi.Resource] | None = None, **options: Any
    ) -> pulumi.ResourceOptions:
        """Options for a child resource; everything else is inherited from the parent."""
        return pulumi.ResourceOptions(parent=self, depends_on=depends_on, **options)

    def finish(self, **outputs: pulumi.Input[Any]) -> None:
        """Registers the outputs, with what was declared beside them for stack policies."""
        self.register_outputs({**self._declared, **outputs})
