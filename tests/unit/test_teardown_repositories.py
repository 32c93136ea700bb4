"""The stack's own image repositories in a teardown, over the double: all images go, indexes first."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rehearsal.aws.clients import client
from runtime.ops.teardown import repositories, sweep
from runtime.ops.teardown.certificate import Certificate
from tests.support.aws import RunningDouble
from tests.support.torn_down import STACK, TornDown, aws_resource, hosted_state_of

OURS, THEIRS = "llm/envoyproxy/envoy", "llm/theirs"
REPOSITORY = "aws:ecr/repository:Repository"
TAGS = [{"Key": "spillway:stack", "Value": STACK}, {"Key": "spillway:platform", "Value": "llm"}]
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture(autouse=True)
def few_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "QUESTIONS", [one for one in sweep.QUESTIONS if one[1] == "roles"])


class WithRepository(TornDown):
    """A stack with one repository, and beside it one of somebody else's."""

    def __init__(self, folder: Path, double: RunningDouble, tags: Any = TAGS, **repository: Any) -> None:
        super().__init__(folder, hosted_state_of(aws_resource(REPOSITORY, OURS, **repository)), double)
        # The very client that the teardown asks.
        self.ecr = client("ecr", double.endpoint, "us-east-1", None, 1)
        self.ecr.create_repository(repositoryName=OURS, tags=tags)
        self.ecr.create_repository(repositoryName=THEIRS)
        self.put("theirs", repository=THEIRS)
        self.deletes_in_aws = lambda: self.ecr.delete_repository(repositoryName=OURS)

    def put(self, name: str, repository: str = OURS, **more: Any) -> str:
        """An image, as its digest."""
        layer = {"digest": f"sha256:{hashlib.sha256(name.encode()).hexdigest()}", "size": 1}
        content = {"schemaVersion": 2, "mediaType": MANIFEST, "config": layer, "layers": [layer]}
        return self._put(repository, MANIFEST, content, **more)

    def put_index(self, tag: str, *platforms: str) -> list[str]:
        """An image for several platforms as skopeo pushes it: they without tags, then their index."""
        images = [self.put(f"{tag} {one}") for one in platforms]
        content = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [{"digest": one} for one in images]}
        return [*images, self._put(OURS, INDEX, content, imageTag=tag)]

    def _put(self, repository: str, kind: str, content: Any, **more: Any) -> str:
        made = self.ecr.put_image(
            repositoryName=repository,
            imageManifest=json.dumps(content),
            imageManifestMediaType=kind,
            **more,
        )
        return made["image"]["imageId"]["imageDigest"]

    def run(self) -> Certificate:
        certificate = self.teardown().run()
        assert certificate is not None
        return certificate

    def images(self, repository: str = OURS) -> list[str]:
        return [one["imageDigest"] for one in self.ecr.list_images(repositoryName=repository)["imageIds"]]

    @property
    def repositories(self) -> list[str]:
        return [one["repositoryName"] for one in self.ecr.describe_repositories()["repositories"]]


@pytest.fixture(name="stack")
def fixture_stack(tmp_path: Path, double: RunningDouble, monkeypatch: pytest.MonkeyPatch) -> WithRepository:
    """Whose ECR keeps what an index names while the index is there, as AWS' does and moto's does not."""
    stack = WithRepository(tmp_path / "certificates", double)
    delete = stack.ecr.batch_delete_image

    def as_ecr_does(**request: Any) -> Any:
        name, asked = request["repositoryName"], [one["imageDigest"] for one in request["imageIds"]]
        assert len(asked) <= 100
        here = [{"imageDigest": one} for one in stack.images(name)]
        found: list[Any] = (
            stack.ecr.batch_get_image(repositoryName=name, imageIds=here)["images"] if here else []
        )
        named = [
            part["digest"] for one in found for part in json.loads(one["imageManifest"]).get("manifests", ())
        ]
        goes = [{"imageDigest": one} for one in asked if one not in named]
        answer: dict[str, Any] = (
            delete(repositoryName=name, imageIds=goes) if goes else {"imageIds": [], "failures": []}
        )
        answer["failures"] += [
            {"imageId": {"imageDigest": one}, "failureCode": "ImageReferencedByManifestList"}
            for one in asked
            if one in named
        ]
        return answer

    monkeypatch.setattr(stack.ecr, "batch_delete_image", as_ecr_does)
    return stack


def test_an_index_its_platforms_and_images_of_earlier_versions_go_and_the_repository_after_them(
    stack: WithRepository,
) -> None:
    stack.put("earlier", imageTag="v0")
    assert len({*stack.put_index("v1", "amd64", "arm64"), *stack.images()}) == 4
    certificate = stack.run()
    assert certificate.clean, certificate.text()
    assert stack.repositories == [THEIRS]
    assert len(stack.images(THEIRS)) == 1


def test_more_images_than_one_call_takes_go_too(
    stack: WithRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repositories, "_AT_ONCE", 2)
    for number in range(5):
        stack.put(str(number), imageTag=f"v{number}")
    assert stack.run().clean


def answering(failure: dict[str, Any]) -> Callable[..., Any]:
    def batch_delete_image(**_: Any) -> Any:
        return {"failures": [failure]}

    return batch_delete_image


def test_what_ecr_keeps_is_named_although_its_answer_is_200_and_the_destroy_is_not_run(
    stack: WithRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = stack.put("one", imageTag="v1")
    kept = {"imageId": {"imageDigest": digest}, "failureCode": "KmsError", "failureReason": "no such key"}
    monkeypatch.setattr(stack.ecr, "batch_delete_image", answering(kept))
    assert stack.run().sweeps[-1].problems[0] == (
        f"staged copies: repository {OURS}: ECR keeps {digest}: KmsError, no such key; take that away, and "
        "run the same command again"
    )
    assert stack.destroys == 0


def test_an_image_that_never_goes_is_waited_for_and_named(
    stack: WithRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = stack.put("one", imageTag="v1")
    kept = {"imageId": {"imageDigest": digest}, "failureCode": "ImageReferencedByManifestList"}
    monkeypatch.setattr(stack.ecr, "batch_delete_image", answering(kept))
    assert f"repository {OURS}: {digest} does not go" in stack.run().sweeps[-1].problems[0]
    assert stack.destroys == 0


def test_a_repository_without_the_stacks_tags_is_not_emptied_and_named(
    tmp_path: Path, double: RunningDouble
) -> None:
    stack = WithRepository(tmp_path, double, [])
    stack.put("one")
    assert stack.run().sweeps[-1].problems[0] == (
        f"staged copies: repository {OURS} is in the state, and does not bear the tag spillway:stack="
        f"{STACK}; it is not emptied. Look whose it is, and empty it yourself"
    )
    assert (len(stack.images()), stack.destroys) == (1, 0)


def test_a_repository_that_a_destroy_leaves_or_that_is_gone_is_no_trouble(
    tmp_path: Path, double: RunningDouble
) -> None:
    stack = WithRepository(tmp_path, double, retainOnDelete=True)
    stack.put("one")
    stack.deletes_in_aws = lambda: None
    assert stack.run().clean
    assert len(stack.images()) == 1
    stack.exported = hosted_state_of(aws_resource(REPOSITORY, "llm/gone"))
    assert stack.run().clean
