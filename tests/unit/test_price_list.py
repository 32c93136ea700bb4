"""The refresh of prices, against a server on this machine with small offer files that were made up."""

import csv
import http.server
import io
import threading
from collections.abc import Generator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from runtime import pricing
from runtime.ops import price_list
from runtime.ops.__main__ import main
from runtime.ops.price_list import OFFERS, PriceListError, compared, merged, read_offer
from runtime.pricing import Price, read_prices

REGION = "eu-test-1"
COLUMNS = [
    "SKU", "TermType", "StartingRange", "PricePerUnit", "Product Family", "Instance Type", "Tenancy",
    "Operating System", "usageType", "CapacityStatus", "Pre Installed S/W", "MarketOption", "Alarm Type",
]  # fmt: skip
TYPES = frozenset({"g6e.xlarge", "m6i.2xlarge", "ml.g6e.xlarge"})


def row(usage: str, usd: str, **more: str) -> dict[str, str]:
    return {"TermType": "OnDemand", "StartingRange": "0", "usageType": usage, "PricePerUnit": usd, **more}


def box(kind: str, usd: str, **more: str) -> dict[str, str]:
    ordinary = {
        "Instance Type": kind,
        "Tenancy": "Shared",
        "Operating System": "Linux",
        "CapacityStatus": "Used",
        "Pre Installed S/W": "NA",
        "MarketOption": "OnDemand",
    }
    return row(f"EUT1-BoxUsage:{kind}", usd, **{**ordinary, **more})


def offer_file(offer: str, rows: list[dict[str, str]], published: str = "2026-11-20T01:02:03Z") -> str:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    for key, value in (
        ("FormatVersion", "v1.0"),
        ("Disclaimer", "made up"),
        ("Publication Date", published),
        ("Version", "20261120010203"),
        ("OfferCode", offer),
    ):
        writer.writerow([key, value])
    writer.writerow(COLUMNS)
    writer.writerows([[one.get(column, "") for column in COLUMNS] for one in rows])
    return text.getvalue()


def whole_list() -> dict[str, str]:
    """Every offer with one row for each thing that is wanted, and instances."""
    found: dict[str, str] = {}
    for offer, wanted in OFFERS.items():
        rows = [
            row(f"EUT1-{one.usage}", "0.5", **{"Product Family": one.family}, **one.where) for one in wanted
        ]
        if offer == "AmazonEC2":
            rows += [box("g6e.xlarge", "2.1"), box("m6i.2xlarge", "0.42")]
        if offer == "AmazonSageMaker":
            rows.append(row("EUT1-Host:ml.g6e.xlarge", "2.9"))
        found[offer] = offer_file(offer, rows)
    return found


def read(offer: str, rows: list[dict[str, str]]) -> dict[str, Price]:
    lines = offer_file(offer, rows).splitlines(keepends=True)
    return {price.item: price for price in read_offer(iter(lines), offer, REGION, TYPES)}


def test_an_ordinary_instance_is_taken_with_its_region_source_and_day() -> None:
    assert read("AmazonEC2", [box("g6e.xlarge", "2.1")]) == {
        "g6e.xlarge": Price(
            item="g6e.xlarge",
            region=REGION,
            usd=Decimal("2.1"),
            source="AWS' price list, offer AmazonEC2",
            date="2026-11-20",
        )
    }


@pytest.mark.parametrize(
    "changed",
    [
        {"Operating System": "Windows"},
        {"Tenancy": "Dedicated"},
        {"CapacityStatus": "UnusedCapacityReservation"},
        {"Pre Installed S/W": "SQL Std"},
        {"MarketOption": "CapacityBlock"},
        {"TermType": "Reserved"},
        {"PricePerUnit": "0.0000000000"},
        {"usageType": "EUT1-DedicatedUsage:g6e.xlarge"},
        {"usageType": "EUT1-BoxUsage:g6e.2xlarge"},
    ],
)
def test_what_is_no_ordinary_instance_is_left_out(changed: dict[str, str]) -> None:
    assert read("AmazonEC2", [box("g6e.xlarge", "2.1", **changed)]) == {}


def test_of_several_tiers_the_first_that_costs_anything_is_taken() -> None:
    logs = {"Product Family": "Data Payload"}
    found = read(
        "AmazonCloudWatch",
        [
            row("EUT1-DataProcessing-Bytes", "0.25", StartingRange="10240", **logs),
            row("EUT1-DataProcessing-Bytes", "0.5", StartingRange="5", **logs),
            row("EUT1-DataProcessing-Bytes", "0", StartingRange="0", **logs),
        ],
    )
    assert found[pricing.LOGS].usd == Decimal("0.5")


def test_two_prices_for_one_thing_are_refused_and_not_chosen_between() -> None:
    with pytest.raises(PriceListError, match=r"two prices of g6e\.xlarge in eu-test-1, 2\.1 and 2\.2"):
        read("AmazonEC2", [box("g6e.xlarge", "2.1"), box("g6e.xlarge", "2.2")])


@pytest.mark.parametrize(
    "text", ["", "<html>no</html>", offer_file("AmazonS3", []), offer_file("AmazonEC2", [], "")]
)
def test_a_file_that_is_no_such_offer_is_refused(text: str) -> None:
    with pytest.raises(PriceListError, match="does not begin as AWS' price lists do"):
        read_offer(iter(text.splitlines(keepends=True)), "AmazonEC2", REGION, TYPES)


def price(item: str, usd: str, **more: Any) -> Price:
    given: dict[str, Any] = {"region": REGION, "source": "old", "date": "2025-01-01", **more}
    return Price(item=item, usd=Decimal(usd), **given)


