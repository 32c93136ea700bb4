"""Reading properties: missing, unknown and known stay apart."""

from collections.abc import Callable
from typing import Any

import pytest
from pulumi_policy import proxy

from policies.reading import Presence, Unreadable, read
from runtime.stack_resources import UNKNOWN, UNKNOWN_SENTINELS
from tests.policies.kubernetes_objects import UNKNOWN_NUMBER, UNKNOWN_STRING


def test_a_missing_an_unknown_and_a_known_value_are_told_apart() -> None:
    root = read({"known": "x", "unknown": UNKNOWN_STRING, "null": None})
    assert root.child("known").presence is Presence.KNOWN
    assert root.child("unknown").presence is Presence.UNKNOWN
    assert root.child("null").presence is Presence.MISSING
    assert root.child("absent").presence is Presence.MISSING


def test_a_path_below_a_missing_object_is_missing_and_keeps_its_whole_path() -> None:
    node = read({"spec": {}}).child("spec", "template", "a.b/c")
    assert node.presence is Presence.MISSING
    assert node.path == 'spec.template["a.b/c"]'


def test_a_path_below_an_unknown_object_names_the_unknown_object() -> None:
    node = read({"spec": {"template": UNKNOWN_STRING}}).child("spec", "template", "spec", "containers")
    with pytest.raises(Unreadable, match=r"^spec\.template is not known until"):
        node.items()


def test_a_string_that_only_contains_an_unknown_is_unknown() -> None:
    node = read({"selector": f"pool-{UNKNOWN_STRING}-a"}).child("selector")
    assert node.presence is Presence.UNKNOWN


def test_an_unknown_list_element_raises_only_when_it_is_read() -> None:
    items = read({"list": ["a", UNKNOWN_STRING]}).child("list").items()
    assert items[0].text() == "a"
    with pytest.raises(Unreadable, match=r"^list\[1\] is not known"):
        items[1].text()


def test_entries_with_an_unknown_value_can_be_listed() -> None:
    entries = read({"limits": {"cpu": UNKNOWN_NUMBER, "memory": "1Gi"}}).child("limits").entries()
    assert {key: node.presence for key, node in entries.items()} == {
        "cpu": Presence.UNKNOWN,
        "memory": Presence.KNOWN,
    }


def test_a_float_with_a_whole_value_is_an_integer() -> None:
    value = read({"n": 8.0}).child("n").integer()
    assert value == 8
    assert isinstance(value, int)


@pytest.mark.parametrize("value", [1.5, True, "8", float("inf"), float("nan"), [], {}])
def test_what_is_no_whole_number_is_refused(value: object) -> None:
    with pytest.raises(Unreadable, match=r"^n is not a whole number$"):
        read({"n": value}).child("n").integer(default=1)


def test_a_number_below_the_minimum_is_refused() -> None:
    with pytest.raises(Unreadable, match="n is below 0"):
        read({"n": -1}).child("n").integer()


def test_a_default_stands_for_a_missing_value_but_never_for_an_unknown_one() -> None:
    root = read({"n": UNKNOWN_NUMBER})
    assert root.child("absent").integer(default=3) == 3
    with pytest.raises(Unreadable, match="n is not known"):
        root.child("n").integer(default=3)


def test_a_missing_value_without_default_is_refused() -> None:
    with pytest.raises(Unreadable, match="s is missing"):
        read({}).child("s").text()


def test_a_value_of_the_wrong_shape_is_refused_without_being_quoted() -> None:
    root = read({"text": "hunter2", "list": ["hunter2"]})
    readings: list[Callable[[], object]] = [
        root.child("text").items,
        root.child("text").entries,
        lambda: root.child("text", "deeper"),
        root.child("list").text,
    ]
    for reading in readings:
        with pytest.raises(Unreadable) as caught:
            reading()
        assert "hunter2" not in f"{caught.value} {caught.value.fix}"


def test_a_text_that_is_json_is_read_at_its_own_path_and_what_is_no_json_is_not_quoted() -> None:
    root = read({"policy": '{"Statement": [{"Effect": 1}]}', "broken": "{secret", "later": UNKNOWN_STRING})
    (statement,) = root.child("policy").parsed().child("Statement").items()
    with pytest.raises(Unreadable, match=r"^policy\.Statement\[0\]\.Effect is not a string$"):
        statement.child("Effect").text()
    with pytest.raises(Unreadable, match=r"^policy is not a list$"):
        root.child("policy").parsed().items()
    with pytest.raises(Unreadable, match=r"^broken is not JSON$"):
        root.child("broken").parsed()
    with pytest.raises(Unreadable, match=r"^later is not known"):
        root.child("later").parsed()


def test_a_search_reaches_everything_that_is_known_and_passes_over_the_rest() -> None:
    root = read({"a": [{"b": 1}], "u": UNKNOWN_STRING, "t": "text"})
    found = [(key, node.path, node.presence.value) for key, node in root.descend()]
    assert found == [
        ("a", "a", "known"),
        ("", "a[0]", "known"),
        ("b", "a[0].b", "known"),
        ("u", "u", "unknown"),
        ("t", "t", "known"),
    ]


def test_a_plain_copy_holds_unknown_where_a_value_is_unknown() -> None:
    node = read({"a": [{"b": 1.0}], "u": [UNKNOWN_STRING], "t": f"x-{UNKNOWN_STRING}", "n": None})
    plain: Any = node.plain()
    assert plain == {"a": [{"b": 1.0}], "u": [UNKNOWN], "t": UNKNOWN, "n": None}
    assert type(plain["a"]) is list
    # And a copy is read like what it is a copy of.
    assert read(plain).child("t").presence is Presence.UNKNOWN


def test_an_error_that_is_not_about_unknowns_is_not_swallowed() -> None:
    class Broken(dict[str, object]):
        def __getitem__(self, key: str) -> object:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        read(Broken()).child("x")


def test_the_sentinels_are_those_of_the_installed_sdk() -> None:
    theirs = {value for name, value in vars(proxy).items() if name.startswith("UNKNOWN_")}
    assert theirs == set(UNKNOWN_SENTINELS)
