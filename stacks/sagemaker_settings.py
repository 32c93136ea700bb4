"""The settings of scenario `sagemaker`: one AWS account, models, and the endpoints that host them."""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, model_validator

from runtime.images import registry_host
from runtime.model import ContradictionError, ContradictionsError, Mistake, Spec, written_as
from runtime.node_groups import ZoneName
from runtime.sagemaker.checks import endpoint_mistakes
from runtime.sagemaker.endpoints import EndpointSpec
from runtime.sagemaker.models import EndpointModel
from runtime.sagemaker.registry import package_group_name
from stacks.cloud_settings import (
    AccountId,
    AssumeRole,
    BudgetAlert,
    Cidr,
    Email,
    PrivateVpc,
    RegionName,
    SubnetId,
    VpcId,
)
from stacks.endpoint_gateway_settings import EndpointGateway
from stacks.endpoint_routes import gateway_mistakes
from stacks.setting_types import Expires, PlatformName, TagValue, refuse_wrong_end

# A bucket's name has 63 characters at most: `NAME-capture-ACCOUNT-REGION`, with REGION up to 14.
MAX_NAME = 20
# Names in SageMaker have 63 characters at most; those of models get a '-' and seven digits of Pulumi's.
_MAX_WHOLE = 63
_MAX_PART = _MAX_WHOLE - 8
_PREFIX_LIST = r"^pl-[0-9a-f]{8,17}$"

PrefixListId = Annotated[
    str,
    StringConstraints(pattern=_PREFIX_LIST),
    written_as(_PREFIX_LIST, "the id of a prefix list", "pl-63a5400a"),
]


class EndpointSubnet(Spec):
    """A private subnet for endpoints."""

    id: SubnetId = Field(description="Its id.")
    zone: ZoneName = Field(description="Its availability zone.")


class ExistingEndpointVpc(Spec):
    """A VPC of yours, with private endpoints of S3, ECR, CloudWatch, STS and the SageMaker runtime.

    A gateway needs one of Secrets Manager too.
    """

    vpc_id: VpcId = Field(description="Its id.")
    cidr: Cidr = Field(description="Its network.")
    s3_prefix_list: PrefixListId = Field(
        description="Prefix list of S3 in the region, the only addresses beside the VPC's that models reach."
    )
    subnets: tuple[EndpointSubnet, ...] = Field(
        description="Its private subnets, one in each of two to six zones."
    )

    @model_validator(mode="after")
    def _two_zones(self) -> Self:
        if len({subnet.zone for subnet in self.subnets}) < max(2, len(self.subnets)):
            raise ContradictionError("subnets", "must be one in each of two to six zones; name them so")
        return self


class EndpointNetwork(Spec):
    """Where endpoints are: one of new and existing. Neither has a way to the internet for models."""

    new: PrivateVpc | None = Field(default=None, description="A VPC to make.")
    existing: ExistingEndpointVpc | None = Field(default=None, description="A VPC that is there.")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.new is None) == (self.existing is None):
            given = "names both new and existing" if self.new else "names neither new nor existing"
            raise ValueError(f"{given}; give exactly one of the two")
        return self


class Alerts(Spec):
    """When somebody is told, and who. What clients see first also takes an update back.

    That is errors, and the first token where an endpoint streams, else the whole answer.
    """

    emails: tuple[Email, ...] = Field(default=(), description="Who is told; each must confirm once.")
    error_percent: float = Field(
        default=5, ge=0.1, le=100, description="Server errors in percent of the requests, over five minutes."
    )
    latency_seconds: float = Field(
        default=120,
        ge=0.1,
        le=480,
        description="Time of the slowest one percent of answers (p99). It takes an update back only where an "
        "endpoint cannot stream; what is no stream ends as an error after 60.",
    )
    first_token_seconds: float = Field(
        default=5, ge=0.1, le=480, description="Time to the first part of streamed answers (p95)."
    )
    gpu_memory_percent: float = Field(
        default=98, ge=1, le=100, description="Memory of the devices that is in use, on average."
    )
    idle_minutes: int = Field(
        default=60, ge=10, le=1440, description="Devices below 5 % for so long are idle, and paid."
    )
    quiet_hours: int | None = Field(
        default=None,
        ge=1,
        le=24,
        description="Hours without a request after which somebody is told; null for endpoints that may rest.",
    )


