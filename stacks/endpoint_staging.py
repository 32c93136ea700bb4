"""What has to be in S3 and ECR before endpoints can start: the plan that `make stage` follows."""

from components.aws.account import CloudAccount
from components.aws.model_storage import bucket_name
from runtime.sagemaker.models import EndpointModel, compiled_for
from runtime.staging import StagedImages, is_staged, staged_version, weights_prefix
from stacks.sagemaker_settings import SageMakerSettings

Plan = dict[str, object]


def endpoint_account(settings: SageMakerSettings) -> CloudAccount:
    """Account, region, and what everything in AWS is called."""
    return CloudAccount(account=settings.account_id, region=settings.region, name=settings.name)


def endpoint_images(settings: SageMakerSettings) -> StagedImages:
    """Where endpoints pull images from."""
    account = endpoint_account(settings)
    return StagedImages(registry=f"{account.registry}/{account.name}" if settings.images == "ecr" else None)


def endpoint_staging(settings: SageMakerSettings) -> Plan:
    """What `runtime.ops.stage.StagingPlan.read` reads.

    Args:
        settings: The stack's settings.
    """
    images = endpoint_images(settings)
    role = settings.assume_role
    own = {model.image for model in settings.models}
    every = dict.fromkeys(image for model in settings.models for image in model.images.values())
    every |= dict.fromkeys(settings.gateway.images.values() if settings.gateway else ())
    return {
        "account": settings.account_id,
        "region": settings.region,
        "roleArn": role and role.role_arn,
        "externalId": role and role.external_id,
        "bucket": bucket_name(endpoint_account(settings)),
        "models": [_model(model, images) for model in settings.models],
        "images": [
            {"source": image, "target": images.of(image)}
            for image in every
            if image not in own and images.of(image) != image
        ],
        # No controller waits for it: endpoints are declared when it is there.
        "state": None,
    }


def _model(model: EndpointModel, images: StagedImages) -> Plan:
    image = model.image or ""
    return {
        "name": model.name,
        "token": staged_version(model, images.of(image)),
        "prefix": weights_prefix(model) if is_staged(model) else None,
        "huggingFace": model.source.hugging_face,
        "revision": model.source.revision,
        "folder": model.source.host_folder,
        "image": {"source": image, "target": images.of(image)},
        "compiled": compiled_for(model),
    }
