"""Teardowns of rehearsed stacks under faults: each run ends in a clean certificate or names what is left.

What a certificate calls clean is looked at by a witness that shares no code with it. The counts are in
benchmarks/results; FAULT_SEED draws other moments for the kills.
"""

import os
import tempfile
from collections.abc import Callable, Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from rehearsal.cloud import RehearsedCloud
from rehearsal.site.api import object_path
from runtime.ops.progress import Progress
from tests.faults.driven import SIMULATED_IMAGE
from tests.faults.taken_down import TakenDown, api_server, left, problems, unproven
from tests.faults.teardown_ledger import TeardownLedger
from tests.faults.witness import REGION
from tests.support.stack_files import platform_object
from tests.support.stage import Stage

SEED = int(os.environ.get("FAULT_SEED", "1"))

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]

STEPS = (
    "what a killed Pulumi was making",
    "no more GPU nodes",
    "staged copies",
    "models",
    "GPU nodes",
    "load balancers",
    "volumes",
    "buckets",
)
FINALIZER = "faults.example.com/held"
OPERATOR_S = "ray.io/rayservice-finalizer"
DATA = "--delete-data"
VOLUME = "kept-by-a-fault"
CLUSTER_TAGS = [{"Key": "kubernetes.io/cluster/llm-burst", "Value": "owned"}]


@pytest.fixture(name="stage")
def fixture_stage() -> Generator[Stage]:
    with (
        tempfile.TemporaryDirectory(prefix="tdn-") as home,
        Stage.on(f"tdn-{os.getpid() % 10000}", Path(home)) as stage,
    ):
        yield stage


@pytest.fixture(name="stack_of")
def fixture_stack_of(stage: Stage) -> Generator[Callable[..., TakenDown]]:
    with ExitStack() as ends:

        def made(title: str, platform: dict[str, Any]) -> TakenDown:
            if platform.get("cloud"):
                cloud = RehearsedCloud(stage.home, stage.site, REGION)
                ends.callback(cloud.stop, Progress())
            stack = TakenDown(stage, title, platform, TeardownLedger(), SEED)
            ends.callback(stack.forget)
            stack.begin()
            return stack

        yield made


def local() -> dict[str, Any]:
    """The committed stack, with the stand-in engine."""
    platform = platform_object("local")
    platform["ray"]["image"] = SIMULATED_IMAGE
    return platform


StackOf = Callable[[str, dict[str, Any]], TakenDown]


@pytest.mark.parametrize("name", ["local", "hybrid"])
def test_a_teardown_under_faults_ends_clean_or_names_what_is_left(name: str, stack_of: StackOf) -> None:
    stack = stack_of(name, local() if name == "local" else platform_object("hybrid"))
    stack.up()
    _volume_with_data(stack)
    if stack.cloud is not None:
        _objects_in_the_bucket(stack)
    _data_is_refused(stack)
    _stuck_finalizers(stack)
    _nobody_answers(stack)
    _kills(stack)
    if stack.cloud is None:
        _api_server_dies_in_the_destroy(stack)  # Pulumi waits six minutes for it: once is enough
    else:
        _aws_does_not_delete(stack, stack.cloud)
    _volumes_stay(stack)
    _kills_at_the_end(stack)
    assert stack.teardown("none")["clean"]
    assert stack.teardown("none, and nothing is there any more")["clean"]


def test_a_hybrid_stack_that_is_only_a_foundation_goes_and_the_reaper_takes_the_next_one(
    stack_of: StackOf,
) -> None:
    platform = platform_object("hybrid")
    platform["cloud"]["declare"] = "foundation"
    platform["expires"] = "8h"
    stack = stack_of("foundation of hybrid", platform)
    stack.killed_up(r"pulumi up: \d\d+ res")
    stack.teardown("an `up` that was killed")
    stack.up()
    stack.stage.run("stage", *stack.words)
    assert stack.teardown("none, with what was staged")["clean"]

    stack.up()
    assert "expires soon" in stack.reaper("--really")
    assert "lives" in stack.reaper("--really", "--warn-hours=1")
    stack.age(hours=9)
    assert "would be taken down; this is a dry run" in stack.reaper()
    said = stack.reaper("--really")
    assert "expired, since" in said
    assert "CLEAN: everything was looked at and nothing is left." in said


# What a teardown meets before anything went


def _nobody_answers(stack: TakenDown) -> None:
    with stack.frozen(stack.stage.site.layout):
        frozen = stack.plain_teardown("API server frozen", DATA)
    assert "no answer from" in unproven(frozen)
    assert "pulumi destroy: not run" in problems(frozen)
    if stack.cloud is None:
        return
    with stack.frozen(stack.cloud.site.layout):
        frozen = stack.plain_teardown("EKS API frozen", DATA)
    assert "no answer from" in unproven(frozen)
    with stack.scripted(outages=[{"service": "eks"}]):
        away = stack.plain_teardown("AWS' EKS away", DATA)
    assert "pulumi destroy: not run" in problems(away)
    with stack.scripted(outages=[{"service": "sts", "status": 403, "code": "ExpiredToken"}]):
        stack.plain_teardown("credentials that ran out", DATA)
    assert "nothing is touched" in stack.said


