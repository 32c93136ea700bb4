"""CaptureConfig: of which endpoints copies are kept, what is masked in them, and how much may wait."""

from typing import Annotated, Literal, get_args

from pydantic import Field

from runtime.model import Spec

Entity = Literal[
    "EMAIL_ADDRESS",
    "PHONE_NUMBER",
    "CREDIT_CARD",
    "IBAN_CODE",
    "US_SSN",
    "IP_ADDRESS",
    "MAC_ADDRESS",
    "CRYPTO",
    "CREDENTIAL",
    "LONG_NUMBER",
]
"""What can be masked; the first eight are presidio's names."""

ENTITIES: tuple[Entity, ...] = get_args(Entity)

_Region = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]


class CapturedEndpoint(Spec):
    """One endpoint of which copies are kept."""

    endpoint: str = Field(description="Name of the SageMaker endpoint, as `models` names it.")
    percent: int = Field(
        ge=1,
        le=100,
        description="Part of the requests, in percent. A digest of the request's id decides, so that a "
        "request is in or out on every gateway.",
    )
    prefix: str = Field(
        pattern=r"^([A-Za-z0-9._-]+/)+$",
        max_length=512,
        description="Folder in the bucket; below it ENDPOINT/VARIANT/YEAR/MONTH/DAY/HOUR, as SageMaker's.",
    )


class CaptureConfig(Spec):
    """Masked copies of prompts and answers. Without it there are none."""

    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", description="The bucket.")
    kms_key_id: str = Field(
        min_length=1, max_length=2048, description="Key that the files are encrypted with: ARN or id."
    )
    endpoints: tuple[CapturedEndpoint, ...] = Field(min_length=1, description="Of which endpoints.")
    entities: tuple[Entity, ...] = Field(
        default=ENTITIES, min_length=1, description="What is masked. Everything that can be, by itself."
    )
    phone_regions: tuple[_Region, ...] = Field(
        default=("US", "GB", "DE", "FR", "IL", "IN", "CA", "BR"),
        min_length=1,
        description="Countries whose telephone numbers are known without a country code; with one they are "
        "known of all countries. Each costs time.",
    )
    max_record_bytes: int = Field(
        default=256 * 1024,
        ge=1024,
        le=8 * 1024 * 1024,
        description="Longest request and answer together, in bytes; longer ones are not kept.",
    )
    max_held_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=1024,
        description="Bytes that may wait for the masker, and as many for S3; what would be more is lost.",
    )
    max_file_bytes: int = Field(
        default=4 * 1024 * 1024, ge=1024, description="A file is written as soon as it is so long, in bytes."
    )
    flush_s: float = Field(default=60.0, gt=0, description="And after so many seconds in any case.")
    mask_timeout_s: float = Field(
        default=20.0,
        gt=0,
        description="Longest time for one record; then it is dropped, and the masker restarted.",
    )
    end_s: float = Field(
        default=8.0,
        ge=0,
        description="After the last answer of a gateway that stops, how long masking and writing may go on.",
    )
