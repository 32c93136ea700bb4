"""An estimate as one HTML file: the environment's picture, cost bars, tables; no script, nothing loaded."""

import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from html import escape
from importlib.resources import files

from runtime.cost import summary
from runtime.cost.amounts import Band, Charge, Place
from runtime.cost.difference import Difference
from runtime.cost.estimate import EXCLUDED, Estimate
from runtime.cost.summary import Report, money, number, sentence, signed, span

_STYLE = files("runtime.cost") / "report.css"
_VPN = "aws:ec2/vpnConnection:VpnConnection"
_DIRECT_CONNECT = "aws:directconnect/gatewayAssociation:GatewayAssociation"
_NODES = ("aws:eks/nodeGroup:NodeGroup", "kubernetes:karpenter.sh/v1:NodePool")
# Lines are Markdown as far as commands are concerned.
_COMMAND, _AS_CODE = re.compile("`([^`]+)`"), r"<code>\1</code>"
# Squares for devices in the picture; what is more is a number.
_MOST_SQUARES = 24
_PLACE_WORDS: dict[Place, str] = {
    "on-prem": "your own site",
    "EKS": "cluster and its nodes",
    "SageMaker": "endpoints",
    "AWS": "network, keys, storage",
}


def as_html(report: Report) -> str:
    """The report as a whole page, for light and dark screens and for print."""
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Cost of {escape(report.title)}</title>",
            f"<style>{_STYLE.read_text()}</style></head><body><main>",
            *_page(report),
            "</main></body></html>",
            "",
        ]
    )


def _page(report: Report) -> Iterator[str]:
    estimate = report.estimate
    yield f"<header><h1>Cost of {escape(report.title)}</h1>"
    made = f"{report.made:%Y-%m-%d %H:%M %Z}"
    yield f"<p>List prices, made {made}, {estimate.resources} resources looked at.</p>"
    yield "</header>"
    yield from _figures(report)
    if report.before is not None:
        yield from _changes(Difference(before=report.before, after=estimate))
    yield "<h2>The environment</h2>"
    yield from _picture(estimate)
    yield "<h2>What it is made of, USD per hour</h2>"
    yield from _items(estimate)
    yield from _list("Unpriced, and in no sum", summary.unpriced_lines(estimate), "warn")
    yield from _list("Beware", estimate.warnings, "warn")
    yield from _list("Paid by use, and in no sum", summary.by_use_lines(estimate))
    yield from _list("In no figure at all", EXCLUDED)


def _figures(report: Report) -> Iterator[str]:
    """The three ends by the hour, large, with the month below them."""
    estimate = report.estimate
    hourly, monthly = estimate.hourly, estimate.monthly
    yield '<section class="figures">'
    for name, hour, month in (
        ("floor", hourly.floor, monthly.floor),
        ("expected", hourly.expected, monthly.expected),
        ("ceiling", hourly.ceiling, monthly.ceiling),
    ):
        yield f'<div class="figure {name}"><span>{name}</span><b>{money(hour)}<small>/h</small></b>'
        yield f"<em>{money(month)} a month</em></div>"
    yield "</section>"
    if report.exposure:
        yield f'<p class="exposure">{escape(sentence(report.exposure))}</p>'
    if estimate.unpriced:
        count = len(estimate.unpriced)
        yield f'<p class="missing">{count} unpriced, and in no sum: see below.</p>'


def _changes(change: Difference) -> Iterator[str]:
    heads = "".join(f"<th>{head}</th>" for head in ("", "before", "after", "change"))
    yield f'<h2>Change, USD per hour</h2><table class="change"><thead><tr>{heads}</tr></thead>'
    old, new = change.before.hourly, change.after.hourly
    sums = (
        ("floor", old.floor, new.floor),
        ("expected", old.expected, new.expected),
        ("ceiling", old.ceiling, new.ceiling),
    )
    for (name, before, after), more in zip(sums, change.hourly, strict=True):
        cells = f"<td>{money(before)}</td><td>{money(after)}</td><td>{signed(more)}</td>"
        yield f'<tr class="sum"><td>{name}</td>{cells}</tr>'
    for one in change.items:
        cells = "".join(f"<td>{_amount_span(side)}</td>" for side in (one.before, one.after))
        yield f"<tr><td>{one.place} {escape(one.item)}</td>{cells}<td></td></tr>"
    for one in change.devices:
        cells = "".join(f"<td>{'' if side is None else span(side)}</td>" for side in (one.before, one.after))
        yield f"<tr><td>{one.place} {escape(one.item)}, accelerators</td>{cells}<td></td></tr>"
    yield "</table>"


def _picture(estimate: Estimate) -> Iterator[str]:
    """Both sides with their pools, and what links them."""
    left = [one for one in estimate.charges if one.place == "on-prem"]
    right = [one for one in estimate.charges if one.place != "on-prem"]
    yield '<section class="picture">'
    if has_site := bool(left) or not right or any(one.place == "EKS" for one in right):
        yield from _side("on-prem", left, estimate)
    if right:
        if has_site:
            yield from _link(estimate)
        yield '<div class="side cloud"><h3>AWS</h3>'
        for place in ("EKS", "SageMaker", "AWS"):
            charges = [one for one in right if one.place == place]
            if charges:
                yield from _side(place, charges, estimate)
        yield "</div>"
    yield "</section>"
    yield '<p class="legend"><i class="device on"></i> always there <i class="device"></i> at most</p>'


