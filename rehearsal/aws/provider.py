"""A stand-in for the `aws` provider: `pulumi-resource-aws`, over the AWS double and nothing else.

What a program declares is compared with the installed `pulumi_aws`, so a property that the real provider
does not have, or a value of another type, fails at preview. What it does then is what
`rehearsal.aws.resources` says, which is not what AWS does. Differences to the real provider:

- Only the types and functions listed there are served; every other one is refused at preview.
- A value of the wrong type is an error; the real provider converts `"16"` to 16.
- Values are not checked against AWS's rules (names, CIDR blocks, enumerations) beyond what moto checks.
- Outputs that nothing here knows are empty: `""`, `[]`, 0 or false.
- A changed tag of the provider's `defaultTags` is seen where it is declared, not by a refresh.
- It refuses every endpoint that is not on this machine.
"""

# The protocol gives every method its name and both parameters, needed or not.
# ruff: noqa: ARG002, N802

import copy
import json
import os
import random
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from typing import Any, cast
from urllib.parse import quote

import grpc  # pyright: ignore[reportMissingTypeStubs]
from botocore.exceptions import (  # pyright: ignore[reportMissingTypeStubs]
    BotoCoreError,
    ClientError,
)
from google.protobuf import any_pb2, empty_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc, status_pb2

from rehearsal.aws import contract
from rehearsal.aws.checking import check
from rehearsal.aws.clients import RETRY_S, DoubleError, page
from rehearsal.aws.configuration import Configuration, check_configuration, configure
from rehearsal.aws.functions import FUNCTIONS
from rehearsal.aws.resources import KINDS
from rehearsal.aws.resources.cluster import ResourceFailed, Undeleted
from rehearsal.aws.resources.kind import Absent, Aws, Kind, Properties, is_absent
from rehearsal.plugins import property_values
from rehearsal.plugins.property_values import UNKNOWN, Value, is_secret, is_unknown, plain, secret
from rehearsal.plugins.serving import Call, engine_address, refuse, serve

_DEFAULTS = "__defaults"
"""Where the names of made-up inputs stand, as in the real provider."""

_NAMES = {"aws:s3/bucket:Bucket": "bucket", "aws:eks/nodeGroup:NodeGroup": "nodeGroupName"}
# Digits behind a name that is made up.
_RANDOM = 7
_EMPTY: Mapping[Any, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False}


