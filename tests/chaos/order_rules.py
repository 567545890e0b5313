"""What may become of one order: its path and its time, its parcel, its cancellation and its end (I2 to I5, I7, I8)."""

import math
from collections.abc import Iterator, Sequence, Set

from history import Kind, Record
from invariants import unlawful
from ledger import CRASHES, Told, amiss, crashes
from observed import OrderEnd

from jobs.mall.orders import ENDED, Status

TIMERS = ("web", "scheduler", "leader", "follower")
"""The roles by whose clocks delayed orders start."""
CLOCK_S = 0.05
"""Redis' clock and the harness' are one, but for rounding."""
TOO_LATE = (ENDED - {Status.CANCELLED}) | {Status.DELIVERING}
"""An order that has come so far cannot be cancelled any more."""
Path = Sequence[tuple[str, float]]
Wrongs = Iterator[tuple[str, str]]
"""A kind of violation and a reason."""


def wrongs(
    told: Told,
    cancel: Told | None,
    order: OrderEnd,
    *,
    path: Path,
    parcels: Sequence[str],
    faults: Sequence[Record],
    letters: Set[str],
    scarce: Set[str],
) -> Wrongs:
    """All that is wrong. `letters` are the dead ones, `scarce` the SKUs of which more was ordered than there was."""
    yield from _path(told, order, path, faults)
    yield from _parcels(order, parcels)
    yield from _cancel(cancel, order, path)
    yield from _end(told, order, path, faults, letters, scarce)


def _path(told: Told, order: OrderEnd, path: Path, faults: Sequence[Record]) -> Wrongs:
    if order.status not in ENDED:
        yield "lost", f"has not ended, is {order.status}"
    if order.listed != (order.status,):
        yield "I4", f"is {order.status}, listed as {order.listed}"
    if reason := unlawful([Status(status) for status, _at in path], order.status):
        yield "I2", reason
    elif (told.delay_s > 0) is not (path[0][0] == Status.SCHEDULED):
        yield "I2", f"began as {path[0][0]}"
    elif told.delay_s and len(path) > 1 and path[1][0] != Status.CANCELLED:
        early_s = told.asked_at + told.delay_s - path[1][1]
        jumps = (fault for fault in faults if fault.op == "clock" and fault.role in TIMERS)
        if early_s > CLOCK_S and not amiss(jumps, told.asked_at, path[1][1]):
            yield "I2", f"was to start {told.delay_s:g} s later, and did {early_s:.2f} s too early"


def _parcels(order: OrderEnd, parcels: Sequence[str]) -> Wrongs:
    if len(parcels) > 1:
        yield "duplicated", f"{len(parcels)} parcels: {parcels}"
    elif order.status == Status.DELIVERED and parcels != [order.tracking_number]:
        yield "I3", f"delivered as {order.tracking_number!r}, the carrier has {parcels}"
    elif parcels and order.status not in (Status.DELIVERED, Status.DEAD):
        yield "I3", f"is {order.status}, and the carrier has {parcels}"


def _cancel(cancel: Told | None, order: OrderEnd, path: Path) -> Wrongs:
    if cancel is None:
        if order.status == Status.CANCELLED:
            yield "unexpected", "cancelled by nobody"
    elif cancel.ok and order.status != Status.CANCELLED:
        yield "lost", f"cancelling it was answered with {cancel.status}, it is {order.status}"
    elif cancel.kind is Kind.FAIL and (cancel.status != 409 or order.status == Status.CANCELLED):
        yield "lost", f"cancelling it was refused with {cancel.status}, it is {order.status}"
    elif cancel.kind is Kind.FAIL and not any(s in TOO_LATE and at <= cancel.answered_at + CLOCK_S for s, at in path):
        yield "unexpected", "cancelling it was refused, and it was not too late"


def _end(told: Told, order: OrderEnd, path: Path, faults: Sequence[Record], letters: Set[str], scarce: Set[str]) -> Wrongs:
    if order.status == Status.REJECTED and order.quantities.keys().isdisjoint(scarce):
        yield "unexpected", "rejected, though there was enough for all"
    if order.status == Status.DEAD:
        if order.dead_job not in letters:
            yield "I5", f"dead, and its dead letter {order.dead_job!r} is in no list"
        if crashes(faults, told.asked_at, path[-1][1] if path else math.inf) < CRASHES:
            yield "I8", f"dead, and fewer than {CRASHES} faults came after it was sent"
    elif order.reserved:
        yield "I7", f"has ended and holds {order.reserved}"
