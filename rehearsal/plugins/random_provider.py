"""A stand-in for the `random` provider: `pulumi-resource-random`, with RandomPassword and nothing else.

It behaves as the real one does (pulumi-random 4.x on terraform-provider-random 3.x) in what it accepts,
what it makes, what replaces a password and what is secret. Where it does not:

- `bcryptHash` is there only if the package `bcrypt` can be imported by this process, which this project
  does not install. Otherwise the output is absent, never a wrong value: a program reads None.
- A value of the wrong type is an error; the real provider converts `"16"` to 16.
- `length` has an upper bound.
- Every other type of the provider is refused at preview.
"""

# The protocol gives every method its name and both parameters, needed or not.
# ruff: noqa: ARG002, N802

import importlib
import importlib.util
import json
import secrets
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

from google.protobuf import empty_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from rehearsal.plugins import property_values
from rehearsal.plugins.property_values import Value, is_unknown, plain, secret
from rehearsal.plugins.serving import Call, engine_address, refuse, serve

TYPE = "random:index/randomPassword:RandomPassword"
RESOURCE_ID = "none"
"""The id of every password, as in the real provider: an id is not secret, so it must not be the password."""

MAX_LENGTH = 4096
"""Ours. The real provider has no bound; a password beyond this is a mistake in the config."""

_LOWER = "abcdefghijklmnopqrstuvwxyz"
_UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS = "0123456789"
_SPECIAL = "!@#$%&*()-_=+[]{}<>:?"

_FLAGS = ("lower", "upper", "numeric", "special")
_MINIMUMS = ("minLower", "minUpper", "minNumeric", "minSpecial")
INPUTS: Mapping[str, str] = {
    "length": "integer",
    **dict.fromkeys((*_FLAGS, "number"), "boolean"),
    **dict.fromkeys(_MINIMUMS, "integer"),
    "overrideSpecial": "string",
    "keepers": "object",
}
"""Every input of RandomPassword with its type. Each one replaces the password when it changes."""

SECRET_OUTPUTS = ("result", "bcryptHash")

_PROVIDER_CONFIG = ("version", "pluginDownloadURL")
"""What the engine itself adds to the inputs of a provider; the random provider has no config of its own."""

_BCRYPT_BYTES = 72
"""How much of a password bcrypt hashes; the real provider cuts longer ones there."""


class RandomProvider(provider_pb2_grpc.ResourceProviderServicer):
    """The service `ResourceProvider` for `random`."""

    def Handshake(
        self, request: provider_pb2.ProviderHandshakeRequest, context: Call
    ) -> provider_pb2.ProviderHandshakeResponse:
        """Says that secrets are understood, so that they reach this process marked and stay so."""
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True)

    def GetPluginInfo(self, request: empty_pb2.Empty, context: Call) -> plugin_pb2.PluginInfo:
        """The version of the installed `pulumi-random`, for whose programs this stands in."""
        return plugin_pb2.PluginInfo(version=_version())

    def GetSchema(
        self, request: provider_pb2.GetSchemaRequest, context: Call
    ) -> provider_pb2.GetSchemaResponse:
        """The schema of the one type that is served."""
        return provider_pb2.GetSchemaResponse(schema=json.dumps(schema()))

    def CheckConfig(self, request: provider_pb2.CheckRequest, context: Call) -> provider_pb2.CheckResponse:
        """The provider takes no config."""
        given = property_values.read(request.news)
        unknown = [key for key in given if key not in _PROVIDER_CONFIG and not key.startswith("__")]
        return provider_pb2.CheckResponse(
            inputs=request.news,
            failures=[
                _failure(key, f"{key}: the random provider has no config; remove it") for key in unknown
            ],
        )

    def DiffConfig(self, request: provider_pb2.DiffRequest, context: Call) -> provider_pb2.DiffResponse:
        """No config, so nothing differs."""
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)

    def Configure(
        self, request: provider_pb2.ConfigureRequest, context: Call
    ) -> provider_pb2.ConfigureResponse:
        """See Handshake."""
        return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

    def Check(self, request: provider_pb2.CheckRequest, context: Call) -> provider_pb2.CheckResponse:
        """Finds every mistake in a password's inputs, as far as they are known."""
        _only_passwords(request.urn, context)
        failures = check(property_values.read(request.news))
        return provider_pb2.CheckResponse(
            inputs=request.news, failures=[_failure(key, reason) for key, reason in failures]
        )

    def Diff(self, request: provider_pb2.DiffRequest, context: Call) -> provider_pb2.DiffResponse:
        """A password with any other input is another password."""
        # A state written before the engine kept inputs has only the outputs, which include the inputs.
        old = property_values.read(request.old_inputs if request.old_inputs.fields else request.olds)
        changed = changes(old, property_values.read(request.news))
        replace = {
            key: provider_pb2.PropertyDiff(kind=provider_pb2.PropertyDiff.UPDATE_REPLACE, inputDiff=True)
            for key in changed
        }
        kind = provider_pb2.DiffResponse
        return provider_pb2.DiffResponse(
            changes=kind.DIFF_SOME if changed else kind.DIFF_NONE,
            diffs=changed,
            replaces=changed,
            detailedDiff=replace,
            hasDetailedDiff=True,
        )

    def Create(self, request: provider_pb2.CreateRequest, context: Call) -> provider_pb2.CreateResponse:
        """Makes a password; at preview only says that there will be one."""
        inputs = property_values.read(request.properties)
        if request.preview:
            made = dict.fromkeys(_secrets_made(), property_values.UNKNOWN)
        else:
            made = _with_hash(generate(_effective(inputs)))
        return provider_pb2.CreateResponse(
            id="" if request.preview else RESOURCE_ID,
            properties=property_values.write(_outputs(inputs, made)),
        )

    def Read(self, request: provider_pb2.ReadRequest, context: Call) -> provider_pb2.ReadResponse:
        """Gives back the state, there being nothing outside it; or imports the password given as the id."""
        if request.properties.fields:
            return provider_pb2.ReadResponse(
                id=request.id, properties=request.properties, inputs=request.inputs
            )
        inputs: dict[str, Value] = {"length": float(len(request.id))}
        return provider_pb2.ReadResponse(
            id=RESOURCE_ID,
            properties=property_values.write(_outputs(inputs, _with_hash(request.id))),
            inputs=property_values.write(inputs),
        )

    def Update(self, request: provider_pb2.UpdateRequest, context: Call) -> provider_pb2.UpdateResponse:
        """Never right: see Diff."""
        refuse(context, f"{request.urn}: a random password cannot be updated in place, only replaced")

    def Delete(self, request: provider_pb2.DeleteRequest, context: Call) -> empty_pb2.Empty:
        """Nothing is left outside the state."""
        return empty_pb2.Empty()

    def Cancel(self, request: empty_pb2.Empty, context: Call) -> empty_pb2.Empty:
        """Nothing here takes long enough to be cancelled."""
        return empty_pb2.Empty()