class AwsProvider(provider_pb2_grpc.ResourceProviderServicer):
    """The service `ResourceProvider` for `aws`."""

    def __init__(self) -> None:
        """Waits for its configuration."""
        self._configuration: Configuration | None = None
        self._reached = False

    def Handshake(
        self, request: provider_pb2.ProviderHandshakeRequest, context: Call
    ) -> provider_pb2.ProviderHandshakeResponse:
        """Says that secrets are understood, so that they reach this process marked and stay so."""
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True)

    def GetPluginInfo(self, request: empty_pb2.Empty, context: Call) -> plugin_pb2.PluginInfo:
        """The version of the installed `pulumi-aws`, for whose programs this stands in."""
        return plugin_pb2.PluginInfo(version=version())

    def GetSchema(
        self, request: provider_pb2.GetSchemaRequest, context: Call
    ) -> provider_pb2.GetSchemaResponse:
        """Names the types and functions that are served, without their properties."""
        served: Properties = {
            "name": "aws",
            "version": version(),
            "resources": {token: {} for token in KINDS},
            "functions": {token: {} for token in FUNCTIONS},
        }
        return provider_pb2.GetSchemaResponse(schema=json.dumps(served))

    def CheckConfig(self, request: provider_pb2.CheckRequest, context: Call) -> provider_pb2.CheckResponse:
        """Finds every mistake in the configuration, an endpoint elsewhere among them."""
        found = check_configuration(property_values.read(request.news), os.environ)
        return provider_pb2.CheckResponse(inputs=request.news, failures=_failures(found))

    def DiffConfig(self, request: provider_pb2.DiffRequest, context: Call) -> provider_pb2.DiffResponse:
        """Another region or another account would be another provider; resources name theirs themselves."""
        old, new = property_values.read(request.old_inputs), property_values.read(request.news)
        changed = [key for key in {**old, **new} if old.get(key) != new.get(key) and key != "version"]
        return provider_pb2.DiffResponse(
            changes=provider_pb2.DiffResponse.DIFF_SOME if changed else provider_pb2.DiffResponse.DIFF_NONE,
            diffs=changed,
            replaces=[key for key in changed if key == "region"],
        )

    def Configure(
        self, request: provider_pb2.ConfigureRequest, context: Call
    ) -> provider_pb2.ConfigureResponse:
        """See Handshake."""
        try:
            self._configuration = configure(property_values.read(request.args), os.environ)
        except (ValueError, ClientError, BotoCoreError) as error:
            refuse(context, str(error))
        return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

    def Check(self, request: provider_pb2.CheckRequest, context: Call) -> provider_pb2.CheckResponse:
        """Finds every mistake in a resource's inputs, as far as they are known, and makes up its name."""
        kind = _kind(request.urn, context)
        inputs: dict[str, Value] = {
            key: item for key, item in property_values.read(request.news).items() if item is not None
        }
        declared = contract.resource(kind.token)
        failures = check(inputs, declared.inputs, kind.token.rpartition(":")[2])
        if not failures:
            try:
                inputs = _named(kind, request, _as_text(inputs, declared))
            except ValueError as error:
                refuse(context, str(error))
        return provider_pb2.CheckResponse(inputs=property_values.write(inputs), failures=_failures(failures))

    def Diff(self, request: provider_pb2.DiffRequest, context: Call) -> provider_pb2.DiffResponse:
        """Compares inputs; the kind says which of them make another resource."""
        kind = _kind(request.urn, context)
        old, new = property_values.read(request.old_inputs), property_values.read(request.news)
        changed = changes(old, new)
        replaces = [key for key in changed if key in {*kind.replaces, "region"}]
        words = provider_pb2.PropertyDiff
        detailed = {
            key: words(kind=words.UPDATE_REPLACE if key in replaces else words.UPDATE, inputDiff=True)
            for key in changed
        }
        name = _name_property(kind)
        # As the real provider: a name that was written and stays can be had once only.
        written = name is not None and name in new and name not in (plain(new.get(_DEFAULTS)) or [])  # pyright: ignore[reportOperatorIssue]
        return provider_pb2.DiffResponse(
            changes=provider_pb2.DiffResponse.DIFF_SOME if changed else provider_pb2.DiffResponse.DIFF_NONE,
            diffs=changed,
            replaces=replaces,
            detailedDiff=detailed,
            hasDetailedDiff=True,
            deleteBeforeReplace=bool(replaces) and written and name not in changed,
        )

    def Create(self, request: provider_pb2.CreateRequest, context: Call) -> provider_pb2.CreateResponse:
        """Makes a resource; at preview only says what will be known."""
        kind = _kind(request.urn, context)
        inputs = property_values.read(request.properties)
        if request.preview:
            return provider_pb2.CreateResponse(
                properties=property_values.write(_previewed(kind, inputs, self._tags(inputs, kind)))
            )
        aws = self._aws(inputs, context)
        id_, failures = "", list[str]()
        outputs: dict[str, Value] = _declared(inputs)
        try:
            try:
                id_ = kind.handler.create(aws, self._sent(inputs, kind))
            except ResourceFailed as failure:
                id_, failures = failure.id, failure.reasons
            outputs = self._settle(kind, aws, request.urn, id_, inputs)
        except (ClientError, BotoCoreError, DoubleError, Absent) as error:
            failures.append(_told(request.urn, "create", error))
        if failures and not id_:
            refuse(context, failures[0])
        if failures:
            _fail_with_state(context, id_, failures, outputs, request.properties)
        return provider_pb2.CreateResponse(id=id_, properties=property_values.write(outputs))

    def Read(self, request: provider_pb2.ReadRequest, context: Call) -> provider_pb2.ReadResponse:
        """Looks what the account says now; or finds a resource by its id, for an import."""
        kind = _kind(request.urn, context)
        state, inputs = property_values.read(request.properties), property_values.read(request.inputs)
        aws = self._aws(state, context)
        record: Properties | None = None
        known: Properties = _plain(state)
        live: Properties | None = None
        try:
            record = _record(aws, kind, request.id)
            known = known or (record["outputs"] if record else {})
            if kind.real or record is not None:
                live = kind.handler.read(aws, request.id, known)
        except Absent:
            pass
        except (ClientError, BotoCoreError, DoubleError) as error:
            if not isinstance(error, ClientError) or not is_absent(error):
                refuse(context, _told(request.urn, "read", error))
        if live is None:
            if record is not None:
                page(aws.endpoint, "DELETE", _place(kind, request.id), retry_s=RETRY_S)
            return provider_pb2.ReadResponse()
        declared = contract.resource(kind.token)
        if not inputs:
            source: Properties = record["inputs"] if record else {}
            inputs = source or {key: value for key, value in live.items() if key in declared.inputs}
            state = known or inputs
        inputs = {key: _drifted(value, live.get(key)) for key, value in inputs.items()}
        outputs = {**state, **_marked(live, state)}
        return provider_pb2.ReadResponse(
            id=request.id,
            properties=property_values.write(_complete(declared, outputs)),
            inputs=property_values.write(inputs),
        )

    def Update(self, request: provider_pb2.UpdateRequest, context: Call) -> provider_pb2.UpdateResponse:
        """Changes a resource in place; at preview only says what it will be."""
        kind = _kind(request.urn, context)
        old, new = property_values.read(request.old_inputs), property_values.read(request.news)
        state = property_values.read(request.olds)
        kept = {key: value for key, value in state.items() if key not in old or key in new}
        if request.preview:
            merged = {**kept, **_declared(new), **self._tags(new, kind)}
            return provider_pb2.UpdateResponse(properties=property_values.write(merged))
        aws = self._aws(new, context)
        try:
            kind.handler.update(aws, request.id, self._sent(old, kind), self._sent(new, kind))
            outputs = self._settle(kind, aws, request.urn, request.id, new, kept)
        except (ClientError, BotoCoreError, DoubleError, Absent) as error:
            refuse(context, _told(request.urn, "update", error))
        return provider_pb2.UpdateResponse(properties=property_values.write(outputs))

    def Delete(self, request: provider_pb2.DeleteRequest, context: Call) -> empty_pb2.Empty:
        """Removes a resource; one that is gone already is removed."""
        kind = _kind(request.urn, context)
        state = property_values.read(request.properties)
        aws = self._aws(state, context)
        try:
            try:
                kind.handler.delete(aws, request.id, _plain(state))
            except ClientError as error:
                if not is_absent(error):
                    raise
            except Absent:
                pass
            page(aws.endpoint, "DELETE", _place(kind, request.id), retry_s=RETRY_S)
        except (ClientError, BotoCoreError, DoubleError, Undeleted) as error:
            refuse(context, _told(request.urn, "delete", error))
        return empty_pb2.Empty()

    def Invoke(self, request: provider_pb2.InvokeRequest, context: Call) -> provider_pb2.InvokeResponse:
        """Calls a function."""
        function = FUNCTIONS.get(request.tok)
        if function is None:
            refuse(
                context,
                f"{request.tok} is not served by the stand-in aws provider; allowed: {', '.join(FUNCTIONS)}",
            )
        given = {key: v for key, v in property_values.read(request.args).items() if v is not None}
        found = check(given, contract.function(request.tok).inputs, request.tok.rpartition(":")[2])
        if found:
            return provider_pb2.InvokeResponse(failures=_failures(found))
        aws = self._aws(given, context)
        try:
            answer = function(aws, _plain(given))
        except (ClientError, BotoCoreError, Absent) as error:
            refuse(context, f"{request.tok}: {error or 'there is no such thing'}")
        result = {"region": aws.region, **_plain(given), **answer}
        declared = contract.function(request.tok).outputs
        known = {key: value for key, value in result.items() if key in declared}
        answered: Any = {"return": property_values.write(known)}
        return provider_pb2.InvokeResponse(**answered)

    def Cancel(self, request: empty_pb2.Empty, context: Call) -> empty_pb2.Empty:
        """The engine interrupts the process next; nothing here needs to be undone."""
        return empty_pb2.Empty()

    def _aws(self, properties: Mapping[str, Value], context: Call) -> Aws:
        if self._configuration is None:
            refuse(context, "the aws provider was not configured")
        region = plain(properties.get("region"))
        aws = self._configuration.aws
        if not self._reached:
            # Before the first call only: one that goes away later is asked again for a while.
            try:
                page(aws.endpoint, "GET", "health")
            except DoubleError as error:
                refuse(context, str(error))
            self._reached = True
        return replace(aws, region=region) if isinstance(region, str) and not is_unknown(region) else aws

    def _tags(self, inputs: Mapping[str, Value], kind: Kind) -> dict[str, Value]:
        """The output `tagsAll`, for types that have tags."""
        if "tagsAll" not in contract.resource(kind.token).outputs:
            return {}
        if is_unknown(inputs.get("tags")):
            return {"tagsAll": UNKNOWN}
        own = plain(inputs.get("tags")) or {}
        defaults: Mapping[str, str] = self._configuration.default_tags if self._configuration else {}
        merged: dict[str, Value] = {**defaults, **own}  # pyright: ignore[reportAssignmentType, reportGeneralTypeIssues]
        return {"tagsAll": merged}

    def _sent(self, inputs: Mapping[str, Value], kind: Kind) -> Properties:
        """What a handler gets: plain, and with all tags."""
        tags = self._tags(inputs, kind)
        return {**_plain(inputs), **({"tags": tags["tagsAll"]} if tags else {})}

    def _settle(
        self,
        kind: Kind,
        aws: Aws,
        urn: str,
        id_: str,
        inputs: Mapping[str, Value],
        before: Mapping[str, Value] | None = None,
    ) -> dict[str, Value]:
        """The outputs of a resource that was made or changed, after they were put into the store."""
        own = {**(before or {}), **_declared(inputs), **self._tags(inputs, kind), "region": aws.region}
        live = kind.handler.read(aws, id_, _plain(own)) or {}
        declared = contract.resource(kind.token)
        outputs = _complete(declared, {**own, **_marked(live, own)})
        record = {
            "type": kind.token,
            "id": id_,
            "urn": urn,
            # Secrets stay in Pulumi's state; a file of the double is no place for them.
            "inputs": _without_secrets(_declared(inputs)),
            "outputs": _without_secrets(outputs),
        }
        page(aws.endpoint, "PUT", _place(kind, id_), record, retry_s=RETRY_S)
        return outputs


