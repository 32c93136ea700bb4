"""Builds the YAML documents that Envoy reads, in a form that a person can read in a diff."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import yaml

Tree: TypeAlias = Mapping[str, "Tree"] | Sequence["Tree"] | str | int | float | bool | None
"""A part of a document: what YAML and JSON have in common."""

_TYPES = "type.googleapis.com/"
_LINE_WIDTH = 110


# In C where PyYAML has it, which writes the same bytes: with 200 models half a second of every preview less.
_Safe: type[yaml.SafeDumper] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Dumper(_Safe):
    """Never writes anchors: a repeated part stands there twice."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def typed(type_name: str, fields: Mapping[str, Tree] | None = None) -> dict[str, Tree]:
    """Returns a message of Envoy's API with the type that Envoy needs to read it.

    Args:
        type_name: The message's full name without the common prefix.
        fields: The message's fields.
    """
    return {"@type": _TYPES + type_name, **(fields or {})}


def extension(name: str, type_name: str, fields: Mapping[str, Tree] | None = None) -> dict[str, Tree]:
    """Returns a named extension (a filter, a formatter, a monitor) with its configuration."""
    return {"name": name, "typed_config": typed(type_name, fields)}


def discovery(resources: Sequence[Tree]) -> str:
    """Returns the text of a file that Envoy reads as the answer of a discovery service."""
    return text({"resources": resources})


def text(document: Mapping[str, Tree]) -> str:
    """Returns a document as YAML, keys in the order in which they were written."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=_LINE_WIDTH, allow_unicode=False)


def watched(folder: str, file_name: str) -> dict[str, Tree]:
    """Returns a source that Envoy reads again whenever something is moved into the folder.

    Kubernetes changes a mounted ConfigMap or Secret by swapping a symbolic link in its folder. The
    file itself sees no event then, so the folder is what has to be watched.
    """
    return {
        "resource_api_version": "V3",
        "path_config_source": {"path": f"{folder}/{file_name}", "watched_directory": {"path": folder}},
    }


def seconds(value: float) -> str:
    """Returns a duration as Envoy's API writes it."""
    return f"{value:.3f}".rstrip("0").rstrip(".") + "s"
