"""The clients' API keys, as a file of its own that comes from a Secret and is read again on change."""

import re
from collections.abc import Mapping, Sequence

from runtime.gateway.config import CLIENT_HEADER, check_client_name
from runtime.gateway.document import Tree, discovery, typed

KEYS_FILE = "api_keys.yaml"
KEYS_FILTER = "envoy.filters.http.api_key_auth"
KEYS_TYPE = "envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth"

_KEY = re.compile(r"[!-~]{16,512}")


def keys_file(keys: Mapping[str, str | Sequence[str]]) -> str:
    """Returns the text of `api_keys.yaml`.

    Args:
        keys: The key of each client, or its keys: while a key is being changed both are valid.

    Raises:
        ValueError: If a client's name or a key cannot be one, or a key is there twice. No message
            holds a key.
    """
    credentials: list[Tree] = []
    owners: dict[str, str] = {}
    for client in sorted(keys):
        check_client_name(client)
        own = keys[client]
        for key in [own] if isinstance(own, str) else own:
            check_key(f"a key of client {client!r}", key)
            if key in owners:
                raise ValueError(
                    f"gateway: a key of client {client!r} is also a key of client {owners[key]!r} (value "
                    "hidden); allowed: each key once; fix: make a new one for one of them"
                )
            owners[key] = client
            credentials.append({"key": key, "client": client})
    return discovery(
        [
            typed(
                "envoy.config.core.v3.TypedExtensionConfig",
                {
                    "name": KEYS_FILTER,
                    "typed_config": typed(
                        KEYS_TYPE,
                        {
                            "credentials": credentials,
                            "key_sources": [{"header": "Authorization"}],
                            "forwarding": {"header": CLIENT_HEADER, "hide_credentials": True},
                        },
                    ),
                },
            )
        ]
    )


def check_key(whose: str, key: str) -> None:
    """Raises ValueError, without showing it, if a key is none that can be used."""
    if not _KEY.fullmatch(key):
        raise ValueError(
            f"gateway: {whose} is not usable (value hidden, {len(key)} characters); allowed: 16 to 512 "
            "printable ASCII characters without spaces; fix: make a new one, for example with "
            "`openssl rand -hex 24`"
        )
