"""Stages what the EKS side of a stack serves, weights in S3 and images in ECR, verifies it, arms the burst.

The stack file says what has to be there (`StagingPlan`). Nothing may spill before this has found all of
it. Run again it sends only what is missing, so it may be stopped at any time.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from runtime.ops.progress import Progress
from runtime.ops.staged_weights import StagedWeights, StagingError

# What optimum-neuron writes beside a compiled model, and its server compares with what it is told.
NEURON_CONFIG = "neuron_config.json"


class Registry(Protocol):
    """Where images are copied to."""

    def digest(self, reference: str) -> str | None:
        """Digest of an image that is there; None where there is none."""
        ...

    def copy(self, source: str, target: str, told: Callable[[str], None]) -> None:
        """Copies an image with its digest unchanged."""
        ...


@dataclass(frozen=True)
class ImagePlan:
    """An image and where the EKS side pulls it from."""

    source: str
    target: str


@dataclass(frozen=True)
class ModelPlan:
    """What one model needs over there.

    Attributes:
        name: The model.
        token: Stands for exactly these weights and this image; the controller waits for it.
        prefix: Folder of the weights in the bucket; None where they are in the image.
        hugging_face: Repository of the weights, if they come from there.
        revision: Its commit.
        folder: Folder with the weights on a node, if the stack file names one.
        image: The serving image.
        compiled: What the weights must have been compiled for, as keys of `neuron_config.json`; None for
            weights that are not.
    """

    name: str
    token: str
    prefix: str | None
    hugging_face: str | None
    revision: str | None
    folder: str | None
    image: ImagePlan
    compiled: Mapping[str, int] | None = None

    def check(self, folder: Path) -> None:
        """Refuses weights that the container would refuse after half an hour of starting.

        Args:
            folder: The folder with the weights.

        Raises:
            StagingError: They are not compiled for what the stack file says.
        """
        if self.compiled is None:
            return
        file = folder / NEURON_CONFIG
        fix = "compile the model with `optimum-cli export neuron` and name its folder: make stage FROM=FOLDER"
        try:
            found: Any = json.loads(file.read_text())
        except FileNotFoundError:
            raise StagingError(
                f"model {self.name}: {folder} has no {NEURON_CONFIG}, so it is not compiled for Neuron "
                f"devices, and a container without network finds no compiled one; {fix}"
            ) from None
        except ValueError:
            raise StagingError(f"model {self.name}: {file} is not JSON; {fix}") from None
        there = cast("dict[str, object]", found) if isinstance(found, dict) else {}
        wrong = [
            f"{key} {there.get(key)!r}, and the stack file's is {value!r}"
            for key, value in self.compiled.items()
            if there.get(key) != value
        ]
        if wrong:
            raise StagingError(
                f"model {self.name}: {file} says {'; '.join(wrong)}. Change the stack file, or {fix}"
            )


@dataclass(frozen=True)
class StagingPlan:
    """Everything that has to be staged for a stack.

    Attributes:
        account: The account, 12 digits.
        region: Its region.
        role_arn: The role to take on there; None for the caller's own credentials.
        external_id: What the role's trust policy asks for.
        bucket: The bucket for weights.
        models: The models that may spill.
        images: Images beside those of the models: operator, gateway, node autoscaler.
        state: NAMESPACE/NAME of the burst controller's ConfigMap; None where there is none to arm.
    """

    account: str
    region: str
    role_arn: str | None
    external_id: str | None
    bucket: str
    models: tuple[ModelPlan, ...]
    images: tuple[ImagePlan, ...]
    state: str | None

    @staticmethod
    def read(output: Mapping[str, Any]) -> "StagingPlan":
        """Reads what `stacks.cloud_staging` writes, also into the stack output `cloudStaging`."""

        def image(one: Mapping[str, Any]) -> ImagePlan:
            return ImagePlan(str(one["source"]), str(one["target"]))

        models = tuple(
            ModelPlan(
                name=str(model["name"]),
                token=str(model["token"]),
                prefix=model.get("prefix"),
                hugging_face=model.get("huggingFace"),
                revision=model.get("revision"),
                folder=model.get("folder"),
                image=image(model["image"]),
                compiled=model.get("compiled"),
            )
            for model in output["models"]
        )
        others = tuple(image(one) for one in output["images"])
        return StagingPlan(
            account=str(output["account"]),
            region=str(output["region"]),
            role_arn=output.get("roleArn"),
            external_id=output.get("externalId"),
            bucket=str(output["bucket"]),
            models=models,
            images=others,
            state=output.get("state"),
        )


@dataclass(frozen=True)
class Staged:
    """What is there after a staging.

    Attributes:
        armed: Model to the token of what was verified for it.
        lines: What was found, a line each.
    """

    armed: Mapping[str, tuple[str, ...]]
    lines: tuple[str, ...]


def stage(
    plan: StagingPlan,
    weights: Callable[[str], StagedWeights],
    registry: Registry,
    folder_of: Callable[[ModelPlan], Path],
    progress: Progress,
) -> Staged:
    """Brings everything over, verifies it, and says which models may spill.

    Args:
        plan: What has to be there.
        weights: Gives the place of a prefix in the bucket.
        registry: Copies images.
        folder_of: Gives the folder with a model's weights; may download it first.
        progress: Where the steps are shown.

    Raises:
        StagingError: Something could not be brought over, or is not there as it was sent.
    """
    lines: list[str] = []
    for image in dict.fromkeys([*plan.images, *(model.image for model in plan.models)]):
        lines.append(f"{image.target} {_copied(image, registry, progress)}")
    armed: dict[str, tuple[str, ...]] = {}
    for model in plan.models:
        if model.prefix is not None:
            place = weights(model.prefix.rstrip("/"))
            with progress.step(f"weights of {model.name} to {place.url}") as step:
                folder = folder_of(model)
                model.check(folder)
                manifest = place.upload(model.name, model.revision, folder, step.update)
                step.update(f"{len(manifest.files)} files, {manifest.size / 1e9:.2f} GB, verified")
            lines.append(f"{place.url} {manifest.digest}")
        armed[model.name] = (model.token,)
    return Staged(armed, tuple(lines))


def unstage(plan: StagingPlan, weights: Callable[[str], StagedWeights], progress: Progress) -> None:
    """Removes the weights that `stage` brought, and nothing else in the bucket.

    Raises:
        StagingError: Something stays.
    """
    with progress.step("staged weights") as step:
        removed = sum(weights(model.prefix.rstrip("/")).remove() for model in plan.models if model.prefix)
        step.update(f"{removed} objects removed; the originals are where they were")


def _copied(image: ImagePlan, registry: Registry, progress: Progress) -> str:
    pinned = image.target.partition("@")[2] or None
    there = registry.digest(image.target)
    if there is None or (pinned and there != pinned):
        with progress.step(f"image {image.source}") as step:
            registry.copy(image.source, image.target, step.update)
            there = registry.digest(image.target)
    if there is None:
        raise StagingError(f"{image.target} was copied, but the registry does not have it; try again")
    if pinned and there != pinned:
        raise StagingError(f"{image.target} is {there} in the registry; remove it there and try again")
    return there
