"""The policy benchmark: what it registers, and what its page says."""

import subprocess
import sys

from benchmarks.policy import resources, result
from benchmarks.policy_worker import RESOURCES
from benchmarks.processes import Cost


def test_it_registers_so_many_objects_and_each_under_a_name_of_its_own() -> None:
    made = resources()
    assert len(made) == RESOURCES
    assert len({(one["type"], one["name"]) for one in made}) == RESOURCES
    assert {one["type"].partition(":")[0] for one in made} == {"kubernetes"}


def test_the_page_has_ratios_of_runs_that_were_measured_next_to_each_other() -> None:
    run = {"remediate": 0.3, "analyze": 2.7, "stack": 1.0, "bytes": 300_000, "policies": 55}
    half = {**run, "remediate": 0.0, "analyze": 1.5, "stack": 0.5}
    costs = {
        "no packs": [Cost(5.0, 10.0), Cost(10.0, 20.0)],
        "all, executable": [Cost(5.5, 12.0), Cost(11.0, 24.0)],
    }
    page = result({"stock": [run, run], "ours": [half, half]}, costs, machine()).page()
    assert "| a resource, ms | 10.00 (10.00 to 10.00) | 5.00 (5.00 to 5.00) | 2.0 (2.0 to 2.0) |" in page
    assert (
        "| all, executable | 8.25 (5.50 to 11.00) | 1.10 (1.10 to 1.10) "
        "| 18.00 (12.00 to 24.00) | 1.20 (1.20 to 1.20) |"
    ) in page
    assert "55 policies on 300 resources" in page


def test_the_cost_of_a_command_has_the_cpu_of_what_it_leaves_behind() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    command = f"{sys.executable} -c '{burn}' >/dev/null 2>&1 &"
    # In a process of its own: whoever measures adopts what is left behind.
    code = (
        "import sys; from pathlib import Path; from benchmarks.processes import cost; "
        "print(cost(['sh', '-c', sys.argv[1]], folder=Path('.'), environment={}).cpu_s >= 0.3)"
    )
    done = subprocess.run([sys.executable, "-c", code, command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def machine() -> dict[str, object]:
    names = ("cores", "cpu", "memory_gib", "kernel", "python", "commit", "at", "load_1min_before")
    return dict.fromkeys(names, "x")
