"""Stages a stack's weights and images: with AWS' own services, or in rehearsal with what stands for them."""

import hashlib
import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rehearsal.site.tiny_model import model_files
from rehearsal.site.tiny_weights import tiny_weights
from runtime.burst.store import Store
from runtime.cluster import ClusterApi
from runtime.ops.ecr import Ecr
from runtime.ops.progress import Progress
from runtime.ops.stage import NEURON_CONFIG, ModelPlan, Registry, Staged, StagingPlan, stage
from runtime.ops.staged_weights import StagedWeights, StagingError

WORSE_REVISION = "bad0" * 10
"""The revision of a rehearsal's canary that a gate should take back."""
BETTER_REVISION = "600d" * 10
"""The one after it, which answers as the model that serves."""

# The longest that AWS allows one role to take on another for; a longer staging goes on when it is run again.
_SESSION_S = 3600


class RehearsedRegistry:
    """moto's ECR: it keeps what is said of an image, and no layer of one.

    Args:
        client: boto3's ECR client of the AWS double.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._ecr = Ecr(client)

    def digest(self, reference: str) -> str | None:
        """Digest of an image that is there; None where there is none.

        Of one that is named with its digest that is the one that its source is named with.
        """
        if "@" not in reference:
            return self._ecr.digest(reference)
        repository, tag = _tagged(reference)
        found = self._client.batch_get_image(repositoryName=repository, imageIds=[{"imageTag": tag}])[
            "images"
        ]
        manifests = [json.loads(one["imageManifest"]) for one in found]
        return next((one["config"]["digest"].partition("@")[2] for one in manifests), None)

    def copy(self, source: str, target: str, told: Callable[[str], None]) -> None:
        """Writes a manifest that names the source, in place of the image.

        moto makes an image's digest of those of its layers, so the source's name is one.
        """
        told("only its manifest: a rehearsal's registry keeps no layers")
        repository, tag = _tagged(target)
        layer = {
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "size": 0,
            "digest": f"sha256:{hashlib.sha256(source.encode()).hexdigest()}",
        }
        manifest: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 0, "digest": source},
            "layers": [layer],
        }
        self._client.put_image(repositoryName=repository, imageManifest=json.dumps(manifest), imageTag=tag)


def _tagged(reference: str) -> tuple[str, str]:
    """Repository and tag; in moto an image that is named by its digest alone has one too."""
    repository, _, tag = reference.partition("@")[0].partition("/")[2].partition(":")
    return repository, tag or "latest"


def clients(plan: StagingPlan, environment: Mapping[str, str] | None) -> tuple[Any, Any]:
    """S3 and ECR of the plan's account, in its role, or of the AWS double.

    Args:
        plan: Which account, region and role.
        environment: What sends a program to the double; None for AWS.

    Raises:
        StagingError: There are no credentials of the account, or it cannot be asked.
    """
    if environment is None:
        from runtime.ops.aws_account import AccountUnreachableError, Boto3Account  # only a cloud has its SDK

        account = Boto3Account(plan.region, plan.role_arn, plan.external_id, session_s=_SESSION_S)
        try:
            caller = account.caller_account()
        except AccountUnreachableError as error:
            raise StagingError(f"AWS cannot be asked: {error}") from None
        if caller != plan.account:
            raise StagingError(
                f"the credentials are of account {caller}, and cloud.accountId is {plan.account}; use those "
                f"of {plan.account}, or name a role of it in cloud.assumeRole"
            )
        return account.session.client("s3"), account.session.client("ecr")
    from rehearsal.aws.clients import client  # the double's own, which reads nothing of the user's

    endpoint = environment["AWS_ENDPOINT_URL"]
    return client("s3", endpoint, plan.region), client("ecr", endpoint, plan.region)


def folder_of(given: Path | None, rehearsed: Path | None) -> Callable[[ModelPlan], Path]:
    """Where a model's weights are on this machine.

    Args:
        given: What the user named.
        rehearsed: State home of a rehearsal, in which a tiny model stands for any weights; None in earnest.
    """

    def found(model: ModelPlan) -> Path:
        if rehearsed is not None:
            folder = rehearsed_weights(rehearsed, model.name, model.revision)
            if model.compiled is not None:  # the tiny model is not; the CPU needs it not to be
                (folder / NEURON_CONFIG).write_text(json.dumps(dict(model.compiled)))
            return folder
        if given is not None:
            return given / model.name if (given / model.name).is_dir() else given
        if model.folder is not None and Path(model.folder).is_dir():
            return Path(model.folder)
        if model.hugging_face is not None:
            return _downloaded(model)
        raise StagingError(
            f"model {model.name}: its weights are on a volume of the cluster; name a folder with them: "
            "make stage FROM=FOLDER"
        )

    return found


def rehearsed_weights(home: Path, model: str, revision: str | None = None) -> Path:
    """A folder with the tiny model's files, which in a rehearsal stand for those of any model.

    Args:
        home: State home.
        model: Name of the model.
        revision: Its revision; `WORSE_REVISION` answers otherwise than every other one.
    """
    folder = home / "staging" / f"{model}-{revision}"
    folder.mkdir(parents=True, exist_ok=True)
    weights = tiny_weights(seed=int(revision == WORSE_REVISION))
    for name, data in {**model_files(), "model.safetensors": weights}.items():
        (folder / name).write_bytes(data)
    return folder


def _downloaded(model: ModelPlan) -> Path:
    try:
        hub: Any = importlib.import_module("huggingface_hub")
    except ModuleNotFoundError:
        raise StagingError(
            f"model {model.name}: huggingface_hub is not installed, which downloads {model.hugging_face}; "
            "install it into .venv, or download the model and name its folder: make stage FROM=FOLDER"
        ) from None
    return Path(hub.snapshot_download(model.hugging_face, revision=model.revision))


def run(
    plan: StagingPlan,
    s3: Any,
    registry: Registry,
    folders: Callable[[ModelPlan], Path],
    cluster: Callable[[], ClusterApi],
    progress: Progress,
) -> Staged:
    """Stages everything, then tells the burst controller what was verified, where there is one.

    Raises:
        StagingError: Something could not be brought over or verified.
        StoreError: The controller's ConfigMap could not be written.
    """
    try:
        done = stage(plan, lambda prefix: StagedWeights(s3, plan.bucket, prefix), registry, folders, progress)
    except Exception as error:
        if isinstance(error, StagingError) or not hasattr(error, "response"):
            raise
        # botocore's ClientError: a session that ended, a bucket that is not there, a right that is missing.
        raise StagingError(
            f"AWS refused: {error}; mend that and run it again, it goes on from here"
        ) from error
    if plan.state is None:
        return Staged({}, (*done.lines, "nothing is armed: no burst controller is declared"))
    namespace, _, name = plan.state.partition("/")
    with progress.step("the burst is armed") as step:
        Store(cluster(), namespace, name).arm(done.armed)
        step.update(", ".join(sorted(done.armed)))
    return done
