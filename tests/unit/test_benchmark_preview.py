"""The preview benchmark compares what the two programs declare before it times them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.measures import Spread
from benchmarks.preview import DifferentPreviewsError, Timed, bare_resources, compare, declared, settings_file

ROOT = "urn:pulumi:s::p::"
PARENT = f"{ROOT}spillway:Part::part"
MAP = f"{ROOT}spillway:Part$kubernetes:core/v1:ConfigMap::files"
PASSWORD = f"{ROOT}random:index/randomPassword:RandomPassword::token"
SECRET = f"{ROOT}kubernetes:core/v1:Secret::token"


def step(urn: str, **state: Any) -> dict[str, Any]:
    kind = urn.split("::")[2].rpartition("$")[2]
    return {"urn": urn, "newState": {"type": kind, "custom": True, "inputs": {}, **state}}


DOCUMENT = {
    "steps": [
        step(PASSWORD, inputs={"length": 32}, propertyDependencies={"length": []}),
        step(
            SECRET,
            inputs={"apiVersion": "v1", "stringData": "[secret]"},
            propertyDependencies={"apiVersion": [], "stringData": [PASSWORD]},
        ),
        step(PARENT, custom=False, dependencies=[SECRET]),
        step(
            MAP,
            parent=PARENT,
            inputs={"apiVersion": "v1", "data": {"a": "b"}, "added": "by the provider"},
            propertyDependencies={"apiVersion": [], "data": []},
            customTimeouts={"create": 900},
        ),
    ]
}


def test_a_preview_is_its_resources_with_what_is_around_each_and_what_it_waits_for() -> None:
    password, secret, part, files = declared(DOCUMENT)
    assert [resource.name for resource in (password, secret, part, files)] == [
        "token",
        "token",
        "part",
        "files",
    ]
    assert (part.is_component, files.is_component) == (True, False)
    assert (secret.parent, files.parent) == ("", part.key)
    # The ConfigMap waits for the Secret, because its component does.
    assert files.needs == (secret.key,)
    assert secret.secret_from == (password.key,)


def test_the_bare_program_gets_what_the_program_gave_and_no_secret() -> None:
    password, secret, part, files = bare_resources(declared(DOCUMENT))
    assert part["is_component"]
    assert password["inputs"] == {"length": 32}
    assert (secret["inputs"], secret["secret_from"]) == ({}, [password["key"]])
    assert (files["inputs"], files["timeouts"]) == ({"data": {"a": "b"}}, {"create": "900s"})


def test_previews_with_the_same_resources_and_inputs_are_equal() -> None:
    compare(declared(DOCUMENT), declared(DOCUMENT))


def test_a_resource_that_one_program_lacks_makes_previews_different() -> None:
    with pytest.raises(DifferentPreviewsError, match=r"1 resources differ .*ConfigMap::files"):
        compare(declared(DOCUMENT), declared({"steps": DOCUMENT["steps"][:-1]}))


def test_another_input_makes_previews_different() -> None:
    other = {"steps": [*DOCUMENT["steps"][:-1], step(MAP, inputs={"data": {"a": "c"}})]}
    with pytest.raises(DifferentPreviewsError, match="ConfigMap::files"):
        compare(declared(DOCUMENT), declared(other))


def test_the_stack_file_has_as_many_models_as_asked_for_and_each_its_own_name(tmp_path: Path) -> None:
    document = yaml.safe_load(settings_file(tmp_path, 12).read_text())
    models = document["config"]["spillway:platform"]["models"]
    assert len({model["name"] for model in models}) == len({model["servedName"] for model in models}) == 12


def test_the_overhead_is_taken_pair_by_pair() -> None:
    seconds = {
        "spillway": Spread((2.2, 4.4)),
        "bare": Spread((2.0, 4.0)),
        "spillway with policies": Spread((3.3, 6.6)),
    }
    timed = Timed(models=1, resources=3, components=1, seconds=seconds)
    assert timed.overhead.runs == pytest.approx((1.1, 1.1))
    assert timed.policies.runs == pytest.approx((1.5, 1.5))