def check(inputs: Mapping[str, Value]) -> list[tuple[str, str]]:
    """What is wrong with a password's inputs: property and message, which says what is allowed instead."""
    found: list[tuple[str, str]] = []
    known: dict[str, Any] = {}
    for key, marked in inputs.items():
        value = plain(marked)
        if key.startswith("__"):
            continue  # The engine's own.
        if key not in INPUTS:
            found.append((key, f"{key}: not a property of RandomPassword; allowed: {', '.join(INPUTS)}"))
        elif value is not None and not is_unknown(value):
            wrong = _wrong_value(key, value)
            found += wrong
            if not wrong:
                known[key] = value
    if plain(inputs.get("length")) is None:
        found.append(("length", "length: missing; write how many characters the password has"))
    if not found:
        # Rules about several properties need each one to be right, and each to be known.
        open_keys = {key for key, value in inputs.items() if is_unknown(value)}
        found += _wrong_together(_effective(known), known, open_keys)
    return found


def _wrong_value(key: str, value: Value) -> list[tuple[str, str]]:
    # Every number comes as a float; the user wrote 16, not 16.0.
    written = int(value) if isinstance(value, float) and value.is_integer() else value
    shown = f"{key}: {json.dumps(written)}"
    kind = INPUTS[key]
    if kind == "integer":
        low, high = (1, MAX_LENGTH) if key == "length" else (0, MAX_LENGTH)
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
            return [(key, f"{shown} is not a whole number; allowed: {low} to {high}")]
        if not low <= value <= high:
            return [(key, f"{shown} is out of range; allowed: {low} to {high}")]
    elif kind == "boolean" and not isinstance(value, bool):
        return [(key, f"{shown} is not a boolean; allowed: true, false")]
    elif kind == "string" and not isinstance(value, str):
        return [(key, f"{shown} is not a string; write the special characters to choose from")]
    elif kind == "object":
        if not isinstance(value, dict):
            return [(key, f"{shown} is not a map; allowed: a map from string to string")]
        return [
            (f"{key}.{name}", f"{key}.{name}: {json.dumps(item)} is not a string; write it in quotes")
            for name, item in value.items()
            if not isinstance(item, str)
        ]
    return []


def _wrong_together(
    effective: Mapping[str, Any], known: Mapping[str, Any], open_keys: set[str]
) -> Iterable[tuple[str, str]]:
    if {"number", "numeric"} <= known.keys() and known["number"] != known["numeric"]:
        yield "number", "number: differs from numeric; number is the deprecated name, remove it"
    if not open_keys & {*_FLAGS, "number"} and not any(effective[flag] for flag in _FLAGS):
        yield "special", f"special: false, as are {', '.join(_FLAGS[:3])}; set one of them to true"
    # What is not known yet counts as 0: the least that it can be.
    minimums = {key: int(effective[key]) for key in _MINIMUMS if key not in open_keys}
    least = sum(minimums.values())
    if "length" not in open_keys and least > effective["length"]:
        parts = " + ".join(f"{key} {value}" for key, value in minimums.items() if value)
        length = int(effective["length"])
        yield "length", f"length: {length} is less than {parts} = {least}; allowed: {least} to {MAX_LENGTH}"


