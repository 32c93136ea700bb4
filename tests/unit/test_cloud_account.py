"""The look at an AWS account before anything is declared in it."""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import pytest

from runtime.model import Replicas
from runtime.ops.aws_account import AccountUnreachableError, Boto3Account, quota_needs
from runtime.ops.endpoint_quotas import instance_needs
from runtime.sagemaker.endpoints import Deployment
from stacks.cloud_account import require_account, require_endpoint_account, warn_of_kept_prompts
from stacks.cloud_providers import is_rehearsal, rehearsal_kubeconfig
from stacks.cloud_settings import CloudSettings
from stacks.sagemaker_settings import SageMakerSettings
from stacks.settings import SettingsError
from tests.support.aws import RunningDouble, running_double
from tests.support.stack_files import platform_settings, stack_settings


class FakeAccount:
    """Answers as told; without quotas it cannot be asked. Those of endpoints are by instance type."""

    instances: Mapping[str, int] | None = None

    def __init__(self, account: str, **quotas: int) -> None:
        self._account = account
        self._quotas = quotas

    def caller_account(self) -> str:
        return self._account

    def quota(self, code: str) -> Decimal:
        if not self._quotas:
            raise AccountUnreachableError("AccessDenied")
        return Decimal(self._quotas[code.replace("-", "_")])

    def endpoint_quotas(self) -> Mapping[str, Decimal]:
        if self.instances is None:
            raise AccountUnreachableError("AccessDenied")
        return {name: Decimal(value) for name, value in self.instances.items()}


@pytest.fixture
def cloud() -> CloudSettings:
    found = platform_settings("hybrid").cloud
    assert found is not None
    return found


def test_the_stack_may_take_what_its_groups_hold_at_most(cloud: CloudSettings) -> None:
    needs = quota_needs(cloud.node_groups, "m6i.2xlarge", 3)
    assert [(need.code, need.vcpus) for need in needs] == [("L-1216C47A", 24), ("L-DB2E81BA", 64)]


