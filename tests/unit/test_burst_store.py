"""What the burst controller remembers: it survives, and of two writers the second one notices."""

import pytest

from runtime.burst.policy import Switch
from runtime.burst.state import GroupState, State
from runtime.burst.store import Kept, OvertakenError, Store, StoreError
from runtime.cluster import object_path
from tests.support.cluster_double import ClusterDouble

STATE = object_path("v1", "ConfigMap", "llm", "burst-state")
RESERVED = State(at=5.0, groups={"l40s": GroupState(reserved=3)})


@pytest.fixture
def cluster() -> ClusterDouble:
    cluster = ClusterDouble()
    cluster.add(STATE, {"data": {}})
    return cluster


def store(cluster: ClusterDouble) -> Store:
    return Store(cluster, "llm", "burst-state")


def test_an_empty_one_is_the_beginning(cluster: ClusterDouble) -> None:
    assert store(cluster).load() == Kept()


def test_what_was_saved_is_there_for_the_next_controller(cluster: ClusterDouble) -> None:
    first = store(cluster)
    first.load()
    first.save(RESERVED, "leader: a")
    found = store(cluster).load()
    assert (found.state, found.notes) == (RESERVED, "leader: a")


def test_a_state_that_another_has_written_since_is_not_overwritten(cluster: ClusterDouble) -> None:
    first, second = store(cluster), store(cluster)
    first.load()
    second.load()
    second.save(RESERVED, "leader: b")
    with pytest.raises(OvertakenError):
        first.save(State(at=6.0), "leader: a")
    assert store(cluster).load().state == RESERVED


def test_a_switch_that_is_set_meanwhile_does_not_stop_the_leader_and_is_not_lost(
    cluster: ClusterDouble,
) -> None:
    leader = store(cluster)
    leader.load()
    store(cluster).set_switch(Switch(mode="off"))
    leader.save(RESERVED, "leader: a")
    found = leader.load()
    assert (found.state, found.switch) == (RESERVED, Switch(mode="off"))


def test_a_switch_that_is_taken_away_gives_the_stack_file_its_say_back(cluster: ClusterDouble) -> None:
    store(cluster).set_switch(Switch(mode="off"))
    store(cluster).set_switch(None)
    assert store(cluster).load().switch is None


def test_a_write_whose_answer_was_lost_is_not_another_controllers(cluster: ClusterDouble) -> None:
    leader = store(cluster)
    leader.load()
    cluster.lose_answers = True
    with pytest.raises(StoreError) as error:
        leader.save(RESERVED, "leader: a")
    assert not isinstance(error.value, OvertakenError)
    cluster.lose_answers = False
    leader.save(RESERVED, "leader: a")


def test_what_is_armed_may_be_several_versions_of_a_model(cluster: ClusterDouble) -> None:
    store(cluster).arm({"llama": ("old", "new")})
    assert store(cluster).load().armed == {"llama": ("old", "new")}


@pytest.mark.parametrize(("key", "text"), [("switch", "{"), ("switch", '{"mode": "on"}'), ("armed", "[1]")])
def test_what_cannot_be_read_counts_as_less_and_is_said(cluster: ClusterDouble, key: str, text: str) -> None:
    cluster.add(STATE, {"data": {key: text}})
    found = store(cluster).load()
    assert found.problems
    assert (found.switch or Switch(mode="off")).mode == "off"
    assert found.armed == {}


def test_a_state_that_cannot_be_read_is_not_begun_anew_by_itself(cluster: ClusterDouble) -> None:
    cluster.add(STATE, {"data": {"state": '{"version": 99}'}})
    with pytest.raises(StoreError, match="version 99"):
        store(cluster).load()


def test_an_api_that_does_not_answer_or_has_no_such_object_is_said(cluster: ClusterDouble) -> None:
    cluster.down = True
    with pytest.raises(StoreError, match="no answer"):
        store(cluster).load()
    cluster.down = False
    cluster.objects.clear()
    with pytest.raises(StoreError, match="pulumi up"):
        store(cluster).load()