def _kind(urn: str, call: Call) -> Kind:
    """The served type of a URN. The engine calls Check first for each resource, at preview too."""
    token = urn.split("::")[2].split("$")[-1]
    kind = KINDS.get(token)
    if kind is None:
        refuse(
            call,
            f"{token} is not served by the stand-in aws provider; docs/rehearsal.md lists the types that "
            "are. For a real account take the official aws plugin",
        )
    return kind


def changes(old: Mapping[str, Value], new: Mapping[str, Value]) -> list[str]:
    """The inputs that differ. One that is not known yet differs: it cannot be promised to be the same."""
    keys = {**old, **new}
    return [key for key in keys if not key.startswith("__") and plain(old.get(key)) != plain(new.get(key))]


def _named(kind: Kind, request: provider_pb2.CheckRequest, inputs: dict[str, Value]) -> dict[str, Value]:
    """Adds a name where none is given: the resource's own and seven digits, kept from then on.

    Raises:
        ValueError: It is too long, in the real provider's words.
    """
    name = _name_property(kind)
    if name is None or inputs.get(name) is not None or inputs.get(f"{name}Prefix") is not None:
        return inputs
    olds = property_values.read(request.olds)
    marks = plain(olds.get(_DEFAULTS))
    if isinstance(marks, list) and name in marks and olds.get(name) is not None:
        made = olds[name]
    else:
        digits = random.Random(bytes(request.randomSeed) or None)  # noqa: S311 - a name, not a secret
        begin = f"{kind.name_prefix}{request.urn.split('::')[-1]}-"
        if len(begin) + _RANDOM > kind.name_length:
            raise ValueError(
                f"could not make instance of '{kind.token}': name '{begin}' plus {_RANDOM} random chars is "
                f"longer than maximum length {kind.name_length}"
            )
        made = f"{begin}{digits.getrandbits(4 * _RANDOM):0{_RANDOM}x}"
        made = made.lower() if kind.lower else made
    return {**inputs, name: made, _DEFAULTS: [name]}


