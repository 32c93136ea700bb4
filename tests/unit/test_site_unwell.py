"""What `make site-status` says of pods and of the disk."""

from pathlib import Path
from typing import Any

from rehearsal.site.unwell import disk_problem, pod_problems


def pod(phase: str = "Running", *, owner: str = "ReplicaSet", **status: Any) -> dict[str, Any]:
    metadata = {"namespace": "llm", "name": "envoy", "ownerReferences": [{"kind": owner}]}
    return {"metadata": metadata, "status": {"phase": phase, **status}}


def container(state: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "main", "ready": False, "state": state, **more}


def problem(one: dict[str, Any]) -> str:
    (line,) = pod_problems([one])
    return line


def test_pods_that_are_ready_or_ended_well_have_no_line() -> None:
    ready = pod(conditions=[{"type": "Ready", "status": "True"}])
    assert pod_problems([ready, pod("Succeeded"), pod("Failed", owner="Job")]) == []


def test_a_killed_container_says_how_it_ended() -> None:
    killed = {"terminated": {"exitCode": 137, "reason": "Error"}}
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting"}}
    line = problem(pod(containerStatuses=[container(waiting, lastState=killed)]))
    assert line == "pod llm/envoy: main waits: back-off 10s restarting; it ended with exit status 137 (Error)"
    line = problem(pod(containerStatuses=[container(killed)]))
    assert line == "pod llm/envoy: main does not run; it ended with exit status 137 (Error)"
    line = problem(pod(containerStatuses=[container({"running": {}})]))
    assert line == "pod llm/envoy: main runs but is not ready yet"


def test_a_pod_without_a_node_gives_the_schedulers_reason() -> None:
    condition = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes: 3 Insufficient gpu"}
    assert problem(pod("Pending", conditions=[condition])).endswith(
        "is not placed: 0/3 nodes: 3 Insufficient gpu"
    )


def test_an_evicted_pod_gives_the_kubelets_reason() -> None:
    assert problem(pod("Failed", message="The node was low on resource: memory")).endswith(
        "low on resource: memory"
    )


def test_a_full_disk_says_so_also_for_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    assert disk_problem(folder, 0) is None
    line = disk_problem(folder, 1 << 62)
    assert line is not None
    assert f"MB are free at {tmp_path}, " in line
    assert "MB or more and run the same command again" in line
