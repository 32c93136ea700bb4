"""The staging plan of a hybrid stack: what has to be in S3 and ECR, for `make stage`."""

from collections.abc import Sequence

from runtime.model import ModelSpec
from runtime.staging import StagedImages, is_staged, staged_version, weights_prefix
from stacks.cloud_settings import CloudSettings
from stacks.eks_side import images_of
from stacks.settings import PlatformSettings

Plan = dict[str, object]


def staging_plan(
    settings: PlatformSettings,
    cloud: CloudSettings,
    images: StagedImages,
    models: Sequence[ModelSpec],
    state: str,
) -> Plan:
    """What `runtime.ops.stage.StagingPlan.read` reads, without the bucket.

    Args:
        settings: The stack's settings.
        cloud: Their AWS side.
        images: Where its nodes pull images from.
        models: The models that may spill, as the EKS side serves them.
        state: NAMESPACE/NAME of the burst controller's ConfigMap.
    """
    serving = {model.name: model.image or settings.ray.image for model in models}
    every = {images.of(image): image for image in images_of(settings, cloud)}
    return {
        "models": [_model(settings, there, every) for there in models],
        "images": [
            {"source": source, "target": target}
            for target, source in every.items()
            if target not in serving.values() and source != target
        ],
        "state": state,
    }


def _model(settings: PlatformSettings, there: ModelSpec, every: dict[str, str]) -> Plan:
    original = next(model for model in settings.models if model.name == there.name)
    source = original.in_cloud or original
    target = there.image or settings.ray.image
    return {
        "name": there.name,
        "token": staged_version(source, target),
        "prefix": weights_prefix(source) if is_staged(source) else None,
        "huggingFace": source.source.hugging_face,
        "revision": source.source.revision,
        "folder": source.source.host_folder,
        "image": {"source": every.get(target, target), "target": target},
    }
