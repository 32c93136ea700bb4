"""Wrong stack files: named cases with their whole messages, and generated ones with exactly n mistakes."""

import copy
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pulumi.runtime.config import set_all_config

from docs.generator.configuration import SCHEMA as SCHEMA_FILE
from runtime.model import Spec
from stacks.check import main, mistakes
from stacks.mistakes import explain, full_key
from stacks.settings import PlatformSettings, SettingsError, load, parse
from tests.support.stack_files import ROOT, changed_platform, platform_object

CASES: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "wrong_settings.yaml").read_text())
STACK_FILE = (ROOT / "stacks" / "Pulumi.onprem.yaml").read_text()
SCHEMA = jsonschema.Draft202012Validator(json.loads((ROOT / "docs" / SCHEMA_FILE).read_text()))
FEW = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def changed(changes: Mapping[str, Any]) -> dict[str, Any]:
    return changed_platform("onprem", changes)


def shortened(lines: list[str]) -> list[str]:
    """Without the lists that grow with every new setting; a test of its own reads one of them."""
    return [
        re.sub(r"(allowed here: |with the keys |must be one of cpu, )[^;]+", r"\1…", line) for line in lines
    ]


def refused_by_schema(value: object) -> bool:
    file: Any = {"config": {"spillway:platform": value}}
    return not SCHEMA.is_valid(file)  # pyright: ignore[reportUnknownMemberType]


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_a_named_mistake_says_exactly_this(case: dict[str, Any]) -> None:
    assert shortened(explain(PlatformSettings, changed(case["change"]))) == case["says"]


def test_an_unknown_key_is_told_every_key_that_may_stand_there() -> None:
    keys = ", ".join(sorted(field.alias or name for name, field in PlatformSettings.model_fields.items()))
    assert f"allowed here: {keys}; remove it" in explain(PlatformSettings, changed({"zzz": 1}))[0]


def test_there_are_at_least_sixty_named_cases_each_with_its_own_name() -> None:
    assert len({case["case"] for case in CASES}) == len(CASES) >= 60


def test_the_schema_refuses_at_least_three_in_four_of_the_named_cases() -> None:
    # The rest spans several keys, or depends on tables that change: versions, reserved names.
    missed = [case["case"] for case in CASES if not refused_by_schema(changed(case["change"]))]
    assert len(missed) <= len(CASES) / 4, missed


