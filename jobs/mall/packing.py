"""Packing: items, weight and the slip that goes into the parcel. Pure."""

from decimal import Decimal

import msgspec

from jobs.errors import Permanent
from jobs.mall.carrier import Shipment
from jobs.mall.orders import Line

ITEM_WEIGHT_G = 200
"""Nominal weight of one item; the shop's data knows none."""
BOX_WEIGHT_G = 150
UNKNOWN_COUNTRY = "unknown"


class SlipLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of a slip. Prices are decimals as text."""

    sku: str
    quantity: int
    description: str = ""
    unit_price: Decimal | None = None
    amount: Decimal | None = None


class Slip(msgspec.Struct, frozen=True, omit_defaults=True):
    """A packing slip. `items` is the number of pieces, `weight_g` grams, `packed_at` Unix seconds."""

    order_id: str
    reference: str
    items: int
    weight_g: int
    packed_at: float
    lines: list[SlipLine]
    customer: str | None = None
    country: str | None = None
    total: Decimal | None = None


def slip(order_id: str, fields: dict[str, str], lines: list[Line], now: float) -> Slip:
    """The slip of an order, from its hash and its lines. The total is missing when a price is."""
    rows = [
        SlipLine(
            sku=line.sku,
            quantity=line.quantity,
            description=line.description or "",
            unit_price=line.unit_price,
            amount=None if line.unit_price is None else line.unit_price * line.quantity,
        )
        for line in lines
    ]
    amounts = [row.amount for row in rows if row.amount is not None]
    items = sum(line.quantity for line in lines)
    return Slip(
        order_id=order_id,
        reference=fields["reference"],
        items=items,
        weight_g=items * ITEM_WEIGHT_G + BOX_WEIGHT_G,
        packed_at=now,
        lines=rows,
        customer=fields.get("customer"),
        country=fields.get("country"),
        total=sum(amounts, Decimal(0)) if len(amounts) == len(rows) else None,
    )


def shipment(order_id: str, fields: dict[str, str]) -> Shipment:
    """What the carrier is told, from an order that has been packed. Raises Permanent when its slip is damaged."""
    try:
        packed = msgspec.json.decode(fields["slip"], type=Slip)
    except (KeyError, msgspec.MsgspecError) as error:
        raise Permanent(f"the packing slip cannot be read: {error}") from error
    return Shipment(order_id, packed.reference, packed.country or UNKNOWN_COUNTRY, packed.items, packed.weight_g)
