"""Asks a pack as Pulumi does, without an engine: with its messages, in process or over a socket."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import grpc
from google.protobuf import empty_pb2, json_format, struct_pb2
from pulumi.runtime import proto
from pulumi.runtime.proto import analyzer_pb2_grpc

from policies.analyzer import PolicyAnalyzer
from policies.enforcement import Environment
from policies.judging import Judge
from policies.reading import Node
from policies.rule import Answer, AnyRule, Resource, Severity, Stack, StackRule
from policies.waivers import Waiver

TIMEOUT_S = 30
NOW = datetime(2026, 12, 1, tzinfo=UTC)
PROVIDER_URN = "urn:pulumi:test::spillway::pulumi:providers:aws::aws"


def urn_of(resource_type: str) -> str:
    """The URN of the resource of a type that is asked about."""
    return f"urn:pulumi:test::spillway::{resource_type}::subject"


class Analyzer:
    """The engine's side of a policy pack, in this process or behind a channel."""

    def __init__(self, server: object) -> None:
        # The second argument is the timeout of a gRPC stub and the context, unused, of a servicer.
        self._server: Any = server

    def info(self) -> proto.AnalyzerInfo:
        """What the pack says about itself."""
        return self._server.GetAnalyzerInfo(empty_pb2.Empty(), TIMEOUT_S)

    def configure_stack(self, stack: str, config: Mapping[str, str]) -> None:
        """Names the stack, as the engine does before it asks anything else."""
        request = proto.AnalyzerStackConfigureRequest(stack=stack, config=dict(config))
        self._server.ConfigureStack(request, TIMEOUT_S)

    def configure(
        self,
        config: Mapping[str, Mapping[str, object]],
        level: proto.EnforcementLevel.ValueType = proto.MANDATORY,
    ) -> None:
        """Sends what --policy-pack-config holds, with the level that the engine always sends along."""
        request = proto.ConfigureAnalyzerRequest(
            policyConfig={
                name: proto.PolicyConfig(enforcementLevel=level, properties=_struct(values))
                for name, values in config.items()
            }
        )
        self._server.Configure(request, TIMEOUT_S)

    def analyze(self, resource_type: str, props: Mapping[str, object]) -> proto.AnalyzeResponse:
        """Asks about one resource."""
        request = proto.AnalyzeRequest(
            type=resource_type,
            properties=_struct(props),
            urn=urn_of(resource_type),
            name="subject",
        )
        return self._server.Analyze(request, TIMEOUT_S)

    def analyze_stack(self, resources: Sequence[tuple[str, Mapping[str, object]]]) -> proto.AnalyzeResponse:
        """Asks about a stack; each resource depends on the one before it and has it as parent."""
        urns = [urn_of(kind) for kind, _ in resources]
        request = proto.AnalyzeStackRequest(
            resources=[
                proto.AnalyzerResource(
                    type=kind,
                    properties=_struct(props),
                    urn=urn,
                    name="subject",
                    parent=before or "",
                    dependencies=[before] if before else [],
                    provider=proto.AnalyzerProviderResource(
                        type="pulumi:providers:aws", urn=PROVIDER_URN, name="aws", properties=_struct({})
                    ),
                )
                for (kind, props), urn, before in zip(resources, urns, [None, *urns], strict=False)
            ]
        )
        return self._server.AnalyzeStack(request, TIMEOUT_S)


def in_process(
    rules: Sequence[AnyRule], environment: Environment = Environment.PROD, *waivers: Waiver
) -> Analyzer:
    """Serves rules without a socket."""
    return Analyzer(PolicyAnalyzer("test-pack", Judge(rules, waivers, NOW), environment))


def behind(channel: grpc.Channel) -> Analyzer:
    """Talks to a pack that runs as a process."""
    return Analyzer(analyzer_pb2_grpc.AnalyzerStub(channel))


def _struct(values: Mapping[str, object]) -> struct_pb2.Struct:
    return json_format.ParseDict(dict(values), struct_pb2.Struct())


def looking_rule(seen: list[Resource]) -> StackRule:
    """A rule on the stack that finds nothing and keeps what it was shown."""

    def check(stack: Stack, config: Node) -> Answer:
        seen.extend(stack.resources)
        return []

    return StackRule(
        name="looks",
        description="Looks.",
        severity=Severity.LOW,
        remediation="None.",
        check=check,
        example=Stack(()),
    )
