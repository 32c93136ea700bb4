"""How charges are made out of prices: the pieces that every billing rule puts together."""

from collections.abc import Callable, Iterable, Sequence

from runtime.cost.amounts import NOTHING, Band, Charge, Entry, Place, UsePrice
from runtime.cost.inventory import Inventory
from runtime.pricing import Price, price_of
from runtime.stack_resources import StackResource

# Says what one resource is charged for.
Rule = Callable[[StackResource, Inventory], Iterable[Entry]]


def priced(
    resource: StackResource,
    place: Place,
    price: Price,
    count: Band,
    *,
    notes: Sequence[str] = (),
    accelerator: str = "",
    devices: Band = NOTHING,
) -> Charge:
    """So many of one item of the price list; unpriced where the list has no row for the region."""
    usd = price.usd_per_hour
    return Charge(
        urn=resource.urn,
        name=resource.name,
        type=resource.type,
        place=place,
        item=price.item,
        count=count,
        usd_per_hour=None if usd is None else Band.same(usd),
        why_unpriced="" if usd is not None else no_price(price.item, price.region),
        prices=() if usd is None else (price,),
        accelerator=accelerator,
        devices=devices,
        notes=tuple(notes),
    )


def unpriced(resource: StackResource, place: Place, item: str, why: str, count: Band | None = None) -> Charge:
    """Something that is paid for, and of which the price or the number cannot be told."""
    return Charge(
        urn=resource.urn,
        name=resource.name,
        type=resource.type,
        place=place,
        item=item,
        count=Band.same(1) if count is None else count,
        usd_per_hour=None,
        why_unpriced=why,
    )


def by_use(resource: StackResource, item: str, region: str) -> UsePrice:
    """Something of which only the use is paid."""
    price = price_of(item, region)
    return UsePrice(
        urn=resource.urn,
        name=resource.name,
        type=resource.type,
        item=item,
        usd=price.usd,
        unit=price.unit,
    )


def no_price(item: str, region: str) -> str:
    """Why an item is unpriced, and what to do."""
    if not region:
        return "no provider of the stack names a region; give one with --region"
    return (
        f"there is no list price of {item} in {region} here; "
        f"get one with `python -m runtime.ops prices refresh --region {region}`"
    )
