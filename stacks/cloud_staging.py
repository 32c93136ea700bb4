"""What has to be in S3 and ECR before the EKS side can serve: `python -m stacks.cloud_staging FILE` as JSON.

The plan follows from the settings alone, so that staging needs no stack that is up: bucket and repositories
have to be there, and nothing else.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from components.aws.account import CloudAccount
from components.aws.model_storage import bucket_name
from components.kubernetes.burst_controller import state_name
from runtime.model import ModelSpec
from runtime.stack_file import StackFileError, list_mistakes, read_stack_file
from runtime.staging import StagedImages, is_staged, staged_version, weights_prefix
from stacks.cloud_settings import CloudSettings
from stacks.eks_side import cloud_models, images_of
from stacks.endpoint_staging import endpoint_staging
from stacks.sagemaker_settings import SageMakerSettings
from stacks.settings import PlatformSettings, Settings, read

Plan = dict[str, object]


def staging_plan(settings: PlatformSettings, cloud: CloudSettings) -> Plan:
    """What `runtime.ops.stage.StagingPlan.read` reads.

    Args:
        settings: The stack's settings.
        cloud: Their AWS side.
    """
    account = cloud_account(settings, cloud)
    images = staged_images(cloud, account)
    models = cloud_models(settings, cloud, images)
    serving = {model.name: model.image or settings.ray.image for model in models}
    every = {images.of(image): image for image in images_of(settings, cloud)}
    role = cloud.assume_role
    return {
        "account": cloud.account_id,
        "region": cloud.region,
        "roleArn": role and role.role_arn,
        "externalId": role and role.external_id,
        "bucket": bucket_name(account),
        "models": [_model(settings, there, every) for there in models],
        "images": [
            {"source": source, "target": target}
            for target, source in every.items()
            if target not in serving.values() and source != target
        ],
        # Without the cluster there is no controller, and so nothing to arm.
        "state": f"{settings.namespace}/{state_name(controller_name(settings))}"
        if cloud.declare == "all"
        else None,
    }


def cloud_account(settings: PlatformSettings, cloud: CloudSettings) -> CloudAccount:
    """Account, region, and what the AWS side is called: cluster, roles, bucket, load balancer."""
    return CloudAccount(account=cloud.account_id, region=cloud.region, name=f"{settings.name}-burst")


def staged_images(cloud: CloudSettings, account: CloudAccount) -> StagedImages:
    """Where the EKS side's images are."""
    return StagedImages(registry=f"{account.registry}/{account.name}" if cloud.images == "ecr" else None)


def controller_name(settings: PlatformSettings) -> str:
    """What the burst controller is called."""
    return f"{settings.name}-burst-controller"


def main(arguments: Sequence[str]) -> int:
    """Prints the plan of one stack file as JSON, `null` where it has no AWS side; returns 1 on mistakes."""
    path = Path(arguments[0])
    try:
        document = cast("Mapping[str, Mapping[str, object]]", read_stack_file(path)[0])
        settings, mistakes = read(document["config"])
    except StackFileError as error:
        settings, mistakes = None, [str(error)]
    if settings is None:
        print(list_mistakes(path, mistakes), file=sys.stderr)
        return 1
    print(json.dumps(_plan(settings)))
    return 0


def _plan(settings: Settings) -> Plan | None:
    if isinstance(settings, SageMakerSettings):
        return endpoint_staging(settings)
    return settings.cloud and staging_plan(settings, settings.cloud)


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


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m stacks.cloud_staging FILE")
    sys.exit(main(sys.argv[1:]))