def _side(place: Place, charges: Sequence[Charge], estimate: Estimate) -> Iterator[str]:
    amounts = dict(summary.by_place(estimate)).get(place)
    yield f'<div class="side"><h3>{place} <small>{_PLACE_WORDS[place]}</small></h3>'
    yield f'<p class="amount">{_amount_span(amounts)}</p>'
    pools = [one for one in charges if one.accelerator or (one.type in _NODES and "volume" not in one.item)]
    for pool in pools:
        yield from _pool(pool)
    if not pools and place == "on-prem":
        yield '<p class="note">no accelerators: models run on processors, which have no rate</p>'
    others = sorted({one.item for one in charges if one not in pools})
    if others:
        yield f'<p class="note">{escape(", ".join(others))}</p>'
    yield "</div>"


def _pool(pool: Charge) -> Iterator[str]:
    yield f'<div class="pool"><h4>{escape(pool.name)}</h4>'
    kind = f", {pool.accelerator}" if pool.accelerator and pool.accelerator != pool.item else ""
    yield f"<p>{span(pool.count)} &times; {escape(pool.item + kind)}</p>"
    yield from _squares(pool.all_devices if pool.accelerator else pool.count)
    yield f'<p class="amount">{_amount_span(pool.amount)}</p></div>'


def _squares(count: Band) -> Iterator[str]:
    """A square for each device, filled where it is always there."""
    always = int(count.floor)
    most = always if count.ceiling is None else int(count.ceiling.to_integral_value("ROUND_CEILING"))
    shown = min(max(always, most), _MOST_SQUARES)
    squares = "".join(f'<i class="device{" on" if index < always else ""}"></i>' for index in range(shown))
    rest = "and no end" if count.ceiling is None else f"and {most - shown} more" if most > shown else ""
    yield f'<p class="devices" title="{span(count)}">{squares} {rest}</p>'


def _link(estimate: Estimate) -> Iterator[str]:
    if any(one.type == _VPN for one in estimate.charges):
        words = "site-to-site VPN"
    elif _DIRECT_CONNECT in estimate.free:
        words = "Direct Connect"
    else:
        words = "a link of your own"
    yield f'<div class="link"><svg viewBox="0 0 100 20" role="img" aria-label="{words}">'
    yield '<path d="M4 10H96M12 4 4 10l8 6M88 4l8 6-8 6"/></svg>'
    yield f"<span>{words}</span></div>"


def _items(estimate: Estimate) -> Iterator[str]:
    """Every row with a bar: floor filled, up to the ceiling light, expected marked."""
    rows = [row for row in summary.rows(estimate) if row.amount is not None]
    longest = max(
        (end for row in rows if row.amount for end in (row.amount.floor, row.amount.ceiling or Decimal(0))),
        default=Decimal(0),
    )
    yield '<div class="wide"><table><thead><tr><th>place</th><th>what</th><th>how many</th>'
    yield '<th>floor</th><th>expected</th><th>ceiling</th><th class="bar"></th></tr></thead><tbody>'
    for row in rows:
        if row.amount is None:
            continue
        notes = "".join(f"<small>{escape(note)}</small>" for note in row.notes)
        names = escape(summary.listed(row.names))
        yield f"<tr><td>{row.place}</td><td>{escape(row.item)}<small>{names}</small>{notes}</td>"
        yield f"<td>{span(row.count)}</td>"
        for end in (row.amount.floor, row.amount.expected, row.amount.ceiling):
            yield f"<td>{money(end, cents=False)}</td>"
        yield f'<td class="bar">{_bar(row.amount, longest)}</td></tr>'
    for place, amount in summary.by_place(estimate):
        if amount is not None:
            yield f'<tr class="sum"><td>{place}</td><td>together</td><td></td>{_cells(amount)}<td></td></tr>'
    yield f'<tr class="sum"><td>all</td><td>together</td><td></td>{_cells(estimate.hourly)}<td></td></tr>'
    yield "</tbody></table></div>"
    yield '<p class="legend"><i class="device on"></i> floor <i class="device most"></i> up to the ceiling '
    yield '<i class="device mark"></i> expected</p>'


def _cells(amount: Band) -> str:
    return "".join(f"<td>{money(end)}</td>" for end in (amount.floor, amount.expected, amount.ceiling))


def _bar(amount: Band, longest: Decimal) -> str:
    if not longest:
        return ""
    ends = (amount.floor, amount.expected, longest if amount.ceiling is None else amount.ceiling)
    floor, expected, ceiling = (number(end / longest * 100) for end in ends)
    words = f"{money(amount.floor)} to {money(amount.ceiling)}"
    return (
        f'<svg viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{words}">'
        f'<rect class="most" width="{ceiling}" height="10"/><rect class="least" width="{floor}" height="10"/>'
        f'<rect class="mark" x="{expected}" width="0.6" height="10"/></svg>'
    )


def _amount_span(amount: Band | None) -> str:
    if amount is None:
        return "unpriced"
    least, most = money(amount.floor), money(amount.ceiling)
    return f"{least}/h" if least == most else f"{least} to {most}/h"


def _list(title: str, lines: Iterable[str], kind: str = "") -> Iterator[str]:
    found = [f"<li>{_COMMAND.sub(_AS_CODE, escape(line))}</li>" for line in lines]
    if found:
        yield f'<section class="{kind}"><h2>{title}</h2><ul>{"".join(found)}</ul></section>'
