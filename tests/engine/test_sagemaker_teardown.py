"""The teardown of the committed stack `sagemaker`, by its command, under the real engine over the double."""

from pathlib import Path

import pytest

from rehearsal.aws.account import AwsDouble
from tests.support.hosted_project import HostedProject

pytestmark = pytest.mark.engine

LATE = "/aws/sagemaker/Endpoints/llm-chat"


@pytest.fixture(name="project")
def fixture_project(
    tmp_path: Path, pulumi_cli: Path, pulumi_env: dict[str, str], double: AwsDouble
) -> HostedProject:
    return HostedProject(tmp_path / "hosted", pulumi_cli, pulumi_env, double)


def test_the_whole_stack_is_taken_down_without_a_cluster_and_nothing_of_it_is_left(
    project: HostedProject,
) -> None:
    project.up()
    sagemaker = project.client("sagemaker")
    (group, _) = sagemaker.list_model_package_groups()["ModelPackageGroupSummaryList"]
    name = str(group["ModelPackageGroupName"])
    sagemaker.create_model_package(ModelPackageGroupName=name)

    refused = project.teardown("--plan")
    assert f"would lose model package group {name} (1 version with their decisions)" in refused.stdout
    assert refused.returncode == 1
    assert project.teardown().returncode == 1
    assert len(sagemaker.list_endpoints()["Endpoints"]) == 2

    done = project.teardown("--delete-data")
    assert done.returncode == 0, done.stdout
    assert "CLEAN: everything was looked at and nothing is left." in done.stdout
    assert "cluster" not in done.stdout.replace("ecs clusters", "")
    assert project.double.leftovers() == []
    assert project.certificate()["clean"]

    # What SageMaker says late makes its log group again, without tags.
    project.client("logs").create_log_group(logGroupName=LATE)
    again = project.teardown("--again")
    assert (again.returncode, f"log group {LATE}" in again.stdout) == (1, True)
    project.client("logs").delete_log_group(logGroupName=LATE)
    assert project.teardown("--again").returncode == 0
