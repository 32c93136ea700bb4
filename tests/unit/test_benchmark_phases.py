"""Phases of `make up`, read from what it prints."""

from dataclasses import asdict

import pytest

from benchmarks.bring_up import Line, phases, tools_of

COLD = """\
  ...     pulumi 3.255.0: build: 0 packages compiled, 1 modules downloaded (2.0 s)
  done    pulumi 3.255.0: build: 1654 packages compiled, 249 modules downloaded (216.9 s)
  done    etcd 3.6.5 (33.5 s)
  done    machine, network, certificates (0.1 s)
  done    kube-apiserver (2.9 s)
  done    service accounts (6.6 s)
  ...     pulumi up: 38 resources, create Release kuberay since 1 s (12.0 s)
          create Release kuberay took 2.4 s
          create RayService tiny took 102.8 s
          create Job tiny-check took 27.4 s
  done    pulumi up: 44 resources (145.0 s)
  done    a streamed chat completion through the gateway: 16 chunks, the first after 97 ms (0.3 s)

The platform is up: spillway-tiny answered 16 chunks in 0.28 s.

real	6m55.7s
user	0m41.0s
"""


def lines(text: str) -> list[Line]:
    return [Line(line) for line in text.splitlines()]


def test_a_log_without_times_gives_every_phase_and_the_site_as_what_is_left_of_the_whole() -> None:
    found = phases(lines(COLD))
    assert asdict(found) == pytest.approx(
        {
            "tools": 250.4,
            "site": 415.7 - 250.4 - 145.0 - 0.3,
            "update": 145.0,
            "ray_service": 102.8,
            "serving_check": 27.4,
            "answer": 0.3,
            "total": 415.7,
        }
    )


def test_of_lines_with_times_each_phase_lasts_until_the_next_one_begins() -> None:
    # The components of the site start beside each other, so their own seconds do not add up.
    found = phases(
        [
            Line("  done    machine, network, certificates (0.5 s)", 3.5),
            Line("  done    etcd (4.0 s)", 8.0),
            Line("  done    kube-apiserver (4.5 s)", 9.0),
            Line("  done    pulumi up: 44 resources (100.0 s)", 120.0),
            Line("  done    a streamed chat completion through the gateway: 16 chunks (1.0 s)", 121.0),
        ]
    )
    assert (found.tools, found.site, found.update, found.answer) == (3.0, 17.0, 100.0, 1.0)
    assert found.total == 121.0


def test_what_a_log_does_not_tell_is_left_open() -> None:
    found = phases(lines("  done    machine, network, certificates (0.1 s)\n  done    etcd (0.4 s)"))
    assert (found.site, found.update, found.ray_service, found.serving_check) == (None, None, None, None)
    assert (found.answer, found.total) == (None, None)


def test_the_tools_of_a_log_are_the_steps_before_the_site() -> None:
    assert tools_of(lines(COLD)) == [("pulumi 3.255.0", 216.9), ("etcd 3.6.5", 33.5)]
    assert tools_of(lines("  done    machine, network, certificates (0.1 s)\n  done    etcd (0.4 s)")) == []
