"""Until when a stack lives, from what its resources say of themselves."""

import datetime as dt
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import cast

from runtime.stack_resources import StackResource
from runtime.tenure import EXPIRES_TAG, Tenure, expiry


def expiry_of(resources: Iterable[StackResource], updated: dt.datetime) -> dt.datetime | None:
    """When the first of a stack's resources expires; None where none says so.

    Args:
        resources: All of the stack.
        updated: When it was or would be updated, with a zone.
    """
    ends: list[dt.datetime] = []
    for text in _expiries(resources):
        try:
            ends.append(expiry(text, updated))
        except ValueError:
            continue  # the policy on tags says what is wrong with it
    return min(ends, default=None)


def _expiries(resources: Iterable[StackResource]) -> Iterator[str]:
    for one in resources:
        if one.type == "pulumi:providers:aws":
            tags = _mapping(_mapping(one.inputs.get("defaultTags")).get("tags"))
            if isinstance(tag := tags.get(EXPIRES_TAG), str):
                yield tag
        elif one.type.startswith("kubernetes:"):
            annotations = _mapping(_mapping(one.inputs.get("metadata")).get("annotations"))
            tenure = Tenure.of_annotations({key: str(value) for key, value in annotations.items()})
            if tenure is not None and tenure.expires is not None:
                yield tenure.expires


def _mapping(value: object) -> Mapping[str, object]:
    if isinstance(value, str):
        # Providers take objects as JSON.
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return {}
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}
