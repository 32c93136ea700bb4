"""Leader election: one acts, a silent one is replaced, and nobody acts on a Lease that has run out."""

from collections.abc import Callable

from runtime.burst.leader import Leader
from runtime.cluster import object_path
from tests.support.cluster_double import ClusterDouble

LEASE = object_path("coordination.k8s.io/v1", "Lease", "llm", "burst")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def site() -> tuple[ClusterDouble, Clock, Callable[[str], Leader]]:
    cluster, clock = ClusterDouble(), Clock()
    cluster.add(LEASE, {"spec": {}})

    def candidate(name: str) -> Leader:
        return Leader(cluster, "llm", "burst", name, duration_s=10, clock=clock)

    return cluster, clock, candidate


def test_a_lease_without_a_holder_is_taken_at_once_and_by_one_only() -> None:
    _, _, candidate = site()
    first, second = candidate("a"), candidate("b")
    assert first.try_to_lead()
    assert not second.try_to_lead()
    assert second.holder == "a"


def test_a_holder_that_renews_is_not_replaced_however_long_it_holds() -> None:
    _, clock, candidate = site()
    first, second = candidate("a"), candidate("b")
    for _ in range(60):
        assert first.try_to_lead()
        assert not second.try_to_lead()
        clock.now += 2


def test_a_holder_that_falls_silent_is_replaced_after_the_leases_duration() -> None:
    cluster, clock, candidate = site()
    first, second = candidate("a"), candidate("b")
    first.try_to_lead()
    second.try_to_lead()
    clock.now += 9.9
    assert not second.try_to_lead()
    clock.now += 0.2
    assert second.try_to_lead()
    assert cluster.objects[LEASE]["spec"]["leaseTransitions"] == 2
    assert not first.leads()


def test_a_holder_that_cannot_renew_stops_before_another_can_begin() -> None:
    cluster, clock, candidate = site()
    first, second = candidate("a"), candidate("b")
    first.try_to_lead()
    clock.now += 0.5
    # It sees the renewal later than it was made, so its time ends later too.
    second.try_to_lead()
    cluster.down = True
    led_until = clock.now
    while clock.now < 1030:
        clock.now += 0.1
        if first.try_to_lead():
            led_until = clock.now
        assert not second.leads()
    cluster.down = False
    assert led_until < 1010
    assert second.try_to_lead()
    assert not first.try_to_lead()


def test_what_begins_late_in_a_lease_is_not_begun() -> None:
    _, clock, candidate = site()
    leader = candidate("a")
    leader.try_to_lead()
    clock.now += 6
    assert leader.leads()
    assert not leader.leads(for_s=5)


def test_one_that_resigns_is_replaced_at_once() -> None:
    _, _, candidate = site()
    first, second = candidate("a"), candidate("b")
    first.try_to_lead()
    assert not second.try_to_lead()
    first.resign()
    assert not first.leads()
    assert second.try_to_lead()


def test_of_two_that_write_at_the_same_time_one_leads() -> None:
    cluster, _, candidate = site()
    first, second = candidate("a"), candidate("b")
    read = cluster.get

    def read_and_be_overtaken(path: str, accept: str = "application/json") -> object:
        found = read(path)
        cluster.get = read
        assert second.try_to_lead()
        return found

    cluster.get = read_and_be_overtaken  # pyright: ignore[reportAttributeAccessIssue]
    assert not first.try_to_lead()
    assert second.leads()


def test_a_renewal_whose_answer_was_lost_does_not_end_the_lead() -> None:
    cluster, clock, candidate = site()
    leader = candidate("a")
    leader.try_to_lead()
    clock.now += 2
    cluster.lose_answers = True
    assert leader.try_to_lead()
    assert "lost" in leader.problem
    cluster.lose_answers = False
    clock.now += 2
    assert leader.try_to_lead()
    assert leader.problem == ""


def test_a_missing_lease_is_named() -> None:
    cluster, _, candidate = site()
    cluster.objects.clear()
    leader = candidate("a")
    assert not leader.try_to_lead()
    assert "pulumi up" in leader.problem