class SageMakerSettings(Spec):
    """One LLM platform on SageMaker endpoints, in one account and region."""

    scenario: Literal["sagemaker"] = Field(description="Which scenario this stack is.")
    name: PlatformName = Field(default="llm", description="Prefix of the platform's resources.")
    owner: TagValue = Field(description="Team or person who answers for the stack.")
    cost_centre: TagValue = Field(description="Who pays.")
    environment: Literal["dev", "staging", "prod"] = Field(
        description="What it is for; `prod` is never taken down by itself, the others are when they expire."
    )
    expires: Expires | None = Field(
        default=None,
        description="When it may be taken down by itself: a day, to its end in UTC, or so long after the "
        "last `up`. All but `prod` need it.",
    )
    region: RegionName = Field(description="AWS region.")
    account_id: AccountId = Field(
        description="The account. Credentials of any other are refused before anything is made."
    )
    assume_role: AssumeRole | None = Field(default=None, description="Role to take on in the account.")
    declare: Literal["foundation", "all"] = Field(
        default="all",
        description="`foundation`: only keys, network, buckets, repositories and budget, for the first `up`: "
        "endpoints start only what is staged, and staging needs the buckets. `all`: the endpoints too.",
    )
    network: EndpointNetwork = Field(description="The VPC.")
    images: Literal["ecr", "asGiven"] = Field(
        default="ecr",
        description="`ecr`: containers come from repositories of the account, which Spillway makes and "
        "staging fills. `asGiven`: from the private ECR registry that the references name.",
    )
    models: tuple[EndpointModel, ...] = Field(min_length=1, description="What is hosted.")
    endpoints: tuple[EndpointSpec, ...] = Field(min_length=1, description="What hosts it.")
    gateway: EndpointGateway | None = Field(
        default=None,
        description="The OpenAI-style API in front of the endpoints. Without it there is SageMaker's own API "
        "alone, with signed requests.",
    )
    alerts: Alerts = Field(default_factory=lambda: Alerts(), description="Who is told of what.")
    log_retention_days: Literal[1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096] = Field(
        default=90, description="Days that endpoints', gateway's and flow logs are kept."
    )
    budget: BudgetAlert | None = Field(default=None, description="AWS budget with alerts.")

    @model_validator(mode="after")
    def _expires_unless_in_production(self) -> Self:
        refuse_wrong_end(self.environment, self.expires)
        return self

    @model_validator(mode="after")
    def _name_fits_aws(self) -> Self:
        if len(self.name) > MAX_NAME:
            raise ContradictionError(
                "name",
                f"has {len(self.name)} characters, and names of AWS resources are made of it, which leaves "
                f"{MAX_NAME}; shorten it",
            )
        return self

    @model_validator(mode="after")
    def _names_of_parts_fit_aws(self) -> Self:
        found = [
            Mistake(
                ("models", index, "name"),
                f"makes a name of {len(self.name) + 1 + len(one.name)} characters with the platform's, and "
                f"SageMaker leaves {_MAX_PART}; shorten one of them",
            )
            for index, one in enumerate(self.models)
            if len(self.name) + 1 + len(one.name) > _MAX_PART
        ]
        found += [
            Mistake(
                ("endpoints", index, "shared", "components", place, "name"),
                f"makes a name of {length} characters with those of platform and endpoint, and SageMaker "
                f"leaves {_MAX_WHOLE}; shorten one of them",
            )
            for index, endpoint in enumerate(self.endpoints)
            for place, one in enumerate(endpoint.shared.components if endpoint.shared else ())
            if (length := len(self.name) + len(endpoint.name) + len(one.name) + 2) > _MAX_WHOLE
        ]
        if found:
            raise ContradictionsError(found)
        return self

    @model_validator(mode="after")
    def _zones_are_in_the_region(self) -> Self:
        new = self.network.new
        found = [
            Mistake(("network", "new", "zones", index), f"is not in region {self.region}; name zones of that")
            for index, zone in enumerate(new.zones if new else ())
            if zone[:-1] != self.region
        ]
        if found:
            raise ContradictionsError(found)
        return self

    @model_validator(mode="after")
    def _certificate_is_in_the_region(self) -> Self:
        tls = self.gateway and self.gateway.tls
        if tls and tls.certificate_arn.split(":")[3] != self.region:
            raise ContradictionError(
                "gateway.tls.certificateArn",
                f"is not in region {self.region}, from which alone the load balancer takes one; request or "
                "import it there",
            )
        return self

    @model_validator(mode="after")
    def _images_can_be_pulled(self) -> Self:
        found = [
            Mistake(
                ("models", index, *place),
                f"is not in a private ECR registry of {self.region}, from which alone endpoints pull; set "
                "images to ecr and stage it, or name one there",
            )
            for index, model in enumerate(self.models)
            for place, image in model.images.items()
            if self.images == "asGiven" and not is_private_ecr(image, self.region)
        ]
        if self.images == "asGiven" and self.gateway is not None:
            found += [
                Mistake(
                    ("gateway", key),
                    f"is not in a private ECR registry of {self.region}, and the gateway's tasks reach no "
                    "other; set images to ecr and stage it, or name one there",
                )
                for key, image in self.gateway.images.items()
                if not is_private_ecr(image, self.region)
            ]
        if found:
            raise ContradictionsError(found)
        return self

    @model_validator(mode="after")
    def _parts_fit_each_other(self) -> Self:
        found = list(endpoint_mistakes(self.models, self.endpoints, self.region))
        # Who answers what is asked of parts that fit.
        if not found and self.gateway is not None:
            found = list(gateway_mistakes(self.name, self.region, self.gateway, self.models, self.endpoints))
        if found:
            raise ContradictionsError(found)
        return self

    @model_validator(mode="after")
    def _revisions_are_told_apart(self) -> Self:
        found: list[Mistake] = []
        seen: dict[str, str] = {}
        for index, one in enumerate(self.models):
            group = package_group_name(self.name, one.model_id)
            other = seen.setdefault(group, one.model_id)
            if other != one.model_id:
                found.append(
                    Mistake(
                        ("models", index, "servedName"),
                        f"{one.model_id} and {other} are both group {group} in the model registry, which has "
                        "63 letters, digits and '-'; change one of the two",
                    )
                )
        if found:
            raise ContradictionsError(found)
        return self

    @model_validator(mode="after")
    def _somebody_masks(self) -> Self:
        found = [
            Mistake(
                ("endpoints", index, "capture"),
                "keeps nothing, because only the gateway masks, and there is none; declare gateway, remove "
                "capture, or set personalData to raw to keep prompts as they come",
            )
            for index, one in enumerate(self.endpoints)
            if one.capture is not None and one.capture.personal_data == "masked" and self.gateway is None
        ]
        if found:
            raise ContradictionsError(found)
        return self

    def model(self, name: str) -> EndpointModel:
        """The model of that name.

        Raises:
            StopIteration: There is none; validated settings name no such model.
        """
        return next(one for one in self.models if one.name == name)


def is_private_ecr(image: str, region: str) -> bool:
    """Whether an image is in a private ECR registry of a region; ECR Public is another service."""
    host = urlsplit(f"//{registry_host(image)}").hostname or ""
    return host.endswith(f".dkr.ecr.{region}.amazonaws.com") and host[:12].isdigit()
