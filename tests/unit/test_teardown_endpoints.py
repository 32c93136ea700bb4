"""A teardown of a stack without any cluster, over the double: endpoints first, then the registry."""

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError  # pyright: ignore[reportMissingTypeStubs]

from rehearsal.aws.clients import client
from runtime.ops.teardown import sweep
from runtime.ops.teardown.certificate import Certificate
from runtime.ops.teardown.endpoint_questions import ENDPOINT, PACKAGE_GROUP
from runtime.ops.teardown.ledger import read_ledger, resources_of
from runtime.ops.teardown.reaper import read_stack
from runtime.ops.teardown.run import RefusedError
from runtime.ops.teardown.waiting import Patience
from tests.support.aws import RunningDouble
from tests.support.torn_down import STACK, TornDown, aws_resource, hosted_state_of

OURS = [{"Key": "spillway:stack", "Value": STACK}, {"Key": "spillway:platform", "Value": "llm"}]
ROLE = "arn:aws:iam::123456789012:role/r"
GROUP = "llm-qwen"
LOST = (
    f"model package group {GROUP} (2 versions with their decisions) in 123456789012 would be lost; move the "
    "data, or say --delete-data"
)


@pytest.fixture(autouse=True)
def few_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that these tests are about; every one has its own test, and each costs time here."""
    asked = {
        "endpoints and their machines",
        "inference components",
        "model package groups",
        "roles that the state knew",
    }
    monkeypatch.setattr(sweep, "QUESTIONS", [one for one in sweep.QUESTIONS if one[1] in asked])


class Hosted(TornDown):
    """A stack with an endpoint that has a component, a scaling target, and a group in the registry."""

    def __init__(self, folder: Path, double: RunningDouble) -> None:
        state = hosted_state_of(aws_resource(ENDPOINT, "llm-chat"), aws_resource(PACKAGE_GROUP, GROUP))
        super().__init__(folder, state, double)
        self.calls: list[str] = []
        self.sagemaker = self.watched("sagemaker")
        self.scaling = self.watched("application-autoscaling")
        self.endpoint("llm-chat")
        self.endpoint("theirs", [])
        self.scaling.register_scalable_target(
            ServiceNamespace="sagemaker",
            ResourceId="inference-component/llm-chat-a",
            ScalableDimension="sagemaker:inference-component:DesiredCopyCount",
            MinCapacity=0,
            MaxCapacity=1,
        )
        self.sagemaker.create_model_package_group(ModelPackageGroupName=GROUP, Tags=OURS)
        self.calls.clear()
        self.deletes_in_aws = self._delete

    def watched(self, service: str) -> Any:
        """The very client that the teardown asks, which notes what it is told to take away."""
        assert self.double is not None
        made = client(service, self.double.endpoint, "us-east-1", None, 1)
        original = made._make_api_call

        def call(name: str, request: Any) -> Any:
            if name.startswith(("Delete", "Deregister")):
                self.calls.append(name)
            return original(name, request)

        made._make_api_call = call
        return made

    def endpoint(self, name: str, tags: Any = OURS) -> None:
        made = self.sagemaker
        made.create_model(ModelName=f"{name}-m", ExecutionRoleArn=ROLE)
        variant = {"VariantName": "v", "InstanceType": "ml.g6.2xlarge", "InitialInstanceCount": 1}
        made.create_endpoint_config(
            EndpointConfigName=f"{name}-c", ProductionVariants=[variant], ExecutionRoleArn=ROLE
        )
        made.create_endpoint(EndpointName=name, EndpointConfigName=f"{name}-c", Tags=tags)
        made.create_inference_component(
            InferenceComponentName=f"{name}-a",
            EndpointName=name,
            VariantName="v",
            Specification={"ModelName": f"{name}-m"},
            RuntimeConfig={"CopyCount": 1},
            Tags=tags,
        )

    def register(self, times: int) -> None:
        for _ in range(times):
            self.sagemaker.create_model_package(ModelPackageGroupName=GROUP)

    def _delete(self) -> None:
        self.calls.append("destroy")
        if self.sagemaker.list_model_package_groups()["ModelPackageGroupSummaryList"]:
            self.sagemaker.delete_model_package_group(ModelPackageGroupName=GROUP)

    def run(self, **wishes: Any) -> Certificate:
        certificate = self.teardown(**wishes).run()
        assert certificate is not None
        return certificate

    @property
    def endpoints(self) -> list[str]:
        return [one["EndpointName"] for one in self.sagemaker.list_endpoints()["Endpoints"]]


@pytest.fixture(name="stack")
def fixture_stack(tmp_path: Path, double: RunningDouble) -> Hosted:
    return Hosted(tmp_path / "certificates", double)


def test_scaling_goes_before_components_they_before_the_endpoint_and_that_before_all_else(
    stack: Hosted,
) -> None:
    certificate = stack.run()
    assert certificate.clean, certificate.text()
    assert stack.calls[:4] == [
        "DeregisterScalableTarget",
        "DeleteInferenceComponent",
        "DeleteEndpoint",
        "destroy",
    ]
    assert stack.endpoints == ["theirs"]
    left = stack.sagemaker.list_inference_components()["InferenceComponents"]
    assert [one["InferenceComponentName"] for one in left] == ["theirs-a"]


def test_nothing_that_is_said_or_done_is_about_clusters(stack: Hosted) -> None:
    plan = stack.teardown().plan()
    assert plan.lines == (
        "owner ml, environment dev, expires 7d",
        "AWS account 123456789012 us-east-1: 2 resources go",
    )
    certificate = stack.run()
    said = stack.out.getvalue()
    for word in ("GPU nodes", "models", "load balancers", "volumes", "network"):
        assert f"  {word}" not in said
    assert "cluster" not in certificate.text()
    assert stack.cluster.deleted == []


def test_an_endpoint_that_a_killed_up_began_is_in_no_state_and_goes_by_its_tags(stack: Hosted) -> None:
    stack.endpoint("llm-small")
    assert stack.run().clean
    assert stack.endpoints == ["theirs"]


def test_what_a_killed_up_was_making_is_looked_for_by_its_name_and_named_and_never_deleted(
    stack: Hosted,
) -> None:
    assert stack.double is not None
    stack.double.role("llm-endpoints")
    begun = aws_resource("aws:iam/role:Role", "", inputs={"name": "llm-endpoints"})
    stack.exported["deployment"]["pending_operations"] = [{"type": "creating", "resource": begun}]
    certificate = stack.run()
    assert [one.words for one in certificate.sweeps[-1].left] == [
        "IAM role llm-endpoints in 123456789012 us-east-1: not billed"
    ]


def test_an_endpoint_of_the_state_that_bears_no_tags_of_ours_is_not_touched_and_named(stack: Hosted) -> None:
    stack.exported["deployment"]["resources"].append(aws_resource(ENDPOINT, "theirs"))
    certificate = stack.run()
    assert certificate.sweeps[-1].problems[0] == (
        f"endpoints: endpoint theirs is in the state, and does not bear the tag spillway:stack={STACK}; it "
        "is not touched. Look whose it is, and take it out of the state: pulumi state delete"
    )
    assert stack.endpoints == ["theirs"], "those of the stack go all the same"
    assert stack.destroys == 0


@pytest.mark.parametrize(
    ("service", "operation"),
    [
        ("sagemaker", "list_tags"),
        ("sagemaker", "delete_inference_component"),
        ("sagemaker", "delete_endpoint"),
        ("scaling", "deregister_scalable_target"),
    ],
)
def test_what_is_refused_of_one_endpoint_keeps_no_other_running(
    stack: Hosted, service: str, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.endpoint("llm-small")
    client = getattr(stack, service)
    original = getattr(client, operation)

    def refused(**request: Any) -> Any:
        if "llm-chat" in str(request):
            denied = {"Error": {"Code": "AccessDeniedException", "Message": "not for llm-chat"}}
            raise ClientError(denied, operation)  # pyright: ignore[reportArgumentType]
        return original(**request)

    monkeypatch.setattr(client, operation, refused)
    certificate = stack.run()
    assert "not for llm-chat" in certificate.sweeps[-1].problems[0]
    assert "llm-small" not in stack.endpoints
    assert stack.destroys == 0


def test_an_endpoint_that_a_destroy_leaves_stays(stack: Hosted) -> None:
    stack.exported["deployment"]["resources"][3]["retainOnDelete"] = True
    certificate = stack.run()
    assert not certificate.clean
    assert stack.endpoints == ["llm-chat", "theirs"]


def test_an_endpoint_that_is_being_updated_is_asked_again_until_it_goes(
    stack: Hosted, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.patience = Patience(step_s=60, look_s=0)
    busy = {"Error": {"Code": "ValidationException", "Message": "Cannot delete in-progress endpoint"}}
    original, times = stack.sagemaker.delete_endpoint, 0

    def delete_endpoint(**request: Any) -> Any:
        nonlocal times
        times += 1
        if times < 3:
            raise ClientError(busy, "DeleteEndpoint")  # pyright: ignore[reportArgumentType]
        return original(**request)

    monkeypatch.setattr(stack.sagemaker, "delete_endpoint", delete_endpoint)
    assert stack.run().clean
    assert times == 3


def test_an_endpoint_that_never_goes_is_a_named_leak_with_the_price_of_its_machines(
    stack: Hosted, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = {"Error": {"Code": "ValidationException", "Message": "Cannot delete in-progress endpoint"}}

    def delete_endpoint(**_: Any) -> Any:
        raise ClientError(busy, "DeleteEndpoint")  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(stack.sagemaker, "delete_endpoint", delete_endpoint)
    certificate = stack.run()
    assert certificate.sweeps[-1].problems[0] == (
        "endpoints: endpoint llm-chat does not go: Cannot delete in-progress endpoint; see it in SageMaker, "
        "and run the same command again"
    )
    assert certificate.sweeps[-1].left[0].id == "llm-chat/v"
    assert stack.destroys == 0


def test_who_may_not_delete_an_endpoint_is_told_at_once(
    stack: Hosted, monkeypatch: pytest.MonkeyPatch
) -> None:
    denied = {"Error": {"Code": "AccessDeniedException", "Message": "not authorized"}}
    times = 0

    def delete_inference_component(**_: Any) -> Any:
        nonlocal times
        times += 1
        raise ClientError(denied, "DeleteInferenceComponent")  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(stack.sagemaker, "delete_inference_component", delete_inference_component)
    certificate = stack.run()
    assert "not authorized" in certificate.sweeps[-1].problems[0]
    assert times == 1


def test_versions_of_the_registry_are_counted_and_refused_before_anything_is_touched(stack: Hosted) -> None:
    stack.register(2)
    with pytest.raises(RefusedError) as refused:
        stack.run()
    assert str(refused.value) == LOST
    assert stack.calls == []
    assert stack.teardown().plan().refused == (LOST,)


def test_with_the_flag_versions_go_before_their_group(stack: Hosted) -> None:
    stack.register(2)
    certificate = stack.run(delete_data=True)
    assert certificate.clean, certificate.text()
    assert stack.calls[-4:] == [
        "DeleteModelPackage",
        "DeleteModelPackage",
        "destroy",
        "DeleteModelPackageGroup",
    ]


def test_a_group_that_bears_no_tags_of_ours_is_never_emptied(stack: Hosted) -> None:
    stack.sagemaker.create_model_package_group(ModelPackageGroupName="theirs")
    stack.sagemaker.create_model_package(ModelPackageGroupName="theirs")
    stack.exported["deployment"]["resources"].append(aws_resource(PACKAGE_GROUP, "theirs"))
    with pytest.raises(
        RefusedError, match="theirs is in the state, and does not bear the tag spillway:stack"
    ):
        stack.run(delete_data=True)
    assert stack.calls == []


def test_a_stack_without_a_claim_says_whose_it_is_by_its_tags_and_has_no_cluster(stack: Hosted) -> None:
    ledger = read_ledger("dev", resources_of(stack.exported))
    assert ledger.tenure is not None
    assert (ledger.tenure.owner, ledger.tenure.expires) == ("ml", "7d")
    assert (ledger.clouds[0].clusters, ledger.sites) == ((), ())
    assert read_stack("dev", stack.exported).tenure == ledger.tenure
