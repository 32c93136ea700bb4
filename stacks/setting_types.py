"""Types of single settings that more than one scenario has, with the words of what they must look like."""

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, StringConstraints

from runtime.model import ContradictionError, written_as
from runtime.tenure import EXPIRES_PATTERN, expiry

_DNS_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
# Services are named after it with a suffix, and must start with a letter (RFC 1035).
_SERVICE_PREFIX = r"^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$"
# Docker takes the first part of a reference for a registry only if it has a dot or a port, or is localhost.
_REGISTRY_PATH = (
    r"^([-a-zA-Z0-9]+(\.[-a-zA-Z0-9]+)+(:[0-9]{1,5})?|[-a-zA-Z0-9]+:[0-9]{1,5}|localhost)"
    r"(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$"
)
_PROXY_URL = r"^https?://[-a-zA-Z0-9.]+(:[0-9]{1,5})?/?$"
# The program runs in another folder than `make`, so a relative path would be two.
_KUBECONFIG = r"^[/~]"
# What AWS takes as a tag's value, without what only some of its services take.
_TAG = r"^[A-Za-z0-9_ .:/=+@-]{1,200}$"
_HOST_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+$"

DnsLabel = Annotated[
    str,
    StringConstraints(pattern=_DNS_LABEL),
    written_as(_DNS_LABEL, "1 to 63 lower-case letters, digits and '-', without '-' at either end"),
]
PlatformName = Annotated[
    str,
    StringConstraints(pattern=_SERVICE_PREFIX),
    written_as(_SERVICE_PREFIX, "1 to 40 lower-case letters, digits and '-', starting with a letter"),
]
RegistryPath = Annotated[
    str,
    StringConstraints(pattern=_REGISTRY_PATH),
    written_as(_REGISTRY_PATH, "REGISTRY[/PATH] without https://", "registry.example.com/llm"),
]
# The URL stands in plain text in pods, state and previews.
ProxyUrl = Annotated[
    str,
    StringConstraints(pattern=_PROXY_URL),
    written_as(
        _PROXY_URL,
        "http://HOST:PORT, without user and password, because every pod would show them",
        "http://proxy.example.com:3128",
    ),
]
KubeconfigPath = Annotated[
    str,
    StringConstraints(pattern=_KUBECONFIG),
    written_as(_KUBECONFIG, "an absolute path, or one that begins with ~", "~/.kube/config"),
]
HostName = Annotated[
    str,
    StringConstraints(pattern=_HOST_NAME, max_length=253),
    written_as(_HOST_NAME, "a host name in lower case, without https://", "llm.example.com"),
]

TagValue = Annotated[
    str,
    StringConstraints(pattern=_TAG),
    written_as(_TAG, "1 to 200 letters, digits, blanks and _ . : / = + - @", "ml-platform"),
]


# How Pulumi hands over a day that stands in a stack file without quotes: as Go prints a time.
_UNQUOTED_DAY = re.compile(r"([0-9-]{10}) 00:00:00 \+0000 UTC")


def _as_written(value: object) -> object:
    found = _UNQUOTED_DAY.fullmatch(value) if isinstance(value, str) else None
    return found[1] if found else value


def _expires(value: str) -> str:
    expiry(value, datetime.now(UTC))
    return value


Expires = Annotated[
    str,
    BeforeValidator(_as_written),
    AfterValidator(_expires),
    written_as(EXPIRES_PATTERN, "a day such as 2026-12-31 or a duration such as 14d or 8h", "14d"),
]


def refuse_wrong_end(environment: str, expires: str | None) -> None:
    """Refuses an end for production, and none for everything else.

    Raises:
        ContradictionError: `expires` is there where it may not be, or missing where it must be.
    """
    if environment == "prod" and expires is not None:
        raise ContradictionError(
            "expires",
            "goes only with environment dev or staging, and this is prod, which is never taken down by "
            "itself; remove it or change environment",
        )
    if environment != "prod" and expires is None:
        raise ContradictionError(
            "expires",
            f"is missing, and environment is {environment}; add a day such as 2026-12-31 or a "
            "duration after the last up such as 14d, or set environment to prod",
        )
