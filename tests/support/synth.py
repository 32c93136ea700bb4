"""Runs a program against a mock engine that answers, and returns what it registered."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from google.protobuf import json_format
from pulumi.runtime import mocks, settings, stack
from pulumi.runtime import resource as registration
from pulumi.runtime.proto import source_pb2


@dataclass(frozen=True)
class Registered:
    """One registered resource: what the program asked for.

    `depends_on` has the names of what it waits for, `waits_for` the URNs.
    """

    type: str
    name: str
    inputs: dict[str, Any]
    parent: str
    provider: str
    depends_on: tuple[str, ...]
    custom_timeouts: dict[str, str] = field(default_factory=dict[str, str])
    urn: str = ""
    parent_urn: str = ""
    waits_for: tuple[str, ...] = ()
    ignored_changes: tuple[str, ...] = ()
    deleted_with: str = ""


def generated(name: str, length: int) -> str:
    """What the mock RandomPassword of a name results in."""
    return (name.replace("-", "") * length)[:length]


class AnsweringMocks(mocks.Mocks):
    """Answers as providers would: an id, the inputs, and the outputs that programs read."""

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        inputs = cast("dict[str, Any]", args.inputs)  # pyright: ignore[reportUnknownMemberType]
        outputs = dict(inputs)
        if args.typ == "random:index/randomPassword:RandomPassword":
            outputs["result"] = generated(args.name, int(inputs["length"]))
        if args.typ == "kubernetes:core/v1:Service" and inputs["spec"].get("type") == "LoadBalancer":
            address = {"hostname": "localhost", "ports": [{"port": 12345, "protocol": "TCP"}]}
            outputs["status"] = {"loadBalancer": {"ingress": [address]}}
        if args.typ.startswith("aws:"):
            outputs |= _of_aws(args.typ, args.name, inputs)
        return f"{args.name}-id", outputs

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        raise AssertionError(f"the program calls {args.token}, which no test expects")


def _of_aws(kind: str, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """What AWS adds to a resource, as far as programs read it."""
    outputs: dict[str, Any] = {"arn": f"arn:aws:{kind.partition(':')[2].partition('/')[0]}:::{name}"}
    if kind == "aws:eks/cluster:Cluster":
        outputs |= {
            "endpoint": "https://eks.example.com",
            "certificateAuthority": {"data": "Q0E="},
            "vpcConfig": {**inputs["vpcConfig"], "clusterSecurityGroupId": f"sg-{name}"},
        }
    if kind == "aws:eks/nodeGroup:NodeGroup":
        outputs["resources"] = [{"autoscalingGroups": [{"name": f"asg-{name}"}]}]
    if kind == "aws:ec2/launchTemplate:LaunchTemplate":
        outputs["latestVersion"] = 1
    if kind == "aws:kms/key:Key":
        outputs["keyId"] = name
    if kind.startswith("aws:sagemaker/"):
        # Pulumi makes up what is not given.
        outputs["name"] = inputs.get("name", f"{name}-0000000")
    if kind == "aws:ec2/vpcEndpoint:VpcEndpoint":
        outputs["prefixListId"] = f"pl-{name}"
    if kind in ("aws:lb/loadBalancer:LoadBalancer", "aws:lb/targetGroup:TargetGroup"):
        outputs |= {"arnSuffix": f"net/{name}/0", "dnsName": f"{name}.elb.example.com"}
    if kind == "aws:secretsmanager/secretVersion:SecretVersion":
        outputs["versionId"] = "11111111-2222"
    if kind == "aws:sqs/queue:Queue":
        outputs["url"] = f"https://sqs.example.com/{name}"
    if kind == "aws:ecr/repository:Repository":
        outputs["repositoryUrl"] = f"registry.example.com/{inputs['name']}"
    return outputs


class _RecordingMonitor(mocks.MockMonitor):
    def __init__(self, answers: mocks.Mocks) -> None:
        super().__init__(answers)
        self.recorded: list[Registered] = []
        self.outputs: dict[str, Any] = {}

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - name of the RPC
        inputs: dict[str, Any] = json_format.MessageToDict(request.object)
        timeouts = request.customTimeouts
        made = super().RegisterResource(request)  # pyright: ignore[reportUnknownMemberType]
        self.recorded.append(
            Registered(
                type=request.type,
                name=request.name,
                inputs=_whole_numbers(inputs),
                parent=str(request.parent).rsplit("::", 1)[-1],
                provider=str(request.provider),
                depends_on=tuple(str(urn).rsplit("::", 1)[-1] for urn in request.dependencies),
                custom_timeouts={
                    key: getattr(timeouts, key)
                    for key in ("create", "update", "delete")
                    if getattr(timeouts, key)
                },
                urn=str(made.urn),
                parent_urn=str(request.parent),
                waits_for=tuple(str(urn) for urn in request.dependencies),
                ignored_changes=tuple(str(path) for path in request.ignoreChanges),
                deleted_with=str(request.deletedWith),
            )
        )
        return made

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802 - name of the RPC
        if str(request.urn).split("::")[2] == "pulumi:pulumi:Stack":
            self.outputs = _whole_numbers(json_format.MessageToDict(request.outputs))
        return super().RegisterResourceOutputs(request)  # pyright: ignore[reportUnknownMemberType]


class Synthesized:
    """Everything that one run of a program registered."""

    def __init__(self, resources: list[Registered], outputs: dict[str, Any]) -> None:
        self.resources = resources
        self.outputs = outputs

    def of(self, kind: str) -> list[Registered]:
        """All resources of a type token."""
        return [resource for resource in self.resources if resource.type == kind]

    def one(self, kind: str, name: str | None = None) -> Registered:
        """The only resource of a type token, or the only one with that name."""
        found = [resource for resource in self.of(kind) if name in {None, resource.name}]
        assert len(found) == 1, f"{len(found)} of {kind} {name or ''}, there are: {list(self._tokens())}"
        return found[0]

    def before(self, resource: Registered) -> set[str]:
        """The URNs of all that is made before a resource, and so deleted after it.

        Providers and parents count: an object waits for all that its component waits for.
        """
        known = {one.urn: one for one in self.resources}
        found: set[str] = set()
        left = [resource]
        while left:
            one = left.pop()
            provider = one.provider.rpartition("::")[0]
            for urn in (*one.waits_for, provider, one.parent_urn):
                if urn in known and urn not in found:
                    found.add(urn)
                    left.append(known[urn])
        return found

    def _tokens(self) -> Iterator[str]:
        for one in self.resources:
            yield f"{one.type} {one.name}"


def synth(program: Callable[[], None]) -> Synthesized:
    """Runs the program on an event loop of its own; nothing of an earlier run is left."""
    monitor = _RecordingMonitor(AnsweringMocks())

    async def run() -> None:
        # What `set_mocks` does, but the root stack runs the program, so that exports are registered.
        settings.configure(
            mocks.MockSettings(
                monitor=monitor,
                engine=mocks.MockEngine(None),
                project="spillway",
                stack="test",
                dry_run=False,
            )
        )
        # Outputs that an earlier, failed run never awaited belong to its closed loop.
        settings.SETTINGS.outputs.clear()  # pyright: ignore - a descriptor without types
        settings.set_root_resource(None)  # pyright: ignore[reportArgumentType] - how the SDK resets it
        await stack.run_pulumi_func(declared)

    async def declared() -> None:
        stack.Stack(program)
        await _outputs_are_there()

    with pytest.MonkeyPatch.context() as patch:
        # Where in the program each resource is made: a quarter of the time, and no test asks.
        patch.setattr(registration, "_get_stack_trace", source_pb2.StackTrace)
        asyncio.run(run())
    return Synthesized(monitor.recorded, monitor.outputs)


async def _outputs_are_there() -> None:
    """Waits for all outputs of a program, or for the first that fails, which the SDK then reports.

    The SDK waits for any one of them, and then for any one of all others: quadratic, and half of the time
    of a large program.
    """
    outputs = cast("set[asyncio.Task[Any]]", settings.SETTINGS.outputs)  # pyright: ignore - as above
    while waiting := {output for output in outputs if not output.done()}:
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_EXCEPTION)
        if any(output.cancelled() or output.exception() for output in done):
            return


def _whole_numbers(value: Any) -> Any:
    """Protobuf's numbers are all floats; 8.0 reads as 8."""
    if isinstance(value, dict):
        return {key: _whole_numbers(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list):
        return [_whole_numbers(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return int(value) if isinstance(value, float) and value.is_integer() else value
