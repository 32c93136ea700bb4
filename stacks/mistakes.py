"""What a rejected stack file is told: one line per mistake, with key, value, what is allowed and the fix."""

import copy
import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from types import NoneType
from typing import Any, cast, get_args, get_origin

from pydantic import ValidationError

from runtime.model import ContradictionError, ContradictionsError, Spec

CONFIG_KEY = "platform"
FULL_KEY = f"spillway:{CONFIG_KEY}"

ENCRYPTED = f"{FULL_KEY} holds an encrypted value; no setting is secret, so write it as plain text"

Location = tuple[int | str, ...]

_SHOWN_LENGTH = 60
# Never repeated in a message, whatever was meant by them: a terminal's output ends up in logs.
_SECRET_KEY = re.compile(r"token|secret|passw|credential|api_?key", re.IGNORECASE)
_SECRET_VALUE = re.compile(
    r"(hf_|sk-|gh[a-z]_|github_pat_|glpat-|AKIA|eyJ|xox[a-z]-)\w|://[^/@\s]+@|-----BEGIN"
)
# How people write bytes and CPUs, and what Kubernetes calls the same.
_UNITS = {"": "", "k": "k", "kb": "k", "kib": "Ki", "ki": "Ki"} | {
    spelling: unit
    for letter in "MGTPE"
    for spelling, unit in ((letter, letter), (f"{letter}B", letter), (f"{letter}i", f"{letter}i"))
    for spelling in (spelling.lower(), f"{spelling}b".lower())
}
_YAML_TYPES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}


def explain(root: type[Spec], value: object) -> list[str]:
    """One line per mistake in `value`, the object under `spillway:platform`; none if `root` accepts it.

    A key that is misspelt or in the wrong place is taken for the one that it was meant to be, so what is
    inside of it is judged too. A check over several keys speaks if all that it asks for is right.
    """
    mended = copy.deepcopy(value)
    lines: list[str] = []
    # What is moved to where it belongs can hold unknown keys of its own, so the search is made again.
    while unknown := list(_unknown_keys(root, mended, ())):
        lines += [_mend_key(root, mended, *one) for one in unknown]
    schema = _schema(root)
    problems = _problems(root, mended)
    broken = frozenset(place[:depth] for place in problems for depth in range(len(place) + 1))
    lines += [_problem_line(schema, mended, place, problem) for place, problem in problems.items()]
    return lines + [
        f"{_subject(mended, place)}: {message}"
        for place, message in _contradictions(root, mended, (), broken)
    ]


def full_key(location: Sequence[int | str]) -> str:
    """A place in the object, as messages name it: `spillway:platform.models[0].name`."""
    text = FULL_KEY
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{_word(part)}"
    return text


def config_mistakes(config: Mapping[str, object]) -> tuple[list[str], list[object]]:
    """What is wrong with the keys under `config:`, and what stands under `spillway:platform`, if anything.

    Pulumi's own keys may stand there too; a provider's may not, because the program reads none of them.
    """
    given = [config[FULL_KEY]] if FULL_KEY in config else []
    lines: list[str] = []
    for name in config:
        if name == FULL_KEY or name.startswith("pulumi:"):
            continue
        near = None if given else nearest(name.rpartition(":")[2], [CONFIG_KEY])
        if near:
            given = [config[name]]
        lines.append(unknown_key(f"config.{name}", [FULL_KEY], near and FULL_KEY))
    if not given:
        lines.append(f"{FULL_KEY} is missing; add it under config: (stacks/Pulumi.local.yaml is an example)")
    return lines, given


def unknown_key(key: str, allowed: Sequence[str], near: str | None) -> str:
    """The line about a key that nothing reads; `near` is what was meant."""
    fix = f"did you mean {near}?" if near else "remove it"
    return f"{key} is not a setting; allowed here: {', '.join(allowed)}; {fix}"


def nearest(word: str, known: Sequence[str]) -> str | None:
    """The known word that a misspelt one was meant to be: case, `-` and `_` do not count."""
    plain = {re.sub("[-_]", "", one).lower(): one for one in known}
    found = difflib.get_close_matches(re.sub("[-_]", "", word).lower(), plain, n=1)
    return plain[found[0]] if found else None


# Keys


def _unknown_keys(
    model: type[Spec], here: object, location: Location
) -> Iterator[tuple[type[Spec], Location, str]]:
    for name in _as_object(here):
        if name not in _fields(model):
            yield model, location, name
    for place, child, inside in _children(model, here, location):
        yield from _unknown_keys(child, inside, place)