def _stuck_finalizers(stack: TakenDown) -> None:
    api = stack.stage.site.api()
    model = str(api.get("/apis/ray.io/v1/namespaces/llm/rayservices")["items"][0]["metadata"]["name"])
    service = object_path("ray.io/v1", "RayService", "llm", model)
    _finalizers(stack, service, [OPERATOR_S, FINALIZER])
    held = stack.teardown("stuck finalizer of a RayService", DATA)
    assert f"finalizer {FINALIZER} is removed by the controller of faults.example.com" in problems(held)
    assert f"llm/{model}" in left(held)
    _finalizers(stack, service, [])


def _finalizers(stack: TakenDown, path: str, finalizers: list[str]) -> None:
    body = {"metadata": {"finalizers": finalizers}}
    stack.stage.site.api().request("PATCH", path, body, content_type="application/merge-patch+json")


def _volume_with_data(stack: TakenDown) -> None:
    """A claim that the stack did not declare, on a volume that stays when its claim goes."""
    api = stack.stage.site.api()
    size = {"storage": "1Gi"}
    common = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    volume = {
        **common,
        "capacity": size,
        "persistentVolumeReclaimPolicy": "Retain",
        "hostPath": {"path": "/tmp"},
    }
    claim = {**common, "resources": {"requests": size}, "volumeName": VOLUME}
    api.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": VOLUME}, "spec": volume})
    metadata = {"name": "data", "namespace": "llm"}
    api.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": claim})


def _objects_in_the_bucket(stack: TakenDown) -> None:
    s3 = stack.client("s3")
    bucket = str(s3.list_buckets()["Buckets"][0]["Name"])
    s3.put_object(Bucket=bucket, Key="notes", Body=b"first")
    s3.put_object(Bucket=bucket, Key="notes", Body=b"second")


def _data_is_refused(stack: TakenDown) -> None:
    refused = stack.teardown("data that nobody gave up")
    assert "volume claim llm/data" in problems(refused)
    if stack.cloud is not None:
        assert "1 object in 2 versions, 11 bytes" in problems(refused)


# Kills


def _kills(stack: TakenDown) -> None:
    """At the beginning, after each step, a moment later, and in the destroy."""
    stack.kill("killed at its start", r"(done|\.\.\.) +\S", 2.0, DATA)
    for step in STEPS:
        stack.kill(f"killed after step {step}", rf"done +{step}", 1.0, DATA)
    stack.kill("killed in pulumi destroy", r"pulumi destroy: \d+ res", 1.0, DATA)
    stack.kill("killed with Pulumi in pulumi destroy", r"pulumi destroy: \d+ res", 1.0, DATA, tree=True)
    locked = stack.plain_teardown("lock of a killed Pulumi, with plain Pulumi", DATA)
    assert "pulumi cancel" in problems(locked)


def _api_server_dies_in_the_destroy(stack: TakenDown) -> None:
    dies = api_server(stack.stage.site.layout)
    died = stack.struck("API server killed in pulumi destroy", r"pulumi destroy: \d+ res", dies, DATA)
    assert not died["clean"]


def _kills_at_the_end(stack: TakenDown) -> None:
    stack.kill("killed after step network", r"done +network", 0.2, DATA)
    stack.kill("killed while it looked", r"done +network", 1.0, DATA)


# What AWS does


def _aws_does_not_delete(stack: TakenDown, cloud: RehearsedCloud) -> None:
    groups = [str(group["nodeGroup"]) for group in cloud.double.node_groups()]
    assert groups, "the destroy went too far for this fault"
    with stack.scripted(undeletable=groups):
        stuck = stack.teardown("node group that will not delete", DATA)
    assert "DELETE_FAILED" in problems(stuck)
    assert all(any(one.endswith(f"/{group}") for one in left(stuck)) for group in groups)
    with stack.scripted(outages=[{"service": "kms", "status": 403, "code": "AccessDeniedException"}]):
        refused = stack.teardown("AWS' KMS may not be asked", DATA)
    assert "AccessDeniedException" in problems(refused) + unproven(refused)


def _volumes_stay(stack: TakenDown) -> None:
    stay = [VOLUME]
    if stack.cloud is not None:
        tags = [{"ResourceType": "volume", "Tags": CLUSTER_TAGS}]
        volume = stack.client("ec2").create_volume(
            AvailabilityZone=f"{REGION}a", Size=200, VolumeType="gp3", TagSpecifications=tags
        )
        stay.append(str(volume["VolumeId"]))
    named = stack.teardown("volumes left", DATA)
    assert sorted(left(named)) == sorted(stay)
    assert problems(named) + unproven(named) == ""
    for volume_id in stay[1:]:
        stack.client("ec2").delete_volume(VolumeId=volume_id)
    stack.stage.site.api().delete(object_path("v1", "PersistentVolume", None, VOLUME))