def _name_property(kind: Kind) -> str | None:
    """The input that Pulumi makes up where it is not given."""
    name = _NAMES.get(kind.token, "name")
    return name if name in contract.resource(kind.token).inputs else None


def _as_text(inputs: dict[str, Value], declared: contract.Contract) -> dict[str, Value]:
    """JSON documents that were given as objects, as text; the provider knows them as text only."""
    return {
        key: json.dumps(plain(value))
        if isinstance(value, dict)
        and not is_secret(value)
        and isinstance(declared.inputs[key].shape, contract.OneOf)
        and not _has_unknown(value)
        else value
        for key, value in inputs.items()
    }


def _previewed(kind: Kind, inputs: Mapping[str, Value], tags: Mapping[str, Value]) -> dict[str, Value]:
    """The outputs of a resource to come: its inputs, and unknown what the provider always sets."""
    declared = contract.resource(kind.token)
    unknown = {
        key: UNKNOWN for key, output in declared.outputs.items() if output.required and key not in inputs
    }
    return {**unknown, **_declared(inputs), **tags}


def _complete(declared: contract.Contract, outputs: Mapping[str, Value]) -> dict[str, Value]:
    """The outputs with an empty value for those that the SDK says are always set and nothing here knows."""
    whole = {key: value for key, value in outputs.items() if key in declared.outputs}
    for key, output in declared.outputs.items():
        if output.required and whole.get(key) is None:
            whole[key] = copy.copy(_empty(output.shape))
    return whole