def _effective(inputs: Mapping[str, Value]) -> dict[str, Any]:
    """The inputs without marks and with the defaults for what is not set."""
    given = {key: plain(value) for key, value in inputs.items() if key in INPUTS and plain(value) is not None}
    # One setting by two names; `number` is the deprecated one.
    digits = given.get("numeric", given.get("number", True))
    defaults: dict[str, Any] = {
        **dict.fromkeys(_FLAGS, True),
        **dict.fromkeys(_MINIMUMS, 0),
        "overrideSpecial": None,
        "keepers": None,
    }
    return {**defaults, **given, "numeric": digits, "number": digits}


def changes(old: Mapping[str, Value], new: Mapping[str, Value]) -> list[str]:
    """The inputs that differ, a default that is written out or left out being the same.

    A value that is not known yet differs: whether it will be the same cannot be promised.
    """
    before, after = _effective(old), _effective(new)
    # `number` follows `numeric`; only what is written somewhere can have changed.
    return [key for key in INPUTS if before.get(key) != after.get(key) and (key in old or key in new)]


def generate(effective: Mapping[str, Any]) -> str:
    """A password: first the characters that the minimums ask for, then from all classes, then shuffled.

    As in the real provider (`CreateString`), a minimum counts also where its class is switched off, and an
    empty `overrideSpecial` is as good as none.
    """
    classes = (_LOWER, _UPPER, _DIGITS, effective["overrideSpecial"] or _SPECIAL)
    made = [
        secrets.choice(characters)
        for key, characters in zip(_MINIMUMS, classes, strict=True)
        for _ in range(int(effective[key]))
    ]
    alphabet = "".join(
        characters for flag, characters in zip(_FLAGS, classes, strict=True) if effective[flag]
    )
    made += [secrets.choice(alphabet) for _ in range(int(effective["length"]) - len(made))]
    secrets.SystemRandom().shuffle(made)
    return "".join(made)


def _secrets_made() -> tuple[str, ...]:
    return SECRET_OUTPUTS if importlib.util.find_spec("bcrypt") else SECRET_OUTPUTS[:1]


def _with_hash(password: str) -> dict[str, Value]:
    """The password, and its hash if one can be made."""
    made: dict[str, Value] = {"result": password}
    if "bcryptHash" in _secrets_made():
        bcrypt: Any = importlib.import_module("bcrypt")
        made["bcryptHash"] = bcrypt.hashpw(password.encode()[:_BCRYPT_BYTES], bcrypt.gensalt()).decode()
    return made


def _outputs(inputs: Mapping[str, Value], made: Mapping[str, Value]) -> dict[str, Value]:
    """The state of a password: inputs as given, with their marks, the defaults, and the secrets."""
    defaults = {key: value for key, value in _effective(inputs).items() if value is not None}
    given = {key: value for key, value in inputs.items() if key in INPUTS and plain(value) is not None}
    return {**defaults, **given, **{name: secret(value) for name, value in made.items()}}


def _only_passwords(urn: str, call: Call) -> None:
    """Refuses every other type. The engine calls Check first for each resource, at preview too."""
    asked = urn.split("::")[2].split("$")[-1]
    if asked != TYPE:
        refuse(call, f"{asked} is not served by the stand-in random provider; allowed: {TYPE}")


def _failure(key: str, reason: str) -> provider_pb2.CheckFailure:
    return provider_pb2.CheckFailure(property=key, reason=reason)


def _version() -> str:
    try:
        return metadata.version("pulumi-random")
    except metadata.PackageNotFoundError:
        return ""


def schema() -> dict[str, Any]:
    """The provider's schema, as far as it is served."""
    types = {
        key: {"type": kind}
        if kind != "object"
        else {"type": kind, "additionalProperties": {"type": "string"}}
        for key, kind in INPUTS.items()
    }
    outputs = {name: {"type": "string", "secret": True} for name in SECRET_OUTPUTS}
    return {
        "name": "random",
        "version": _version(),
        "resources": {
            TYPE: {
                "inputProperties": {
                    key: {**type_, "willReplaceOnChanges": True} for key, type_ in types.items()
                },
                "requiredInputs": ["length"],
                "properties": {**types, **outputs},
                "required": ["length", "result"],
            }
        },
    }


def main(arguments: list[str]) -> None:
    """Serves until the engine is done.

    Args:
        arguments: What the engine gives every plugin.
    """
    engine_address(arguments)
    provider = RandomProvider()

    def register(server: Any) -> None:
        provider_pb2_grpc.add_ResourceProviderServicer_to_server(provider, server)

    serve(register)


if __name__ == "__main__":
    main(sys.argv[1:])