# Whole files: what is replaced in the text of stacks/Pulumi.onprem.yaml, and everything that is said.
TOP = "config, encryptedkey, encryptionsalt, environment, secretsprovider"
WRONG_FILES: list[tuple[str, str, str, list[str]]] = [
    (
        "the key under config is misspelt",
        "spillway:platform",
        "spillway:platfrom",
        [
            "config.spillway:platfrom is not a setting; allowed here: spillway:platform; "
            "did you mean spillway:platform?"
        ],
    ),
    (
        "the namespace under config is misspelt, and a value is wrong too",
        "spillway:platform:\n    scenario: onprem",
        "spilway:platform:\n    scenario: onpremise",
        [
            "config.spilway:platform is not a setting; allowed here: spillway:platform; "
            "did you mean spillway:platform?",
            'spillway:platform.scenario = "onpremise": must be one of onprem, hybrid, sagemaker; '
            "did you mean onprem?",
        ],
    ),
    (
        "the key under config has no namespace",
        "spillway:platform",
        "platform",
        [
            "config.platform is not a setting; allowed here: spillway:platform; "
            "did you mean spillway:platform?"
        ],
    ),
    (
        "a provider's key stands beside it",
        "config:\n",
        "config:\n  kubernetes:context: lab\n",
        ["config.kubernetes:context is not a setting; allowed here: spillway:platform; remove it"],
    ),
    (
        "the word config is misspelt",
        "config:\n",
        "confg:\n",
        [f"confg is not a setting; allowed here: {TOP}; did you mean config?"],
    ),
    (
        "the word config is missing",
        "config:\n  spillway:platform:\n",
        "spillway:platform:\n",
        ["spillway:platform is not a setting here; move it below config:, indented"],
    ),
    (
        "a key stands beside config",
        "config:\n",
        "retries: 3\nconfig:\n",
        [f"retries is not a setting; allowed here: {TOP}; remove it"],
    ),
    (
        "config is a list",
        STACK_FILE,
        "config: [a]\n",
        ["config must be an object; write spillway:platform: below it, indented"],
    ),
    (
        "config is empty",
        STACK_FILE,
        "config:\n",
        ["spillway:platform is missing; add it under config: (stacks/Pulumi.local.yaml is an example)"],
    ),
    ("the file is empty", STACK_FILE, "", ["the file is empty; add config: and below it spillway:platform:"]),
    (
        "the file is a list",
        STACK_FILE,
        "- a\n",
        ["the file must be an object with the key config; write config: and below it spillway:platform:"],
    ),
    (
        "a key is there twice",
        "replicas: 2\n",
        "replicas: 2\n      replicas: 3\n",
        ["line 17: replicas is there already, on line 16; remove one"],
    ),
    (
        "a tab indents a line",
        "    scenario",
        "\tscenario",
        ["line 5: a tab stands before the key; YAML allows spaces only, so indent with spaces"],
    ),
    (
        "a bracket is open",
        "[default]",
        "[default",
        [
            "line 19: is no YAML: expected ',' or ']', but got ':'; "
            "mend it, or quote a value that holds any of : # * @"
        ],
    ),
    (
        "an anchor is not there",
        "name: llm",
        "name: *llm",
        [
            "line 6: is no YAML: found undefined alias 'llm'; "
            "mend it, or quote a value that holds any of : # * @"
        ],
    ),
    (
        "a second document follows",
        STACK_FILE,
        "config: {}\n---\nconfig: {}\n",
        [
            "line 2: is no YAML: expected a single document in the stream but found another document; "
            "mend it, or quote a value that holds any of : # * @"
        ],
    ),
    (
        "a control character is in it",
        "name: llm",
        "name: ll\x01m",
        ["the file has a character that YAML does not allow: #x0001; remove it"],
    ),
    (
        "a value is encrypted",
        "name: llm",
        "name: {secure: v1:abc}",
        ["spillway:platform holds an encrypted value; no setting is secret, so write it as plain text"],
    ),
    (
        "a version is read as a number",
        "version: 2.60.0",
        "version: 2.60",
        ["spillway:platform.ray.version = 2.6: must be text; quote it, because YAML reads a number here"],
    ),
    (
        "a number has the leading zero of an octal",
        "replicas: 2\n",
        "replicas: 0100\n",
        [
            "spillway:platform.gateway.replicas = 64: must be a whole number from 1 to 50; "
            "lower it to 50 or less"
        ],
    ),
    (
        "a key is a number",
        "name: llm",
        "1: llm",
        ["spillway:platform.1 is not a setting; allowed here: …; remove it"],
    ),
    (
        "the object is left empty",
        STACK_FILE,
        "config:\n  spillway:platform:\n",
        [
            "spillway:platform = null: must be an object with the keys …; write what belongs to it on the "
            "lines below it, indented"
        ],
    ),
]