def _empty(shape: contract.Shape) -> Any:
    if isinstance(shape, contract.ListOf):
        return []
    if isinstance(shape, str) and shape in _EMPTY:
        return _EMPTY[shape]
    return {}


def _declared(inputs: Mapping[str, Value]) -> dict[str, Value]:
    return {key: value for key, value in inputs.items() if not key.startswith("__")}


def _plain(inputs: Mapping[str, Value]) -> Properties:
    return {key: plain(value) for key, value in _declared(inputs).items()}


def _drifted(value: Value, live: Any) -> Value:
    """An input as the account has it now; of an object only what the program wrote."""
    if live is None or plain(value) == live:
        return value
    was = plain(value)
    now: Value = live
    if isinstance(was, dict) and isinstance(live, dict):
        there = cast("dict[str, Value]", live)
        now = {key: there.get(key, item) for key, item in was.items()}
        if now == was:
            return value
    return secret(now) if is_secret(value) else now


def _marked(live: Properties, given: Mapping[str, Value]) -> dict[str, Value]:
    """What the account says, secret where what was given was."""
    return {
        key: secret(value) if is_secret(given.get(key)) else _whole(value, given.get(key))
        for key, value in live.items()
    }


def _whole(live: Any, given: Value) -> Any:
    """An object of the account with what only the program knows of it."""
    if isinstance(live, dict) and isinstance(given, dict):
        return {**given, **cast("dict[str, Value]", live)}
    return cast("Value", live)


def _without_secrets(content: Any) -> Any:
    if is_secret(content):
        return None
    if isinstance(content, dict):
        return {key: _without_secrets(item) for key, item in content.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(content, list):
        return [_without_secrets(item) for item in content]  # pyright: ignore[reportUnknownVariableType]
    return content


def _has_unknown(value: Value) -> bool:
    if isinstance(value, dict):
        return any(_has_unknown(item) for item in value.values())
    if isinstance(value, list):
        return any(_has_unknown(item) for item in value)
    return is_unknown(value)


def _place(kind: Kind, id_: str) -> str:
    return f"store/{quote(kind.token, safe='')}|{quote(id_, safe='')}"


def _record(aws: Aws, kind: Kind, id_: str) -> Properties | None:
    return page(aws.endpoint, "GET", _place(kind, id_), retry_s=RETRY_S)


def _told(urn: str, what: str, error: Exception) -> str:
    type_, name = urn.split("::")[2].split("$")[-1], urn.split("::")[-1]
    return f"{what} {type_} {name}: {error or 'there is no such thing'}"


def _failures(found: list[tuple[str, str]]) -> list[provider_pb2.CheckFailure]:
    return [provider_pb2.CheckFailure(property=key, reason=reason) for key, reason in found]


def _fail_with_state(
    call: Any, id_: str, reasons: list[str], outputs: Mapping[str, Value], inputs: Any
) -> None:
    """Ends the call with an error that carries the state: what was made is not forgotten."""
    detail = any_pb2.Any()
    detail.Pack(
        provider_pb2.ErrorResourceInitFailed(
            id=id_, properties=property_values.write(outputs), reasons=reasons, inputs=inputs
        ),
        type_url_prefix="type.googleapis.com",
    )
    code = grpc.StatusCode.UNKNOWN
    status = status_pb2.Status(code=code.value[0], message="; ".join(reasons), details=[detail])
    call.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    call.abort(code, "; ".join(reasons))


def version() -> str:
    """The version of the installed `pulumi-aws`."""
    return metadata.version("pulumi-aws")


def main(arguments: list[str]) -> None:
    """Serves until the engine is done.

    Args:
        arguments: What the engine gives every plugin.
    """
    engine_address(arguments)
    provider = AwsProvider()

    def register(server: Any) -> None:
        provider_pb2_grpc.add_ResourceProviderServicer_to_server(provider, server)

    serve(register)


if __name__ == "__main__":
    main(sys.argv[1:])