def _mend_key(root: type[Spec], value: Any, model: type[Spec], location: Location, name: str) -> str:
    """The line about an unknown key; in `value` it is moved to where it was meant to be, or removed."""
    holder: dict[str, object] = _at(value, location)
    content = holder.pop(name)
    key, known = full_key((*location, name)), sorted(_fields(model))
    homes = [place for place, home in _places(root, value, ()) if name in _fields(home)]
    home = _one_home(root, value, homes, location, name)
    if home is not None:
        _object_at(value, home)[name] = content
        return f"{key} is not a setting here; move it to {full_key((*home, name))}"
    near = nearest(name, [one for one in known if one not in holder])
    if near is not None:
        holder[near] = content
        return unknown_key(key, known, near)
    twin = nearest(name, known)
    if twin is not None:
        return f"{unknown_key(key, known, twin)} That is there too, so remove one of the two"
    if homes:
        where = dict.fromkeys(re.sub(r"\[\d+\]", "[]", full_key(place)) for place in homes)
        return f"{key} is not a setting here; remove it, or move it to {' or '.join(where)}"
    return unknown_key(key, known, None)


def _one_home(
    root: type[Spec], value: object, homes: Sequence[Location], location: Location, name: str
) -> Location | None:
    """Where a key from elsewhere must have been meant to be: where it is missed, or the only place."""
    models = dict(_places(root, value, ()))
    free = [
        place for place in homes if _at(value, place) is None or name not in _as_object(_at(value, place))
    ]
    missed = [
        place
        for place in free
        if _fields(models[place])[name].is_required() and isinstance(_at(value, place), dict)
    ]
    close = [
        place for place in missed if place[: len(location)] == location or location[: len(place)] == place
    ]
    # An object that is not there and needs more than this key was not meant.
    whole = [
        place
        for place in free
        if _at(value, place) is not None
        or all(name == key or not field.is_required() for key, field in _fields(models[place]).items())
    ]
    only = whole if len(homes) == 1 else []
    return next((places[0] for places in (close, missed, only) if len(places) == 1), None)


def _places(model: type[Spec], here: object, location: Location) -> Iterator[tuple[Location, type[Spec]]]:
    """Every object that is in the file or could be, from the outside in."""
    yield location, model
    for place, child, inside in _children(model, here, location, absent=True):
        yield from _places(child, inside, place)


def _children(
    model: type[Spec], here: object, location: Location, *, absent: bool = False
) -> Iterator[tuple[Location, type[Spec], object]]:
    for alias, field in _fields(model).items():
        child, inside = _spec_in(field.annotation), _as_object(here).get(alias)
        if child is None:
            continue
        if _is_list(field.annotation):
            members = cast("list[object]", inside) if isinstance(inside, list) else []
            for index, member in enumerate(members):
                yield (*location, alias, index), child, member
        elif inside is not None or absent:
            yield (*location, alias), child, inside


# Values


def _problems(root: type[Spec], value: object) -> dict[Location, list[Mapping[str, Any]]]:
    """What pydantic has against single values, by place; a union's members complain at one place."""
    try:
        root.model_validate_json(json.dumps(value), by_alias=True, by_name=False)
    except ValidationError as error:
        found: dict[Location, list[Mapping[str, Any]]] = {}
        for problem in error.errors():
            place = _existing(value, problem["loc"])
            here = _at(value, place)
            if problem["type"] == "missing":
                place = (*place, problem["loc"][-1])
            # Members that failed on their own do not count, so pydantic also calls their list too short.
            padded = problem["type"] == "too_short" and here not in (None, [])
            # The checks over several keys are run again, one by one.
            check = problem["type"] == "value_error" and isinstance(_at(value, place), dict)
            if not padded and not check:
                found.setdefault(place, []).append(problem)
        return found
    return {}


def _problem_line(
    schema: Mapping[str, Any], value: object, place: Location, problems: Sequence[Mapping[str, Any]]
) -> str:
    problem, here = problems[0], _at(value, place)
    kind, context = str(problem["type"]), cast("Mapping[str, Any]", problem.get("ctx") or {})
    node = _node(schema, place)
    if kind == "missing":
        described = str(node.get("description", "")).rstrip(".")
        return f"{full_key(place)} is missing; add it{f': {described}' if described else ''}"
    if kind == "value_error":
        return f"{_subject(value, place)}: {context['error']}"
    variants = [one for one in _variants(schema, node) if one.get("type") != "null"]
    words = list(dict.fromkeys(_allowed(one) for one in variants))
    if "a number" in words and "a whole number" in words:
        words.remove("a whole number")
    fix = _fix(variants, here)
    if here is None and not _is_required(schema, place):
        fix += ", or remove the key"
    return f"{_subject(value, place)}: must be {' or '.join(words)}; {fix}"


