"""Reads IAM and resource policy documents, which are JSON inside of a property."""

from collections.abc import Iterator
from dataclasses import dataclass

from policies.reading import Node


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a document.

    Attributes:
        path: Where it stands, for messages.
        effect: `Allow` or `Deny`.
        actions: Its actions.
        resources: Its resources.
        principals: Who it is about; `*` for everybody; empty in an identity's policy.
        conditions: Its condition operators with the keys that each compares.
    """

    path: str
    effect: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    principals: tuple[str, ...]
    conditions: Node

    @property
    def allows(self) -> bool:
        """Whether it gives rights rather than takes them."""
        return self.effect == "Allow"

    @property
    def is_for_everybody(self) -> bool:
        """Whether it names nobody and has no condition that could."""
        return "*" in self.principals and self.conditions.is_missing


def statements(document: Node) -> Iterator[Statement]:
    """The statements of a document.

    Raises:
        Unreadable: It is missing, unknown, or no document.
    """
    root = document.parsed().child("Statement")
    for one in root.items() if isinstance(root.value, list) else [root]:
        principal = one.child("Principal")
        yield Statement(
            path=one.path,
            effect=one.child("Effect").text(),
            actions=_one_or_more(one.child("Action")),
            resources=_one_or_more(one.child("Resource")),
            principals=_one_or_more(principal)
            if isinstance(principal.value, str)
            else tuple(name for value in principal.entries().values() for name in _one_or_more(value)),
            conditions=one.child("Condition"),
        )


def _one_or_more(node: Node) -> tuple[str, ...]:
    if node.is_missing:
        return ()
    return (node.text(),) if isinstance(node.value, str) else tuple(node.texts())
