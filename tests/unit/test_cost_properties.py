"""What holds of every estimate, whatever the sizes."""

from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as some

from runtime.cost.amounts import NOTHING, Band, total
from runtime.cost.difference import Difference
from runtime.cost.estimate import Estimate, estimate
from runtime.cost.summary import by_place, rows
from runtime.pricing import prices
from runtime.stack_resources import UNKNOWN, StackResource

PROVIDER = StackResource(
    urn="urn:aws", type="pulumi:providers:aws", name="aws", inputs={"region": "us-east-1"}
)
TYPES = some.sampled_from(sorted(item for item in prices("us-east-1") if item.startswith(("g", "p", "m"))))
SIZES = some.integers(0, 50)


@some.composite
def groups(draw: some.DrawFn) -> StackResource:
    least, more = draw(SIZES), draw(SIZES)
    inputs: dict[str, Any] = {
        "scalingConfig": {"minSize": least, "desiredSize": least, "maxSize": least + more},
        "instanceTypes": draw(some.lists(TYPES, min_size=1, max_size=3)),
        "subnetIds": draw(some.lists(some.just(UNKNOWN), max_size=3)),
        "updateConfig": draw(some.sampled_from([None, {"updateStrategy": "MINIMAL"}, {"maxUnavailable": 5}])),
    }
    name = draw(some.text("abc", min_size=1, max_size=3))
    return StackResource(
        urn=f"urn:{name}",
        type="aws:eks/nodeGroup:NodeGroup",
        name=name,
        provider="urn:aws",
        inputs=inputs,
    )


STACKS = some.lists(groups(), max_size=4).map(lambda found: estimate([PROVIDER, *found]))


@settings(deadline=None, max_examples=50)
@given(STACKS)
def test_the_floor_is_never_above_what_is_expected_nor_that_above_the_ceiling(found: Estimate) -> None:
    for band in (found.hourly, *(one.count for one in found.devices)):
        assert band.ceiling is not None
        assert band.floor <= band.expected <= band.ceiling


@settings(deadline=None, max_examples=50)
@given(STACKS)
def test_the_sum_of_the_places_and_of_the_rows_is_the_sum(found: Estimate) -> None:
    for amounts in (
        [amount for _, amount in by_place(found)],
        [row.amount for row in rows(found)],
    ):
        assert _close(total(amount for amount in amounts if amount is not None), found.hourly)


@settings(deadline=None, max_examples=50)
@given(STACKS, STACKS)
def test_a_change_there_and_back_is_none(one: Estimate, other: Estimate) -> None:
    there, back = Difference(before=one, after=other).hourly, Difference(before=other, after=one).hourly
    assert all((a or Decimal(0)) + (b or Decimal(0)) == 0 for a, b in zip(there, back, strict=True))
    assert Difference(before=one, after=one).is_empty


@given(some.lists(some.tuples(SIZES, SIZES, SIZES), max_size=5))
def test_bands_add_and_multiply_end_by_end(sizes: list[tuple[int, int, int]]) -> None:
    bands = [Band(Decimal(a), Decimal(b), Decimal(c)) for a, b, c in sizes]
    doubled = total(bands) * Band.same(2)
    assert doubled == total([*bands, *bands])
    assert NOTHING * Band(Decimal(0), Decimal(0), None) == NOTHING
    assert (Band(Decimal(0), Decimal(0), None) + total(bands)).ceiling is None


def _close(one: Band, other: Band) -> bool:
    return all(abs(a - b) < Decimal("1e-15") for a, b in zip(_ends(one), _ends(other), strict=True))


def _ends(band: Band) -> tuple[Decimal, Decimal, Decimal]:
    assert band.ceiling is not None
    return band.floor, band.expected, band.ceiling