def _allowed(node: Mapping[str, Any]) -> str:
    """What a value may be, from its JSON Schema."""
    choices = _choices(node)
    if choices:
        return choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
    if "patternErrorMessage" in node:
        return str(node["patternErrorMessage"]).removeprefix("must be ")
    if node.get("type") == "object":
        keys = ", ".join(node.get("properties", {}))
        return f"an object with the keys {keys}" if keys else "an object of names and values"
    if node.get("type") == "array":
        least = node.get("minItems", 0)
        return f"a list with at least {least} member" if least else "a list"
    words = _YAML_TYPES.get(str(node.get("type")), "something else")
    match node.get("minimum"), node.get("maximum"):
        case None, None:
            return words
        case least, None:
            return f"{words}, {least} or more"
        case least, most:
            return f"{words} from {least} to {most}"


def _fix(variants: Sequence[Mapping[str, Any]], here: object) -> str:
    types = {str(one.get("type")) for one in variants}
    if "string" in types and not isinstance(here, dict | list | None):
        types.discard("object")  # what is written as one value was meant as the short form
    choices = [choice for one in variants for choice in _choices(one)]
    if here is None and types & {"object", "array"}:
        return "write what belongs to it on the lines below it, indented"
    if here is None:
        return "give it a value"
    if "object" in types:
        return "remove the '-'" if isinstance(here, list) else "write KEY: VALUE lines below it, indented"
    if "array" in types:
        return "add one" if here == [] else "write a '-' before each member"
    if isinstance(here, (dict, list)):
        return "write one value"
    if "string" in types and not isinstance(here, str):
        whole = isinstance(here, int) and not isinstance(here, bool)
        read = "true or false" if isinstance(here, bool) else "a number"
        return f'quote it: "{here}"' if whole else f"quote it, because YAML reads {read} here"
    if isinstance(here, str) and "integer" in types:
        return f"remove the quotes: {here}" if re.fullmatch(r"-?\d+", here) else "write the number alone"
    if isinstance(here, str) and (meant := nearest(here, choices) or _quantity(variants, here)):
        return f"did you mean {meant}?"
    for one in variants:
        if isinstance(here, (int, float)) and not isinstance(here, bool):
            if here < one.get("minimum", here):
                return f"raise it to {one['minimum']} or more"
            if here > one.get("maximum", here):
                return f"lower it to {one['maximum']} or less"
    return f"write {choices[0]}" if len(choices) == 1 else "take one of them" if choices else "change it"


def _quantity(variants: Sequence[Mapping[str, Any]], text: str) -> str | None:
    """`64 GB` as Kubernetes writes it, if one of the variants takes that."""
    parts = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if parts is None:
        return None
    cores = re.fullmatch(r"v?cpus?|cores?", parts[2], re.IGNORECASE)
    meant = parts[1] + ("" if cores else _UNITS.get(parts[2].lower(), "?"))
    taken = any(re.fullmatch(str(one["pattern"]), meant) for one in variants if "pattern" in one)
    return f'"{meant}"' if taken else None


# Checks over several keys


def _contradictions(
    model: type[Spec], here: object, location: Location, broken: frozenset[Location]
) -> Iterator[tuple[Location, str]]:
    for place, child, inside in _children(model, here, location):
        yield from _contradictions(child, inside, place, broken)
    known = _as_far_as_right(model, here, location, broken)
    for validator in model.__pydantic_decorators__.model_validators.values():
        if validator.info.mode != "after":
            continue
        try:
            cast("Any", validator.func)(known)
        except ContradictionError as error:
            yield (*location, *error.place), str(error)
        except ContradictionsError as error:
            for mistake in error.mistakes:
                yield (*location, *mistake.path), mistake.message
        except (AttributeError, ValidationError):
            # A value that it asks for, or a spec that it makes of it, is wrong; that was said already.
            continue
        except ValueError as error:
            yield location, str(error)


def _as_far_as_right(
    model: type[Spec], here: object, location: Location, broken: frozenset[Location]
) -> Spec | None:
    """The object without the attributes whose values are wrong, or None if it is no object at all."""
    if not isinstance(here, dict):
        return None
    there = _as_object(cast("object", here))
    values: dict[str, object] = {}
    wrong: list[str] = []
    for name, field in model.model_fields.items():
        alias = field.alias or name
        place, inside = (*location, alias), there.get(alias)
        child = _spec_in(field.annotation)
        if child is None or not isinstance(inside, list if _is_list(field.annotation) else dict):
            if place in broken:
                wrong.append(name)
            elif alias in there:
                values[name] = tuple(cast("list[object]", inside)) if isinstance(inside, list) else inside
        elif isinstance(inside, list):
            members = enumerate(cast("list[object]", inside))
            values[name] = tuple(
                one if isinstance(one, str) else _as_far_as_right(child, one, (*place, n), broken)
                for n, one in members
            )
        else:
            values[name] = _as_far_as_right(child, cast("object", inside), place, broken)
    known = model.model_construct(**cast("dict[str, Any]", values))
    for name in wrong:
        vars(known).pop(name, None)
    return known


