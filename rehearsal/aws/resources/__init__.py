"""The resource types that the stand-in provider serves, and what each does to the double."""

from collections.abc import Mapping

from rehearsal.aws.resources import (
    cluster,
    containers,
    entrance,
    hosting,
    identity,
    network,
    operations,
    secrets,
    storage,
)
from rehearsal.aws.resources.kind import Kind
from rehearsal.aws.resources.stored import STORED

_REAL = (
    *network.KINDS,
    *cluster.KINDS,
    *identity.KINDS,
    *storage.KINDS,
    *entrance.KINDS,
    *operations.KINDS,
    *hosting.KINDS,
    *containers.KINDS,
    *secrets.KINDS,
)

KINDS: Mapping[str, Kind] = {kind.token: kind for kind in (*_REAL, *STORED)}
"""Every type that is served, by its token. A type that is not here is refused at preview."""
