"""The list of AWS' images, out of the SageMaker SDK, and their digests."""

import subprocess
import sys
from typing import Any

import pytest

from runtime.ops.container_images import ImageError, digest, main, reference
from stacks.sagemaker_settings import is_private_ecr
from tests.support.stack_files import ROOT

TAGGED = "763104351884.dkr.ecr.us-east-1.amazonaws.com/vllm:0.30.0-gpu-py312-cu130-ubuntu24.04-sagemaker"


class Registry:
    """ECR, as far as it is asked."""

    def __init__(self, digests: dict[str, str]) -> None:
        self.digests = digests
        self.asked: list[dict[str, Any]] = []

    def batch_get_image(self, **request: Any) -> dict[str, Any]:
        self.asked.append(request)
        tag = request["imageIds"][0]["imageTag"]
        if tag not in self.digests:
            return {"images": [], "failures": [{"failureCode": "ImageNotFound"}]}
        return {"images": [{"imageId": {"imageTag": tag, "imageDigest": self.digests[tag]}}]}


def test_images_are_of_the_regions_own_account_and_endpoints_may_pull_them() -> None:
    assert reference("vllm", "us-east-1", "0.30.0") == TAGGED
    for container in ("vllm", "lmi"):
        image = reference(container, "eu-north-1")
        assert is_private_ecr(image, "eu-north-1")
        assert "cu1" in image, "a GPU's image"
    of_neuron = reference("neuron", "eu-west-1")
    assert is_private_ecr(of_neuron, "eu-west-1")
    assert "/huggingface-vllm-inference-neuronx:" in of_neuron


def test_without_a_name_the_containers_that_a_region_has_are_listed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--region", "eu-west-1"]) == 0
    assert main(["--region", "eu-north-1"]) == 0
    listed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("#")]
    # The SDK's list has none for Neuron devices in eu-north-1.
    assert listed == [f"# container: {one}" for one in ("vllm", "lmi", "neuron", "vllm", "lmi")]
    assert main(["--region", "eu-nowhere-1"]) == 1
    assert "Unsupported region" in capsys.readouterr().err


def test_an_unknown_region_or_version_is_one_message_and_not_a_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--region", "eu-nowhere-1", "--container", "vllm"]) == 1
    assert main(["--region", "us-east-1", "--container", "lmi", "--version", "0.0.1"]) == 1
    assert main(["--region", "us-east-1", "--version", "0.30.0"]) == 1
    first, second, third = capsys.readouterr().err.strip().splitlines()
    assert first.startswith("vllm in eu-nowhere-1: Unsupported region")
    assert second.startswith("lmi in us-east-1: Unsupported")
    assert third.startswith("--version: each container has versions of its own")


def test_a_digest_is_asked_of_the_account_that_has_the_image() -> None:
    tag = TAGGED.rpartition(":")[2]
    registry = Registry({tag: "sha256:" + "a" * 64})
    assert digest(registry, TAGGED) == "sha256:" + "a" * 64
    wanted = {"registryId": "763104351884", "repositoryName": "vllm", "imageIds": [{"imageTag": tag}]}
    assert registry.asked == [wanted]
    with pytest.raises(ImageError, match="ECR does not have it"):
        digest(Registry({}), TAGGED)


def test_without_the_sdk_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sagemaker.core.image_uris", None)
    with pytest.raises(ImageError, match=r"the SageMaker SDK is not installed.*make setup"):
        reference("vllm", "us-east-1")


def test_the_sdk_is_kept_out_of_what_pulumi_imports() -> None:
    script = "import sys, stacks.sagemaker; sys.exit('sagemaker.core' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0
