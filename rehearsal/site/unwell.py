"""Says in words what is wrong on a site beside its components: pods that are not ready, and a full disk."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from rehearsal.site.api import Json

# Below this containerd and etcd are about to fail; the images of a site alone take about as much.
LEAST_FREE_BYTES = 200_000_000


def disk_problem(folder: Path, least_free_bytes: int = LEAST_FREE_BYTES) -> str | None:
    """Says that the disk of a folder, or of the parent that is there, is nearly full; None if it is not."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free >= least_free_bytes:
        return None
    return (
        f"disk: only {free / 1e6:.0f} MB are free at {there}, and Pulumi loses its state on a full disk; "
        f"free {least_free_bytes / 1e6:.0f} MB or more and run the same command again"
    )


def pod_problems(pods: Sequence[Json]) -> list[str]:
    """Lists what is wrong with pods, one line each; those that ended well or are ready have no line."""
    lines: list[str] = []
    for pod in pods:
        metadata = pod["metadata"]
        if problem := _pod_problem(pod):
            lines.append(f"pod {metadata['namespace']}/{metadata['name']}: {problem}")
    return lines


def _pod_problem(pod: Json) -> str | None:
    status: Json = pod.get("status", {})
    phase = status.get("phase")
    # A Job makes another pod for one that failed, and the new one tells how it stands.
    if phase == "Succeeded" or (phase == "Failed" and _belongs_to_job(pod)):
        return None
    if pod["metadata"].get("deletionTimestamp"):
        return "is being deleted"
    conditions = {str(one["type"]): one for one in status.get("conditions", [])}
    if conditions.get("Ready", {}).get("status") == "True":
        return None
    if conditions.get("PodScheduled", {}).get("status") == "False":
        return f"is not placed: {conditions['PodScheduled'].get('message', '')}"
    containers: list[Json] = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    told = [words for container in containers if (words := _container_problem(container))]
    return "; ".join(told) or str(status.get("message") or status.get("reason") or f"is {phase}, not ready")


def _container_problem(container: Json) -> str | None:
    if container.get("ready"):
        return None
    name, state = container["name"], container.get("state", {})
    ended: Json | None = state.get("terminated") or container.get("lastState", {}).get("terminated")
    before = f"; it ended with exit status {ended['exitCode']} ({ended.get('reason')})" if ended else ""
    if state.get("terminated"):
        return None if ended and ended["exitCode"] == 0 else f"{name} does not run{before}"
    if waiting := state.get("waiting"):
        return f"{name} waits: {waiting.get('message') or waiting.get('reason')}{before}"
    return f"{name} runs but is not ready yet{before}"


def _belongs_to_job(pod: Json) -> bool:
    owners: list[Json] = pod["metadata"].get("ownerReferences", [])
    return any(owner["kind"] == "Job" for owner in owners)
