"""The burst simulator: small cases computed by hand, nothing lost, and the same answer each time."""

import itertools
import xml.etree.ElementTree as ET
from array import array
from pathlib import Path

import pytest

from benchmarks.burst import traces
from benchmarks.burst.compare import LIMIT, OURS, PLAIN, QPS, TUNED, Found, Scenario, as_good, compare
from benchmarks.burst.plot import bars
from benchmarks.burst.policies import (
    always,
    cheapest,
    clairvoyant,
    our_policy,
    ours,
    target_qps,
    without_hysteresis,
)
from benchmarks.burst.simulation import (
    Cloud,
    Delays,
    Engine,
    Look,
    Outcome,
    Overflow,
    copies_at_quantile,
    through_cloud,
    through_onprem,
)
from benchmarks.burst.traces import Trace
from benchmarks.processes import BenchmarkError

# One slot and one place in the queue; a request of 1000 and 9 tokens takes 1 s of prefill and 9 s more.
ONE = Engine(slots=1, queue=1, prefill_tokens_s=1000, token_s=1.0)


def requests(*times: float) -> Trace:
    count = len(times)
    return Trace("test", array("d", times), array("i", [1000] * count), array("i", [9] * count))


def busy(kind: str = "spikes", hours: int = 8) -> Overflow:
    day = getattr(traces, kind)(5, 1, 2.0)
    count = sum(time < hours * 3600 for time in day.times)
    trace = Trace(kind, day.times[:count], day.context[:count], day.generated[:count])
    return through_onprem(trace, Engine(slots=8, queue=8), copies_at_quantile(trace, Engine(slots=8)))


def test_on_prem_serves_one_queues_one_and_overflows_the_rest() -> None:
    found = through_onprem(requests(0.0, 1.0, 2.0, 3.0), ONE, copies=1)
    # The first token comes after 1 s, and for the second after 9 s of waiting and 1 s.
    assert [index / 100 for index, count in enumerate(found.onprem.bins) if count] == [1.0, 10.0]
    assert list(found.times) == [2.0, 3.0]
    # At 0 s nobody came yet; at 10 s two are under way and all four have come.
    assert (found.in_flight[:2], found.arrived[:2]) == ([0, 2], [0, 4])


def test_a_slot_that_is_free_again_takes_the_next_one() -> None:
    found = through_onprem(requests(0.0, 10.0, 20.0), ONE, copies=1)
    assert found.onprem.bins[100] == 3
    assert not found.times


def test_the_cloud_takes_what_overflowed_once_it_is_ready() -> None:
    overflow = through_onprem(requests(0.0, 1.0, 2.0, 3.0), ONE, copies=1)
    found = through_cloud(overflow, Cloud(cold_start_s=0, link_s=0), always(1))
    assert (found.onprem, found.spilled, found.refused) == (2, 2, 0)
    # 1, 10, 1, and for the last 9 s of waiting and 1 s.
    assert found.p50_s == pytest.approx(1.01)
    assert found.p95_s == pytest.approx(10.01)
    late = through_cloud(overflow, Cloud(cold_start_s=5, link_s=0), always(1))
    assert (late.spilled, late.refused) == (0, 2)


def test_a_replica_costs_from_launch_to_its_last_request_and_release_and_a_minute_at_least() -> None:
    # Arrivals at 0, 1, 2: the third is in the cloud from 2 to 12; the fourth keeps the trace going.
    overflow = through_onprem(requests(0.0, 1.0, 2.0, 200.0), ONE, copies=1)
    cloud = Cloud(cold_start_s=0, release_s=60, usd_per_hour=36, gpus=4)
    found = through_cloud(overflow, cloud, lambda look: 1 if look.at < 10 else 0)
    assert found.node_hours * 3600 == pytest.approx(72)
    assert found.usd == pytest.approx(0.72)
    assert found.gpu_hours * 3600 == pytest.approx(4 * 72)
    short = Cloud(cold_start_s=0, release_s=1, usd_per_hour=36)
    assert through_cloud(overflow, short, lambda look: int(look.at < 10)).node_hours * 3600 == 60
    whole = through_cloud(overflow, cloud, always(1))
    assert whole.node_hours * 3600 == pytest.approx(220)


@pytest.mark.parametrize("kind", ["diurnal", "spikes", "mixed"])
def test_every_request_is_served_or_refused_and_twice_the_same(kind: str) -> None:
    first, second = busy(kind), busy(kind)
    assert (first.times, first.in_flight) == (second.times, second.in_flight)
    cloud = Cloud()
    outcomes = [
        through_cloud(overflow, cloud, ours(overflow, cloud, our_policy(cloud)))
        for overflow in (first, second)
    ]
    assert outcomes[0] == outcomes[1]
    assert outcomes[0].sent == outcomes[0].onprem + outcomes[0].spilled + outcomes[0].refused
    assert 0 < outcomes[0].refused < len(first.times)


def test_another_seed_is_another_trace() -> None:
    assert traces.spikes(1, 1, 1.0).times != traces.spikes(2, 1, 1.0).times


def test_on_prem_is_sized_at_the_75th_percentile_minute() -> None:
    # Minutes with 60, 120, 180 and 240 requests of 10 s each: 10, 20, 30 and 40 at a time.
    times = [
        minute * 60 + i * 60 / (60 * (minute + 1)) for minute in range(4) for i in range(60 * (minute + 1))
    ]
    engine = Engine(slots=8, prefill_tokens_s=1000, token_s=1.0)
    assert copies_at_quantile(requests(*times), engine, share=0.5) == 4
    assert copies_at_quantile(requests(*times), engine) == 5


