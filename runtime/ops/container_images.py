"""AWS' images for containers of SageMaker models: `python -m runtime.ops container-images --region REGION`.

Which account, repository and tag they have in a region is told by the list in the SageMaker SDK
(`sagemaker-core`, extra `sagemaker-sdk`), without network. The digest, by which a stack file names an image,
is told by ECR.
"""

import argparse
import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]

from runtime.ops.command import Command

# `container` of a stack file's model to the SDK's name.
FRAMEWORKS: Final[Mapping[str, str]] = {
    "vllm": "vllm",
    "lmi": "djl-lmi",
    "neuron": "huggingface-vllm-neuronx",
}
# The list asks for a type only to tell GPUs from other devices. For Neuron devices it has one image, and
# takes every type for one of another kind.
_ANY_OF: Final[Mapping[str, str | None]] = {"vllm": "ml.g6e.2xlarge", "lmi": "ml.g6e.2xlarge", "neuron": None}


class ImageError(Exception):
    """An image is not known; the text is the whole message."""


class EcrApi(Protocol):
    """The call of boto3's ECR client that is used."""

    def batch_get_image(self, **request: Any) -> dict[str, Any]:
        """Manifests and digests of images, of whoever lets us pull."""
        ...


def reference(container: str, region: str, version: str | None = None) -> str:
    """The image of a container in a region, by its tag.

    Args:
        container: `vllm`, `lmi` or `neuron`.
        region: AWS region.
        version: Of the image; the SDK's newest without it.

    Raises:
        ImageError: The SDK is not installed, or knows no such image.
    """
    try:
        image_uris: Any = importlib.import_module("sagemaker.core.image_uris")
    except ModuleNotFoundError:
        raise ImageError(
            "the SageMaker SDK is not installed, which has the list of images; `make setup` does it, or: "
            "pip install 'spillway[sagemaker-sdk]'"
        ) from None
    try:
        return str(
            image_uris.retrieve(
                framework=FRAMEWORKS[container],
                region=region,
                version=version,
                instance_type=_ANY_OF[container],
                image_scope="inference",
            )
        )
    except ValueError as error:
        raise ImageError(f"{container} in {region}: {' '.join(str(error).split())}") from None


def digest(ecr: EcrApi, image: str) -> str:
    """Digest of an image in a private registry of ECR, `sha256:…`.

    Args:
        ecr: boto3's client, in the registry's region.
        image: Reference with a tag.

    Raises:
        ImageError: The registry does not tell it.
    """
    registry, _, name = image.partition("/")
    repository, _, tag = name.rpartition(":")
    try:
        found = ecr.batch_get_image(
            registryId=registry.partition(".")[0], repositoryName=repository, imageIds=[{"imageTag": tag}]
        )
    except (BotoCoreError, ClientError) as error:
        raise ImageError(f"{image}: ECR does not tell its digest: {error}") from None
    if not found["images"]:
        raise ImageError(f"{image}: ECR does not have it: {found.get('failures')}")
    return str(found["images"][0]["imageId"]["imageDigest"])


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--region", required=True, help="AWS region of the stack")
    parser.add_argument("--container", choices=FRAMEWORKS, help="one of them; all without it")
    parser.add_argument("--version", help="version of the image, with --container; else the newest")
    parser.add_argument("--digest", action="store_true", help="ask ECR for the digest; needs credentials")


def _client(region: str) -> EcrApi:
    boto3: Any = importlib.import_module("boto3")
    return boto3.client("ecr", region_name=region)


def _all_of(region: str) -> dict[str, str]:
    """Those that the region has; a region of which the list knows nothing has none."""
    images: dict[str, str] = {}
    missing: list[ImageError] = []
    for container in FRAMEWORKS:
        try:
            images[container] = reference(container, region)
        except ImageError as error:
            missing.append(error)
    if not images:
        raise missing[0]
    return images


def _run(given: argparse.Namespace, client: Callable[[str], EcrApi] = _client) -> int:
    if given.version and not given.container:
        print("--version: each container has versions of its own; name one by --container", file=sys.stderr)
        return 1
    try:
        if given.container:
            images = {given.container: reference(given.container, given.region, given.version)}
        else:
            images = _all_of(given.region)
        for container, image in images.items():
            pinned = f"{image}@{digest(client(given.region), image)}" if given.digest else image
            print(f"# container: {container}\nimage: {pinned}")
    except ImageError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


main: Final = Command(
    name="container-images",
    summary="Images of AWS for containers of SageMaker models, as a stack file names them.",
    arguments=_arguments,
    run=_run,
).main
