"""The API's answers, as far as the demo checks them; a field that is missing or of another type is a fault."""

from __future__ import annotations

import re

import msgspec


class Rejected(msgspec.Struct):
    """One line of a batch that was refused; lines count from 1."""

    line: int
    error: str


class Taken(msgspec.Struct):
    """202 to POST /v1/entries."""

    accepted: int
    duplicates: int
    rejected: list[Rejected]


class FieldError(msgspec.Struct):
    """One refused field."""

    field: str
    reason: str

    @property
    def kind(self) -> str:
        """Field and reason without the number of the line and the value that was got: the same for every such fault."""
        return f"{re.sub('[0-9]+', '', self.field)}: {self.reason.partition(', got ')[0]}"


class Problem(msgspec.Struct):
    """problem+json, as far as it is shown."""

    detail: str = ""
    errors: list[FieldError] = []

    def __str__(self) -> str:
        return "; ".join(f"{error.field}: {error.reason}" for error in self.errors) or self.detail


class Summary(msgspec.Struct):
    """GET /v1/footfall/summary, as far as it is checked."""

    accepted: int
    counted: int
    pending: int


class Totals(msgspec.Struct, rename={"in_": "in"}):
    """People counted in over the series."""

    in_: int


class Footfall(msgspec.Struct):
    """GET /v1/footfall, as far as it is checked."""

    totals: Totals


class Order(msgspec.Struct):
    """An order as the API shows it, as far as it is checked."""

    id: str
    status: str
    tracking_number: str | None = None
    reason: str | None = None


class Page(msgspec.Struct):
    """GET /v1/orders."""

    orders: list[Order]
    next_cursor: str | None = None
