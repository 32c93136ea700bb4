"""What is staged for the EKS side, and under which names: folders of weights, and images in ECR."""

from collections.abc import Iterable
from dataclasses import dataclass

from runtime.digest import short_digest
from runtime.images import mirrored
from runtime.model import ModelSource, ModelSpec

WEIGHTS_ROOT = "models"


def is_staged(model: ModelSpec) -> bool:
    """Whether the weights go to S3; those in the serving image go with the image."""
    source = model.source
    return source.mounts_volume or source.hugging_face is not None


def weights_prefix(model: ModelSpec) -> str:
    """Folder of a model's weights in the bucket, with a slash at the end.

    Another revision is another folder, so that what runs never changes under it. Weights without a revision
    share one, in which staging replaces those of before.
    """
    revision = model.source.revision or model.revision or "current"
    return f"{WEIGHTS_ROOT}/{model.name}/{revision}/"


def staged_version(there: ModelSpec, image: str) -> str:
    """What must be verified in the cloud before a model gets a replica there: its weights and its image.

    Whoever stages writes it into the burst controller's ConfigMap (`runtime.burst.store`), which compares.

    Args:
        there: `ModelSpec.in_cloud` of the model, with the source that it has on-prem.
        image: The image that the EKS side pulls.
    """
    weights = weights_prefix(there) if is_staged(there) else "in the image"
    return short_digest([weights, image])


def weights_claim(model: ModelSpec) -> str:
    """Name of the claim by which pods of the EKS side mount the folder."""
    return f"{model.name}-weights"


def staged(model: ModelSpec) -> ModelSpec:
    """The model with the staged weights as its source, where they are staged; it needs no token for them."""
    if not is_staged(model):
        return model
    source = ModelSource(volume_claim=weights_claim(model))
    return model.model_copy(update={"source": source, "hugging_face_token_secret": None})


@dataclass(frozen=True, kw_only=True)
class StagedImages:
    """Where the nodes of the EKS side pull images from.

    Attributes:
        registry: REGISTRY/PATH of the repositories; None takes every image from where it is.
    """

    registry: str | None

    def of(self, image: str) -> str:
        """The reference of an image there; tag and digest stay."""
        return mirrored(image, self.registry)

    def repositories(self, images: Iterable[str]) -> tuple[str, ...]:
        """Paths below `registry` that images need, each once and in order; none without a registry."""
        if self.registry is None:
            return ()
        paths = (self.of(image).removeprefix(f"{self.registry}/") for image in images)
        return tuple(sorted({path.partition("@")[0].partition(":")[0] for path in paths}))
