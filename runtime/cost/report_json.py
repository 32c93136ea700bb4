"""An estimate as JSON, with Infracost's keys where they fit, so that tools for its reports read this one too.

Infracost knows one figure a resource; under its keys stands the expected one. All three ends, accelerators
and what is unpriced are under `spillway`. Amounts are text, because a float is no amount of money.
"""

import json
from collections.abc import Iterable
from decimal import Decimal

from runtime.cost.amounts import Band, Charge, total
from runtime.cost.difference import Difference
from runtime.cost.estimate import EXCLUDED, Estimate
from runtime.cost.summary import Report
from runtime.pricing import HOURS_PER_MONTH

# Of Infracost's output format (docs at infracost.io/docs/features/cli_commands, JSON output).
_FORMAT = "0.2"


def as_json(report: Report) -> str:
    """The report as one JSON object."""
    estimate = report.estimate
    document: dict[str, object] = {
        "version": _FORMAT,
        "currency": "USD",
        "timeGenerated": report.made.isoformat(),
        "projects": [{"name": report.title, "breakdown": _breakdown(estimate)}],
        **_totals(estimate),
        "summary": {
            "totalDetectedResources": estimate.resources,
            "totalUnsupportedResources": len({one.urn for one in estimate.unpriced}),
        },
        "spillway": _own(report),
    }
    if report.before is not None:
        change = Difference(before=report.before, after=estimate)
        document |= {
            "pastTotalHourlyCost": _text(report.before.hourly.expected),
            "pastTotalMonthlyCost": _text(report.before.monthly.expected),
            "diffTotalHourlyCost": _text(change.hourly[1]),
            "diffTotalMonthlyCost": _text(change.hourly[1] * HOURS_PER_MONTH),
        }
    return json.dumps(document, indent=2) + "\n"


def _breakdown(estimate: Estimate) -> dict[str, object]:
    charges: dict[str, list[Charge]] = {}
    for charge in estimate.charges:
        charges.setdefault(charge.urn, []).append(charge)
    return {"resources": [_resource(found) for found in charges.values()], **_totals(estimate)}


def _resource(charges: list[Charge]) -> dict[str, object]:
    first = charges[0]
    amounts = [amount for one in charges if (amount := one.amount) is not None]
    known = total(amounts) if amounts else None
    return {
        "name": first.name,
        "resourceType": first.type,
        "metadata": {"urn": first.urn, "place": first.place},
        "hourlyCost": None if known is None else _text(known.expected),
        "monthlyCost": None if known is None else _text(known.expected * HOURS_PER_MONTH),
        "costComponents": [_component(one) for one in charges],
    }


def _component(charge: Charge) -> dict[str, object]:
    amount, price = charge.amount, charge.usd_per_hour
    return {
        "name": charge.item,
        "unit": "hours",
        "hourlyQuantity": _text(charge.count.expected),
        "price": None if price is None else _text(price.expected),
        "hourlyCost": None if amount is None else _text(amount.expected),
        "monthlyCost": None if amount is None else _text(amount.expected * HOURS_PER_MONTH),
        "spillway": {
            "quantity": _ends(charge.count),
            "hourly": None if amount is None else _ends(amount),
            "unpriced": charge.why_unpriced or None,
            "notes": list(charge.notes),
            "prices": [
                {"item": one.item, "region": one.region, "source": one.source, "date": one.date}
                for one in charge.prices
            ],
        },
    }


def _own(report: Report) -> dict[str, object]:
    estimate = report.estimate
    exposure = None if report.expires is None else estimate.exposure(report.made, report.expires)
    return {
        "hourly": _ends(estimate.hourly),
        "monthly": _ends(estimate.monthly),
        "expires": None if report.expires is None else report.expires.isoformat(),
        "exposure": _text(exposure),
        "accelerators": [
            {"place": one.place, "accelerator": one.accelerator, **_ends(one.count)}
            for one in estimate.devices
        ],
        "unpriced": [
            {"name": one.name, "urn": one.urn, "item": one.item, "why": one.why_unpriced}
            for one in estimate.unpriced
        ],
        "unbounded": _names(estimate.unbounded),
        "byUse": [
            {"name": one.name, "urn": one.urn, "item": one.item, "price": _text(one.usd), "unit": one.unit}
            for one in estimate.by_use
        ],
        "excluded": list(EXCLUDED),
        "warnings": list(estimate.warnings),
        "pricesFrom": estimate.prices_from or None,
    }


def _totals(estimate: Estimate) -> dict[str, object]:
    return {
        "totalHourlyCost": _text(estimate.hourly.expected),
        "totalMonthlyCost": _text(estimate.monthly.expected),
    }


def _names(charges: Iterable[Charge]) -> list[str]:
    return list(dict.fromkeys(charge.name for charge in charges))


def _ends(band: Band) -> dict[str, str | None]:
    return {
        "floor": _text(band.floor),
        "expected": _text(band.expected),
        "ceiling": _text(band.ceiling),
    }


def _text(amount: Decimal | None) -> str | None:
    """Ten places after the point, as Infracost has, without the zeros at the end."""
    if amount is None:
        return None
    text = f"{amount.quantize(Decimal('1e-10')):f}"
    return text.rstrip("0").rstrip(".") or "0"