@pytest.mark.parametrize(
    ("old", "new", "says"), [row[1:] for row in WRONG_FILES], ids=[row[0] for row in WRONG_FILES]
)
def test_a_wrong_file_says_exactly_this(old: str, new: str, says: list[str]) -> None:
    assert old in STACK_FILE
    assert shortened(mistakes(STACK_FILE.replace(old, new, 1))) == shortened(says)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        # As `pulumi config --json` of Pulumi 3.255.0 shows them; PyYAML alone reads most of them otherwise.
        ("yes", "yes"),
        ("off", "off"),
        ("TRUE", True),
        ("010", 8),
        ("0o10", 8),
        ("09", 9),
        ("0x10", 16),
        ("0b11", 3),
        ("1_000", 1000),
        ("1e3", 1000),
        ("2.0", 2),
        (".5", 0.5),
        ("12:30", "12:30"),
        ("~", None),
        ("'1'", "1"),
    ],
)
def test_a_plain_word_means_what_it_means_to_pulumi(written: str, read: object) -> None:
    file = STACK_FILE.replace("name: llm", f"name: [{written}]")
    assert mistakes(file)  # a list is no name, so the value is not judged
    text = STACK_FILE.replace("accelerator:", f"engineArguments: {{a: [{written}]}}\n        accelerator:", 1)
    (line,) = mistakes(text)
    assert "engineArguments.a" in line
    argument = STACK_FILE.replace("replicas: 2", f"replicas: {written}", 1)
    shown = [line for line in mistakes(argument) if "gateway.replicas" in line]
    valid = isinstance(read, int) and not isinstance(read, bool) and 1 <= read <= 50
    assert (
        shown == []
        if valid
        else shown[0].startswith(f"spillway:platform.gateway.replicas = {json.dumps(read)}:")
    )


def test_main_prints_every_mistake_of_a_file_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "Pulumi.x.yaml"
    file.write_text(STACK_FILE.replace("replicas: 2", "replicas: 0").replace("name: llm", "name: LLM"))
    assert main([str(file)]) == 1
    header, *lines = capsys.readouterr().err.splitlines()
    assert header == f"2 mistakes in {file}:"
    assert [line.split(" = ")[0] for line in lines] == [
        "  - spillway:platform.name",
        "  - spillway:platform.gateway.replicas",
    ]
    assert main([str(tmp_path / "nowhere")]) == 1
    assert "cannot be read" in capsys.readouterr().err
    assert main([str(ROOT / "stacks" / "Pulumi.local.yaml")]) == 0


@pytest.mark.parametrize(
    ("config", "secret", "says"),
    [
        ({}, [], "spillway:platform is missing; add it under config:"),
        ({"spillway:platfrom": "{}"}, [], "did you mean spillway:platform?"),
        ({"spillway:platform": "onprem"}, [], 'spillway:platform = "onprem": must be an object'),
        ({"spillway:platform": '{"name": "hunter2"}'}, ["spillway:platform"], "holds an encrypted value"),
    ],
)
def test_the_program_says_what_is_wrong_with_the_config_that_pulumi_hands_over(
    config: dict[str, str], secret: list[str], says: str
) -> None:
    set_all_config({"pulumi:disable-default-providers": '["*"]', **config}, secret)
    try:
        with pytest.raises(SettingsError) as error:
            load()
    finally:
        set_all_config({}, [])
    assert says in str(error.value)
    assert "hunter2" not in str(error.value)


def test_the_program_takes_the_config_that_pulumi_hands_over() -> None:
    set_all_config({"spillway:platform": json.dumps(platform_object("onprem"))}, [])
    try:
        assert load() == parse(platform_object("onprem"))
    finally:
        set_all_config({}, [])


# Generated files: a valid one that sets every key, and n independent mistakes at random places of it.


def everything() -> dict[str, Any]:
    """A valid platform with all keys but those that exclude each other."""
    model = {
        "name": "m",
        "servedName": "org/m",
        "source": {"huggingFace": "org/m", "revision": "abc"},
        "accelerator": "nvidia-h100",
        "tensorParallel": 2,
        "pipelineParallel": 1,
        "replicas": {"min": 1, "max": 3},
        "contextLength": 8192,
        "maxSequences": 32,
        "targetOngoingRequests": 24,
        "maxQueuedRequests": 8,
        "engineArguments": {"seed": 1},
        "worker": {"cpu": "8", "memory": "64Gi", "cpuRequest": "4", "memoryRequest": "32Gi"},
        "huggingFaceTokenSecret": "hub",
        "upgrade": "None",
        "revision": "1",
    }
    full = platform_object("local")
    full["cluster"] = {"kubeconfig": "/etc/lab", "context": "lab"}
    full["kuberay"] |= {"install": "chart", "namespace": "operator"}
    full["gateway"] |= {"clients": ["a"], "maxRequestBytes": 4096, "streamIdleTimeoutSeconds": 60}
    full["quota"] = {"cpu": "100", "memory": "1Ti", "accelerators": 100000, "pods": 50}
    full["models"] = [model, {**copy.deepcopy(model), "name": "n", "servedName": "org/n"}]
    return full


