"""Waits for objects that an interrupted `destroy` left to their finalizers: they look alive and are not."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from runtime.cluster import Objects
from runtime.ops.progress import Progress

PATIENCE_S = 300.0
_LOOK_S = 1.0


class DeletionError(Exception):
    """An object does not go; the text is the whole message."""


@dataclass(frozen=True)
class ObjectReference:
    """What an object is called in a cluster; `namespace` is None for what is in none."""

    api_version: str
    kind: str
    namespace: str | None
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {f'{self.namespace}/' if self.namespace else ''}{self.name}"


def await_deletions(
    objects: Iterable[ObjectReference], cluster: Objects, progress: Progress, patience_s: float = PATIENCE_S
) -> None:
    """Returns when none of the objects is being deleted any more.

    Pulumi takes an object with a deletion timestamp for one that is there, refresh or not, and an `up` then
    waits for what vanishes under it.

    Args:
        objects: Where to look.
        cluster: Whom to ask.
        progress: Where it is shown.
        patience_s: Seconds to wait for all of them.

    Raises:
        DeletionError: One is still there after that.
        ClusterError: The cluster cannot be asked.
    """
    leaving = [one for one in objects if _finalizers(one, cluster) is not None]
    if not leaving:
        return
    deadline = time.monotonic() + patience_s
    with progress.step("what an interrupted destroy left to end") as step:
        for one in leaving:
            step.update(str(one))
            while (finalizers := _finalizers(one, cluster)) is not None:
                if time.monotonic() > deadline:
                    why = f"it waits for {', '.join(finalizers)}" if finalizers else "its pods still end"
                    place = f" -n {one.namespace}" if one.namespace else ""
                    raise DeletionError(
                        f"{one} is being deleted for more than {patience_s:.0f} s: {why}; see what "
                        f"`kubectl describe {one.kind.lower()} {one.name}{place}` says, then run the same "
                        "command again"
                    )
                time.sleep(_LOOK_S)


def _finalizers(one: ObjectReference, cluster: Objects) -> list[str] | None:
    """What still has to agree to its deletion; None if it is not being deleted."""
    found = cluster.metadata(one.api_version, one.kind, one.namespace, one.name)
    if found is None or not found.get("deletionTimestamp"):
        return None
    return [str(finalizer) for finalizer in found.get("finalizers") or ()]
