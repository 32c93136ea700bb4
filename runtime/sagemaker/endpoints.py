"""Endpoints: what a stack file says of one, its variants or components, its updates and its size."""

import math
import re
from decimal import Decimal
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from runtime.model import ContradictionError, Replicas, Spec, written_as
from runtime.sagemaker.instances import (
    CUDA_13_AMI,
    NEURON_AMI,
    EndpointType,
    InferenceAmi,
    ami_of,
    has_local_disks,
)
from runtime.sagemaker.models import PartName

# What SageMaker and the provider allow. SageMaker takes 28800 s (UpdateEndpoint, DeploymentConfig), and the
# provider 14400 (IntBetween(600, 14400) in internal/service/sagemaker/endpoint.go of the Terraform provider).
MAX_TIMEOUT_S: Final = 14_400
_MIN_TIMEOUT_S: Final = 600
# The provider waits 60 minutes for an endpoint to be in service, by a constant in the same file. An `up`
# fails then while SageMaker goes on, and an endpoint that is being made is in no state.
PROVIDER_WAIT_S: Final = 3_600
_MAX_VOLUME_GIB: Final = 512
# Prompts and answers are kept no longer than this.
MAX_RETENTION_DAYS: Final = 365
# An alarm on a metric expression takes ten metrics, and the error ratio needs two for each variant.
_MAX_VARIANTS: Final = 4
_CRON = r"^(cron\([^()]+\)|rate\([^()]+\)|at\([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\))$"
_ZONE = r"^[A-Za-z_]+(/[A-Za-z_+-]+[0-9]*)*$"

Schedule = Annotated[
    str,
    StringConstraints(pattern=_CRON),
    written_as(_CRON, "cron(…), rate(…) or at(YYYY-MM-DDThh:mm:ss)", "cron(0 20 ? * MON-FRI *)"),
]


def _whole(value: str) -> str:
    fields = re.fullmatch(r"cron\((.*)\)", value)
    if fields is not None and len(fields[1].split()) != 6:
        raise ValueError(
            "must have the six fields minute, hour, day, month, weekday, year; write '*' or '?' for the rest"
        )
    return value


