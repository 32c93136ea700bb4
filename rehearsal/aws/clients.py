"""Clients of the double: boto3 with an endpoint on this machine and keys that are none."""

import functools
import http.client
import json
import os
import threading
import time
import urllib.error
import urllib.request
from typing import Any

import boto3  # pyright: ignore[reportMissingTypeStubs]
import botocore.session  # pyright: ignore[reportMissingTypeStubs]
from botocore.config import Config  # pyright: ignore[reportMissingTypeStubs]

from rehearsal.aws.loopback import require_loopback

RETRY_S = 60.0
"""How long a client asks again when the double is away: it may be being started again."""

# botocore waits at random, up to 20 s before a try; the real provider tries 25 times.
_TRIES = 18
_AGAIN_S = 0.5
_KEY = "rehearsal"
_ONE_SESSION = threading.Lock()


@functools.cache
def client(
    service: str,
    endpoint: str,
    region: str,
    credentials: tuple[str, str, str] | None = None,
    tries: int = _TRIES,
) -> Any:
    """A client of one service.

    Nothing of the user's AWS configuration is read: neither keys nor profiles nor endpoints.

    Args:
        service: As boto3 names it.
        endpoint: The double's address.
        region: The region.
        credentials: Key, secret and token of an assumed role.
        tries: How often a call is tried; what shows outages does not want to sit them out.

    Raises:
        ValueError: The endpoint is not on this machine.
    """
    key, secret, token = credentials or (_KEY, _KEY, None)
    config = Config(
        retries={"mode": "standard", "total_max_attempts": tries},
        connect_timeout=5,
        read_timeout=60,
        s3={"addressing_style": "path"},
        proxies={},
        # Host prefixes like `123456789012.` name no host here.
        inject_host_prefix=False,
    )
    with _ONE_SESSION:
        return _session().client(
            service,
            endpoint_url=require_loopback(endpoint, "endpoint"),
            region_name=region,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            aws_session_token=token,
            config=config,
        )


@functools.cache
def _session() -> Any:
    """One for all clients: it reads the description of a service, which is most of the time, only once."""
    nowhere = (None, None, os.devnull, None)
    own: Any = botocore.session.Session(
        session_vars={
            "profile": (None, None, None, None),
            "config_file": nowhere,
            "credentials_file": nowhere,
        }
    )
    return boto3.Session(botocore_session=own)


class DoubleError(Exception):
    """The double refused or could not be reached; the text is the whole message."""


def page(
    endpoint: str, method: str, path: str, content: Any = None, timeout_s: float = 10.0, retry_s: float = 0.0
) -> Any:
    """Calls one of the double's own pages and returns what it answers; None where there is no such thing.

    Args:
        endpoint: The double's address.
        method: GET, PUT or DELETE; each may be repeated.
        path: Behind `/spillway/`.
        content: What to send, as JSON.
        timeout_s: How long one answer may take.
        retry_s: How long to ask again while nobody answers.

    Raises:
        DoubleError: With what it answered, or that it is not there.
    """
    url = f"{require_loopback(endpoint, 'endpoint')}/spillway/{path}"
    data = json.dumps(content).encode() if content is not None else None
    request = urllib.request.Request(url, data=data, method=method)  # noqa: S310 - loopback, see above
    # A proxy of the user's environment is not for this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + retry_s
    while True:
        try:
            with opener.open(request, timeout=timeout_s) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 404 and method in ("GET", "DELETE"):
                return None
            raise DoubleError(f"the AWS double refused {method} {path}: {error.read().decode()}") from None
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() > deadline:
                raise DoubleError(
                    f"the AWS double does not answer at {endpoint} ({error}); start it: "
                    "python -m rehearsal.aws start"
                ) from None
            time.sleep(_AGAIN_S)