# Words and places


def _subject(value: object, place: Location) -> str:
    """Key and value; no value where there is none, or where it would say nothing."""
    here: object = _at(value, place)
    present = not place or isinstance(place[-1], int) or place[-1] in _as_object(_at(value, place[:-1]))
    if not present or (here and not isinstance(here, str | int | float)):
        return full_key(place)
    return f"{full_key(place)} = {_shown(place, here)}"


def _shown(place: Location, here: object) -> str:
    text = json.dumps(here, ensure_ascii=False)
    key = next((part for part in reversed(place) if isinstance(part, str)), "")
    if isinstance(here, str) and (_SECRET_KEY.search(key) or _SECRET_VALUE.search(here)):
        return "(not shown)"
    return text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}…"


def _word(key: str) -> str:
    if re.fullmatch(r"[\w-]{1,60}", key):
        return key
    return _shown((), key) if not _SECRET_VALUE.search(key) else "(not shown)"


def _as_object(value: object) -> dict[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


@cache
def _schema(root: type[Spec]) -> Mapping[str, Any]:
    return root.model_json_schema(by_alias=True)


@cache
def _fields(model: type[Spec]) -> dict[str, Any]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _spec_in(annotation: object) -> type[Spec] | None:
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return annotation
    return next((found for part in get_args(annotation) if (found := _spec_in(part))), None)


def _is_list(annotation: object) -> bool:
    return get_origin(annotation) is tuple or any(
        _is_list(part) for part in get_args(annotation) if part is not NoneType
    )


def _at(value: object, location: Sequence[int | str]) -> Any:
    here: Any = value
    for part in location:
        try:
            here = here[part]
        except (KeyError, IndexError, TypeError):
            return None
    return here


def _existing(value: object, location: Location) -> Location:
    """As much of a place as the file has; the rest names a union's member or a map's key."""
    here: Any = value
    found: list[int | str] = []
    for part in location:
        try:
            here = here[part]
        except (KeyError, IndexError, TypeError):
            continue
        found.append(part)
    return tuple(found)


def _object_at(value: Any, location: Location) -> dict[str, object]:
    """The object at a place, made where the file has none."""
    here = value
    for part in location:
        if isinstance(part, str) and here.get(part) is None:
            here[part] = {}
        here = here[part]
    return here


def _node(schema: Mapping[str, Any], place: Location) -> Mapping[str, Any]:
    """What the JSON Schema says of a place."""
    node: Mapping[str, Any] = schema
    for part in place:
        holder = _holder(schema, node)
        if isinstance(part, int):
            node = holder["items"]
        else:
            properties: Mapping[str, Mapping[str, Any]] = holder.get("properties", {})
            node = properties[part] if part in properties else _of_any_name(holder)
    return node


def _is_required(schema: Mapping[str, Any], place: Location) -> bool:
    """Whether something must stand at a place; a list's member and the whole object must."""
    if not place or isinstance(place[-1], int):
        return True
    return place[-1] in _holder(schema, _node(schema, place[:-1])).get("required", ())


def _holder(schema: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a place takes that has members: the object or list, where it may be something else too."""
    variants = _variants(schema, node)
    return next(one for one in variants if one.get("type") in {"object", "array"})


def _of_any_name(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a map's schema says of its values."""
    by_pattern: Mapping[str, Mapping[str, Any]] = node.get("patternProperties", {})
    return next(iter(by_pattern.values()), node.get("additionalProperties") or {"type": "any"})


def _variants(schema: Mapping[str, Any], node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The kinds of value that a place takes, references followed."""
    if "$ref" in node:
        name = str(node["$ref"]).rsplit("/", 1)[-1]
        return _variants(schema, schema["$defs"][name])
    inner: Sequence[Mapping[str, Any]] = node.get("anyOf") or node.get("oneOf", ())
    return [one for part in inner for one in _variants(schema, part)] if inner else [node]


def _choices(node: Mapping[str, Any]) -> list[str]:
    found: Sequence[object] = node.get("enum") or ([node["const"]] if "const" in node else [])
    return [str(choice) for choice in found]
