"""The command line of the benchmarks, and the flags that the engine without Ray gets."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks import __main__ as command
from benchmarks.processes import BenchmarkError, output
from benchmarks.results import Result
from benchmarks.serving import engine_flags
from rehearsal.workspace import PROJECT
from runtime.serving.ray_service import RayRuntime
from stacks.settings import parse


def test_all_runs_every_benchmark_although_one_fails_and_then_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(arguments: list[str], *, check: bool) -> subprocess.CompletedProcess[str]:
        ran.append(arguments[3:])
        return subprocess.CompletedProcess(arguments, int(arguments[3] == "gateway"))

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "all", "--quick"])
    assert command.main() == 1
    assert ran == [[name, "--quick"] for name in command.BENCHMARKS]


def test_every_benchmark_has_a_section_in_the_page_about_them() -> None:
    page = (PROJECT / "docs/benchmarks.md").read_text()
    assert [name for name in command.BENCHMARKS if f"| `{name}` |" not in page] == []


def test_a_command_that_fails_is_an_error_with_the_end_of_what_it_said() -> None:
    with pytest.raises(BenchmarkError, match=r"ended with 3:\nline 6\n(.*\n)*line 20$"):
        output(["sh", "-c", "for i in $(seq 20); do echo line $i; done; exit 3"])


def test_a_result_is_a_page_and_a_file_that_names_the_machine(tmp_path: Path) -> None:
    machine = {
        "cpu": "a CPU",
        "cores": 2,
        "memory_gib": 23.5,
        "kernel": "6.1",
        "python": "3.11.7",
        "load_1min_before": 0.1,
        "commit": "abc",
        "at": "2026-01-01",
    }
    Result(name="site", title="Start", machine=machine, data={"s": [1]}, tables=["a table"]).write(tmp_path)
    assert (tmp_path / "site.md").read_text() == (
        "# Start\n\n2 cores of a CPU, 23.5 GiB, Linux 6.1, Python 3.11.7; commit abc, 2026-01-01, load "
        "before 0.1.\n\na table\n"
    )
    assert yaml.safe_load((tmp_path / "site.json").read_text()) == {
        "benchmark": "site",
        "machine": machine,
        "s": [1],
    }


def test_vllm_without_ray_gets_the_engine_arguments_of_the_stack_as_flags() -> None:
    document = yaml.safe_load((PROJECT / "stacks/Pulumi.local.yaml").read_text())
    settings = parse(document["config"]["spillway:platform"])
    ray = RayRuntime(version=settings.ray.version, image=settings.ray.image, auth_secret="unused")
    flags = engine_flags(settings.models[0], ray)
    pairs = set(itertools.pairwise(flags))
    assert {("--max-model-len", "256"), ("--max-num-seqs", "4"), ("--load-format", "dummy")} <= pairs