def test_a_quantile_is_the_upper_end_of_its_bin() -> None:
    delays = Delays()
    for hundredths in range(100):
        delays.add(hundredths / 100 + 0.001)
    assert delays.quantile(0.5) == pytest.approx(0.5)
    assert delays.quantile(0.95) == pytest.approx(0.95)
    assert Delays().quantile(0.95) == 0


def look(at: float, arrived: int) -> Look:
    return Look(
        at=at, in_flight=0, arrived=arrived, spilled=0, refused=0, ongoing=0, ready=0, wanted=0, nodes=0
    )


def test_target_qps_goes_up_after_300_s_and_down_after_1200_s() -> None:
    policy = target_qps(copies=2, qps=1.0)
    # 50 in 10 s are five a second: five replicas, two of which are on-prem.
    high = [policy(look(tick * 10.0, 50)) for tick in range(60)]
    assert set(high[:30]) == {0}
    assert high[-1] == 3
    assert high.index(3) == pytest.approx(33, abs=4)
    low = [policy(look(600 + tick * 10.0, 0)) for tick in range(160)]
    assert low.index(0) == pytest.approx(123, abs=8)


def test_the_cheapest_way_through_is_that_of_trying_all() -> None:
    lost = [0.0, 3.0, 0.0, 0.5, 0.0, 0.0, 0.0, 4.0, 2.0, 0.0]

    def cost(states: tuple[bool, ...]) -> float:
        starts = sum(now and not before for before, now in zip((False, *states), states, strict=False))
        return starts * 2.0 + sum(1.0 if on else loss for on, loss in zip(states, lost, strict=True))

    best = min(cost(states) for states in itertools.product((False, True), repeat=len(lost)))
    assert cost(tuple(cheapest(lost, on_usd=1.0, start_usd=2.0))) == pytest.approx(best)


def test_more_money_per_refusal_buys_fewer_refusals() -> None:
    overflow, cloud = busy(), Cloud()
    cheap, dear = (through_cloud(overflow, cloud, clairvoyant(overflow, cloud, usd)) for usd in (0.005, 1.0))
    assert cheap.usd < dear.usd
    assert cheap.refused > dear.refused


def test_hysteresis_saves_starts() -> None:
    overflow, cloud = busy(), Cloud()
    ours_, without = (
        through_cloud(overflow, cloud, ours(overflow, cloud, policy))
        for policy in (our_policy(cloud), without_hysteresis(cloud, 1.5))
    )
    assert ours_.starts < without.starts / 2


def test_rivals_are_as_good_as_ours_and_none_is_cheaper_than_the_one_that_knows_the_future() -> None:
    found = compare(busy(hours=2), Cloud()).found
    mine = found[OURS].outcome
    equal = [one for one in found.values() if one.equal]
    assert len(equal) >= 5
    assert all(as_good(one.outcome, mine) for one in equal)
    assert min(equal, key=lambda one: one.outcome.usd).policy == "clairvoyant"


def at_cost(policy: str, usd: float, *, equal: bool = True) -> Found:
    outcome = Outcome(
        sent=9,
        onprem=9,
        spilled=0,
        refused=0,
        p50_s=0,
        p95_s=0,
        node_hours=0,
        usd=usd,
        gpu_hours=0,
        starts=0,
        replicas=[],
    )
    return Found(policy=policy, parameter="", outcome=outcome, equal=equal)


def test_the_ratio_is_our_gap_over_that_of_the_cheapest_rival_that_is_as_good() -> None:
    found = [
        at_cost(LIMIT, 100),
        at_cost(OURS, 110),
        at_cost(PLAIN, 105, equal=False),
        at_cost(QPS, 140),
        at_cost(TUNED, 120),
    ]
    scenario = Scenario(
        trace="t", cold_start_s=180, copies=1, overflow=0.1, found={one.policy: one for one in found}
    )
    assert scenario.best_rival == scenario.found[QPS]
    assert scenario.ratio(scenario.found[QPS]) == pytest.approx(0.25)
    assert scenario.ratio(scenario.found[TUNED]) == pytest.approx(0.5)
    assert scenario.ratio(scenario.found[PLAIN]) is None
    assert scenario.ratio(at_cost(QPS, 99)) is None


def test_a_csv_trace_is_read_and_sorted(tmp_path: Path) -> None:
    file = tmp_path / "some-trace.csv"
    file.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:50.9951690,396,109\n"
        "2023-11-16 18:15:46.6805900,374,44\n"
    )
    trace = traces.from_csv(file)
    assert trace.name == "some-trace"
    assert list(trace.times) == pytest.approx([0, 4.314579])
    assert (list(trace.context), list(trace.generated)) == ([374, 396], [44, 109])


@pytest.mark.parametrize("text", ["A,B\n1,2\n", "TIMESTAMP,ContextTokens,GeneratedTokens\nsoon,1,2\n"])
def test_a_csv_that_is_no_trace_is_refused_with_what_it_needs(tmp_path: Path, text: str) -> None:
    file = tmp_path / "wrong.csv"
    file.write_text(text)
    with pytest.raises(BenchmarkError, match="needs the columns TIMESTAMP, ContextTokens"):
        traces.from_csv(file)


def test_the_picture_is_svg_with_a_bar_for_each_value() -> None:
    root = ET.fromstring(bars("a < b", {"one": {"x": 1.0, "y": 0.0}, "two": {"x": 3.0}}, "$"))
    found = root.findall("{http://www.w3.org/2000/svg}rect")
    assert len(found) == 1 + 3
