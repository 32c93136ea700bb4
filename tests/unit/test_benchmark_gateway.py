"""The gateway benchmark: what wrk's line says, and where LiteLLM comes from."""

import re

from benchmarks.gateway import litellm_tool, parse_wrk
from rehearsal.workspace import PROJECT

SAID = """\
Running 10s test @ http://127.0.0.1:4000/v1/chat/completions
  1 threads and 64 connections

RESULT {"requests": 1000, "duration_us": 2000000, "p50_us": 850, "p99_us": 12500, "not_2xx": 40, "broken": 3}
"""


def test_latencies_of_wrk_are_read_in_milliseconds() -> None:
    shot = parse_wrk(SAID)
    assert (shot.p50_ms, shot.p99_ms) == (0.85, 12.5)


def test_an_answer_that_is_an_error_counts_as_failure_and_not_as_throughput() -> None:
    shot = parse_wrk(SAID)
    assert shot.per_s == (1000 - 40) / 2
    assert shot.failures == 43


def test_litellm_has_the_version_that_its_pins_name() -> None:
    pins = (PROJECT / "benchmarks/litellm/requirements.txt").read_text()
    assert f"litellm=={litellm_tool().version} " in pins


def test_every_pin_of_litellm_has_a_hash() -> None:
    pins = (PROJECT / "benchmarks/litellm/requirements.txt").read_text()
    names = re.findall(r"^[a-z0-9].*==.*$", pins, re.MULTILINE)
    assert names
    assert [name for name in names if f"{name}\n    --hash=sha256:" not in pins] == []


def test_litellm_is_no_dependency_of_the_project() -> None:
    assert "litellm" not in (PROJECT / "pyproject.toml").read_text()
    assert 'name = "litellm"' not in (PROJECT / "uv.lock").read_text()
