"""The gateway's Fargate task run as its definition says, with the real Envoy, adapter and runtime double."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rehearsal.endpoints.gateway_task import LocalTask, TaskRunner
from rehearsal.endpoints.processes import ServerError
from rehearsal.endpoints.runtime_api import CREDENTIALS, RuntimeApi
from runtime.gateway import GatewayConfig, ModelRoute, Upstream
from runtime.sagemaker.hosted import HostedRevision
from runtime.sagemaker_gateway import AdapterConfig, SageMakerModel
from runtime.sagemaker_gateway.task import GatewayTask
from tests.support.aws import RunningDouble, running_double
from tests.support.hosted import ENDPOINT, SERVED, hosted

from .fake_upstream import FakeUpstream

KEY = "sk-alice-0123456789abcdef"


@pytest.fixture(name="double", scope="module")
def fixture_double(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDouble]:
    with running_double(tmp_path_factory.mktemp("double")) as running, pytest.MonkeyPatch.context() as patch:
        hosted(running, patch)
        yield running


@pytest.fixture(name="runtime", scope="module")
def fixture_runtime(double: RunningDouble, upstreams: dict[str, FakeUpstream]) -> Iterator[RuntimeApi]:
    # As an earlier file's tests left it, it may refuse everything.
    upstreams["tiny"].reset()

    def url_of(_: HostedRevision) -> str:
        return f"http://127.0.0.1:{upstreams['tiny'].port}"

    runtime = RuntimeApi(double.client("sagemaker"), url_of, "us-east-1")
    yield runtime
    runtime.end()


def declare(double: RunningDouble, keys: object) -> None:
    """The service of a task with one client, behind a target group, as the stack declares it."""
    adapter = AdapterConfig(
        region="us-east-1", models=(SageMakerModel(name=SERVED, endpoint=ENDPOINT),), listen_port=8081
    )
    upstream = Upstream(host="127.0.0.1", port=8081)
    gateway = GatewayConfig(models=(ModelRoute(name=SERVED, upstream=upstream),))
    secret = double.client("secretsmanager").create_secret(Name="keys", SecretString=json.dumps(keys))
    version = f"{secret['ARN']}:::{secret['VersionId']}"
    task = GatewayTask(
        gateway=gateway,
        adapter=adapter,
        gateway_image="envoy",
        adapter_image="adapter",
        region="us-east-1",
        logs=dict.fromkeys(("envoy", "adapter", "files"), "/llm"),
    )
    ecs: Any = double.client("ecs")
    ecs.create_cluster(clusterName="llm-gateway")
    ecs.register_task_definition(
        family="llm-gateway",
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu="1024",
        memory="4096",
        containerDefinitions=json.loads(task.containers(version)),
    )
    vpc = double.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
    group = double.client("elbv2").create_target_group(
        Name="llm-gateway",
        Protocol="TCP",
        Port=gateway.listen_port,
        VpcId=vpc,
        TargetType="ip",
        HealthCheckProtocol="HTTP",
        HealthCheckPath="/ready",
        HealthCheckPort=str(gateway.metrics_port),
    )["TargetGroups"][0]["TargetGroupArn"]
    ecs.create_service(
        cluster="llm-gateway",
        serviceName="llm-gateway",
        taskDefinition="llm-gateway",
        desiredCount=2,
        loadBalancers=[
            {"targetGroupArn": group, "containerName": "envoy", "containerPort": gateway.listen_port}
        ],
    )


@pytest.fixture(name="task", scope="module")
def fixture_task(
    double: RunningDouble, runtime: RuntimeApi, envoy: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalTask]:
    declare(double, {"alice": KEY})
    folder = tmp_path_factory.mktemp("task")
    runner = TaskRunner(double.client, envoy, runtime.start(), CREDENTIALS, folder)
    task = runner.start("llm-gateway", "llm-gateway")
    yield task
    task.end()


def ask(task: LocalTask, key: str, **body: Any) -> tuple[int, dict[str, str], dict[str, Any]]:
    messages = [{"role": "user", "content": "Hello"}]
    request = urllib.request.Request(
        f"{task.url}/v1/chat/completions",
        json.dumps({"model": SERVED, "messages": messages, **body}).encode(),
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, {k.lower(): v for k, v in error.headers.items()}, json.load(error)


def test_a_request_passes_both_containers_as_the_definition_tells_them(task: LocalTask) -> None:
    status, headers, _ = ask(task, KEY, max_tokens=8)
    assert status == 200
    assert headers["x-spillway-variant"] in ("stable", "canary")


def test_the_key_of_the_secret_is_the_only_one_that_opens_it(task: LocalTask) -> None:
    assert ask(task, "sk-mallory-0123456789abcdef", max_tokens=8)[0] == 401


def test_what_cannot_end_in_time_is_refused_with_a_number(task: LocalTask) -> None:
    status, _, answer = ask(task, KEY, max_tokens=1_000_000)
    assert status == 400
    assert any(character.isdigit() for character in answer["error"]["message"])


def test_the_tasks_ports_are_others_than_the_machines_own(task: LocalTask) -> None:
    # A second rehearsal, or a site beside it, has the declared ports.
    assert all(here != there for here, there in task.ports.items())


def test_a_service_that_is_not_declared_is_named(double: RunningDouble, envoy: Path, tmp_path: Path) -> None:
    runner = TaskRunner(double.client, envoy, "http://127.0.0.1:1", CREDENTIALS, tmp_path)
    with pytest.raises(ServerError, match="no service other in ECS cluster llm-gateway"):
        runner.start("llm-gateway", "other")
