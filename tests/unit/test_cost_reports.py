"""Reports of estimates: what a reader finds in each form, and what must never be in any."""

import datetime as dt
import json
import re
from collections.abc import Callable
from decimal import Decimal
from html.parser import HTMLParser

import pytest

from runtime.cost.amounts import Band, Charge
from runtime.cost.difference import Difference
from runtime.cost.estimate import Estimate, estimate
from runtime.cost.report_html import as_html
from runtime.cost.report_json import as_json
from runtime.cost.report_markdown import as_markdown
from runtime.cost.report_text import as_text
from runtime.cost.summary import Report, money, number, signed, span
from runtime.stack_resources import StackResource

MADE = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
ALL = [as_text, as_markdown, as_json, as_html]
PROVIDER = StackResource(
    urn="urn:aws", type="pulumi:providers:aws", name="aws", inputs={"region": "us-east-1"}
)


def charge(name: str = "gpus", **more: object) -> Charge:
    given: dict[str, object] = {
        "urn": f"urn:{name}",
        "name": name,
        "type": "aws:eks/nodeGroup:NodeGroup",
        "place": "EKS",
        "item": "p5en.48xlarge",
        "count": Band(Decimal(0), Decimal("0.5"), Decimal(4)),
        "usd_per_hour": Band.same(Decimal("63.296")),
        "accelerator": "nvidia-h200",
        "devices": Band.same(8),
        **more,
    }
    return Charge(**given)  # pyright: ignore[reportArgumentType] - the fields of a charge, by name


def report(*charges: Charge, **more: object) -> Report:
    found = Estimate(charges=charges, resources=len(charges))
    given: dict[str, object] = {"title": "stack demo", "estimate": found, "made": MADE, **more}
    return Report(**given)  # pyright: ignore[reportArgumentType] - the fields of a report, by name


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (Decimal("253.184"), "$253.18"),
        (Decimal("0.005"), "$0.01"),
        (Decimal("1234567.5"), "$1,234,567.50"),
        (Decimal("-1.5"), "-$1.50"),
        (None, "unbounded"),
    ],
)
def test_money_is_rounded_half_up_to_cents(amount: Decimal | None, text: str) -> None:
    assert money(amount) == text


def test_counts_and_changes_read_as_one_writes_them() -> None:
    assert [number(Decimal(one)) for one in ("4", "0.125", "1500", "0.0004")] == ["4", "0.125", "1,500", "0"]
    assert span(Band(Decimal(0), Decimal(0), None)) == "0 to unbounded"
    assert [signed(Decimal(one)) for one in ("1.5", "-1.5", "0", "0.001")] == [
        "+$1.50",
        "-$1.50",
        "$0.00",
        "$0.00",
    ]


@pytest.mark.parametrize("render", [as_text, as_markdown, as_html])
def test_a_reader_finds_all_three_ends_by_the_hour_and_the_month(render: Callable[[Report], str]) -> None:
    text = render(report(charge()))
    for amount in ("$0.00", "$31.65", "$253.18", "$23,103.04", "$184,824.32"):
        assert amount in text


@pytest.mark.parametrize("render", ALL)
def test_what_is_unpriced_is_named_with_its_reason_and_never_nothing(render: Callable[[Report], str]) -> None:
    unknown = charge("dark", item="trn2.48xlarge", usd_per_hour=None, why_unpriced="no price here")
    text = render(report(unknown))
    assert "dark" in text
    assert "no price here" in text
    if render is not as_json:
        assert "unpriced" in text
        assert not re.search(r"trn2\.48xlarge[^\n]*\$0\.00", text)


@pytest.mark.parametrize("render", ALL)
def test_what_nothing_bounds_has_no_ceiling(render: Callable[[Report], str]) -> None:
    endless = charge(count=Band(Decimal(0), Decimal(0), None))
    text = render(report(endless, expires=MADE + dt.timedelta(days=1)))
    if render is as_json:
        assert json.loads(text)["spillway"]["hourly"]["ceiling"] is None
        assert json.loads(text)["spillway"]["unbounded"] == ["gpus"]
    else:
        assert "unbounded" in text


@pytest.mark.parametrize("render", [as_text, as_markdown, as_html])
def test_the_exposure_is_told_where_an_end_is_known(render: Callable[[Report], str]) -> None:
    text = render(report(charge(), expires=MADE + dt.timedelta(hours=10)))
    assert "t most until it expires on 2026-11-21 22:00 UTC: $2,531.84" in text
    assert "expires" not in render(report(charge()))


