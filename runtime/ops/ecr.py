"""Images in ECR: copied by skopeo with their digests unchanged, and asked for by the ECR API."""

import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from runtime.ops.staged_weights import StagingError

_NOT_THERE = ("ImageNotFoundException", "RepositoryNotFoundException")


class EcrApi(Protocol):
    """The calls of boto3's ECR client that are used."""

    def describe_images(self, **request: Any) -> dict[str, Any]:
        """What is in a repository."""
        ...

    def get_authorization_token(self, **request: Any) -> dict[str, Any]:
        """A password for twelve hours."""
        ...


class Ecr:
    """The repositories of one account and region.

    Args:
        client: boto3's ECR client.
    """

    def __init__(self, client: EcrApi) -> None:
        self._client = client

    def digest(self, reference: str) -> str | None:
        """Digest of an image that is there; None where there is none."""
        repository, identity = _parts(reference)
        try:
            found = self._client.describe_images(repositoryName=repository, imageIds=[identity])
        except Exception as error:
            if _code(error) in _NOT_THERE:
                return None
            raise
        return str(found["imageDetails"][0]["imageDigest"])

    def copy(self, source: str, target: str, told: Callable[[str], None]) -> None:
        """Copies an image for all its platforms.

        Raises:
            StagingError: skopeo is missing or failed; the message has its own words.
        """
        told("skopeo copies it")
        token = self._client.get_authorization_token()["authorizationData"][0]["authorizationToken"]
        registry = target.partition("/")[0]
        with tempfile.TemporaryDirectory() as folder:
            # A file that only we can read: arguments are seen by everybody on the machine.
            authority = Path(folder) / "auth.json"
            authority.touch(mode=0o600)
            authority.write_text(json.dumps({"auths": {registry: {"auth": token}}}))
            command = [
                *("skopeo", "copy", "--all", "--preserve-digests", f"--dest-authfile={authority}"),
                f"docker://{source}",
                # A digest is no name to push to.
                f"docker://{target.partition('@')[0]}",
            ]
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
            except FileNotFoundError:
                raise StagingError(
                    "skopeo is not installed, which copies images between registries; on Debian: apt-get "
                    "install skopeo"
                ) from None
        if done.returncode:
            raise StagingError(f"{source} could not be copied to {target}: {done.stderr.strip()[-500:]}")


def _parts(reference: str) -> tuple[str, dict[str, str]]:
    """Repository without its registry, and what an image in it is called by."""
    name, _, digest = reference.partition("/")[2].partition("@")
    repository, _, tag = name.partition(":")
    return repository, ({"imageDigest": digest} if digest else {"imageTag": tag})


def _code(error: Exception) -> str:
    # botocore's ClientError; its package is not needed to read it.
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