Place = tuple[int | str, ...]


def leaves(value: object, place: Place = ()) -> Iterator[Place]:
    if isinstance(value, dict):
        for key, inside in value.items():  # pyright: ignore[reportUnknownVariableType]
            yield from leaves(inside, (*place, key))  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for index, inside in enumerate(value):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            yield from leaves(inside, (*place, index))  # pyright: ignore[reportUnknownArgumentType]
    else:
        yield place


FULL = everything()
LEAVES = [place for place in leaves(FULL) if "engineArguments" not in place]
REQUIRED = {"scenario", "owner", "costCentre", "environment", "name", "accelerator", "image"}
EVERY_KEY = {str(part) for place in leaves(FULL) for part in place if isinstance(part, str)}


def at(value: Any, place: Place) -> Any:
    for part in place:
        value = value[part]
    return value


@dataclass(frozen=True)
class Mistake:
    """What is done at a place, and how the line about it must begin."""

    kind: str
    place: Place
    new: Any = None
    key: str = ""

    def make(self, platform: dict[str, Any]) -> str:
        holder, last = at(platform, self.place[:-1]), self.place[-1]
        if self.kind == "missing":
            del holder[last]
            return f"{full_key(self.place)} is missing"
        if self.kind == "misspelt":
            holder[self.key] = holder.pop(last)
            return f"{full_key((*self.place[:-1], self.key))} is not a setting"
        if self.kind == "unknown":
            holder[self.key] = self.new
            return f"{full_key((*self.place[:-1], self.key))} is not a setting"
        holder[last] = self.new
        return full_key(self.place)


@st.composite
def a_mistake(draw: st.DrawFn, place: Place) -> Mistake:
    last, good = str(place[-1]), at(FULL, place)
    is_required = (
        last in REQUIRED
        and not (last == "name" and len(place) == 1)
        and place[0] in {"scenario", "owner", "costCentre", "environment", "ray", "models"}
    )
    kind = draw(
        st.sampled_from(["misspelt", "unknown", "value", "value", "value"] + ["missing"] * is_required)
    )
    if kind == "misspelt":
        cut = draw(st.integers(0, len(last) - 1))
        letter = draw(st.sampled_from("xqz"))
        key = draw(st.sampled_from([last[:cut] + last[cut + 1 :], last[:cut] + letter + last[cut:]]))
        # Two letters are like too many other words to be taken for one.
        assume(len(key) > 2 and key not in EVERY_KEY)
        return Mistake(kind, place, key=key)
    if kind == "unknown":
        return Mistake(
            kind, place, draw(st.sampled_from([1, None, "x", {"a": 1}])), f"qqq{draw(st.integers(0, 9))}"
        )
    wrong: list[Any] = [{"a": 1}] if isinstance(good, list) else [[good], {"a": 1}]
    if isinstance(good, int):
        wrong += [str(good), -(10**12), 1.5, True]
    elif isinstance(good, str):
        wrong += [7, 1.5, False]
    if last in {"scenario", "install", "service", "upgrade", "accelerator"}:
        wrong += ["elsewhere", f"{good}x"]
    if last.lower().startswith(("cpu", "memory", "head")):
        wrong += ["4 cores", "16GB", "-1", "lots"]
    return Mistake(kind, place, draw(st.sampled_from(wrong)))