def test_a_difference_tells_sums_items_and_accelerators() -> None:
    small, large = report(charge()).estimate, report(charge(count=Band.same(8))).estimate
    change = Difference(before=small, after=large)
    assert [signed(amount) for amount in change.hourly] == ["+$506.37", "+$474.72", "+$253.18"]
    assert [(one.place, one.item) for one in change.items] == [("EKS", "p5en.48xlarge")]
    (devices,) = change.devices
    assert devices.before is not None
    assert devices.after is not None
    assert (span(devices.before), span(devices.after)) == ("0 to 32", "64")
    assert Difference(before=small, after=small).is_empty


def test_what_comes_or_goes_changes_from_or_to_nothing() -> None:
    nothing, some = Estimate(charges=()), report(charge()).estimate
    (came,) = Difference(before=nothing, after=some).items
    assert came.before is not None
    assert came.before.is_zero
    (gone,) = Difference(before=some, after=nothing).devices
    assert gone.after is not None
    assert gone.after.is_zero


def test_a_ceiling_that_one_side_lacks_has_no_difference() -> None:
    endless = report(charge(count=Band(Decimal(0), Decimal(0), None))).estimate
    assert Difference(before=endless, after=report(charge()).estimate).hourly[2] is None


@pytest.mark.parametrize("render", [as_text, as_markdown, as_html])
def test_a_report_of_a_change_shows_it(render: Callable[[Report], str]) -> None:
    before = report(charge(count=Band.same(0))).estimate
    assert "+$253.18" in render(report(charge(), before=before))


def test_the_page_shows_sums_of_a_change_before_after_and_between() -> None:
    text = as_html(report(charge(), before=report(charge(count=Band.same(2))).estimate))
    row = "<td>ceiling</td><td>$126.59</td><td>$253.18</td><td>+$126.59</td>"
    assert row in text


def test_the_picture_has_a_site_only_where_the_stack_has_one() -> None:
    assert "your own site" in as_html(report(charge()))
    assert "your own site" not in as_html(report(charge(place="SageMaker")))


def test_json_has_infracosts_keys_with_the_expected_figures() -> None:
    document = json.loads(as_json(report(charge(), before=report().estimate)))
    assert document["currency"] == "USD"
    assert document["totalHourlyCost"] == "31.648"
    assert document["totalMonthlyCost"] == "23103.04"
    assert document["diffTotalMonthlyCost"] == "23103.04"
    (resource,) = document["projects"][0]["breakdown"]["resources"]
    assert resource["resourceType"] == "aws:eks/nodeGroup:NodeGroup"
    assert resource["costComponents"][0]["monthlyCost"] == "23103.04"
    assert resource["costComponents"][0]["spillway"]["hourly"]["ceiling"] == "253.184"


class _Page(HTMLParser):
    """Tags that were opened and not closed, and everything that a page would load."""

    VOID = frozenset({"meta", "path", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self.loads += [str(value) for key, value in attrs if key in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_is_whole_loads_nothing_and_runs_nothing() -> None:
    page = _Page()
    text = as_html(report(charge(), before=report().estimate))
    page.feed(text)
    assert page.open == []
    assert page.loads == []
    assert "script" not in page.tags
    assert "url(" not in text
    assert "prefers-color-scheme: dark" in text


@pytest.mark.parametrize(("render", "escaped"), [(as_html, "&lt;b&gt;|"), (as_markdown, "&lt;b>\\|")])
def test_names_cannot_break_out_of_a_page_or_a_table(render: Callable[[Report], str], escaped: str) -> None:
    assert escaped in render(report(charge("<b>|")))


def test_equal_things_are_one_line_with_their_number() -> None:
    endpoints = [
        StackResource(
            urn=f"urn:{name}",
            type="aws:ec2/vpcEndpoint:VpcEndpoint",
            name=name,
            provider="urn:aws",
            inputs={"vpcEndpointType": "Interface", "subnetIds": ["a", "b"]},
        )
        for name in ("ec2", "ecr", "eks", "logs", "sts")
    ]
    text = as_text(Report(title="x", estimate=estimate([PROVIDER, *endpoints]), made=MADE))
    assert "10 x VPC interface endpoint in one zone" in text
    assert "ec2, ecr, eks and 2 more" in text
