"""What of a model goes to the cloud, and under which names it is staged there."""

from typing import Any

import pytest

from runtime.model import ModelSpec
from runtime.staging import StagedImages, is_staged, staged, weights_prefix
from stacks.settings import parse
from tests.support.stack_files import platform_object

DIGEST = "sha256:" + "0" * 64
# What `in_cloud` may differ in from the model: its size, its hardware, and what is bound to the site.
OWN = {"spill", "replicas", "accelerator", "worker", "node_selector", "tolerations"}


def model(**changes: Any) -> ModelSpec:
    platform = platform_object("hybrid")
    platform["models"][0] |= changes
    (only,) = parse(platform).models
    return only


def cloud(**changes: Any) -> ModelSpec:
    there = model(**changes).in_cloud
    assert there is not None
    return there


def test_a_model_in_the_cloud_is_the_same_but_for_its_hardware_and_its_copies() -> None:
    here, there = model(), cloud()
    changed = {name for name in ModelSpec.model_fields if getattr(here, name) != getattr(there, name)}
    assert changed <= OWN
    assert (there.replicas.min, there.replicas.max) == (0, 4)
    assert there.accelerator == "nvidia-l40s"
    assert there.queue_limit == here.queue_limit


def test_the_same_image_serves_on_both_sides_unless_another_is_named() -> None:
    image = f"registry.example.com/ray@{DIGEST}"
    assert cloud(image=image).image == image
    other = f"registry.example.com/other@{DIGEST}"
    spill = {**platform_object("hybrid")["models"][0]["spill"], "image": other}
    assert cloud(image=image, spill=spill).image == other


def test_labels_and_taints_of_the_site_stay_there() -> None:
    there = cloud(nodeSelector={"rack": "7"}, tolerations=[{"key": "dedicated"}])
    assert there.node_selector == {}
    assert there.tolerations == ()


def test_a_model_without_spill_is_not_in_the_cloud() -> None:
    assert model().model_copy(update={"spill": None}).in_cloud is None


def test_every_revision_of_the_weights_is_staged_in_a_folder_of_its_own() -> None:
    pinned = {"huggingFace": "Qwen/Qwen3-8B", "revision": "abc"}
    assert weights_prefix(model()) == "models/qwen3-8b/current/"
    assert weights_prefix(model(source=pinned)) == "models/qwen3-8b/abc/"
    assert weights_prefix(model(revision="2")) == "models/qwen3-8b/2/"


@pytest.mark.parametrize(
    ("source", "staged_there"),
    [
        ({"huggingFace": "Qwen/Qwen3-8B"}, True),
        ({"volumeClaim": "models", "path": "/qwen3"}, True),
        ({"hostFolder": "/data/qwen3"}, True),
        ({"path": "/models/qwen3"}, False),
    ],
)
def test_weights_are_staged_unless_the_image_holds_them(source: dict[str, str], staged_there: bool) -> None:
    there = cloud(source=source)
    assert is_staged(there) is staged_there
    claim = staged(there).source.volume_claim
    assert claim == ("qwen3-8b-weights" if staged_there else None)


def test_the_hubs_token_stays_on_prem() -> None:
    there = staged(cloud(huggingFaceTokenSecret="hub"))
    assert there.hugging_face_token_secret is None


def test_images_are_in_the_accounts_registry_by_the_same_tag_and_digest() -> None:
    images = StagedImages(registry="1.dkr.ecr.us-east-1.amazonaws.com/llm-burst")
    assert images.of(f"quay.io/kuberay/operator:v1@{DIGEST}") == (
        f"1.dkr.ecr.us-east-1.amazonaws.com/llm-burst/kuberay/operator:v1@{DIGEST}"
    )
    assert images.repositories(["quay.io/kuberay/operator:v1", "redis:8", f"redis@{DIGEST}"]) == (
        "kuberay/operator",
        "library/redis",
    )


def test_without_a_registry_images_stay_where_they_are() -> None:
    images = StagedImages(registry=None)
    assert images.of("redis:8") == "redis:8"
    assert images.repositories(["redis:8"]) == ()
