"""The shipped sample: footfall by half hour and orders, read as they were recorded."""

import csv
from pathlib import Path

import msgspec

from jobs.mall.orders import OrderRequest

DATA_DIR = Path(__file__).parent / "data"
AS_RECORDED = msgspec.json.Encoder(decimal_format="number")


class SampleOrder(OrderRequest, frozen=True, forbid_unknown_fields=False):
    """One order, as recorded; `ordered_on` is left out, the API does not know it."""

    @property
    def body(self) -> bytes:
        """What is posted."""
        return AS_RECORDED.encode(self)

    @property
    def refusable(self) -> bool:
        """Whether the API must refuse it: nobody can deliver a quantity of zero or below."""
        return any(line.quantity <= 0 for line in self.lines)


def footfall() -> dict[str, list[int]]:
    """The people of every day (YYYY-MM-DD), by half hour."""
    days: dict[str, list[int]] = {}
    with (DATA_DIR / "footfall.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            days.setdefault(row["slot_start"].partition("T")[0], []).append(int(row["entries"]))
    return days


def orders() -> list[SampleOrder]:
    """Every order of the sample."""
    return msgspec.json.Decoder(SampleOrder).decode_lines((DATA_DIR / "orders.jsonl").read_bytes())
