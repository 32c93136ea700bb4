"""Checks a request's Signature Version 4 as AWS does: who signed it, for what, when, and what it says."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hmac import compare_digest
from typing import Any

from botocore.auth import SigV4Auth  # pyright: ignore[reportMissingTypeStubs]
from botocore.awsrequest import AWSRequest  # pyright: ignore[reportMissingTypeStubs]
from botocore.credentials import ReadOnlyCredentials  # pyright: ignore[reportMissingTypeStubs]

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/\d{8}/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request, ?"
    r"SignedHeaders=(?P<headers>[a-z0-9;-]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)
_SERVICE = "sagemaker"
_TIME = "%Y%m%dT%H%M%SZ"
_MOST_APART = timedelta(minutes=5)


class NotSignedError(Exception):
    """AWS would not take the signature.

    Attributes:
        kind: The name of its error.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def check_signature(
    url: str, headers: Mapping[str, str], body: bytes, *, region: str, secrets: Mapping[str, str]
) -> None:
    """Checks a POST.

    Args:
        url: Its whole URL.
        headers: Its headers, in which names are found whatever their case.
        body: Its body.
        region: The region that it must be signed for.
        secrets: The secret of each access key.

    Raises:
        NotSignedError: It is not signed, for something else, too long ago, or was changed since.
    """
    found = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    if found is None:
        raise NotSignedError("MissingAuthenticationTokenException", "Missing Authentication Token")
    if (found["region"], found["service"]) != (region, _SERVICE):
        raise NotSignedError(
            "InvalidSignatureException",
            f"Credential should be scoped to a valid region and service: {region}/{_SERVICE}, not "
            f"{found['region']}/{found['service']}",
        )
    if found["key"] not in secrets:
        raise NotSignedError(
            "UnrecognizedClientException", "The security token included in the request is invalid."
        )
    signed = found["headers"].split(";")
    if missing := {"host", "x-amz-date"} - set(signed):
        raise NotSignedError("IncompleteSignature", f"not signed: {', '.join(sorted(missing))}")
    if unsigned := [name for name in map(str.lower, headers) if _must_be_signed(name) and name not in signed]:
        raise NotSignedError("InvalidSignatureException", f"not signed: {', '.join(sorted(unsigned))}")
    _check_time(headers.get("x-amz-date", ""))
    request: Any = AWSRequest(
        "POST", url, headers={name: headers[name] for name in signed if name in headers}, data=body
    )
    request.context["timestamp"] = headers["x-amz-date"]
    signer: Any = SigV4Auth(
        ReadOnlyCredentials(found["key"], secrets[found["key"]], None), found["service"], found["region"]
    )
    wanted = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    if not compare_digest(wanted, found["signature"]):
        raise NotSignedError(
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided.",
        )


def _must_be_signed(name: str) -> bool:
    return name.startswith(("x-amz-", "x-amzn-sagemaker-"))


def _check_time(text: str) -> None:
    try:
        at = datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError:
        raise NotSignedError("IncompleteSignature", f"X-Amz-Date is {text!r}") from None
    if abs(datetime.now(UTC) - at) > _MOST_APART:
        raise NotSignedError("InvalidSignatureException", f"Signature expired: {text}")
