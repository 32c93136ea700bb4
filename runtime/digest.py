"""A short name for content, so that what depends on it changes with it."""

import hashlib
import json


def short_digest(value: object) -> str:
    """Ten hex digits of the SHA-256 of a JSON value; the order of its keys does not count."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:10]
