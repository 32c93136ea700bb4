"""The stand-in for the cluster autoscaler decides from tags, bounds and pending pods."""

from dataclasses import replace

import pytest
import yaml

from rehearsal.eks.autoscaler_status import BACK_OFF_S, BackOff, status
from rehearsal.eks.node_autoscaler import ENABLED_TAG, Group, plan
from rehearsal.site.api import Json

TEMPLATE = "k8s.io/cluster-autoscaler/node-template"
GPU = "nvidia.com/gpu"
TAGS = {
    ENABLED_TAG: "true",
    f"{TEMPLATE}/label/nvidia.com/gpu.product": "NVIDIA-L40S",
    f"{TEMPLATE}/taint/{GPU}": "present:NoSchedule",
    f"{TEMPLATE}/resources/{GPU}": "4",
}
GROUP = Group(
    name="g6e",
    least=0,
    most=2,
    desired=0,
    tags=TAGS,
    machine={"cpu": 48, "memory": 384 * 2**30, GPU: 4},
)


def pod(name: str, gpus: int = 4, *, pending: bool = True, **spec: object) -> Json:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    return {
        "metadata": {"name": name},
        "status": {"phase": "Pending", "conditions": [condition] if pending else []},
        "spec": {
            "containers": [{"resources": {"limits": {GPU: str(gpus), "cpu": "8", "memory": "64Gi"}}}],
            "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-L40S", "type": "kwok"},
            "tolerations": [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}],
            **spec,
        },
    }


def test_a_pending_pod_makes_a_group_at_zero_grow_by_the_nodes_it_needs() -> None:
    assert plan([GROUP], [pod("a")], {}, 600).desired == {"g6e": 1}
    assert plan([GROUP], [pod("a", 2), pod("b", 2)], {}, 600).desired == {"g6e": 1}
    assert plan([GROUP], [pod("a", 2), pod("b", 3)], {}, 600).desired == {"g6e": 2}


def test_nodes_that_are_on_their_way_are_not_asked_for_again() -> None:
    assert plan([replace(GROUP, desired=1)], [pod("a")], {}, 600).desired == {}


def test_room_on_a_node_that_has_just_joined_is_used_before_another_is_asked_for() -> None:
    joined = replace(GROUP, desired=1, existing=frozenset({"n1"}))
    assert plan([joined], [pod("a")], {}, 600).desired == {}
    there = pod("b", 3, pending=False, nodeName="n1")
    assert plan([joined], [pod("a", 1), there], {}, 600).desired == {}
    assert plan([joined], [pod("a", 2), there], {}, 600).desired == {"g6e": 2}


def test_a_group_never_grows_beyond_its_most_and_says_so() -> None:
    decided = plan([GROUP], [pod("a"), pod("b"), pod("c")], {}, 600)
    assert decided.desired == {"g6e": 2}
    assert decided.unplaced == {"c": "g6e: is at its most, 2"}


def test_a_missing_or_wrong_tag_keeps_a_group_at_zero() -> None:
    for key in TAGS:
        if key.endswith("/taint/nvidia.com/gpu"):
            continue  # a taint that is not told is only met when the node is there
        without = {name: value for name, value in TAGS.items() if name != key}
        decided = plan([replace(GROUP, tags=without)], [pod("a")], {}, 600)
        assert decided.desired == {}, key
        assert "a" in decided.unplaced


def test_a_pod_that_does_not_tolerate_the_taint_wakes_no_node() -> None:
    assert plan([GROUP], [pod("a", tolerations=[])], {}, 600).desired == {}


def test_a_pod_that_is_placed_or_starting_wakes_no_node() -> None:
    assert plan([GROUP], [pod("a", pending=False)], {}, 600).desired == {}


def test_an_empty_node_goes_after_its_time_but_never_below_the_least_and_not_while_pods_wait() -> None:
    busy = replace(GROUP, desired=2, existing=frozenset({"n1", "n2"}))
    assert plan([busy], [], {"n1": 599, "n2": 0}, 600).remove == []
    assert plan([busy], [], {"n1": 600, "n2": 0}, 600).remove == [("g6e", "n1")]
    assert plan([replace(busy, least=2)], [], {"n1": 600}, 600).remove == []
    assert plan([busy], [pod("a", 9)], {"n1": 600}, 600).remove == []


def test_after_a_failed_launch_a_group_is_left_alone_and_what_was_asked_in_vain_is_given_up() -> None:
    asked = replace(GROUP, desired=2, existing=frozenset({"n1"}))
    busy = pod("b", pending=False, nodeName="n1")
    assert plan([asked], [pod("a"), busy], {}, 600, {"g6e"}).desired == {"g6e": 1}
    assert plan([GROUP], [pod("a")], {}, 600, {"g6e"}).desired == {}


def test_a_group_backs_off_once_for_each_failed_launch() -> None:
    back_off, failed = BackOff(), replace(GROUP, failed=frozenset({"one"}))
    assert back_off.groups([GROUP], 0.0) == frozenset()
    assert back_off.groups([failed], 1.0) == {"g6e"}
    assert back_off.groups([failed], 1.0 + BACK_OFF_S) == frozenset()
    again = replace(GROUP, failed=frozenset({"one", "two"}))
    assert back_off.groups([again], 20.0) == {"g6e"}


@pytest.mark.parametrize(
    ("desired", "backed_off", "activity"),
    [(0, (), "NoActivity"), (2, (), "InProgress"), (2, ("g6e",), "Backoff")],
)
def test_the_status_says_what_was_asked_of_the_cloud_and_whether_launches_fail(
    desired: int, backed_off: tuple[str, ...], activity: str
) -> None:
    told = yaml.safe_load(status([replace(GROUP, desired=desired)], backed_off)["data"]["status"])
    (group,) = told["nodeGroups"]
    assert group["health"]["cloudProviderTarget"] == desired
    assert group["scaleUp"]["status"] == activity
