"""Orders: what a client may send, what it gets back, and which way an order may go.

Pure: no Redis, no clock. Amounts are decimals, never floats.
"""

import re
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

import msgspec

from jobs.mall import receivers
from jobs.settings import Settings

MAX_LINES = 1_000
MAX_QUANTITY = 100_000
MAX_TEXT = 500
MAX_DIGITS = 20
"""Of a price: times the largest quantity, summed over all lines, it still fits the 28 digits that decimals are reckoned with."""
MAX_NAME = 128
PRINTABLE = re.compile(r"[^\x00-\x1f\x7f]*")
EMAIL = re.compile(r"[^@\x00-\x20\x7f]+@[^@\x00-\x20\x7f]+\.[^@\x00-\x20\x7f]+")
MAX_EMAIL = 254
MAX_PRICE = 1_000_000_000
UNCONTROLLED = r"^[^\x00-\x1f\x7f]*$"
NAMED = r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000][^\x00-\x1f\x7f]*$"
"""Not only blanks, as JSON Schema writes it."""
PRICE = r"^[0-9]{1,9}(\.[0-9]{1,11})?$"


class Status(StrEnum):
    """Where an order stands."""

    SCHEDULED = "scheduled"
    ACCEPTED = "accepted"
    PICKING = "picking"
    PACKING = "packing"
    DELIVERING = "delivering"
    DELIVERED = "delivered"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    DEAD = "dead"


class Step(StrEnum):
    """What is done to an order, in this order."""

    PICK = "pick"
    PACK = "pack"
    DELIVER = "deliver"


HARMLESS = {"sku": "-", "quantity": 1}
S = Status
TRANSITIONS: dict[Status, frozenset[Status]] = {
    S.SCHEDULED: frozenset({S.ACCEPTED, S.CANCELLED, S.DEAD}),
    S.ACCEPTED: frozenset({S.PICKING, S.CANCELLED, S.DEAD}),
    S.PICKING: frozenset({S.PACKING, S.REJECTED, S.CANCELLED, S.DEAD}),
    S.PACKING: frozenset({S.DELIVERING, S.CANCELLED, S.DEAD}),
    S.DELIVERING: frozenset({S.DELIVERED, S.DEAD}),
    S.DEAD: frozenset({S.PICKING, S.PACKING, S.DELIVERING}),
    S.DELIVERED: frozenset(),
    S.REJECTED: frozenset(),
    S.CANCELLED: frozenset(),
}
"""The legal paths; an order leaves `dead` only by a redrive. The scripts keep to them, the tests hold the events against them."""
ENDED = frozenset({S.DELIVERED, S.REJECTED, S.CANCELLED, S.DEAD})


def _said(**schema: Any) -> msgspec.Meta:
    """What the API's document says of a field that `problems` checks: decoding would name only the first that is refused."""
    return msgspec.Meta(extra_json_schema=schema)


SKU_SCHEMA = {"minLength": 1, "maxLength": MAX_NAME, "pattern": NAMED}
Name = Annotated[str, _said(maxLength=MAX_NAME, pattern=UNCONTROLLED)]


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line of an order."""

    sku: Annotated[str, _said(**SKU_SCHEMA)]
    quantity: Annotated[int, _said(minimum=1, maximum=MAX_QUANTITY)]
    description: Annotated[str, _said(maxLength=MAX_TEXT, pattern=UNCONTROLLED)] | None = None
    unit_price: Annotated[Decimal, _said(minimum=0, exclusiveMaximum=MAX_PRICE, pattern=PRICE)] | None = None


class OrderRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of POST /v1/orders. `countdown_s` delays the start."""

    lines: Annotated[list[Line], msgspec.Meta(min_length=1, max_length=MAX_LINES)]
    reference: Name | None = None
    customer: Name | None = None
    country: Name | None = None
    email: Annotated[str, _said(maxLength=MAX_EMAIL, pattern=f"^{EMAIL.pattern}$")] | None = None
    countdown_s: Annotated[float, _said(minimum=0, maximum=366 * 86_400, description="the settings may allow less")] | None = None
    notify_url: Annotated[str, _said(format="uri", pattern="^https?://", maxLength=receivers.MAX_URL)] | None = None


class FieldError(msgspec.Struct, frozen=True):
    """One refused field."""

    field: str
    reason: str


class OrderAttempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attempt at a step. Instants are Unix seconds; `ended_at` is missing while it runs, `error` when it went well."""

    step: str
    attempt: int
    started_at: float
    ended_at: float | None = None
    worker: str = ""
    error: str | None = None


class OrderView(msgspec.Struct, frozen=True, omit_defaults=True):
    """An order as the API shows it. Instants are Unix seconds."""

    id: str
    reference: str
    status: str
    step: str
    created_at: float
    updated_at: float
    attempts: list[OrderAttempt]
    tracking_number: str | None = None
    reason: str | None = None
    due_at: float | None = None


_decoder = msgspec.json.Decoder(OrderRequest)


def decode(body: bytes | bytearray) -> OrderRequest:
    """An order that `problems` has not looked at. Raises msgspec.DecodeError or UnicodeDecodeError."""
    return _decoder.decode(body)


def problems(order: OrderRequest, settings: Settings) -> list[FieldError]:
    """Every field of the order that its types let through and that cannot be accepted, with the reason."""
    found = []
    for name, value in (("reference", order.reference), ("customer", order.customer), ("country", order.country)):
        if reason := _text(value, MAX_NAME):
            found.append(FieldError(name, reason))
    if order.email is not None and (len(order.email) > MAX_EMAIL or not EMAIL.fullmatch(order.email)):
        found.append(FieldError("email", "not an e-mail address"))
    refused = None if order.notify_url is None else receivers.refusal(order.notify_url, settings)
    if refused is not None:
        found.append(FieldError("notify_url", refused))
    if order.countdown_s is not None and not 0 <= order.countdown_s <= settings.max_countdown_s:
        found.append(FieldError("countdown_s", f"must lie between 0 and {settings.max_countdown_s:g}"))
    for number, line in enumerate(order.lines):
        for name, reason in _line(line):
            found.append(FieldError(f"lines[{number}].{name}", reason))
    return found


def without(body: dict[str, Any], refused: list[FieldError]) -> OrderRequest:
    """The order with something harmless in place of the refused fields, so that `problems` can look at the others.

    Raises msgspec.ValidationError when not all that does not fit is among the refused.
    """
    bad = {error.field for error in refused}
    lines = [
        {**HARMLESS, **{name: value for name, value in line.items() if f"lines[{number}].{name}" not in bad}}
        if isinstance(line, dict)
        else HARMLESS
        for number, line in enumerate(body["lines"] if isinstance(body.get("lines"), list) and "lines" not in bad else [HARMLESS])
    ]
    return msgspec.convert({**{name: value for name, value in body.items() if name not in bad}, "lines": lines}, OrderRequest)


def quantities(lines: list[Line]) -> dict[str, int]:
    """How many of each SKU the lines need in all."""
    needed: dict[str, int] = {}
    for line in lines:
        needed[line.sku] = needed.get(line.sku, 0) + line.quantity
    return needed


def field_of(error: msgspec.ValidationError) -> FieldError:
    """Names the field in msgspec's message: "Expected `int`, got `str` - at `$.lines[0].quantity`"."""
    reason, _, path = str(error).partition(" - at `")
    field = path.rstrip("`").removeprefix("$").removeprefix(".")
    named = re.search(r"field `([^`]+)`", reason)
    if named is not None:
        field = f"{field}.{named.group(1)}" if field else named.group(1)
    return FieldError(field or "body", reason)


def _line(line: Line) -> list[tuple[str, str]]:
    """Field and reason."""
    found = []
    if reason := _text(line.sku, MAX_NAME):
        found.append(("sku", reason))
    elif not line.sku.strip():
        found.append(("sku", "must not be empty"))
    if reason := _text(line.description, MAX_TEXT):
        found.append(("description", reason))
    if not 1 <= line.quantity <= MAX_QUANTITY:
        found.append(("quantity", f"must lie between 1 and {MAX_QUANTITY}, got {line.quantity}"))
    price = line.unit_price
    if price is not None and not (price.is_finite() and 0 <= price < MAX_PRICE):
        found.append(("unit_price", f"must be zero or more and below {MAX_PRICE}, got {price}"))
    elif price is not None and len(price.as_tuple().digits) > MAX_DIGITS:
        found.append(("unit_price", f"at most {MAX_DIGITS} digits"))
    return found


def _text(value: str | None, limit: int) -> str | None:
    if value is None or (len(value) <= limit and (value.isprintable() or PRINTABLE.fullmatch(value))):
        return None  # most texts are all letters, which costs a tenth of looking for what is none
    return f"at most {limit} characters, got {len(value)}" if len(value) > limit else "must not hold control characters"


def encode_lines(lines: list[Line]) -> str:
    """Lines as an order's hash keeps them."""
    return msgspec.json.encode(lines).decode()


def decode_lines(text: str | bytes) -> list[Line]:
    """Lines from an order's hash. Raises msgspec.MsgspecError when they are damaged."""
    return msgspec.json.decode(text, type=list[Line])


def view(order_id: str, fields: dict[str, str], attempts: list[Any]) -> OrderView:
    """An order from its hash and its list of attempts."""
    return OrderView(
        id=order_id,
        reference=fields["reference"],
        status=fields["status"],
        step=fields["step"],
        created_at=float(fields["created_at"]),
        updated_at=float(fields["updated_at"]),
        attempts=[msgspec.json.decode(entry, type=OrderAttempt) for entry in attempts],
        tracking_number=fields.get("tracking_number"),
        reason=fields.get("reason"),
        due_at=float(fields["due_at"]) if fields["status"] == Status.SCHEDULED and "due_at" in fields else None,
    )
