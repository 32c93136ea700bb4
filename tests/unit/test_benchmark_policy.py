"""The policy benchmark: what it registers, and what its page says."""

from benchmarks.measures import Spread
from benchmarks.policy import resources, result
from benchmarks.policy_worker import RESOURCES


def test_it_registers_so_many_objects_and_each_under_a_name_of_its_own() -> None:
    made = resources()
    assert len(made) == RESOURCES
    assert len({(one["type"], one["name"]) for one in made}) == RESOURCES
    assert {one["type"].partition(":")[0] for one in made} == {"kubernetes"}


def test_the_page_has_ratios_of_runs_that_were_measured_next_to_each_other() -> None:
    run = {"remediate": 0.3, "analyze": 2.7, "stack": 1.0, "bytes": 300_000, "policies": 55}
    half = {**run, "remediate": 0.0, "analyze": 1.5, "stack": 0.5}
    spreads = {
        "no packs": Spread((10.0, 20.0)),
        "all, one process": Spread((11.0, 22.0)),
        "all, stock SDK": Spread((12.0, 24.0)),
        "four processes": Spread((15.0, 30.0)),
    }
    page = result({"stock": [run, run], "once": [half, half]}, spreads, machine()).page()
    assert "| a resource, ms | 10.00 (10.00 to 10.00) | 5.00 (5.00 to 5.00) | 2.0 (2.0 to 2.0) |" in page
    assert "| all, one process | 16.50 (11.00 to 22.00) | 1.10 (1.10 to 1.10) |" in page
    assert "55 policies on 300 resources" in page


def machine() -> dict[str, object]:
    names = ("cores", "cpu", "memory_gib", "kernel", "python", "commit", "at", "load_1min_before")
    return dict.fromkeys(names, "x")
