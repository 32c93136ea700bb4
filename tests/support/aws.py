"""The AWS double inside the test's process, and the stand-in provider as the engine calls it."""

import json
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from google.protobuf import struct_pb2
from moto.core.base_backend import BackendDict  # pyright: ignore[reportMissingTypeStubs]
from pulumi.runtime.proto import provider_pb2
from werkzeug.serving import make_server

from rehearsal.aws.clients import client, page
from rehearsal.aws.provider import AwsProvider
from rehearsal.aws.server import Double, QuietHandler
from rehearsal.plugins import property_values


class Clock:
    """A time that only passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class RunningDouble:
    """The double on a loopback port of this process."""

    def __init__(self, endpoint: str, clock: Clock) -> None:
        self.endpoint, self.clock = endpoint, clock

    def client(self, service: str) -> Any:
        return client(service, self.endpoint, "us-east-1")

    def page(self, method: str, path: str, content: Any = None) -> Any:
        return page(self.endpoint, method, path, content)

    def script(self, **script: Any) -> None:
        self.page("PUT", "script", script)

    def nodes(self) -> list[dict[str, Any]]:
        return self.page("GET", "nodes")["nodes"]

    def group(self) -> dict[str, Any]:
        """The only node group."""
        (group,) = self.page("GET", "node-groups")["nodeGroups"]
        return group

    def network(self, zones: str = "ab") -> list[str]:
        """A VPC with one subnet in each zone."""
        ec2 = self.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        return [
            ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{index}.0/24", AvailabilityZone=f"us-east-1{zone}")[
                "Subnet"
            ]["SubnetId"]
            for index, zone in enumerate(zones)
        ]

    def cluster(self, zones: str = "ab") -> list[str]:
        """A cluster `c` and its subnets."""
        subnets = self.network(zones)
        role = self.role()
        vpc = {"subnetIds": subnets}
        self.client("eks").create_cluster(name="c", roleArn=role, resourcesVpcConfig=vpc)
        return subnets

    def role(self, name: str = "r") -> str:
        iam = self.client("iam")
        return iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]["Arn"]

    def node_group(self, desired: int = 0, zones: str = "ab", **settings: Any) -> str:
        """A cluster with a GPU node group `n`: the name of its Auto Scaling group."""
        made = self.client("eks").create_nodegroup(
            clusterName="c",
            nodegroupName="n",
            subnets=self.cluster(zones),
            nodeRole="arn:aws:iam::123456789012:role/r",
            **{
                "instanceTypes": ["g6e.12xlarge"],
                "scalingConfig": {"minSize": 0, "maxSize": 4, "desiredSize": desired},
                **settings,
            },
        )
        return made["nodegroup"]["resources"]["autoScalingGroups"][0]["name"]

    def want(self, group: str, desired: int) -> None:
        self.client("autoscaling").set_desired_capacity(AutoScalingGroupName=group, DesiredCapacity=desired)


class _Served:
    """One server for the doubles of all tests, one after the other.

    A client of boto3 is kept for its address, and making one takes longer than most tests.
    """

    def __init__(self) -> None:
        self.double: Double | None = None
        server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=QuietHandler)
        self.endpoint = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        assert self.double is not None, "no test has a double now"
        return self.double(environ, start_response)


_served = cache(_Served)


@contextmanager
def running_double(folder: Path) -> Generator[RunningDouble]:
    """The double with what `folder` holds; all of moto in this process is forgotten before and after."""
    BackendDict.reset()
    clock, served = Clock(), _served()
    served.double = Double(folder, clock)
    try:
        yield RunningDouble(served.endpoint, clock)
    finally:
        served.double = None
        BackendDict.reset()


class RefusedError(Exception):
    """The plugin ended the call with an error."""


class OneCall:
    """The part of a gRPC call that the plugins use."""

    def __init__(self) -> None:
        self.metadata: Any = ()

    def abort(self, code: Any, details: str) -> NoReturn:
        raise RefusedError(details)

    def add_callback(self, callback: Any) -> bool:
        return True

    def set_trailing_metadata(self, metadata: Any) -> None:
        self.metadata = metadata


def urn(token: str, name: str = "it") -> str:
    return f"urn:pulumi:dev::demo::my:component:Thing${token}::{name}"


class Provider:
    """The stand-in provider, called as the engine calls it."""

    def __init__(self, endpoint: str = "http://127.0.0.1:9", **config: Any) -> None:
        self.service = AwsProvider()
        self.call = OneCall()
        given = {"region": "us-east-1", "endpoints": json.dumps([{"ec2": endpoint}]), **config}
        self.service.Configure(provider_pb2.ConfigureRequest(args=property_values.write(given)), self.call)

    def check(
        self,
        token: str,
        inputs: Mapping[str, Any],
        olds: Mapping[str, Any] | None = None,
        name: str = "it",
    ) -> tuple[dict[str, Any], list[str]]:
        """The checked inputs, and what is wrong."""
        request = provider_pb2.CheckRequest(
            urn=urn(token, name), news=_struct(inputs), olds=_struct(olds or {}), randomSeed=b"seed"
        )
        answer = self.service.Check(request, self.call)
        return property_values.read(answer.inputs), [failure.reason for failure in answer.failures]

    def create(
        self, token: str, inputs: Mapping[str, Any], *, preview: bool = False
    ) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """Checks and makes: id, outputs and checked inputs."""
        checked, wrong = self.check(token, inputs)
        assert wrong == []
        request = provider_pb2.CreateRequest(urn=urn(token), properties=_struct(checked), preview=preview)
        answer = self.service.Create(request, self.call)
        return answer.id, property_values.read(answer.properties), checked

    def read(
        self,
        token: str,
        id_: str,
        state: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Any] | None = None,
    ) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """The id (empty where it is gone), outputs and inputs."""
        request = provider_pb2.ReadRequest(
            urn=urn(token), id=id_, properties=_struct(state or {}), inputs=_struct(inputs or {})
        )
        answer = self.service.Read(request, self.call)
        return answer.id, property_values.read(answer.properties), property_values.read(answer.inputs)

    def diff(self, token: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> provider_pb2.DiffResponse:
        request = provider_pb2.DiffRequest(urn=urn(token), old_inputs=_struct(old), news=_struct(new))
        return self.service.Diff(request, self.call)

    def update(
        self, token: str, id_: str, state: Mapping[str, Any], old: Mapping[str, Any], new: Mapping[str, Any]
    ) -> dict[str, Any]:
        request = provider_pb2.UpdateRequest(
            urn=urn(token), id=id_, olds=_struct(state), old_inputs=_struct(old), news=_struct(new)
        )
        return property_values.read(self.service.Update(request, self.call).properties)

    def delete(self, token: str, id_: str, state: Mapping[str, Any]) -> None:
        request = provider_pb2.DeleteRequest(urn=urn(token), id=id_, properties=_struct(state))
        self.service.Delete(request, self.call)

    def invoke(self, token: str, **given: Any) -> dict[str, Any]:
        answer = self.service.Invoke(provider_pb2.InvokeRequest(tok=token, args=_struct(given)), self.call)
        if answer.failures:
            return {"failures": [failure.reason for failure in answer.failures]}
        return property_values.read(getattr(answer, "return"))


def _struct(properties: Mapping[str, Any]) -> struct_pb2.Struct:
    return property_values.write(properties)