@st.composite
def independent_mistakes(draw: st.DrawFn) -> list[Mistake]:
    places = draw(st.lists(st.sampled_from(LEAVES), min_size=1, max_size=6, unique=True))
    found = [draw(a_mistake(place)) for place in places]
    # Two changes to the keys of one object can be read in more than one way.
    holders = [one.place[:-1] for one in found if one.kind != "value"]
    assume(len(holders) == len(set(holders)))
    return found


@FEW
@given(independent_mistakes())
def test_n_independent_mistakes_give_exactly_n_lines_each_with_its_key(wrong: list[Mistake]) -> None:
    platform = copy.deepcopy(FULL)
    starts = [mistake.make(platform) for mistake in wrong]
    lines = explain(PlatformSettings, platform)
    assert len(lines) == len(wrong), lines
    for start in starts:
        assert (
            len([line for line in lines if re.match(rf"{re.escape(start)}( = |: |;| here|$)", line)]) == 1
        ), (
            start,
            lines,
        )
    for line in lines:
        assert re.search(r"; .+|\?$|is missing; add it", line), f"no fix in: {line}"
        assert "\n" not in line
    with pytest.raises(SettingsError):
        parse(platform)


@FEW
@given(st.sampled_from(LEAVES).flatmap(a_mistake))
def test_the_schema_refuses_every_generated_mistake_too(mistake: Mistake) -> None:
    platform = copy.deepcopy(FULL)
    mistake.make(platform)
    assert refused_by_schema(platform)


@st.composite
def valid_platforms(draw: st.DrawFn) -> dict[str, Any]:
    platform = copy.deepcopy(FULL)
    needed = {"name", "servedName", "repository", "huggingFace", "expires"} | REQUIRED
    for place in draw(st.lists(st.sampled_from(LEAVES), unique=True)):
        if place[-1] not in needed and "kuberay" not in place:
            del at(platform, place[:-1])[place[-1]]
    platform["gateway"]["replicas"] = draw(st.integers(1, 50))
    names = draw(st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), min_size=1, unique=True))
    platform["gateway"]["clients"] = [
        draw(st.sampled_from([name, {"name": name}, {"name": name, "spill": "never"}])) for name in names
    ]
    # Without requests: those of the whole file need not be within the limits that are drawn.
    platform["models"][0]["worker"] = {}
    platform["models"][0]["worker"]["memory"] = draw(
        st.from_regex(r"[1-9][0-9]{0,3}(k|[KMG]i|[MGT])", fullmatch=True)
    )
    platform["models"][0]["worker"]["cpu"] = draw(
        st.from_regex(r"[1-9][0-9]?|[1-9][0-9]{2}m", fullmatch=True)
    )
    platform["models"][0]["source"] = draw(
        st.sampled_from([{"path": "/m"}, {"volumeClaim": "c", "path": "/m"}, {"hostFolder": "/m"}])
    )
    return platform


@FEW
@given(valid_platforms())
def test_a_valid_file_is_valid_by_the_schema_and_without_a_word(platform: dict[str, Any]) -> None:
    parse(platform)
    assert explain(PlatformSettings, platform) == []
    assert not refused_by_schema(platform)


def test_hundreds_of_mistakes_are_all_told() -> None:
    platform = everything()
    model = platform["models"][0] | {
        "wrong": 1,
        "contextLength": 1,
        "maxSequences": "1",
        "accelerator": "gpu",
    }
    model["replicas"] = {"min": 2, "max": 1}
    platform["models"] = [{**model, "name": f"m{n}", "servedName": f"s{n}"} for n in range(50)]
    assert len(explain(PlatformSettings, platform)) == 250


def test_every_check_over_several_keys_is_an_after_validator_on_a_spec() -> None:
    # `explain` runs those again one by one; another mode would be told once and not beside other mistakes.
    def specs(model: type[Spec]) -> Iterator[type[Spec]]:
        yield model
        for child in model.__subclasses__():
            yield from specs(child)

    for model in specs(Spec):
        for validator in model.__pydantic_decorators__.model_validators.values():
            assert validator.info.mode == "after", (model, validator)
