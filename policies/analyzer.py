"""Pulumi's analyzer protocol over the rules: what the engine asks of a policy pack, and the answers.

It takes the place of the policy SDK, which deserialises each resource anew for every policy and has all of
`pulumi` imported (docs/adr/0019). The messages are those that the SDK's package holds.
"""

# The protocol gives every method its name and both parameters, needed or not.
# ruff: noqa: ARG002, N802

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NoReturn, Protocol

import grpc  # pyright: ignore[reportMissingTypeStubs]
from google.protobuf import empty_pb2, struct_pb2
from pulumi.runtime.proto import analyzer_pb2 as messages
from pulumi.runtime.proto import analyzer_pb2_grpc, plugin_pb2

from policies.enforcement import Environment, environment_of_config
from policies.judging import Judge, Judged
from policies.packs import RULE_NAMES
from policies.reading import read
from policies.rule import AnyRule, Finding, Resource, Rule
from policies.waivers import WaiverError, waivers_of_stack
from runtime.stack_resources import SECRET_SIGNATURE, SIGNATURE

# PulumiPolicy.yaml has the version; this is what the SDK answers where there is none.
_VERSION: Final = "0.0.1"
_LEVELS: Final = {
    "advisory": messages.ADVISORY,
    "mandatory": messages.MANDATORY,
    "disabled": messages.DISABLED,
}
_SEVERITIES: Final = {
    "low": messages.POLICY_SEVERITY_LOW,
    "medium": messages.POLICY_SEVERITY_MEDIUM,
    "high": messages.POLICY_SEVERITY_HIGH,
    "critical": messages.POLICY_SEVERITY_CRITICAL,
}


class Call(Protocol):
    """The part of grpc's `ServicerContext` that is needed here."""

    def abort(self, code: Any, details: str) -> NoReturn:
        """Ends the call with an error, by raising."""
        ...


class PolicyAnalyzer(analyzer_pb2_grpc.AnalyzerServicer):
    """The service `Analyzer` for one pack. The engine asks about one resource after the other."""

    def __init__(self, pack: str, judge: Judge, environment: Environment) -> None:
        """Judges by a judge's rules, with the levels of an environment, until the engine names a stack.

        Args:
            pack: The name under which the engine shows the pack.
            judge: The rules, and the waivers of the stack.
            environment: What the stack is for.
        """
        self._pack = pack
        self._config: dict[str, dict[str, object]] = {}
        self._levels: dict[str, messages.EnforcementLevel.ValueType] = {}
        self._start(judge, environment)
        # What each resource was given, by URN, as it came and as it is read. At a preview the engine shows
        # stack rules outputs, which are mostly the same, and there are none yet of a provider that cannot be
        # configured before `up`: all that is on the EKS cluster.
        self._given: dict[str, tuple[struct_pb2.Struct, Mapping[str, object]]] = {}

    def Handshake(
        self, request: messages.AnalyzerHandshakeRequest, context: Call
    ) -> messages.AnalyzerHandshakeResponse:
        """Nothing to agree on."""
        return messages.AnalyzerHandshakeResponse()

    def ConfigureStack(
        self, request: messages.AnalyzerStackConfigureRequest, context: Call
    ) -> messages.AnalyzerStackConfigureResponse:
        """The stack that will be judged: its waivers, and the environment that its configuration names."""
        try:
            waivers = waivers_of_stack(request.stack, RULE_NAMES)
        except WaiverError as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        judge = Judge(self._judge.rules, waivers, datetime.now(UTC))
        self._start(judge, environment_of_config(request.config))
        return messages.AnalyzerStackConfigureResponse()

    def GetPluginInfo(self, request: empty_pb2.Empty, context: Call) -> plugin_pb2.PluginInfo:
        """The version."""
        return plugin_pb2.PluginInfo(version=_VERSION)

    def GetAnalyzerInfo(self, request: empty_pb2.Empty, context: Call) -> messages.AnalyzerInfo:
        """Every rule, with its level in the stack's environment and the schema of its configuration."""
        return messages.AnalyzerInfo(
            name=self._pack,
            version=_VERSION,
            supportsConfig=True,
            policies=[_info(rule, self._levels[rule.name]) for rule in self._judge.rules],
        )

    def Configure(self, request: messages.ConfigureAnalyzerRequest, context: Call) -> empty_pb2.Empty:
        """What `--policy-pack-config` holds, checked by the engine, with the defaults filled in."""
        self._config = {name: plain(one.properties) for name, one in request.policyConfig.items()}
        for name, one in request.policyConfig.items():
            # Nothing is remedied here, so what is still wrong stops the run.
            remedied = one.enforcementLevel == messages.REMEDIATE
            self._levels[name] = messages.MANDATORY if remedied else one.enforcementLevel
        return empty_pb2.Empty()

    def Remediate(self, request: messages.AnalyzeRequest, context: Call) -> messages.RemediateResponse:
        """Nothing: no rule changes a resource."""
        return messages.RemediateResponse()

    def Analyze(self, request: messages.AnalyzeRequest, context: Call) -> messages.AnalyzeResponse:
        """What the rules on single resources say of one."""
        props = plain(request.properties)
        self._given[request.urn] = (request.properties, props)
        resource = Resource(
            request.type,
            request.name,
            props,
            request.urn,
            request.options.protect,
            region=_region(request.provider),
        )
        response = messages.AnalyzeResponse()
        for rule in self._judge.rules:
            if isinstance(rule, Rule) and self._levels[rule.name] != messages.DISABLED:
                judged = self._judge.resource(rule, resource, self._config.get(rule.name, {}))
                self._answer(response, rule, judged)
        return response

    def AnalyzeStack(self, request: messages.AnalyzeStackRequest, context: Call) -> messages.AnalyzeResponse:
        """What the rules on the stack as a whole say of it."""
        resources = self._resources(request.resources)
        response = messages.AnalyzeResponse()
        for rule in self._judge.rules:
            if not isinstance(rule, Rule) and self._levels[rule.name] != messages.DISABLED:
                judged = self._judge.stack(rule, resources, self._config.get(rule.name, {}))
                self._answer(response, rule, judged)
        return response

    def Cancel(self, request: empty_pb2.Empty, context: Call) -> empty_pb2.Empty:
        """Nothing runs for long: the engine ends the process."""
        return empty_pb2.Empty()

    def _start(self, judge: Judge, environment: Environment) -> None:
        self._judge = judge
        self._levels = {
            rule.name: _LEVELS[rule.enforcement.in_environment(environment).value] for rule in judge.rules
        }

    def _answer(self, response: messages.AnalyzeResponse, rule: AnyRule, judged: Judged) -> None:
        for finding in judged.violations:
            response.diagnostics.add(
                policyName=rule.name,
                policyPackName=self._pack,
                policyPackVersion=_VERSION,
                description=rule.description,
                message=f"{rule.description}\n{_text(finding)}",
                enforcementLevel=self._levels[rule.name],
                urn=finding.urn,
                severity=_SEVERITIES[rule.severity.value],
            )
        if not judged.violations and judged.not_counted:
            response.not_applicable.add(policy_name=rule.name, reason=judged.not_counted)

    def _resources(self, shown: Sequence[messages.AnalyzerResource]) -> tuple[Resource, ...]:
        """What stack rules judge: the outputs, or what was given where some of that is not among them."""
        there = {one.urn for one in shown}
        return tuple(
            Resource(
                one.type,
                one.name,
                self._props(one),
                one.urn,
                one.options.protect,
                dependencies=tuple(urn for urn in one.dependencies if urn in there),
                provider=one.provider.urn,
                parent=one.parent if one.parent in there else "",
                region=_region(one.provider),
            )
            for one in shown
        )

    def _props(self, shown: messages.AnalyzerResource) -> Mapping[str, object]:
        if shown.urn not in self._given:
            return plain(shown.properties)
        message, given = self._given[shown.urn]
        if message == shown.properties or not given.keys() <= shown.properties.fields.keys():
            return given
        return plain(shown.properties)


