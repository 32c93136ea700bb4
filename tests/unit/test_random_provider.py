"""The stand-in random provider, in process: what it accepts, makes, replaces and keeps secret."""

import functools
import inspect
import json
from collections.abc import Generator, Mapping
from typing import Any, NoReturn

import bcrypt
import pulumi_random
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pulumi.runtime.proto import provider_pb2

from rehearsal.plugins import property_values, random_provider
from rehearsal.plugins.property_values import SECRET, SIGNATURE, UNKNOWN
from rehearsal.plugins.random_provider import INPUTS, SECRET_OUTPUTS, TYPE, RandomProvider, check

URN = f"urn:pulumi:dev::demo::my:component:Thing${TYPE}::password"
SPECIAL = "!@#$%&*()-_=+[]{}<>:?"


@pytest.fixture(autouse=True, scope="module")
def fixture_quick_hash() -> Generator[None]:
    """A hash as quick as bcrypt allows: hundreds of passwords are made here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bcrypt, "gensalt", functools.partial(bcrypt.gensalt, rounds=4))
        yield


class RefusedError(Exception):
    """The plugin ended the call with an error."""


class OneCall:
    """The part of a gRPC call that the plugins use."""

    def abort(self, code: Any, details: str) -> NoReturn:
        raise RefusedError(details)

    def add_callback(self, callback: Any) -> bool:
        return True


def create(inputs: Mapping[str, Any], preview: bool = False) -> tuple[str, dict[str, Any]]:
    request = provider_pb2.CreateRequest(urn=URN, properties=property_values.write(inputs), preview=preview)
    answer = RandomProvider().Create(request, OneCall())
    return answer.id, property_values.read(answer.properties)


def diff(old: Mapping[str, Any], new: Mapping[str, Any]) -> provider_pb2.DiffResponse:
    request = provider_pb2.DiffRequest(
        urn=URN, old_inputs=property_values.write(old), news=property_values.write(new)
    )
    return RandomProvider().Diff(request, OneCall())


def password(outputs: Mapping[str, Any]) -> str:
    return outputs["result"]["value"]


def messages(inputs: Mapping[str, Any]) -> list[str]:
    return [message for _, message in check(inputs)]


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def test_inputs_are_those_of_the_installed_sdk_class() -> None:
    signature = inspect.signature(pulumi_random.RandomPasswordArgs.__init__)
    assert {camel(name) for name in signature.parameters if name != "__self__"} == set(INPUTS)


def test_outputs_are_those_of_the_installed_sdk_class() -> None:
    resource = pulumi_random.RandomPassword
    declared = {camel(name) for name, member in vars(resource).items() if isinstance(member, property)}
    assert declared == {*INPUTS, *SECRET_OUTPUTS}


def test_the_type_is_that_of_the_installed_sdk_class() -> None:
    source = inspect.getsource(pulumi_random.RandomPassword)
    assert f"'{TYPE}'" in source


def test_the_schema_has_the_inputs_and_says_what_is_secret() -> None:
    answer = RandomProvider().GetSchema(provider_pb2.GetSchemaRequest(), OneCall())
    resource = json.loads(answer.schema)["resources"][TYPE]
    assert set(resource["inputProperties"]) == set(INPUTS)
    assert [name for name, item in resource["properties"].items() if item.get("secret")] == [
        "result",
        "bcryptHash",
    ]


def test_a_password_has_the_length_and_all_four_classes_by_default() -> None:
    id_, outputs = create({"length": 400})
    assert id_ == "none"
    made = password(outputs)
    assert len(made) == 400
    for characters in ("abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", SPECIAL):
        assert set(made) & set(characters)
    assert made.isascii()


def test_two_passwords_differ() -> None:
    assert password(create({"length": 32})[1]) != password(create({"length": 32})[1])


@given(
    minimums=st.tuples(*[st.integers(0, 9)] * 4),
    flags=st.tuples(*[st.booleans()] * 4).filter(any),
    spare=st.integers(1, 9),
)
@settings(deadline=None)  # how fast the machine is, is not what is tested
def test_every_accepted_password_has_its_minimums_and_only_characters_of_its_classes(
    minimums: tuple[int, ...], flags: tuple[bool, ...], spare: int
) -> None:
    inputs = dict(zip(("minLower", "minUpper", "minNumeric", "minSpecial"), minimums, strict=True))
    inputs |= dict(zip(("lower", "upper", "numeric", "special"), flags, strict=True))
    inputs |= {"length": sum(minimums) + spare}
    assert check(inputs) == []
    made = password(create(inputs)[1])
    assert len(made) == sum(minimums) + spare
    counts = (
        sum(c.islower() for c in made),
        sum(c.isupper() for c in made),
        sum(c.isdigit() for c in made),
        sum(c in SPECIAL for c in made),
    )
    assert sum(counts) == len(made)
    for count, least, on in zip(counts, minimums, flags, strict=True):
        assert count >= least
        assert on or count == least


def test_minimums_are_not_at_the_front_of_every_password() -> None:
    firsts = {
        password(create({"length": 40, "minNumeric": 20, "numeric": False})[1])[0].isdigit()
        for _ in range(64)
    }
    assert firsts == {True, False}


def test_own_special_characters_replace_the_default_ones() -> None:
    made = password(create({"length": 200, "overrideSpecial": "~", "lower": False, "upper": False})[1])
    assert set(made) <= set("0123456789~")
    assert "~" in made


def test_the_deprecated_name_number_switches_digits_off() -> None:
    outputs = create({"length": 300, "number": False})[1]
    assert not any(c.isdigit() for c in password(outputs))
    assert outputs["numeric"] is False


def test_the_password_is_marked_secret_and_nowhere_else_in_the_outputs() -> None:
    outputs = create({"length": 24})[1]
    made = outputs.pop("result")
    assert made[SIGNATURE] == SECRET
    assert made["value"] not in json.dumps(outputs)


def test_the_hash_is_absent_where_bcrypt_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:

    def not_found(_name: str) -> None:
        return None

    monkeypatch.setattr(random_provider.importlib.util, "find_spec", not_found)
    assert "bcryptHash" not in create({"length": 24})[1]


def test_outputs_have_the_defaults_and_keep_a_secret_input_secret() -> None:
    keepers = property_values.secret({"v": "1"})
    outputs = create({"length": 24, "keepers": keepers})[1]
    assert outputs["keepers"] == keepers
    assert (outputs["lower"], outputs["minLower"], outputs["length"]) == (True, 0, 24)
    assert "overrideSpecial" not in outputs


def test_at_preview_the_password_is_unknown_and_secret() -> None:
    id_, outputs = create({"length": 24}, preview=True)
    assert id_ == ""
    assert outputs["result"] == {SIGNATURE: SECRET, "value": UNKNOWN}


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({}, "length: missing"),
        ({"length": 0}, "length: 0 is out of range; allowed: 1 to 4096"),
        ({"length": 5000}, "length: 5000"),
        ({"length": 2.5}, "length: 2.5 is not a whole number"),
        ({"length": "16"}, 'length: "16" is not a whole number'),
        ({"length": True}, "length: true is not a whole number"),
        ({"length": 8, "lower": "yes"}, 'lower: "yes" is not a boolean; allowed: true, false'),
        ({"length": 8, "minUpper": -1}, "minUpper: -1 is out of range; allowed: 0"),
        ({"length": 8, "overrideSpecial": 3}, "overrideSpecial: 3 is not a string"),
        ({"length": 8, "keepers": "v"}, 'keepers: "v" is not a map'),
        ({"length": 8, "keepers": {"v": 1}}, "keepers.v: 1 is not a string"),
        ({"length": 8, "size": 8}, "size: not a property of RandomPassword; allowed: length, lower"),
        ({"length": 8, "number": True, "numeric": False}, "number: differs from numeric"),
        (
            {"length": 8, "lower": False, "upper": False, "numeric": False, "special": False},
            "special: false, as are lower, upper, numeric",
        ),
        (
            {"length": 8, "minLower": 5, "minSpecial": 4},
            "length: 8 is less than minLower 5 + minSpecial 4 = 9; allowed: 9 to 4096",
        ),
        ({"length": property_values.secret(0)}, "length: 0 is out of range"),
    ],
)
def test_a_mistake_is_named_with_key_value_and_what_is_allowed(inputs: dict[str, Any], said: str) -> None:
    found = messages(inputs)
    assert len(found) == 1
    assert found[0].startswith(said)


def test_a_number_is_shown_as_the_user_wrote_it() -> None:
    news = property_values.write({"length": 5000})
    answer = RandomProvider().Check(provider_pb2.CheckRequest(urn=URN, news=news), OneCall())
    assert answer.failures[0].reason.startswith("length: 5000 is")


def test_every_mistake_is_told_at_once() -> None:
    assert len(messages({"size": 1, "lower": 1, "minLower": -1})) == 4


@pytest.mark.parametrize(
    "inputs",
    [
        {"length": UNKNOWN},
        {"length": "3eeb2bf0-c639-47a8-9e75-3b44932eb421"},
        {"length": property_values.secret(UNKNOWN)},
        {"length": 4, "minLower": UNKNOWN, "minUpper": 4},
        {"length": 8, "keepers": UNKNOWN},
        {"length": 8, "keepers": {"v": UNKNOWN}},
        {"length": 8, "lower": UNKNOWN, "upper": False, "numeric": False, "special": False},
    ],
)
def test_what_is_not_known_yet_is_no_mistake(inputs: dict[str, Any]) -> None:
    assert messages(inputs) == []


def test_known_minimums_that_are_too_many_already_are_a_mistake_before_the_rest_is_known() -> None:
    assert messages({"length": 4, "minLower": UNKNOWN, "minUpper": 5})


def test_check_answers_with_the_inputs_as_they_came_and_the_failures() -> None:
    news = property_values.write({"length": 0})
    answer = RandomProvider().Check(provider_pb2.CheckRequest(urn=URN, news=news), OneCall())
    assert answer.inputs == news
    assert [failure.property for failure in answer.failures] == ["length"]


def test_another_type_is_refused_by_name() -> None:
    request = provider_pb2.CheckRequest(urn="urn:pulumi:dev::demo::random:index/randomPet:RandomPet::pet")
    with pytest.raises(
        RefusedError, match=r"random:index/randomPet:RandomPet is not served .* allowed: random:index"
    ):
        RandomProvider().Check(request, OneCall())


@pytest.mark.parametrize("key", list(INPUTS))
def test_a_change_of_any_input_replaces(key: str) -> None:
    old = {"length": 8, "keepers": {"v": "1"}, "overrideSpecial": "!"}
    other = {"integer": 9, "boolean": False, "string": "?", "object": {"v": "2"}}[INPUTS[key]]
    answer = diff(old, {**old, key: other})
    assert answer.changes == provider_pb2.DiffResponse.DIFF_SOME
    assert key in answer.replaces
    assert answer.detailedDiff[key].kind == provider_pb2.PropertyDiff.UPDATE_REPLACE


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"length": 8}, {"length": 8}),
        ({"length": 8}, {"length": 8, "lower": True, "minLower": 0}),
        ({"length": 8, "numeric": True}, {"length": 8}),
        ({"length": 8, "keepers": {"v": "1"}}, {"length": 8, "keepers": property_values.secret({"v": "1"})}),
    ],
)
def test_the_same_settings_written_differently_replace_nothing(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    answer = diff(old, new)
    assert answer.changes == provider_pb2.DiffResponse.DIFF_NONE
    assert list(answer.replaces) == []


def test_only_what_is_written_is_named_as_changed() -> None:
    assert list(diff({"length": 8}, {"length": 8, "numeric": False}).replaces) == ["numeric"]


def test_a_value_that_is_not_known_yet_replaces() -> None:
    assert list(diff({"length": 8}, {"length": UNKNOWN}).replaces) == ["length"]


def test_read_gives_the_state_back_untouched() -> None:
    state = property_values.write(create({"length": 24})[1])
    inputs = property_values.write({"length": 24})
    request = provider_pb2.ReadRequest(id="none", urn=URN, properties=state, inputs=inputs)
    answer = RandomProvider().Read(request, OneCall())
    assert (answer.id, answer.properties, answer.inputs) == ("none", state, inputs)


def test_an_import_takes_the_id_for_the_password_and_keeps_it_out_of_the_id() -> None:
    request = provider_pb2.ReadRequest(id="hunter2", urn=URN)
    answer = RandomProvider().Read(request, OneCall())
    outputs = property_values.read(answer.properties)
    assert answer.id == "none"
    assert outputs["result"] == {SIGNATURE: SECRET, "value": "hunter2"}
    assert property_values.read(answer.inputs) == {"length": 7}


def test_an_update_in_place_is_refused() -> None:
    with pytest.raises(RefusedError, match="only replaced"):
        RandomProvider().Update(provider_pb2.UpdateRequest(urn=URN), OneCall())


def test_the_provider_takes_no_config() -> None:
    news = property_values.write({"version": "4.21.4", "seed": "1"})
    answer = RandomProvider().CheckConfig(provider_pb2.CheckRequest(news=news), OneCall())
    assert [failure.property for failure in answer.failures] == ["seed"]


def test_the_provider_says_that_it_understands_secrets_and_previews() -> None:
    assert RandomProvider().Handshake(provider_pb2.ProviderHandshakeRequest(), OneCall()).accept_secrets
    configured = RandomProvider().Configure(provider_pb2.ConfigureRequest(), OneCall())
    assert (configured.acceptSecrets, configured.supportsPreview) == (True, True)
