"""Clients of the double: boto3 with an endpoint on this machine and keys that are none."""

import functools
import json
import urllib.error
import urllib.request
from typing import Any

import boto3
from botocore.config import Config

from rehearsal.aws.loopback import require_loopback

RETRY_S = 60.0
"""How long a client asks again when the double is away: it may be being started again."""

# The SDK of the real provider tries 25 times. With botocore's back-off of up to 20 s a try, `standard`
# mode reaches RETRY_S with these.
_TRIES = 12
_KEY = "rehearsal"


@functools.cache
def client(service: str, endpoint: str, region: str, credentials: tuple[str, str, str] | None = None) -> Any:
    """A client of one service.

    Nothing of the user's AWS configuration is read: neither keys nor profiles nor endpoints.

    Args:
        service: As boto3 names it.
        endpoint: The double's address.
        region: The region.
        credentials: Key, secret and token of an assumed role.

    Raises:
        ValueError: The endpoint is not on this machine.
    """
    key, secret, token = credentials or (_KEY, _KEY, None)
    session: Any = boto3.Session(
        aws_access_key_id=key, aws_secret_access_key=secret, aws_session_token=token, region_name=region
    )
    config = Config(
        retries={"mode": "standard", "total_max_attempts": _TRIES},
        connect_timeout=5,
        read_timeout=60,
        s3={"addressing_style": "path"},
        proxies={},
        # Host prefixes like `123456789012.` name no host here.
        inject_host_prefix=False,
    )
    return session.client(service, endpoint_url=require_loopback(endpoint, "endpoint"), config=config)


class DoubleError(Exception):
    """The double refused or could not be reached; the text is the whole message."""


def page(endpoint: str, method: str, path: str, content: Any = None, timeout_s: float = 10.0) -> Any:
    """Calls one of the double's own pages and returns what it answers; None where there is no such thing.

    Raises:
        DoubleError: With what it answered, or that it is not there.
    """
    url = f"{require_loopback(endpoint, 'endpoint')}/spillway/{path}"
    data = json.dumps(content).encode() if content is not None else None
    request = urllib.request.Request(url, data=data, method=method)  # noqa: S310 - loopback, see above
    # A proxy of the user's environment is not for this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == 404 and method in ("GET", "DELETE"):
            return None
        raise DoubleError(f"the AWS double refused {method} {path}: {error.read().decode()}") from None
    except OSError as error:
        raise DoubleError(
            f"the AWS double does not answer at {endpoint} ({error}); start it: python -m rehearsal.aws start"
        ) from None