class SizeSchedule(Spec):
    """Another least and most number of instances or copies, from a time on."""

    name: PartName = Field(description="Its name.")
    at: Annotated[Schedule, AfterValidator(_whole)] = Field(
        description="When, in Application Auto Scaling's words."
    )
    timezone: Annotated[
        str, StringConstraints(pattern=_ZONE), written_as(_ZONE, "a time zone", "Europe/Berlin")
    ] = Field(default="UTC", description="The time zone of `at`.")
    min: int = Field(ge=0, le=1000, description="Instances or copies at least, from then on.")
    max: int = Field(ge=0, le=1000, description="Instances or copies at most, from then on.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ContradictionError("min", f"is above max {self.max}; lower min or raise max")
        return self


class Variant(Spec):
    """A fleet of instances with one model, and its share of the endpoint's traffic."""

    name: PartName = Field(
        description="Its name. It must stay the same, or an update cannot move traffic step by step."
    )
    model: str = Field(description="Name of one of `models`.")
    instance_type: EndpointType = Field(description="Type of its instances, such as ml.g6e.2xlarge.")
    replicas: Replicas = Field(
        default_factory=lambda: Replicas(), description="Instances, at least and at most."
    )
    weight: int = Field(
        default=1,
        ge=0,
        le=1000,
        description="Its share of the traffic: weight through the sum of all weights. Whole numbers only; "
        "fractions are read back differently, and the endpoint would be made anew at each update.",
    )
    shadow: bool = Field(
        default=False,
        description="It gets copies of requests, and its answers are thrown away; `weight` is its share.",
    )
    schedules: tuple[SizeSchedule, ...] = Field(default=(), description="Other sizes at certain times.")
    volume_gib: int | None = Field(
        default=None,
        ge=1,
        le=_MAX_VOLUME_GIB,
        description="Volume of an instance, for types without local disks; SageMaker's own default is 30.",
    )
    ami: InferenceAmi | None = Field(
        default=None,
        description="Operating system under the container, which has the driver. By itself the newest of its "
        f"kind: `{CUDA_13_AMI}`, or `{NEURON_AMI}` where instanceType has Neuron devices; SageMaker's own "
        "where it has no devices. That one is too old for images with CUDA 13, and shows it as a failed "
        "health check.",
    )
    download_seconds: int = Field(
        default=600, ge=60, le=3540, description="Longest time to load the weights from the bucket."
    )
    startup_seconds: int = Field(
        default=900, ge=60, le=3540, description="Longest time until the container answers its health check."
    )

    @model_validator(mode="after")
    def _local_disks_have_one_size(self) -> Self:
        if self.volume_gib is not None and has_local_disks(self.instance_type):
            raise ContradictionError(
                "volumeGib",
                f"goes with types without local disks, and {self.instance_type} has some, whose size is "
                "fixed; remove it",
            )
        return self

    @property
    def operating_system(self) -> InferenceAmi | None:
        """What `ami` says, else the newest with a driver for the devices; None without devices."""
        return self.ami or ami_of(self.instance_type)

    @model_validator(mode="after")
    def _never_empty(self) -> Self:
        if self.shadow and self.replicas.min == 0:
            raise ContradictionError("replicas.min", "is 0, and a shadow variant has 1 or more; raise it")
        return self


class Component(Spec):
    """A model on a part of shared instances, with copies that can go down to none."""

    name: PartName = Field(description="Its name.")
    model: str = Field(description="Name of one of `models`.")
    copies: Replicas = Field(
        default_factory=lambda: Replicas(min=0), description="Copies, at least and at most."
    )
    memory_mib: int = Field(
        ge=128, le=4_194_304, description="Memory that one copy has for itself, in MiB, beside its devices'."
    )
    schedules: tuple[SizeSchedule, ...] = Field(default=(), description="Other sizes at certain times.")


class SharedInstances(Spec):
    """Instances that several models share, as inference components; all can go down to none."""

    instance_type: EndpointType = Field(description="Type of the instances, such as ml.g6e.12xlarge.")
    instances: Replicas = Field(
        default_factory=lambda: Replicas(min=0),
        description="Instances, at least and at most. SageMaker itself moves between the two.",
    )
    components: tuple[Component, ...] = Field(min_length=1, max_length=10, description="What runs there.")
    ami: InferenceAmi | None = Field(
        default=None,
        description="Operating system under the containers, which has the driver. By itself as of a variant.",
    )
    download_seconds: int = Field(
        default=3600, ge=60, le=3600, description="Longest time to load the weights from the bucket."
    )
    startup_seconds: int = Field(
        default=1800, ge=60, le=3600, description="Longest time until a container answers its health check."
    )

    @property
    def operating_system(self) -> InferenceAmi | None:
        """As of a variant."""
        return self.ami or ami_of(self.instance_type)


class Deployment(Spec):
    """How an update moves traffic to the new instances, and back if an alarm goes off."""

    strategy: Literal["canary", "linear", "allAtOnce", "rolling"] = Field(
        default="canary",
        description="`canary`: a part first, then all; `linear`: part by part; `allAtOnce`: at once; all "
        "three beside a whole second fleet. `rolling`: in batches within little more than the fleet, for "
        "scarce types.",
    )
    percent: int | None = Field(
        default=None,
        ge=1,
        le=50,
        description="Part that moves first or at a time, in percent of the fleet. By itself 10 with "
        "`canary`, 25 with `linear`, 50 with `rolling`.",
    )
    bake_seconds: int | None = Field(
        default=None,
        ge=0,
        le=3600,
        description="Time after each part, in which an alarm takes all of it back. By itself 300 with "
        "`linear` and `rolling`, else 600.",
    )
    keep_old_seconds: int = Field(
        default=300,
        ge=0,
        le=3600,
        description="Time that the old fleet stays after the last part; `rolling` has none.",
    )
    timeout_seconds: int | None = Field(
        default=None,
        ge=_MIN_TIMEOUT_S,
        le=MAX_TIMEOUT_S,
        description="Longest time of an update. By itself the waits and an hour for each start, 4 h at most.",
    )

    @model_validator(mode="after")
    def _parts_are_large_enough(self) -> Self:
        least = {"linear": 10, "rolling": 5}.get(self.strategy, 1)
        if self.part < least:
            raise ContradictionError(
                "percent", f"must be {least} to 50 with strategy {self.strategy}; raise it to {least}"
            )
        return self

    @model_validator(mode="after")
    def _waits_fit(self) -> Self:
        if self.timeout_seconds is not None and self.waits_s >= self.timeout_seconds:
            raise ContradictionError(
                "timeoutSeconds",
                f"is not above the waits of {self.waits_s} s with {self.steps} parts and keepOldSeconds; "
                "raise it or shorten the waits",
            )
        return self

    @property
    def part(self) -> int:
        """Percent of the fleet that moves first or at a time."""
        return self.percent or {"linear": 25, "rolling": 50}.get(self.strategy, 10)

    @property
    def bake_s(self) -> int:
        """Seconds after each part; by itself at least the five minutes that alarms look at."""
        if self.bake_seconds is not None:
            return self.bake_seconds
        return 300 if self.strategy in ("linear", "rolling") else 600

    @property
    def steps(self) -> int:
        """Parts that traffic moves in."""
        if self.strategy == "allAtOnce":
            return 1
        return 2 if self.strategy == "canary" else math.ceil(100 / self.part)

    @property
    def starts(self) -> int:
        """How often an update starts instances, one after the other."""
        return self.steps if self.strategy == "rolling" else 1

    @property
    def waits_s(self) -> int:
        """Seconds that an update waits in all, without the starts of instances."""
        keeps = 0 if self.strategy == "rolling" else self.keep_old_seconds
        return self.bake_s * (1 if self.strategy == "canary" else self.steps) + keeps

    @property
    def timeout_s(self) -> int:
        """Seconds after which an update is given up: above the waits, as SageMaker asks."""
        if self.timeout_seconds is not None:
            return self.timeout_seconds
        return min(MAX_TIMEOUT_S, max(_MIN_TIMEOUT_S, self.waits_s + 3600 * self.starts))


class Capture(Spec):
    """Copies of prompts and answers for later evaluation: a part of them, for a time, or none at all."""

    percent: int = Field(ge=1, le=100, description="Part of the requests, in percent.")
    retention_days: int = Field(
        default=30,
        ge=1,
        le=MAX_RETENTION_DAYS,
        description="Days after which they are deleted from the bucket.",
    )
    personal_data: Literal["masked", "raw"] = Field(
        default="masked",
        description="`masked`: the gateway writes them, after it masked what has a form, such as numbers; it "
        "finds no names. What does not come through the gateway is not kept. `raw`: the endpoint captures "
        "everything as it gets it.",
    )


class AsyncRequests(Spec):
    """Requests are put into the bucket and answered there, later: up to 1 GB and an hour each."""

    concurrent_per_instance: int = Field(
        default=8, ge=1, le=1000, description="Requests that one instance works on at a time."
    )
    retention_days: int = Field(
        default=7,
        ge=1,
        le=MAX_RETENTION_DAYS,
        description="Days after which answers are deleted from the bucket.",
    )


class EndpointSpec(Spec):
    """One endpoint: `variants` with instances of their own, or `shared` instances for several models."""

    name: PartName = Field(description="Its name; SageMaker's is `NAME-` and this one.")
    variants: tuple[Variant, ...] = Field(
        default=(), description="Fleets and their shares of the traffic: stable, canary, shadow."
    )
    shared: SharedInstances | None = Field(
        default=None, description="Instances that models share, down to none at rest."
    )
    deployment: Deployment = Field(
        default_factory=lambda: Deployment(), description="How updates move traffic."
    )
    capture: Capture | None = Field(
        default=None, description="Copies of prompts and answers. None by itself."
    )
    asynchronous: AsyncRequests | None = Field(
        default=None, description="Requests from the bucket in place of live ones."
    )
    scale_out_seconds: int = Field(
        default=60, ge=0, le=3600, description="Seconds after an instance was added before the next is."
    )
    scale_in_seconds: int = Field(
        default=600, ge=0, le=7200, description="Seconds after a change before an instance is taken away."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if bool(self.variants) == (self.shared is not None):
            given = "names both variants and shared" if self.shared else "names neither variants nor shared"
            raise ValueError(f"{given}; give exactly one of the two")
        return self

    @model_validator(mode="after")
    def _few_variants(self) -> Self:
        if len(self.variants) > _MAX_VARIANTS:
            raise ContradictionError(
                "variants",
                f"are {len(self.variants)}, and the alarm on their errors takes {_MAX_VARIANTS}; make a "
                "second endpoint",
            )
        return self

    @model_validator(mode="after")
    def _distinct_parts(self) -> Self:
        seen: dict[str, int] = {}
        for index, one in enumerate(self.variants):
            first = seen.setdefault(one.name, index)
            if first != index:
                raise ContradictionError(
                    f"variants.{index}.name", f"is the name of variants[{first}] too; give each its own"
                )
        return self

    @model_validator(mode="after")
    def _somebody_answers(self) -> Self:
        if self.variants and not sum(one.weight for one in self.live):
            raise ContradictionError(
                "variants",
                "have no traffic: all weights are 0 or shadows; give one that is no shadow a weight",
            )
        return self

    @model_validator(mode="after")
    def _shadow_of_one(self) -> Self:
        shadows = [index for index, one in enumerate(self.variants) if one.shadow]
        if shadows and (len(shadows) > 1 or len(self.live) != 1):
            raise ContradictionError(
                f"variants.{shadows[-1]}.shadow",
                "is true, and SageMaker takes one shadow beside exactly one variant; of others there "
                f"are {len(self.live)}, of shadows {len(shadows)}; remove some, or make a second endpoint",
            )
        return self

    @model_validator(mode="after")
    def _rolling_for_one(self) -> Self:
        if self.deployment.strategy == "rolling" and len(self.variants) > 1:
            raise ContradictionError(
                "deployment.strategy",
                f"is rolling, and there are {len(self.variants)} variants, and SageMaker updates only one "
                "so; take canary or linear, or leave one variant",
            )
        return self

    @model_validator(mode="after")
    def _ends_while_the_provider_waits(self) -> Self:
        rolls = self.deployment
        for index, one in enumerate(self.variants):
            start = one.download_seconds + one.startup_seconds
            if start > PROVIDER_WAIT_S:
                raise ContradictionError(
                    f"variants.{index}.startupSeconds",
                    f"makes a start of up to {start} s with downloadSeconds {one.download_seconds}, and "
                    f"Pulumi's provider waits {PROVIDER_WAIT_S} s for an endpoint and not longer; lower one "
                    "of the two",
                )
            total = rolls.waits_s + rolls.starts * start
            if total > PROVIDER_WAIT_S:
                raise ContradictionError(
                    "deployment",
                    f"makes an update of up to {total} s with strategy {rolls.strategy}: waits of "
                    f"{rolls.waits_s} s, and {rolls.starts} x {start} s until variants[{index}] has started "
                    f"(downloadSeconds, startupSeconds). Pulumi's provider waits {PROVIDER_WAIT_S} s and not "
                    "longer, so `up` would fail while SageMaker goes on; lower bakeSeconds, keepOldSeconds "
                    "or the variant's two times, or raise percent",
                )
        return self

    @model_validator(mode="after")
    def _only_components_reach_zero(self) -> Self:
        for index, one in enumerate(self.variants):
            place = f"variants.{index}"
            if self.asynchronous is None and one.replicas.min == 0 and not one.shadow:
                raise ContradictionError(
                    f"{place}.replicas.min",
                    "is 0, and a variant with live requests keeps 1 or more; only shared instances and "
                    "asynchronous endpoints go down to none. Set it to 1 or move the model to shared",
                )
        return self

    @model_validator(mode="after")
    def _schedules_stay_within_bounds(self) -> Self:
        for place, sizes, schedules in self._scheduled():
            for index, one in enumerate(schedules):
                if one.max > sizes.max:
                    raise ContradictionError(
                        f"{place}.schedules.{index}.max",
                        f"is above {sizes.max}, the most that was priced; lower it, or raise max there",
                    )
                if one.max == 0 or (one.min == 0 and sizes.min > 0):
                    raise ContradictionError(
                        f"{place}.schedules.{index}.{'max' if one.max == 0 else 'min'}",
                        f"is 0, and nothing could answer then; raise it to {max(1, sizes.min)}",
                    )
        return self

    @model_validator(mode="after")
    def _asynchronous_is_alone(self) -> Self:
        if self.asynchronous is None:
            return self
        if self.shared is not None or len(self.variants) > 1:
            raise ContradictionError(
                "asynchronous",
                "goes with exactly one variant, without shadow and without shared instances; make an "
                "endpoint of its own for it",
            )
        if self.capture is not None:
            raise ContradictionError(
                "capture", "is not needed: requests and answers lie in the bucket already; remove it"
            )
        return self

    @model_validator(mode="after")
    def _one_kind_of_disk(self) -> Self:
        kinds = {has_local_disks(one.instance_type) for one in self.variants}
        if len(kinds) > 1:
            raise ContradictionError(
                "variants",
                "have types with local disks and types without; with the former SageMaker refuses a key of "
                "yours for all volumes. Take types of one kind, or make a second endpoint",
            )
        return self

    @property
    def live(self) -> tuple[Variant, ...]:
        """The variants whose answers clients get."""
        return tuple(one for one in self.variants if not one.shadow)

    @property
    def shadows(self) -> tuple[Variant, ...]:
        """The variants whose answers nobody gets."""
        return tuple(one for one in self.variants if one.shadow)

    @property
    def instance_types(self) -> tuple[str, ...]:
        """Types of all its instances, each once."""
        shared = () if self.shared is None else (self.shared.instance_type,)
        return tuple(dict.fromkeys((*(one.instance_type for one in self.variants), *shared)))

    def type_of(self, fleet: str) -> str:
        """Instance type of a variant, or of the machines that models share."""
        types = {one.name: one.instance_type for one in self.variants}
        return types.get(fleet) or (self.shared.instance_type if self.shared else "")

    @property
    def hosted(self) -> tuple[str, ...]:
        """Names of the models that clients get answers of."""
        components = () if self.shared is None else self.shared.components
        return tuple(one.model for one in (*self.live, *components))

    @property
    def takes_volume_key(self) -> bool:
        """Whether its volumes can be encrypted with a key of yours: those of local disks have their own."""
        return not any(has_local_disks(one) for one in self.instance_types)

    def share(self, variant: Variant) -> Decimal:
        """A live variant's part of the traffic, from 0 to 1."""
        return Decimal(variant.weight) / Decimal(sum(one.weight for one in self.live))

    def _scheduled(self) -> list[tuple[str, Replicas, tuple[SizeSchedule, ...]]]:
        found = [
            (f"variants.{index}", one.replicas, one.schedules) for index, one in enumerate(self.variants)
        ]
        components = () if self.shared is None else self.shared.components
        return found + [
            (f"shared.components.{index}", one.copies, one.schedules) for index, one in enumerate(components)
        ]