def test_a_table_without_a_fixed_part_or_any_accelerator_is_told() -> None:
    said = compared({}, [])
    assert f"{pricing.NAT_GATEWAY} is not in it" in said
    assert "no instance type with accelerators is in it" in said


def test_a_price_that_moves_by_more_than_half_is_told_and_a_smaller_one_is_not() -> None:
    old = {"g6e.xlarge": price("g6e.xlarge", "2")}
    assert not [one for one in compared(old, [price("g6e.xlarge", "2.9")]) if "was" in one]
    assert [one for one in compared(old, [price("g6e.xlarge", "3.1")]) if "was" in one] == [
        "g6e.xlarge was $2 and is $3.1 per hour"
    ]


def test_types_that_vanish_in_numbers_are_told() -> None:
    old = {f"m9.{size}xlarge": price(f"m9.{size}xlarge", "1") for size in range(10)}
    said = compared(old, [*list(old.values())[:9], price("g6e.xlarge", "2")])
    assert [one for one in said if "gone" in one] == ["1 of 10 instance types are gone: m9.9xlarge ..."]


def test_what_the_list_has_no_row_of_keeps_its_old_one() -> None:
    old = {"a.large": price("a.large", "1"), "b.large": price("b.large", "2")}
    new = price("b.large", "3", source="new")
    assert merged(old, [new]) == [old["a.large"], new]


class _List(http.server.BaseHTTPRequestHandler):
    """The price list: answers ranges, and cuts the next answers off after so many bytes."""

    files: dict[str, bytes]
    cuts: list[int]
    asked: list[str]

    def do_GET(self) -> None:
        offer = self.path.split("/")[4]
        content = self.files[offer]
        wanted = self.headers.get("Range")
        self.asked.append(f"{offer} {wanted or 'all'}")
        start = 0
        if wanted and self.headers.get("If-Range") == self._etag(content):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", self._etag(content))
        self.end_headers()
        body = content[start:]
        self.wfile.write(body[: self.cuts.pop(0)] if self.cuts else body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        """Says nothing."""

    @staticmethod
    def _etag(content: bytes) -> str:
        return f'"{len(content)}-{sum(content)}"'


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[tuple[str, type[_List]]]:
    handler = type("Handler", (_List,), {})
    handler.files = {offer: text.encode() for offer, text in whole_list().items()}
    handler.cuts, handler.asked = [], []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    server.server_close()
    thread.join()


def refresh(address: str, out: Path, *options: str) -> int:
    return main(["prices", "refresh", "--region", REGION, "--from", address, "--out", str(out), *options])


def test_a_refresh_writes_a_file_that_estimates_can_read(
    served: tuple[str, type[_List]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "prices.csv"
    assert refresh(served[0], out) == 0
    found = {one.item: one.usd for one in read_prices(out.read_text().splitlines(), "it")}
    assert found["g6e.xlarge"] == Decimal("2.1")
    assert found["ml.g6e.xlarge"] == Decimal("2.9")
    assert found[pricing.GP3_GIB] == Decimal("0.5")
    assert set(found) >= {one.item for offer in OFFERS.values() for one in offer}
    assert f"{len(found)} prices of {REGION}" in capsys.readouterr().out


def test_a_download_that_was_cut_off_goes_on_where_it_was(
    served: tuple[str, type[_List]], tmp_path: Path
) -> None:
    address, handler = served
    handler.cuts = [100, 50]
    out = tmp_path / "prices.csv"
    assert refresh(address, out) == 0
    assert handler.asked[:3] == ["AmazonEKS all", "AmazonEKS bytes=100-", "AmazonEKS bytes=150-"]
    assert read_prices(out.read_text().splitlines(), "it")


def test_a_download_that_never_ends_is_told_kept_and_gone_on_with_by_the_next_run(
    served: tuple[str, type[_List]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address, handler = served
    handler.cuts = [10] * price_list._ATTEMPTS  # pyright: ignore[reportPrivateUsage]
    out = tmp_path / "prices.csv"
    assert refresh(address, out) == 1
    assert "run this again, it goes on" in capsys.readouterr().err
    assert not out.exists()
    handler.asked.clear()
    assert refresh(address, out) == 0
    assert handler.asked[0] == "AmazonEKS bytes=40-"


def test_a_file_that_changed_meanwhile_is_begun_anew(served: tuple[str, type[_List]], tmp_path: Path) -> None:
    address, handler = served
    handler.cuts = [10] * price_list._ATTEMPTS  # pyright: ignore[reportPrivateUsage]
    out = tmp_path / "prices.csv"
    refresh(address, out)
    wanted = OFFERS["AmazonEKS"]
    rows = [row(f"EUT1-{one.usage}", "0.75", **{"Product Family": one.family}) for one in wanted]
    handler.files["AmazonEKS"] = offer_file("AmazonEKS", rows).encode()
    assert refresh(address, out) == 0
    found = {one.item: one.usd for one in read_prices(out.read_text().splitlines(), "it")}
    assert found[pricing.CONTROL_PLANE] == Decimal("0.75")


def test_a_table_that_lacks_something_replaces_nothing_until_it_is_told_to(
    served: tuple[str, type[_List]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address, handler = served
    handler.files["awskms"] = offer_file("awskms", []).encode()
    out = tmp_path / "prices.csv"
    out.write_text("the old one")
    assert refresh(address, out) == 1
    said = capsys.readouterr().err
    assert "KMS key is not in it" in said
    assert "--anyway" in said
    assert out.read_text() == "the old one"
    assert refresh(address, out, "--anyway") == 0


def test_a_list_elsewhere_than_by_https_or_on_this_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PriceListError, match="neither https nor on this machine"):
        price_list.download("http://prices.example.com/x", tmp_path / "x")
