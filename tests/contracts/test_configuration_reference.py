"""The configuration reference has every key, and its schema says what the program accepts."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args, get_origin

import jsonschema
import pytest
import yaml

from docs.generator import configuration as reference
from docs.generator.pages import DOCS
from runtime.model import Spec
from stacks.settings import PlatformSettings, SettingsError, parse
from tests.support.stack_files import ROOT, STACKS, platform_object


def problems(document: object) -> list[str]:
    """What the committed schema has against a stack file."""
    return [error.message for error in committed_schema().iter_errors(document)]  # pyright: ignore


@cache
def committed_schema() -> jsonschema.Draft202012Validator:
    schema = json.loads((DOCS / reference.SCHEMA).read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def stack_file(**changes: Any) -> dict[str, Any]:
    return {"config": {"spillway:platform": {**platform_object("local"), **changes}}}


def parts_of(annotation: object) -> Iterator[object]:
    """An annotation and all that stands in its brackets, however deep."""
    yield annotation
    for part in get_args(annotation):
        yield from parts_of(part)


def leaves(model: type[Spec], path: str = "") -> set[str]:
    """Every key by its place, found by another way than the module under test."""
    found: set[str] = set()
    for field in model.model_fields.values():
        place = f"{path}{field.alias}"
        found.add(place)
        for part in parts_of(field.annotation):
            if isinstance(part, type) and issubclass(part, Spec):
                found |= leaves(part, f"{place}[]." if get_origin(field.annotation) is tuple else f"{place}.")
    return found


def test_every_key_of_the_settings_is_on_the_page_with_a_description() -> None:
    rows = {row.path: row for section in reference.sections() for row in section.rows}
    assert set(rows) == leaves(PlatformSettings)
    assert not [path for path, row in rows.items() if not row.description.strip()]


@pytest.mark.parametrize(
    ("path", "type_", "default", "allowed"),
    [
        ("scenario", "string", "**required**", "`onprem`, `hybrid`"),
        ("ray.headCpu", "string", '`"4"`', "CPUs: `4`, `1.5`, `500m`"),
        ("gateway.replicas", "integer", "`2`", "1 to 50"),
        ("gateway.clients", "list of strings or objects", '`["default"]`', "at least 1"),
        ("quota.accelerators", "integer or null", "null", "0 and more"),
        ("models[].source.path", "string or null", "null", "absolute path without `..`"),
        ("models[].upgrade", "string", "`NewCluster`", "`NewCluster`, `None`"),
    ],
)
def test_a_row_says_type_default_and_what_is_allowed(
    path: str, type_: str, default: str, allowed: str
) -> None:
    row = next(row for section in reference.sections() for row in section.rows if row.path == path)
    assert (row.type, row.default) == (type_, default)
    assert row.allowed.startswith(allowed)


@pytest.mark.parametrize("stack", STACKS)
def test_a_committed_stack_file_is_valid_by_the_schema(stack: str) -> None:
    text = (ROOT / "stacks" / f"Pulumi.{stack}.yaml").read_text()
    assert problems(yaml.safe_load(text)) == []


@pytest.mark.parametrize(
    "image", ["redis:8", "registry.example.com:5000/a/b:latest-cu130", f"a/b:latest@sha256:{'0' * 64}"]
)
def test_the_schema_takes_an_image_with_a_fixed_version(image: str) -> None:
    assert parse({**platform_object("local"), "checkImage": image})
    assert problems(stack_file(checkImage=image)) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"modles": []},
        {"scenario": "on-prem"},
        {"readyTimeoutSeconds": 1},
        {"quota": {"cpu": 4}},
        {"quota": {"cpu": "4 cores"}},
        {"quota": {"memory": "0Gi"}},
        {"checkImage": "registry.example.com/check"},
        {"checkImage": "registry.example.com:5000/check:latest"},
        {"models": [{**platform_object("local")["models"][0], "accelerator": "nvidia-h1000"}]},
        {"models": []},
    ],
    ids=lambda changes: json.dumps(changes)[:40],
)
def test_the_schema_refuses_what_the_program_refuses(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        parse({**platform_object("local"), **changes})
    assert problems(stack_file(**changes))
