"""Tells whether an endpoint is on this machine. Everything here refuses one that is not."""

import ipaddress
from urllib.parse import urlsplit


def is_loopback(endpoint: str) -> bool:
    """Says whether `endpoint` is an http address of this machine that needs no name service.

    A name other than `localhost` may point anywhere, so none is taken.
    """
    try:
        address = urlsplit(endpoint)
        host = address.hostname or ""
        if address.scheme != "http" or address.username is not None or address.port is None:
            return False
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_loopback(endpoint: str, named: str) -> str:
    """Returns `endpoint`, without a slash at its end.

    Args:
        endpoint: An address.
        named: The setting that it comes from, for the message.

    Raises:
        ValueError: It is not on this machine; the text is the whole message.
    """
    if not is_loopback(endpoint):
        raise ValueError(
            f"{named}: {endpoint} is not on this machine; the stand-in aws provider talks to the AWS double "
            "only: allowed is http://127.0.0.1:PORT. For a real account take the official aws plugin"
        )
    return endpoint.rstrip("/")
