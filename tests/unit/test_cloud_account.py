"""The look at an AWS account before anything is declared in it."""

from decimal import Decimal
from pathlib import Path

import pytest

from runtime.ops.aws_account import AccountUnreachableError, quota_needs
from stacks.cloud_account import require_account
from stacks.cloud_providers import is_rehearsal, rehearsal_kubeconfig
from stacks.cloud_settings import CloudSettings
from stacks.settings import SettingsError
from tests.support.stack_files import platform_settings


class FakeAccount:
    """Answers as told; without quotas it cannot be asked."""

    def __init__(self, account: str, **quotas: int) -> None:
        self._account = account
        self._quotas = quotas

    def caller_account(self) -> str:
        return self._account

    def quota(self, code: str) -> Decimal:
        if not self._quotas:
            raise AccountUnreachableError("AccessDenied")
        return Decimal(self._quotas[code.replace("-", "_")])


@pytest.fixture
def cloud() -> CloudSettings:
    found = platform_settings("hybrid").cloud
    assert found is not None
    return found


def test_the_stack_may_take_what_its_groups_hold_at_most(cloud: CloudSettings) -> None:
    needs = quota_needs(cloud.node_groups, "m6i.2xlarge", 3)
    assert [(need.code, need.vcpus) for need in needs] == [("L-1216C47A", 24), ("L-DB2E81BA", 64)]


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
