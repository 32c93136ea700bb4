"""What the installed `pulumi_aws` says about a type: its properties, which are required, and their types.

The classes are generated from the provider's schema, so they are the contract between a program and the
real provider. Nothing about properties is written down here a second time.
"""

import importlib
import inspect
import json
import re
import threading
import types
import typing
import warnings
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Union, cast

import pulumi
import pulumi_aws
from pulumi import _types as sdk_types  # pyright: ignore[reportPrivateUsage]

_ONE_IMPORT = threading.RLock()

Scalar = Literal["string", "integer", "number", "boolean", "anything"]


@dataclass(frozen=True)
class ListOf:
    """A list whose items all have one type."""

    item: "Shape"


@dataclass(frozen=True)
class MapOf:
    """A map from string to one type."""

    item: "Shape"


@dataclass(frozen=True)
class OneOf:
    """Any of several types."""

    shapes: "tuple[Shape, ...]"


@dataclass(frozen=True)
class ObjectOf:
    """An object with known properties: an `…Args` class of the SDK, read when it is first needed.

    Classes may contain themselves (a condition in a condition), so they cannot be read all at once.
    """

    class_: type

    @property
    def name(self) -> str:
        """The class's name, for messages."""
        return self.class_.__name__.removesuffix("Args")

    @property
    def properties(self) -> "Mapping[str, Property]":
        """The properties by the names that the provider sees."""
        return inputs_of(self.class_)


Shape = Scalar | ListOf | MapOf | OneOf | ObjectOf


@dataclass(frozen=True)
class Property:
    """One property.

    Attributes:
        shape: Its type.
        required: Of an input, that it must be given. Of an output, that the provider always sets it.
    """

    shape: Shape
    required: bool


@dataclass(frozen=True)
class Contract:
    """What the SDK says about one resource type or function.

    Attributes:
        token: As the engine names it, `aws:eks/cluster:Cluster`.
        inputs: What a program may give.
        outputs: What the provider gives back, the inputs among it.
    """

    token: str
    inputs: Mapping[str, Property]
    outputs: Mapping[str, Property]


@cache
def resource_tokens() -> Mapping[str, str]:
    """Every resource type of the installed SDK: its token and its class, `pulumi_aws.eks.Cluster`."""
    # The SDK registers its classes in a list of which only the engine's side is kept; it is in the source.
    source = inspect.getsource(pulumi_aws)
    listed = re.search(r'resource_modules="""\n(.*?)\n"""', source, re.DOTALL)
    if listed is None:
        raise ValueError("pulumi_aws/__init__.py registers its resources in another way than in 7.51")
    modules = cast("list[dict[str, Any]]", json.loads(listed[1]))
    return {
        token: f"{module['fqn']}.{name}" for module in modules for token, name in module["classes"].items()
    }


def resource(token: str) -> Contract:
    """The contract of a resource type.

    Raises:
        KeyError: The installed SDK has no such type.
    """
    # The SDK imports its modules when they are first used, and two threads see each other's half. Classes
    # that nobody here uses say then that they are deprecated.
    with _ONE_IMPORT, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return _resource(token)


@cache
def _resource(token: str) -> Contract:
    path, _, name = resource_tokens()[token].rpartition(".")
    class_ = getattr(importlib.import_module(path), name)
    # `InitArgs` where a nested type of another resource has the name; the generator steps aside for it.
    own = importlib.import_module(class_.__module__)
    arguments = getattr(own, f"{name}InitArgs", None) or getattr(own, f"{name}Args")
    return Contract(token, inputs_of(arguments), _outputs_of(class_))


@cache
def provider_config() -> Mapping[str, Property]:
    """The keys of the provider's own configuration."""
    return inputs_of(pulumi_aws.ProviderArgs)


def function(token: str) -> Contract:
    """The contract of a function, `aws:index/getRegion:getRegion`.

    Raises:
        KeyError: The installed SDK has no such function.
    """
    with _ONE_IMPORT, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return _function(token)


@cache
def _function(token: str) -> Contract:
    place, _, camel = token.removeprefix("aws:").rpartition(":")
    service = place.partition("/")[0]
    module = importlib.import_module("pulumi_aws" + ("" if service == "index" else f".{service}"))
    called = getattr(module, _snake(camel), None)
    result = getattr(module, camel[0].upper() + camel[1:] + "Result", None)
    if called is None or result is None:
        raise KeyError(token)
    hints = typing.get_type_hints(called, vars(importlib.import_module(called.__module__)))
    signature = inspect.signature(called)
    inputs = {
        _camel(name): Property(_shape(hints[name]), parameter.default is inspect.Parameter.empty)
        for name, parameter in signature.parameters.items()
        if name != "opts"
    }
    outputs = {name: Property("anything", required=False) for name in _getter_names(result)}
    return Contract(token, inputs, outputs)


@cache
def inputs_of(class_: type) -> Mapping[str, Property]:
    """The properties of an `…Args` class, by the names that the provider sees."""
    names = sdk_types.input_type_py_to_pulumi_names(class_)
    shapes = sdk_types.input_type_types(class_)
    required = {
        name
        for name, parameter in inspect.signature(class_).parameters.items()
        if parameter.default is inspect.Parameter.empty
    }
    return {
        provider_name: Property(_shape(shapes[provider_name]), python_name in required)
        for python_name, provider_name in names.items()
    }


def _outputs_of(class_: type) -> Mapping[str, Property]:
    names = sdk_types.resource_py_to_pulumi_names(class_)
    found: dict[str, Property] = {}
    for python_name, provider_name in names.items():
        getter = cast("property", inspect.getattr_static(class_, python_name)).fget
        hint = typing.get_args(typing.get_type_hints(getter)["return"])[0]
        found[provider_name] = Property(_shape(hint), not _is_optional(hint))
    return found


def _is_optional(hint: Any) -> bool:
    return types.NoneType in typing.get_args(hint)


def _shape(hint: Any) -> Shape:
    """The type behind an annotation, without the ways to give it later (Input, Output, Awaitable)."""
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        options = [option for option in typing.get_args(hint) if not _is_wrapper(option)]
        shapes: tuple[Shape, ...] = tuple(dict.fromkeys(_shape(option) for option in options))  # pyright: ignore[reportAssignmentType]
        return shapes[0] if len(shapes) == 1 else OneOf(shapes)
    arguments = typing.get_args(hint)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return MapOf(_shape(arguments[1]))
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return ListOf(_shape(arguments[0]))
    scalars: dict[Any, Scalar] = {str: "string", bool: "boolean", int: "integer", float: "number"}
    if hint in scalars:
        return scalars[hint]
    if isinstance(hint, type) and sdk_types.is_input_type(hint):
        return ObjectOf(hint)
    return "anything"


def _is_wrapper(option: Any) -> bool:
    origin = typing.get_origin(option)
    if option is types.NoneType or origin in (Awaitable, pulumi.Output):
        return True
    # What an input may also be written as: a dictionary with Python names, or what another call returned.
    return isinstance(option, type) and (
        hasattr(option, "__required_keys__") or sdk_types.is_output_type(option)
    )


def _getter_names(class_: type) -> list[str]:
    getters = [member for member in vars(class_).values() if isinstance(member, property)]
    return [
        str(getattr(getter, "_pulumi_name", _camel(getter.__name__)))
        for member in getters
        if (getter := member.fget) is not None
    ]


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
