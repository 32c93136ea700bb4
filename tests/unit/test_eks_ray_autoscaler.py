"""The stand-in for Ray's autoscaler keeps to the bounds of the worker group and waits before it lets go."""

from rehearsal.eks.ray_autoscaler import IDLE_S, wish
from rehearsal.site.api import Json


def cluster(replicas: int | None, least: int = 0, most: int = 4, **options: float) -> Json:
    group: Json = {"minReplicas": least, "maxReplicas": most}
    if replicas is not None:
        group["replicas"] = replicas
    return {"spec": {"workerGroupSpecs": [group], "autoscalerOptions": options}}


def test_copies_become_workers_at_once_and_never_more_than_the_group_allows() -> None:
    assert wish(cluster(None), 2, None, 0.0).replicas == (2,)
    assert wish(cluster(1), 9, None, 0.0).replicas == (4,)


def test_an_idle_worker_stays_for_a_while_and_then_goes() -> None:
    first = wish(cluster(2), 0, None, 100.0)
    assert (first.replicas, first.idle_since) == ((2,), 100.0)
    assert wish(cluster(2), 0, first.idle_since, 100.0 + IDLE_S - 1).replicas == (2,)
    assert wish(cluster(2), 0, first.idle_since, 100.0 + IDLE_S).replicas == (0,)
    assert wish(cluster(2, idleTimeoutSeconds=5), 0, 100.0, 105.0).replicas == (0,)


def test_load_that_comes_back_stops_the_clock() -> None:
    assert wish(cluster(2), 2, 100.0, 130.0).idle_since is None


def test_the_least_of_a_group_stays() -> None:
    assert wish(cluster(2, least=1), 0, 0.0, IDLE_S).replicas == (1,)
