"""The teardown of the committed stack `sagemaker`, by its command, under the real engine over the double."""

import json
from pathlib import Path
from typing import Any

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


def put_index(project: HostedProject) -> None:
    """An image for two platforms in a repository of the stack, as skopeo pushes it."""
    ecr = project.client("ecr")
    name = ecr.describe_repositories()["repositories"][0]["repositoryName"]
    oci = "application/vnd.oci.image"

    def put(kind: str, content: dict[str, Any], **more: Any) -> dict[str, str]:
        manifest = json.dumps({"schemaVersion": 2, "mediaType": f"{oci}.{kind}.v1+json", **content})
        return ecr.put_image(repositoryName=name, imageManifest=manifest, **more)["image"]["imageId"]

    layers = ({"digest": f"sha256:{one * 64}", "size": 1} for one in ("a", "b"))
    made = [put("manifest", {"config": one, "layers": [one]}) for one in layers]
    put("index", {"manifests": [{"digest": one["imageDigest"]} for one in made]}, imageTag="v1")


def test_the_whole_stack_is_taken_down_without_a_cluster_and_nothing_of_it_is_left(
    project: HostedProject,
) -> None:
    project.up()
    sagemaker = project.client("sagemaker")
    (group, _) = sagemaker.list_model_package_groups()["ModelPackageGroupSummaryList"]
    name = str(group["ModelPackageGroupName"])
    sagemaker.create_model_package(ModelPackageGroupName=name)
    put_index(project)

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