def test_prompts_that_are_left_in_a_bucket_of_no_use_are_warned_of_with_the_command_that_deletes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    monkeypatch.setattr("pulumi.log.warn", warned.append)
    keeps = stack_settings("sagemaker")
    assert isinstance(keeps, SageMakerSettings)
    without = [one.model_copy(update={"capture": None}) for one in keeps.endpoints]
    keeps_none = keeps.model_copy(update={"endpoints": tuple(without)})
    with running_double(tmp_path / "aws") as double:
        monkeypatch.setenv("AWS_ENDPOINT_URL", double.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
        s3, bucket = double.client("s3"), "llm-prompts-123456789012-us-east-1"
        warn_of_kept_prompts(keeps_none, Boto3Account("us-east-1"))
        s3.create_bucket(Bucket=bucket)
        warn_of_kept_prompts(keeps_none, Boto3Account("us-east-1"))
        assert warned == []
        s3.put_object(Bucket=bucket, Key="capture/llm-chat/one.jsonl", Body=b"{}")
        warn_of_kept_prompts(keeps, Boto3Account("us-east-1"))
        assert warned == []
        warn_of_kept_prompts(keeps_none, Boto3Account("us-east-1"))
    (said,) = warned
    assert f"bucket {bucket} is not empty" in said
    assert f"aws s3api delete-objects --bucket {bucket} --delete " in said


def test_quotas_that_suffice_say_nothing(cloud: CloudSettings) -> None:
    require_account(cloud, FakeAccount("123456789012", L_1216C47A=24, L_DB2E81BA=64))


def test_a_quota_that_is_too_low_is_told_with_its_code_and_both_numbers(cloud: CloudSettings) -> None:
    with pytest.raises(SettingsError) as error:
        require_account(cloud, FakeAccount("123456789012", L_1216C47A=32, L_DB2E81BA=0))
    assert str(error.value).splitlines() == [
        "1 mistake in the AWS account:",
        "  - the account's quota L-DB2E81BA (Running On-Demand G and VT instances) is 0 vCPUs, and the stack "
        "may take 64: 4 x g6e.4xlarge (l40s); ask AWS to raise it in Service Quotas (EC2), or lower max of "
        "the node groups",
    ]


def test_a_quota_stops_nobody_from_the_foundation_which_uses_none(
    cloud: CloudSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    monkeypatch.setattr("pulumi.log.warn", warned.append)
    foundation = cloud.model_copy(update={"declare": "foundation"})
    require_account(foundation, FakeAccount("123456789012", L_1216C47A=32, L_DB2E81BA=0))
    assert "L-DB2E81BA" in warned[0]


def test_credentials_of_another_account_are_refused_before_its_quotas_are_asked(cloud: CloudSettings) -> None:
    with pytest.raises(SettingsError, match="the credentials are of account 999999999999; use those of"):
        require_account(cloud, FakeAccount("999999999999"))


def test_an_account_that_cannot_be_asked_does_not_stop_changes_on_prem(
    cloud: CloudSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    monkeypatch.setattr("pulumi.log.warn", warned.append)
    require_account(cloud, FakeAccount("123456789012"))
    assert warned == [
        "AWS cannot be asked about account and quotas (AccessDenied); what is declared there may fail"
    ]


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("http://127.0.0.1:4566", True),
        ("http://[::1]:4566", True),
        ("http://127.0.0.1.example.com", False),
        ("https://vpce.example.com", False),
        ("", False),
    ],
)
def test_only_an_address_of_this_machine_makes_a_rehearsal(
    endpoint: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    assert is_rehearsal() is expected


def test_a_cluster_in_the_place_of_eks_is_taken_only_in_a_rehearsal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPILLWAY_EKS_KUBECONFIG", "/tmp/other")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with pytest.raises(SettingsError, match="AWS_ENDPOINT_URL names no AWS double on this machine"):
        rehearsal_kubeconfig()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert rehearsal_kubeconfig() == Path("/tmp/other")
    monkeypatch.delenv("SPILLWAY_EKS_KUBECONFIG")
    assert rehearsal_kubeconfig() is None


@pytest.fixture
def hosted() -> SageMakerSettings:
    found = stack_settings("sagemaker")
    assert isinstance(found, SageMakerSettings)
    return found


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr("pulumi.log.warn", said.append)
    return said


def with_instances(**instances: int) -> FakeAccount:
    """An account with quotas for the types of the committed stack, by family."""
    account = FakeAccount("123456789012")
    account.instances = {f"ml.{family}.2xlarge": number for family, number in instances.items()}
    return account


def test_endpoints_go_to_the_account_of_their_settings_and_to_no_other(hosted: SageMakerSettings) -> None:
    require_endpoint_account(hosted, with_instances(g6e=6, g6=1))
    with pytest.raises(SettingsError, match=r"platform\.accountId = '123456789012': the credentials are of"):
        require_endpoint_account(hosted, FakeAccount("210987654321"))


def test_an_update_takes_twice_the_instances_of_variants_and_shared_ones_once(
    hosted: SageMakerSettings,
) -> None:
    needs = {one.instance_type: (one.most, one.in_update) for one in instance_needs(hosted.endpoints)}
    assert needs == {"ml.g6e.2xlarge": (3, 6), "ml.g6.2xlarge": (1, 1)}


def test_a_rolling_update_takes_a_batch_more(hosted: SageMakerSettings) -> None:
    (chat, _) = hosted.endpoints
    stable = chat.variants[0].model_copy(update={"replicas": Replicas(min=1, max=8)})
    rolling = Deployment(strategy="rolling", percent=20)
    (need,) = instance_needs([chat.model_copy(update={"variants": (stable,), "deployment": rolling})])
    assert (need.most, need.in_update) == (8, 10)


def test_a_shadow_takes_what_it_begins_with(hosted: SageMakerSettings) -> None:
    (chat, _) = hosted.endpoints
    shadow = chat.variants[1].model_copy(update={"shadow": True, "replicas": Replicas(min=1, max=5)})
    (need,) = instance_needs([chat.model_copy(update={"variants": (chat.variants[0], shadow)})])
    assert need.most == 2 + 1


def test_quotas_that_suffice_for_an_update_say_nothing(hosted: SageMakerSettings, warned: list[str]) -> None:
    require_endpoint_account(hosted, with_instances(g6e=6, g6=1))
    assert warned == []


def test_a_quota_below_the_most_instances_is_refused_with_both_numbers_and_what_to_ask_for(
    hosted: SageMakerSettings,
) -> None:
    with pytest.raises(SettingsError) as error:
        require_endpoint_account(hosted, with_instances(g6e=2, g6=1))
    assert str(error.value).splitlines() == [
        "1 mistake in the AWS account:",
        "  - the account's quota 'ml.g6e.2xlarge for endpoint usage' is 2, and the stack may take 3: 2 for "
        "chat/stable and 1 for chat/canary; ask AWS to raise it in Service Quotas (SageMaker) to 6, which an "
        "update takes, or lower replicas.max",
    ]


def test_a_quota_that_only_an_update_exceeds_is_warned_of(
    hosted: SageMakerSettings, warned: list[str]
) -> None:
    require_endpoint_account(hosted, with_instances(g6e=5, g6=1))
    (line,) = warned
    assert line.startswith("the account's quota 'ml.g6e.2xlarge for endpoint usage' is 5, and an update of a")


def test_a_quota_of_endpoints_stops_nobody_from_the_foundation(
    hosted: SageMakerSettings, warned: list[str]
) -> None:
    foundation = hosted.model_copy(update={"declare": "foundation"})
    require_endpoint_account(foundation, with_instances(g6e=0, g6=1))
    assert "'ml.g6e.2xlarge for endpoint usage' is 0" in warned[0]


def test_a_type_that_the_account_names_no_quota_of_is_warned_of(
    hosted: SageMakerSettings, warned: list[str]
) -> None:
    require_endpoint_account(hosted, with_instances(g6e=6))
    assert warned == [
        "the account names no quota 'ml.g6.2xlarge for endpoint usage'; look in Service Quotas (SageMaker) "
        "whether it has 1 in this region"
    ]


def test_who_may_not_ask_for_quotas_is_warned_and_not_stopped(
    hosted: SageMakerSettings, warned: list[str]
) -> None:
    require_endpoint_account(hosted, FakeAccount("123456789012"))
    assert warned == ["AWS cannot be asked about quotas of SageMaker (AccessDenied); endpoints may fail"]


def test_quotas_of_endpoints_are_found_by_their_names_whatever_their_codes(
    double: RunningDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    double.script(quotas={"ml.g6e.2xlarge for endpoint usage": 2})
    account = Boto3Account("us-east-1")
    monkeypatch.setattr(account, "_client", double.client)
    quotas = account.endpoint_quotas()
    assert (quotas["ml.g6e.2xlarge"], quotas["ml.g6.2xlarge"]) == (2, 64)
    double.script(outages=[{"service": "servicequotas", "status": 403, "code": "AccessDeniedException"}])
    with pytest.raises(AccountUnreachableError, match="AccessDeniedException"):
        account.endpoint_quotas()