def plain(struct: struct_pb2.Struct) -> dict[str, object]:
    """The properties of a message as plain Python: whole numbers as such, secrets as their values.

    What is not known yet stays the engine's placeholder, which `policies.reading` knows.
    """
    return {key: _value(value) for key, value in struct.fields.items()}


def _value(value: struct_pb2.Value) -> object:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "struct_value":
            fields = value.struct_value.fields
            if SIGNATURE in fields and fields[SIGNATURE].string_value == SECRET_SIGNATURE:
                return _value(fields["value"])
            return {key: _value(one) for key, one in fields.items()}
        case "list_value":
            return [_value(one) for one in value.list_value.values]
        case "bool_value":
            return value.bool_value
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() else number
        case _:
            return None


def _info(rule: AnyRule, level: messages.EnforcementLevel.ValueType) -> messages.PolicyInfo:
    info = messages.PolicyInfo(
        name=rule.name,
        description=rule.description,
        enforcementLevel=level,
        severity=_SEVERITIES[rule.severity.value],
        remediation_steps=rule.remediation,
        policy_type=messages.POLICY_TYPE_RESOURCE if isinstance(rule, Rule) else messages.POLICY_TYPE_STACK,
    )
    schemas: Any = {key: dict(value.schema) for key, value in rule.config.items()}
    info.configSchema.properties.update(schemas)
    if rule.controls:
        # The protocol has room for one; `make compliance` shows all.
        first = rule.controls[0]
        name, _, version = first.framework.value.rpartition(" ")
        info.framework.name, info.framework.version = name, version
        info.framework.reference, info.framework.specification = first.number, first.framework.value
    return info


def _text(finding: Finding) -> str:
    return f"{finding.message}\nFix: {finding.remediation}"


def _region(provider: messages.AnalyzerProviderResource) -> str:
    fields = provider.properties.fields
    if "region" not in fields:
        return ""
    region = read(plain(provider.properties)).child("region").value
    return region if isinstance(region, str) else ""
