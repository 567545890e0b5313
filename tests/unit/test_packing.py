"""Packing: items, weight and amounts, in decimals; a damaged slip is nobody's second attempt."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import Permanent
from jobs.mall import packing
from jobs.mall.carrier import Shipment
from jobs.mall.orders import Line
from jobs.mall.packing import BOX_WEIGHT_G, ITEM_WEIGHT_G, SlipLine

FIELDS = {"reference": "536365", "customer": "17850", "country": "Norway"}


def test_a_slip_adds_up() -> None:
    lines = [Line("A", 6, "HEART", Decimal("2.55")), Line("B", 1, None, Decimal("0.10"))]
    made = packing.slip("ord_1", FIELDS, lines, 9.0)
    assert (made.order_id, made.reference, made.customer, made.country, made.packed_at) == (
        "ord_1",
        "536365",
        "17850",
        "Norway",
        9.0,
    )
    assert (made.items, made.weight_g, made.total) == (7, 7 * ITEM_WEIGHT_G + BOX_WEIGHT_G, Decimal("15.40"))
    assert made.lines == [
        SlipLine("A", 6, "HEART", Decimal("2.55"), Decimal("15.30")),
        SlipLine("B", 1, "", Decimal("0.10"), Decimal("0.10")),
    ]


def test_a_slip_with_a_line_without_a_price_has_no_total() -> None:
    made = packing.slip("ord_1", {"reference": "r"}, [Line("A", 1, None, Decimal(1)), Line("B", 1)], 0.0)
    assert (made.total, made.customer, made.country) == (None, None, None)


@given(st.lists(st.tuples(st.integers(1, 100_000), st.decimals(0, 10**5, places=2)), min_size=1, max_size=20))
def test_no_penny_is_lost(priced: list[tuple[int, Decimal]]) -> None:
    made = packing.slip("ord_1", FIELDS, [Line("A", quantity, None, price) for quantity, price in priced], 0.0)
    assert made.total == sum(quantity * price for quantity, price in priced)
    assert msgspec.json.decode(msgspec.json.encode(made), type=packing.Slip) == made


def test_the_carrier_is_told_what_the_slip_says() -> None:
    stored = msgspec.json.encode(packing.slip("ord_1", {"reference": "r"}, [Line("A", 2)], 0.0)).decode()
    assert packing.shipment("ord_1", {"slip": stored}) == Shipment("ord_1", "r", "unknown", 2, 2 * ITEM_WEIGHT_G + BOX_WEIGHT_G)


@pytest.mark.parametrize("fields", [{}, {"slip": ""}, {"slip": "{}"}, {"slip": '{"order_id": 1}'}])
def test_a_damaged_slip_is_a_permanent_error(fields: dict[str, str]) -> None:
    with pytest.raises(Permanent, match="the packing slip cannot be read"):
        packing.shipment("ord_1", fields)
